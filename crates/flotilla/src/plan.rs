//! `flotilla plan`: who owns what, and what more or fewer shards would move.
//!
//! It only looks and computes. The planner is the one that a cluster is founded with, and the map
//! is a running cluster's or, without one, that of a new cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use flotilla_shard::{MAX_SHARDS, SLOTS, ShardId, SlotMap};
use serde::Serialize;

use crate::arguments::Plan;
use crate::status::{self, joined, table};

/// How many ranges stand in one line of a table.
const RANGES_PER_LINE: usize = 6;

/// Slots as both ends of ranges, inclusive.
type Ranges = Vec<(u16, u16)>;

/// Runs the verb.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<ExitCode> {
    let known = match plan.shards {
        Some(count) => Known::new_cluster(count)?,
        None => Known::running(&plan.at)?,
    };
    let change = match (plan.add, plan.remove) {
        (Some(count), _) => Some(known.adding(count)?),
        (_, Some(shard)) => Some(known.removing(ShardId(shard))?),
        (None, None) => None,
    };
    let answer = Answer { now: known.shape(), change };
    let mut out = std::io::stdout().lock();
    if plan.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        write!(out, "{}", answer.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The shards there are, each of weight 1, and their map.
struct Known {
    map: SlotMap,
    /// The nodes with a replica of each shard; none are known of a cluster that is not there.
    shards: BTreeMap<ShardId, Vec<u32>>,
}

impl Known {
    fn new_cluster(count: u32) -> anyhow::Result<Self> {
        check_count(u64::from(count))?;
        let shards: BTreeMap<_, _> = (1..=count).map(|shard| (ShardId(shard), vec![])).collect();
        Ok(Self { map: flotilla_shard::plan(&equal_weights(shards.keys()), None), shards })
    }

    fn running(at: &str) -> anyhow::Result<Self> {
        let view = status::look_at_founded(at)?;
        let data = view.shards.iter().filter(|shard| shard.id != 0);
        let nodes = data.map(|shard| {
            (ShardId(shard.id), shard.replicas.iter().map(|replica| replica.node).collect())
        });
        Ok(Self { map: view.slot_map()?, shards: nodes.collect() })
    }

    /// What `count` more shards, with the next ids, would move.
    fn adding(&self, count: u32) -> anyhow::Result<Change> {
        check_count(self.shards.len() as u64 + u64::from(count))?;
        let highest = self.shards.keys().last().map_or(0, |shard| shard.0);
        let last = highest.checked_add(count).context("there are no higher shard ids")?;
        let add: Vec<ShardId> = (highest + 1..=last).map(ShardId).collect();
        let members = self.shards.keys().chain(&add).copied().collect();
        Ok(self.change(add, vec![], &members))
    }

    /// What the end of `shard` would move.
    fn removing(&self, shard: ShardId) -> anyhow::Result<Change> {
        ensure!(
            self.shards.contains_key(&shard),
            "there is no shard {shard} to remove; there are {}",
            joined(self.shards.keys())
        );
        ensure!(
            self.shards.len() > 1,
            "shard {shard} is the last one: nobody could have its slots"
        );
        let members = self.shards.keys().copied().filter(|&other| other != shard).collect();
        Ok(self.change(vec![], vec![shard], &members))
    }

    fn change(
        &self,
        add: Vec<ShardId>,
        remove: Vec<ShardId>,
        members: &BTreeSet<ShardId>,
    ) -> Change {
        let next = flotilla_shard::plan(&equal_weights(members), Some(&self.map));
        let mut moves: BTreeMap<(Option<ShardId>, Option<ShardId>), Ranges> = BTreeMap::new();
        for run in self.map.changes(&next) {
            moves.entry((run.from, run.to)).or_default().push((run.first.0, run.last.0));
        }
        let moves: Vec<Move> = moves
            .into_iter()
            .map(|((from, to), ranges)| Move { from, to, slots: slots_in(&ranges), ranges })
            .collect();
        Change {
            add,
            remove,
            moved: moves.iter().map(|part| part.slots).sum(),
            least: least_moved(&self.map, members),
            moves,
            after: Shape::new(&next, members.iter().map(|&shard| (shard, self.nodes_of(shard)))),
        }
    }

    fn shape(&self) -> Shape {
        Shape::new(&self.map, self.shards.keys().map(|&shard| (shard, self.nodes_of(shard))))
    }

    fn nodes_of(&self, shard: ShardId) -> Vec<u32> {
        self.shards.get(&shard).cloned().unwrap_or_default()
    }
}

fn check_count(shards: u64) -> anyhow::Result<()> {
    if shards > MAX_SHARDS as u64 {
        bail!("{shards} shards are too many: the limit is {MAX_SHARDS}");
    }
    Ok(())
}

fn equal_weights<'a>(shards: impl IntoIterator<Item = &'a ShardId>) -> Vec<(ShardId, u32)> {
    shards.into_iter().map(|&shard| (shard, 1)).collect()
}

