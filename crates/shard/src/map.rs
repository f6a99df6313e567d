//! The map: which shard owns which slot, in few ranges.
//!
//! Invariants: ranges ascend and don't overlap; neighbours with one owner are one range; META owns
//! nothing. So equal maps have equal ranges and one encoding. A map may leave slots without an
//! owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{META, SLOTS, ShardId, Slot};

/// Who owns which slot, at one epoch. Only the epoch and the ranges are serialised.
///
/// ```
/// use flotilla_shard::{ShardId, Slot, SlotMap};
///
/// let half = [(Slot(0), Slot(8191), ShardId(1)), (Slot(8192), Slot(16383), ShardId(2))];
/// let map = SlotMap::new(1, half.to_vec()).expect("the ranges ascend");
/// assert_eq!(map.owner(Slot(9000)), Some(ShardId(2)));
/// assert_eq!(map.ranges_of(ShardId(1)), [(Slot(0), Slot(8191))]);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Encoded", into = "Encoded")]
pub struct SlotMap {
    epoch: u64,
    ranges: Vec<(Slot, Slot, ShardId)>,
    /// The owner of each slot; META, which owns none, stands for "nobody".
    owners: Arc<[ShardId]>,
}

impl SlotMap {
    /// The map with these ranges, both ends included.
    pub fn new(epoch: u64, ranges: Vec<(Slot, Slot, ShardId)>) -> Result<Self, SlotMapError> {
        let mut owners: Arc<[ShardId]> = std::iter::repeat_n(META, usize::from(SLOTS)).collect();
        let table = Arc::get_mut(&mut owners).expect("nobody else has a new table");
        let mut merged: Vec<(Slot, Slot, ShardId)> = Vec::with_capacity(ranges.len());
        let mut free = 0;
        for (first, last, shard) in ranges {
            if first > last || last.0 >= SLOTS {
                return Err(SlotMapError::Bounds { first, last });
            }
            if first.0 < free {
                return Err(SlotMapError::Order { first, last });
            }
            if shard == META {
                return Err(SlotMapError::MetaOwns { first, last });
            }
            table[usize::from(first.0)..=usize::from(last.0)].fill(shard);
            match merged.last_mut() {
                Some((_, end, same)) if *same == shard && end.0 + 1 == first.0 => *end = last,
                _ => merged.push((first, last, shard)),
            }
            free = last.0 + 1;
        }
        Ok(Self { epoch, ranges: merged, owners })
    }

    /// The map in which `owner` names each slot's owner. Panics if that is META.
    pub fn from_owners(epoch: u64, mut owner: impl FnMut(Slot) -> Option<ShardId>) -> Self {
        let named = |slot| {
            let shard = owner(slot);
            assert!(shard != Some(META), "META owns no slot");
            shard.unwrap_or(META)
        };
        Self::from_table(epoch, Slot::all().map(named).collect())
    }

    fn from_table(epoch: u64, owners: Vec<ShardId>) -> Self {
        let mut ranges: Vec<(Slot, Slot, ShardId)> = Vec::new();
        for (slot, &shard) in Slot::all().zip(&owners).filter(|&(_, &shard)| shard != META) {
            match ranges.last_mut() {
                Some((_, last, same)) if *same == shard && last.0 + 1 == slot.0 => *last = slot,
                _ => ranges.push((slot, slot, shard)),
            }
        }
        Self { epoch, ranges, owners: owners.into() }
    }

    /// Rises with every change of the map.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The ranges of slots with an owner, both ends included, in order.
    pub fn ranges(&self) -> &[(Slot, Slot, ShardId)] {
        &self.ranges
    }

    /// The shard that owns `slot`, by one look into a table; `None` for nobody and above 16383.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.owners.get(usize::from(slot.0)).copied().filter(|&shard| shard != META)
    }

    /// The ranges of `shard`, both ends included, in order.
    pub fn ranges_of(&self, shard: ShardId) -> Vec<(Slot, Slot)> {
        let own = self.ranges.iter().filter(|range| range.2 == shard);
        own.map(|&(first, last, _)| (first, last)).collect()
    }

    /// How many slots each shard owns, of those that own any.
    pub fn slot_counts(&self) -> BTreeMap<ShardId, u16> {
        let mut counts = BTreeMap::new();
        for &(first, last, shard) in &self.ranges {
            *counts.entry(shard).or_insert(0) += last.0 - first.0 + 1;
        }
        counts
    }

    /// Whether every slot has an owner.
    pub fn is_complete(&self) -> bool {
        self.owners.iter().all(|&shard| shard != META)
    }

    /// What has to move to get from this map to `next`: ranges with owner before and after.
    pub fn changes(&self, next: &Self) -> Vec<SlotChange> {
        let mut changes: Vec<SlotChange> = Vec::new();
        for slot in Slot::all() {
            let (from, to) = (self.owner(slot), next.owner(slot));
            match changes.last_mut() {
                _ if from == to => {}
                Some(run) if (run.from, run.to) == (from, to) && run.last.0 + 1 == slot.0 => {
                    run.last = slot;
                }
                _ => changes.push(SlotChange { first: slot, last: slot, from, to }),
            }
        }
        changes
    }
}

