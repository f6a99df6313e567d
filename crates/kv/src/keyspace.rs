//! The keys of a shard: a table per slot, the order of expiry, SCAN, and the cut of a snapshot.
//!
//! Whatever changes goes through [`Keyspace::set`], [`Keyspace::append`], [`Keyspace::set_expiry`],
//! [`Keyspace::remove`], [`Keyspace::purge`] and the two `clear`s, and these keep the sums (number
//! of keys, bytes, digest), the order of expiry and a cut that is being walked. A key whose expiry
//! has come counts as absent from then on, whether or not it was purged.
//!
//! Invariants: `totals` is the sum over the slots; `earliest` has, for each slot with an expiring
//! key, the earliest expiry; a slot's keys are what they were at every index from the later of its
//! own mark and `all_changed_at` on; nothing that can be asked depends on the layout of a table
//! (P12).

mod arena;
mod cut;
mod digest;
mod graveyard;
mod hasher;
mod item;
mod scan;
mod slot_table;
mod slots;
mod sub_table;

use std::collections::BTreeSet;

use flotilla_shard::{SLOTS, Slot};

pub use self::digest::ItemDigest;
pub use self::scan::{COUNT_MAX, cursor_at, cursor_slot};

pub(crate) use self::cut::Old;
pub(crate) use self::digest::{of_bytes, of_words};

use self::cut::Cut;
use self::graveyard::Graveyard;
use self::hasher::KeyHasher;
use self::slot_table::SlotTable;
use self::slots::{PAGES, Slots};
use self::sub_table::Leaving;
use crate::scope::SlotSet;

/// The keys of a shard, by slot.
#[derive(Debug)]
pub struct Keyspace {
    hash_seed: u64,
    hasher: KeyHasher,
    slots: Slots,
    earliest: BTreeSet<(u64, u16)>,
    totals: Totals,
    graveyard: Graveyard,
    cut: Option<Box<Cut>>,
    /// The entry that is being applied: the mark of what changes.
    index: u64,
    /// All slots together were changed last by the entry at this index.
    all_changed_at: u64,
}

/// The value of a key, as [`Keyspace::get`] found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The value.
    pub value: &'a [u8],
    /// When it expires, in Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

/// Sums over tables.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    keys: u64,
    bytes: u64,
    digest: u64,
}

/// What a change of one slot works on.
struct Change<'a> {
    hasher: &'a KeyHasher,
    table: &'a mut SlotTable,
    cut: Option<&'a mut Cut>,
    graveyard: &'a mut Graveyard,
    slot: u16,
}

impl Keyspace {
    /// No keys. All replicas of all shards of a cluster use one seed, from its founding record.
    pub fn new(hash_seed: u64) -> Self {
        Self {
            hash_seed,
            hasher: KeyHasher::new(hash_seed),
            slots: Slots::default(),
            earliest: BTreeSet::new(),
            totals: Totals::default(),
            graveyard: Graveyard::default(),
            cut: None,
            index: 0,
            all_changed_at: 0,
        }
    }

    /// What changes from now on is changed by the entry at `index`.
    pub(crate) fn begin_entry(&mut self, index: u64) {
        self.index = index;
    }

    /// All there is is as it was at `index`, and what was before is not known.
    pub(crate) fn begin_at(&mut self, index: u64) {
        (self.index, self.all_changed_at) = (index, index);
    }

    /// The slots whose keys are the same at every index from `index` on, empty ones too.
    pub(crate) fn unchanged_since(&self, index: u64) -> SlotSet {
        let mut unchanged = SlotSet::new();
        if self.all_changed_at <= index {
            let changed_at = |slot| self.slots.get(slot).map_or(0, SlotTable::changed_at);
            let slots = (0..SLOTS).filter(|&slot| changed_at(slot) <= index);
            slots.for_each(|slot| unchanged.insert(Slot(slot)));
        }
        unchanged
    }

    /// What [`Keyspace::touch`] takes of a key.
    pub(crate) fn place(&self, slot: u16, key: &[u8]) -> (u16, u64) {
        (slot, self.hasher.hash(key))
    }

    /// Reads the memory that accesses to these places will read. Nothing depends on what is read,
    /// so the reads overlap; those of commands that are executed one after the other don't.
    pub(crate) fn touch(&self, places: &[(u16, u64)]) {
        let table = |slot| self.slots.get(slot);
        let read = |&(slot, hash): &(u16, u64)| table(slot).map_or(0, |table| table.touch(hash));
        std::hint::black_box(places.iter().map(read).fold(0, std::ops::BitXor::bitxor));
    }

