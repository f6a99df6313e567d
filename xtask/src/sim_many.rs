//! `cargo xtask sim-many`: the simulator with many seeds, on all cores.
//!
//! This program is built once with the release profile and started once per core as a *worker*,
//! which runs every n-th seed and says a line about each. So a run that aborts or overflows its
//! stack takes no more with it than its worker, and the seed is known. What failed is made smaller,
//! and its script and its trace are written to `target/sim`.
#![expect(clippy::print_stdout, reason = "what a run has seen is what was asked for")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use flotilla_sim::{
    Counters, Fault, Mark, Script, family, lacking, run, scenario, shrink, trace_of,
};

use crate::{cargo, cpu, root, shown, target};

/// The ledger: a line for every long run.
const LEDGER: &str = "docs/internals/sim-ledger.md";
/// No more failures than this are made smaller.
const SHRUNK_MAX: usize = 3;
/// Making one smaller takes so many runs at most.
const SHRINK_RUNS: usize = 300;
/// The first seed where none is asked for comes from the clock, below this.
const SEEDS: u64 = 1 << 40;

/// Which seeds, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seeds: Option<Range<u64>>,
    minutes: Option<u64>,
    pub(crate) jobs: u64,
    pub(crate) family: Option<String>,
    hours: u64,
    ledger: bool,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let jobs = thread::available_parallelism().map_or(1, |jobs| jobs.get() as u64);
        let (seeds, minutes, family) = (None, None, None);
        let mut options = Self { seeds, minutes, jobs, family, hours: 0, ledger: false };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--seeds" => options.seeds = Some(range(value()?)?),
                "--minutes" => {
                    options.minutes = Some(value()?.parse().context("--minutes is a number")?);
                }
                "--hours" => options.hours = value()?.parse().context("--hours is a number")?,
                "--jobs" => options.jobs = value()?.parse().context("--jobs is a number")?,
                "--family" => options.family = Some(value()?.to_owned()),
                "--ledger" => options.ledger = true,
                _ => bail!("'{word}' is not understood: try `cargo xtask help`"),
            }
        }
        if options.seeds.is_none() && options.minutes.is_none() {
            bail!("for how long, or which seeds? For example --minutes 5, or --seeds 0..20000");
        }
        if options.jobs == 0 {
            bail!("--jobs is at least 1");
        }
        Ok(options)
    }

    pub(crate) fn first(&self) -> u64 {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.seeds.as_ref().map_or(clock.as_nanos() as u64 % SEEDS, |seeds| seeds.start)
    }
}

fn range(text: &str) -> anyhow::Result<Range<u64>> {
    let ends = text.split_once("..").and_then(|(first, end)| {
        let range: Range<u64> = first.parse().ok()?..end.parse().ok()?;
        (!range.is_empty()).then_some(range)
    });
    ends.with_context(|| format!("--seeds is A..B with A below B, not '{text}'"))
}

/// What all workers together have said.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) counters: Counters,
    pub(crate) seeds: u64,
    pub(crate) failures: BTreeMap<u64, String>,
    /// What all runs have taken of all cores, microseconds.
    cpu_micros: u64,
    /// What each seed's run came to, as the worker said it.
    digests: BTreeMap<u64, String>,
}

