//! `cargo xtask compare-rings`: ways to spread slots over members, side by side.
//!
//! For 2 to 64 equal members: how full the fullest member is, how many slots change hands when one
//! member joins or leaves, and in how many ranges the map is. Everything is computed from nothing
//! but the number of members, so each run gives the same; what is checked in is compared by a test.

mod plot;
mod schemes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use plot::{Panel, figure};
use schemes::{Member, Owners, SCHEMES, SLOTS, Scheme};

/// The numbers of members that are compared.
const MEMBERS: std::ops::RangeInclusive<u32> = 2..=64;
/// The numbers of members that have a row in the tables.
const ROWS: [u32; 5] = [2, 3, 8, 16, 64];
/// So many members, evenly chosen, leave one after the other; the mean over them counts.
const LEAVERS: usize = 4;

/// Writes the plots beside the page that shows them, and prints the page's tables.
pub(crate) fn run() -> anyhow::Result<()> {
    let results = Results::measure();
    for (name, drawing) in results.plots() {
        let path = directory().join(name);
        fs::write(&path, drawing).with_context(|| format!("can't write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    eprintln!("\n{}", results.tables());
    Ok(())
}

fn directory() -> PathBuf {
    crate::root().join("docs/decisions")
}

/// What one way does with one number of members.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// The slots of the fullest member, divided by the mean.
    load: f64,
    /// Slots that change hands when a member joins, divided by the newcomer's fair share.
    joining: f64,
    /// Slots that change hands when a member leaves, divided by the fair share of one.
    leaving: f64,
    /// Runs of slots with one owner.
    ranges: usize,
}

impl Measured {
    fn of(scheme: &Scheme, count: u32) -> Self {
        let members: Vec<Member> = (1..=count).collect();
        let owners = (scheme.owners)(&members, None);
        let share = f64::from(SLOTS) / f64::from(count);
        let joined: Vec<Member> = (1..=count + 1).collect();
        let next_share = f64::from(SLOTS) / f64::from(count + 1);
        let joining = moved(&owners, &(scheme.owners)(&joined, Some(&owners))) as f64 / next_share;
        let leavers: Vec<usize> =
            (0..members.len()).step_by(members.len().div_ceil(LEAVERS)).collect();
        let left: usize = leavers
            .iter()
            .map(|&leaver| {
                let mut rest = members.clone();
                // Who numbers its members can fill a gap by the last of them only.
                rest.swap_remove(leaver);
                moved(&owners, &(scheme.owners)(&rest, Some(&owners)))
            })
            .sum();
        Self {
            load: fullest(&owners) as f64 / share,
            joining,
            leaving: left as f64 / leavers.len() as f64 / share,
            ranges: owners.chunk_by(|left, right| left == right).count(),
        }
    }
}

fn moved(before: &Owners, after: &Owners) -> usize {
    before.iter().zip(after).filter(|(old, new)| old != new).count()
}

fn fullest(owners: &Owners) -> usize {
    let mut counts: BTreeMap<Member, usize> = BTreeMap::new();
    for &owner in owners {
        *counts.entry(owner).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Every way with every number of members.
struct Results {
    of: Vec<(&'static Scheme, BTreeMap<u32, Measured>)>,
}

impl Results {
    fn measure() -> Self {
        let all = |scheme| MEMBERS.map(|count| (count, Measured::of(scheme, count))).collect();
        Self { of: SCHEMES.iter().map(|scheme| (scheme, all(scheme))).collect() }
    }

    fn plots(&self) -> [(&'static str, String); 2] {
        let panel = |title, what, ends, pick: fn(&Measured) -> f64| {
            let lines = self.of.iter().map(|(scheme, measured)| {
                let points = measured.iter().map(|(&count, one)| (f64::from(count), pick(one)));
                (*scheme, points.collect())
            });
            Panel { title, what, ends, lines: lines.collect() }
        };
        let load = panel("Load", "fullest member ÷ mean", (1.0, 2.2), |one| one.load);
        let joining = "slots moved ÷ fair share of the newcomer";
        let joining = panel("One member joins", joining, (0.0, 2.5), |one| one.joining);
        let leaving = "slots moved ÷ fair share of one member";
        let leaving = panel("One member leaves", leaving, (0.0, 2.5), |one| one.leaving);
        [
            ("007-load.svg", figure("How even: the fullest of 2 to 64 equal members", &[load])),
            (
                "007-movement.svg",
                figure("How stable: slots that change hands", &[joining, leaving]),
            ),
        ]
    }

    /// The tables of the page, in Markdown.
    fn tables(&self) -> String {
        let mut out = String::new();
        self.table(&mut out, "Fullest ÷ mean", |one| format!("{:.3}", one.load));
        self.table(&mut out, "Moved ÷ share, one joins", |one| format!("{:.2}", one.joining));
        self.table(&mut out, "Moved ÷ share, one leaves", |one| format!("{:.2}", one.leaving));
        self.table(&mut out, "Ranges of the map", |one| one.ranges.to_string());
        out
    }

    fn table(&self, out: &mut String, title: &str, cell: impl Fn(&Measured) -> String) {
        let row = |name: &str, cell: &dyn Fn(u32) -> String| {
            let cells: Vec<String> = ROWS.iter().map(|&count| cell(count)).collect();
            format!("| {name} | {} |\n", cells.join(" | "))
        };
        out.push_str(&row(title, &|count| format!("{count} members")));
        let _ = writeln!(out, "|---|{}", "---|".repeat(ROWS.len()));
        for (scheme, measured) in &self.of {
            out.push_str(&row(scheme.name, &|count| cell(&measured[&count])));
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_is_computed() {
        let results = Results::measure();
        let read = |name: &str| fs::read_to_string(directory().join(name)).expect("checked in");
        let stale = "is not what `cargo xtask compare-rings` makes";
        for (name, drawing) in results.plots() {
            assert!(read(name) == drawing, "{name} {stale}");
        }
        let page = read("007-ring-compared.md");
        for table in results.tables().trim_end().split("\n\n") {
            assert!(page.contains(table), "a table of the page {stale}:\n{table}");
        }
        let ours = &results.of[0].1;
        assert!(ours.values().all(|one| one.load <= 1.01), "the planner is even");
        assert!(ours.values().all(|one| (one.joining - 1.0).abs() < 0.01), "and moves the least");
        assert!(ours.values().all(|one| (one.leaving - 1.0).abs() < 0.01), "and moves the least");
    }
}
