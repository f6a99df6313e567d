//! SCAN and KEYS: the keys in the order of slot, hash, key.
//!
//! A cursor is (slot, first 48 bits of a hash), and a page ends between two such prefixes. So a
//! cursor stays meaningful however tables are split, joined and restored, on every replica alike,
//! and a key that is there during the whole scan is visited: its place in the order never changes.
//!
//! | bits | field |
//! |---|---|
//! | 62–48 | slot |
//! | 47–0 | prefix of the hash from which to go on |
//!
//! Cursor 0 begins, and a returned 0 says that the last slot is done. The slot is in the high bits
//! so that a cursor may also name the first slot that this shard does not own.

use flotilla_shard::Slot;

use super::hasher::KeyHasher;
use super::item::ItemView;
use super::slot_table::{PREFIX_TAIL, SlotTable};
use super::{Keyspace, PAGES};
use crate::keyspace::slots::PAGE_SLOTS;

/// Most keys that one call of [`Keyspace::scan`] aims at, whatever its caller asks for.
pub const COUNT_MAX: usize = 10_000;

const PREFIX_BITS: u32 = 48;
const SLOT_END: u16 = (PAGES * PAGE_SLOTS) as u16;

/// The slot at which a cursor goes on; `None` if it is no cursor.
pub fn cursor_slot(cursor: u64) -> Option<Slot> {
    let slot = cursor >> PREFIX_BITS;
    (slot < u64::from(SLOT_END)).then_some(Slot(slot as u16))
}

/// The cursor that begins at a slot.
pub fn cursor_at(slot: Slot) -> u64 {
    u64::from(slot.0) << PREFIX_BITS
}

impl Keyspace {
    /// Visits about `count` keys that are not expired at `now_ms`, and gives the cursor to go on
    /// with: 0 after the last slot, and the cursor of the first slot for which `owned` is false
    /// when that is reached. A cursor that names no slot gives 0.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now_ms: u64,
        owned: impl Fn(Slot) -> bool,
        visit: &mut dyn FnMut(&[u8]),
    ) -> u64 {
        let Some(first) = cursor_slot(cursor) else { return 0 };
        let mut from = cursor << (64 - PREFIX_BITS);
        let mut left = count.clamp(1, COUNT_MAX);
        for slot in first.0..SLOT_END {
            if !owned(Slot(slot)) || left == 0 {
                return cursor_at(Slot(slot)) | (from >> (64 - PREFIX_BITS));
            }
            let table = self.slots.get(slot).filter(|table| table.len() > 0);
            let next = table
                .and_then(|table| scan_slot(table, &self.hasher, from, &mut left, now_ms, visit));
            if let Some(next) = next {
                return cursor_at(Slot(slot)) | (next >> (64 - PREFIX_BITS));
            }
            from = 0;
        }
        0
    }

    /// Visits all keys that are not expired at `now_ms`.
    pub fn keys(&self, now_ms: u64, visit: &mut dyn FnMut(&[u8])) {
        let (mut from, mut unlimited) = (0, usize::MAX);
        while let Some(slot) = self.slots.next_used(from) {
            let table = self.slots.get(slot).expect("a used slot has a page");
            scan_slot(table, &self.hasher, 0, &mut unlimited, now_ms, visit);
            from = slot + 1;
        }
    }
}

/// Visits about `left` keys of a slot from the hash `from` on. Gives the hash to go on from, none
/// if the slot is done.
fn scan_slot(
    table: &SlotTable,
    hasher: &KeyHasher,
    mut from: u64,
    left: &mut usize,
    now_ms: u64,
    visit: &mut dyn FnMut(&[u8]),
) -> Option<u64> {
    loop {
        let (items, end) = table.sub_table(from);
        let hashed = items.map(|item| (hasher.hash(item.key()), item));
        let mut page: Vec<(u64, ItemView<'_>)> = hashed.filter(|item| item.0 >= from).collect();
        let mut last = end;
        if page.len() > *left {
            let (_, nth, _) = page.select_nth_unstable_by_key(*left - 1, |item| item.0);
            last = nth.0 | PREFIX_TAIL;
            page.retain(|item| item.0 <= last);
        }
        page.sort_unstable_by_key(|&(hash, item)| (hash, item.key()));
        *left = left.saturating_sub(page.len());
        for (_, item) in page {
            if !item.is_expired(now_ms) {
                visit(item.key());
            }
        }
        from = last.checked_add(1)?;
        if *left == 0 {
            return Some(from);
        }
    }
}
