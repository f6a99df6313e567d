//! The ways that are compared: each gives every slot an owner, knowing the members and, if it
//! cares, who owned the slots before.
//!
//! Sources: [Karger et al., STOC 1997] for the ring, [Thaler and Ravishankar, 1998] for rendezvous
//! hashing, [Lamping and Veach, 2014] for jump hash, [Eisenbud et al., NSDI 2016, §3.4] for Maglev.

use flotilla_shard::{Ring, ShardId, Slot, SlotMap, plan};

/// How many slots there are to be owned.
pub(super) const SLOTS: u16 = flotilla_shard::SLOTS;

/// A member, by its number.
pub(super) type Member = u32;

/// The owner of each slot, in the order of slots.
pub(super) type Owners = Vec<Member>;

/// A way to spread slots, and how it is drawn.
#[derive(Debug)]
pub(super) struct Scheme {
    /// As in the legend.
    pub(super) name: &'static str,
    /// From a palette that colour-blind people can tell apart.
    pub(super) colour: &'static str,
    /// The dashes of its line; none for a solid one.
    pub(super) dashes: &'static str,
    /// The owners, given the members in order and the owners before.
    pub(super) owners: fn(&[Member], Option<&Owners>) -> Owners,
}

/// All of them, ours first.
pub(super) static SCHEMES: [Scheme; 6] = [
    Scheme { name: "ring and planner", colour: "#000000", dashes: "", owners: planned },
    Scheme { name: "ring, 16 tokens", colour: "#d55e00", dashes: "", owners: ring_16 },
    Scheme { name: "ring, 160 tokens", colour: "#e69f00", dashes: "", owners: ring_160 },
    Scheme { name: "rendezvous", colour: "#009e73", dashes: "", owners: rendezvous },
    Scheme { name: "jump hash", colour: "#0072b2", dashes: "6 3", owners: jump },
    Scheme { name: "Maglev", colour: "#cc79a7", dashes: "2 3", owners: maglev },
];

fn planned(members: &[Member], before: Option<&Owners>) -> Owners {
    let shards: Vec<(ShardId, u32)> = members.iter().map(|&member| (ShardId(member), 1)).collect();
    let before = before.map(|owners| {
        SlotMap::from_owners(1, |slot| owners.get(usize::from(slot.0)).copied().map(ShardId))
    });
    let map = plan(&shards, before.as_ref());
    Slot::all().map(|slot| map.owner(slot).expect("a plan owns all slots").0).collect()
}

fn ring_16(members: &[Member], _before: Option<&Owners>) -> Owners {
    ring(members, 1)
}

fn ring_160(members: &[Member], _before: Option<&Owners>) -> Owners {
    ring(members, 10)
}

fn ring(members: &[Member], weight: u32) -> Owners {
    let mut ring = Ring::new();
    for member in members {
        ring.add_node(&member.to_string(), weight).expect("numbers differ");
    }
    let owner = |slot| ring.node_for_slot(slot).expect("there are members");
    Slot::all().map(|slot| owner(slot).parse().expect("names are numbers")).collect()
}

/// The slot's owner is who draws the highest lot for it.
fn rendezvous(members: &[Member], _before: Option<&Owners>) -> Owners {
    let seeds: Vec<(u64, Member)> =
        members.iter().map(|&member| (mixed(u64::from(member)), member)).collect();
    let lot = |slot: Slot, seed: u64| mixed(seed ^ u64::from(slot.0));
    let owner = |slot| seeds.iter().max_by_key(|(seed, _)| lot(slot, *seed));
    Slot::all().map(|slot| owner(slot).expect("there are members").1).collect()
}

/// Jump hash gives a position in the list of members.
fn jump(members: &[Member], _before: Option<&Owners>) -> Owners {
    Slot::all().map(|slot| members[bucket(mixed(u64::from(slot.0)), members.len())]).collect()
}

/// The algorithm as it is printed in the paper.
fn bucket(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0, 0);
    while next < buckets {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let divisor = ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / divisor)) as usize;
    }
    bucket
}

/// Maglev's table is the slots themselves: members take turns, each the first free slot of its own
/// permutation. With a power of two for a size, odd steps reach every slot.
fn maglev(members: &[Member], _before: Option<&Owners>) -> Owners {
    let mut turns: Vec<(Member, u16, u16)> = members
        .iter()
        .map(|&member| {
            let drawn = mixed(u64::from(member));
            (member, drawn as u16 % SLOTS, (drawn >> 16) as u16 | 1)
        })
        .collect();
    turns.sort_unstable();
    let mut table: Vec<Option<Member>> = vec![None; usize::from(SLOTS)];
    let mut free = table.len();
    for turn in (0..turns.len()).cycle().take(table.len()) {
        let (member, place, step) = &mut turns[turn];
        while table[usize::from(*place)].is_some() {
            *place = place.wrapping_add(*step) % SLOTS;
        }
        table[usize::from(*place)] = Some(*member);
        free -= 1;
    }
    assert!(free == 0, "every turn takes one slot");
    table.into_iter().map(|owner| owner.expect("all slots are taken")).collect()
}

/// A number that looks random, by the finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hash_is_the_published_one() {
        // Values of the reference implementation, as its ports quote them.
        let known = [(1, 1, 0), (42, 57, 43), (0xdead_10cc, 1, 0), (0xdead_10cc, 666, 361)];
        for (key, buckets, expected) in known {
            assert_eq!(bucket(key, buckets), expected, "{key} in {buckets}");
        }
        assert_eq!(bucket(256, 1024), 520);
    }

    #[test]
    fn newcomers_take_only_for_themselves_where_that_is_promised() {
        for scheme in SCHEMES.iter().filter(|scheme| scheme.name != "Maglev") {
            let before = (scheme.owners)(&[1, 2, 3], None);
            let after = (scheme.owners)(&[1, 2, 3, 4], Some(&before));
            let stays = before.iter().zip(&after).all(|(old, new)| old == new || *new == 4);
            assert!(stays, "{}", scheme.name);
        }
    }
}
