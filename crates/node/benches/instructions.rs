//! SETs for callgrind to count: `cargo xtask instructions` runs this and reads what was counted.
//!
//! The turns of interest pass through [`measured_on_leader`] and [`measured_on_follower`]: with
//! these names callgrind is told when to count, and by them it tells the nodes apart. Allocator and
//! profile are those of the server.
#![expect(clippy::print_stdout, reason = "xtask reads how many commands were measured")]

mod three_nodes;

use std::hint::black_box;

use three_nodes::{Keys, Load, Placing, ThreeNodes, unmeasured};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns of 32 before it is measured, once the keys are there.
const WARM_UP_TURNS: u64 = 64;
/// Turns of 32 that are measured.
const TURNS: u64 = 512;

#[inline(never)]
fn measured_on_leader(turn: &mut dyn FnMut()) {
    turn();
    // Without a difference between the two, the linker may make one of them.
    black_box("leader");
}

#[inline(never)]
fn measured_on_follower(turn: &mut dyn FnMut()) {
    turn();
    black_box("follower");
}

fn main() {
    let placing = Placing::of_arguments();
    let mut cluster = ThreeNodes::new(placing);
    let keys = cluster.fill(placing);
    let mut load = Load::new(Keys::Overwritten, keys, placing);
    for _ in 0..WARM_UP_TURNS {
        cluster.round(&mut load, &mut unmeasured);
    }
    let leader = cluster.leader();
    let mut commands = 0;
    for _ in 0..TURNS {
        commands += cluster.round(&mut load, &mut |at, turn| {
            if at == leader { measured_on_leader(turn) } else { measured_on_follower(turn) }
        });
    }
    println!("commands {commands}");
}
