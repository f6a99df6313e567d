//! A consistent picture of the keys at one moment, written down while they go on changing [P11].
//!
//! The walker goes through the keys in the order of (slot, hash, key). Its `position` divides them:
//! below it, a change needs no care. From it on, the first change of a key leaves a *shadow*: the
//! old item, or that there was none, or that the old value is a prefix of the present one (after an
//! append or a new expiry, so that a big value is never copied). What the walker writes of a hash
//! is the table without shadowed keys, and the shadows' old items. A slot that is cleared before
//! the walker came by is kept whole. A slot that somebody has written down before is left out: the
//! walker passes by, and its changes need no care.
//!
//! Invariants: at any time, the written keys and [table − shadows + old items] from `position` on
//! are the keys at the cut; shadows below `position` are gone; a kept slot gets no new shadow.

use std::collections::BTreeMap;

use flotilla_shard::Slot;
use smallvec::SmallVec;

use super::Keyspace;
use super::graveyard::Graveyard;
use super::hasher::KeyHasher;
use super::item::{Item, ItemView};
use super::slot_table::{KEYS_PER_TABLE, SlotTable};
use super::slots::{PAGE_SLOTS, PAGES, Page, Slots};
use crate::scope::SlotSet;

/// Keys looked at after which a call ends; the last sub-table is still listed whole.
const STEPS_PER_WALK: usize = KEYS_PER_TABLE;

/// The old states of changed keys, by slot and hash.
pub(super) type Shadows = BTreeMap<(u16, u64), SmallVec<[Shadow; 1]>>;

/// What there was of a key at the cut, if it has changed since.
#[derive(Debug)]
pub(super) enum Shadow {
    /// Nothing.
    Absent(Box<[u8]>),
    /// The item that is still in the table, with a shorter value or another expiry.
    Within { key: Box<[u8]>, value_len: usize, expires_at_ms: Option<u64> },
    /// This item.
    Item(Item),
}

impl Shadow {
    fn key(&self) -> &[u8] {
        match self {
            Self::Absent(key) | Self::Within { key, .. } => key,
            Self::Item(item) => item.key(),
        }
    }
}

/// A key as it was at the cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Old<'a> {
    /// Its slot.
    pub(crate) slot: Slot,
    /// When it expires, in Unix milliseconds.
    pub(crate) expires_at_ms: Option<u64>,
    /// How many bytes of `body` are the key; the rest is the value.
    pub(crate) key_len: usize,
    /// Key and value.
    pub(crate) body: &'a [u8],
}

impl<'a> Old<'a> {
    fn of(slot: u16, item: ItemView<'a>) -> Self {
        let ItemView { expires_at_ms, key_len, body } = item;
        Self { slot: Slot(slot), expires_at_ms, key_len, body }
    }

    fn key(&self) -> &'a [u8] {
        &self.body[..self.key_len]
    }
}

/// Where the walker is, and what it still needs of the past.
#[derive(Debug)]
pub(super) struct Cut {
    hasher: KeyHasher,
    /// The first (slot, hash) that is not completely written; slot 16384 when all are.
    position: (u16, u64),
    /// The hashes of the part of the slot that is being written, the lowest last.
    pending: Vec<u64>,
    /// The last hash of that part.
    pending_end: Option<u64>,
    /// The key of the present hash that is written next, and how much of it is.
    resume: Option<(Box<[u8]>, Option<usize>)>,
    shadows: Shadows,
    kept: Slots,
    kept_slots: SlotSet,
    left_out: SlotSet,
}

impl Keyspace {
    /// Fixes the present keys, to be walked by [`Keyspace::walk_cut`]. Panics if a cut is walked.
    pub(crate) fn begin_cut(&mut self) {
        assert!(self.cut.is_none(), "one cut is walked at a time");
        self.cut = Some(Box::new(Cut::new(self.hasher)));
    }

    /// Gives keys of the cut to `put`, in the order of (slot, hash, key), for a bounded time; says
    /// whether all were given. `put` gets a key with the number of bytes of its body it has taken
    /// already (`None`: it has not seen the key) and gives the new number; one that is not the
    /// whole body ends the call.
    pub(crate) fn walk_cut(
        &mut self,
        put: &mut dyn FnMut(&Old<'_>, Option<usize>) -> Option<usize>,
    ) -> bool {
        let cut = self.cut.as_mut().expect("a cut was begun");
        cut.walk(&self.slots, &mut self.graveyard, put)
    }

    /// Leaves these slots out of the cut, of which nothing was walked yet.
    pub(crate) fn leave_out_of_cut(&mut self, slots: &SlotSet) {
        let cut = self.cut.as_mut().expect("a cut was begun");
        cut.leave_out(slots, &self.slots, &mut self.graveyard);
    }

    /// Forgets the cut, walked to its end or not.
    pub(crate) fn end_cut(&mut self) {
        let Some(mut cut) = self.cut.take() else { return };
        for page in 0..PAGES {
            if let Some(page) = cut.kept.page_mut(page).take() {
                self.graveyard.bury_page(page);
            }
        }
        self.graveyard.bury_shadows(cut.shadows);
    }
}

impl Cut {
    fn new(hasher: KeyHasher) -> Self {
        Self {
            hasher,
            position: (0, 0),
            pending: Vec::new(),
            pending_end: None,
            resume: None,
            shadows: Shadows::new(),
            kept: Slots::default(),
            kept_slots: SlotSet::new(),
            left_out: SlotSet::new(),
        }
    }

