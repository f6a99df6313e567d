//! `cargo xtask sim-speed`: how much simulated time one core makes in a second.
//!
//! Always the same mix, so that numbers of different days can be compared: three nodes with one
//! shard, all else drawn as in a swarm, faults included, and a little more than the 50 operations
//! per simulated second that a run needs to count. Measured is CPU time, so that it matters little
//! what else the machine does.
#![expect(clippy::print_stdout, reason = "what was measured is what was asked for")]

use anyhow::bail;

use crate::sim_many::{Options, build, run_workers};

/// The family of scenarios whose speed is quoted.
const FAMILY: &str = "speed";
/// As many runs as even out what chance makes of a few.
const SEEDS: &str = "0..200";

/// `sim-speed [--seeds A..B] [--least N]`: fails if a run fails, or below `N` cluster-seconds of
/// busy runs per core-second.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut least = 0;
    let mut others = vec!["--seeds".to_owned(), SEEDS.to_owned()];
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(value) = words.next() else { bail!("{word} needs a value") };
        match word.as_str() {
            "--least" => least = value.parse()?,
            "--seeds" => others[1].clone_from(value),
            _ => bail!("'{word}' is not understood: try `cargo xtask help`"),
        }
    }
    let mut options = Options::parse(&others)?;
    (options.jobs, options.family) = (1, Some(FAMILY.to_owned()));
    let sum = run_workers(&build(true)?, &options, options.first());
    let counters = &sum.counters;
    let seconds = |micros: u64| micros as f64 / 1e6;
    let per_second = |count: u64| count as f64 / seconds(counters.micros.max(1));
    let faults: u64 = counters.faults.iter().sum();
    println!("{:>34} {:>10}", "runs", sum.seeds);
    println!("{:>34} {:>10.0}", "cluster-seconds", seconds(counters.micros));
    println!("{:>34} {:>10.0}", "of busy runs", seconds(counters.busy_micros));
    println!("{:>34} {:>10.1}", "operations per cluster-second", per_second(counters.completed));
    println!("{:>34} {:>10.1}", "events per cluster-second", per_second(counters.events));
    println!("{:>34} {:>10.2}", "faults per cluster-second", per_second(faults));
    println!("{:>34} {:>10.1}", "core-seconds", sum.core_seconds());
    let busy = sum.per_core_second(counters.busy_micros);
    println!("{:>34} {:>10}", "cluster-s per core-second", sum.per_core_second(counters.micros));
    println!("{:>34} {busy:>10}", "of busy runs");
    if let Some((seed, why)) = sum.failures.first_key_value() {
        bail!("{} runs have failed, the first with seed {seed}: {why}", sum.failures.len());
    }
    if busy < least {
        bail!("{busy} cluster-seconds of busy runs per core-second, {least} are wanted");
    }
    Ok(())
}
