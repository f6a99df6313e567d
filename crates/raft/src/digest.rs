//! A replica as a word, for who explores what may become of it: equal words mean equal futures.
//!
//! | left out | since |
//! |---|---|
//! | when an election timeout is drawn to end, and the generator | whoever explores lets every armed deadline come next |
//! | the numbers of writes, sums of bytes | only differences matter |
//! | what the last note said | it decides nothing but notes |
//!
//! Moments count as ages, as far as some rule can tell them apart. Every structure is taken apart
//! by name, so a new field has to be decided about.

use core::hash::{Hash, Hasher};

use crate::raft::Raft;
use crate::role::{Follower, Leader, Role};
use crate::{Config, Time};

/// The silence after which a newcomer is not waited for any more, in election timeouts.
const LONG: u64 = 10;

/// Turns moments into what a rule can tell of them.
#[derive(Clone, Copy)]
pub(crate) struct Ages {
    now: Time,
    timeout: u64,
    stall: u64,
}

impl Ages {
    /// How long ago `past` was: exactly below an election timeout, then in two classes.
    pub(crate) fn since(self, past: Time) -> u64 {
        match self.now.since(past) {
            age if age < self.timeout => age,
            age if age <= LONG * self.timeout => self.timeout,
            _ => u64::MAX,
        }
    }

    /// How far away `future` is; what has come is 0.
    pub(crate) fn until(self, future: Time) -> u64 {
        if future == Time::NEVER { u64::MAX } else { future.since(self.now) }
    }

    /// Whether the host was waited for in vain since `past`.
    pub(crate) fn is_stalled(self, past: Time) -> bool {
        self.now.since(past) > self.stall
    }
}

impl Raft {
    /// Feeds everything that decides what this replica will do to `hasher`, but for its
    /// configuration ([`Config`]): two replicas that feed the same do the same from now on, if
    /// their deadlines come in the same order.
    pub fn digest<H: Hasher>(&self, hasher: &mut H) {
        let Self {
            config: Config { election_timeout, stall_timeout, .. },
            random: _,
            now,
            hard_state,
            log,
            configurations,
            role,
            commit_index,
            emitted_index,
            applied_index,
            applied_at,
            election_deadline: _,
            promise,
            search,
            read_nonce,
            read_number,
            noted_leader: _,
        } = self;
        let ages = Ages { now: *now, timeout: *election_timeout, stall: *stall_timeout };
        (hard_state, configurations).hash(hasher);
        (commit_index, emitted_index, applied_index).hash(hasher);
        (read_nonce, read_number).hash(hasher);
        (applied_index < emitted_index && ages.is_stalled(*applied_at)).hash(hasher);
        log.digest(ages, hasher);
        promise.digest(ages, hasher);
        search.digest(ages, !log.holes().is_empty(), hasher);
        self.role.name().hash(hasher);
        match role {
            Role::Follower(follower) => follower.digest(ages, hasher),
            Role::PreCandidate(candidate) => candidate.hash(hasher),
            Role::Candidate(candidate) => candidate.hash(hasher),
            Role::Leader(leader) => leader.digest(ages, log.appended_bytes(), hasher),
        }
    }
}

impl Follower {
    fn digest<H: Hasher>(&self, ages: Ages, hasher: &mut H) {
        let Self { leader, heard_at, broke_at, agreed, round, ack_owed, vote_owed, reads } = self;
        (leader, agreed, round, ack_owed, vote_owed).hash(hasher);
        heard_at.map(|heard_at| ages.since(heard_at)).hash(hasher);
        ages.since(*broke_at).hash(hasher);
        reads.digest(ages, hasher);
    }
}

impl Leader {
    fn digest<H: Hasher>(&self, ages: Ages, appended: u64, hasher: &mut H) {
        let Self {
            progress,
            first_index,
            heartbeat_deadline,
            reads,
            dead,
            loads,
            held,
            change,
            transfer,
        } = self;
        (first_index, dead, loads, ages.until(*heartbeat_deadline)).hash(hasher);
        for progress in progress {
            progress.digest(ages, hasher);
        }
        reads.digest(ages, hasher);
        held.as_ref().map(|held| held.digest(appended, hasher)).is_some().hash(hasher);
        change.as_ref().map(|change| change.digest(ages, hasher)).is_some().hash(hasher);
        transfer.as_ref().map(|transfer| transfer.digest(ages, hasher)).is_some().hash(hasher);
    }
}
