//! The clock of a shard, which its log carries: by it alone keys expire (P9).
//!
//! Seen from outside in three ways. It is never further than a clock can be that is as wrong as
//! clocks are made in this run. It is never further than what so many of the voters' clocks have
//! shown that one of them is the median: a few that are wrong don't move it. And a value with a
//! time to live goes no sooner than this clock says: the stamp of a write is not below any clock
//! that was applied before the write was asked for, and nobody is told that a value is gone
//! before the clock that ends it is applied somewhere. So the moment from which it may be gone is
//! known without any allowance for clocks that are wrong, or for how late nodes hear of each
//! other's.

use std::collections::BTreeMap;

use flotilla_shard::ShardId;

/// The owners of ranges of slots: first, last, shard.
pub(crate) type Owners = Vec<(u16, u16, ShardId)>;

/// A value with a time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mortal {
    /// Its key.
    pub(crate) key: String,
    /// The value, which no other write has.
    pub(crate) value: Vec<u8>,
    /// How long it lives, milliseconds.
    pub(crate) lives_ms: u64,
}

/// The clocks of all shards, and whoever waits for them.
#[derive(Debug, Default)]
pub(crate) struct ShardClocks {
    owners: Owners,
    applied: BTreeMap<ShardId, u64>,
    /// By the slot of their key: asked for before the owners of slots were known.
    early: Vec<(u16, Mortal)>,
    /// Asked for before their shard had a clock.
    unborn: BTreeMap<ShardId, Vec<Mortal>>,
    /// By the clock that ends each.
    waiting: BTreeMap<ShardId, BTreeMap<u64, Vec<Mortal>>>,
}

impl ShardClocks {
    /// The cluster is founded: who owns the slots. What is told later is the same.
    pub(crate) fn own(&mut self, owners: impl FnOnce() -> Owners) {
        if self.owners.is_empty() {
            self.owners = owners();
            for (slot, mortal) in std::mem::take(&mut self.early) {
                self.expect(slot, mortal);
            }
        }
    }

    /// A value is about to be written to a key of that slot.
    pub(crate) fn expect(&mut self, slot: u16, mortal: Mortal) {
        let owner = self.owners.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        match owner.map(|(_, _, shard)| (*shard, self.applied.get(shard))) {
            None => self.early.push((slot, mortal)),
            Some((shard, None)) => self.unborn.entry(shard).or_default().push(mortal),
            Some((shard, Some(clock))) => {
                let due = clock + mortal.lives_ms;
                self.waiting.entry(shard).or_default().entry(due).or_default().push(mortal);
            }
        }
    }

    /// Whether that clock is further than any that was applied in that shard before.
    pub(crate) fn is_news(&self, shard: ShardId, clock_ms: u64) -> bool {
        clock_ms > self.applied.get(&shard).copied().unwrap_or(0)
    }

    /// A replica has applied that clock; no clock can be beyond `furthest_ms`. Gives the values
    /// that may be gone from now on; the error says what is wrong.
    pub(crate) fn on_clock(
        &mut self,
        shard: ShardId,
        clock_ms: u64,
        furthest_ms: u64,
    ) -> Result<Vec<Mortal>, String> {
        if !self.is_news(shard, clock_ms) {
            return Ok(Vec::new());
        }
        self.applied.insert(shard, clock_ms);
        if clock_ms > furthest_ms {
            let ahead = clock_ms - furthest_ms;
            return Err(format!("its clock is {ahead} ms ahead of every clock there can be"));
        }
        // What was stamped before the first clock that is seen may be gone by that one: several
        // entries can be applied before anybody looks.
        let unborn = self.unborn.remove(&shard).unwrap_or_default();
        let waiting = self.waiting.entry(shard).or_default();
        let later = waiting.split_off(&(clock_ms + 1));
        let due = std::mem::replace(waiting, later);
        Ok(unborn.into_iter().chain(due.into_values().flatten()).collect())
    }
}

/// The furthest that the lower median of at least a quorum of clocks can be, if each voter's is no
/// further than given here: half of a quorum and one more must show as much.
pub(crate) fn furthest_median_ms(mut voters: Vec<u64>) -> u64 {
    voters.sort_unstable_by(|one, other| other.cmp(one));
    let quorum = voters.len() / 2 + 1;
    voters[quorum / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);
    const NEVER: u64 = u64::MAX;

    fn mortal(key: &str, lives_ms: u64) -> Mortal {
        Mortal { key: key.to_string(), value: b"v".to_vec(), lives_ms }
    }

    fn due(clocks: &mut ShardClocks, clock_ms: u64) -> Vec<String> {
        let due = clocks.on_clock(SHARD, clock_ms, NEVER).expect("no clock is too far");
        due.into_iter().map(|mortal| mortal.key).collect()
    }

    #[test]
    fn a_value_may_be_gone_when_its_shards_clock_has_passed_its_life() {
        let mut clocks = ShardClocks::default();
        clocks.own(|| vec![(0, 99, SHARD), (100, 16_383, ShardId(2))]);
        assert_eq!(due(&mut clocks, 1_000), [""; 0]);
        clocks.expect(7, mortal("a", 50));
        clocks.expect(100, mortal("of another shard", 1));
        assert_eq!(due(&mut clocks, 1_049), [""; 0]);
        clocks.expect(7, mortal("b", 1));
        assert_eq!(due(&mut clocks, 1_050), ["a", "b"]);
        assert_eq!(due(&mut clocks, 2_000), [""; 0], "once");
    }

    #[test]
    fn from_when_lives_what_is_asked_for_before_there_is_a_clock_nobody_knows() {
        let mut clocks = ShardClocks::default();
        clocks.expect(7, mortal("before the founding", 10));
        clocks.own(|| vec![(0, 16_383, SHARD)]);
        clocks.expect(7, mortal("before the first entry", 20));
        assert_eq!(due(&mut clocks, 500), ["before the founding", "before the first entry"]);
    }

    #[test]
    fn a_clock_beyond_all_others_is_noticed() {
        let mut clocks = ShardClocks::default();
        assert!(clocks.on_clock(SHARD, 1_000, 1_000).is_ok());
        assert!(clocks.on_clock(SHARD, 1_001, 1_000).is_err());
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_move_the_median_by_itself() {
        let furthest = |voters: &[u64]| furthest_median_ms(voters.to_vec());
        assert_eq!(furthest(&[7]), 7);
        assert_eq!(furthest(&[7, 900]), 7, "of an even number the lower one");
        assert_eq!(furthest(&[7, 900, 3]), 7);
        assert_eq!(furthest(&[7, 900, 3, 950]), 900, "the two of three that are known");
        assert_eq!(furthest(&[7, 900, 3, 950, 990, 995, 2]), 950);
    }
}
