//! The table of one slot, cut into sub-tables of at most 1,000 keys.
//!
//! A sub-table covers an interval of hashes and is split in the middle of it when it is full, so
//! that resizing, scanning, capturing and freeing one are all bounded [P11]. Most slots have one
//! sub-table only. Neighbours that have become small are joined again.
//!
//! Invariants: every item is in the sub-table whose interval holds its hash; sub-tables begin at
//! multiples of 2^16, so that a SCAN cursor can name each border; `expiries` has
//! (expiry, hash) exactly for the items that expire; `len`, `bytes` and `digest` are the sums over
//! the items.

use std::collections::{BTreeMap, BTreeSet};

use super::digest;
use super::hasher::KeyHasher;
use super::item::{Item, ItemView};
use super::sub_table::{Leaving, SubTable};

/// Most keys of a sub-table.
pub(crate) const KEYS_PER_TABLE: usize = 1_000;

/// Neighbours with together no more keys than this are joined.
const JOINED_BELOW: usize = KEYS_PER_TABLE / 4;

/// The bits of a hash that a SCAN cursor has no room for; sub-tables begin where they are all 0.
pub(crate) const PREFIX_TAIL: u64 = 0xFFFF;

/// What an item costs in memory besides its bytes, on the average of small ones: its header, its
/// place, and what of arena and table is not used.
const ITEM_BYTES: u64 = 20;

/// All keys of one slot.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    /// Covers the hashes from 0 to where the first of `rest` begins.
    first: SubTable,
    /// Further sub-tables by the lowest hash that each covers.
    rest: BTreeMap<u64, SubTable>,
    expiries: BTreeSet<(u64, u64)>,
    len: usize,
    bytes: u64,
    digest: u64,
    /// The index of the entry that changed it last.
    changed_at: u64,
}

impl SlotTable {
    /// Sets a key to a value with an expiry. Gives back what it was, if that had memory of its own
    /// and was not overwritten.
    pub(crate) fn set(
        &mut self,
        hasher: &KeyHasher,
        hash: u64,
        key: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Option<Item> {
        let table = self.table_mut(hash);
        let (mut old, mut left) = (None, None);
        if let Some(bucket) = table.find(hash, key) {
            old = Some(Weight::of(hash, table.view(bucket)));
            left = table.replace(hasher, bucket, key, value, expires_at_ms);
        } else {
            table.insert(hasher, hash, key, value, expires_at_ms);
            if table.len() > KEYS_PER_TABLE {
                self.split(hasher, hash);
            }
        }
        self.account_in(hash, Weight::new(hash, key, value, expires_at_ms));
        if let Some(old) = old {
            self.account_out(hasher, hash, old);
        }
        left
    }

    /// Adds `tail` to the end of a key's value and gives the new length, if the key is here.
    pub(crate) fn append(&mut self, hash: u64, key: &[u8], tail: &[u8]) -> Option<usize> {
        let table = self.table_mut(hash);
        let bucket = table.find(hash, key)?;
        let value = table.view(bucket).value();
        let block = value.len() / digest::BLOCK;
        let before = digest::of_value(hash, value, block);
        table.append(bucket, tail);
        let value = table.view(bucket).value();
        let (after, len) = (digest::of_value(hash, value, block), value.len());
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        self.bytes += tail.len() as u64;
        Some(len)
    }

    /// Changes when a key expires, if it is here.
    pub(crate) fn set_expiry(
        &mut self,
        hasher: &KeyHasher,
        hash: u64,
        key: &[u8],
        expires_at_ms: Option<u64>,
    ) {
        let table = self.table_mut(hash);
        let Some(bucket) = table.find(hash, key) else { return };
        let before = table.view(bucket).expires_at_ms();
        table.set_expiry(bucket, expires_at_ms);
        let (old, new) = (digest::of_head(hash, before), digest::of_head(hash, expires_at_ms));
        self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
        if before != expires_at_ms {
            self.forget_expiry(hasher, before, hash);
            expires_at_ms.map(|at| self.expiries.insert((at, hash)));
        }
    }

    /// Takes the item of a key out and gives it to `out`, if it is here.
    pub(crate) fn remove<R>(
        &mut self,
        hasher: &KeyHasher,
        hash: u64,
        key: &[u8],
        out: impl FnOnce(Leaving<'_>) -> R,
    ) -> Option<R> {
        let table = self.table_mut(hash);
        let (weight, result) =
            table.remove(hasher, hash, key, |item| (Weight::of(hash, item.view()), out(item)))?;
        let len = table.len();
        self.account_out(hasher, hash, weight);
        if len <= JOINED_BELOW && !self.rest.is_empty() {
            self.join(hasher, hash);
        }
        Some(result)
    }

    /// The item of a key.
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<ItemView<'_>> {
        self.table(hash).get(hash, key)
    }

    /// Reads the memory that finding a key of this hash reads, and gives back some of it.
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        self.table(hash).touch(hash)
    }