fn slots_in(ranges: &Ranges) -> u32 {
    ranges.iter().map(|&(first, last)| u32::from(last - first) + 1).sum()
}

/// How many slots have to move at least, until every one of `members` has its share, rounded up or
/// down: all that can't stay where they are. It is counted, and knows nothing of the planner.
fn least_moved(map: &SlotMap, members: &BTreeSet<ShardId>) -> u32 {
    let held = map.slot_counts();
    let held = || members.iter().map(|shard| u32::from(held.get(shard).copied().unwrap_or(0)));
    let all = u32::from(SLOTS);
    let (share, remainder) = (all / members.len() as u32, all % members.len() as u32);
    let stay: u32 = held().map(|slots| slots.min(share)).sum();
    // So many members may have one slot above the share that was rounded down.
    let above = held().filter(|&slots| slots > share).count() as u32;
    all - stay - above.min(remainder)
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Answer {
    now: Shape,
    change: Option<Change>,
}

/// A map: how it is spread over the shards.
#[derive(Debug, Serialize)]
struct Shape {
    epoch: u64,
    /// The largest shard's slots, divided by the mean of all.
    max_over_mean: f64,
    /// How many ranges the map has.
    ranges: usize,
    shards: Vec<Share>,
}

/// What one shard has.
#[derive(Debug, Serialize)]
struct Share {
    id: ShardId,
    slots: u32,
    /// Where its replicas are; empty for a shard that does not exist yet.
    nodes: Vec<u32>,
    ranges: Ranges,
}

/// What other shards would mean.
#[derive(Debug, Serialize)]
struct Change {
    add: Vec<ShardId>,
    remove: Vec<ShardId>,
    /// How many slots would move.
    moved: u32,
    /// How many must move, whoever plans.
    least: u32,
    moves: Vec<Move>,
    after: Shape,
}

/// The slots that go from one shard to another.
#[derive(Debug, Serialize)]
struct Move {
    from: Option<ShardId>,
    to: Option<ShardId>,
    slots: u32,
    ranges: Ranges,
}

impl Shape {
    fn new(map: &SlotMap, shards: impl Iterator<Item = (ShardId, Vec<u32>)>) -> Self {
        let share = |(id, nodes)| {
            let own = map.ranges_of(id);
            let ranges: Ranges = own.into_iter().map(|(first, last)| (first.0, last.0)).collect();
            Share { id, slots: slots_in(&ranges), nodes, ranges }
        };
        let shards: Vec<Share> = shards.map(share).collect();
        let largest = shards.iter().map(|share| share.slots).max().unwrap_or(0);
        let all: u32 = shards.iter().map(|share| share.slots).sum();
        Self {
            epoch: map.epoch(),
            max_over_mean: f64::from(largest) * shards.len() as f64 / f64::from(all.max(1)),
            ranges: map.ranges().len(),
            shards,
        }
    }

    fn summary(&self) -> String {
        format!(
            "{}, {}, max/mean {:.4}",
            count(self.shards.len(), "shard"),
            count(self.ranges, "range"),
            self.max_over_mean
        )
    }

    fn table(&self) -> String {
        let mut table = table(["shard", "slots", "share", "nodes", "ranges"]);
        for share in &self.shards {
            table.add_row([
                share.id.to_string(),
                share.slots.to_string(),
                format!("{:.2}%", f64::from(share.slots) * 100.0 / f64::from(SLOTS)),
                joined(share.nodes.iter()),
                lines(&share.ranges),
            ]);
        }
        table.to_string()
    }
}

impl Change {
    fn summary(&self) -> String {
        let what = if self.add.is_empty() {
            format!("Without shard {}", joined(self.remove.iter()))
        } else {
            format!("With {} {}", plural(self.add.len(), "shard"), joined(self.add.iter()))
        };
        let judged = if self.moved == self.least {
            "the least that is possible".to_owned()
        } else {
            format!("{} would be the least", self.least)
        };
        let moved = count(self.moved as usize, "slot");
        format!("{what}: {}; {moved} would move, {judged}", self.after.summary())
    }

    fn table(&self) -> String {
        let mut table = table(["from", "to", "slots", "ranges"]);
        for part in &self.moves {
            table.add_row([
                joined(part.from.iter()),
                joined(part.to.iter()),
                part.slots.to_string(),
                lines(&part.ranges),
            ]);
        }
        table.to_string()
    }
}

impl Answer {
    fn text(&self) -> String {
        let mut out = format!("{}, epoch {}\n\n", self.now.summary(), self.now.epoch);
        let _ = writeln!(out, "{}", self.now.table());
        if let Some(change) = &self.change {
            let _ = writeln!(out, "\n{}\n\n{}", change.summary(), change.table());
        }
        out
    }
}

/// Ranges in lines that a terminal can show.
fn lines(ranges: &Ranges) -> String {
    let range = |&(first, last): &(u16, u16)| format!("{first}-{last}");
    let line = |part: &[(u16, u16)]| part.iter().map(range).collect::<Vec<_>>().join(" ");
    ranges.chunks(RANGES_PER_LINE).map(line).collect::<Vec<_>>().join("\n")
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {}", plural(number, what))
}

fn plural(number: usize, what: &str) -> String {
    format!("{what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_is_the_least_that_must_move() {
        for count in 1..=20 {
            let known = Known::new_cluster(count).expect("not too many");
            for more in [1, 2, 5] {
                let change = known.adding(more).expect("not too many");
                assert_eq!(change.moved, change.least, "{count} and {more} more");
                assert_eq!(change.add.len(), more as usize);
                let from_old = change.moves.iter().all(|part| part.to > Some(ShardId(count)));
                assert!(from_old, "slots go to new shards only");
            }
            for gone in (1..=count).filter(|_| count > 1) {
                let change = known.removing(ShardId(gone)).expect("it is there");
                assert_eq!(change.moved, change.least, "{count} without {gone}");
                let from_gone = change.moves.iter().all(|part| part.from == Some(ShardId(gone)));
                assert!(from_gone, "slots come from the removed shard only");
            }
        }
    }

    #[test]
    fn what_can_not_be_is_refused_with_a_reason() {
        let known = Known::new_cluster(1).expect("not too many");
        let error = |result: anyhow::Result<Change>| result.expect_err("refused").to_string();
        assert!(error(known.removing(ShardId(1))).contains("the last one"));
        assert!(error(known.removing(ShardId(7))).contains("there is no shard 7"));
        assert!(error(known.adding(1_024)).contains("1025 shards are too many"));
        assert!(error(known.adding(u32::MAX)).contains("too many"));
        assert!(Known::new_cluster(1_025).is_err());
    }

    #[test]
    fn slots_that_nobody_owns_must_move_too() {
        let map = SlotMap::from_owners(1, |slot| (slot.0 >= 100).then_some(ShardId(1)));
        assert_eq!(least_moved(&map, &BTreeSet::from([ShardId(1)])), 100);
        assert_eq!(least_moved(&map, &BTreeSet::from([ShardId(1), ShardId(2)])), 8_192);
    }

    #[test]
    fn the_text_says_what_moves_where() {
        let known = Known::new_cluster(2).expect("not too many");
        let answer = Answer { now: known.shape(), change: Some(known.adding(1).expect("fits")) };
        let text = answer.text();
        assert!(text.starts_with("2 shards, 7 ranges, max/mean 1.0000, epoch 1\n"), "{text}");
        assert!(text.contains("With shard 3: 3 shards, "), "{text}");
        assert!(text.contains("5461 slots would move, the least that is possible"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
