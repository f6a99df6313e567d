//! What a leader knows of one follower, and how fast it may send to it.
//!
//! | flow | sends | leaves it |
//! |---|---|---|
//! | `Probe` | one append at a time, to find where the logs agree | `Matched` up to the probe → `Replicate` |
//! | `Replicate` | appends without waiting, within a window | `Conflict` or a broken link → `Probe` |
//! | `Snapshot` | heartbeats only | the snapshot was delivered → `Probe` |
//!
//! Invariants: `matched < next`; `matched` never descends within a term, but for a replica that is
//! found to be dead; the window is part of `Replicate`, so it can't outlive it, nor can the bytes
//! in flight, which are the sum of its parts.

use alloc::collections::VecDeque;
use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::log::Log;
use crate::{Index, ReplicaId, Term, Time};

/// One follower or learner, within one term of one leader.
#[derive(Clone)]
pub(crate) struct Progress {
    pub(crate) id: ReplicaId,
    /// The follower's log agrees with the leader's, durably, up to here [Raft Figure 2,
    /// matchIndex].
    pub(crate) matched: Index,
    /// The next entry to send [Raft Figure 2, nextIndex].
    pub(crate) next: Index,
    /// The newest read round answered.
    pub(crate) round: u64,
    /// When an answer of this term last came; before the first, when the term began.
    pub(crate) heard_at: Time,
    /// Whether any answer of this term came.
    pub(crate) heard: bool,
    /// It has not refused a claim since it last answered.
    pub(crate) upholds: bool,
    pub(crate) flow: Flow,
}

/// How entries flow to a follower.
#[derive(Clone)]
pub(crate) enum Flow {
    Probe {
        /// A probe is under way; a heartbeat repeats it.
        paused: bool,
    },
    Replicate {
        /// The last index and the bytes of each append that is not answered.
        in_flight: VecDeque<(Index, u64)>,
        /// Those bytes together.
        bytes: u64,
    },
    Snapshot {
        /// The snapshot that was the newest when this one was asked for.
        pending: Index,
        /// Below this, the log does not help.
        at_least: Index,
        /// When to ask again; [`Time::NEVER`] while the host has not given up.
        retry_at: Time,
    },
}

impl Progress {
    /// A follower of which nothing is known but that the leader's log ends before `next`.
    pub(crate) fn new(id: ReplicaId, next: Index, now: Time) -> Self {
        Self {
            id,
            matched: Index(0),
            next,
            round: 0,
            heard_at: now,
            heard: false,
            upholds: false,
            flow: Flow::Probe { paused: false },
        }
    }

    /// An answer of this term came.
    pub(crate) fn on_heard(&mut self, now: Time, round: u64) {
        self.heard_at = self.heard_at.max(now);
        self.heard = true;
        self.upholds = true;
        self.round = self.round.max(round);
    }

    /// Whether an answer of this term came in the last `silence` µs.
    pub(crate) fn is_active(&self, now: Time, silence: u64) -> bool {
        self.heard && now.since(self.heard_at) < silence
    }

    /// The follower agrees up to `index`. `start` is where the leader's log begins.
    /// Returns whether that is news.
    pub(crate) fn on_matched(&mut self, index: Index, start: Index) -> bool {
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        let found = match &mut self.flow {
            Flow::Replicate { in_flight, bytes } => {
                while let Some((_, answered)) = in_flight.pop_front_if(|(last, _)| *last <= index) {
                    *bytes -= answered;
                }
                false
            }
            Flow::Probe { .. } => self.matched.next() >= self.next,
            // The log suffices again, whatever became of the snapshot.
            Flow::Snapshot { at_least, .. } => {
                self.matched > Index(0) && self.matched >= start.max(*at_least)
            }
        };
        if found {
            self.next = self.matched.next();
            self.flow = Flow::Replicate { in_flight: VecDeque::new(), bytes: 0 };
        }
        self.next = self.next.max(self.matched.next());
        news
    }

    /// The follower lacks (`prev_index`, its term); the logs may still agree up to the hint.
    /// What was answered before something newer is known is ignored: it may arrive late or twice.
    pub(crate) fn on_conflict(
        &mut self,
        prev_index: Index,
        hint_index: Index,
        hint_term: Term,
        log: &Log,
    ) {
        let current = match &self.flow {
            Flow::Probe { .. } => prev_index.next() == self.next,
            Flow::Replicate { .. } => prev_index < self.next,
            Flow::Snapshot { .. } => false,
        };
        if !current || prev_index <= self.matched {
            return;
        }
        let limit = hint_index.min(prev_index.previous());
        // Below the start nothing is known: the next append will turn out to need a snapshot.
        let agree = match log.last_at_most(limit, hint_term) {
            Some(place) => place.index,
            None => log.start().index.previous(),
        };
        self.probe_from(agree.min(limit).next());
    }

    /// Falls back to probing at `next`, at most where sending had come to.
    pub(crate) fn probe_from(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.flow = Flow::Probe { paused: false };
    }

    /// The link broke: what is in flight may be lost, and nothing more is sent but heartbeats
    /// until the follower answers.
    pub(crate) fn on_link_broken(&mut self) {
        if !matches!(self.flow, Flow::Snapshot { .. }) {
            if matches!(self.flow, Flow::Replicate { .. }) {
                self.next = self.matched.next();
            }
            self.flow = Flow::Probe { paused: true };
        }
    }

