//! What of each shard's log is live, and in which segment it is.
//!
//! Kept per shard: term and vote, the snapshot the log begins at, the terms of its entries as
//! runs, and *extents*: which frame holds which indexes. No payload is kept in memory. An entry
//! whose payload is damaged is a *hole*: its extent is where its identity stands.
//!
//! Invariants: extents are in the order of their indexes, without gap or overlap, from
//! `snapshot.index + 1` to `last`; so are the runs of terms. The holes are the entries of the
//! extents that are not whole. [`Live`] counts the extents of each segment.

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::{Entry, EntryKind, HardState, Index, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::snapshot::SnapshotFile;
use crate::table::{Identities, Identity, ShardCheckpoint};

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// Live entries of one shard in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Index,
    pub(crate) last: Index,
    pub(crate) place: Place,
    /// Their size in the log, in bytes; a share of it once part of them is dead.
    pub(crate) bytes: u64,
    /// Their payloads are there.
    pub(crate) whole: bool,
}

impl Extent {
    fn count(&self) -> u64 {
        self.last.0 + 1 - self.first.0
    }
}

/// How much is live in each segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    extents: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Live {
    fn add(&mut self, extent: &Extent) {
        *self.extents.entry(extent.place.segment).or_default() += 1;
        self.bytes += extent.bytes;
    }

    fn remove(&mut self, extent: &Extent) {
        let segment = extent.place.segment;
        let count = self.extents.get_mut(&segment).expect("an extent was counted when it came");
        *count -= 1;
        if *count == 0 {
            self.extents.remove(&segment);
        }
        self.bytes -= extent.bytes;
    }

    /// The oldest segment that has a live entry.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.extents.first_key_value().map(|(&segment, _)| segment)
    }

    /// Size of all live entries in the log, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// One shard's part of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardLog {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) file: Option<SnapshotFile>,
    /// This replica forgot something that it had promised (P4): nothing is written to it.
    pub(crate) lost: bool,
    last: Index,
    terms: VecDeque<(Index, Term)>,
    extents: VecDeque<Extent>,
    holes: BTreeMap<Index, EntryKind>,
    bytes: u64,
}

impl ShardLog {
    /// A log that begins at a snapshot and has no entries yet.
    pub(crate) fn begin(
        hard_state: HardState,
        snapshot: SnapshotMeta,
        file: Option<SnapshotFile>,
    ) -> Self {
        let last = snapshot.index;
        Self { hard_state, snapshot, file, last, ..Self::default() }
    }

    /// Takes a new term and vote.
    pub(crate) fn promise(&mut self, shard: ShardId, new: HardState) {
        let old = self.hard_state;
        assert!(new.term >= old.term, "shard {}: a term never goes back", shard.0);
        let changed = new.term == old.term && new.voted_for != old.voted_for;
        assert!(
            !changed || old.voted_for.is_none(),
            "shard {}: a vote is given once a term",
            shard.0
        );
        self.hard_state = new;
    }

