//! Changes of membership: from any voters to any others in one call [Raft §6, Thesis §4].
//!
//! | stage | configuration | goes on when |
//! |---|---|---|
//! | catching up | who will vote listens as a learner | each of them kept up in a round |
//! | joint | both halves decide | that entry is committed |
//! | done | the new half alone | that entry is committed |
//!
//! The first stage is skipped if nobody is new, the second if the voters stay the same. Any leader
//! that finds a joint configuration in its log leaves it, so a change that became joint is always
//! finished; before that it ends with its leader, and the newcomers stay as learners.
//!
//! Catching up goes in rounds [Thesis §4.2.1]: each sends what the log had when it began. Who
//! finishes one within an election timeout is near enough; who does not after
//! [`CATCH_UP_ROUNDS_MAX`] of them, or is not heard for [`CATCH_UP_SILENCE`] election timeouts,
//! ends the change.
//!
//! Invariants: a leader appends a configuration only if an entry of its own term is committed and
//! so is the configuration before; a replica id is never used twice; who is being removed hears of
//! it, as far as its link allows, before it is forgotten.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::progress::Progress;
use crate::raft::Raft;
use crate::role::Role;
use crate::{
    Configuration, Effect, EntryKind, Index, Payload, Refusal, ReplicaId, RequestId, Time,
};

/// A newcomer that is still behind after so many rounds is not promoted.
pub(crate) const CATCH_UP_ROUNDS_MAX: u32 = 10;

/// A newcomer that is silent for so many election timeouts is not waited for.
const CATCH_UP_SILENCE: u64 = 10;

/// A change under way.
#[derive(Clone)]
pub(crate) struct Change {
    id: RequestId,
    /// What it leads to.
    target: Configuration,
    /// Who has to catch up before it votes.
    newcomers: Vec<Newcomer>,
}

/// One who catches up.
#[derive(Clone)]
struct Newcomer {
    id: ReplicaId,
    /// The round under way, from 1.
    round: u32,
    began: Time,
    /// The last entry when the round began.
    end: Index,
    /// Its last round took less than an election timeout.
    caught_up: bool,
}

impl Raft {
    /// Starts a change to these voters and learners, if that is possible now.
    pub(crate) fn on_change_membership(
        &mut self,
        id: RequestId,
        voters: Vec<ReplicaId>,
        mut learners: Vec<ReplicaId>,
        effects: &mut Vec<Effect>,
    ) {
        learners.sort_unstable();
        learners.dedup();
        let lease = self.configuration().lease;
        let target = Configuration { learners, lease, ..Configuration::of_voters(voters) };
        self.start_change(id, target, effects);
    }

    /// Starts a change that puts `by` in the place of `dead`, which counts for nothing from now on:
    /// its disk may have lost what it acknowledged.
    pub(crate) fn on_replace_replica(
        &mut self,
        id: RequestId,
        dead: ReplicaId,
        by: ReplicaId,
        effects: &mut Vec<Effect>,
    ) {
        let current = self.configuration();
        if self.is_leader() && (dead == self.config.id || !current.is_member(dead)) {
            return Self::refuse(id, Refusal::Invalid, effects);
        }
        let mut target = Configuration { outgoing: Vec::new(), ..current.clone() };
        // A change that ended with its leader has left it as a learner.
        target.learners.retain(|&id| id != by);
        for list in [&mut target.voters, &mut target.learners] {
            if let Ok(place) = list.binary_search(&dead) {
                list[place] = by;
            }
            list.sort_unstable();
        }
        let (now, next) = (self.now, self.log.last_index().next());
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress_mut(dead)
        {
            *progress = Progress { heard_at: Time(0), ..Progress::new(dead, next, now) };
            if !leader.dead.contains(&dead) {
                leader.dead.push(dead);
            }
        }
        self.start_change(id, target, effects);
    }

    /// Starts a change to `target`, if that is possible now.
    pub(crate) fn start_change(
        &mut self,
        id: RequestId,
        target: Configuration,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(reason) = self.reason_against(&target) {
            return Self::refuse(id, reason, effects);
        }
        let current = self.configuration();
        let is_new = |id: &ReplicaId| !current.voters.contains(id);
        let newcomers: Vec<ReplicaId> = target.voters.iter().copied().filter(is_new).collect();
        let mut listening = current.clone();
        listening.learners.extend(newcomers.iter().filter(|&&id| !current.is_member(id)));
        listening.learners.sort_unstable();
        let first = (listening != *current).then_some(listening);
        let (began, end) = (self.now, self.log.last_index());
        let newcomer = |id| Newcomer { id, round: 1, began, end, caught_up: false };
        let newcomers = newcomers.into_iter().map(newcomer).collect();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.change = Some(Change { id, target, newcomers });
        if let Some(listening) = first {
            return self.append_configuration(listening, effects);
        }
        self.check_newcomers(effects);
        self.advance_change(effects);
    }

    fn reason_against(&self, target: &Configuration) -> Option<Refusal> {
        let Role::Leader(leader) = &self.role else { return Some(Refusal::NotLeader) };
        let current = self.configuration();
        let busy = leader.change.is_some() || leader.transfer.is_some();
        if busy || current.is_joint() || !self.may_append_configuration() {
            return Some(Refusal::NotYet);
        }
        if !target.is_well_formed() {
            return Some(Refusal::Invalid);
        }
        let used = |id: &ReplicaId| !current.is_member(*id) && *id <= current.highest_id();
        target.members().iter().any(used).then_some(Refusal::IdUsed)
    }

    /// One configuration at a time, and none before an entry of the own term is committed: two
    /// leaders could otherwise each change a configuration the other does not know of.
    fn may_append_configuration(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.commit_index >= leader.first_index
            && self.configurations.current_index() <= self.commit_index
    }

