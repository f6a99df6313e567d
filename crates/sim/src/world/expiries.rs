//! Keys with a time to live: when each may be gone, and what is seen of that.

use flotilla_shard::{ShardId, slot_of};

use super::World;
use crate::check::shard_clock::{Mortal, Owners, furthest_median_ms};
use crate::clock::Clocks;
use crate::history::{Answer, Call, OperationId};
use crate::marks::Mark;

/// Nobody asks for an expiry, so it has no connection to keep the order of.
const NOBODY: u64 = u64::MAX;

impl World {
    /// A value with a time to live is about to be written.
    pub(crate) fn expect_expiry(&mut self, key: &str, value: &[u8], lives_ms: u64) {
        self.history.mortal(value, lives_ms * 1_000);
        let (key_name, value) = (key.to_string(), value.to_vec());
        let mortal = Mortal { key: key_name, value, lives_ms };
        self.shard_clocks.expect(slot_of(key.as_bytes()).0, mortal);
    }

    /// A node has been founded: from now on it is known who owns which slots.
    pub(crate) fn learn_owners(&mut self, at: usize) {
        let now = self.machines[at].clocks.read(self.now);
        let Some(process) = &self.machines[at].process else { return };
        self.shard_clocks.own(|| {
            let mut owners = Owners::new();
            for shard in process.node.status(now).shards {
                let ranges = shard.ranges.iter();
                owners.extend(ranges.map(|(first, last)| (*first, *last, ShardId(shard.id))));
            }
            owners
        });
    }

    /// A replica has applied a clock: what it ends may be gone from now on.
    pub(crate) fn see_clock(&mut self, at: usize, shard: ShardId, clock_ms: u64) {
        let (right, drift) = (Clocks::new(0, self.config.skew_ms as i64), self.config.drift_ppm);
        let reckoned = |at: &usize| self.machines[*at].clocks.furthest_ms(self.now, drift);
        let voters: Vec<u64> = self.checkers.voters[&shard].iter().map(reckoned).collect();
        let furthest = furthest_median_ms(voters).min(right.furthest_ms(self.now, drift));
        self.counters.clocks_checked += 1;
        match self.shard_clocks.on_clock(shard, clock_ms, furthest) {
            Ok(due) => {
                for Mortal { key, value, .. } in due {
                    self.history.invoke(&key, Call::Expire(value), self.now, NOBODY);
                }
            }
            Err(wrong) => self.fail(format!("node {} shard {shard}: {wrong}", at + 1)),
        }
    }

    /// A read of nothing where a value with a time was: its time was up.
    pub(crate) fn note_expiry(&mut self, id: OperationId, key: &str, answer: &Answer) {
        if key.starts_with('x') && *answer == Answer::Value(None) {
            let mut operations = self.history.operations(id).iter();
            if operations.any(|one| matches!(one.call, Call::Expire(_))) {
                self.counters.marks.reach(Mark::Expired);
            }
        }
    }
}