    /// All items whose key has this hash, in no order.
    pub(crate) fn with_hash<'a>(
        &'a self,
        hasher: &'a KeyHasher,
        hash: u64,
    ) -> impl Iterator<Item = ItemView<'a>> {
        self.table(hash).with_hash(hasher, hash)
    }

    /// The items of the sub-table that covers `hash`, in no order, and the last hash it covers.
    pub(crate) fn sub_table(&self, hash: u64) -> (impl Iterator<Item = ItemView<'_>>, u64) {
        (self.table(hash).iter(), self.interval(hash).1)
    }

    /// Number of keys, expired ones that were not purged included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of keys, values and their places.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sum of its items' digests.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The index of the entry that changed it last, 0 if none has.
    pub(crate) fn changed_at(&self) -> u64 {
        self.changed_at
    }

    /// The entry at `index` has changed it.
    pub(crate) fn note_change(&mut self, index: u64) {
        self.changed_at = index;
    }

    /// Whether it was never used or is as good as that.
    pub(crate) fn is_unused(&self) -> bool {
        self.len == 0 && self.rest.is_empty() && self.first.is_unused()
    }

    /// The earliest expiry, in Unix milliseconds, with the lowest hash that has it.
    pub(crate) fn earliest_expiry(&self) -> Option<(u64, u64)> {
        self.expiries.first().copied()
    }

    /// Whether some item expires after `from_ms` and not after `to_ms`.
    pub(crate) fn expires_between(&self, from_ms: u64, to_ms: u64) -> bool {
        let range = (from_ms.saturating_add(1), 0)..=(to_ms, u64::MAX);
        from_ms < to_ms && self.expiries.range(range).next().is_some()
    }

    /// Takes one of its parts out for being freed; the sums don't follow.
    pub(super) fn dismantle(&mut self) -> Part {
        if !self.first.is_unused() {
            return Part::Table(std::mem::take(&mut self.first));
        }
        if let Some((_, table)) = self.rest.pop_first() {
            return Part::Table(table);
        }
        self.expiries.pop_first().map_or(Part::Nothing, |_| Part::Expiry)
    }

    fn table(&self, hash: u64) -> &SubTable {
        if self.rest.is_empty() {
            return &self.first;
        }
        self.rest.range(..=hash).next_back().map_or(&self.first, |(_, table)| table)
    }

    fn table_mut(&mut self, hash: u64) -> &mut SubTable {
        if self.rest.is_empty() {
            return &mut self.first;
        }
        self.rest.range_mut(..=hash).next_back().map_or(&mut self.first, |(_, table)| table)
    }

    /// The first and the last hash of the sub-table that covers `hash`.
    fn interval(&self, hash: u64) -> (u64, u64) {
        let low = self.rest.range(..=hash).next_back().map_or(0, |(&low, _)| low);
        let above = hash.checked_add(1).and_then(|next| self.rest.range(next..).next());
        (low, above.map_or(u64::MAX, |(&high, _)| high - 1))
    }

    fn split(&mut self, hasher: &KeyHasher, hash: u64) {
        let (low, high) = self.interval(hash);
        let middle = (low + (high - low) / 2 + 1) & !PREFIX_TAIL;
        if middle > low {
            let upper = self.table_mut(hash).split_off(hasher, middle);
            self.rest.insert(middle, upper);
        }
    }

    /// Joins the sub-table that covers `hash` with its upper neighbour, or else its lower one, if
    /// both are small.
    fn join(&mut self, hasher: &KeyHasher, hash: u64) {
        let (low, high) = self.interval(hash);
        let seams = [high.checked_add(1), Some(low).filter(|&low| low > 0)];
        for seam in seams.into_iter().flatten() {
            let together = self.table(seam).len() + self.table(seam - 1).len();
            if together <= JOINED_BELOW {
                let upper = self.rest.remove(&seam).expect("a seam is where a sub-table begins");
                self.table_mut(seam - 1).absorb(hasher, upper);
                return;
            }
        }
    }

    /// An item of this hash has come.
    fn account_in(&mut self, hash: u64, item: Weight) {
        self.len += 1;
        self.bytes += item.bytes;
        self.digest = self.digest.wrapping_add(item.digest);
        item.expires_at_ms.map(|at| self.expiries.insert((at, hash)));
    }

    /// An item of this hash has left.
    fn account_out(&mut self, hasher: &KeyHasher, hash: u64, item: Weight) {
        self.len -= 1;
        self.bytes -= item.bytes;
        self.digest = self.digest.wrapping_sub(item.digest);
        self.forget_expiry(hasher, item.expires_at_ms, hash);
    }

    /// Drops an item's place in the order of expiry; another key of the same hash may need it.
    fn forget_expiry(&mut self, hasher: &KeyHasher, expires_at_ms: Option<u64>, hash: u64) {
        let Some(at) = expires_at_ms else { return };
        let mut others = self.with_hash(hasher, hash);
        if !others.any(|item| item.expires_at_ms() == Some(at)) {
            drop(others);
            self.expiries.remove(&(at, hash));
        }
    }
}

/// What an item adds to the sums of its slot.
#[derive(Debug)]
struct Weight {
    bytes: u64,
    digest: u64,
    expires_at_ms: Option<u64>,
}

impl Weight {
    fn new(hash: u64, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> Self {
        let bytes = (key.len() + value.len()) as u64 + ITEM_BYTES;
        Self { bytes, digest: digest::of_item(hash, value, expires_at_ms), expires_at_ms }
    }

    fn of(hash: u64, item: ItemView<'_>) -> Self {
        Self::new(hash, item.key(), item.value(), item.expires_at_ms())
    }
}

/// A part of a slot's table that is being freed.
#[derive(Debug)]
pub(super) enum Part {
    /// A sub-table.
    Table(SubTable),
    /// One place in the order of expiry.
    Expiry,
    /// All parts are gone.
    Nothing,
}

#[cfg(test)]
mod tests;
