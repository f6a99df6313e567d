//! Slot ownership: at every moment each slot belongs to one shard, all nodes that know the same
//! epoch of the map agree on it, and an epoch never goes back on a node (P1, P14).

use std::collections::BTreeMap;

use flotilla_node::{ShardStatus, Status};

/// The number of slots.
const SLOTS: u32 = 16_384;

/// Who owns what, by epoch of the map.
#[derive(Debug, Default)]
pub(crate) struct SlotOwnership {
    maps: BTreeMap<u64, Vec<(u32, Ranges)>>,
    epochs: BTreeMap<usize, u64>,
}

type Ranges = Vec<(u16, u16)>;

impl SlotOwnership {
    /// What a node says about the cluster. True if there was a map to be judged.
    pub(crate) fn check(&mut self, node: usize, status: &Status) -> Result<bool, String> {
        if status.shards.iter().all(|shard| shard.ranges.is_empty()) {
            return Ok(false);
        }
        let epoch = self.epochs.entry(node).or_insert(status.epoch);
        if status.epoch < *epoch {
            return Err(format!("its map went from epoch {epoch} to {}", status.epoch));
        }
        *epoch = status.epoch;
        let owners = |shard: &ShardStatus| (shard.id, shard.ranges.clone());
        let map: Vec<(u32, Ranges)> = status.shards.iter().map(owners).collect();
        partition(&map)?;
        let known = self.maps.entry(status.epoch).or_insert_with(|| map.clone());
        if *known != map {
            return Err(format!("its map of epoch {} is not that of others", status.epoch));
        }
        Ok(true)
    }
}

/// Every slot has one owner.
fn partition(map: &[(u32, Ranges)]) -> Result<(), String> {
    let mut ranges: Vec<(u16, u16)> = map.iter().flat_map(|(_, ranges)| ranges.clone()).collect();
    ranges.sort_unstable();
    let mut next = 0;
    for (first, last) in ranges {
        if u32::from(first) != next {
            return Err(format!("slot {next} or {first} has not one owner"));
        }
        next = u32::from(last) + 1;
    }
    if next == SLOTS { Ok(()) } else { Err(format!("slot {next} has no owner")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(epoch: u64, shards: &[&[(u16, u16)]]) -> Status {
        let shards = shards.iter().enumerate().map(|(at, ranges)| ShardStatus {
            id: at as u32,
            ranges: ranges.to_vec(),
            ..ShardStatus::default()
        });
        Status { epoch, shards: shards.collect(), ..Status::default() }
    }

    #[test]
    fn a_map_is_a_partition_and_the_same_everywhere() {
        let mut slots = SlotOwnership::default();
        let whole = status(3, &[&[], &[(0, 99)], &[(100, 16_383)]]);
        assert_eq!(slots.check(0, &status(0, &[&[]])), Ok(false));
        assert_eq!(slots.check(0, &whole), Ok(true));
        assert_eq!(slots.check(1, &whole), Ok(true));
        assert!(slots.check(1, &status(3, &[&[], &[(0, 98)], &[(99, 16_383)]])).is_err());
        assert!(slots.check(0, &status(2, &[&[(0, 16_383)]])).is_err());
        for wrong in [&[(0, 9), (11, 16_383)][..], &[(0, 9), (9, 16_383)], &[(0, 16_382)]] {
            assert!(slots.check(2, &status(9, &[wrong])).is_err(), "{wrong:?}");
        }
    }
}
