//! What an operator may look at.

use alloc::vec::Vec;

use crate::progress::Flow;
use crate::raft::Raft;
use crate::role::Role;
use crate::{Index, ReplicaId, Term};

/// A replica at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which replica.
    pub id: ReplicaId,
    /// What it is in its term.
    pub role: RoleName,
    /// Whether it votes; else it is a learner, or not in its own configuration.
    pub voter: bool,
    /// The present term.
    pub term: Term,
    /// Who got its vote in this term.
    pub voted_for: Option<ReplicaId>,
    /// The leader it knows in this term.
    pub leader: Option<ReplicaId>,
    /// Everything up to here is committed.
    pub commit: Index,
    /// Everything up to here was applied, says the host.
    pub applied: Index,
    /// The last entry of the log.
    pub last_index: Index,
    /// The log is durable up to here.
    pub durable_index: Index,
    /// The first entry in memory.
    pub first_index: Index,
    /// Where a recovered log would begin, less one.
    pub snapshot_index: Index,
    /// A newer snapshot, under which the log stays for those who need it
    /// ([`crate::Config::max_held_bytes`]).
    pub held_index: Option<Index>,
    /// Bytes of entries that are not committed.
    pub uncommitted_bytes: u64,
    /// Writes asked for and not yet durable.
    pub writes_in_flight: usize,
    /// Reads that wait for a round.
    pub pending_reads: usize,
    /// On a leader: every other member, ascending by id; else empty.
    pub followers: Vec<FollowerStatus>,
}

/// The role's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Listens.
    Follower,
    /// Asks for pre-votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What a leader knows of one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Which replica.
    pub id: ReplicaId,
    /// Its log agrees with the leader's, durably, up to here.
    pub matched: Index,
    /// The next entry to send to it.
    pub next: Index,
    /// How entries flow to it.
    pub state: FollowerState,
    /// Microseconds since it last answered; `None` if it never did in this term.
    pub silence: Option<u64>,
}

/// How entries flow to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerState {
    /// One append at a time, to find where the logs agree.
    Probe,
    /// Without waiting, within the window.
    Replicate,
    /// It lags behind the log and gets a snapshot.
    Snapshot,
}

impl core::fmt::Debug for Raft {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Raft").field(&self.status()).finish()
    }
}

impl Raft {
    /// The replica at this moment.
    pub fn status(&self) -> Status {
        let pending_reads = match &self.role {
            Role::Follower(follower) => follower.reads.pending(),
            Role::PreCandidate(_) | Role::Candidate(_) => 0,
            Role::Leader(leader) => leader.reads.pending(),
        };
        Status {
            id: self.config.id,
            role: self.role.name(),
            voter: self.is_voter(),
            term: self.hard_state.term,
            voted_for: self.hard_state.voted_for,
            leader: self.leader(),
            commit: self.commit_index,
            applied: self.applied_index,
            last_index: self.log.last_index(),
            durable_index: self.log.durable_index(),
            first_index: self.log.base().next(),
            snapshot_index: self.log.snapshot().index,
            held_index: self.held_index(),
            uncommitted_bytes: self.log.bytes_above(self.commit_index),
            writes_in_flight: self.log.writes().in_flight(),
            pending_reads,
            followers: self.followers(),
        }
    }

    fn followers(&self) -> Vec<FollowerStatus> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let status = |progress: &crate::progress::Progress| FollowerStatus {
            id: progress.id,
            matched: progress.matched,
            next: progress.next,
            state: match progress.flow {
                Flow::Probe { .. } => FollowerState::Probe,
                Flow::Replicate { .. } => FollowerState::Replicate,
                Flow::Snapshot { .. } => FollowerState::Snapshot,
            },
            silence: progress.heard.then(|| self.now.since(progress.heard_at)),
        };
        leader.progress.iter().map(status).collect()
    }
}
