//! What was asked of the disk, and what of it is durable.
//!
//! A promise counts from the moment its write is durable, never from the moment it was asked for.
//! Each write in flight remembers the last index it covers. A truncation lowers these and the
//! durable index, so that a write which ends late can't vouch for entries that replaced its own.
//!
//! Invariants: `durable_index ≤ in_flight[0].last ≤ in_flight[1].last ≤ … ≤ last index of the
//! log`; the sequence numbers in flight are consecutive and end at the last one asked for.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::{HardState, Index, SnapshotMeta, Term, Time, WriteSeq};

/// The state of one replica's writes.
#[derive(Clone)]
pub(crate) struct Writes {
    last_seq: WriteSeq,
    in_flight: VecDeque<InFlight>,
    durable_index: Index,
    durable_hard_state: HardState,
    asked_hard_state: HardState,
    /// When a write last ended.
    written_at: Time,
    /// The first entry that the next write must hold.
    unasked_from: Option<Index>,
    /// The snapshot that the next write must name.
    unasked_snapshot: Option<Box<SnapshotMeta>>,
}

/// A write whose end was not reported yet.
#[derive(Clone)]
struct InFlight {
    seq: WriteSeq,
    asked_at: Time,
    /// With this write, and those before it, the log is durable up to here.
    last: Index,
    hard_state: HardState,
}

/// What the next write holds.
pub(crate) struct NextWrite {
    pub(crate) seq: WriteSeq,
    pub(crate) entries_from: Option<Index>,
    pub(crate) snapshot: Option<Box<SnapshotMeta>>,
}

impl Writes {
    /// Everything recovered is durable.
    pub(crate) fn new(hard_state: HardState, last_index: Index) -> Self {
        Self {
            last_seq: WriteSeq(0),
            in_flight: VecDeque::new(),
            durable_index: last_index,
            durable_hard_state: hard_state,
            asked_hard_state: hard_state,
            written_at: Time(0),
            unasked_from: None,
            unasked_snapshot: None,
        }
    }

    /// The entry at `index` is new.
    pub(crate) fn appended(&mut self, index: Index) {
        if self.unasked_from.is_none() {
            self.unasked_from = Some(index);
        }
    }

    /// Entries above `last` are gone; what vouched for them vouches for `last` at most.
    pub(crate) fn truncated_to(&mut self, last: Index) {
        self.durable_index = self.durable_index.min(last);
        for write in &mut self.in_flight {
            write.last = write.last.min(last);
        }
        if self.unasked_from.is_some_and(|from| from > last) {
            self.unasked_from = None;
        }
    }

    /// The log begins at this snapshot from now on.
    pub(crate) fn snapshotted(&mut self, meta: SnapshotMeta) {
        self.unasked_snapshot = Some(Box::new(meta));
    }

    /// Takes what must be written, if anything; then the log up to `last` and `hard_state` are
    /// asked for.
    pub(crate) fn ask(
        &mut self,
        hard_state: HardState,
        last: Index,
        now: Time,
    ) -> Option<NextWrite> {
        let changed = hard_state != self.asked_hard_state;
        if !changed && self.unasked_from.is_none() && self.unasked_snapshot.is_none() {
            return None;
        }
        self.last_seq = self.last_seq.next();
        self.asked_hard_state = hard_state;
        let (seq, asked_at) = (self.last_seq, now);
        self.in_flight.push_back(InFlight { seq, asked_at, last, hard_state });
        Some(NextWrite {
            seq: self.last_seq,
            entries_from: self.unasked_from.take(),
            snapshot: self.unasked_snapshot.take(),
        })
    }

    /// The write `seq` and all before it are durable. Panics if it was never asked for.
    pub(crate) fn written(&mut self, seq: WriteSeq, now: Time) {
        assert!(seq <= self.last_seq, "only a write that was asked for becomes durable");
        self.written_at = now;
        while self.in_flight.front().is_some_and(|write| write.seq <= seq) {
            let write = self.in_flight.pop_front().expect("the front was just seen");
            self.durable_index = self.durable_index.max(write.last);
            self.durable_hard_state = write.hard_state;
        }
    }

    /// The log is durable up to here.
    pub(crate) fn durable_index(&self) -> Index {
        self.durable_index
    }

    /// What was asked for last, durable or not.
    pub(crate) fn asked_hard_state(&self) -> HardState {
        self.asked_hard_state
    }