/// Runs the seeds; an error names what failed, or what was not seen often enough.
pub(crate) fn run_many(options: &Options) -> anyhow::Result<()> {
    let program = build(true)?;
    let first = options.first();
    eprintln!("seeds from {first} on, {} at a time", options.jobs);
    let sum = run_workers(&program, options, first);
    report(&sum);
    let mut wrong: Vec<String> = Vec::new();
    for (number, (seed, reason)) in sum.failures.iter().enumerate() {
        println!("\nseed {seed} has failed: {reason}");
        if number < SHRUNK_MAX && *seed < SEEDS * 2 {
            make_smaller(options, *seed)?;
        }
        wrong.push(format!("seed {seed}"));
    }
    if wrong.is_empty() && options.family.is_none() {
        wrong = lacking(&sum.counters, sum.seeds);
        let hours = sum.counters.busy_micros / 3_600_000_000;
        if hours < options.hours {
            wrong.push(format!("{hours} busy cluster-hours, {} are wanted", options.hours));
        }
    }
    if options.ledger {
        write_ledger(&sum, first, wrong.len())?;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("not as it should be:\n  {}", wrong.join("\n  "));
}

/// Runs every seed by the release build, once more in another process, and by the debug build; an
/// error names those that did not come to the same each time.
pub(crate) fn run_same(options: &Options) -> anyhow::Result<()> {
    let (release, debug) = (build(true)?, build(false)?);
    let first = options.first();
    let of = |program: &Path| run_workers(program, options, first);
    let (one, other, third) = (of(&release), of(&release), of(&debug));
    let mut wrong: Vec<String> = Vec::new();
    for sum in [&one, &other, &third] {
        wrong.extend(sum.failures.iter().map(|(seed, why)| format!("seed {seed} fails: {why}")));
    }
    for (seed, digest) in &one.digests {
        for (name, sum) in [("run again", &other), ("by the debug build", &third)] {
            if sum.digests.get(seed) != Some(digest) {
                wrong.push(format!("seed {seed} is another run {name}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("not as it should be:\n  {}", wrong.join("\n  "));
    }
    println!("{} seeds come to the same in three processes and two builds", one.digests.len());
    Ok(())
}

impl Sum {
    /// What so many microseconds of simulated time are per second of one core.
    pub(crate) fn per_core_second(&self, micros: u64) -> u64 {
        micros / self.cpu_micros.max(1)
    }

    /// What all runs have taken of all cores, seconds.
    pub(crate) fn core_seconds(&self) -> f64 {
        self.cpu_micros as f64 / 1e6
    }
}

pub(crate) fn run_workers(program: &Path, options: &Options, first: u64) -> Sum {
    let sum = Mutex::new(Sum::default());
    thread::scope(|scope| {
        for job in 0..options.jobs {
            let sum = &sum;
            scope.spawn(move || {
                if let Err(error) = work(program, options, first + job, sum) {
                    let mut sum = sum.lock().expect("no thread panics with the lock");
                    sum.failures.insert(u64::MAX - job, format!("the worker itself: {error:#}"));
                }
            });
        }
    });
    sum.into_inner().expect("all threads have ended")
}

/// One worker after the other, until the seeds or the time are over.
fn work(program: &Path, options: &Options, first: u64, sum: &Mutex<Sum>) -> anyhow::Result<()> {
    let until = options.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let mut next = first;
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).as_secs());
        let end = options.seeds.as_ref().map_or(u64::MAX, |seeds| seeds.end);
        if left == Some(0) || next >= end {
            return Ok(());
        }
        let mut child = Command::new(program)
            .arg("sim-worker")
            .args([next, end, options.jobs, left.unwrap_or(u64::MAX)].map(|n| n.to_string()))
            .args(&options.family)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {}", program.display()))?;
        let output = child.stdout.take().context("its output was asked for")?;
        let mut running = None;
        for line in BufReader::new(output).lines() {
            heard(&line?, &mut running, &mut sum.lock().expect("no thread panics with the lock"));
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        let Some(seed) = running else { bail!("a worker has ended with {status}") };
        let mut sum = sum.lock().expect("no thread panics with the lock");
        sum.failures.insert(seed, format!("the whole process ended: {status}"));
        next = seed + options.jobs;
    }
}

/// A line of a worker.
fn heard(line: &str, running: &mut Option<u64>, sum: &mut Sum) {
    let mut words = line.splitn(3, ' ');
    let (verb, name, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
    let name = name.unwrap_or_default();
    match verb {
        Some("begin") => *running = name.parse().ok(),
        Some("ok") => {
            sum.seeds += 1;
            if let Ok(seed) = name.parse() {
                sum.digests.insert(seed, rest.to_owned());
            }
        }
        Some("failed") => {
            sum.seeds += 1;
            if let Ok(seed) = name.parse() {
                eprintln!("seed {seed}: {}", rest.chars().take(200).collect::<String>());
                sum.failures.insert(seed, rest.replace("\\n", "\n"));
            }
        }
        Some("cpu") => sum.cpu_micros += name.parse::<u64>().unwrap_or(0),
        Some("counter") => {
            let mut one = Counters::default();
            one.set(name, rest.parse().unwrap_or(0));
            sum.counters.add(&one);
        }
        Some("fault") => {
            if let (Some(fault), Ok(count)) = (Fault::named(name), rest.parse::<u64>()) {
                sum.counters.faults[fault.number()] += count;
            }
        }
        Some("mark") => {
            if let (Some(mark), Ok(count)) = (Mark::named(name), rest.parse()) {
                sum.counters.marks.add_to(mark, count);
            }
        }
        _ => println!("{line}"),
    }
}

/// `sim-worker FIRST END STEP SECONDS [FAMILY]`: what a worker does.
pub(crate) fn worker(arguments: &[String]) -> anyhow::Result<()> {
    let number = |at: usize| -> anyhow::Result<u64> {
        Ok(arguments.get(at).context("a worker needs four numbers")?.parse()?)
    };
    let (first, end, step, seconds) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let family_name = arguments.get(4);
    let began = Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    let mut seed = first;
    while seed < end && began.elapsed().as_secs() < seconds {
        println!("begin {seed}");
        let cpu = cpu::of_thread();
        let config = family_name.map_or_else(|| scenario(seed), |name| family(name, seed));
        match run(seed, config, None) {
            Ok(report) => {
                println!("ok {seed} {:016x}", report.digest);
                tell(&report.counters);
            }
            Err(failure) => println!("failed {seed} {}", failure.reason.replace('\n', "\\n")),
        }
        println!("cpu {}", cpu::of_thread() - cpu);
        seed += step;
    }
    Ok(())
}

fn tell(counters: &Counters) {
    let mut lines = String::new();
    let mut line = |verb: &str, name: &str, value: u64| {
        if value > 0 {
            writeln!(lines, "{verb} {name} {value}").expect("a string takes everything");
        }
    };
    for (name, value) in counters.named() {
        line("counter", name, value);
    }
    for fault in Fault::ALL {
        line("fault", fault.name(), counters.fault(fault));
    }
    for mark in Mark::ALL {
        line("mark", mark.name(), counters.marks.count(mark));
    }
    print!("{lines}");
}

fn report(sum: &Sum) {
    let counters = &sum.counters;
    let per_core = sum.per_core_second(counters.micros);
    let per_second = counters.completed * 1_000_000 / counters.micros.max(1);
    println!("{:>26} {:>14}", "seeds", sum.seeds);
    println!("{:>26} {:>14.2}", "cluster-hours", counters.micros as f64 / 3.6e9);
    println!("{:>26} {:>14.2}", "busy cluster-hours", counters.busy_micros as f64 / 3.6e9);
    println!("{:>26} {per_core:>14}", "cluster-s per core-second");
    println!("{:>26} {per_second:>14}", "operations per cluster-s");
    for (name, value) in counters.named() {
        println!("{name:>26} {value:>14}");
    }
    println!("faults that fired:");
    for fault in Fault::ALL {
        let off = fault.obstacle().map_or(String::new(), |why| format!("   off: {why}"));
        println!("{:>26} {:>14}{off}", fault.name(), counters.fault(fault));
    }
    println!("marks reached:");
    for mark in Mark::ALL {
        println!("{:>26} {:>14}", mark.name(), counters.marks.count(mark));
    }
    let unreached: Vec<&str> = counters.marks.unreached().map(Mark::name).collect();
    println!("marks never reached: {unreached:?}");
}

/// The smallest script that fails in the same way, and its trace.
fn make_smaller(options: &Options, seed: u64) -> anyhow::Result<()> {
    let name = options.family.clone().unwrap_or_else(|| scenario(seed).family.to_owned());
    let Some((script, failure)) = shrink(Script::of(&name, seed), SHRINK_RUNS) else {
        println!("  it does not fail again, which is a defect of the simulator");
        return Ok(());
    };
    let place = directory()?.join(format!("seed-{seed}.script"));
    fs::write(&place, script.to_string())?;
    println!("  smaller: {} faults: {}", script.plan.map_or(0, |plan| plan.len()), failure.reason);
    println!("  replay:  cargo xtask sim-one {}", place.display());
    Ok(())
}

fn directory() -> anyhow::Result<PathBuf> {
    let directory = target().join("sim");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// `sim-one SEED|SCRIPT [--family F] [--shrink]`: one run again, with its trace.
pub(crate) fn run_one(arguments: &[String]) -> anyhow::Result<()> {
    let what = arguments.first().context("which seed, or which file with a script?")?;
    let named = arguments.iter().position(|word| word == "--family");
    let mut script = if let Ok(seed) = what.parse::<u64>() {
        let name = named.and_then(|at| arguments.get(at + 1)).cloned();
        Script::of(&name.unwrap_or_else(|| scenario(seed).family.to_owned()), seed)
    } else {
        let text = fs::read_to_string(what).with_context(|| format!("can't read {what}"))?;
        Script::parse(&text).map_err(anyhow::Error::msg)?
    };
    if arguments.iter().any(|word| word == "--shrink") {
        let (smaller, _) = shrink(script, SHRINK_RUNS).context("it does not fail")?;
        script = smaller;
        println!("{script}");
    }
    let (trace, outcome) = trace_of(&script);
    let place = directory()?.join(format!("seed-{}.trace", script.seed));
    fs::write(&place, trace)?;
    println!("trace: {0}\n  cargo xtask replay {0}", place.display());
    match outcome {
        Ok(report) => {
            println!("seed {} ({}) went well: {:016x}", report.seed, report.family, report.digest);
            Ok(())
        }
        Err(failure) => bail!("{failure}"),
    }
}

fn write_ledger(sum: &Sum, first: u64, wrong: usize) -> anyhow::Result<()> {
    let place = root().join(LEDGER);
    let mut text = fs::read_to_string(&place).with_context(|| format!("can't read {LEDGER}"))?;
    let mut git = Command::new("git");
    git.current_dir(root()).args(["rev-parse", "--short", "HEAD"]);
    let commit = git.output().map(|output| output.stdout).unwrap_or_default();
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    let counters = &sum.counters;
    let faults: u64 = counters.faults.iter().sum();
    writeln!(
        text,
        "| {} | {commit} | {first} | {} | {} | {:.1} | {:.1} | {} | {} | {faults} | {wrong} |",
        date(days),
        sum.seeds,
        (sum.core_seconds() / 60.0).round(),
        counters.micros as f64 / 3.6e9,
        counters.busy_micros as f64 / 3.6e9,
        counters.events,
        counters.operations_checked,
    )?;
    fs::write(&place, text)?;
    Ok(())
}

/// The day that is so many days after the first of January 1970 [Hinnant, 2013].
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// Builds this program and gives its path.
pub(crate) fn build(release: bool) -> anyhow::Result<PathBuf> {
    let mut build = cargo("build --package xtask --message-format json");
    if release {
        build.arg("--release");
    }
    let name = shown(&build);
    let output =
        build.stderr(Stdio::inherit()).output().with_context(|| format!("can't run {name}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn reads_its_arguments() {
        let options = parse("--seeds 5..9 --jobs 3 --ledger").expect("they are well formed");
        assert_eq!((options.seeds.clone(), options.jobs, options.ledger), (Some(5..9), 3, true));
        assert_eq!(options.first(), 5);
        assert_eq!(parse("--minutes 7").expect("well formed").minutes, Some(7));
        for wrong in ["", "--seeds", "--seeds 9..5", "--seeds 5", "--seeds 1..2 --jobs 0", "-x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn adds_up_what_workers_say() {
        let (mut sum, mut running) = (Sum::default(), None);
        let lines = ["begin 4", "ok 4", "counter reads 3", "fault Crash 2", "mark TornFrame 1"];
        let others = ["cpu 7", "begin 6", "failed 6 it\\nis wrong", "cpu 5", "begin 8"];
        for line in lines.into_iter().chain(others) {
            heard(line, &mut running, &mut sum);
        }
        assert_eq!((sum.cpu_micros, sum.per_core_second(120)), (12, 10));
        assert_eq!((sum.seeds, running, sum.counters.reads), (2, Some(8), 3));
        assert_eq!(sum.counters.fault(Fault::Crash), 2);
        assert_eq!(sum.counters.marks.count(Mark::TornFrame), 1);
        assert_eq!(sum.failures[&6], "it\nis wrong");
    }

    #[test]
    fn finds_the_program_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"executable\":\"/t/release/xtask\",\"fresh\":true}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/xtask")));
        assert_eq!(executable(""), None);
    }

    #[test]
    fn knows_the_date() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(20_819), "2027-01-01");
    }
}
