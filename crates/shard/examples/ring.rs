//! The consistent-hash ring by itself, and what the planner makes of it.
//!
//! Run it with `cargo run -p flotilla-shard --example ring`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flotilla_shard::{Ring, RingError, SLOTS, ShardId, Slot, SlotChange, SlotMap, plan, slot_of};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    ring(&mut out)?;
    planned(&mut out)
}

/// Nodes come and go; only the keys of the node that comes or goes change place.
fn ring(out: &mut impl Write) -> io::Result<()> {
    let keys: Vec<String> = (0..10_000).map(|number| format!("key:{number}")).collect();
    let mut ring = filled(&["ant", "bee", "cat"]).expect("the names differ");
    let before = owners(&ring, &keys);
    show(out, "three nodes on a bare ring", &before)?;

    ring.add_node("dog", 1).expect("a new name");
    let after = owners(&ring, &keys);
    show(out, "and a fourth", &after)?;
    let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
    writeln!(out, "  {moved} of {} keys moved, all of them to dog", keys.len())?;

    ring.remove_node("dog");
    assert_eq!(owners(&ring, &keys), before, "without dog everything is as it was");
    Ok(())
}

fn filled(names: &[&str]) -> Result<Ring, RingError> {
    let mut ring = Ring::new();
    for name in names {
        ring.add_node(name, 1)?;
    }
    Ok(ring)
}

fn owners(ring: &Ring, keys: &[String]) -> Vec<String> {
    let owner = |key: &String| ring.node_for_key(key.as_bytes()).expect("the ring has members");
    keys.iter().map(|key| owner(key).to_owned()).collect()
}

fn show(out: &mut impl Write, title: &str, owners: &[String]) -> io::Result<()> {
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(owner).or_insert(0_usize) += 1;
    }
    writeln!(out, "{title}: {counts:?}")
}

/// The planner evens the ring out: every shard gets its exact share of the slots.
fn planned(out: &mut impl Write) -> io::Result<()> {
    let shards: Vec<(ShardId, u32)> = (1..=4).map(|shard| (ShardId(shard), 1)).collect();
    let three = plan(&shards[..3], None);
    let four = plan(&shards, Some(&three));
    describe(out, "three shards", &three)?;
    describe(out, "four shards", &four)?;
    let moved: u16 = three.changes(&four).iter().map(SlotChange::slots).sum();
    writeln!(out, "  {moved} of {SLOTS} slots move, the least that is possible")?;
    let slot: Slot = slot_of(b"cart:7");
    let owner = four.owner(slot).expect("every slot has an owner");
    writeln!(out, "cart:7 is in slot {slot}, which shard {owner} owns")
}

fn describe(out: &mut impl Write, title: &str, map: &SlotMap) -> io::Result<()> {
    let counts = map.slot_counts();
    writeln!(out, "{title} in {} ranges: {:?}", map.ranges().len(), counts.values())
}
