//! `cargo xtask core-mutants`: every small change that `cargo mutants` can think of, made to the
//! consensus core, and whether a test of the core notices.
//!
//! A build for each of more than a thousand changes takes hours. So all of them are put into one
//! copy of the tree, each as an arm of its function that a run is told to take, and built once; a
//! change that does not compile is found by where the compiler complains, and left out. Then every
//! test binary runs once for each change, until one of them fails.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

mod run;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::joined::{Build, Edit, Joined, build};
use crate::{cargo, root, target};

const PACKAGE: &str = "flotilla-raft";

/// Checks of invariants are left out: weaker ones let nothing else differ.
const CHECKS: &str = r"(Log|Writes|Reads|Lease|Transfer|Change|Progress)::check\b|check_invariants";

/// One change.
#[derive(Clone, Debug)]
struct Mutant {
    /// What `cargo mutants` calls it.
    name: String,
    /// What is replaced, and by what.
    edit: Edit,
}

/// Hunts the changes of these files, or of all without any, and prints a table of what came of it.
pub(crate) fn hunt(files: &[String]) -> anyhow::Result<()> {
    let mutants = list(files)?;
    let edits: Vec<Edit> = mutants.iter().map(|mutant| mutant.edit.clone()).collect();
    let joined = Joined::new(root(), &edits)?;
    let folder = target().join("core-mutants");
    let words = format!("test --no-run --tests --package {PACKAGE}");
    let built = build(&folder, &joined, &words)?;
    let viable: Vec<usize> =
        joined.ids().into_iter().filter(|id| !built.unviable.contains_key(id)).collect();
    let outcomes = run::hunt(&folder.join("tree/crates/raft"), &tests(&built), &viable)?;
    report(&mutants, &joined, &built, &outcomes);
    Ok(())
}

/// The test binaries.
fn tests(built: &Build) -> Vec<PathBuf> {
    let tests = built.messages.iter().filter(|message| message["profile"]["test"] == true);
    tests.filter_map(|test| test["executable"].as_str()).map(PathBuf::from).collect()
}

/// All changes, as `cargo mutants` lists them.
fn list(files: &[String]) -> anyhow::Result<Vec<Mutant>> {
    let mut command = cargo("mutants --list --json --package");
    command.args([PACKAGE, "--exclude-re", CHECKS]);
    command.args(["--exclude", "crates/raft/src/invariants.rs"]);
    for file in files {
        command.args(["--file", file]);
    }
    let output = command.output().context("can't run cargo mutants")?;
    if !output.status.success() {
        bail!("cargo mutants failed; it is installed by `cargo install cargo-mutants`");
    }
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let mut sources = BTreeMap::new();
    let mut mutants = Vec::new();
    for (id, value) in listed.iter().enumerate() {
        let file = text(value, "file")?;
        if !sources.contains_key(&file) {
            sources.insert(file.clone(), fs::read_to_string(root().join(&file))?);
        }
        let span = span(&sources[&file], &value["span"])?;
        let edit = Edit { id, file, span, replacement: text(value, "replacement")? };
        mutants.push(Mutant { name: text(value, "name")?, edit });
    }
    Ok(mutants)
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    Ok(value[key].as_str().with_context(|| format!("a change without {key}"))?.to_owned())
}

/// Lines and columns from 1, in characters, as bytes.
fn span(source: &str, value: &Value) -> anyhow::Result<Range<usize>> {
    let at = |end: &str| -> anyhow::Result<usize> {
        let number = |key: &str| {
            let number = value[end][key].as_u64().with_context(|| format!("a span without {key}"));
            anyhow::Ok(usize::try_from(number?)?)
        };
        let (line, column) = (number("line")?, number("column")?);
        let before: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let rest = source[before..].char_indices().nth(column - 1).map_or(0, |(at, _)| at);
        Ok(before + rest)
    };
    Ok(at("start")?..at("end")?)
}

/// A table by file, and everything that no test noticed.
fn report(
    mutants: &[Mutant],
    joined: &Joined,
    built: &Build,
    outcomes: &BTreeMap<usize, run::Outcome>,
) {
    let mut files: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for id in joined.ids() {
        let counts = files.entry(&mutants[id].edit.file).or_default();
        match outcomes.get(&id) {
            Some(run::Outcome::Caught) => counts[0] += 1,
            Some(run::Outcome::Hangs) => counts[1] += 1,
            Some(run::Outcome::Missed) => counts[2] += 1,
            None => counts[3] += usize::from(built.unviable.contains_key(&id)),
        }
    }
    println!("| file | caught | of these by hanging | missed | do not compile |");
    println!("|---|--:|--:|--:|--:|");
    let mut sum = [0; 4];
    for (file, counts) in &files {
        let [caught, hangs, missed, unviable] = counts;
        println!("| `{file}` | {} | {hangs} | {missed} | {unviable} |", caught + hangs);
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [caught, hangs, missed, unviable] = sum;
    println!("| all | {} | {hangs} | {missed} | {unviable} |", caught + hangs);
    println!();
    for (id, _) in outcomes.iter().filter(|(_, outcome)| **outcome == run::Outcome::Missed) {
        println!("- missed: {}", mutants[*id].name);
    }
    for id in joined.left_out().keys() {
        println!("- not tried, since its function can't be joined: {}", mutants[*id].name);
    }
}
