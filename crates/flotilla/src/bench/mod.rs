//! `flotilla bench`: how many requests a second, how long they take, and what they cost.
//!
//! One thread drives all connections in a closed loop ([`generator`]). Whatever is measured against
//! each other is measured in turns in the same run, since what a machine gives changes from one
//! minute to the next; the CPU time per operation changes least.
//!
//! Numbers of a server whose acknowledgements do not outlast a loss of power are shown, and called
//! not to be quoted, with everything else that speaks against them.

mod generator;
mod histogram;
mod options;
mod processes;
mod replies;
mod report;
mod requests;
mod system;
mod yardstick;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use generator::{Generator, Until};
use processes::Sample;
use report::{Report, Row};
use requests::Requests;
use system::System;
use yardstick::Yardstick;

pub(crate) use options::Bench;

/// Before anything is measured, keys are set on connections of this number and pipeline.
const FILL_CONNECTIONS: usize = 16;
/// As [`FILL_CONNECTIONS`]; fewer if values are large.
const FILL_PIPELINE: usize = 64;
/// Bytes of values that a connection may have under way while keys are set.
const FILL_BYTES: usize = 256 << 10;

/// Runs the verb.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let interrupted = interruption()?;
    let mut systems = vec![System::look_at(&bench.at, &bench.pids)?];
    let yardstick = bench.vs_redis.then(|| Yardstick::start(&bench.redis_data)).transpose()?;
    if let Some(yardstick) = &yardstick {
        systems.push(yardstick.system()?);
    }
    for system in &systems {
        fill(bench, system, &interrupted)
            .with_context(|| format!("setting the keys in {}", system.name))?;
    }
    let mut results = Vec::new();
    for (at, &read_share) in bench.read_shares().iter().enumerate() {
        results.extend(measure(bench, &systems, read_share, at, &interrupted)?);
    }
    let report = Report::new(bench, &systems, results);
    let mut out = std::io::stdout().lock();
    if bench.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", report.for_people())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A flag that a signal sets. What is cleaned up on the way out is so also then.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .context("can't listen to signals")?;
    }
    Ok(flag)
}

/// Sets every key once.
fn fill(bench: &Bench, system: &System, interrupted: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let pipeline = (FILL_BYTES / bench.value_bytes.max(1)).clamp(1, FILL_PIPELINE);
    let mut generator =
        Generator::connect(&system.targets, FILL_CONNECTIONS, pipeline, interrupted)?;
    let mut requests = Requests::fill(bench.keys, bench.value_bytes);
    let tally = generator.run(&mut requests, Until::Replies(bench.keys))?;
    if let Some(trouble) = tally.first_trouble {
        anyhow::bail!(trouble);
    }
    generator.finish()
}

/// The median runs of all systems under one workload. Systems take turns, A B B A …, so that a
/// machine that grows slower is no system's advantage.
fn measure(
    bench: &Bench,
    systems: &[System],
    read_share: f64,
    workload: usize,
    interrupted: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<Row>> {
    let mut runs: Vec<Vec<Row>> = vec![Vec::new(); systems.len()];
    for round in 0..bench.rounds {
        let mut turns: Vec<usize> = (0..systems.len()).collect();
        if (round + workload) % 2 == 1 {
            turns.reverse();
        }
        for at in turns {
            // Every system gets the same requests, and every round others.
            let seed = ((workload as u64) << 32) | round as u64;
            let row = measure_once(bench, &systems[at], read_share, seed, interrupted)
                .with_context(|| format!("measuring {}", systems[at].name))?;
            runs[at].push(row);
        }
    }
    let mut rows: Vec<Row> = runs.iter().map(|runs| Row::median(runs)).collect();
    if let [ours, redis] = &mut rows[..] {
        ours.ratio_to_redis = Some(median_ratio(&ours.rounds, &redis.rounds));
    }
    Ok(rows)
}

fn measure_once(
    bench: &Bench,
    system: &System,
    read_share: f64,
    seed: u64,
    interrupted: &Arc<AtomicBool>,
) -> anyhow::Result<Row> {
    let mut generator =
        Generator::connect(&system.targets, bench.connections, bench.pipeline, interrupted)?;
    let mut requests = Requests::random(bench.keys, bench.value_bytes, read_share, seed);
    let warmup = Until::Elapsed(Duration::from_secs_f64(bench.warmup));
    generator.run(&mut requests, warmup)?;
    let before = Sample::take(&system.pids);
    let tally = generator.run(&mut requests, bench.until())?;
    let after = Sample::take(&system.pids);
    generator.finish()?;
    Ok(Row::new(system, read_share, tally, (before, after)))
}

/// The median of the ratios of two rows' rounds.
fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let mut ratios: Vec<f64> =
        ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[(ratios.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        assert!((median_ratio(&[2.0, 10.0, 3.0], &[1.0, 10.0, 2.0]) - 1.5).abs() < 1e-9);
    }
}
