//! Handing over the leadership: because somebody asks, because this leader is removed, or because
//! its own host stalls [Thesis §3.10].
//!
//! The leader stops taking proposals, lets the receiver catch up, and asks it to campaign at once.
//! If it does not within an election timeout, the leader goes on; one that stalls steps down.
//!
//! Invariants: only a voter with the whole log is asked; no transfer outlives its deadline by more
//! than a heartbeat interval, or the receiver's vote.

use alloc::vec::Vec;

use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::progress::{Flow, Progress};
use crate::raft::Raft;
use crate::role::{Leader, Role};
use crate::{Body, Configuration, Effect, Note, Refusal, ReplicaId, RequestId, Stall, Time};

/// A transfer under way.
#[derive(Clone)]
pub(crate) struct Transfer {
    /// Who asked for it; `None` for a leader that stalls.
    pub(crate) id: Option<RequestId>,
    pub(crate) to: ReplicaId,
    deadline: Time,
    /// Whether the receiver was told to campaign.
    pub(crate) asked: bool,
}

impl Transfer {
    /// Feeds what decides how it goes on.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { id, to, deadline, asked } = self;
        (id, to, ages.until(*deadline), asked).hash(hasher);
    }

    /// Panics unless the invariants of this module hold.
    pub(crate) fn check(&self, configuration: &Configuration, own: ReplicaId) {
        assert!(self.to != own, "nobody hands over to itself");
        assert!(configuration.is_voter(self.to), "the receiver of the leadership votes");
    }
}

impl Raft {
    /// Starts a transfer to `to`, if that is possible now.
    pub(crate) fn on_transfer_leadership(
        &mut self,
        id: RequestId,
        to: ReplicaId,
        effects: &mut Vec<Effect>,
    ) {
        let is_voter = self.configuration().voters.contains(&to);
        let (now, timeout) = (self.now, self.config.election_timeout);
        let Role::Leader(leader) = &mut self.role else {
            return Self::refuse(id, Refusal::NotLeader, effects);
        };
        if to == self.config.id {
            return effects.push(Effect::Completed { id });
        }
        let keeps_up = |known: &Progress| {
            known.id == to
                && known.is_active(now, timeout)
                && matches!(known.flow, Flow::Replicate { .. })
        };
        let reason = if !is_voter {
            Refusal::Invalid
        } else if leader.transfer.is_some() {
            Refusal::NotYet
        } else if !leader.progress.iter().any(keeps_up) {
            Refusal::NotCaughtUp
        } else {
            let deadline = now + timeout;
            leader.transfer = Some(Transfer { id: Some(id), to, deadline, asked: false });
            return self.advance_transfer(effects);
        };
        Self::refuse(id, reason, effects);
    }

    /// Asks the receiver to campaign once it has the whole log.
    pub(crate) fn advance_transfer(&mut self, effects: &mut Vec<Effect>) {
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let to = transfer.to;
        let has_all = |known: &Progress| known.id == to && known.matched == last;
        if !transfer.asked && leader.progress.iter().any(has_all) {
            transfer.asked = true;
            self.ask_to_take_over(to, effects);
        }
    }

    /// A heartbeat later: asks once more, since messages get lost, or ends what takes too long.
    pub(crate) fn check_transfer(&mut self, effects: &mut Vec<Effect>) {
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        if self.now >= transfer.deadline {
            if transfer.id.is_none() {
                return self.become_follower(None, effects);
            }
            return self.abort_transfer(effects);
        }
        let to = transfer.to;
        if transfer.asked && leader.value_of(to, |known| known.matched.0) == last.0 {
            self.ask_to_take_over(to, effects);
        }
    }

    /// The configuration may have taken the receiver's vote.
    pub(crate) fn check_receiver(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(Leader { transfer: Some(transfer), .. }) = &self.role else { return };
        let keeps_vote = match transfer.id {
            Some(_) => self.configuration().voters.contains(&transfer.to),
            None => self.configuration().is_voter(transfer.to),
        };
        if !keeps_vote {
            self.abort_transfer(effects);
        }
    }

    fn abort_transfer(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(Transfer { id: Some(id), .. }) = leader.transfer.take() {
            Self::refuse(id, Refusal::Aborted, effects);
        }
    }

    /// A later term was seen: if the receiver was asked, the transfer has done its work, whoever
    /// wins.
    pub(crate) fn finish_transfer(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(Transfer { id: Some(id), .. }) = leader.transfer.take_if(|known| known.asked) {
            effects.push(Effect::Completed { id });
        }
    }

    /// Tells `to` to campaign at once.
    pub(crate) fn ask_to_take_over(&mut self, to: ReplicaId, effects: &mut Vec<Effect>) {
        // The votes it will ask for break promises, and nobody knows when it hears of this.
        if let Role::Leader(leader) = &mut self.role {
            leader.reads.lease.forgo();
        }
        self.send(to, Body::TimeoutNow, effects);
    }

    /// Of a leader: the other voter that is heard and has most of the log; of several, one that
    /// will stay a voter, and the lowest id.
    pub fn best_successor(&self) -> Option<ReplicaId> {
        let Role::Leader(leader) = &self.role else { return None };
        let current = self.configuration();
        let fits = |known: &&Progress| {
            current.is_voter(known.id) && known.is_active(self.now, self.config.election_timeout)
        };
        let worth = |known: &&Progress| (known.matched, current.voters.contains(&known.id));
        leader.progress.iter().rev().filter(fits).max_by_key(worth).map(|known| known.id)
    }

    /// Hands over if the own host stalls and somebody else could do better.
    pub(crate) fn check_stall(&mut self, effects: &mut Vec<Effect>) {
        let Some(what) = self.stall() else { return };
        let Some(to) = self.best_successor() else { return };
        let deadline = self.now + self.config.election_timeout;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.transfer.is_none() {
            leader.transfer = Some(Transfer { id: None, to, deadline, asked: false });
            effects.push(Effect::Note(Note::Stalled { what }));
            self.advance_transfer(effects);
        }
    }

    /// What this replica has waited for in vain for longer than the limit: no write ended, or
    /// nothing was applied, while some should have been.
    pub(crate) fn stall(&self) -> Option<Stall> {
        let limit = self.config.stall_timeout;
        let late = |since: Option<Time>| since.is_some_and(|since| self.now.since(since) > limit);
        if late(self.log.writes().waiting_since()) {
            return Some(Stall::Log);
        }
        let unapplied = self.applied_index < self.emitted_index;
        late(unapplied.then_some(self.applied_at)).then_some(Stall::Apply)
    }
}
