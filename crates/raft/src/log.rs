//! The log: a window of entries in memory, and the terms of all that the disk has.
//!
//! ```text
//! start = min(base, snapshot)      base ≤ applied      base ≤ durable      snapshot ≤ commit_index
//! ```
//!
//! The snapshot is where a recovered log would begin, `base` is the place before the first entry
//! in memory. What was applied and is durable may leave memory, so the base may be above the
//! snapshot; a leader keeps some entries below the snapshot for followers that need them, so it
//! may be below. Terms are known from `start` on, as runs, since few terms make a long log; an
//! unknown term is `None` and equals no term. The byte sizes are kept as running sums, so all
//! counts of bytes are differences and nothing has to be counted down.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::Range;

use crate::digest::Ages;
use crate::writes::Writes;
use crate::{Entry, HardState, Index, SnapshotMeta, Term, Time, Write, WriteSeq};

/// What an entry costs beside its payload, in all counts of bytes.
const ENTRY_BYTES: u64 = 32;

/// What an entry with this payload counts in all limits, bytes.
pub(crate) fn entry_bytes(payload_bytes: usize) -> u64 {
    payload_bytes as u64 + ENTRY_BYTES
}

/// A place in a log: two logs with the same entry here are the same up to here [Raft §5.3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) index: Index,
    pub(crate) term: Term,
}

/// The log of one replica.
#[derive(Clone)]
pub(crate) struct Log {
    start: Position,
    snapshot: Position,
    base: Index,
    /// Where each term above `start` begins, ascending; the first may begin below.
    terms: VecDeque<Position>,
    entries: VecDeque<Entry>,
    /// `ends[i]`: the bytes ever put in front of `entries[i + 1]`; `base_end` those at the base.
    ends: VecDeque<u64>,
    base_end: u64,
    /// Entries whose payload is damaged. None of them was handed out.
    holes: BTreeSet<Index>,
    writes: Writes,
}

impl Log {
    /// A recovered log. Panics unless the entries follow the snapshot without gaps.
    pub(crate) fn new(hard_state: HardState, snapshot: Position, entries: Vec<Entry>) -> Self {
        let writes = Writes::new(hard_state, Index(snapshot.index.0 + entries.len() as u64));
        // A leader's first entry comes at once: it must not have everything moved.
        let room = entries.len() / 8 + 64;
        let mut entries = VecDeque::from(entries);
        entries.reserve(room);
        let mut log = Self {
            start: snapshot,
            snapshot,
            base: snapshot.index,
            terms: VecDeque::new(),
            entries: VecDeque::new(),
            ends: VecDeque::with_capacity(entries.len() + room),
            base_end: 0,
            holes: BTreeSet::new(),
            writes,
        };
        let mut last = snapshot;
        for entry in &entries {
            log.note(last, entry);
            last = Position { index: entry.index, term: entry.term };
        }
        log.entries = entries;
        log
    }

    /// Says which entries are damaged. Panics if one is none of this log.
    pub(crate) fn set_holes(&mut self, holes: BTreeSet<Index>) {
        let known = |&index: &Index| index > self.base && index <= self.last_index();
        assert!(holes.iter().all(known), "what is damaged is an entry of the log");
        self.holes = holes;
    }

    /// Puts a whole entry in place of a damaged one of the same index and term. Whether there was
    /// one.
    pub(crate) fn fill(&mut self, entry: &Entry) -> bool {
        let fits = self.term_at(entry.index) == Some(entry.term);
        if !fits || !self.holes.remove(&entry.index) {
            return false;
        }
        let at = self.offset(entry.index);
        let (before, after) = (self.entries[at].payload.len() as u64, entry.payload.len() as u64);
        self.entries[at] = entry.clone();
        for end in self.ends.range_mut(at..) {
            *end = *end + after - before;
        }
        true
    }

