//! The planner: from what the ring proposes to a map with exact shares.
//!
//! A bare ring is uneven. The first map takes the ring's proposal and then shifts the fewest slots that
//! give every shard its share; a later map starts from the one before it and follows the ring only
//! where a slot has to move anyway. Either way a slot moves at most once, and only from a shard with too
//! many to one with too few, so the number of moved slots is the least possible.
//!
//! Invariants: a shard of weight `w` among `W` owns `16384 × w / W` slots, rounded up or down. The
//! result depends on the arguments alone, and golden tests pin it: a cluster's first map must be the
//! same on every node.

use core::ops::Range;
use std::collections::BTreeMap;

use crate::{MAX_WEIGHT, Ring, SLOTS, ShardId, Slot, SlotMap, TOKENS_PER_WEIGHT};

/// The map in which each shard owns its share by weight, as near to `previous` as can be.
///
/// A shard of weight 0 owns nothing; shards of `previous` that are not listed lose all they have. The
/// epoch is one above that of `previous` if any slot moves, and 1 without `previous`. Without any
/// weight at all nobody owns a slot. Panics if a shard is listed twice or above [`MAX_WEIGHT`].
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
    assert!(weights.values().all(|&weight| weight <= MAX_WEIGHT), "a weight is at most 1024");
    if weights.values().all(|&weight| weight == 0) {
        return next_map(previous, |_| None);
    }
    let proposed = proposal(&weights);
    let Some(previous) = previous else {
        let mut draft = Draft::new(&weights, proposed.iter().map(|&shard| Some(shard)).collect());
        draft.settle();
        return next_map(None, |slot| draft.owners[usize::from(slot.0)]);
    };
    let start = Draft::new(&weights, Slot::all().map(|slot| previous.owner(slot)).collect());
    let mut draft = start.clone();
    draft.follow(&proposed);
    draft.settle();
    if draft.ranges() > range_limit(&weights) {
        // Where following the ring would cut the map into too many pieces, few pieces win.
        draft = start;
        draft.settle();
    }
    next_map(Some(previous), |slot| draft.owners[usize::from(slot.0)])
}

fn next_map(previous: Option<&SlotMap>, owner: impl FnMut(Slot) -> Option<ShardId>) -> SlotMap {
    let epoch = previous.map_or(1, |map| map.epoch() + 1);
    let map = SlotMap::from_owners(epoch, owner);
    match previous {
        Some(previous) if previous.ranges() == map.ranges() => previous.clone(),
        _ => map,
    }
}

/// Twice as many ranges as there are tokens.
fn range_limit(weights: &BTreeMap<ShardId, u32>) -> usize {
    let divisor = common_divisor(weights);
    let tokens = weights.values().map(|weight| (weight / divisor * TOKENS_PER_WEIGHT) as usize);
    2 * tokens.sum::<usize>()
}

/// What the ring of these shards says for each slot.
fn proposal(weights: &BTreeMap<ShardId, u32>) -> Vec<ShardId> {
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
    Slot::all().map(|slot| names[ring.node_for_slot(slot).expect("some weight")]).collect()
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

/// A map in the making: owners, and how many slots each owner has too many.
#[derive(Clone)]
struct Draft {
    owners: Vec<Option<ShardId>>,
    /// Positive: must give; negative: must get. `None` holds the slots without an owner.
    surplus: BTreeMap<Option<ShardId>, i32>,
}

impl Draft {
    fn new(weights: &BTreeMap<ShardId, u32>, owners: Vec<Option<ShardId>>) -> Self {
        let mut surplus: BTreeMap<Option<ShardId>, i32> = BTreeMap::new();
        for &owner in &owners {
            *surplus.entry(owner).or_insert(0) += 1;
        }
        for (shard, share) in shares(weights, &surplus) {
            *surplus.entry(Some(shard)).or_insert(0) -= share;
        }
        Self { owners, surplus }
    }

    /// Moves slots to whom `proposed` names, as far as both sides gain by it.
    fn follow(&mut self, proposed: &[ShardId]) {
        for (slot, &to) in proposed.iter().enumerate() {
            if self.room(self.owners[slot], Some(to)) > 0 {
                self.give(slot..slot + 1, Some(to));
            }
        }
    }

    /// Shifts slots until every shard has its share.
    fn settle(&mut self) {
        while self.shift_borders() || self.carve() {}
        assert!(self.surplus.values().all(|&surplus| surplus == 0), "every share is met");
    }

    /// Moves borders between a run that must shrink and a neighbour that must grow: this never adds a
    /// range. True if anything moved.
    fn shift_borders(&mut self) -> bool {
        let mut moved = false;
        for right in 1..self.owners.len() {
            moved |= self.shift_down(right);
        }
        for right in (1..self.owners.len()).rev() {
            moved |= self.shift_up(right);
        }
        moved
    }

    /// Lets the owner of `right` grow downwards.
    fn shift_down(&mut self, right: usize) -> bool {
        let (from, to) = (self.owners[right - 1], self.owners[right]);
        let room = self.room(from, to);
        let run = self.owners[..right].iter().rev().take(room).take_while(|&&owner| owner == from);
        let start = right - run.count();
        self.give(start..right, to);
        start < right
    }

    /// Lets the owner below `right` grow upwards.
    fn shift_up(&mut self, right: usize) -> bool {
        let (to, from) = (self.owners[right - 1], self.owners[right]);
        let room = self.room(from, to);
        let run = self.owners[right..].iter().take(room).take_while(|&&owner| owner == from);
        let end = right + run.count();
        self.give(right..end, to);
        right < end
    }

    /// Moves one run to the shard that lacks most; true if there was one.
    ///
    /// The longest run that may move whole is taken, since that adds no range; if there is none, a
    /// piece is cut off the longest run there is.
    fn carve(&mut self) -> bool {
        let lacking = self.surplus.iter().min_by_key(|&(_, &surplus)| surplus);
        let Some((&to, _)) = lacking.filter(|&(_, &surplus)| surplus < 0) else { return false };
        let movable = |run: &Range<usize>| run.len().min(self.room(self.owners[run.start], to));
        let runs = || self.runs().into_iter().filter(|run| movable(run) > 0).rev();
        let whole = runs().filter(|run| movable(run) == run.len()).max_by_key(Range::len);
        let Some(run) = whole.or_else(|| runs().max_by_key(Range::len)) else { return false };
        let length = movable(&run);
        self.give(run.start..run.start + length, to);
        true
    }

    /// How many slots may go from `from` to `to`, so that neither has to move any back.
    fn room(&self, from: Option<ShardId>, to: Option<ShardId>) -> usize {
        let of = |owner| self.surplus.get(&owner).copied().unwrap_or(0);
        of(from).min(-of(to)).max(0) as usize
    }

    fn give(&mut self, slots: Range<usize>, to: Option<ShardId>) {
        for slot in slots {
            let from = core::mem::replace(&mut self.owners[slot], to);
            *self.surplus.entry(from).or_insert(0) -= 1;
            *self.surplus.entry(to).or_insert(0) += 1;
        }
    }

    /// The runs of slots with one owner, in order.
    fn runs(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let chunks = self.owners.chunk_by(|left, right| left == right);
        let run = |chunk: &[Option<ShardId>]| {
            let start = end;
            end += chunk.len();
            start..end
        };
        chunks.map(run).collect()
    }

    fn ranges(&self) -> usize {
        self.runs().len()
    }
}

/// How many slots each shard is to own.
///
/// Shares are rounded down, and what remains goes, one slot each, first to those that hold more than
/// their share already, so that nothing moves for the sake of rounding; then by the size of the part
/// cut off, then by id.
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
