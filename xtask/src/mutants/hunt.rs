//! One mutant after the other, until a run fails or its time is over.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;

use super::worker::ENDLESS_SECONDS;
use crate::cpu;
use crate::joined::VARIABLE;

/// The signal for too much CPU time.
const SIGXCPU: i32 = 24;

/// No more letters of a reason are shown while the hunt goes on.
const REASON_MAX: usize = 200;

/// What is to be hunted, and how.
pub(super) struct Prey {
    /// Its number among the changes of the joined tree.
    pub(super) number: usize,
    /// Where its seeds come from.
    pub(super) base: u64,
    /// Its hint.
    pub(super) family: Option<String>,
    /// How much CPU time it may live for, microseconds.
    pub(super) budget: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Runs, with the one that has failed.
    pub(super) runs: u64,
    /// Their virtual time.
    pub(super) micros: u64,
    /// Their CPU time, microseconds.
    pub(super) cpu: u64,
    /// What caught it.
    pub(super) caught: Option<Catch>,
    /// Seeds that fail without it too, which must not be.
    pub(super) alarms: Vec<Catch>,
}

/// A run that has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catch {
    /// Which of the seeds.
    pub(super) number: u64,
    /// The seed.
    pub(super) seed: u64,
    /// Its family.
    pub(super) family: String,
    /// Why it has failed.
    pub(super) reason: String,
}

impl fmt::Display for Catch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason: String = self.reason.chars().take(REASON_MAX).collect();
        write!(f, "seed {} ({}): {reason}", self.seed, self.family)
    }
}

/// Hunts all of `prey` by `program`, so many at a time; `ended` hears of each.
pub(super) fn hunt(
    program: &Path,
    prey: &[Prey],
    jobs: usize,
    ended: impl Fn(usize, &Outcome) + Sync,
) -> anyhow::Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![Outcome::default(); prey.len()]);
    let hunter = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = prey.get(at) else { return Ok(()) };
            let outcome = hunt_one(program, one)?;
            ended(at, &outcome);
            outcomes.lock().expect("no thread panics with the lock")[at] = outcome;
        }
    };
    thread::scope(|scope| {
        let hunters: Vec<_> = (0..jobs).map(|_| scope.spawn(hunter)).collect();
        let ended = hunters.into_iter().map(|hunter| hunter.join().expect("it does not panic"));
        ended.collect::<anyhow::Result<Vec<()>>>()
    })?;
    Ok(outcomes.into_inner().expect("all threads have ended"))
}

fn hunt_one(program: &Path, prey: &Prey) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut next = 0;
    while outcome.cpu < prey.budget {
        let left = prey.budget - outcome.cpu;
        let heard = work(program, prey, prey.number + 1, next, left)?;
        outcome.runs += heard.runs;
        outcome.micros += heard.micros;
        outcome.cpu += heard.cpu;
        let Some(failed) = heard.failed else { break };
        next = failed.number + 1;
        // A seed that fails without the mutant says nothing about it.
        if work(program, prey, 0, failed.number, 0)?.failed.is_some() {
            outcome.alarms.push(failed);
        } else {
            outcome.caught = Some(failed);
            break;
        }
    }
    Ok(outcome)
}

/// What a worker has said.
#[derive(Debug, Default)]
struct Heard {
    runs: u64,
    micros: u64,
    cpu: u64,
    running: Option<Catch>,
    failed: Option<Catch>,
}

/// A worker with this change on, from a seed on.
fn work(program: &Path, prey: &Prey, on: usize, from: u64, budget: u64) -> anyhow::Result<Heard> {
    let mut child = Command::new(program)
        .arg("mutants-worker")
        .args([prey.base, from, budget].map(|number| number.to_string()))
        .args(&prey.family)
        .env(VARIABLE, on.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("can't run {}", program.display()))?;
    let output = child.stdout.take().context("its output was asked for")?;
    let mut heard = Heard::default();
    for line in BufReader::new(output).split(b'\n') {
        heard.line(&String::from_utf8_lossy(&line?));
    }
    heard.cpu = cpu::of_process(child.id());
    heard.ended(child.wait()?)?;
    Ok(heard)
}

impl Heard {
    fn line(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (verb, number, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
        let number: u64 = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        match verb {
            Some("begin") => {
                self.runs += 1;
                let (seed, family) = rest.split_once(' ').unwrap_or_default();
                let (seed, family) = (seed.parse().unwrap_or(0), family.to_owned());
                self.running = Some(Catch { number, seed, family, reason: String::new() });
            }
            Some("ok") => {
                self.micros += number;
                self.running = None;
            }
            Some("failed") => {
                self.micros += number;
                let running = self.running.take().unwrap_or_default();
                self.failed = Some(Catch { reason: rest.to_owned(), ..running });
            }
            // Nodes say things too.
            _ => {}
        }
    }

    /// A process that dies within a run has failed in it.
    fn ended(&mut self, status: ExitStatus) -> anyhow::Result<()> {
        if status.success() {
            return Ok(());
        }
        let running = self.running.take();
        let running = running.with_context(|| format!("a worker has ended with {status}"))?;
        let reason = match status.signal() {
            Some(SIGXCPU) => format!("no end: the run took more than {ENDLESS_SECONDS} s"),
            _ => format!("the process has ended: {status}"),
        };
        self.failed = Some(Catch { reason, ..running });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_a_worker() {
        let mut heard = Heard::default();
        for line in ["begin 3 77 votes", "ok 500", "noise", "begin 4 78 one node"] {
            heard.line(line);
        }
        let running =
            Catch { number: 4, seed: 78, family: "one node".to_owned(), ..Catch::default() };
        assert_eq!((heard.runs, heard.micros, heard.running.as_ref()), (2, 500, Some(&running)));
        heard.line("failed 7 it is wrong");
        assert_eq!(heard.failed, Some(Catch { reason: "it is wrong".to_owned(), ..running }));
        heard.ended(ExitStatus::from_raw(0)).expect("it ended well");
    }

    #[test]
    fn a_worker_that_dies_has_failed() {
        let mut heard = Heard::default();
        assert!(heard.ended(ExitStatus::from_raw(SIGXCPU)).is_err());
        heard.line("begin 4 78 one node");
        heard.ended(ExitStatus::from_raw(SIGXCPU)).expect("a run was begun");
        assert!(heard.failed.expect("it has failed").reason.starts_with("no end"));
    }
}
