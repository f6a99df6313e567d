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

use hashbrown::HashTable;

use super::item::Item;

/// Most keys of a sub-table.
pub(crate) const KEYS_PER_TABLE: usize = 1_000;

/// Neighbours with together no more keys than this are joined.
const JOINED_BELOW: usize = KEYS_PER_TABLE / 4;

/// The bits of a hash that a SCAN cursor has no room for; sub-tables begin where they are all 0.
pub(crate) const PREFIX_TAIL: u64 = 0xFFFF;

/// What an item costs in memory besides its bytes: its place in the table.
const PLACE_BYTES: u64 = 32;

/// All keys of one slot.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    /// Covers the hashes from 0 to where the first of `rest` begins.
    first: HashTable<Item>,
    /// Further sub-tables by the lowest hash that each covers.
    rest: BTreeMap<u64, HashTable<Item>>,
    expiries: BTreeSet<(u64, u64)>,
    len: usize,
    bytes: u64,
    digest: u64,
    /// The index of the entry that changed it last.
    changed_at: u64,
}

impl SlotTable {
    /// Adds an item whose key is not here. The caller has checked that.
    pub(crate) fn insert(&mut self, item: Item) {
        let hash = item.hash();
        self.account_in(&item);
        if let Some(at) = item.expires_at_ms() {
            self.expiries.insert((at, hash));
        }
        let table = self.table_mut(hash);
        table.insert_unique(spread(hash), item, |item| spread(item.hash()));
        if table.len() > KEYS_PER_TABLE {
            self.split(hash);
        }
    }

    /// Takes the item of a key out.
    pub(crate) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Item> {
        let table = self.table_mut(hash);
        let found = table.find_entry(spread(hash), |item| item.hash() == hash && item.key() == key);
        let (item, _) = found.ok()?.remove();
        let len = table.len();
        if table.capacity() > 16 && len < table.capacity() / 8 {
            table.shrink_to(len * 2, |item| spread(item.hash()));
        }
        self.account_out(&item);
        self.forget_expiry(item.expires_at_ms(), hash);
        if len <= JOINED_BELOW && !self.rest.is_empty() {
            self.join(hash);
        }
        Some(item)
    }

    /// Changes the item of a key in place; says whether it was there. `change` must leave the
    /// key as it is.
    pub(crate) fn edit<R>(
        &mut self,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(&mut Item) -> Edited<R>,
    ) -> Option<R> {
        let table = self.table_mut(hash);
        let item = table.find_mut(spread(hash), |item| item.hash() == hash && item.key() == key)?;
        let (size, before) = (item.size() as u64, item.expires_at_ms());
        let edited = change(item);
        let (new_size, after) = (item.size() as u64, item.expires_at_ms());
        self.bytes = self.bytes - size + new_size;
        self.digest = self.digest.wrapping_add(edited.digest_change);
        if before != after {
            self.forget_expiry(before, hash);
            if let Some(at) = after {
                self.expiries.insert((at, hash));
            }
        }
        Some(edited.result)
    }

    /// The item of a key.
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<&Item> {
        let table = self.table(hash);
        table.find(spread(hash), |item| item.hash() == hash && item.key() == key)
    }

    /// Reads the memory that finding the item of this hash reads, and gives back some of it.
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        let table = self.table(hash);
        let found = table.find(spread(hash), |item| item.hash() == hash);
        found.and_then(Item::expires_at_ms).unwrap_or(hash)
    }

    /// All items whose key has this hash, in no order.
    pub(crate) fn with_hash(&self, hash: u64) -> impl Iterator<Item = &Item> {
        let same = move |item: &&Item| item.hash() == hash;
        self.table(hash).iter_hash(spread(hash)).filter(same)
    }

    /// The items of the sub-table that covers `hash`, in no order, and the last hash it covers.
    pub(crate) fn sub_table(&self, hash: u64) -> (impl Iterator<Item = &Item>, u64) {
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
        self.len == 0 && self.rest.is_empty() && self.first.capacity() == 0
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
        if self.first.capacity() > 0 {
            return Part::Table(std::mem::take(&mut self.first));
        }
        if let Some((_, table)) = self.rest.pop_first() {
            return Part::Table(table);
        }
        self.expiries.pop_first().map_or(Part::Nothing, |_| Part::Expiry)
    }

    fn table(&self, hash: u64) -> &HashTable<Item> {
        if self.rest.is_empty() {
            return &self.first;
        }
        self.rest.range(..=hash).next_back().map_or(&self.first, |(_, table)| table)
    }

    fn table_mut(&mut self, hash: u64) -> &mut HashTable<Item> {
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

    fn split(&mut self, hash: u64) {
        let (low, high) = self.interval(hash);
        let middle = (low + (high - low) / 2 + 1) & !PREFIX_TAIL;
        if middle <= low {
            return;
        }
        let lower = self.table_mut(hash);
        let mut upper = HashTable::with_capacity(KEYS_PER_TABLE);
        for item in lower.extract_if(|item| item.hash() >= middle) {
            upper.insert_unique(spread(item.hash()), item, |item| spread(item.hash()));
        }
        self.rest.insert(middle, upper);
    }

    /// Joins the sub-table that covers `hash` with its upper neighbour, or else its lower one, if
    /// both are small.
    fn join(&mut self, hash: u64) {
        let (low, high) = self.interval(hash);
        let seams = [high.checked_add(1), Some(low).filter(|&low| low > 0)];
        for seam in seams.into_iter().flatten() {
            let together = self.table(seam).len() + self.table(seam - 1).len();
            if together > JOINED_BELOW {
                continue;
            }
            let upper = self.rest.remove(&seam).expect("a seam is where a sub-table begins");
            let lower = self.table_mut(seam - 1);
            for item in upper {
                lower.insert_unique(spread(item.hash()), item, |item| spread(item.hash()));
            }
            return;
        }
    }

    fn account_in(&mut self, item: &Item) {
        self.len += 1;
        self.bytes += item.size() as u64 + PLACE_BYTES;
        self.digest = self.digest.wrapping_add(item.digest());
    }

    fn account_out(&mut self, item: &Item) {
        self.len -= 1;
        self.bytes -= item.size() as u64 + PLACE_BYTES;
        self.digest = self.digest.wrapping_sub(item.digest());
    }

    /// Drops an item's place in the order of expiry; another key of the same hash may need it.
    fn forget_expiry(&mut self, expires_at_ms: Option<u64>, hash: u64) {
        let Some(at) = expires_at_ms else { return };
        if !self.with_hash(hash).any(|item| item.expires_at_ms() == Some(at)) {
            self.expiries.remove(&(at, hash));
        }
    }
}

/// What a change in place did to the digest, and what it gives back.
#[derive(Debug)]
pub(crate) struct Edited<R> {
    /// New digest of the item minus the old one, wrapping.
    pub(crate) digest_change: u64,
    /// For the caller.
    pub(crate) result: R,
}

/// A part of a slot's table that is being freed.
#[derive(Debug)]
pub(super) enum Part {
    /// A sub-table.
    Table(HashTable<Item>),
    /// One place in the order of expiry.
    Expiry,
    /// All parts are gone.
    Nothing,
}

/// The hash as the tables take it. They look at the top and at the bottom bits; the top ones are
/// nearly the same for all items of a sub-table.
fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

#[cfg(test)]
mod tests;
