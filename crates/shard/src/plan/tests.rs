//! Tests of the planner: exact shares, least movement, few ranges, and maps that never change.

use sha2::{Digest, Sha256};

use super::*;
use crate::TOKENS_PER_WEIGHT;

fn equal(count: u32) -> Vec<(ShardId, u32)> {
    (1..=count).map(|shard| (ShardId(shard), 1)).collect()
}

fn moved(from: &SlotMap, to: &SlotMap) -> u32 {
    from.changes(to).iter().map(|run| u32::from(run.slots())).sum()
}

#[track_caller]
fn check_shares(map: &SlotMap, shards: &[(ShardId, u32)]) {
    assert!(map.is_complete());
    let total: u32 = shards.iter().map(|&(_, weight)| weight).sum();
    let counts = map.slot_counts();
    for &(shard, weight) in shards {
        let owned = f64::from(counts.get(&shard).copied().unwrap_or(0));
        let share = f64::from(SLOTS) * f64::from(weight) / f64::from(total);
        assert!((owned - share).abs() < 1.0, "shard {shard}: {owned} slots, share {share}");
    }
}

#[track_caller]
fn check_ranges(map: &SlotMap, tokens: u32) {
    assert!(map.ranges().len() <= 2 * tokens as usize, "{} ranges", map.ranges().len());
}

#[test]
fn shares_are_exact_and_ranges_few() {
    for count in 1..=64 {
        let map = plan(&equal(count), None);
        check_shares(&map, &equal(count));
        check_ranges(&map, TOKENS_PER_WEIGHT * count);
        let largest = map.slot_counts().into_values().max().expect("shards");
        let mean = f64::from(SLOTS) / f64::from(count);
        assert!(f64::from(largest) / mean <= 1.01, "{count} shards: {largest} slots");
        assert_eq!(map.epoch(), 1);
    }
}

#[test]
fn the_first_map_shifts_the_fewest_slots() {
    for count in [2, 3, 7, 64] {
        let weights = equal(count).into_iter().collect();
        let proposed = proposal(&weights);
        let bare = SlotMap::from_owners(0, |slot| proposed[usize::from(slot.0)]);
        let map = plan(&equal(count), None);
        let (before, after) = (bare.slot_counts(), map.slot_counts());
        let above =
            |(shard, &slots): (&ShardId, &u16)| u32::from(slots.saturating_sub(after[shard]));
        assert_eq!(moved(&bare, &map), before.iter().map(above).sum::<u32>());
    }
}

#[test]
fn growing_and_shrinking_move_the_least_and_keep_ranges_few() {
    let mut map = plan(&equal(1), None);
    for count in (2..=64).chain((1..64).rev()) {
        let next = plan(&equal(count), Some(&map));
        let before = map.slot_counts().len() as u32;
        let least = u32::from(SLOTS) / before.max(count);
        assert!(moved(&map, &next).abs_diff(least) <= 1, "{before} to {count} shards");
        check_shares(&next, &equal(count));
        check_ranges(&next, TOKENS_PER_WEIGHT * count);
        assert_eq!(next.epoch(), map.epoch() + 1);
        map = next;
    }
}

#[test]
fn adding_or_removing_any_one_moves_the_least() {
    for count in 2..=64 {
        let map = plan(&equal(count), None);
        let more = plan(&equal(count + 1), Some(&map));
        assert!(moved(&map, &more).abs_diff(u32::from(SLOTS) / (count + 1)) <= 1);
        assert_eq!(moved(&map, &more), u32::from(more.slot_counts()[&ShardId(count + 1)]));
        check_ranges(&more, TOKENS_PER_WEIGHT * (count + 1));
        // All of them up to 16; of more, the first, the last, and some between.
        for gone in (1..=count).filter(|gone| count <= 16 || gone % 21 == count % 21) {
            let rest: Vec<_> =
                equal(count).into_iter().filter(|one| one.0 != ShardId(gone)).collect();
            let less = plan(&rest, Some(&map));
            assert_eq!(moved(&map, &less), u32::from(map.slot_counts()[&ShardId(gone)]));
            check_shares(&less, &rest);
            check_ranges(&less, TOKENS_PER_WEIGHT * (count - 1));
        }
    }
}