    /// Replaces everything from the first of `entries` on; gives back the term before it.
    pub(crate) fn replace(
        &mut self,
        shard: ShardId,
        entries: &[Entry],
        place: Place,
        live: &mut Live,
    ) -> Term {
        let first = entries[0].index;
        let fits = first > self.snapshot.index && first <= self.last.next();
        assert!(fits, "shard {}: entries join the log, without a gap", shard.0);
        self.truncate(first, live);
        let previous = self.term_at(first.previous()).expect("the entry before is in the log");
        let mut bytes = 0;
        for (index, entry) in (first.0..).zip(entries) {
            assert_eq!(entry.index.0, index, "shard {}: entries are contiguous", shard.0);
            let last_term = self.terms.back().map_or(self.snapshot.term, |run| run.1);
            assert!(entry.term >= last_term, "shard {}: terms rise along a log", shard.0);
            if self.terms.back().is_none_or(|run| run.1 != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
            bytes += (crate::format::ENTRY_HEAD + entry.payload.len()) as u64;
        }
        self.last = entries[entries.len() - 1].index;
        self.push(Extent { first, last: self.last, place, bytes, whole: true }, live);
        previous
    }

    /// The log now begins at `file`'s snapshot; gives back whether later entries stay.
    pub(crate) fn reset(&mut self, shard: ShardId, file: &SnapshotFile, live: &mut Live) -> bool {
        let (index, term) = (file.meta.index, file.meta.term);
        assert!(
            index > self.snapshot.index,
            "shard {}: an older snapshot never replaces a newer one",
            shard.0
        );
        let keeps = self.term_at(index) == Some(term);
        if keeps {
            self.drop_through(index, live);
        } else {
            self.truncate(self.snapshot.index.next(), live);
            self.last = index;
        }
        self.snapshot = file.meta.clone();
        self.file = Some(file.clone());
        keeps
    }

    /// Everything is dead: the shard leaves.
    pub(crate) fn clear(&mut self, live: &mut Live) {
        self.truncate(self.snapshot.index.next(), live);
    }

    /// The extents in a frame that hold some of the indexes `first..=last`.
    pub(crate) fn extents_at(
        &self,
        place: Place,
        first: Index,
        last: Index,
    ) -> impl Iterator<Item = &Extent> {
        let start = self.extents.partition_point(|extent| extent.last < first);
        let within = self.extents.range(start..).take_while(move |extent| extent.first <= last);
        within.filter(move |extent| extent.place == place)
    }

    /// The extents that lie in a segment.
    pub(crate) fn extents_in(&self, segment: u64) -> impl Iterator<Item = &Extent> {
        self.extents.iter().filter(move |extent| extent.place.segment == segment)
    }

    /// The entries `first..=last` now stand in frame `to`, with their payloads if `whole`.
    pub(crate) fn settle(&mut self, run: Extent, live: &mut Live) {
        self.split_at(run.first, live);
        self.split_at(run.last.next(), live);
        let start = self.extents.partition_point(|extent| extent.first < run.first);
        let end = self.extents.partition_point(|extent| extent.first <= run.last);
        assert!(start < end, "what settles is in the log");
        for extent in self.extents.drain(start..end) {
            live.remove(&extent);
            self.bytes -= extent.bytes;
        }
        live.add(&run);
        self.bytes += run.bytes;
        self.extents.insert(start, run);
        if run.whole {
            let mut later = self.holes.split_off(&run.first);
            self.holes.append(&mut later.split_off(&run.last.next()));
        }
    }

    /// The frame at `place` can't be read: its entries become holes. `kind` tells what they are.
    /// Gives back which they are.
    pub(crate) fn puncture(
        &mut self,
        place: Place,
        kind: impl Fn(Index) -> EntryKind,
    ) -> Vec<Index> {
        let mut damaged = Vec::new();
        for extent in self.extents.iter_mut().filter(|e| e.place == place && e.whole) {
            extent.whole = false;
            damaged.extend((extent.first.0..=extent.last.0).map(Index));
        }
        self.holes.extend(damaged.iter().map(|&index| (index, kind(index))));
        damaged
    }

    /// The holes of `first..=last` in runs without a gap, each at most `limit` long.
    pub(crate) fn holes_within(&self, first: Index, last: Index, limit: usize) -> Vec<Identities> {
        let mut runs: Vec<Vec<Identity>> = Vec::new();
        for (&index, &kind) in self.holes.range(first..=last) {
            let term = self.term_at(index).expect("a hole is in the log");
            let joins = |run: &&mut Vec<Identity>| {
                run.len() < limit && run.last().is_some_and(|end| end.0.next() == index)
            };
            match runs.last_mut().filter(joins) {
                Some(run) => run.push((index, term, kind)),
                None => runs.push(vec![(index, term, kind)]),
            }
        }
        runs.into_iter().map(Identities::of).collect()
    }

    /// Whether the entry at `index` is a hole.
    pub(crate) fn is_hole(&self, index: Index) -> bool {
        self.holes.contains_key(&index)
    }

    /// How many holes there are.
    pub(crate) fn hole_count(&self) -> usize {
        self.holes.len()
    }

    /// The first and the last hole.
    pub(crate) fn hole_range(&self) -> Option<(Index, Index)> {
        let (first, last) = (self.holes.first_key_value()?, self.holes.last_key_value()?);
        Some((*first.0, *last.0))
    }

    /// Adds an extent at the end, as recovery found it, with its entries.
    pub(crate) fn restore(&mut self, extent: Extent, entries: &[Entry], live: &mut Live) {
        assert_eq!(extent.first, self.last.next(), "recovered extents are contiguous");
        for &Entry { index, term, kind, .. } in entries {
            if self.terms.back().is_none_or(|run| run.1 != term) {
                self.terms.push_back((index, term));
            }
            if !extent.whole {
                self.holes.insert(index, kind);
            }
        }
        self.last = extent.last;
        self.push(extent, live);
    }

    /// The term of the entry at `index`, or of the snapshot.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        if index < self.snapshot.index || index > self.last {
            return None;
        }
        let after = self.terms.partition_point(|run| run.0 <= index);
        after.checked_sub(1).map(|run| self.terms[run].1)
    }

    /// Index and term of the last entry, or of the snapshot.
    pub(crate) fn last(&self) -> (Index, Term) {
        (self.last, self.terms.back().map_or(self.snapshot.term, |run| run.1))
    }

    /// Size of the live entries in the log, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a checkpoint says of it.
    pub(crate) fn checkpoint(&self, shard: ShardId) -> ShardCheckpoint {
        ShardCheckpoint {
            shard,
            hard_state: self.hard_state,
            last: self.last(),
            snapshot: self.snapshot.clone(),
            file: self.file.clone(),
            lost: self.lost,
        }
    }

    /// Makes an extent begin at `index`, if one goes across it.
    fn split_at(&mut self, index: Index, live: &mut Live) {
        let at = self.extents.partition_point(|extent| extent.last < index);
        let Some(extent) = self.extents.get_mut(at).filter(|extent| extent.first < index) else {
            return;
        };
        live.remove(extent);
        let (mut before, mut behind) = (*extent, *extent);
        shrink(&mut before, |extent| extent.last = index.previous());
        behind.first = index;
        behind.bytes = extent.bytes - before.bytes;
        *extent = before;
        live.add(&before);
        live.add(&behind);
        self.extents.insert(at + 1, behind);
    }

    fn push(&mut self, extent: Extent, live: &mut Live) {
        live.add(&extent);
        self.bytes += extent.bytes;
        self.extents.push_back(extent);
    }

    /// Drops everything at or above `first`.
    fn truncate(&mut self, first: Index, live: &mut Live) {
        while let Some(mut extent) = self.extents.pop_back_if(|extent| extent.last >= first) {
            live.remove(&extent);
            self.bytes -= extent.bytes;
            if extent.first < first {
                shrink(&mut extent, |extent| extent.last = first.previous());
                self.push(extent, live);
            }
        }
        while self.terms.pop_back_if(|run| run.0 >= first).is_some() {}
        self.holes.split_off(&first);
        self.last = self.last.min(first.previous());
    }

    /// Drops everything up to `index`, which is in the log.
    fn drop_through(&mut self, index: Index, live: &mut Live) {
        while let Some(mut extent) = self.extents.pop_front_if(|extent| extent.first <= index) {
            live.remove(&extent);
            self.bytes -= extent.bytes;
            if extent.last > index {
                shrink(&mut extent, |extent| extent.first = index.next());
                live.add(&extent);
                self.bytes += extent.bytes;
                self.extents.push_front(extent);
            }
        }
        self.holes = self.holes.split_off(&index.next());
        while self.terms.get(1).is_some_and(|run| run.0 <= index.next()) {
            self.terms.pop_front();
        }
        if self.last <= index {
            self.terms.clear();
        } else if let Some(run) = self.terms.front_mut() {
            run.0 = run.0.max(index.next());
        }
    }
}

