//! Properties of the ring, the planner and the parser under arbitrary input.

use std::collections::BTreeMap;

use flotilla_shard::{
    FoundingRecord, Layout, Ring, SLOTS, ShardId, Slot, SlotMap, StorageId, partitions, plan,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn weights() -> impl Strategy<Value = Vec<(ShardId, u32)>> {
    btree_map((1_u32..40).prop_map(ShardId), 1_u32..9, 1..12)
        .prop_map(|weights| weights.into_iter().collect())
}

/// How many slots must change hands at least: what each shard has above its share.
fn least(before: &SlotMap, after: &SlotMap) -> u32 {
    let after = after.slot_counts();
    let above = |(shard, slots): (ShardId, u16)| {
        u32::from(slots.saturating_sub(after.get(&shard).copied().unwrap_or(0)))
    };
    before.slot_counts().into_iter().map(above).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_members_keeps_shares_exact_and_movement_least(
        history in vec(weights(), 1..6),
    ) {
        let mut previous: Option<SlotMap> = None;
        let mut largest = 0;
        for shards in history {
            let map = plan(&shards, previous.as_ref());
            prop_assert!(map.is_complete());
            let total: u32 = shards.iter().map(|&(_, weight)| weight).sum();
            let counts = map.slot_counts();
            for &(shard, weight) in &shards {
                let exact = f64::from(SLOTS) * f64::from(weight) / f64::from(total);
                prop_assert!((f64::from(counts[&shard]) - exact).abs() < 1.0);
            }
            if let Some(previous) = &previous {
                let moved: u32 =
                    previous.changes(&map).iter().map(|run| u32::from(run.slots())).sum();
                prop_assert_eq!(moved, least(previous, &map));
            }
            // Slots that may not move can't be joined, so the largest cluster so far is the
            // measure.
            largest = largest.max(total);
            prop_assert!(map.ranges().len() <= 2 * 16 * largest as usize);
            let text = serde_json::to_string(&map).expect("JSON");
            prop_assert_eq!(&serde_json::from_str::<SlotMap>(&text).expect("reads back"), &map);
            previous = Some(map);
        }
    }

    #[test]
    fn the_ring_agrees_with_a_search_over_all_members(
        members in btree_map("[a-z]{1,3}", 1_u32..4, 1..6),
        gone in any::<prop::sample::Index>(),
        slot in (0..SLOTS).prop_map(Slot),
    ) {
        let ring = |members: &BTreeMap<String, u32>| {
            let mut ring = Ring::new();
            for (name, &weight) in members {
                ring.add_node(name, weight).expect("a new name");
            }
            ring
        };
        let whole = ring(&members);
        let gone = members.keys().nth(gone.index(members.len())).expect("in bounds").clone();
        let mut fewer = members.clone();
        fewer.remove(&gone);
        let mut removed = whole.clone();
        removed.remove_node(&gone);
        prop_assert_eq!(&removed, &ring(&fewer));
        let owner = whole.node_for_slot(slot).expect("members");
        if owner != gone {
            prop_assert_eq!(removed.node_for_slot(slot), Some(owner));
        }
    }

    #[test]
    fn no_text_panics_the_parser(text in "[\\[\\]'\", 0-9.:é\n]{0,40}") {
        if let Ok(lists) = partitions::parse(&text) {
            prop_assert_eq!(partitions::parse(&format!("{lists:?}")), Ok(lists));
        }
    }

    #[test]
    fn lists_are_read_as_they_were_written(
        ports in vec(vec(1_u16..u16::MAX, 1..4), 1..4),
    ) {
        let lists: Vec<Vec<String>> = ports
            .iter()
            .enumerate()
            .map(|(list, ports)| {
                let address = |(node, port)| format!("10.0.{list}.{node}:{port}");
                ports.iter().enumerate().map(address).collect()
            })
            .collect();
        let json = serde_json::to_string_pretty(&lists).expect("JSON");
        prop_assert_eq!(partitions::parse(&json), Ok(lists.clone()));
        prop_assert_eq!(partitions::parse(&json.replace('"', "'")), Ok(lists));
    }

    #[test]
    fn no_bytes_panic_the_founding_record(
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let lists = [vec!["127.0.0.1:1".to_owned()], vec!["127.0.0.1:2".to_owned()]];
        let layout = Layout::from_lists(&lists).expect("valid");
        let record = FoundingRecord::build(layout, vec![StorageId([1; 16]), StorageId([2; 16])]);
        let mut bytes = record.encode();
        prop_assert!(FoundingRecord::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let flipped = flip.index(bytes.len());
        let same = bytes[flipped] == byte;
        bytes[flipped] = byte;
        if let Ok(read) = FoundingRecord::decode(&bytes) {
            prop_assert_eq!(read.cluster_id() == record.cluster_id(), same || read == record);
        }
    }
}
