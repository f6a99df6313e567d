//! The numbers a host may set: timeouts and the limits of every queue.

use crate::{ReplicaId, Time};

/// What one [`crate::Raft`] is told once. All durations are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub id: ReplicaId,
    /// The least silence of a leader after which a voter campaigns, µs; the actual timeout is
    /// drawn anew each time, uniformly from `[election_timeout, 2 × election_timeout)`
    /// [Raft §5.2]. Must not be 0.
    pub election_timeout: u64,
    /// How often a leader tells its followers that it lives, µs; well below `election_timeout`.
    pub heartbeat_interval: u64,
    /// Entries of one append stop at this many bytes; a single larger entry goes alone.
    pub max_message_bytes: usize,
    /// Appends with entries that may be unanswered per follower.
    pub max_inflight_messages: usize,
    /// Bytes of entries that may be unanswered per follower; one append may exceed it.
    pub max_inflight_bytes: usize,
    /// A leader refuses proposals as long as more than this is uncommitted, bytes.
    pub max_uncommitted_bytes: usize,
    /// A leader refuses proposals as long as more than this is not on its own disk, bytes.
    pub max_undurable_bytes: usize,
    /// How much of what a snapshot covers already a leader keeps in memory for followers that are
    /// alive and need it, bytes.
    pub max_trailing_bytes: usize,
    /// A leader whose host has made a snapshot keeps the log under it as long as a follower that is
    /// alive needs more of it than memory has, but not beyond so many new bytes. 0 for a host that
    /// wants the log gone at once.
    pub max_held_bytes: usize,
    /// How much of what is applied and durable stays in memory, bytes; what followers need beyond
    /// comes back by [`crate::Effect::Load`]. `usize::MAX` for a host that can't load.
    pub max_window_bytes: usize,
    /// A leader whose host ends no write, or applies nothing, for longer than this although there
    /// is something to do, hands over, µs.
    pub stall_timeout: u64,
    /// The host sends heartbeats for all its groups together ([`crate::host`]).
    pub shares_heartbeats: bool,
    /// Campaign at once if this replica has never seen a term: so founding spreads leaders.
    pub campaign_at_start: bool,
    /// The seed of the jitter; mixed with `id`, so replicas may share it. It differs at each start
    /// of a replica, if followers serve reads: it also names this start's requests.
    pub seed: u64,
}

impl Config {
    /// The defaults for replica `id`: for nodes in one data centre, with disks that sync in
    /// milliseconds at worst.
    pub fn new(id: ReplicaId, seed: u64) -> Self {
        Self {
            id,
            election_timeout: 250_000,
            heartbeat_interval: 50_000,
            max_message_bytes: 128 << 10,
            max_inflight_messages: 256,
            max_inflight_bytes: 8 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_undurable_bytes: 32 << 20,
            max_trailing_bytes: 4 << 20,
            max_held_bytes: 64 << 20,
            max_window_bytes: usize::MAX,
            stall_timeout: 1_000_000,
            shares_heartbeats: false,
            campaign_at_start: false,
            seed,
        }
    }

    /// Panics if a number makes no sense, since that is the host's programming error.
    pub(crate) fn validate(&self) {
        assert!(self.election_timeout > 0, "an election timeout is above 0");
        assert!(
            self.heartbeat_interval > 0 && self.heartbeat_interval < self.election_timeout,
            "a leader is heard within an election timeout"
        );
        assert!(self.max_inflight_messages > 0, "one append may be in flight");
    }
}

/// `PeerGone` of the leader makes a voter ask for pre-votes within this time, µs. The jitter keeps
/// voters that lost the same leader from splitting the vote.
pub(crate) const PEER_GONE_DELAY_MAX: u64 = 20_000;

/// Jitter: splitmix64. Its quality needs only be good enough to break ties.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream that differs per replica also where all have the same seed.
    pub(crate) fn new(seed: u64, id: ReplicaId) -> Self {
        let mut stream = Self(id.0);
        let salt = stream.next();
        Self(seed ^ salt)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`, near enough; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// When a timer set at `now` fires, given the least timeout.
    pub(crate) fn election_deadline(&mut self, now: Time, election_timeout: u64) -> Time {
        now + election_timeout + self.below(election_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_with_one_seed_draw_different_timeouts() {
        let draw = |id| Random::new(7, ReplicaId(id)).election_deadline(Time(0), 1_000_000);
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(2), draw(3));
    }

    #[test]
    fn a_timeout_is_between_one_and_two() {
        let mut random = Random::new(1, ReplicaId(1));
        for _ in 0..1000 {
            let deadline = random.election_deadline(Time(5), 100);
            assert!((Time(105)..Time(205)).contains(&deadline));
        }
    }
}
