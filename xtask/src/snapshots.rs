//! `cargo xtask snapshots`: what snapshots cost clients, memory and disk, with real processes.
//!
//! *Latency*: three nodes with one shard of so much data; clients overwrite random keys, each after
//! the last reply. The latencies while some node writes a snapshot are set beside the others, and
//! what memory grows by meanwhile beside the data.
//!
//! *Disk*: keys are overwritten so many times, with all nodes there, with a follower that lags or
//! is dead, and beside a shard without its quorum. Whatever the directories have at any time must
//! be within bounds.

mod disk;
mod load;
pub(crate) mod nodes;

use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use self::disk::Case;
use self::load::{Keys, Sample};
use self::nodes::{Moment, Nodes};
use crate::{cargo, root, shown};

/// Length of a value, bytes.
pub(crate) const VALUE_BYTES: u64 = 1_000;
/// p99 while a snapshot is written may be so many times what it is otherwise.
const RATIO_MAX: f64 = 1.5;
/// Memory may grow by this part of the data while a snapshot is written, percent.
const MEMORY_PERCENT_MAX: u64 = 10;
/// Snapshots that a measurement of latencies waits for, and the longest it takes.
const SNAPSHOTS_MIN: usize = 2;
const MEASURED_MAX: Duration = Duration::from_mins(2);

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    disk: bool,
    megabytes: NonZeroU64,
    overwrites: NonZeroU64,
    cases: Vec<Case>,
    data: PathBuf,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let number = |value: &str| value.parse::<NonZeroU64>().context("a number above 0");
        let (what, rest) = arguments.split_first().context("latency or disk?")?;
        let disk = match what.as_str() {
            "latency" => false,
            "disk" => true,
            _ => bail!("'{what}' is neither latency nor disk"),
        };
        let default = if disk { 64 } else { 1_024 };
        let megabytes = NonZeroU64::new(default).context("it is above 0")?;
        let overwrites = NonZeroU64::new(100).context("it is above 0")?;
        let (cases, data) = (Case::ALL.to_vec(), std::env::temp_dir());
        let mut options = Self { disk, megabytes, overwrites, cases, data };
        for pair in rest.chunks(2) {
            match pair {
                [name, value] if name == "--megabytes" => options.megabytes = number(value)?,
                [name, value] if name == "--overwrites" => options.overwrites = number(value)?,
                [name, value] if name == "--case" => {
                    options.cases.retain(|case| case.name() == value);
                    ensure!(!options.cases.is_empty(), "there is no case '{value}'");
                }
                [name, value] if name == "--data" => options.data = PathBuf::from(value),
                _ => bail!("'{}' is not understood: try `cargo xtask help`", pair.join(" ")),
            }
        }
        Ok(options)
    }
}

/// Measures, prints, and fails where a bound is broken.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut build = cargo("build --release --package flotilla");
    let name = shown(&build);
    ensure!(build.status().with_context(|| format!("can't run {name}"))?.success(), "{name}");
    let directory = options.data.join(format!("flotilla-snapshots-{}", std::process::id()));
    std::fs::create_dir_all(&directory).context("the directory for data")?;
    let outcome =
        if options.disk { disk(options, &directory) } else { latency(options, &directory) };
    std::fs::remove_dir_all(&directory).context("the directory for data")?;
    outcome
}

/// The binary that was built.
pub(crate) fn program() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release").join("flotilla")
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("stdout")
}

fn latency(options: &Options, directory: &Path) -> anyhow::Result<()> {
    let data = options.megabytes.get() << 20;
    let nodes = Nodes::start(&program(), directory, &[&[1, 2, 3]])?;
    let keys = Keys::all(data / VALUE_BYTES);
    load::fill(&Nodes::addresses(&[1, 2, 3]), &keys, 1)?;
    nodes.wait_for_rest()?;
    let (samples, moments) =
        load::measure(&nodes, &keys, MEASURED_MAX, |seen| snapshots_of(seen) >= SNAPSHOTS_MIN)?;
    let meanwhile = |sample: &&Sample| nodes::is_writing_at(&moments, sample.at);
    let (with, without): (Vec<&Sample>, Vec<&Sample>) = samples.iter().partition(meanwhile);
    let mut p99 = [0.0; 2];
    for (place, (name, samples)) in
        [("without", without), ("while a snapshot is written", with)].into_iter().enumerate()
    {
        let mut micros: Vec<u64> = samples.iter().map(|sample| sample.micros).collect();
        micros.sort_unstable();
        let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied();
        let of = |part| at(part).context("too few requests were measured");
        p99[place] = of(0.99)? as f64;
        let (median, p999) = (of(0.5)?, of(0.999)?);
        say(&format!(
            "{name}: {} SETs, median {median} µs, p99 {} µs, p99.9 {p999} µs",
            micros.len(),
            p99[place]
        ))?;
    }
    let ratio = p99[1] / p99[0];
    let grown = nodes::memory_growth(&moments);
    let snapshots = snapshots_of(&moments);
    say(&format!(
        "{snapshots} snapshots of {} MB: p99 is {ratio:.2} times as long; memory grew by {} MB at \
         most, {} MB of it the log's entries",
        options.megabytes,
        grown.total >> 20,
        grown.log >> 20
    ))?;
    ensure!(snapshots >= SNAPSHOTS_MIN, "too few snapshots were written");
    ensure!(ratio <= RATIO_MAX, "p99 is above {RATIO_MAX} times");
    let extra = grown.total.saturating_sub(grown.log);
    ensure!(extra <= data * MEMORY_PERCENT_MAX / 100, "memory grew by too much");
    Ok(())
}

/// How many times some node has begun to write a snapshot.
fn snapshots_of(moments: &[Moment]) -> usize {
    moments.windows(2).filter(|pair| pair[1].writes_any() && !pair[0].writes_any()).count()
}

fn disk(options: &Options, directory: &Path) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for case in &options.cases {
        let directory = directory.join(case.name());
        std::fs::create_dir(&directory).context("the directory of a case")?;
        broken.extend(disk::measure(*case, options, &directory)?);
        std::fs::remove_dir_all(&directory).context("the directory of a case")?;
    }
    ensure!(broken.is_empty(), "too much was on disk: {}", broken.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> anyhow::Result<Options> {
        Options::parse(&crate::arguments_of(words))
    }

    #[test]
    fn options_have_defaults() {
        assert_eq!(parsed(&["latency"]).expect("a verb").megabytes.get(), 1_024);
        let disk = parsed(&["disk", "--megabytes", "8", "--overwrites", "10"]).expect("options");
        assert_eq!((disk.megabytes.get(), disk.overwrites.get()), (8, 10));
        assert_eq!(disk.cases, Case::ALL);
        assert_eq!(parsed(&["disk", "--case", "lags"]).expect("options").cases, [Case::Lags]);
        for wrong in [&[][..], &["both"], &["disk", "--megabytes"], &["disk", "--case", "all"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