    fn leave_out(&mut self, slots: &SlotSet, live: &Slots, graveyard: &mut Graveyard) {
        assert_eq!(self.position, (0, 0), "slots are left out before the first is walked");
        self.left_out = slots.clone();
        let unneeded = self.shadows.extract_if(.., |at, _| slots.contains(Slot(at.0)));
        graveyard.bury_shadows(unneeded.collect());
        if slots.contains(Slot(0)) {
            self.next_slot(live, graveyard);
        }
    }

    /// Whether a change of this key replaces an item that the walker has yet to write.
    pub(super) fn needs_item(&self, slot: u16, hash: u64, key: &[u8]) -> bool {
        self.covers(slot, hash)
            && matches!(self.shadow(slot, hash, key), None | Some(Shadow::Within { .. }))
    }

    /// A key that is not in the table will be.
    pub(super) fn note_absent(&mut self, slot: u16, hash: u64, key: &[u8]) {
        if self.covers(slot, hash) && self.shadow(slot, hash, key).is_none() {
            self.shadows.entry((slot, hash)).or_default().push(Shadow::Absent(key.into()));
        }
    }

    /// An item will get a longer value or another expiry.
    pub(super) fn note_edit(&mut self, slot: u16, hash: u64, item: ItemView<'_>) {
        let key = item.key();
        if self.covers(slot, hash) && self.shadow(slot, hash, key).is_none() {
            let (value_len, expires_at_ms) = (item.value().len(), item.expires_at_ms());
            let shadow = Shadow::Within { key: key.into(), value_len, expires_at_ms };
            self.shadows.entry((slot, hash)).or_default().push(shadow);
        }
    }

    /// Takes an item that has left the table, and that [`Cut::needs_item`].
    pub(super) fn take_old(&mut self, slot: u16, hash: u64, mut item: Item) {
        let shadows = self.shadows.entry((slot, hash)).or_default();
        match shadows.iter_mut().find(|shadow| shadow.key() == item.key()) {
            None => shadows.push(Shadow::Item(item)),
            Some(shadow) => {
                let Shadow::Within { value_len, expires_at_ms, .. } = *shadow else {
                    panic!("an item that the cut needs has no older state yet");
                };
                item.truncate(value_len);
                item.set_expiry(expires_at_ms);
                *shadow = Shadow::Item(item);
            }
        }
    }

    /// The table of a slot that was cleared: kept if the walker has yet to come by.
    pub(super) fn keep_slot(&mut self, slot: u16, table: SlotTable, graveyard: &mut Graveyard) {
        let written = slot < self.position.0 || self.left_out.contains(Slot(slot));
        if written || self.kept_slots.contains(Slot(slot)) {
            graveyard.bury_slot(table);
        } else {
            *self.kept.obtain(slot) = table;
            self.kept_slots.insert(Slot(slot));
        }
    }

    /// The tables of a page that was cleared.
    pub(super) fn keep_page(&mut self, number: usize, page: Box<Page>, graveyard: &mut Graveyard) {
        let first = (number * PAGE_SLOTS) as u16;
        let slots = first..first + PAGE_SLOTS as u16;
        let kept = self.kept.page_mut(number);
        if first >= self.position.0 && kept.is_none() {
            *kept = Some(page);
            slots.for_each(|slot| self.kept_slots.insert(Slot(slot)));
        } else {
            for (slot, table) in slots.zip(*page) {
                self.keep_slot(slot, table, graveyard);
            }
        }
    }

    /// Whether the walker has yet to write what the table of `slot` has of this hash.
    fn covers(&self, slot: u16, hash: u64) -> bool {
        let needed = |slot| !self.kept_slots.contains(slot) && !self.left_out.contains(slot);
        (slot, hash) >= self.position && needed(Slot(slot))
    }

    fn shadow(&self, slot: u16, hash: u64, key: &[u8]) -> Option<&Shadow> {
        self.shadows.get(&(slot, hash))?.iter().find(|shadow| shadow.key() == key)
    }

