//! `cargo xtask sectors`: every sector of the disks of small clusters is spoiled, one at a time and
//! in three ways, and must heal without an operator.
#![expect(clippy::print_stdout, reason = "what was seen is what was asked for")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use flotilla_sim::{Change, Healing, Sector, sectors, try_sector};

use crate::sim_many::build;

/// No more failures than this are shown.
const SHOWN_MAX: usize = 20;

/// How many, and from where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    positions: u64,
    first: u64,
    jobs: u64,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let jobs = thread::available_parallelism().map_or(1, |jobs| jobs.get() as u64);
        let mut options = Self { positions: 50_000, first: 1, jobs };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            let number = value.parse().with_context(|| format!("{word} is a number"))?;
            match word {
                "--positions" => options.positions = number,
                "--first" => options.first = number,
                "--jobs" if number > 0 => options.jobs = number,
                _ => bail!("'{word}' is not understood: try `cargo xtask help`"),
            }
        }
        Ok(options)
    }
}

/// What all trials together have seen: trials, and of these how many changed anything, cost
/// payloads, states, promises, or an unfinished end.
type Sums = [u64; 6];

/// Tries the positions; an error says how many did not heal.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Options { positions, first, jobs } = *options;
    let (program, began) = (build(true)?, Instant::now());
    let worker = |job: u64| -> anyhow::Result<(Sums, Vec<String>)> {
        let arguments = [first, positions, job, jobs].map(|number| number.to_string());
        let mut child = Command::new(&program)
            .arg("sectors-worker")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start a worker")?;
        let (mut sums, mut failures) = (Sums::default(), Vec::new());
        for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
            let line = line?;
            match line.strip_prefix("sums ") {
                Some(numbers) => {
                    for (sum, number) in sums.iter_mut().zip(numbers.split(' ')) {
                        *sum += number.parse::<u64>()?;
                    }
                }
                None => failures.push(line),
            }
        }
        if !child.wait()?.success() {
            bail!("a worker has ended before its time");
        }
        Ok((sums, failures))
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let worker = &worker;
        let threads: Vec<_> = (0..jobs).map(|job| scope.spawn(move || worker(job))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let (mut sums, mut failures) = (Sums::default(), Vec::new());
    for outcome in outcomes {
        let (seen, failed) = outcome?;
        sums.iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
        failures.extend(failed);
    }
    let [tried, changed, payloads, states, lost, cuts] = sums;
    println!(
        "{tried} positions in {} s: {changed} changed something, {payloads} cost payloads, \
         {states} a snapshot, {lost} replicas that were replaced, {cuts} an unfinished end",
        began.elapsed().as_secs()
    );
    for failure in failures.iter().take(SHOWN_MAX) {
        println!("{failure}");
    }
    if !failures.is_empty() {
        bail!("{} of {tried} did not heal", failures.len());
    }
    if tried < positions {
        bail!("only {tried} of {positions} were tried");
    }
    Ok(())
}

/// Runs one worker's share, and says what failed and what was seen.
pub(crate) fn worker(arguments: &[String]) -> anyhow::Result<()> {
    let numbers: Result<Vec<u64>, _> = arguments.iter().map(|word| word.parse()).collect();
    let [first, positions, job, jobs] = numbers?[..] else { bail!("a worker needs four numbers") };
    std::panic::set_hook(Box::new(|_| {}));
    let (mut sums, mut position) = (Sums::default(), 0);
    for seed in first.. {
        let all = sectors(seed).map_err(|error| anyhow::anyhow!("seed {seed}: {error}"))?;
        for (sector, change) in all.iter().flat_map(changes) {
            if position >= positions {
                println!("sums {}", sums.map(|sum| sum.to_string()).join(" "));
                return Ok(());
            }
            if position % jobs == job {
                match try_sector(seed, sector, change) {
                    Ok(healing) => add(&mut sums, healing),
                    Err(error) => println!("{}", error.replace('\n', "\\n")),
                }
                sums[0] += 1;
            }
            position += 1;
        }
    }
    Ok(())
}

fn changes(sector: &Sector) -> impl Iterator<Item = (&Sector, Change)> {
    let word = sector.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sector.machine as u64;
    let bit = (word >> 40) as u16 % 4_096;
    [Change::Flip(bit), Change::Zeros, Change::Noise(word)].into_iter().map(move |c| (sector, c))
}

fn add(sums: &mut Sums, healing: Healing) {
    let Healing { changed, payloads, state, lost, cut } = healing;
    for (sum, has) in sums[1..].iter_mut().zip([changed, payloads, state, lost, cut]) {
        *sum += u64::from(has);
    }
}
