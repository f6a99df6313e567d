//! How often a SET asks for memory on its way, by node: `cargo xtask allocations` runs this.
//!
//! An allocator that counts stands in the place of the server's. One that grows what it gave counts
//! as an allocation too. What the table of a replica asks for itself, for the entry of a new key
//! and for its places, is measured on a table alone, and told beside it.
#![expect(clippy::print_stdout, reason = "what was counted is what was asked for")]

mod three_nodes;

use std::alloc::System;

use flotilla_kv::Keyspace;
use flotilla_shard::slot_of;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use three_nodes::{Keys, Load, NODES, Placing, ThreeNodes, unmeasured};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Turns of 32 before each measure.
const WARM_UP_TURNS: u64 = 64;
/// Turns of 32 that are measured.
const TURNS: u64 = 512;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    times: u64,
    bytes: u64,
}

impl Asked {
    /// Adds what `work` asks for.
    fn count(&mut self, work: &mut dyn FnMut()) {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        self.times += (change.allocations + change.reallocations) as u64;
        self.bytes += change.bytes_allocated as u64;
    }

    fn tell(self, keys: Keys, who: &str, commands: u64) {
        let keys = match keys {
            Keys::Overwritten => "overwritten",
            Keys::New => "new",
        };
        let per_command = |count: u64| count as f64 / commands as f64;
        let (times, bytes) = (per_command(self.times), per_command(self.bytes));
        println!("{keys} {who} {times:.3} {bytes:.1}");
    }
}

fn main() {
    let placing = Placing::of_arguments();
    let mut cluster = ThreeNodes::new(placing);
    let there = cluster.fill(placing);
    let mut table = Keyspace::new(1);
    let mut filling = Load::new(Keys::New, 0, placing);
    (0..there).for_each(|_| set(&mut table, &mut filling));
    for keys in [Keys::Overwritten, Keys::New] {
        let (mut load, mut same) =
            (Load::new(keys, there, placing), Load::new(keys, there, placing));
        for _ in 0..WARM_UP_TURNS {
            let commands = cluster.round(&mut load, &mut unmeasured);
            (0..commands).for_each(|_| set(&mut table, &mut same));
        }
        let (mut by_node, mut of_table) = ([Asked::default(); NODES], Asked::default());
        let mut commands = 0;
        for _ in 0..TURNS {
            commands += cluster.round(&mut load, &mut |at, turn| by_node[at].count(turn));
        }
        of_table.count(&mut || (0..commands).for_each(|_| set(&mut table, &mut same)));
        for (at, asked) in by_node.into_iter().enumerate() {
            let who = if at == cluster.leader() { "leader" } else { "follower" };
            asked.tell(keys, who, commands);
        }
        of_table.tell(keys, "table", commands);
    }
}

/// A SET of the load, on a table alone.
fn set(table: &mut Keyspace, load: &mut Load) {
    let (key, value) = (load.next_key(), load.next_value());
    table.set(slot_of(&key), &key, &value, None);
}
