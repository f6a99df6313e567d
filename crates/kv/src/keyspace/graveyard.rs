//! What is no longer part of the state and waits for being freed, a bounded number at a time.

use std::vec::IntoIter;

use super::cut::Shadows;
use super::item::Item;
use super::slot_table::{Part, SlotTable};
use super::slots::Page;

/// An item that occupies more than this is freed later, by itself.
const BIG_BYTES: usize = 64 << 10;

/// Freeing this many bytes counts like freeing one more item.
const BYTES_PER_STEP: usize = 4 << 10;

/// Memory on its way out.
#[derive(Default)]
pub(super) struct Graveyard {
    items: Vec<Item>,
    slots: Vec<SlotTable>,
    pages: Vec<Box<Page>>,
    shadows: Vec<Shadows>,
    opened: Option<IntoIter<Item>>,
}

impl Graveyard {
    /// Takes an item: a big one waits, a small one goes at once.
    pub(super) fn bury_item(&mut self, item: Item) {
        if item.allocated() > BIG_BYTES {
            self.items.push(item);
        }
    }

    /// Takes the table of a slot.
    pub(super) fn bury_slot(&mut self, slot: SlotTable) {
        if !slot.is_unused() {
            self.slots.push(slot);
        }
    }

    /// Takes a page of tables.
    pub(super) fn bury_page(&mut self, page: Box<Page>) {
        self.pages.push(page);
    }

    /// Takes what a cut kept of changed keys.
    pub(super) fn bury_shadows(&mut self, shadows: Shadows) {
        self.shadows.push(shadows);
    }

    /// Frees about `at_most` items (a big one counts for several); says whether nothing is left.
    pub(super) fn free(&mut self, at_most: usize) -> bool {
        let mut steps = 0;
        while steps < at_most {
            steps += 1;
            if let Some(opened) = &mut self.opened {
                match opened.next() {
                    Some(item) => steps += item.allocated() / BYTES_PER_STEP,
                    None => self.opened = None,
                }
            } else if let Some(item) = self.items.pop() {
                steps += item.allocated() / BYTES_PER_STEP;
            } else if let Some(slot) = self.slots.last_mut() {
                match slot.dismantle() {
                    Part::Table(table) => {
                        steps += table.allocated() / BYTES_PER_STEP;
                        self.opened = Some(table.into_large());
                    }
                    Part::Expiry => {}
                    Part::Nothing => drop(self.slots.pop()),
                }
            } else if let Some(page) = self.pages.pop() {
                self.slots.extend((*page).into_iter().filter(|slot| !slot.is_unused()));
            } else if let Some(shadows) = self.shadows.last_mut() {
                match shadows.pop_first() {
                    Some((_, shadows)) => steps += shadows.len(),
                    None => drop(self.shadows.pop()),
                }
            } else {
                return true;
            }
        }
        self.is_empty()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.opened.is_none()
            && self.items.is_empty()
            && self.slots.is_empty()
            && self.pages.is_empty()
            && self.shadows.is_empty()
    }
}

impl std::fmt::Debug for Graveyard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graveyard(empty: {})", self.is_empty())
    }
}
