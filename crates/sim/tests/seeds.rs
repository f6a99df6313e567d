//! Many seeds, and one seed again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_sim::{Counters, Failure, Listener, Report, run, run_seed, scenario};

/// How many seeds a normal test run takes; `SIM_SEEDS` changes it.
const SEEDS: u64 = 300;
/// So many threads share them.
const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs every seed of a range.
fn run_all(first: u64, count: u64) -> (Vec<Report>, Vec<Failure>) {
    let next = AtomicU64::new(first);
    let done = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let outcome = run_seed(seed);
                    let mut done = done.lock().expect("no thread panics with it");
                    match outcome {
                        Ok(report) => done.0.push(report),
                        Err(failure) => done.1.push(failure),
                    }
                }
            });
        }
    });
    done.into_inner().expect("no thread panics with it")
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are the evidence")]
fn seeds_go_well_and_everything_was_seen() {
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let (reports, mut failures) = run_all(number("SIM_FIRST").unwrap_or(0), count);
    let mut sum = Counters::default();
    for report in &reports {
        sum.add(&report.counters);
    }
    for (name, value) in sum.named() {
        println!("{name:>20} {value:>12}");
    }
    failures.sort_by_key(|failure| failure.seed);
    for failure in &failures {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} of {count} seeds failed: {}", failures.len(), failures[0]);
    if count >= SEEDS {
        check_floors(&sum);
    }
}

/// A run that injects nothing proves nothing.
fn check_floors(sum: &Counters) {
    let floors = [
        ("completed", 50_000),
        ("reads", 15_000),
        ("unknown", 500),
        ("crashes", 1_000),
        ("founding_crashes", 50),
        ("leader_crashes", 300),
        ("power_losses", 50),
        ("torn_frames", 300),
        ("torn_files", 20),
        ("recovery_crashes", 100),
        ("lost_sectors", 300),
        ("halves", 50),
        ("isolations", 100),
        ("leader_isolations", 50),
        ("bridges", 40),
        ("one_way_cuts", 40),
        ("left_out", 60),
        ("resets", 200),
        ("client_resets", 50),
        ("dials_lost", 20),
        ("slow_links", 50),
        ("slow_disks", 50),
        ("disk_stalls", 20),
        ("pauses", 50),
        ("clock_jumps", 50),
        ("leader_changes", 500),
        ("snapshots_made", 500),
        ("snapshots_installed", 20),
        ("segments_recycled", 50),
        ("uncertain", 20),
        ("moved", 50),
        ("walked_away", 50),
        ("commits_checked", 100_000),
        ("states_compared", 50_000),
    ];
    let named = sum.named();
    for (name, floor) in floors {
        let (_, value) = named.iter().find(|(known, _)| *known == name).expect("it is a counter");
        assert!(*value >= floor, "{name}: {value} in all runs, at least {floor} are wanted");
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in [0, 1, 4, 5, 7, 8, 9] {
        assert_eq!(run_seed(seed), run_seed(seed), "seed {seed}");
    }
}

/// Replays `SIM_SEED`; with `SIM_TRACE=1` it tells the story.
#[test]
#[expect(clippy::print_stdout, reason = "somebody asked for the story")]
fn one_seed() {
    let Some(seed) = number("SIM_SEED") else { return };
    let listener: Option<Listener> =
        number("SIM_TRACE").map(|_| Box::new(|line: &str| println!("{line}")) as Listener);
    match run(seed, scenario(seed), listener) {
        Ok(report) => {
            println!("seed {seed} ({}) went well: {:016x}", report.family, report.digest);
            for (name, value) in report.counters.named() {
                println!("{name:>20} {value:>12}");
            }
        }
        Err(failure) => panic!("{failure}"),
    }
}