    /// Sets a key to a value, with an expiry in Unix milliseconds or none.
    pub fn set(&mut self, slot: Slot, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) {
        let (hash, expires_at_ms) = (self.hasher.hash(key), past_epoch(expires_at_ms));
        self.change(slot, |change| change.set(hash, key, value, expires_at_ms));
    }

    /// Adds `tail` to the end of a key's value and gives the new length. A key that is absent or
    /// expired at `now_ms` is created; otherwise its expiry stays.
    pub fn append(&mut self, slot: Slot, key: &[u8], tail: &[u8], now_ms: u64) -> usize {
        let hash = self.hasher.hash(key);
        self.change(slot, |change| change.append(hash, key, tail, now_ms))
    }

    /// Changes when a key expires; says whether the key is there at `now_ms`.
    pub fn set_expiry(
        &mut self,
        slot: Slot,
        key: &[u8],
        expires_at_ms: Option<u64>,
        now_ms: u64,
    ) -> bool {
        let (hash, expires_at_ms) = (self.hasher.hash(key), past_epoch(expires_at_ms));
        if self.get(slot, key, now_ms).is_none() {
            return false;
        }
        self.change(slot, |change| change.set_expiry(hash, key, expires_at_ms));
        true
    }

    /// Removes a key; says whether it was there and not expired at `now_ms`.
    pub fn remove(&mut self, slot: Slot, key: &[u8], now_ms: u64) -> bool {
        let hash = self.hasher.hash(key);
        let Some(item) = self.slots.get(slot.0).and_then(|table| table.find(hash, key)) else {
            return false;
        };
        let was_there = !item.is_expired(now_ms);
        self.change(slot, |mut change| change.take_out(hash, key));
        was_there
    }

    /// Removes all keys of a slot. Their memory goes later, by [`Keyspace::free`].
    pub fn clear_slot(&mut self, slot: Slot) {
        self.change(slot, |change| {
            let table = std::mem::take(change.table);
            match change.cut {
                Some(cut) => cut.keep_slot(change.slot, table, change.graveyard),
                None => change.graveyard.bury_slot(table),
            }
        });
    }

    /// Removes all keys. Their memory goes later, by [`Keyspace::free`].
    pub fn clear_all(&mut self) {
        for number in 0..PAGES {
            let Some(page) = self.slots.page_mut(number).take() else { continue };
            match &mut self.cut {
                Some(cut) => cut.keep_page(number, page, &mut self.graveyard),
                None => self.graveyard.bury_page(page),
            }
        }
        self.earliest.clear();
        self.totals = Totals::default();
        self.all_changed_at = self.index;
    }

    /// Removes up to `at_most` keys that are expired at `now_ms`, the earliest first, and gives
    /// their number. The order is by expiry, slot, hash, key.
    pub fn purge(&mut self, now_ms: u64, at_most: usize) -> usize {
        for purged in 0..at_most {
            let Some(&(at, slot)) = self.earliest.first() else { return purged };
            if at > now_ms {
                return purged;
            }
            self.change(Slot(slot), |mut change| change.take_out_earliest());
        }
        at_most
    }

    /// Frees about `at_most` keys that are no longer part of the state; says whether all are.
    pub fn free(&mut self, at_most: usize) -> bool {
        self.graveyard.free(at_most)
    }