    fn walk(
        &mut self,
        live: &Slots,
        graveyard: &mut Graveyard,
        put: &mut dyn FnMut(&Old<'_>, Option<usize>) -> Option<usize>,
    ) -> bool {
        let mut steps = 0;
        while usize::from(self.position.0) < PAGES * PAGE_SLOTS {
            if steps >= STEPS_PER_WALK {
                return false;
            }
            if let Some(&hash) = self.pending.last() {
                if !self.write_hash(live, hash, put) {
                    return false;
                }
                self.pending.pop();
                self.pass(hash, live, graveyard);
                steps += 1;
            } else {
                steps += self.collect(live, graveyard) + 1;
            }
        }
        true
    }

    /// Gives the keys of one hash to `put`; says whether it took them all.
    fn write_hash(
        &mut self,
        live: &Slots,
        hash: u64,
        put: &mut dyn FnMut(&Old<'_>, Option<usize>) -> Option<usize>,
    ) -> bool {
        let resume = self.resume.take();
        let mut stopped = None;
        for old in self.olds(live, hash) {
            let mut written = None;
            if let Some((key, so_far)) = &resume {
                if old.key() < &key[..] {
                    continue;
                }
                written = so_far.filter(|_| old.key() == &key[..]);
            }
            written = put(&old, written);
            if written != Some(old.body.len()) {
                stopped = Some((old.key().into(), written));
                break;
            }
        }
        self.resume = stopped;
        self.resume.is_none()
    }

    /// The keys that had this hash in the present slot at the cut, ascending.
    fn olds<'a>(&'a self, live: &'a Slots, hash: u64) -> SmallVec<[Old<'a>; 2]> {
        let slot = self.position.0;
        let mut olds = SmallVec::new();
        for item in
            self.source(live).into_iter().flat_map(|table| table.with_hash(&self.hasher, hash))
        {
            match self.shadow(slot, hash, item.key()) {
                None => olds.push(Old::of(slot, item)),
                Some(&Shadow::Within { value_len, expires_at_ms, .. }) => {
                    let whole = Old::of(slot, item);
                    let body = &whole.body[..whole.key_len + value_len];
                    olds.push(Old { expires_at_ms, body, ..whole });
                }
                Some(Shadow::Absent(_) | Shadow::Item(_)) => {}
            }
        }
        for shadow in self.shadows.get(&(slot, hash)).into_iter().flatten() {
            if let Shadow::Item(item) = shadow {
                olds.push(Old::of(slot, item.view()));
            }
        }
        olds.sort_unstable_by_key(Old::key);
        olds
    }

    /// The table that has what is not shadowed of the present slot.
    fn source<'a>(&'a self, live: &'a Slots) -> Option<&'a SlotTable> {
        let slot = self.position.0;
        let kept = self.kept_slots.contains(Slot(slot));
        if kept { self.kept.get(slot) } else { live.get(slot) }
    }

    /// Lists the hashes of the next part of the present slot, or goes to the next slot. Gives how
    /// many keys it looked at.
    fn collect(&mut self, live: &Slots, graveyard: &mut Graveyard) -> usize {
        let (slot, from) = self.position;
        let mut end = u64::MAX;
        let mut pending = std::mem::take(&mut self.pending);
        let mut looked_at = 0;
        if let Some(table) = self.source(live) {
            let (items, last) = table.sub_table(from);
            let hashes = items.map(|item| self.hasher.hash(item.key())).inspect(|_| looked_at += 1);
            pending.extend(hashes.filter(|&hash| hash >= from));
            end = last;
        }
        // A slot with few keys left may have any number of shadows: they bound the part as well.
        let mut shadows = self.shadows.range((slot, from)..=(slot, end)).map(|(at, _)| at.1);
        pending.extend(shadows.by_ref().take(KEYS_PER_TABLE).inspect(|_| looked_at += 1));
        if let Some(beyond) = shadows.next() {
            end = beyond - 1;
            pending.retain(|&hash| hash <= end);
        }
        pending.sort_unstable_by(|a, b| b.cmp(a));
        pending.dedup();
        self.pending = pending;
        self.pending_end = Some(end);
        if self.pending.is_empty() {
            self.pass(end, live, graveyard);
        }
        looked_at
    }

    /// Moves the position behind `hash`, which is written, and behind the part and the slot that
    /// end there.
    fn pass(&mut self, hash: u64, live: &Slots, graveyard: &mut Graveyard) {
        let end = self.pending_end.expect("a part is being written");
        let passed = if self.pending.is_empty() { end } else { hash };
        self.drop_shadows_to(passed, graveyard);
        match passed.checked_add(1) {
            Some(next) => self.position.1 = next,
            None => self.next_slot(live, graveyard),
        }
    }

    fn next_slot(&mut self, live: &Slots, graveyard: &mut Graveyard) {
        let slot = self.position.0;
        if self.kept_slots.contains(Slot(slot)) {
            graveyard.bury_slot(std::mem::take(self.kept.obtain(slot)));
        }
        let end = (PAGES * PAGE_SLOTS) as u16;
        let mut next = slot + 1;
        while next < end {
            let shadowed = self.shadows.range((next, 0)..).next().map(|(&(slot, _), _)| slot);
            let used = [live.next_used(next), self.kept.next_used(next), shadowed];
            next = used.into_iter().flatten().min().unwrap_or(end);
            let wanted = self.left_out.next_absent(next);
            if wanted == next {
                break;
            }
            next = wanted;
        }
        self.position = (next, 0);
    }

    /// Lets go of the shadows up to this hash of the present slot.
    fn drop_shadows_to(&mut self, hash: u64, graveyard: &mut Graveyard) {
        let bound = (self.position.0, hash);
        while let Some(first) = self.shadows.first_entry().filter(|first| *first.key() <= bound) {
            for shadow in first.remove() {
                if let Shadow::Item(item) = shadow {
                    graveyard.bury_item(item);
                }
            }
        }
    }
}
