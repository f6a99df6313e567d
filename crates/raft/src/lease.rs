//! Leases: reads without a round, at the price of trusting clocks [Thesis §6.4.1]. Off by default.
//!
//! The mode is part of the configuration, so it is replicated. A voter that knows it promises with
//! each answer to a leader that it will vote for nobody else for the lease's length; a leader that
//! got such promises from a quorum may read alone, until the first of them can end.
//!
//! | duty | of | why |
//! |---|---|---|
//! | no vote, also none for itself, while promised | voters | or another leader commits meanwhile |
//! | the same for one lease after a restart or a promotion | voters | the promise is not on disk |
//! | the lease begins when the round is *sent*, an eighth shorter | leader | answers travel, clocks drift |
//! | only answers of who has the configuration count | leader | others promised nothing |
//! | no lease any more in a term in which it asked for a takeover | leader | that vote breaks promises |
//! | the clock is looked at after the value was read | host | a process may be paused at any time |
//!
//! `Differs:` promises bind who knows the mode instead of everybody always, and only they are
//! counted; so a group without leases restarts without waiting.
//!
//! A paused virtual machine whose clock stands still with it can serve stale reads by lease. Rounds
//! can't.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::raft::Raft;
use crate::role::Role;
use crate::{Configuration, Effect, Refusal, ReplicaId, RequestId, Time, quorum};

/// Clocks may differ in speed by one part in so many over a lease.
const DRIFT_PART: u64 = 8;

/// What a leader knows of its lease.
#[derive(Clone, Default)]
pub(crate) struct Lease {
    /// Rounds not yet answered by a quorum, with the time they were sent.
    rounds: VecDeque<(u64, Time)>,
    /// When the newest round was sent that a quorum of promises has answered.
    from: Option<Time>,
    /// Somebody was asked to take over in this term.
    forgone: bool,
}

/// What a voter promised.
#[derive(Clone, Copy, Default)]
pub(crate) struct Promise {
    until: Time,
    /// To whom; `None` for what it may have promised before a restart.
    to: Option<ReplicaId>,
}

impl Lease {
    /// A round was sent.
    pub(crate) fn on_round(&mut self, number: u64, now: Time) {
        if !self.forgone {
            self.rounds.push_back((number, now));
        }
    }

    /// Never again in this term.
    pub(crate) fn forgo(&mut self) {
        self.forgone = true;
        self.rounds.clear();
    }

    /// A quorum of promises has answered `number`.
    fn on_answered(&mut self, number: u64) {
        while let Some((_, sent)) = self.rounds.pop_front_if(|(round, _)| *round <= number) {
            self.from = Some(sent);
        }
    }

    /// Panics unless the invariants of this module hold. `newest` is the newest round.
    pub(crate) fn check(&self, newest: u64) {
        let rounds = self.rounds.iter().zip(self.rounds.iter().skip(1));
        for ((one, sent), (next, later)) in rounds {
            assert!(one < next && sent <= later, "rounds are remembered in their order");
        }
        assert!(self.rounds.back().is_none_or(|(last, _)| *last <= newest), "and were begun");
        assert!(!self.forgone || self.rounds.is_empty(), "what is forgone is not prolonged");
    }

    /// Feeds what decides how long it lasts.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { rounds, from, forgone } = self;
        (forgone, from.map(|from| ages.since(from)), rounds.len()).hash(hasher);
        for (number, sent) in rounds {
            (number, ages.since(*sent)).hash(hasher);
        }
    }

    /// What was sent so long ago is of no use.
    fn forget_before(&mut self, time: Time) {
        while self.rounds.pop_front_if(|(_, sent)| *sent < time).is_some() {}
    }
}

impl Promise {
    /// What a replica may have promised before it started.
    pub(crate) fn after_restart(now: Time, lease: u64) -> Self {
        Self { until: now + lease, to: None }
    }

    /// Whether it forbids a vote for `candidate` now.
    pub(crate) fn binds(&self, candidate: ReplicaId, now: Time) -> bool {
        now < self.until && self.to != Some(candidate)
    }

