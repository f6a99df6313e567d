//! The four roles, each with the data that only it has [Raft Figure 4, Thesis §9.6].
//!
//! A learner is a follower that the configuration gives no vote: it never campaigns.

use alloc::vec::Vec;

use crate::membership::Change;
use crate::progress::Progress;
use crate::read::{FollowerReads, Reads};
use crate::snapshot::Held;
use crate::transfer::Transfer;
use crate::{Index, ReplicaId, RoleName, Time};

/// What a replica is in its term.
#[expect(clippy::large_enum_variant, reason = "a replica has one role, and a leader's is busy")]
#[derive(Clone)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// Listens to a leader, or waits for one.
#[derive(Clone, Default)]
pub(crate) struct Follower {
    pub(crate) leader: Option<ReplicaId>,
    /// When the leader was last heard; `None` also once its link broke.
    pub(crate) heard_at: Option<Time>,
    /// When its link last broke.
    pub(crate) broke_at: Time,
    /// The log agrees with the leader's up to here, durably or not.
    pub(crate) agreed: Index,
    /// The newest read round of the leader.
    pub(crate) round: u64,
    /// An append waits for its answer until more is durable.
    pub(crate) ack_owed: bool,
    /// The vote given in this term was not sent yet, since it is not durable.
    pub(crate) vote_owed: bool,
    pub(crate) reads: FollowerReads,
}

/// Asks whether an election could be won, without raising its term.
#[derive(Clone, Hash)]
pub(crate) struct PreCandidate {
    /// Who would vote for it, itself included.
    pub(crate) votes: Vec<ReplicaId>,
}

/// Asks for votes.
#[derive(Clone, Hash)]
pub(crate) struct Candidate {
    /// Who voted for it.
    pub(crate) votes: Vec<ReplicaId>,
    /// Whether its own vote is durable, and so the others were asked.
    pub(crate) asked: bool,
    /// The leader asked for this campaign.
    pub(crate) transfer: bool,
    /// It asks nobody for a vote, since it may not know its configuration.
    pub(crate) inquires: bool,
}

/// Leads its term.
#[derive(Clone)]
pub(crate) struct Leader {
    /// Everybody else, ascending by id.
    pub(crate) progress: Vec<Progress>,
    /// The no-op that opened the term.
    pub(crate) first_index: Index,
    pub(crate) heartbeat_deadline: Time,
    pub(crate) reads: Reads,
    /// Who was or is being replaced since it forgot what it promised.
    pub(crate) dead: Vec<ReplicaId>,
    /// Where the loads asked for begin.
    pub(crate) loads: Vec<Index>,
    /// A compaction that waits.
    pub(crate) held: Option<Held>,
    pub(crate) change: Option<Change>,
    pub(crate) transfer: Option<Transfer>,
}

impl Role {
    /// Which of the four.
    pub(crate) fn name(&self) -> RoleName {
        match self {
            Self::Follower(_) => RoleName::Follower,
            Self::PreCandidate(_) => RoleName::PreCandidate,
            Self::Candidate(_) => RoleName::Candidate,
            Self::Leader(_) => RoleName::Leader,
        }
    }
}

impl Leader {
    /// The progress of `id`, if it is a member.
    pub(crate) fn progress_mut(&mut self, id: ReplicaId) -> Option<&mut Progress> {
        self.progress.iter_mut().find(|progress| progress.id == id)
    }

    /// What `value` says of `id`'s progress; 0 for who is no member.
    pub(crate) fn value_of(&self, id: ReplicaId, value: impl Fn(&Progress) -> u64) -> u64 {
        self.progress.iter().find(|progress| progress.id == id).map_or(0, value)
    }
}
