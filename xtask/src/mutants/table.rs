//! The kill table in `mutants/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;

use super::entry::{Entry, Mutant};
use super::hunt::Outcome;

/// Between these two lines the table is.
const MARKS: [&str; 2] = ["<!-- what cargo xtask mutants printed -->", "<!-- until here -->"];
/// A failure's first words say which checker it was.
const WORDS_MAX: usize = 72;
/// What stands where no checker has caught it.
const SURVIVES: &str = "**survives**";

/// The table's head.
pub(super) const HEAD: &str = "\
| mutant | what it is | breaks | caught by | runs | virtual s | CPU s |
|---|---|---|---|--:|--:|--:|";

/// A mutant's row.
pub(super) fn row(mutant: &Mutant, outcome: &Outcome) -> String {
    let Mutant { id, is, breaks, .. } = mutant;
    let caught = outcome.caught.as_ref();
    let caught = caught.map_or(SURVIVES.to_owned(), |caught| checker(&caught.reason));
    let seconds = |micros: u64| micros as f64 / 1e6;
    let (virtual_s, cpu_s) = (seconds(outcome.micros), seconds(outcome.cpu));
    let is = escaped(is);
    format!(
        "| {id} | {is} | {breaks} | {caught} | {} | {virtual_s:.0} | {cpu_s:.1} |",
        outcome.runs
    )
}

/// The checker by the first words of what it says.
pub(super) fn checker(reason: &str) -> String {
    let reason = reason.strip_prefix("panic: ").map_or(reason.to_owned(), |words| {
        let claim = words.strip_prefix("assertion `left == right` failed: ").unwrap_or(words);
        // What was compared stands behind the claim, and how to run it again.
        let ends = ["  left: ", " (RAFT_SEED="].iter().filter_map(|end| claim.find(end));
        format!("assert: {}", &claim[..ends.min().unwrap_or(claim.len())])
    });
    let mut words = String::new();
    for word in reason.split_whitespace() {
        if words.len() + word.len() >= WORDS_MAX {
            words.push_str(" …");
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    escaped(&words)
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page with these rows in the place of those of the same mutants; rows of mutants that are no
/// more go, and what is excluded follows.
pub(super) fn page(
    page: &str,
    entries: &[Entry],
    rows: &BTreeMap<&str, String>,
) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(MARKS[0]).context("the page has no place for a table")?;
    let (old, after) = rest.split_once(MARKS[1]).context("the page's table has no end")?;
    let of_row =
        |line: &'_ str| line.strip_prefix("| ")?.split_once(" |").map(|(id, _)| id.to_owned());
    let old: BTreeMap<String, &str> =
        old.lines().filter_map(|line| Some((of_row(line)?, line))).collect();
    let mut out = format!("{before}{}\n\n{HEAD}\n", MARKS[0]);
    for entry in entries {
        let id = entry.id();
        let Entry::Mutant(_) = entry else { continue };
        if let Some(row) = rows.get(id).map(String::as_str).or(old.get(id).copied()) {
            out.push_str(row);
            out.push('\n');
        }
    }
    let summary = summary(&out);
    write!(out, "\n{summary}\n")?;
    out.push_str("\n| not put back | what it is | why |\n|---|---|---|\n");
    for entry in entries {
        if let Entry::Excluded { id, is, because } = entry {
            writeln!(out, "| {id} | {} | {} |", escaped(is), escaped(because))?;
        }
    }
    Ok(format!("{out}\n{}{after}", MARKS[1]))
}

/// How many of the rows in `text` were killed, and how quickly.
pub(super) fn summary(text: &str) -> String {
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let (mut all, mut times) = (0, Vec::new());
    for row in rows {
        all += 1;
        let seconds = row.trim_end_matches(" |").rsplit(' ').next().unwrap_or_default();
        if !row.contains(SURVIVES)
            && let Ok(seconds) = seconds.parse::<f64>()
        {
            times.push(seconds);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let slowest = times.last().copied().unwrap_or_default();
    let killed = times.len();
    format!(
        "{killed} of {all} killed; CPU time to the kill: median {median:.1} s, most {slowest:.1} s"
    )
}

#[cfg(test)]
mod tests {
    use super::super::hunt::Catch;
    use super::*;

    fn mutant(id: &str) -> Mutant {
        let (is, breaks) = ("a | b".to_owned(), "ES".to_owned());
        Mutant { id: id.to_owned(), is, breaks, ..Mutant::default() }
    }

    fn outcome(reason: Option<&str>) -> Outcome {
        let catch = |reason: &str| Catch { reason: reason.to_owned(), ..Catch::default() };
        let caught = reason.map(catch);
        Outcome { runs: 3, micros: 61_000_000, cpu: 4_240_000, caught, ..Outcome::default() }
    }

    #[test]
    fn a_row_says_who_caught_it() {
        let caught = row(&mutant("A"), &outcome(Some("panic: it   holds  left: 5")));
        assert_eq!(caught, "| A | a \\| b | ES | assert: it holds | 3 | 61 | 4.2 |");
        let compared = "panic: assertion `left == right` failed: it is so   left: 5  right: 6";
        assert_eq!(checker(compared), "assert: it is so");
        assert!(row(&mutant("A"), &outcome(None)).contains(SURVIVES));
        assert!(checker(&"word ".repeat(40)).ends_with("word …"));
    }

    #[test]
    fn a_page_keeps_the_rows_of_other_mutants() {
        let entries = ["A", "B", "C"].map(|id| Entry::Mutant(mutant(id)));
        let old = format!(
            "Intro.\n{}\n| B | old | 9.0 |\n| X | gone | 1.0 |\n{}\nEnd.\n",
            MARKS[0], MARKS[1]
        );
        let rows = BTreeMap::from([("A", row(&mutant("A"), &outcome(Some("x"))))]);
        let new = page(&old, &entries, &rows).expect("it has a place for a table");
        assert!(new.starts_with("Intro.\n") && new.ends_with("\nEnd.\n"), "{new}");
        assert!(new.contains("| A | a") && new.contains("| B | old |") && !new.contains("| X |"));
        assert!(
            new.contains("2 of 2 killed; CPU time to the kill: median 9.0 s, most 9.0 s"),
            "{new}"
        );
        assert_eq!(page(&new, &entries, &rows).expect("it has one still"), new);
    }
}
