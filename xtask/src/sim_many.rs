//! `cargo xtask sim-many`: the simulator with many seeds.
//!
//! The simulator's test binary is built once and started anew for each seed, as the command that
//! a failure prints does it. So a seed that fails here fails there, and a run that panics, hangs
//! on to memory or aborts takes no other with it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, bail};

use crate::{cargo, root, shown};

/// Of a run that failed so many of its last lines are shown.
const LINES_SHOWN: usize = 20;
/// Progress is told after so many seeds.
const TOLD_EVERY: u64 = 1_000;

/// Which seeds, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    seeds: Range<u64>,
    jobs: usize,
    release: bool,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let (mut seeds, mut release) = (None, false);
        let mut jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--seeds" => seeds = Some(range(value()?)?),
                "--jobs" => jobs = value()?.parse().context("--jobs is a number")?,
                "--release" => release = true,
                _ => bail!("'{word}' is not understood: try `cargo xtask help`"),
            }
        }
        let seeds = seeds.context("which seeds? For example --seeds 0..10000")?;
        if jobs == 0 {
            bail!("--jobs is at least 1");
        }
        Ok(Self { seeds, jobs, release })
    }
}

fn range(text: &str) -> anyhow::Result<Range<u64>> {
    let ends = text.split_once("..").and_then(|(first, end)| {
        let range: Range<u64> = first.parse().ok()?..end.parse().ok()?;
        (!range.is_empty()).then_some(range)
    });
    ends.with_context(|| format!("--seeds is A..B with A below B, not '{text}'"))
}

/// Runs every seed; an error names those that failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let program = build(options.release)?;
    let next = AtomicU64::new(options.seeds.start);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        return;
                    }
                    if let Err(text) = run_one(&program, seed) {
                        eprintln!("\nseed {seed} has failed:\n{text}\n  again: {}", again(seed));
                        failed.lock().expect("no thread panics with the lock").push(seed);
                    }
                    let done = seed + 1 - options.seeds.start;
                    if done.is_multiple_of(TOLD_EVERY) {
                        eprintln!("{done} of {} seeds", options.seeds.end - options.seeds.start);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("all threads have ended");
    failed.sort_unstable();
    let count = options.seeds.end - options.seeds.start;
    if !failed.is_empty() {
        bail!("{} of {count} seeds have failed: {failed:?}", failed.len());
    }
    eprintln!("{count} seeds, none has failed");
    Ok(())
}

/// The command that repeats one seed.
fn again(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test -p flotilla-sim --test seeds one_seed -- --nocapture")
}

/// Builds the simulator's tests and gives the path of the program.
fn build(release: bool) -> anyhow::Result<PathBuf> {
    let mut build =
        cargo("test --package flotilla-sim --test seeds --no-run --message-format json");
    if release {
        build.arg("--release");
    }
    let name = shown(&build);
    let output = build
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("can't run {name}"))?;
    if !output.status.success() {
        bail!("{name} has failed");
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{name} has named no program"))
}

/// The program that cargo's messages, a line of JSON each, name last.
fn executable(messages: &str) -> Option<PathBuf> {
    let named = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    };
    messages.lines().filter_map(named).next_back()
}

fn run_one(program: &Path, seed: u64) -> Result<(), String> {
    let output = Command::new(program)
        .current_dir(root().join("crates/sim"))
        .args(["--exact", "one_seed", "--include-ignored", "--nocapture"])
        .env("SIM_SEED", seed.to_string())
        .output()
        .map_err(|error| format!("can't run {}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A name that matches no test is a success to the test harness, and none to us.
    if output.status.success() && said.contains("1 passed") {
        return Ok(());
    }
    let text = said + String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    Err(lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn reads_its_arguments() {
        let options = parse("--seeds 5..9 --jobs 3 --release").expect("they are well formed");
        assert_eq!(options, Options { seeds: 5..9, jobs: 3, release: true });
        for wrong in ["", "--seeds", "--seeds 9..5", "--seeds 5", "--seeds 1..2 --jobs 0", "-x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn finds_the_program_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"executable\":\"/t/debug/deps/seeds-1\",\"fresh\":true}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/debug/deps/seeds-1")));
        assert_eq!(executable(""), None);
    }
}
