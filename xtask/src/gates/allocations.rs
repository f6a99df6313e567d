//! `cargo xtask allocations`: how often a SET asks for memory on its way, by node.
//!
//! A table has to ask for the entry of a key that is new; everything else is a cost of the way.
//! What counts is therefore what a node asks for besides what its table, measured alone, asks for.

use std::process::Command;

use anyhow::{Context as _, ensure};

use super::bounds::{Measure, number, settle};
use super::{build, writes};

/// What the bench calls the keys.
const KEYS: [&str; 2] = ["overwritten", "new"];

/// What one SET asks for somewhere, on average.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    keys: String,
    who: String,
    times: f64,
    bytes: f64,
}

/// Runs the verb: `[--write]`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let write = writes(arguments)?;
    let program = build("allocations")?;
    let output = Command::new(&program).output().context("can't run the bench")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked = parse(&String::from_utf8_lossy(&output.stdout))?;
    print(&asked);
    settle(&measures(&asked), write)
}

/// Reads lines of `keys who times bytes`.
fn parse(text: &str) -> anyhow::Result<Vec<Asked>> {
    let parsed = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let (keys, who) = (word()?.to_owned(), word()?.to_owned());
        let (times, bytes) = (word()?.parse().ok()?, word()?.parse().ok()?);
        Some(Asked { keys, who, times, bytes })
    };
    let lines = text.lines();
    lines.map(|line| parsed(line).with_context(|| format!("the bench says '{line}'"))).collect()
}

fn print(all: &[Asked]) {
    println!("| allocations per SET of 64 bytes, turns of 32 | times | bytes |");
    println!("|---|--:|--:|");
    for Asked { keys, who, times, bytes } in all {
        let who = if who == "table" { "a table alone" } else { who };
        println!("| {keys} key, {who} | {} | {} |", number(*times), number(*bytes));
    }
    println!();
}

/// What counts: the most that a node of each kind asks for besides its table.
fn measures(all: &[Asked]) -> Vec<Measure> {
    let mut measures = Vec::new();
    for keys in KEYS {
        let most = |who: &str| {
            let same = all.iter().filter(|asked| asked.keys == keys && asked.who == who);
            same.map(|asked| asked.times).fold(0.0, f64::max)
        };
        for who in ["leader", "follower"] {
            let name = format!("allocations/{keys}/{who}");
            measures.push(Measure { name, value: most(who) - most("table") });
        }
    }
    measures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_asks_for_does_not_count() {
        let text = "overwritten leader 3.5 300.0\noverwritten follower 2.0 200.0\n\
            overwritten follower 2.25 210.0\noverwritten table 0.000 0.0\n\
            new leader 5.5 400.0\nnew follower 3.0 300.0\nnew table 1.25 120.0\n";
        let measures = measures(&parse(text).expect("it is well formed"));
        let values: Vec<(&str, f64)> =
            measures.iter().map(|measure| (measure.name.as_str(), measure.value)).collect();
        let wanted = [
            ("allocations/overwritten/leader", 3.5),
            ("allocations/overwritten/follower", 2.25),
            ("allocations/new/leader", 4.25),
            ("allocations/new/follower", 1.75),
        ];
        assert_eq!(values, wanted);
        parse("overwritten leader many 1").expect_err("no number");
    }
}
