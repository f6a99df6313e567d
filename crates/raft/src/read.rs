//! Linearizable reads without a clock: ReadIndex in numbered rounds [Raft §8, Thesis §6.4].
//!
//! A round begins when the leader takes its number, its read index is the commit index of that
//! moment, and it ends when a quorum has answered an append that carried the number, or a later
//! one, in this term. A read is served by a round that began after the read was registered. One
//! round of reads is open at a time; who comes meanwhile shares the next one. Heartbeats repeat the
//! newest number, so a lost answer only costs time.
//!
//! A follower asks its leader for an index and serves the read itself. Its requests are numbered
//! too, one at a time, and named by a nonce of this start, so that an answer to its life before a
//! crash is not taken for one to this life.
//!
//! Invariants: no round begins before an entry of the term is committed; reads are answered in the
//! order they came; every read is answered or refused, at the latest when the role ends.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::lease::Lease;
use crate::raft::Raft;
use crate::role::Role;
use crate::{Body, Effect, Index, Refusal, ReplicaId, RequestId, Time, quorum};

/// The reads of one leader's term.
#[derive(Clone, Default)]
pub(crate) struct Reads {
    /// The newest round; 0 before the first.
    round: u64,
    open: Option<OpenRound>,
    /// Registered since the open round began, or before the first may begin.
    waiting: Vec<Reader>,
    pub(crate) lease: Lease,
}

/// A round that waits for a quorum.
#[derive(Clone, Hash)]
struct OpenRound {
    number: u64,
    index: Index,
    readers: Vec<Reader>,
}

/// Who wants an index.
#[derive(Clone, Hash)]
enum Reader {
    /// The leader's own host.
    Own(RequestId),
    /// A follower, for its host.
    Follower { from: ReplicaId, nonce: u64, number: u64 },
}

/// The reads of a follower.
#[derive(Clone, Default)]
pub(crate) struct FollowerReads {
    asked: Option<Asked>,
    /// Registered since the last request was sent.
    waiting: Vec<RequestId>,
}

/// A request that the leader has not answered.
#[derive(Clone)]
struct Asked {
    number: u64,
    at: Time,
    reads: Vec<RequestId>,
}

impl Reads {
    /// The newest round; 0 before the first.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Takes the next number.
    pub(crate) fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    /// How many reads are not answered.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.open.as_ref().map_or(0, |open| open.readers.len())
    }

    /// Panics unless the invariants of this module hold for a leader whose term began at
    /// `first_index`.
    pub(crate) fn check(&self, first_index: Index, commit: Index) {
        if let Some(open) = &self.open {
            assert!(open.index >= first_index, "no round begins before an entry of the term");
            assert!(open.index <= commit, "a read index is committed");
            assert!(open.number <= self.round, "an open round has begun");
            assert!(!open.readers.is_empty(), "a round is for somebody");
        } else {
            let early = commit < first_index;
            assert!(self.waiting.is_empty() || early, "who waits, waits for a round");
        }
        self.lease.check(self.round);
    }

    /// Feeds what decides which reads are served when.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { round, open, waiting, lease } = self;
        (round, open, waiting).hash(hasher);
        lease.digest(ages, hasher);
    }

    /// The leader steps down: none of its reads will be served. Followers notice by themselves.
    pub(crate) fn refuse_all(self, effects: &mut Vec<Effect>) {
        let open = self.open.map(|open| open.readers).unwrap_or_default();
        for reader in open.into_iter().chain(self.waiting) {
            if let Reader::Own(id) = reader {
                effects.push(Effect::Refuse { id, reason: Refusal::NotLeader });
            }
        }
    }
}

impl FollowerReads {
    /// How many reads are not answered.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.asked.as_ref().map_or(0, |asked| asked.reads.len())
    }

    /// Feeds what decides which reads are served when.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { asked, waiting } = self;
        waiting.hash(hasher);
        let asked = asked.as_ref().map(|Asked { number, at, reads }| {
            (number, ages.since(*at), reads).hash(hasher);
        });
        asked.is_some().hash(hasher);
    }

    /// The leader they were asked of is none any more.
    pub(crate) fn refuse_all(self, effects: &mut Vec<Effect>) {
        let asked = self.asked.map(|asked| asked.reads).unwrap_or_default();
        for id in asked.into_iter().chain(self.waiting) {
            effects.push(Effect::Refuse { id, reason: Refusal::NotLeader });
        }
    }
}