impl PartialEq for SlotMap {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.ranges == other.ranges
    }
}

impl Eq for SlotMap {}

/// A run of slots, both ends included, whose owner differs between two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotChange {
    /// The first slot of the run.
    pub first: Slot,
    /// The last slot of the run.
    pub last: Slot,
    /// Who owned the run, if anybody.
    pub from: Option<ShardId>,
    /// Who will own it, if anybody.
    pub to: Option<ShardId>,
}

impl SlotChange {
    /// How many slots the run has.
    pub fn slots(&self) -> u16 {
        self.last.0 - self.first.0 + 1
    }
}

/// What is wrong with a list of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotMapError {
    /// The range is empty or ends above the last slot.
    #[error("slots {first} to {last} are not a range within 0 to 16383")]
    Bounds {
        /// Its first slot.
        first: Slot,
        /// Its last slot.
        last: Slot,
    },
    /// The range begins before the one in front of it ended.
    #[error("slots {first} to {last} overlap or precede the range before")]
    Order {
        /// Its first slot.
        first: Slot,
        /// Its last slot.
        last: Slot,
    },
    /// The range is given to META.
    #[error("slots {first} to {last} are given to shard 0, which owns none")]
    MetaOwns {
        /// Its first slot.
        first: Slot,
        /// Its last slot.
        last: Slot,
    },
}

/// What of a map is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    epoch: u64,
    ranges: Vec<(Slot, Slot, ShardId)>,
}

impl From<SlotMap> for Encoded {
    fn from(map: SlotMap) -> Self {
        Self { epoch: map.epoch, ranges: map.ranges }
    }
}

impl TryFrom<Encoded> for SlotMap {
    type Error = SlotMapError;

    fn try_from(encoded: Encoded) -> Result<Self, SlotMapError> {
        Self::new(encoded.epoch, encoded.ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u16, u16, u32)]) -> Result<SlotMap, SlotMapError> {
        let range = |&(first, last, shard)| (Slot(first), Slot(last), ShardId(shard));
        SlotMap::new(7, ranges.iter().map(range).collect())
    }

    #[test]
    fn neighbours_with_one_owner_are_one_range() {
        let parts = map(&[(0, 9, 1), (10, 19, 1), (30, 16383, 2)]).expect("valid");
        assert_eq!(parts, map(&[(0, 19, 1), (30, 16383, 2)]).expect("valid"));
        assert_eq!(parts.owner(Slot(19)), Some(ShardId(1)));
        assert_eq!(parts.owner(Slot(20)), None);
        assert_eq!(parts.owner(Slot(u16::MAX)), None);
        assert!(!parts.is_complete());
        assert_eq!(parts.slot_counts()[&ShardId(1)], 20);
    }

    #[test]
    fn wrong_ranges_are_refused_also_when_read() {
        let bounds = SlotMapError::Bounds { first: Slot(0), last: Slot(16384) };
        assert_eq!(map(&[(0, 16384, 1)]), Err(bounds));
        let order = SlotMapError::Order { first: Slot(5), last: Slot(6) };
        assert_eq!(map(&[(0, 5, 1), (5, 6, 2)]), Err(order));
        let meta = SlotMapError::MetaOwns { first: Slot(5), last: Slot(6) };
        assert_eq!(map(&[(5, 6, 0)]), Err(meta));
        let read: Result<SlotMap, _> = serde_json::from_str(r#"{"epoch":1,"ranges":[[9,3,1]]}"#);
        assert!(read.expect_err("refused").to_string().contains("slots 9 to 3"));
    }

    #[test]
    fn only_epoch_and_ranges_are_written() {
        let written = map(&[(0, 8191, 1), (8192, 16383, 2)]).expect("valid");
        let text = serde_json::to_string(&written).expect("JSON");
        assert_eq!(text, r#"{"epoch":7,"ranges":[[0,8191,1],[8192,16383,2]]}"#);
        assert_eq!(serde_json::from_str::<SlotMap>(&text).expect("reads back"), written);
    }

    #[test]
    fn changes_are_runs() {
        let before = map(&[(0, 99, 1), (100, 16383, 2)]).expect("valid");
        let after = map(&[(0, 49, 1), (50, 99, 3), (100, 16383, 2)]).expect("valid");
        let run = SlotChange {
            first: Slot(50),
            last: Slot(99),
            from: Some(ShardId(1)),
            to: Some(ShardId(3)),
        };
        assert_eq!(before.changes(&after), [run]);
        assert_eq!(run.slots(), 50);
        assert_eq!(before.changes(&before), []);
    }
}
