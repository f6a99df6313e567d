//! Many seeds, and one seed again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_sim::{
    Config, Counters, Failure, Fault, Listener, Mark, Report, family, lacking, run, run_seed,
    scenario,
};

/// How many seeds a normal test run takes; `SIM_SEEDS` changes it.
const SEEDS: u64 = 64;
/// So many threads share them.
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a seed stands for; `SIM_FAMILY` makes it a run of that family.
fn config_of(seed: u64) -> Config {
    match std::env::var("SIM_FAMILY") {
        Ok(name) => family(&name, seed),
        Err(_) => scenario(seed),
    }
}

/// Runs every seed of a range.
fn run_all(first: u64, count: u64) -> (Vec<Report>, Vec<Failure>) {
    let next = AtomicU64::new(first);
    let done = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..number("SIM_THREADS").unwrap_or(THREADS) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let outcome = run(seed, config_of(seed), None);
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
    for fault in Fault::ALL {
        println!("{fault:>20} {:>12}", sum.fault(fault));
    }
    let unreached: Vec<&str> = sum.marks.unreached().map(Mark::name).collect();
    println!("marks never reached: {unreached:?}");
    failures.sort_by_key(|failure| failure.seed);
    for failure in &failures {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} of {count} seeds failed: {}", failures.len(), failures[0]);
    let lacks = lacking(&sum, count);
    assert!(lacks.is_empty(), "not enough was seen:\n{}", lacks.join("\n"));
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
    match run(seed, config_of(seed), listener) {
        Ok(report) => {
            println!("seed {seed} ({}) went well: {:016x}", report.family, report.digest);
            for (name, value) in report.counters.named() {
                println!("{name:>20} {value:>12}");
            }
        }
        Err(failure) => panic!("{failure}"),
    }
}