/// Cuts part of an extent off; what is left keeps its share of the bytes.
fn shrink(extent: &mut Extent, cut: impl FnOnce(&mut Extent)) {
    let (bytes, count) = (extent.bytes, extent.count());
    cut(extent);
    extent.bytes = bytes * extent.count() / count;
}

#[cfg(test)]
mod tests {
    use flotilla_raft::{Configuration, EntryKind, Payload};

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
        let entry = |(index, &term)| Entry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Normal,
            payload: Payload::new(vec![0; 7]),
        };
        (first..).zip(terms).map(entry).collect()
    }

    fn place(segment: u64) -> Place {
        Place { segment, offset: 0 }
    }

    fn snapshot(index: u64, term: u64) -> SnapshotFile {
        let configuration = Configuration::default();
        let (meta, bases) =
            (SnapshotMeta { index: Index(index), term: Term(term), configuration }, Vec::new());
        SnapshotFile { shard: SHARD, meta, name: String::new(), bytes: 0, digest: 0, bases }
    }

    #[test]
    fn replacing_frees_what_it_covers_and_keeps_the_terms() {
        let (mut log, mut live) = (ShardLog::default(), Live::default());
        assert_eq!(log.replace(SHARD, &entries(1, &[1, 1, 2]), place(1), &mut live), Term(0));
        assert_eq!(log.replace(SHARD, &entries(4, &[2, 3]), place(2), &mut live), Term(2));
        assert_eq!(live.oldest(), Some(1));
        assert_eq!(log.replace(SHARD, &entries(3, &[4]), place(3), &mut live), Term(1));
        assert_eq!(log.last(), (Index(3), Term(4)));
        assert_eq!(log.extents_in(2).count(), 0);
        assert_eq!(
            [1, 2, 3, 4].map(|i| log.term_at(Index(i)).map(|t| t.0)),
            [Some(1), Some(1), Some(4), None]
        );
        assert_eq!((live.bytes(), log.bytes()), (33, 33));
    }

    #[test]
    fn a_reset_keeps_later_entries_only_if_the_log_has_its_last() {
        for (term, kept) in [(2, true), (3, false)] {
            let (mut log, mut live) = (ShardLog::default(), Live::default());
            log.replace(SHARD, &entries(1, &[1, 2, 2, 2]), place(1), &mut live);
            log.replace(SHARD, &entries(5, &[2]), place(2), &mut live);
            assert_eq!(log.reset(SHARD, &snapshot(3, term), &mut live), kept);
            assert_eq!(log.last(), if kept { (Index(5), Term(2)) } else { (Index(3), Term(3)) });
            assert_eq!(live.bytes(), if kept { 22 } else { 0 });
            assert_eq!(log.term_at(Index(2)), None);
            assert_eq!(log.term_at(Index(3)), Some(Term(term)));
        }
    }

    #[test]
    #[should_panic(expected = "without a gap")]
    fn a_gap_is_a_broken_invariant() {
        let (mut log, mut live) = (ShardLog::default(), Live::default());
        log.replace(SHARD, &entries(2, &[1]), place(1), &mut live);
    }
}
