//! The tables of all slots, in pages that exist once one of their slots was used.

use super::slot_table::SlotTable;

/// Slots of a page.
pub(super) const PAGE_SLOTS: usize = 64;

/// Number of pages.
pub(super) const PAGES: usize = 16384 / PAGE_SLOTS;

/// The tables of neighbouring slots.
pub(super) type Page = [SlotTable; PAGE_SLOTS];

/// A table for each of the 16384 slots.
#[derive(Debug)]
pub(super) struct Slots {
    pages: Box<[Option<Box<Page>>]>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { pages: (0..PAGES).map(|_| None).collect() }
    }
}

impl Slots {
    /// The table of a slot, if its page exists. Panics if there is no such slot.
    pub(super) fn get(&self, slot: u16) -> Option<&SlotTable> {
        let page = self.pages[usize::from(slot) / PAGE_SLOTS].as_ref()?;
        Some(&page[usize::from(slot) % PAGE_SLOTS])
    }

    /// The table of a slot; its page is created if needed.
    pub(super) fn obtain(&mut self, slot: u16) -> &mut SlotTable {
        let page = self.pages[usize::from(slot) / PAGE_SLOTS]
            .get_or_insert_with(|| Box::new(std::array::from_fn(|_| SlotTable::default())));
        &mut page[usize::from(slot) % PAGE_SLOTS]
    }

    /// The first slot from `from` on that has keys.
    pub(super) fn next_used(&self, from: u16) -> Option<u16> {
        let mut slot = usize::from(from);
        while slot < PAGES * PAGE_SLOTS {
            match &self.pages[slot / PAGE_SLOTS] {
                None => slot = (slot / PAGE_SLOTS + 1) * PAGE_SLOTS,
                Some(page) if page[slot % PAGE_SLOTS].len() == 0 => slot += 1,
                Some(_) => return Some(slot as u16),
            }
        }
        None
    }

    /// The page with this number, to be taken away or put in.
    pub(super) fn page_mut(&mut self, page: usize) -> &mut Option<Box<Page>> {
        &mut self.pages[page]
    }
}
