//! `cargo xtask bench-vs raft`: the consensus core beside the published crates `raft` and
//! `openraft`, on the same work (`bench-peers/`, a workspace of its own).
//!
//! Builds it, runs it, and prints what was measured as a table in Markdown, with the machine and
//! the date. Systems take turns, so what else the machine does hits all of them; the CPU time is
//! the figure to quote, since the wall time counts that as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::{cargo, root, shown};

/// Whom all others are compared with.
const YARDSTICK: &str = "raft";

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    rounds: u32,
}

impl Options {
    /// Reads the arguments after `bench-vs raft`.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let rounds = match &*words {
            [] => 15,
            ["--rounds", rounds] => rounds.parse().context("--rounds is a number")?,
            _ => bail!("bench-vs raft takes: [--rounds N]"),
        };
        ensure!(rounds > 0, "a median needs a round");
        Ok(Self { rounds })
    }
}

/// Measures, and prints the table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let peers = root().join("bench-peers");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(peers.join("target"), PathBuf::from);
    let mut build = cargo("build --release --locked");
    build.current_dir(&peers).env("CARGO_TARGET_DIR", &target);
    ensure!(build.status()?.success(), "{} has failed", shown(&build));
    let load_before = load()?;
    let mut bench = Command::new(target.join("release").join("bench-peers"));
    bench.args(["raft", &options.rounds.to_string()]).stderr(Stdio::inherit());
    let output = bench.output().context("bench-peers")?;
    ensure!(output.status.success(), "bench-peers has failed ({})", output.status);
    let measured = Measured::parse(&String::from_utf8(output.stdout)?)?;
    let versions = versions(&fs::read_to_string(peers.join("Cargo.lock"))?);
    write!(
        std::io::stdout(),
        "{}\n{}; {}; medians of {} rounds (least to most); load average {load_before} before, {} \
         after.\n",
        measured.table(),
        machine()?,
        versions.join(", "),
        options.rounds,
        load()?,
    )?;
    Ok(())
}

/// Nanoseconds per commit of one work and one system, a pair of wall and CPU time for each round.
type Samples = Vec<(f64, f64)>;

/// What was measured, by work and system in the order in which they came first.
struct Measured {
    works: Vec<String>,
    systems: Vec<String>,
    samples: BTreeMap<(String, String), Samples>,
}

impl Measured {
    /// Reads what `bench-peers` prints.
    fn parse(lines: &str) -> anyhow::Result<Self> {
        let mut measured =
            Self { works: Vec::new(), systems: Vec::new(), samples: BTreeMap::new() };
        for line in lines.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [work, system, commits, wall, cpu] = *fields else { bail!("not a row: {line}") };
            let number = |text: &str| text.parse::<f64>().with_context(|| line.to_owned());
            let (commits, wall, cpu) = (number(commits)?, number(wall)?, number(cpu)?);
            for (name, known) in [(work, &mut measured.works), (system, &mut measured.systems)] {
                if !known.iter().any(|one| one == name) {
                    known.push(name.to_owned());
                }
            }
            let samples = measured.samples.entry((work.to_owned(), system.to_owned()));
            samples.or_default().push((wall / commits, cpu / commits));
        }
        Ok(measured)
    }

    fn table(&self) -> String {
        let mut out = "| µs per commit, three replicas | CPU | wall | CPU ÷ raft |\n\
                       |---|--:|--:|--:|\n"
            .to_owned();
        for work in &self.works {
            let _ = writeln!(out, "| **{work}** ||||");
            let yardstick = self.spread(work, YARDSTICK, |(_, cpu)| cpu);
            for system in &self.systems {
                let Some(cpu) = self.spread(work, system, |(_, cpu)| cpu) else { continue };
                let Some(wall) = self.spread(work, system, |(wall, _)| wall) else { continue };
                let ratio = yardstick
                    .as_ref()
                    .map_or_else(String::new, |other| format!("{:.2}", cpu.median / other.median));
                let _ = writeln!(out, "| {system} | {cpu} | {wall} | {ratio} |");
            }
        }
        out
    }

    fn spread(&self, work: &str, system: &str, pick: fn((f64, f64)) -> f64) -> Option<Spread> {
        let samples = self.samples.get(&(work.to_owned(), system.to_owned()))?;
        let mut values: Vec<f64> = samples.iter().copied().map(pick).collect();
        values.sort_by(f64::total_cmp);
        Some(Spread {
            least: *values.first()?,
            median: *values.get(values.len() / 2)?,
            most: *values.last()?,
        })
    }
}

/// Nanoseconds.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [least, median, most] = [self.least, self.median, self.most].map(|n| n / 1_000.0);
        write!(f, "{median:.2} ({least:.2} to {most:.2})")
    }
}

/// The peers with their versions, from the lock file.
fn versions(lock: &str) -> Vec<String> {
    let version_of = |package: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
        let (version, _) = rest.split_once('"')?;
        Some(format!("{package} {version}"))
    };
    ["raft", "openraft", "tokio"].into_iter().filter_map(version_of).collect()
}

/// The machine and the date.
pub(super) fn machine() -> anyhow::Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let names = processors.lines().filter_map(|line| line.strip_prefix("model name"));
    let names: Vec<&str> = names.map(|name| name.trim_start_matches([' ', '\t', ':'])).collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's name")?;
    let date = Command::new("date").args(["-u", "+%F"]).output().context("date")?;
    Ok(format!(
        "{} × {}, Linux {}, {}",
        names.len(),
        names.first().unwrap_or(&"an unknown processor"),
        kernel.trim(),
        String::from_utf8_lossy(&date.stdout).trim(),
    ))
}

/// How many tasks wanted to run in the last minute, on average.
pub(super) fn load() -> anyhow::Result<String> {
    let load = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    Ok(load.split(' ').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_medians_and_ratios() {
        let row = |work, system, wall, cpu| format!("{work}\t{system}\t1000\t{wall}\t{cpu}\n");
        let mut lines = String::new();
        for (ours, theirs) in [(900_000, 3_000_000), (1_100_000, 4_000_000), (5_000_000, 1_000)] {
            lines += &row("one", "flotilla-raft", 2 * ours, ours);
            lines += &row("one", "raft", 2 * theirs, theirs);
        }
        let table = Measured::parse(&lines).expect("they are rows").table();
        let expected = "| **one** ||||\n\
             | flotilla-raft | 1.10 (0.90 to 5.00) | 2.20 (1.80 to 10.00) | 0.37 |\n\
             | raft | 3.00 (0.00 to 4.00) | 6.00 (0.00 to 8.00) | 1.00 |\n";
        assert!(table.ends_with(expected), "{table}");
        assert!(Measured::parse("one\tflotilla-raft\t1000\t1\n").is_err());
        assert!(Measured::parse("one\tflotilla-raft\tmany\t1\t1\n").is_err());
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"openraft\"\nversion = \"0.9.1\"\n\n\
                    [[package]]\nname = \"raft\"\nversion = \"0.7.0\"\n";
        assert_eq!(versions(lock), ["raft 0.7.0", "openraft 0.9.1"]);
        let checked_in = fs::read_to_string(root().join("bench-peers/Cargo.lock"));
        assert_eq!(versions(&checked_in.expect("it is checked in")).len(), 3);
    }

    #[test]
    fn rounds_may_be_given() {
        let parse = |text: &str| {
            Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(parse("").expect("it is right"), Options { rounds: 15 });
        assert_eq!(parse("--rounds 3").expect("it is right"), Options { rounds: 3 });
        for wrong in ["redis", "--rounds", "--rounds 0", "--seconds 3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
