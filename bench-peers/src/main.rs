//! Three replicas of one group in one process: Flotilla's consensus core beside `raft` (raft-rs)
//! and `openraft`, on the same work. `cargo xtask bench-vs raft` builds and runs this and makes a
//! table of what it prints.
//!
//! A group commits payloads one at a time, or in batches: all of a batch are proposed, in one call
//! or in a call each, then the group runs until every replica has applied them; then the next.
//! Storage and network are function calls: what is written is kept in memory and durable at once,
//! messages are handed over. There is no compaction, so that at the end every replica's log is seen
//! to hold every payload. One thread does all of it; the figures are for the three replicas
//! together.
//!
//! What is printed, a line for each group that was measured, separated by tabs: the work, the
//! system, commits, wall time and CPU time, both in nanoseconds.

mod open_raft;
mod ours;
mod raft_rs;
mod work;

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use work::{Calls, Group, Work};

/// The flotilla binary's allocator. Everybody is faster with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured, once per system and round.
const WORKS: [(&str, Work); 3] = [
    ("one at a time", Work { batches: 20_000, batch_size: 1, calls: Calls::One }),
    ("128, one call", Work { batches: 400, batch_size: 128, calls: Calls::One }),
    ("128, a call each", Work { batches: 400, batch_size: 128, calls: Calls::Each }),
];

/// A system under test: its name and how one of its groups is measured.
type System = (&'static str, fn(Work) -> Measured);

const SYSTEMS: [System; 3] = [
    ("flotilla-raft", measure::<ours::Cluster>),
    ("raft", measure::<raft_rs::Cluster>),
    ("openraft", measure::<open_raft::Cluster>),
];

/// What one group took for its work.
struct Measured {
    wall: Duration,
    cpu: Duration,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["raft", rounds, only @ ..] = &*words else {
        bail!("usage: bench-peers raft <rounds> [<the only system to measure> [<the only work>]]")
    };
    let rounds = rounds.parse::<usize>().context("a number of rounds")?;
    let is_wanted = |at: usize, name: &str| only.get(at).is_none_or(|only| *only == name);
    let mut systems = SYSTEMS.to_vec();
    systems.retain(|(name, _)| is_wanted(0, name));
    let mut works = WORKS.to_vec();
    works.retain(|(name, _)| is_wanted(1, name));
    ensure!(!systems.is_empty() && !works.is_empty(), "there is no such system or work");
    for _ in 0..rounds {
        for &(what, work) in &works {
            for (system, measure) in &systems {
                let Measured { wall, cpu } = measure(work);
                let (commits, wall, cpu) = (work.commits(), wall.as_nanos(), cpu.as_nanos());
                println!("{what}\t{system}\t{commits}\t{wall}\t{cpu}");
            }
        }
        // Whoever came after another does so in turns.
        systems.rotate_left(1);
    }
    Ok(())
}

/// Founds a group, measures it at its work, and looks whether the work was done.
fn measure<G: Group>(work: Work) -> Measured {
    let mut group = G::elected();
    let (wall, cpu) = (Instant::now(), cpu_time());
    group.run(work);
    let measured = Measured { wall: wall.elapsed(), cpu: cpu_time().saturating_sub(cpu) };
    group.check(work);
    measured
}

/// What this process has used of its processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("a process has not used less than nothing");
    let nanos = u32::try_from(time.tv_nsec).expect("a second has fewer nanoseconds than 2^32");
    Duration::new(seconds, nanos)
}
