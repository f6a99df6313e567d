//! Which chunks of the former snapshot a new one takes over.
//!
//! Those none of whose slots has changed, with two exceptions that bound disk and number of files:
//! a file of whose chunks less than two thirds would still be needed is given up, so that all
//! chunks of a shard on disk are at most half as large again as those of its newest snapshot; and
//! so are all but the [`BASES_MAX`] files of which most is needed.
//!
//! A slot larger than a chunk lies in several, and one of them may begin or end with another slot:
//! what is tied together so is kept together.

use flotilla_shard::{SLOTS, Slot};

use super::StoredSnapshot;
use super::index::Chunk;
use crate::snapshot::Base;

/// The most files that a snapshot names besides its own.
const BASES_MAX: usize = 8;

/// Chunks taken over, in the order of their slots, with the files that they lie in.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) bases: Vec<Base>,
    pub(super) chunks: Vec<Chunk>,
}

/// A file that has chunks of the former snapshot.
struct Source {
    base: Base,
    /// Bytes of it that could be kept.
    needed: u64,
    /// Its number among the new snapshot's bases, if it is one.
    number: Option<u16>,
}

impl Kept {
    /// What to keep of `former` if these slots (ranges, ascending, both ends included) have not
    /// changed since.
    pub(super) fn choose(former: &StoredSnapshot, unchanged: &[(Slot, Slot)]) -> Self {
        let mut sources = sources(former);
        let runs: Vec<&[Chunk]> = unchanged_runs(&former.chunks, unchanged);
        for chunk in runs.iter().copied().flatten() {
            sources[usize::from(chunk.file)].needed += chunk.bytes();
        }
        let mut by_need: Vec<&mut Source> = sources.iter_mut().filter(|s| s.needed > 0).collect();
        by_need.sort_by_key(|source| std::cmp::Reverse(source.needed));
        by_need.retain(|source| source.needed * 3 >= source.base.chunk_bytes.saturating_mul(2));
        let mut bases = Vec::new();
        for source in by_need.into_iter().take(BASES_MAX) {
            bases.push(source.base);
            source.number = Some(bases.len() as u16);
        }
        let number = |chunk: &Chunk| sources[usize::from(chunk.file)].number;
        // A run whose chunks lie in several files is kept only if all of these are.
        let whole = runs.into_iter().filter(|run| run.iter().all(|chunk| number(chunk).is_some()));
        let chunks: Vec<Chunk> = whole
            .flatten()
            .map(|chunk| Chunk { file: number(chunk).unwrap_or(0), ..*chunk })
            .collect();
        Self { bases, chunks }
    }

    /// The slots of the chunks kept, as ranges.
    pub(super) fn slots(&self) -> Vec<(Slot, Slot)> {
        self.chunks.iter().filter_map(|chunk| chunk.slots).collect()
    }
}

/// The snapshot's own file, then its bases.
fn sources(former: &StoredSnapshot) -> Vec<Source> {
    let file = &former.file;
    let own_chunks = former.chunks.iter().filter(|chunk| chunk.file == 0);
    let chunk_bytes = own_chunks.map(Chunk::bytes).sum();
    let own = Base { index: file.meta.index, id: former.id, bytes: file.bytes, chunk_bytes };
    let bases = std::iter::once(own).chain(file.bases.iter().copied());
    bases.map(|base| Source { base, needed: 0, number: None }).collect()
}

/// The runs of chunks that share slots, those without a changed slot.
fn unchanged_runs<'a>(chunks: &'a [Chunk], unchanged: &[(Slot, Slot)]) -> Vec<&'a [Chunk]> {
    let with_keys = chunks.chunk_by(|a, b| a.slots.is_some() == b.slots.is_some());
    let with_keys = with_keys.filter(|chunks| chunks[0].slots.is_some());
    let tied = |a: &Chunk, b: &Chunk| ends(a).1 == ends(b).0;
    let runs = with_keys.flat_map(|chunks| chunks.chunk_by(tied));
    let is_unchanged = |run: &&[Chunk]| {
        let (first, last) = (ends(&run[0]).0, ends(&run[run.len() - 1]).1);
        let at = unchanged.partition_point(|range| range.1 < first);
        unchanged.get(at).is_some_and(|range| range.0 <= first && last <= range.1)
    };
    runs.filter(is_unchanged).collect()
}

