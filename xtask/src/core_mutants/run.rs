//! Runs the tests once for every change, until one of them fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::cpu;
use crate::joined::VARIABLE;

/// A test binary that computes for so many microseconds hangs: all together take two seconds.
const CPU_MAX: u64 = 8_000_000;
/// One that waits for longer than this does too, however busy the machine is.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Seeds of the random test, for each change.
const SEEDS: &str = "30";

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A test failed.
    Caught,
    /// A test did not end.
    Hangs,
    /// All tests passed.
    Missed,
}

/// Runs `tests` from `folder` for each change of these numbers, on all cores.
pub(super) fn hunt(
    folder: &Path,
    tests: &[PathBuf],
    mutants: &[usize],
) -> anyhow::Result<BTreeMap<usize, Outcome>> {
    let mut timed = Vec::new();
    for test in tests {
        let began = Instant::now();
        if run(folder, test, None) != Outcome::Missed {
            bail!("{} fails without any change", test.display());
        }
        timed.push((began.elapsed(), test));
    }
    timed.sort();
    let tests: Vec<&PathBuf> = timed.into_iter().map(|(_, test)| test).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&id) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = of_change(folder, &tests, id);
                    let mut outcomes = outcomes.lock().expect("no thread panics with the lock");
                    outcomes.insert(id, outcome);
                    if outcomes.len() % 100 == 0 {
                        eprintln!("{} of {} changes tried", outcomes.len(), mutants.len());
                    }
                }
            });
        }
    });
    Ok(outcomes.into_inner().expect("all threads have ended"))
}

fn of_change(folder: &Path, tests: &[&PathBuf], id: usize) -> Outcome {
    let outcomes = tests.iter().map(|test| run(folder, test, Some(id)));
    outcomes.into_iter().find(|outcome| *outcome != Outcome::Missed).unwrap_or(Outcome::Missed)
}

/// One test binary with one change.
fn run(folder: &Path, test: &Path, id: Option<usize>) -> Outcome {
    let mut command = Command::new(test);
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    command.env(VARIABLE, id.map_or(0, |id| id + 1).to_string()).env("RAFT_SEEDS", SEEDS);
    let mut child = command.spawn().expect("the test was built just now");
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is a child of this process") {
            return if status.success() { Outcome::Missed } else { Outcome::Caught };
        }
        if began.elapsed() > WAIT_MAX || cpu::of_process(child.id()) > CPU_MAX {
            let _ = child.kill();
            let _ = child.wait();
            return Outcome::Hangs;
        }
        thread::sleep(LOOK_EVERY);
    }
}
