//! `cargo xtask mutants`: every small change that `cargo mutants` can think of, made to the
//! consensus core, and whether a test of the core notices.
//!
//! A build for each of more than a thousand changes takes hours. So all of them are put into one
//! copy of the tree, each as an arm of its function that a run is told to take, and built once; a
//! change that does not compile is found by where the compiler complains, and left out. Then every
//! test binary runs once for each change, until one of them fails.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

mod join;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{cargo, root};
use join::Joined;

const PACKAGE: &str = "flotilla-raft";

/// Checks of invariants are left out: weaker ones let nothing else differ.
const CHECKS: &str = r"(Log|Writes|Reads|Lease|Transfer|Change|Progress)::check\b|check_invariants";

/// One change.
#[derive(Clone, Debug)]
struct Mutant {
    /// What `cargo mutants` calls it.
    name: String,
    /// Its file, from the root.
    file: String,
    /// Where the function begins and ends, bytes.
    function: (usize, usize),
    /// What is replaced, bytes.
    span: (usize, usize),
    /// By what.
    replacement: String,
}

/// Hunts the changes of these files, or of all without any, and prints a table of what came of it.
pub(crate) fn hunt(files: &[String]) -> anyhow::Result<()> {
    let mutants = list(files)?;
    let tree = root().join("target/mutants/tree");
    copy_tree(&tree)?;
    let joined = Joined::new(root(), &mutants)?;
    let mut unviable = BTreeSet::new();
    let tests = loop {
        let lines = joined.write(&tree, &unviable)?;
        match build(&tree)? {
            Built::Tests(tests) => break tests,
            Built::Errors(errors) => {
                let before = unviable.len();
                unviable.extend(errors.iter().filter_map(|error| lines.get(error)));
                if unviable.len() == before {
                    bail!(
                        "the joined tree does not compile, and no change is to blame: {errors:?}"
                    );
                }
                eprintln!("{} changes do not compile", unviable.len());
            }
        }
    };
    let viable: Vec<usize> = joined.ids().filter(|id| !unviable.contains(id)).collect();
    let outcomes = run::hunt(&tree.join("crates/raft"), &tests, &viable)?;
    report(&mutants, &joined, &unviable, &outcomes);
    Ok(())
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
    for value in &listed {
        let file = text(value, "file")?;
        if !sources.contains_key(&file) {
            sources.insert(file.clone(), fs::read_to_string(root().join(&file))?);
        }
        let source = &sources[&file];
        mutants.push(Mutant {
            name: text(value, "name")?,
            function: span(source, &value["function"]["span"])?,
            span: span(source, &value["span"])?,
            replacement: text(value, "replacement")?,
            file,
        });
    }
    Ok(mutants)
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    Ok(value[key].as_str().with_context(|| format!("a change without {key}"))?.to_owned())
}

/// Lines and columns from 1, in characters, as bytes.
fn span(source: &str, value: &Value) -> anyhow::Result<(usize, usize)> {
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
    Ok((at("start")?, at("end")?))
}

/// The tracked files, as they are in the work tree.
fn copy_tree(tree: &Path) -> anyhow::Result<()> {
    let tracked = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output()?;
    for name in tracked.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name)?;
        let (from, to) = (root().join(name), tree.join(name));
        let Ok(content) = fs::read(&from) else { continue };
        if fs::read(&to).ok().as_ref() != Some(&content) {
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::write(&to, content)?;
        }
    }
    Ok(())
}

/// What became of a build.
enum Built {
    /// The test binaries.
    Tests(Vec<PathBuf>),
    /// File and line of everything that was complained of.
    Errors(Vec<(String, usize)>),
}

fn build(tree: &Path) -> anyhow::Result<Built> {
    let mut command = cargo("test --no-run --tests --message-format json --package");
    command.arg(PACKAGE).current_dir(tree);
    // A fresh start of every test costs more than what line numbers in a failure are worth.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_TARGET_DIR", tree.join("target"));
    command.env("RUSTFLAGS", "--cap-lints allow");
    let output = command.output().context("can't run cargo test")?;
    let (mut tests, mut errors) = (Vec::new(), Vec::new());
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else { continue };
        if message["profile"]["test"] == true
            && let Some(test) = message["executable"].as_str()
        {
            tests.push(PathBuf::from(test));
        }
        if message["message"]["level"] == "error" {
            for span in message["message"]["spans"].as_array().into_iter().flatten() {
                let file = span["file_name"].as_str().unwrap_or_default().to_owned();
                let line = span["line_start"].as_u64().unwrap_or_default();
                errors.push((file, usize::try_from(line)?));
            }
        }
    }
    match (output.status.success(), errors.is_empty()) {
        (true, _) => Ok(Built::Tests(tests)),
        (false, false) => Ok(Built::Errors(errors)),
        (false, true) => bail!("{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// A table by file, and everything that no test noticed.
fn report(
    mutants: &[Mutant],
    joined: &Joined,
    unviable: &BTreeSet<usize>,
    outcomes: &BTreeMap<usize, run::Outcome>,
) {
    let mut files: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for id in joined.ids() {
        let counts = files.entry(&mutants[id].file).or_default();
        match outcomes.get(&id) {
            Some(run::Outcome::Caught) => counts[0] += 1,
            Some(run::Outcome::Hangs) => counts[1] += 1,
            Some(run::Outcome::Missed) => counts[2] += 1,
            None => counts[3] += usize::from(unviable.contains(&id)),
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
    for name in joined.left_out() {
        println!("- not tried, since its function can't be joined: {name}");
    }
}