/// The first and the last slot of a chunk with keys.
fn ends(chunk: &Chunk) -> (Slot, Slot) {
    chunk.slots.unwrap_or((Slot(SLOTS), Slot(0)))
}

#[cfg(test)]
mod tests {
    use flotilla_raft::{Configuration, Index, SnapshotMeta, Term};
    use flotilla_shard::ShardId;

    use super::*;
    use crate::snapshot::SnapshotFile;

    /// A snapshot whose chunks of 100 bytes lie in these files and have keys of these slots; the
    /// bases have so many bytes of chunks.
    fn former(chunks: &[(u16, u16, u16)], bases: &[u64]) -> StoredSnapshot {
        let chunk = |&(file, first, last): &(u16, u16, u16)| Chunk {
            file,
            slots: Some((Slot(first), Slot(last))),
            number: 0,
            offset: 0,
            lengths: (88, 88),
            crc: 0,
        };
        let configuration = Configuration::default();
        let meta = SnapshotMeta { index: Index(9), term: Term(1), configuration };
        let base = |&chunk_bytes: &u64| Base { index: Index(3), id: 4, bytes: 9_999, chunk_bytes };
        let file = SnapshotFile {
            shard: ShardId(1),
            meta,
            name: String::new(),
            bytes: 999,
            digest: 0,
            bases: bases.iter().map(base).collect(),
        };
        StoredSnapshot { file, id: 7, chunks: chunks.iter().map(chunk).collect() }
    }

    fn kept(former: &StoredSnapshot, unchanged: &[(u16, u16)]) -> Vec<u16> {
        let ranges: Vec<_> = unchanged.iter().map(|&(a, b)| (Slot(a), Slot(b))).collect();
        let kept = Kept::choose(former, &ranges);
        kept.slots().iter().map(|range| range.0.0).collect()
    }

    #[test]
    fn chunks_without_a_changed_slot_are_kept() {
        let former = former(&[(0, 0, 3), (0, 4, 4), (0, 5, 9)], &[]);
        assert_eq!(kept(&former, &[(0, 9)]), [0, 4, 5]);
        assert_eq!(kept(&former, &[(0, 3), (5, 16383)]), [0, 5]);
        assert_eq!(kept(&former, &[(0, 3)]), [0; 0], "a third of the file is not worth it");
        assert_eq!(kept(&former, &[]), [0; 0]);
    }

    #[test]
    fn chunks_that_share_a_slot_are_kept_together() {
        let mut chunks = vec![(0, 0, 3), (0, 3, 3), (0, 3, 4), (0, 5, 6)];
        chunks.extend((7..=12).map(|slot| (0, slot, slot)));
        let former = former(&chunks, &[]);
        assert_eq!(kept(&former, &[(0, 3), (5, 12)]), [5, 7, 8, 9, 10, 11, 12]);
        assert_eq!(kept(&former, &[(0, 9)]), [0, 3, 3, 5, 7, 8, 9]);
    }

    #[test]
    fn a_file_that_is_mostly_unneeded_is_given_up() {
        let former = former(&[(0, 0, 1), (1, 2, 3), (0, 4, 5), (1, 6, 7)], &[301]);
        assert_eq!(kept(&former, &[(0, 7)]), [0, 4], "200 of 301 bytes are less than two thirds");
        let kept = Kept::choose(&former, &[(Slot(0), Slot(7))]);
        assert_eq!(kept.bases, [Base { index: Index(9), id: 7, bytes: 999, chunk_bytes: 200 }]);
    }

    #[test]
    fn few_files_are_named() {
        let chunks: Vec<_> = (0..12).map(|n| (n, n * 2, n * 2 + 1)).collect();
        let former = former(&chunks, &[100; 11]);
        assert_eq!(kept(&former, &[(0, 100)]).len(), BASES_MAX);
    }
}
