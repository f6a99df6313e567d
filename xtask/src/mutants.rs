//! `cargo xtask mutants`: known bugs put back, and whether the simulator catches each.
//!
//! The entries of `mutants/*.txt` are joined into one copy of the tree behind a switch
//! ([`crate::joined`]), whose simulator is built once. Then each is hunted with seeds of its own
//! until a run fails that goes well without it, or its time is over.
#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

mod entry;
mod hunt;
mod table;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use flotilla_sim::is_family;

use crate::joined::{Joined, VARIABLE, build};
use crate::{root, target};
use entry::{Entry, Mutant};
use hunt::{Outcome, Prey, hunt};
pub(crate) use worker::worker;

/// Where the entries and the page are.
const FOLDER: &str = "mutants";
/// How a sample walks through all mutants: neighbours in a file are of a kind.
const STRIDE: usize = 61;

/// Which mutants, and how they are hunted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// These; all if there are none.
    ids: Vec<String>,
    /// How much CPU time each may live for.
    seconds: u64,
    jobs: usize,
    /// Only so many.
    sample: Option<usize>,
    /// Which sample.
    turn: usize,
    /// Where seeds come from.
    base: u64,
    table: bool,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let turn = (clock.as_secs() / 86_400) as usize;
        let base = clock.as_secs();
        let (ids, sample, table) = (Vec::new(), None, false);
        let mut options = Self { ids, seconds: 60, jobs, sample, turn, base, table };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || -> anyhow::Result<u64> {
                let value = words.next().with_context(|| format!("{word} needs a value"))?;
                value.parse().with_context(|| format!("{word} is a number"))
            };
            match word {
                "--seconds" => options.seconds = value()?,
                "--jobs" => options.jobs = value()?.max(1) as usize,
                "--sample" => options.sample = Some(value()? as usize),
                "--turn" => options.turn = value()? as usize,
                "--base" => options.base = value()?,
                "--table" => options.table = true,
                _ if word.starts_with('-') => {
                    bail!("'{word}' is not understood: try `cargo xtask help`")
                }
                id => options.ids.push(id.to_owned()),
            }
        }
        Ok(options)
    }

    /// The mutants that were asked for, of these, by number.
    fn choose(&self, mutants: &[&Mutant]) -> anyhow::Result<Vec<usize>> {
        for id in &self.ids {
            if !mutants.iter().any(|mutant| mutant.id == *id) {
                bail!("there is no mutant {id}");
            }
        }
        let asked = |at: &usize| self.ids.is_empty() || self.ids.contains(&mutants[*at].id);
        let asked: Vec<usize> = (0..mutants.len()).filter(asked).collect();
        let Some(sample) = self.sample else { return Ok(asked) };
        let count = asked.len();
        let stride = (STRIDE..STRIDE + count).find(|stride| gcd(*stride, count) == 1).unwrap_or(1);
        let first = self.turn % count.max(1) * sample;
        Ok((first..first + sample.min(count)).map(|at| asked[at * stride % count]).collect())
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Hunts, and prints the table. An error if one survives, does not compile, or a seed fails
/// without any.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let entries = entry::read(&root().join(FOLDER))?;
    let mutants: Vec<&Mutant> = entries.iter().filter_map(Entry::mutant).collect();
    let chosen = options.choose(&mutants)?;
    let (program, unviable) = join(&mutants)?;
    let chosen: Vec<usize> = chosen.into_iter().filter(|at| !unviable.contains_key(at)).collect();
    let prey: Vec<Prey> = chosen.iter().map(|&at| options.prey(mutants[at], at)).collect();
    eprintln!("{} mutants, the seeds follow from --base {}", chosen.len(), options.base);
    let ended = |at: usize, outcome: &Outcome| tell(mutants[chosen[at]], chosen[at], outcome);
    let outcomes = hunt(&program, &prey, options.jobs, ended)?;
    let mut rows: BTreeMap<&str, String> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    for (&at, outcome) in chosen.iter().zip(&outcomes) {
        let mutant = mutants[at];
        rows.insert(&mutant.id, table::row(mutant, outcome));
        if outcome.caught.is_none() {
            wrong.push(format!("{} survives: {}", mutant.id, mutant.is));
        }
        let alarms = outcome.alarms.iter();
        wrong.extend(alarms.map(|alarm| format!("without any mutant {alarm} fails")));
    }
    wrong.extend(unviable.iter().map(|(&at, why)| format!("{}: {why}", mutants[at].id)));
    let ordered: Vec<&str> =
        chosen.iter().map(|&at| rows[mutants[at].id.as_str()].as_str()).collect();
    let printed = format!("{}\n{}\n", table::HEAD, ordered.join("\n"));
    println!("{printed}\n{}", table::summary(&printed));
    if options.table {
        let path = root().join(FOLDER).join("README.md");
        let page = fs::read_to_string(&path).context("can't read mutants/README.md")?;
        fs::write(&path, table::page(&page, &entries, &rows)?)?;
    }
    if !wrong.is_empty() {
        bail!("not as it should be:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// The program with all mutants, and those that are not in it, with the reason.
fn join(mutants: &[&Mutant]) -> anyhow::Result<(PathBuf, BTreeMap<usize, String>)> {
    let mut edits = Vec::new();
    let mut unviable = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate() {
        match mutant.edits(root(), number) {
            Ok(of_mutant) => edits.extend(of_mutant),
            Err(error) => {
                unviable.insert(number, format!("{error:#}"));
            }
        }
    }
    let joined = Joined::new(root(), &edits)?;
    let built = build(&target().join("mutants"), &joined, "build --release --package xtask")?;
    let why = |words: &String| format!("it does not compile: {words}");
    unviable.extend(built.unviable.iter().map(|(&number, words)| (number, why(words))));
    let program =
        built.messages.iter().filter_map(|message| message["executable"].as_str()).next_back();
    Ok((program.context("cargo has named no program")?.into(), unviable))
}

impl Options {
    fn prey(&self, mutant: &Mutant, number: usize) -> Prey {
        // FNV-1a: each mutant has seeds of its own.
        let base = mutant.id.bytes().fold(self.base ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let family = mutant.family.clone().filter(|family| is_family(family));
        if family != mutant.family {
            eprintln!("{}: there is no family {:?}", mutant.id, mutant.family);
        }
        let budget = self.seconds * 1_000_000;
        Prey { number, base, family, budget }
    }
}

/// A line for each as it ends.
fn tell(mutant: &Mutant, number: usize, outcome: &Outcome) {
    let Outcome { runs, caught, alarms, .. } = outcome;
    let seconds = outcome.cpu as f64 / 1e6;
    let id = format!("{} ({VARIABLE}={})", mutant.id, number + 1);
    match caught {
        Some(caught) => eprintln!("{id}: run {runs}, {seconds:.1} s: {caught}"),
        None => eprintln!("{id}: SURVIVES {runs} runs, {seconds:.1} s"),
    }
    for alarm in alarms {
        eprintln!("{id}: ALARM without any mutant: {alarm}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn reads_its_arguments() {
        let options = parse("EL-01 --seconds 5 --jobs 3 --base 9 --table").expect("well formed");
        assert_eq!((options.ids.as_slice(), options.seconds), (&["EL-01".to_owned()][..], 5));
        assert_eq!((options.jobs, options.base, options.table), (3, 9, true));
        for wrong in ["--seconds", "--seconds x", "--colour"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn samples_take_turns_until_all_were_hunted() {
        for count in [61_usize, 97, 122, 130] {
            let mutants: Vec<Mutant> = (0..count)
                .map(|number| Mutant { id: number.to_string(), ..Mutant::default() })
                .collect();
            let mutants: Vec<&Mutant> = mutants.iter().collect();
            let of_turn = |turn: usize| {
                let options = parse(&format!("--sample 10 --turn {turn}")).expect("well formed");
                options.choose(&mutants).expect("all are there")
            };
            let seen: BTreeSet<usize> = (0..count.div_ceil(10)).flat_map(of_turn).collect();
            assert_eq!(seen.len(), count);
            assert_eq!(of_turn(20_000).len(), 10);
        }
    }
}