    /// Feeds what decides whom it binds: nobody, once it has ended.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { until, to } = self;
        let left = ages.until(*until);
        (left, to.filter(|_| left > 0)).hash(hasher);
    }

    /// When it ends.
    pub(crate) fn until(&self) -> Time {
        self.until
    }
}

impl Raft {
    /// Until when this leader may serve reads alone, if it may at all.
    ///
    /// After it has read the value for an [`Effect::ReadReady`] by lease, a host looks at its clock
    /// and answers only if this is still in the future; else it reads anew.
    pub fn lease_until(&self) -> Option<Time> {
        let Role::Leader(leader) = &self.role else { return None };
        let lease = self.configuration().lease;
        let known = self.configurations.current_index() <= self.commit_index
            && leader.first_index <= self.commit_index;
        let from = leader.reads.lease.from.filter(|_| !leader.reads.lease.forgone && known)?;
        (lease > 0).then(|| from + (lease - lease / DRIFT_PART))
    }

    /// Begins a round for the lease alone; the heartbeats that follow carry its number.
    pub(crate) fn start_lease_round(&mut self) {
        let lease = self.configuration().lease;
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        if lease > 0 && !reads.lease.forgone {
            let number = reads.next_round();
            reads.lease.on_round(number, now);
            reads.lease.forget_before(Time(now.0.saturating_sub(lease)));
        }
    }

    /// Counts the promises that came with the answers to rounds.
    pub(crate) fn extend_lease(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if self.configurations.current().lease == 0 {
            leader.reads.lease.rounds.clear();
            return;
        }
        let newest = leader.reads.round();
        let knows_from = self.configurations.current_index();
        let answered = quorum::reached(self.configurations.current(), |id| {
            if id == self.config.id {
                return newest;
            }
            leader.value_of(id, |known| if known.matched >= knows_from { known.round } else { 0 })
        });
        leader.reads.lease.on_answered(answered);
    }

    /// This voter was heard by, or is about to answer, the leader `to`.
    pub(crate) fn promise(&mut self, to: ReplicaId) {
        let mut lease = self.configuration().lease;
        if self.is_configuration_unknown() {
            lease = lease.max(self.config.election_timeout);
        }
        if lease > 0 {
            // Whoever leads now was elected when all promises to others had ended, by a voter that
            // shared in both; so only one has to be remembered.
            let same = if self.promise.to == Some(to) { self.promise.until } else { Time(0) };
            self.promise = Promise { until: same.max(self.now + lease), to: Some(to) };
        }
    }

    /// Changes the length of leases; 0 turns them off.
    pub(crate) fn on_set_lease(&mut self, id: RequestId, lease: u64, effects: &mut Vec<Effect>) {
        let target = Configuration { lease, ..self.configuration().clone() };
        if lease > self.config.election_timeout {
            return Self::refuse(id, Refusal::Invalid, effects);
        }
        self.start_change(id, target, effects);
    }
}

/// The longest lease that any of these configurations may have made this replica promise.
pub(crate) fn longest<'a>(known: impl Iterator<Item = &'a Configuration>) -> u64 {
    known.map(|configuration| configuration.lease).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_from_the_newest_round_that_was_answered_and_is_not_too_old() {
        let mut lease = Lease::default();
        for (number, sent) in [(1, 10), (2, 20), (3, 30)] {
            lease.on_round(number, Time(sent));
        }
        lease.forget_before(Time(20));
        lease.on_answered(1);
        assert_eq!(lease.from, None, "it was forgotten");
        lease.on_answered(2);
        assert_eq!(lease.from, Some(Time(20)));
        lease.on_answered(2);
        assert_eq!(lease.from, Some(Time(20)));
        lease.forgo();
        lease.on_round(4, Time(40));
        lease.on_answered(4);
        assert_eq!(lease.from, Some(Time(20)));
        lease.check(4);
    }
}
