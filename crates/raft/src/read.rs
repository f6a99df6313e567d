//! Linearizable reads without a clock: ReadIndex in numbered rounds [Raft §8, Thesis §6.4].
//!
//! A round begins when the leader takes its number, its read index is the commit index of that
//! moment, and it ends when a quorum has answered an append that carried the number, or a later
//! one, in this term. A read is served by a round that began after the read was registered. One
//! round is open at a time; who comes meanwhile shares the next one. Heartbeats repeat the number,
//! so a lost answer only costs time.
//!
//! Invariants: no round begins before an entry of the term is committed; reads are answered in the
//! order they came; every read is answered or refused, at the latest when the leader steps down.

use alloc::vec::Vec;

use crate::raft::Raft;
use crate::role::Role;
use crate::{Effect, Index, Refusal, RequestId, quorum};

/// The reads of one leader's term.
#[derive(Default)]
pub(crate) struct Reads {
    /// The newest round; 0 before the first.
    round: u64,
    open: Option<OpenRound>,
    /// Registered since the open round began, or before the first may begin.
    waiting: Vec<RequestId>,
}

/// The round that waits for a quorum; its number is the newest.
struct OpenRound {
    index: Index,
    reads: Vec<RequestId>,
}

impl Reads {
    /// The newest round; 0 before the first.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// How many reads are not answered.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.open.as_ref().map_or(0, |open| open.reads.len())
    }

    /// The leader steps down: none of its reads will be served.
    pub(crate) fn refuse_all(self, effects: &mut Vec<Effect>) {
        let open = self.open.map(|open| open.reads).unwrap_or_default();
        for id in open.into_iter().chain(self.waiting) {
            effects.push(Effect::Refuse { id, reason: Refusal::NotLeader });
        }
    }
}

impl Raft {
    /// Registers a read.
    pub(crate) fn on_read(&mut self, id: RequestId, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return Self::refuse(id, Refusal::NotLeader, effects);
        };
        leader.reads.waiting.push(id);
        self.start_round(effects);
    }

    /// Begins a round for the reads that wait, unless one is open or it is too early in the term:
    /// before the first entry of its term is committed, a leader does not know what is.
    pub(crate) fn start_round(&mut self, effects: &mut Vec<Effect>) {
        let index = self.commit_index;
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        if reads.open.is_some() || reads.waiting.is_empty() || index < leader.first_index {
            return;
        }
        reads.round += 1;
        reads.open = Some(OpenRound { index, reads: core::mem::take(&mut reads.waiting) });
        if self.is_sole_voter() {
            return self.finish_round(effects);
        }
        self.broadcast_round(effects);
    }

    /// Ends the open round if a quorum has answered it; then the next may begin.
    pub(crate) fn finish_round(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reads.open.is_none() {
            return;
        }
        let round = leader.reads.round;
        let answered = quorum::reached(self.configurations.current(), |id| {
            if id == self.config.id {
                return round;
            }
            leader.value_of(id, |progress| progress.round)
        });
        if answered < round {
            return;
        }
        if let Some(OpenRound { index, reads }) = leader.reads.open.take() {
            effects.extend(reads.into_iter().map(|id| Effect::ReadReady { id, index }));
        }
        self.start_round(effects);
    }
}
