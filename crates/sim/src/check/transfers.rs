//! A snapshot that arrives is one file (P11): each of its chunks is what was read as that chunk of
//! one and the same file somewhere, in their order, all of them and nothing else. Of two files of
//! one index the parts may differ, so that what is put together of both has keys twice, or lacks
//! some.

use std::collections::BTreeMap;

use flotilla_node::{ReadChunk, SnapshotChunk};
use flotilla_raft::Index;
use flotilla_shard::ShardId;

use crate::trace::{digest_of, mixed};

/// What was read of one file.
#[derive(Debug, Default)]
struct File {
    /// How many chunks it has.
    chunks: u32,
    /// What each of them is, in a word.
    read: BTreeMap<u32, u64>,
}

/// What was read and received of all snapshots.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    /// Files by what they stand for, and by their digests, which are each file's own.
    files: BTreeMap<(ShardId, Index), BTreeMap<u64, File>>,
    /// What each node has been given to store since it began a file of that shard.
    stored: BTreeMap<(usize, ShardId), Vec<u64>>,
}

/// A word that stands for a chunk.
fn word_of(chunk: &SnapshotChunk) -> u64 {
    let slots =
        chunk.slots.map_or(u64::MAX, |(first, last)| u64::from(first.0) << 16 | u64::from(last.0));
    mixed(digest_of(&chunk.content) ^ slots)
}

impl Transfers {
    /// A chunk of a file was read, perhaps to be sent.
    pub(crate) fn on_read(&mut self, shard: ShardId, index: Index, number: u32, read: &ReadChunk) {
        let files = self.files.entry((shard, index)).or_default();
        let file = files.entry(read.digest).or_default();
        file.chunks = read.chunks;
        if let Some(chunk) = &read.chunk {
            file.read.insert(number, word_of(chunk));
        }
    }

    /// A node begins a file, made there or received.
    pub(crate) fn on_begin(&mut self, at: usize, shard: ShardId) {
        self.stored.insert((at, shard), Vec::new());
    }

    /// A node stores a chunk of it.
    pub(crate) fn on_append(&mut self, at: usize, shard: ShardId, chunk: &SnapshotChunk) {
        self.stored.entry((at, shard)).or_default().push(word_of(chunk));
    }

    /// How many chunks of its file a node has been given to store.
    pub(crate) fn stored(&self, at: usize, shard: ShardId) -> usize {
        self.stored.get(&(at, shard)).map_or(0, Vec::len)
    }

    /// A file is complete that was received.
    pub(crate) fn check(&self, at: usize, shard: ShardId, index: Index) -> Result<(), String> {
        let stored = self.stored.get(&(at, shard)).map_or(&[][..], Vec::as_slice);
        let is_it = |file: &File| {
            let same = |(number, word): (u32, &u64)| file.read.get(&number) == Some(word);
            file.chunks as usize == stored.len() && (0..).zip(stored).all(same)
        };
        let mut files = self.files.get(&(shard, index)).into_iter().flat_map(BTreeMap::values);
        if files.any(is_it) {
            return Ok(());
        }
        Err(format!(
            "node {} has received a snapshot of shard {shard} at index {index}, {} chunks, that is \
             no file of anybody",
            at + 1,
            stored.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shard::Slot;

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn chunk(slot: u16, content: &str) -> SnapshotChunk {
        SnapshotChunk { slots: Some((Slot(slot), Slot(slot + 1))), content: content.into() }
    }

    /// Two files of one index that have the same keys in other parts.
    fn read() -> Transfers {
        let mut transfers = Transfers::default();
        for (digest, parts) in
            [(7, [(0, "a"), (2, "bc"), (4, "d")]), (8, [(0, "ab"), (2, "c"), (4, "d")])]
        {
            for (number, (slot, content)) in (0..).zip(parts) {
                let chunk = Some(chunk(slot, content));
                let read = ReadChunk { digest, chunks: 3, chunk };
                transfers.on_read(SHARD, Index(5), number, &read);
            }
        }
        transfers
    }

    fn receives(parts: &[(u16, &str)]) -> Result<(), String> {
        let mut transfers = read();
        transfers.on_append(0, SHARD, &chunk(9, "of one that was given up"));
        transfers.on_begin(0, SHARD);
        for &(slot, content) in parts {
            transfers.on_append(0, SHARD, &chunk(slot, content));
        }
        assert_eq!(transfers.stored(0, SHARD), parts.len());
        transfers.check(0, SHARD, Index(5))
    }

    #[test]
    fn either_file_is_one_and_nothing_else_is() {
        assert_eq!(receives(&[(0, "a"), (2, "bc"), (4, "d")]), Ok(()));
        assert_eq!(receives(&[(0, "ab"), (2, "c"), (4, "d")]), Ok(()));
        let wrong: [&[(u16, &str)]; 5] = [
            &[(0, "ab"), (2, "bc"), (4, "d")],
            &[(0, "a"), (2, "c"), (4, "d")],
            &[(0, "a"), (2, "bc")],
            &[(2, "bc"), (0, "a"), (4, "d")],
            &[(0, "a"), (2, "bc"), (4, "d"), (4, "d")],
        ];
        for parts in wrong {
            assert!(receives(parts).is_err(), "{parts:?}");
        }
    }
}