#[test]
fn weights_are_respected() {
    let shards = [(ShardId(1), 1), (ShardId(2), 2), (ShardId(5), 5), (ShardId(9), 0)];
    let map = plan(&shards, None);
    check_shares(&map, &shards);
    assert_eq!(map.ranges_of(ShardId(9)), []);
    let tenfold = shards.map(|(shard, weight)| (shard, weight * 10));
    assert_eq!(plan(&tenfold, None), map);
    let large = [(ShardId(1), MAX_WEIGHT), (ShardId(2), 1)];
    check_shares(&plan(&large, Some(&map)), &large);
}

#[test]
fn a_map_that_is_right_already_stays() {
    let map = plan(&equal(5), None);
    assert_eq!(plan(&equal(5), Some(&map)), map);
}

#[test]
fn slots_without_an_owner_get_one() {
    let hole = SlotMap::from_owners(4, |slot| (slot.0 > 999).then_some(ShardId(1)));
    let map = plan(&equal(2), Some(&hole));
    check_shares(&map, &equal(2));
    assert_eq!(map.epoch(), 5);
    assert_eq!(moved(&hole, &map), 8192);
    let nobody = plan(&[(ShardId(1), 0)], Some(&hole));
    assert_eq!(nobody.ranges(), []);
}

#[test]
fn adding_or_removing_a_weight_moves_the_least() {
    let shards = [(ShardId(1), 1), (ShardId(2), 2), (ShardId(3), 3)];
    let six = plan(&shards, None);
    let ten = plan(&[&shards[..], &[(ShardId(4), 4)]].concat(), Some(&six));
    assert!(moved(&six, &ten).abs_diff(u32::from(SLOTS) * 4 / 10) <= 1);
    let without_two = [shards[0], shards[2]];
    let four = plan(&without_two, Some(&six));
    assert_eq!(moved(&six, &four), u32::from(six.slot_counts()[&ShardId(2)]));
    check_shares(&four, &without_two);
}

#[test]
fn maps_are_the_same_in_every_version() {
    let ranges = |map: &SlotMap| -> Vec<(u16, u16, u32)> {
        map.ranges().iter().map(|&(first, last, shard)| (first.0, last.0, shard.0)).collect()
    };
    assert_eq!(ranges(&plan(&equal(1), None)), [(0, 16383, 1)]);
    let two = [
        (0, 1342, 2),
        (1343, 2451, 1),
        (2452, 4000, 2),
        (4001, 10584, 1),
        (10585, 13700, 2),
        (13701, 14199, 1),
        (14200, 16383, 2),
    ];
    assert_eq!(ranges(&plan(&equal(2), None)), two);
    let mut digest = Sha256::new();
    for count in [3, 5, 16, 64] {
        let map = plan(&equal(count), None);
        digest.update(serde_json::to_vec(&map).expect("JSON"));
        let more = plan(&equal(count + 1), Some(&map));
        digest.update(serde_json::to_vec(&more).expect("JSON"));
    }
    check_digest(digest, "6402dfe199c7764b498898882cd8c46e");
}

#[test]
fn maps_of_weights_and_after_removals_are_the_same_in_every_version() {
    let mut digest = Sha256::new();
    for count in [3, 5, 16, 64] {
        let weighted: Vec<_> = (1..=count).map(|shard| (ShardId(shard), shard % 4 + 1)).collect();
        let map = plan(&weighted, None);
        digest.update(serde_json::to_vec(&map).expect("JSON"));
        let rest: Vec<_> = weighted.into_iter().filter(|one| one.0 != ShardId(2)).collect();
        digest.update(serde_json::to_vec(&plan(&rest, Some(&map))).expect("JSON"));
    }
    check_digest(digest, "89f59a825aebc2324267dbfaf815111f");
}

#[track_caller]
fn check_digest(digest: Sha256, expected: &str) {
    let digest: [u8; 32] = digest.finalize().into();
    assert_eq!(crate::StorageId(*digest.first_chunk().expect("long enough")).to_string(), expected);
}
