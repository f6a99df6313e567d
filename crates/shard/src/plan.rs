//! The planner: from what the ring proposes to a map with exact shares.
//!
//! A bare ring is uneven: with 16 tokens a member, the largest of 3 has 1.1 times its share, and
//! the largest of 64 twice. The first map takes the ring's proposal and then shifts the fewest
//! slots that give every shard its share. A later map starts from the one before it in the same
//! way. A slot moves at most once, and only from a shard with too many to one with too few, so the
//! number of moved slots is the least possible; which ones move is chosen so that the map stays in
//! few ranges.
//!
//! Invariants: a shard of weight `w` among `W` owns `16384 × w / W` slots, rounded up or down. The
//! result depends on the arguments alone, and golden tests pin it: a cluster's first map must be
//! the same on every node.
//!
//! Differs: a later map does not ask the ring again. It would move as many slots, but cut the map
//! into more and more pieces: after growing to 64 shards and shrinking again it had 593 ranges at
//! 16 shards, against 335.

use core::cmp::Reverse;
use core::iter::repeat_n;
use std::collections::BTreeMap;

use crate::{MAX_WEIGHT, META, Ring, SLOTS, ShardId, Slot, SlotMap};

/// The map in which each shard owns its share by weight, as near to `previous` as can be.
///
/// A shard of weight 0 owns nothing; shards of `previous` that are not listed lose all they have.
/// The epoch is one above that of `previous` if any slot moves, and 1 without `previous`. Without
/// any weight at all nobody owns a slot. Panics if META is listed, or a shard twice or above
/// [`MAX_WEIGHT`].
///
/// ```
/// use flotilla_shard::{ShardId, plan};
///
/// let two = plan(&[(ShardId(1), 1), (ShardId(2), 1)], None);
/// let three = plan(&[(ShardId(1), 1), (ShardId(2), 1), (ShardId(3), 1)], Some(&two));
/// let moved: u16 = two.changes(&three).iter().map(|run| run.slots()).sum();
/// assert_eq!(moved, 5461);
/// ```
pub fn plan(shards: &[(ShardId, u32)], previous: Option<&SlotMap>) -> SlotMap {
    let weights: BTreeMap<ShardId, u32> = shards.iter().copied().collect();
    assert!(weights.len() == shards.len(), "a plan lists every shard once");
    assert!(!weights.contains_key(&META), "META owns no slot");
    assert!(weights.values().all(|&weight| weight <= MAX_WEIGHT), "a weight is at most 1024");
    if weights.values().all(|&weight| weight == 0) {
        return next_map(previous, &vec![None; usize::from(SLOTS)]);
    }
    let owners = match previous {
        Some(previous) => Slot::all().map(|slot| previous.owner(slot)).collect(),
        None => proposal(&weights),
    };
    let mut draft = Draft::new(&weights, &owners);
    draft.settle();
    next_map(previous, &draft.owners())
}

fn next_map(previous: Option<&SlotMap>, owners: &[Option<ShardId>]) -> SlotMap {
    let epoch = previous.map_or(1, |map| map.epoch() + 1);
    let map = SlotMap::from_owners(epoch, |slot| owners[usize::from(slot.0)]);
    match previous {
        Some(previous) if previous.ranges() == map.ranges() => previous.clone(),
        _ => map,
    }
}

/// What the ring of these shards says for each slot.
fn proposal(weights: &BTreeMap<ShardId, u32>) -> Vec<Option<ShardId>> {
    // Weights 10 and 20 say the same as 1 and 2, in a tenth of the ranges.
    let divisor = common_divisor(weights);
    let mut ring = Ring::new();
    let names: BTreeMap<String, ShardId> =
        weights.keys().map(|&shard| (shard.to_string(), shard)).collect();
    for (name, shard) in &names {
        let weight = weights[shard] / divisor;
        if weight > 0 {
            ring.add_node(name, weight).expect("ids differ and weights are in range");
        }
    }
    Slot::all().map(|slot| ring.node_for_slot(slot).map(|name| names[name])).collect()
}

fn common_divisor(weights: &BTreeMap<ShardId, u32>) -> u32 {
    let gcd = |mut a: u32, mut b: u32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    weights.values().copied().fold(0, gcd).max(1)
}

/// A map in the making: runs of slots, and how many slots each owner has too many.
struct Draft {
    /// All owners before and after, in order; `None` owns the slots without an owner.
    owners: Vec<Option<ShardId>>,
    /// How many slots each owner has above its share: positive ones must give, negative ones get.
    surplus: Vec<i32>,
    /// Neighbours have different owners; together they cover all slots.
    runs: Vec<Run>,
}

/// Slots in a row with one owner, who is named by the position in [`Draft::owners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    owner: usize,
    length: usize,
}

/// One step towards the shares: `length` slots at an end of run `run` go to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    run: usize,
    to: usize,
    length: usize,
    /// Whether the slots are the last of the run and not its first.
    at_end: bool,
}