    /// The value of a key, if it is there and not expired at `now_ms`.
    pub fn get(&self, slot: Slot, key: &[u8], now_ms: u64) -> Option<Found<'_>> {
        let item = self.slots.get(slot.0)?.find(self.hasher.hash(key), key)?;
        let found = Found { value: item.value(), expires_at_ms: item.expires_at_ms() };
        (!item.is_expired(now_ms)).then_some(found)
    }

    /// Number of keys, expired ones that were not purged yet included.
    pub fn len(&self) -> u64 {
        self.totals.keys
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.totals.keys == 0
    }

    /// Number of keys of a slot, expired ones that were not purged yet included.
    pub fn slot_len(&self, slot: Slot) -> u64 {
        self.slots.get(slot.0).map_or(0, |table| table.len() as u64)
    }

    /// Bytes of keys and values, with what a table needs for each; what waits to be freed is not
    /// counted.
    pub fn bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// When the next key expires, in Unix milliseconds; in the past if keys wait to be purged.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.earliest.first().map(|&(at, _)| at)
    }

    /// Whether some key expires after `from_ms` and not after `to_ms`.
    pub(crate) fn expires_between(&self, from_ms: u64, to_ms: u64) -> bool {
        let due = self.earliest.range(..=(to_ms, u16::MAX));
        due.into_iter().any(|&(_, slot)| {
            self.slots.get(slot).is_some_and(|table| table.expires_between(from_ms, to_ms))
        })
    }

    /// The sum of the items' digests: equal for equal keys, values and expiries.
    pub(crate) fn digest(&self) -> u64 {
        self.totals.digest
    }

    /// The seed that all replicas share.
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// Takes over the keys of `other` and leaves the own ones to be freed; a running cut ends.
    pub(crate) fn replace(&mut self, mut other: Keyspace) {
        self.end_cut();
        self.clear_all();
        std::mem::swap(&mut self.graveyard, &mut other.graveyard);
        *self = other;
    }

    /// Changes the table of one slot and keeps sums and order of expiry.
    fn change<R>(&mut self, slot: Slot, change: impl FnOnce(Change<'_>) -> R) -> R {
        let table = self.slots.obtain(slot.0);
        let (before, earliest) = (Totals::of(table), table.earliest_expiry());
        let result = change(Change {
            hasher: &self.hasher,
            table: &mut *table,
            cut: self.cut.as_deref_mut(),
            graveyard: &mut self.graveyard,
            slot: slot.0,
        });
        table.note_change(self.index);
        self.totals = self.totals.minus(before).plus(Totals::of(table));
        let (old, new) = (earliest.map(|at| at.0), table.earliest_expiry().map(|at| at.0));
        if old != new {
            old.map(|at| self.earliest.remove(&(at, slot.0)));
            new.map(|at| self.earliest.insert((at, slot.0)));
        }
        result
    }
}

impl Change<'_> {
    fn set(mut self, hash: u64, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) {
        if let Some(cut) = &mut self.cut {
            if self.table.find(hash, key).is_none() {
                cut.note_absent(self.slot, hash, key);
            } else if cut.needs_item(self.slot, hash, key) {
                self.take_out(hash, key);
            }
        }
        if let Some(item) = self.table.set(self.hasher, hash, key, value, expires_at_ms) {
            self.graveyard.bury_item(item);
        }
    }

    fn append(mut self, hash: u64, key: &[u8], tail: &[u8], now_ms: u64) -> usize {
        let alive = self.table.find(hash, key).filter(|item| !item.is_expired(now_ms));
        let Some(item) = alive else {
            self.set(hash, key, tail, None);
            return tail.len();
        };
        if let Some(cut) = &mut self.cut {
            cut.note_edit(self.slot, hash, item);
        }
        self.table.append(hash, key, tail).expect("the key was just found")
    }

    fn set_expiry(mut self, hash: u64, key: &[u8], expires_at_ms: Option<u64>) {
        if let (Some(cut), Some(item)) = (&mut self.cut, self.table.find(hash, key)) {
            cut.note_edit(self.slot, hash, item);
        }
        self.table.set_expiry(self.hasher, hash, key, expires_at_ms);
    }

    /// Removes the key that expires first; of equal ones that with the lowest hash, then key.
    fn take_out_earliest(&mut self) {
        let (at, hash) = self.table.earliest_expiry().expect("the slot has an expiring key");
        let of_hash = self.table.with_hash(self.hasher, hash);
        let due = of_hash.filter(|item| item.expires_at_ms() == Some(at));
        let key = due.map(|item| item.key()).min();
        let key = key.expect("the order of expiry names only present keys").to_vec();
        self.take_out(hash, &key);
    }

    /// Takes an item out of the table, to the cut if that needs it.
    fn take_out(&mut self, hash: u64, key: &[u8]) {
        let cut = self.cut.as_deref_mut().filter(|cut| cut.needs_item(self.slot, hash, key));
        let graveyard = &mut *self.graveyard;
        self.table.remove(self.hasher, hash, key, |item| match (cut, item) {
            (Some(cut), item) => cut.take_old(self.slot, hash, item.into_item()),
            (None, Leaving::Large(item)) => graveyard.bury_item(item),
            (None, Leaving::Small(_)) => {}
        });
    }
}

impl Totals {
    fn of(table: &SlotTable) -> Self {
        Self { keys: table.len() as u64, bytes: table.bytes(), digest: table.digest() }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            keys: self.keys + other.keys,
            bytes: self.bytes + other.bytes,
            digest: self.digest.wrapping_add(other.digest),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            keys: self.keys - other.keys,
            bytes: self.bytes - other.bytes,
            digest: self.digest.wrapping_sub(other.digest),
        }
    }
}

/// An expiry as it is kept: at the epoch itself it becomes 1, which is as long past, since a field
/// of 0 means never.
fn past_epoch(expires_at_ms: Option<u64>) -> Option<u64> {
    expires_at_ms.map(|at| at.max(1))
}

#[cfg(test)]
mod tests;