    /// The link is new: whatever was in flight on the old one is lost, and a probe may go.
    pub(crate) fn on_link_restored(&mut self) {
        self.on_link_broken();
        if let Flow::Probe { paused } = &mut self.flow {
            *paused = false;
        }
    }

    /// Whether another append may be sent, given the limits.
    pub(crate) fn has_room(&self, messages_max: usize, bytes_max: usize) -> bool {
        match &self.flow {
            Flow::Probe { paused } => !paused,
            Flow::Replicate { in_flight, bytes } => {
                in_flight.is_empty()
                    || (in_flight.len() < messages_max && *bytes < bytes_max as u64)
            }
            Flow::Snapshot { .. } => false,
        }
    }

    /// Entries up to `last`, of so many bytes, were sent.
    pub(crate) fn on_sent(&mut self, last: Index, sent_bytes: u64) {
        match &mut self.flow {
            Flow::Probe { paused } => *paused = true,
            Flow::Replicate { in_flight, bytes } => {
                in_flight.push_back((last, sent_bytes));
                *bytes += sent_bytes;
                self.next = last.next();
            }
            Flow::Snapshot { .. } => {}
        }
    }

    /// Feeds what decides what is sent and counted.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { id, matched, next, round, heard_at, heard, upholds, flow } = self;
        (id, matched, next, round, heard, upholds, ages.since(*heard_at)).hash(hasher);
        match flow {
            Flow::Probe { paused } => (0, paused).hash(hasher),
            Flow::Replicate { in_flight, bytes: _ } => (1, in_flight).hash(hasher),
            Flow::Snapshot { pending, at_least, retry_at } => {
                (2, pending, at_least, ages.until(*retry_at)).hash(hasher);
            }
        }
    }

    /// Panics unless the invariants of this module hold for a leader whose log ends at `last`.
    pub(crate) fn check(&self, last: Index, messages_max: usize) {
        assert!(self.matched < self.next, "what agrees is not sent again");
        assert!(self.matched <= last, "nobody agrees with more than the log");
        assert!(self.next <= last.next(), "only entries of the log are sent");
        let Flow::Replicate { in_flight, bytes } = &self.flow else { return };
        assert!(in_flight.len() <= messages_max, "the window has a limit");
        let mut before = self.matched;
        for (index, _) in in_flight {
            assert!(*index > before, "what is in flight ascends above what agrees");
            before = *index;
        }
        assert!(before < self.next, "what is in flight was sent");
        let sum = in_flight.iter().map(|(_, bytes)| bytes).sum::<u64>();
        assert!(sum == *bytes, "the bytes in flight are those of the messages");
    }

    /// Below this index no entry is needed for this follower.
    pub(crate) fn floor(&self) -> Index {
        match self.flow {
            Flow::Snapshot { pending, .. } => pending,
            Flow::Probe { .. } | Flow::Replicate { .. } => self.matched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;
    use crate::{Entry, EntryKind, HardState, Payload};

    fn snapshot(at_least: u64) -> Progress {
        let mut progress = Progress::new(ReplicaId(7), Index(1), Time(0));
        let (pending, at_least) = (Index(9), Index(at_least));
        progress.flow = Flow::Snapshot { pending, at_least, retry_at: Time::NEVER };
        progress
    }

    /// Whoever needs a snapshot may have got what it lacks by another way: then the log suffices.
    #[test]
    fn a_snapshot_is_not_waited_for_once_the_log_suffices() {
        let replicates = |at_least, matched, start| {
            let mut progress = snapshot(at_least);
            progress.on_matched(Index(matched), Index(start));
            matches!(progress.flow, Flow::Replicate { .. })
        };
        assert!(replicates(3, 3, 1) && replicates(3, 4, 4));
        assert!(!replicates(3, 2, 1) && !replicates(3, 3, 4));
        assert!(!replicates(0, 0, 0), "an answer of nothing is none");
        assert!(replicates(0, 1, 0));
    }

    /// A conflict counts if it is of what was sent last, and of nothing that is known to agree.
    #[test]
    fn late_conflicts_are_ignored() {
        let start = Position { index: Index(0), term: Term(0) };
        let mut log = Log::new(HardState::default(), start, alloc::vec::Vec::new());
        for index in 1..=9 {
            let (index, term, kind) = (Index(index), Term(1), EntryKind::Normal);
            log.append(Entry { index, term, kind, payload: Payload::default() });
        }
        let next_after = |replicates: bool, matched, next, prev: u64| {
            let mut progress = Progress::new(ReplicaId(7), Index(next), Time(0));
            progress.on_matched(Index(matched), Index(0));
            progress.next = Index(next);
            if replicates {
                let in_flight = VecDeque::new();
                progress.flow = Flow::Replicate { in_flight, bytes: 0 };
            }
            progress.on_conflict(Index(prev), Index(0), Term(0), &log);
            progress.next.0
        };
        assert_eq!(next_after(false, 0, 6, 5), 1, "of the probe");
        assert_eq!(next_after(false, 0, 6, 4), 6, "of an earlier probe");
        assert_eq!(next_after(true, 0, 6, 5), 1);
        assert_eq!(next_after(true, 0, 6, 6), 6, "of what was never sent");
        assert_eq!(next_after(true, 3, 6, 3), 6, "of what agrees");
        assert_eq!(next_after(true, 3, 6, 4), 4);
    }
}