impl Draft {
    fn new(weights: &BTreeMap<ShardId, u32>, slots: &[Option<ShardId>]) -> Self {
        let mut held: BTreeMap<Option<ShardId>, i32> =
            weights.keys().map(|&shard| (Some(shard), 0)).collect();
        for &owner in slots {
            *held.entry(owner).or_insert(0) += 1;
        }
        let shares = shares(weights, &held);
        let share = |owner: &Option<ShardId>| owner.and_then(|shard| shares.get(&shard).copied());
        let owners: Vec<Option<ShardId>> = held.keys().copied().collect();
        let surplus = held.iter().map(|(owner, held)| held - share(owner).unwrap_or(0)).collect();
        let run = |chunk: &[Option<ShardId>]| Run {
            owner: owners.binary_search(&chunk[0]).expect("every owner is listed"),
            length: chunk.len(),
        };
        let runs = slots.chunk_by(|left, right| left == right).map(run).collect();
        Self { owners, surplus, runs }
    }

    /// The owner of each slot.
    fn owners(&self) -> Vec<Option<ShardId>> {
        self.runs.iter().flat_map(|run| repeat_n(self.owners[run.owner], run.length)).collect()
    }

    /// Moves slots until every shard has its share.
    fn settle(&mut self) {
        while let Some(step) = self.best_step() {
            self.take(step);
        }
        assert!(self.surplus.iter().all(|&surplus| surplus == 0), "every share is met");
    }

    /// The step of the highest rank, the first of equals; `None` when every share is met.
    fn best_step(&self) -> Option<Step> {
        let owners = 0..self.owners.len();
        let lacking = owners.min_by_key(|&owner| self.surplus[owner])?;
        let mut best: Option<(Rank, Step)> = None;
        for (position, run) in self.runs.iter().enumerate() {
            if self.surplus[run.owner] <= 0 {
                continue;
            }
            let left = position.checked_sub(1).map(|left| self.runs[left].owner);
            let right = self.runs.get(position + 1).map(|right| right.owner);
            for (to, at_end) in [(left, false), (right, true), (Some(lacking), false)] {
                let Some(to) = to else { continue };
                let length = run.length.min(self.room(run.owner, to));
                if length == 0 {
                    continue;
                }
                let joined = u8::from(left == Some(to)) + u8::from(right == Some(to));
                let rank = Rank::of(joined, length == run.length, length);
                if best.is_none_or(|(highest, _)| rank > highest) {
                    best = Some((rank, Step { run: position, to, length, at_end }));
                }
            }
        }
        best.map(|(_, step)| step)
    }

    fn take(&mut self, step: Step) {
        let Step { run: position, to, length, at_end } = step;
        let from = self.runs[position];
        self.surplus[from.owner] -= length as i32;
        self.surplus[to] += length as i32;
        let rest = Run { length: from.length - length, ..from };
        let moved = Run { owner: to, length };
        let pieces = if at_end { [rest, moved] } else { [moved, rest] };
        let pieces = pieces.into_iter().filter(|piece| piece.length > 0);
        self.runs.splice(position..=position, pieces);
        self.runs.dedup_by(|next, run| {
            let same = next.owner == run.owner;
            if same {
                run.length += next.length;
            }
            same
        });
    }

    /// How many slots may go from `from` to `to`, so that neither has to move any back.
    fn room(&self, from: usize, to: usize) -> usize {
        self.surplus[from].min(-self.surplus[to]).max(0) as usize
    }
}

/// How much a step helps to keep the runs few; the greatest is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Cuts a piece out of a run, the longer the better: one run more.
    Cuts { length: usize },
    /// Hands on a whole run, the longer the better: as many runs as before.
    HandsOn { length: usize },
    /// Shifts a border, the further the better: as many runs as before.
    Shifts { length: usize },
    /// Joins a run to one or two neighbours: so many runs fewer. The shorter the better, since the
    /// slots that may move are few.
    Joins { runs: u8, length: Reverse<usize> },
}

impl Rank {
    /// The rank of moving `length` slots next to `joined` runs of their new owner.
    fn of(joined: u8, whole: bool, length: usize) -> Self {
        match (joined, whole) {
            (0, false) => Self::Cuts { length },
            (0, true) => Self::HandsOn { length },
            (_, false) => Self::Shifts { length },
            (runs, true) => Self::Joins { runs, length: Reverse(length) },
        }
    }
}

/// How many slots each shard is to own.
///
/// Shares are rounded down, and what remains goes, one slot each, first to those that hold more
/// than their share already, so that nothing moves for the sake of rounding; then by the size of
/// the part cut off, then by id.
fn shares(
    weights: &BTreeMap<ShardId, u32>,
    held: &BTreeMap<Option<ShardId>, i32>,
) -> BTreeMap<ShardId, i32> {
    let total: u64 = weights.values().map(|&weight| u64::from(weight)).sum();
    let exact = |weight: u32| u64::from(SLOTS) * u64::from(weight);
    let mut shares: BTreeMap<ShardId, i32> =
        weights.iter().map(|(&shard, &weight)| (shard, (exact(weight) / total) as i32)).collect();
    let mut claims: Vec<(bool, u64, ShardId)> = Vec::new();
    for (&shard, &weight) in weights {
        let cut_off = exact(weight) % total;
        if cut_off > 0 {
            let holds_more = held.get(&Some(shard)).is_some_and(|&held| held > shares[&shard]);
            claims.push((!holds_more, total - cut_off, shard));
        }
    }
    claims.sort_unstable();
    let remainder = i32::from(SLOTS) - shares.values().sum::<i32>();
    for &(_, _, shard) in &claims[..remainder as usize] {
        *shares.entry(shard).or_insert(0) += 1;
    }
    shares
}

#[cfg(test)]
mod tests;
