//! The specification, broken on purpose: each line of it that matters is changed in one way, and
//! TLC has to say which claim is broken then. A claim that nothing breaks says nothing.

use std::fs;
use std::time::Instant;

use anyhow::bail;

use super::tlc::{Report, Tlc, Verdict};
use super::{
    NARROW_MODELS, STATES, check_models, directory, read, scratch, see_where_searches_begin,
};

/// A text that stands once in `spec/Raft.tla`, what stands there instead, and the model in which
/// that does harm.
struct Mutant {
    name: &'static str,
    model: &'static str,
    anchor: &'static str,
    replacement: &'static str,
}

const fn mutant(
    name: &'static str,
    model: &'static str,
    anchor: &'static str,
    replacement: &'static str,
) -> Mutant {
    Mutant { name, model, anchor, replacement }
}

/// A mutant that is not refuted by so many distinct states survives.
const STATES_MAX: u64 = 1_500_000;

const MUTANTS: [Mutant; 22] = [
    mutant(
        "a vote counts before it is on disk",
        "votes",
        "Holds(n) == disk'[n].term = term'[n] /\\ disk'[n].vote = vote'[n]",
        "Holds(n) == TRUE",
    ),
    mutant(
        "a disk forgets the vote",
        "votes",
        "vote' = [vote EXCEPT ![n] = image.vote]",
        "vote' = [vote EXCEPT ![n] = Nil]",
    ),
    mutant(
        "two votes in a term",
        "votes",
        "(a.t = term[m] /\\ vote[m] = Nil /\\ leaderOf[m] = Nil)",
        "a.t = term[m]",
    ),
    mutant(
        "votes of an earlier term count",
        "votes",
        "{m \\in Server : <<m, term[n], n>> \\in granted}",
        "{m \\in Server : \\E t \\in Terms : <<m, t, n>> \\in granted}",
    ),
    mutant(
        "a campaign nobody was asked about",
        "elections",
        "PreVotes => role[n] = \"P\" /\\ PreQuorum(n, term[n] + 1)",
        "TRUE",
    ),
    mutant(
        "the longer log wins, whatever its terms",
        "terms",
        "lt > LastTerm(l) \\/ (lt = LastTerm(l) /\\ li >= Len(l))",
        "li >= Len(l)",
    ),
    mutant(
        "an entry is acknowledged before it is on disk",
        "durability",
        "Min(Max(agreed'[n], commit'[n]), Common(log'[n], disk'[n].log))",
        "Max(agreed'[n], commit'[n])",
    ),
    mutant(
        "a leader's own disk need not have an entry",
        "durability",
        "IF m = n THEN Common(log[n], disk[n].log) >= i",
        "IF m = n THEN TRUE",
    ),
    mutant(
        "entries of earlier terms are committed by counting",
        "rivals",
        "/\\ llog[t][i].t = t",
        "/\\ TRUE",
    ),
    mutant(
        "entries are taken wherever they come",
        "conflicts",
        "IF p <= commit[m] THEN TRUE ELSE log[m][p].t = llog[t][p].t",
        "TRUE",
    ),
    mutant(
        "a late append cuts off what came after it",
        "durability",
        "IF differs \\/ j > Len(log[m])",
        "IF TRUE",
    ),
    mutant(
        "all of a log counts as agreed, its old tail too",
        "conflicts",
        "Max(IF t = term[m] /\\ leaderOf[m] # Nil THEN @ ELSE 0, j)",
        "Len(log'[m])",
    ),
    mutant(
        "the commit index outlives a crash",
        "durability",
        "commit' = [commit EXCEPT ![n] = image.base]",
        "commit' = commit",
    ),
    mutant(
        "an older snapshot replaces what is newer",
        "compaction",
        "/\\ i <= lcommit[t] /\\ commit[m] < i",
        "/\\ i <= lcommit[t]",
    ),
    mutant(
        "a snapshot drops the log that contains it",
        "compaction",
        "log' = [log EXCEPT ![m] = IF has THEN @ ELSE SubSeq(llog[t], 1, i)]",
        "log' = [log EXCEPT ![m] = SubSeq(llog[t], 1, i)]",
    ),
    mutant(
        "a snapshot of what is not committed",
        "compaction",
        "/\\ Snapshot(n, commit[n])",
        "/\\ base' = [base EXCEPT ![n] = Len(log[n])]
             /\\ UNCHANGED <<term, vote, log, commit, role, leaderOf, loyal, agreed, disk, dead,
                            top, pre, xfer, leaders, committed, read>>",
    ),
    mutant(
        "the new half of a joint configuration decides alone",
        "succession",
        "Majority(s, c.v) /\\ (c.o = {} \\/ Majority(s, c.o))",
        "Majority(s, c.v)",
    ),
    mutant("voters change in one step", "succession", "Outgoing(c) == c.v", "Outgoing(c) == {}"),
    mutant(
        "a change before the one before is committed",
        "handover",
        "/\\ ConfIndex(log[n]) <= commit[n]",
        "/\\ TRUE",
    ),
    mutant(
        "a wiped replica goes on under its old id",
        "dead",
        "/\\ dead' = dead \\cup {n}",
        "/\\ dead' = dead",
    ),
    mutant(
        "a read before an entry of the term is committed",
        "stale",
        "/\\ TermAt(log[read.n], commit[read.n]) = read.t",
        "/\\ TRUE",
    ),
    mutant(
        "a read without a round",
        "stale",
        "/\\ Quorum(Conf(log[read.n]), read.acks)",
        "/\\ TRUE",
    ),
];