    /// Whether this term is durable.
    pub(crate) fn holds_term(&self, term: Term) -> bool {
        self.durable_hard_state.term == term
    }

    /// Whether this term and vote are durable.
    pub(crate) fn holds(&self, hard_state: HardState) -> bool {
        self.durable_hard_state == hard_state
    }

    /// Since when a write was open and none ended; `None` if none is open.
    pub(crate) fn waiting_since(&self) -> Option<Time> {
        self.in_flight.front().map(|write| write.asked_at.max(self.written_at))
    }

    /// The writes asked for and not yet durable.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Feeds what decides what becomes of these writes, but for their numbers, which only count.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self {
            last_seq: _,
            in_flight,
            durable_index,
            durable_hard_state,
            asked_hard_state,
            written_at: _,
            unasked_from,
            unasked_snapshot,
        } = self;
        (durable_index, durable_hard_state, asked_hard_state).hash(hasher);
        (unasked_from, unasked_snapshot, in_flight.len()).hash(hasher);
        for InFlight { seq: _, asked_at: _, last, hard_state } in in_flight {
            (last, hard_state).hash(hasher);
        }
        self.waiting_since().is_some_and(|since| ages.is_stalled(since)).hash(hasher);
    }

    /// Panics unless the invariants of this module hold for a log that ends at `last`, between two
    /// steps.
    pub(crate) fn check(&self, last: Index) {
        let mut before = self.durable_index;
        let mut seq = WriteSeq(self.last_seq.0 - self.in_flight.len() as u64);
        for write in &self.in_flight {
            seq = seq.next();
            assert_eq!(write.seq, seq, "writes in flight are consecutive");
            assert!(before <= write.last, "a later write covers at least as much of the log");
            before = write.last;
        }
        assert!(before <= last, "no write covers more than the log");
        assert!(self.unasked_from.is_none(), "what changed was asked for by the end of the step");
        assert!(self.unasked_snapshot.is_none(), "and so was the snapshot");
        let newest = self.in_flight.back().map(|write| write.hard_state);
        let newest = newest.unwrap_or(self.durable_hard_state);
        assert_eq!(newest, self.asked_hard_state, "the last write names the state asked for");
        let mut term = self.durable_hard_state.term;
        for write in &self.in_flight {
            assert!(term <= write.hard_state.term, "a term never descends on disk");
            term = write.hard_state.term;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: HardState = HardState { term: Term(1), voted_for: None };

    /// What the next write of a log that ends at 4, grows to 6 and is cut to `last` begins with.
    fn asked_after_a_cut(last: u64) -> Option<Index> {
        let mut writes = Writes::new(FIRST, Index(4));
        writes.appended(Index(5));
        writes.appended(Index(6));
        writes.truncated_to(Index(last));
        writes.ask(FIRST, Index(last), Time(0)).and_then(|next| next.entries_from)
    }

    #[test]
    fn a_cut_within_a_step_leaves_what_is_before_it() {
        assert_eq!(asked_after_a_cut(6), Some(Index(5)));
        assert_eq!(asked_after_a_cut(5), Some(Index(5)));
        assert_eq!(asked_after_a_cut(4), None);
        assert_eq!(asked_after_a_cut(3), None);
    }

    #[test]
    fn a_write_is_asked_for_only_if_something_changed() {
        let mut writes = Writes::new(FIRST, Index(4));
        assert!(writes.ask(FIRST, Index(4), Time(0)).is_none());
        let voted = HardState { term: Term(2), voted_for: None };
        let next = writes.ask(voted, Index(4), Time(7)).expect("the term is new");
        assert_eq!((next.seq, next.entries_from), (WriteSeq(1), None));
        assert!(writes.ask(voted, Index(4), Time(8)).is_none());
        assert_eq!(writes.waiting_since(), Some(Time(7)));
        assert!(!writes.holds(voted) && writes.holds_term(Term(1)));
        writes.written(WriteSeq(1), Time(9));
        assert!(writes.holds(voted) && writes.waiting_since().is_none());
        writes.check(Index(4));
    }

    #[test]
    #[should_panic(expected = "only a write that was asked for becomes durable")]
    fn nothing_is_durable_unasked() {
        Writes::new(FIRST, Index(4)).written(WriteSeq(1), Time(0));
    }
}
