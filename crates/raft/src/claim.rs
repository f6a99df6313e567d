//! The core's side of heartbeats that many groups share; the hosts' side is [`crate::host`].
//!
//! Invariants: a leader falls silent only towards a follower that has all of its log, and only as
//! long as it does not refuse the claim; a follower upholds a claim only of the leader it follows,
//! in its term, and only if it has committed what that leader has.

use alloc::vec::Vec;

use crate::progress::{Flow, Progress};
use crate::raft::Raft;
use crate::role::{Leader, Role};
use crate::{Effect, Index, ReplicaId, Term, Time};

impl Raft {
    /// Whom this leader has nothing to say but that it lives, for [`crate::host::Claim`]s.
    pub fn claims(&self) -> Vec<ReplicaId> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let silent = leader.progress.iter().filter(|known| self.is_silent_to(leader, known));
        silent.map(|known| known.id).collect()
    }

    /// Whether a shared heartbeat stands for this leader's own to that follower.
    pub(crate) fn is_silent_to(&self, leader: &Leader, progress: &Progress) -> bool {
        let busy =
            leader.reads.pending() > 0 || leader.change.is_some() || leader.transfer.is_some();
        let said =
            matches!(&progress.flow, Flow::Replicate { in_flight, .. } if in_flight.is_empty());
        self.config.shares_heartbeats
            && !busy
            && self.configuration().lease == 0
            && said
            && progress.upholds
            && progress.matched == self.log.last_index()
            && leader.first_index <= self.commit_index
    }

    /// When this leader has to wake next: for heartbeats, or only to see that a quorum is there.
    pub(crate) fn next_heartbeat(&self) -> Time {
        let Role::Leader(leader) = &self.role else { return Time::NEVER };
        let soon = self.now + self.config.heartbeat_interval;
        if leader.progress.iter().all(|known| self.is_silent_to(leader, known)) {
            let quorum_lost = self.quorum_heard_at() + self.config.election_timeout;
            return if self.config.shares_heartbeats { quorum_lost.max(soon) } else { soon };
        }
        soon
    }

    /// The leader `from` says by way of its host that it leads `term` and that all is said.
    pub(crate) fn on_claim(
        &mut self,
        from: ReplicaId,
        term: Term,
        commit: Index,
        effects: &mut Vec<Effect>,
    ) {
        // Whoever is in another term is no follower of that leader yet, or no more: it refuses, and
        // hears from the leader itself.
        if term != self.hard_state.term || self.is_leader() || from == self.config.id {
            return;
        }
        self.follow(from, effects);
        let Role::Follower(follower) = &self.role else { return };
        let agreed = follower.agreed;
        self.on_contact(from, self.now);
        self.commit_to(commit.min(agreed), effects);
    }

    /// Whether this replica follows that leader and has committed all that it has.
    pub fn upholds(&self, from: ReplicaId, term: Term, commit: Index) -> bool {
        self.leader() == Some(from)
            && !self.is_leader()
            && self.hard_state.term == term
            && self.commit_index >= commit
    }

    /// The follower `peer` does not uphold the claim: this leader speaks for itself again.
    pub(crate) fn on_claim_refused(&mut self, peer: ReplicaId, effects: &mut Vec<Effect>) {
        let Some((sender, leader)) = self.sender() else { return };
        if let Some(progress) = leader.progress_mut(peer) {
            progress.upholds = false;
            sender.send_heartbeat(progress, effects);
        }
    }

    /// The host of `peer` was heard at `at`, and upholds or makes a claim in this term.
    pub(crate) fn on_contact(&mut self, peer: ReplicaId, at: Time) {
        match &mut self.role {
            Role::Leader(leader) => {
                if let Some(progress) = leader.progress_mut(peer) {
                    progress.heard_at = progress.heard_at.max(at);
                }
            }
            Role::Follower(follower) if follower.leader == Some(peer) => {
                // A link that broke after that was heard ends the stickiness all the same.
                if follower.heard_at.is_none_or(|heard_at| heard_at < at) && at > follower.broke_at
                {
                    follower.heard_at = Some(at);
                    self.reset_election_timer_from(at);
                }
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }
}