/// Runs TLC on every mutant whose name has these words. Fails if one survives.
pub(super) fn refute(tlc: &Tlc, words: &str) -> anyhow::Result<()> {
    let specification = read(&directory().join("Raft.tla"))?;
    if words.is_empty() {
        // What is broken by itself says nothing of a mutant.
        see_where_searches_begin(tlc)?;
        check_models(tlc, &NARROW_MODELS, STATES)?;
    }
    println!("| what is broken | model | what TLC says | states | seconds |");
    println!("|---|---|---|--:|--:|");
    let mut survivors = Vec::new();
    for (number, mutant) in MUTANTS.iter().enumerate() {
        let Mutant { name, model, .. } = mutant;
        if !name.contains(words) {
            continue;
        }
        let began = Instant::now();
        let report = run(tlc, &specification, number, mutant)?;
        let says = match &report.verdict {
            Verdict::Broken(invariant) => format!("{invariant} is broken"),
            Verdict::Holds => "nothing".to_owned(),
            Verdict::Failed => bail!("{name}: TLC has failed\n{}", report.text),
        };
        let (states, seconds) = (report.states, began.elapsed().as_secs());
        println!("| {name} | {model} | {says} | {states} | {seconds} |");
        if report.verdict == Verdict::Holds {
            survivors.push(*name);
        }
    }
    if !survivors.is_empty() {
        bail!("not refuted:\n  {}", survivors.join("\n  "));
    }
    Ok(())
}

fn run(tlc: &Tlc, specification: &str, number: usize, mutant: &Mutant) -> anyhow::Result<Report> {
    let Mutant { name, model, anchor, replacement } = mutant;
    if specification.matches(anchor).count() != 1 {
        bail!("{name}: '{anchor}' does not stand once in Raft.tla");
    }
    let place = scratch(&format!("mutant-{number}"))?;
    fs::write(place.join("Raft.tla"), specification.replace(anchor, replacement))?;
    fs::create_dir(place.join("models"))?;
    let config = format!("models/{model}.cfg");
    fs::copy(directory().join(&config), place.join(&config))?;
    let report = tlc.run(&place, "Raft", model, Some(STATES_MAX))?;
    fs::remove_dir_all(&place)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_stands_once() {
        let specification = read(&directory().join("Raft.tla")).expect("it is there");
        for Mutant { name, model, anchor, .. } in &MUTANTS {
            assert_eq!(specification.matches(anchor).count(), 1, "{name}");
            assert!(directory().join(format!("models/{model}.cfg")).exists(), "{name}");
        }
    }
}