impl Raft {
    /// Registers a read of this replica's host.
    pub(crate) fn on_read(&mut self, id: RequestId, effects: &mut Vec<Effect>) {
        let by_lease = self.lease_until().is_some_and(|until| self.now < until);
        match &mut self.role {
            Role::Leader(leader) if by_lease && leader.reads.pending() == 0 => {
                let index = self.commit_index;
                effects.push(Effect::ReadReady { id, index, by_lease });
            }
            Role::Leader(leader) => {
                leader.reads.waiting.push(Reader::Own(id));
                self.start_round(effects);
            }
            Role::Follower(follower) if follower.leader.is_some() => {
                follower.reads.waiting.push(id);
                self.ask_for_index(effects);
            }
            _ => Self::refuse(id, Refusal::NotLeader, effects),
        }
    }

    /// Asks the leader for an index for all reads that wait, unless a request is open.
    fn ask_for_index(&mut self, effects: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let reads = &mut follower.reads;
        if reads.asked.is_some() || reads.waiting.is_empty() {
            return;
        }
        self.read_number += 1;
        let (number, at) = (self.read_number, self.now);
        reads.asked = Some(Asked { number, at, reads: core::mem::take(&mut reads.waiting) });
        self.send_read_index(effects);
    }

    fn send_read_index(&self, effects: &mut Vec<Effect>) {
        let Role::Follower(follower) = &self.role else { return };
        if let (Some(leader), Some(asked)) = (follower.leader, &follower.reads.asked) {
            let (nonce, number) = (self.read_nonce, asked.number);
            self.send(leader, Body::ReadIndex { nonce, number }, effects);
        }
    }

    /// The leader lives: asks once more for what it may not have heard.
    pub(crate) fn repeat_read_index(&mut self, effects: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(asked) = &mut follower.reads.asked else { return };
        if self.now.since(asked.at) >= self.config.heartbeat_interval {
            asked.at = self.now;
            self.send_read_index(effects);
        }
    }

    /// A follower wants an index. A leader's lease can't serve it: nobody could look at the clock
    /// after the read.
    pub(crate) fn on_read_index(
        &mut self,
        from: ReplicaId,
        nonce: u64,
        number: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.progress_mut(from).is_none() {
            return;
        }
        // A follower has one request open, so a newer one stands in for those before.
        let other =
            |reader: &Reader| !matches!(reader, Reader::Follower { from: f, .. } if *f == from);
        leader.reads.waiting.retain(other);
        leader.reads.waiting.push(Reader::Follower { from, nonce, number });
        self.start_round(effects);
    }

    /// The leader's commit index after the request was sent, confirmed by a quorum.
    pub(crate) fn on_read_index_reply(
        &mut self,
        nonce: u64,
        number: u64,
        index: Index,
        effects: &mut Vec<Effect>,
    ) {
        let mine = nonce == self.read_nonce;
        let Role::Follower(follower) = &mut self.role else { return };
        let agreed = follower.agreed;
        let Some(asked) = follower.reads.asked.take_if(|asked| mine && asked.number == number)
        else {
            return;
        };
        let ready = |id| Effect::ReadReady { id, index, by_lease: false };
        effects.extend(asked.reads.into_iter().map(ready));
        self.commit_to(index.min(agreed), effects);
        self.ask_for_index(effects);
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
        let (number, readers) = (reads.next_round(), core::mem::take(&mut reads.waiting));
        reads.open = Some(OpenRound { number, index, readers });
        if self.configurations.current().lease > 0 {
            reads.lease.on_round(number, self.now);
        }
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
        let newest = leader.reads.round;
        let answered = quorum::reached(self.configurations.current(), |id| {
            if id == self.config.id {
                return newest;
            }
            leader.value_of(id, |progress| progress.round)
        });
        let Some(round) = leader.reads.open.take_if(|open| open.number <= answered) else { return };
        let index = round.index;
        for reader in round.readers {
            match reader {
                Reader::Own(id) => {
                    effects.push(Effect::ReadReady { id, index, by_lease: false });
                }
                Reader::Follower { from, nonce, number } => {
                    self.send(from, Body::ReadIndexReply { nonce, number, index }, effects);
                }
            }
        }
        self.start_round(effects);
    }
}