    fn append_configuration(&mut self, next: Configuration, effects: &mut Vec<Effect>) {
        assert!(self.may_append_configuration(), "one configuration changes at a time");
        let next = self.configuration().succeeded_by(next);
        assert!(next.is_well_formed(), "a leader makes configurations that can be read");
        let payload = Payload::new(next.encode());
        self.append_as_leader(EntryKind::Configuration, payload, effects);
        // Those who decide now may all have answered already; nobody would answer a sole voter.
        self.finish_round(effects);
    }

    /// Follows everybody whom the configuration in force names; who left it is kept until its
    /// removal is committed.
    pub(crate) fn follow_members(&mut self, next: Index) {
        let members = self.configurations.current().members();
        let Role::Leader(leader) = &mut self.role else { return };
        for id in members {
            if id != self.config.id
                && let Err(place) = leader.progress.binary_search_by_key(&id, |known| known.id)
            {
                leader.progress.insert(place, Progress::new(id, next, self.now));
            }
        }
    }

    /// Takes the next step of a change, if its time has come.
    pub(crate) fn advance_change(&mut self, effects: &mut Vec<Effect>) {
        if !self.may_append_configuration() {
            return;
        }
        self.forget_removed(effects);
        let current = self.configuration();
        if current.is_joint() {
            let plain = Configuration { outgoing: Vec::new(), ..current.clone() };
            return self.append_configuration(plain, effects);
        }
        if self.advance_call(effects) && !self.is_voter() {
            self.leave(effects);
        }
    }

    /// Takes the next step of the change that was asked for. Whether none is left.
    fn advance_call(&mut self, effects: &mut Vec<Effect>) -> bool {
        let Role::Leader(leader) = &mut self.role else { return true };
        let current = self.configurations.current();
        let Some(change) = &mut leader.change else { return true };
        let same_voters = change.target.voters == current.voters;
        let same_lease = change.target.lease == current.lease;
        if same_voters && same_lease && change.target.learners == current.learners {
            effects.push(Effect::Completed { id: change.id });
            leader.change = None;
            return true;
        }
        if !change.newcomers.iter().all(|newcomer| newcomer.caught_up) {
            return false;
        }
        let outgoing = if same_voters { Vec::new() } else { current.voters.clone() };
        let next = Configuration { outgoing, ..change.target.clone() };
        self.append_configuration(next, effects);
        false
    }

    /// Looks how far the newcomers have come, and goes on or gives up.
    pub(crate) fn check_newcomers(&mut self, effects: &mut Vec<Effect>) {
        let (now, timeout) = (self.now, self.config.election_timeout);
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(change) = &mut leader.change else { return };
        if change.newcomers.is_empty() || self.configurations.current().is_joint() {
            return;
        }
        let mut given_up = false;
        for newcomer in &mut change.newcomers {
            let progress = leader.progress.iter().find(|known| known.id == newcomer.id);
            let progress = progress.expect("a leader follows all members");
            newcomer.look_at(progress, now, timeout, last);
            given_up |= newcomer.is_hopeless(progress, now, timeout);
        }
        if given_up {
            effects.push(Effect::Refuse { id: change.id, reason: Refusal::NotCaughtUp });
            leader.change = None;
        } else {
            self.advance_change(effects);
        }
    }

    /// Tells who was removed that this is committed, and forgets it.
    fn forget_removed(&mut self, effects: &mut Vec<Effect>) {
        let Some((sender, leader)) = self.sender() else { return };
        let members = sender.configuration();
        for gone in leader.progress.iter().filter(|known| !members.is_member(known.id)) {
            sender.send_heartbeat(gone, effects);
        }
        leader.progress.retain(|known| members.is_member(known.id));
    }

    /// The leader's own removal is committed: it tells everybody, hands over and goes
    /// [Thesis §4.2.2].
    fn leave(&mut self, effects: &mut Vec<Effect>) {
        let Some((sender, leader)) = self.sender() else { return };
        for progress in &leader.progress {
            sender.send_heartbeat(progress, effects);
        }
        if let Some(successor) = self.best_successor() {
            self.ask_to_take_over(successor, effects);
        }
        self.become_follower(None, effects);
    }
}

impl Change {
    /// Panics unless the invariants of this module hold.
    pub(crate) fn check(&self, current: &Configuration) {
        assert!(self.target.is_well_formed(), "a change leads to what can be read");
        assert!(!self.target.is_joint(), "a change ends with one half");
        for newcomer in &self.newcomers {
            assert!(current.is_member(newcomer.id), "who catches up is a member");
            assert!(newcomer.round <= CATCH_UP_ROUNDS_MAX, "rounds have a limit");
        }
    }

    /// Feeds what decides how it goes on.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { id, target, newcomers } = self;
        (id, target).hash(hasher);
        for Newcomer { id, round, began, end, caught_up } in newcomers {
            (id, round, ages.since(*began), end, caught_up).hash(hasher);
        }
    }

    /// Who asked for it.
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }
}

impl Newcomer {
    fn look_at(&mut self, progress: &Progress, now: Time, timeout: u64, last: Index) {
        if progress.matched < self.end {
            return;
        }
        self.caught_up = now.since(self.began) < timeout;
        if !self.caught_up {
            (self.round, self.began, self.end) = (self.round + 1, now, last);
        }
    }

    fn is_hopeless(&self, progress: &Progress, now: Time, timeout: u64) -> bool {
        let heard_at = progress.heard_at.max(self.began);
        self.round > CATCH_UP_ROUNDS_MAX || now.since(heard_at) > CATCH_UP_SILENCE * timeout
    }
}