    /// Appends an entry behind the last one; the next write will hold it.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.writes.appended(entry.index);
        self.push(entry);
    }

    fn push(&mut self, entry: Entry) {
        self.note(Position { index: self.last_index(), term: self.last_term() }, &entry);
        self.entries.push_back(entry);
    }

    /// An entry comes behind the last one.
    fn note(&mut self, last: Position, entry: &Entry) {
        assert_eq!(entry.index, last.index.next(), "a log has no gaps");
        assert!(entry.term >= last.term, "terms never descend along a log");
        if entry.term > last.term {
            self.terms.push_back(Position { index: entry.index, term: entry.term });
        }
        let before = self.ends.back().copied().unwrap_or(self.base_end);
        self.ends.push_back(before + entry_bytes(entry.payload.len()));
    }

    /// Removes the entries from `index` on.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        assert!(index > self.snapshot.index, "a log is never truncated into its snapshot");
        let kept = self.offset(index);
        self.entries.truncate(kept);
        self.ends.truncate(kept);
        while self.terms.back().is_some_and(|run| run.index >= index) {
            self.terms.pop_back();
        }
        self.holes.split_off(&index);
        self.writes.truncated_to(index.previous());
    }

    /// The host's snapshot `meta` covers the log up to its index; the next write says so. Entries
    /// stay in memory until [`Log::release`].
    pub(crate) fn compact(&mut self, meta: SnapshotMeta) {
        assert_eq!(
            self.term_at(meta.index),
            Some(meta.term),
            "a snapshot of the host's own is of an entry of this log"
        );
        self.snapshot = Position { index: meta.index, term: meta.term };
        self.holes = self.holes.split_off(&meta.index.next());
        self.writes.snapshotted(meta);
        self.advance_start();
    }

    /// Forgets the terms of what is neither in memory nor on disk.
    fn advance_start(&mut self) {
        let index = self.base.min(self.snapshot.index);
        let term = self.term_at(index).expect("the start only goes up");
        self.start = Position { index, term };
        while self.terms.get(1).is_some_and(|run| run.index <= index.next()) {
            self.terms.pop_front();
        }
        if self.last_index() == index {
            self.terms.clear();
        }
    }

    /// Drops entries under the snapshot, but none above `floor` as long as what stays below the
    /// snapshot is within `max_bytes`.
    pub(crate) fn release(&mut self, floor: Index, max_bytes: usize) {
        let covered = self.bytes_through(self.snapshot.index);
        while let (Some(entry), Some(&end)) = (self.entries.front(), self.ends.front()) {
            let needed = entry.index > floor && covered - self.base_end <= max_bytes as u64;
            if entry.index > self.snapshot.index || needed {
                break;
            }
            (self.base, self.base_end) = (entry.index, end);
            self.entries.pop_front();
            self.ends.pop_front();
        }
        self.advance_start();
    }

    /// Drops the oldest entries up to `limit`, which the disk has, as long as those up to there
    /// are more than `max_bytes`.
    pub(crate) fn evict(&mut self, limit: Index, max_bytes: usize) {
        let limit_end = self.bytes_through(limit);
        if limit_end.saturating_sub(self.base_end) <= max_bytes as u64 {
            return;
        }
        while let (Some(entry), Some(&end)) = (self.entries.front(), self.ends.front()) {
            if entry.index > limit || limit_end - self.base_end <= max_bytes as u64 {
                break;
            }
            (self.base, self.base_end) = (entry.index, end);
            self.entries.pop_front();
            self.ends.pop_front();
        }
        self.advance_start();
    }

    /// Replaces the whole log by a leader's snapshot. Until the write that names it is durable,
    /// the disk is known to agree with it up to `agreed` only.
    pub(crate) fn restore(&mut self, meta: SnapshotMeta, agreed: Index) {
        self.base_end = self.bytes_through(self.last_index());
        self.entries.clear();
        self.ends.clear();
        self.terms.clear();
        self.holes.clear();
        self.start = Position { index: meta.index, term: meta.term };
        self.snapshot = self.start;
        self.base = meta.index;
        self.writes.truncated_to(agreed);
        self.writes.snapshotted(meta);
    }

    /// The write that makes this step's changes durable, if there are any.
    pub(crate) fn ask_write(&mut self, hard_state: HardState, now: Time) -> Option<Write> {
        let last = self.last_index();
        let next = self.writes.ask(hard_state, last, now)?;
        let entries = next.entries_from.map_or_else(Vec::new, |from| self.range(from, last));
        Some(Write { seq: next.seq, hard_state, snapshot: next.snapshot, entries })
    }

    /// The write `seq` is durable.
    pub(crate) fn written(&mut self, seq: WriteSeq, now: Time) {
        self.writes.written(seq, now);
    }

    /// What is durable.
    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    /// The log is durable up to here.
    pub(crate) fn durable_index(&self) -> Index {
        self.writes.durable_index()
    }

    /// The entries whose payload is damaged.
    pub(crate) fn holes(&self) -> &BTreeSet<Index> {
        &self.holes
    }

    /// The entry at `index`, damaged or not, if it is in memory.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entry at `index`, if it is in memory and whole.
    pub(crate) fn whole_entry(&self, index: Index) -> Option<&Entry> {
        self.entry(index).filter(|_| !self.holes.contains(&index))
    }

    /// The place before the first entry in memory.
    pub(crate) fn base(&self) -> Index {
        self.base
    }

    /// The first place whose term is known.
    pub(crate) fn start(&self) -> Position {
        self.start
    }

    /// Where a recovered log would begin.
    pub(crate) fn snapshot(&self) -> Position {
        self.snapshot
    }

    /// The last index, of the base if there is no entry.
    pub(crate) fn last_index(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    /// The term of the last entry.
    pub(crate) fn last_term(&self) -> Term {
        self.terms.back().map_or(self.start.term, |run| run.term)
    }

    /// The term of the entry at `index`; `None` below the start and above the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index > self.base {
            let offset = usize::try_from(index.0 - self.base.0 - 1).ok()?;
            return self.entries.get(offset).map(|entry| entry.term);
        }
        if index <= self.start.index {
            return (index == self.start.index).then_some(self.start.term);
        }
        let runs = self.terms.partition_point(|run| run.index <= index);
        Some(runs.checked_sub(1).map_or(self.start.term, |run| self.terms[run].term))
    }

    /// Whether a log that ends at `other` is at least as up to date as this one [Raft §5.4.1].
    pub(crate) fn is_not_ahead_of(&self, other: Position) -> bool {
        (other.term, other.index) >= (self.last_term(), self.last_index())
    }

    /// The last index up to `limit` whose term is at most `term`; `None` if that is below the
    /// start.
    pub(crate) fn last_at_most(&self, limit: Index, term: Term) -> Option<Position> {
        if limit < self.start.index || self.start.term > term {
            return None;
        }
        // Terms ascend from run to run, so those small enough are a prefix.
        let fitting = self.terms.partition_point(|run| run.term <= term);
        let end = self.terms.get(fitting).map_or(self.last_index(), |run| run.index.previous());
        let index = limit.min(end).max(self.start.index);
        self.term_at(index).map(|term| Position { index, term })
    }

    /// Entries from `from` to the end, or to the next hole, that fit into `max_bytes`; at least
    /// one if there is any.
    pub(crate) fn batch(&self, from: Index, max_bytes: usize) -> Vec<Entry> {
        let hole = self.holes.range(from..).next();
        if from > self.last_index() {
            return Vec::new();
        }
        let first = self.offset(from);
        let limit = self.bytes_through(from.previous()) + max_bytes as u64;
        let fitting = if self.ends[self.ends.len() - 1] <= limit {
            self.ends.len()
        } else {
            self.ends.partition_point(|&end| end <= limit).max(first + 1)
        };
        let fitting = hole.map_or(fitting, |&hole| fitting.min(self.offset(hole)));
        self.copy(first..fitting)
    }

    /// The entries `from..=last`.
    pub(crate) fn range(&self, from: Index, last: Index) -> Vec<Entry> {
        self.copy(self.offset(from)..self.offset(last.next()))
    }

    /// Copies the entries at these places. Slices know their length, which an iterator over a
    /// deque does not tell a vector.
    fn copy(&self, places: Range<usize>) -> Vec<Entry> {
        let mut copied = Vec::with_capacity(places.len());
        let (front, back) = self.entries.as_slices();
        let Range { start, end } = places;
        let split = front.len();
        copied.extend_from_slice(&front[start.min(split)..end.min(split)]);
        copied.extend_from_slice(&back[start.max(split) - split..end.max(split) - split]);
        copied
    }

    /// The entries in memory.
    pub(crate) fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// The bytes of the entries in memory above `index`.
    pub(crate) fn bytes_above(&self, index: Index) -> u64 {
        self.bytes_through(self.last_index()) - self.bytes_through(index)
    }

    /// The bytes of the entries in memory above `from`, up to `through`.
    pub(crate) fn bytes_between(&self, from: Index, through: Index) -> u64 {
        self.bytes_through(through) - self.bytes_through(from)
    }

    /// The bytes of all entries that were ever appended and not truncated.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.bytes_through(self.last_index())
    }

    fn bytes_through(&self, index: Index) -> u64 {
        match index.0.saturating_sub(self.base.0) {
            0 => self.base_end,
            count => self.ends[count as usize - 1],
        }
    }

    fn offset(&self, index: Index) -> usize {
        assert!(index > self.base, "an entry asked for is in memory");
        (index.0 - self.base.0 - 1) as usize
    }

    /// Feeds what decides what becomes of this log. Terms and sums follow from the rest.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { start, snapshot, base, terms, entries, ends: _, base_end: _, holes, writes } =
            self;
        (start, snapshot, base, terms, entries, holes).hash(hasher);
        writes.digest(ages, hasher);
    }

    /// Panics unless the invariants of this module hold.
    pub(crate) fn check(&self) {
        let term = self.term_at(self.base).expect("the base is at or above the start");
        let mut before = Position { index: self.base, term };
        let mut end = self.base_end;
        for (entry, &stored) in self.entries.iter().zip(&self.ends) {
            assert_eq!(entry.index, before.index.next(), "a log has no gaps");
            assert!(entry.term >= before.term, "terms never descend along a log");
            let run = self.terms.partition_point(|run| run.index <= entry.index);
            let known = run.checked_sub(1).map_or(self.start.term, |run| self.terms[run].term);
            assert_eq!(known, entry.term, "the runs of terms are those of the entries");
            end += entry_bytes(entry.payload.len());
            assert_eq!(end, stored, "the running sums are those of the entries");
            before = Position { index: entry.index, term: entry.term };
        }
        let runs = self.terms.iter().zip(self.terms.iter().skip(1));
        let mut changes = runs.map(|(one, next)| one.index < next.index && one.term < next.term);
        assert!(changes.all(|change| change), "a run begins where the term changes");
        let first = self.terms.front().is_none_or(|run| run.term >= self.start.term);
        assert!(first, "and none before the log is of a later one");
        let known = |&index: &Index| index > self.snapshot.index && self.entry(index).is_some();
        assert!(self.holes.iter().all(known), "what is damaged is an entry above the snapshot");
        let start = self.base.min(self.snapshot.index);
        assert_eq!(self.start.index, start, "terms are known of what is in memory or on disk");
        assert_eq!(self.entries.len(), self.ends.len(), "each entry has its running sum");
        assert_eq!(
            self.term_at(self.snapshot.index),
            Some(self.snapshot.term),
            "the log contains its snapshot's entry"
        );
        self.writes.check(self.last_index());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryKind, Payload};
    use alloc::vec;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Normal,
            payload: Payload::new(vec![0; bytes]),
        }
    }

    fn log(base: u64, terms: &[u64]) -> Log {
        let snapshot = Position { index: Index(base), term: Term(1) };
        let mut log = Log::new(HardState::default(), snapshot, Vec::new());
        for (i, &term) in terms.iter().enumerate() {
            log.append(entry(base + 1 + i as u64, term, 8));
        }
        log
    }

    fn meta(index: u64, term: u64) -> SnapshotMeta {
        SnapshotMeta { index: Index(index), term: Term(term), ..SnapshotMeta::default() }
    }

    #[test]
    fn an_unknown_term_is_none_on_both_sides() {
        let log = log(5, &[1, 2]);
        assert_eq!(log.term_at(Index(4)), None);
        assert_eq!(log.term_at(Index(5)), Some(Term(1)));
        assert_eq!(log.term_at(Index(7)), Some(Term(2)));
        assert_eq!(log.term_at(Index(8)), None);
        assert_eq!(log.term_at(Index(u64::MAX)), None);
    }

    #[test]
    fn finds_the_last_entry_of_a_term_at_most() {
        let mut log = log(2, &[1, 3, 3, 5]);
        for evicted in [2, 4, 6] {
            log.evict(Index(evicted), 0);
            assert_eq!(log.base(), Index(evicted));
            let find = |limit, term| log.last_at_most(Index(limit), Term(term)).map(|p| p.index.0);
            assert_eq!(find(9, 9), Some(6));
            assert_eq!(find(9, 4), Some(5));
            assert_eq!(find(4, 4), Some(4));
            assert_eq!(find(9, 2), Some(3));
            assert_eq!(find(2, 9), Some(2));
            assert_eq!(find(1, 9), None);
            assert_eq!(find(9, 0), None);
        }
    }

    #[test]
    fn a_late_write_does_not_vouch_for_what_replaced_its_entries() {
        let mut log = log(0, &[1, 1, 1]);
        let first = log.ask_write(HardState::default(), Time(0)).expect("entries are new");
        log.truncate_from(Index(2));
        log.append(entry(2, 2, 8));
        log.append(entry(3, 2, 8));
        let second = log.ask_write(HardState::default(), Time(0)).expect("entries are new");
        assert_eq!(second.entries[0].index, Index(2));
        log.written(first.seq, Time(0));
        assert_eq!(log.durable_index(), Index(1));
        log.written(second.seq, Time(0));
        assert_eq!(log.durable_index(), Index(3));
        log.check();
    }

    #[test]
    fn a_batch_holds_at_least_one_entry() {
        let log = log(0, &[1, 1, 1]);
        assert_eq!(log.batch(Index(1), 0).len(), 1);
        assert_eq!(log.batch(Index(2), 79).len(), 1);
        assert_eq!(log.batch(Index(2), 80).len(), 2);
        assert_eq!(log.batch(Index(4), 80).len(), 0);
    }

    #[test]
    fn entries_under_the_snapshot_stay_for_who_needs_them_within_the_limit() {
        let mut log = log(0, &[1, 1, 1, 1]);
        log.ask_write(HardState::default(), Time(0));
        log.compact(meta(3, 1));
        log.release(Index(1), 1000);
        assert_eq!(log.base(), Index(1));
        log.release(Index(1), 40);
        assert_eq!(log.base(), Index(2));
        log.release(Index(9), 1000);
        assert_eq!(log.base(), Index(3));
        assert_eq!(log.bytes_above(Index(0)), 40);
        log.ask_write(HardState::default(), Time(0));
        log.check();
    }

    #[test]
    fn terms_stay_known_where_entries_left_memory() {
        let mut log = log(0, &[1, 1, 2, 4, 4, 4]);
        log.ask_write(HardState::default(), Time(0));
        log.evict(Index(5), 80);
        assert_eq!(log.base(), Index(3));
        let terms = |log: &Log| [0, 1, 2, 3, 4, 6, 7].map(|i| log.term_at(Index(i)).map(|t| t.0));
        assert_eq!(terms(&log), [1, 1, 1, 2, 4, 4, 0].map(|term| (term > 0).then_some(term)));
        log.compact(meta(2, 1));
        assert_eq!(terms(&log)[1..4], [None, Some(1), Some(2)]);
        log.ask_write(HardState::default(), Time(0));
        log.check();
        log.evict(Index(6), 0);
        log.truncate_from(Index(7));
        log.append(entry(7, 5, 8));
        assert_eq!(log.term_at(Index(6)), Some(Term(4)));
        log.compact(meta(6, 4));
        log.ask_write(HardState::default(), Time(0));
        log.check();
        assert_eq!(log.term_at(Index(5)), None);
        assert_eq!((log.last_term(), log.last_index()), (Term(5), Index(7)));
    }

    #[test]
    fn a_restore_is_durable_only_with_its_own_write() {
        let mut log = log(0, &[1, 1, 1, 1]);
        let old = log.ask_write(HardState::default(), Time(0)).expect("entries are new");
        log.restore(meta(3, 2), Index(1));
        let new = log.ask_write(HardState::default(), Time(0)).expect("the snapshot is new");
        log.written(old.seq, Time(0));
        assert_eq!(log.durable_index(), Index(1));
        log.written(new.seq, Time(0));
        assert_eq!(log.durable_index(), Index(3));
        log.append(entry(4, 2, 8));
        assert_eq!(log.bytes_above(Index(1)), 40);
        log.ask_write(HardState::default(), Time(0));
        log.check();
    }
}
