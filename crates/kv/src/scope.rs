//! Where and when a command is executed, and which slots a shard owns.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_shard::{SLOTS, Slot};

use crate::keyspace::{of_bytes, of_words};

const WORDS: usize = SLOTS as usize / 64;

/// What the execution of a command knows besides its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The slot of all its keys; `None` means the whole shard.
    pub slot: Option<Slot>,
    /// The applied clock, in Unix milliseconds: it alone decides what has expired (P9).
    pub now_ms: u64,
    /// The clock that TTL replies are counted from, in Unix milliseconds; never below `now_ms`.
    pub ttl_clock_ms: u64,
    /// The slots of this shard.
    pub owned: &'a SlotSet,
}

/// A set of hash slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

impl Default for SlotSet {
    fn default() -> Self {
        Self { words: Box::new([0; WORDS]) }
    }
}

impl SlotSet {
    /// No slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The slots of these ranges, both ends included.
    pub fn from_ranges(ranges: &[(Slot, Slot)]) -> Self {
        let mut set = Self::new();
        for &(first, last) in ranges {
            for at in first.0 / 64..=last.0 / 64 {
                let low = u32::from(first.0.saturating_sub(at * 64));
                let high = u32::from((last.0 - at * 64).min(63));
                set.words[usize::from(at)] |= u64::MAX >> (63 - high) & u64::MAX << low;
            }
        }
        set
    }

    /// Adds a slot. Panics if there is no such slot.
    pub fn insert(&mut self, slot: Slot) {
        self.words[usize::from(slot.0) / 64] |= 1 << (slot.0 % 64);
    }

    /// Takes a slot out. Panics if there is no such slot.
    pub fn remove(&mut self, slot: Slot) {
        self.words[usize::from(slot.0) / 64] &= !(1 << (slot.0 % 64));
    }

    /// Whether the slot is in the set; a number that is no slot is not.
    pub fn contains(&self, slot: Slot) -> bool {
        let word = self.words.get(usize::from(slot.0) / 64);
        word.is_some_and(|word| word & (1 << (slot.0 % 64)) != 0)
    }

    /// The first slot from `from` on that is not in the set; 16384 if all are.
    pub(crate) fn next_absent(&self, from: u16) -> u16 {
        self.next_bit(from, |word| !word)
    }

    /// The first slot from `from` on that is in the set; 16384 if none is.
    pub(crate) fn next_present(&self, from: u16) -> u16 {
        self.next_bit(from, |word| word)
    }

    fn next_bit(&self, from: u16, of: impl Fn(u64) -> u64) -> u16 {
        let mut slot = usize::from(from);
        while let Some(&word) = self.words.get(slot / 64) {
            let rest = of(word) >> (slot % 64);
            if rest != 0 {
                return (slot + rest.trailing_zeros() as usize) as u16;
            }
            slot = (slot / 64 + 1) * 64;
        }
        SLOTS
    }

    /// Number of slots in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..SLOTS).map(Slot).filter(|&slot| self.contains(slot))
    }

    /// The set as the fewest ranges, ascending, both ends included.
    pub fn ranges(&self) -> Vec<(Slot, Slot)> {
        let mut ranges = Vec::new();
        let mut first = self.next_present(0);
        while first < SLOTS {
            let end = self.next_absent(first);
            ranges.push((Slot(first), Slot(end - 1)));
            first = self.next_present(end);
        }
        ranges
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges().iter().map(|(first, last)| (first.0, last.0))).finish()
    }
}

/// Which slots a shard owns, and how often each has moved (P7): replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// The slots of the shard.
    pub(crate) owned: SlotSet,
    /// The ownership generations that are not 0.
    pub(crate) generations: BTreeMap<u16, u32>,
}

impl Ownership {
    /// Whether the shard owns `slot`, and by the generation that a command names.
    pub(crate) fn admits(&self, slot: Slot, generation: u32) -> bool {
        self.owned.contains(slot) && self.generation(slot) == generation
    }

    /// How often `slot` has moved, as far as this shard took part.
    pub(crate) fn generation(&self, slot: Slot) -> u32 {
        self.generations.get(&slot.0).copied().unwrap_or(0)
    }

    /// A word that stands for all of it.
    pub(crate) fn digest(&self) -> u64 {
        let mut bytes = [0; WORDS * 8];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.owned.words.iter()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.generations.iter().fold(of_bytes(&bytes), |sum, (&slot, &generation)| {
            of_words(sum, slot.into(), generation.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_the_ranges_it_was_made_from() {
        let ranges = [(Slot(0), Slot(0)), (Slot(63), Slot(64)), (Slot(16383), Slot(16383))];
        let set = SlotSet::from_ranges(&ranges);
        assert_eq!(set.ranges(), ranges);
        assert_eq!(set.len(), 4);
        assert!(!set.contains(Slot(1)) && !set.contains(Slot(0xFFFF)));
    }

    #[test]
    fn the_next_slot_is_found_across_words() {
        let set = SlotSet::from_ranges(&[(Slot(3), Slot(200)), (Slot(500), Slot(16383))]);
        let found = [0, 3, 64, 201, 500].map(|from| set.next_absent(from));
        assert_eq!(found, [0, 201, 201, 201, SLOTS]);
        let found = [0, 3, 64, 201, 16383].map(|from| set.next_present(from));
        assert_eq!(found, [3, 3, 64, 500, 16383]);
        assert_eq!(set.next_present(SLOTS), SLOTS);
    }

    #[test]
    fn runs_over_several_words_are_one_range() {
        let ranges = [(Slot(1), Slot(62)), (Slot(64), Slot(191)), (Slot(200), Slot(16382))];
        let set = SlotSet::from_ranges(&ranges);
        assert_eq!(set.ranges(), ranges);
        assert_eq!(set.iter().count(), set.len());
        let all = [(Slot(0), Slot(16383))];
        assert_eq!(SlotSet::from_ranges(&all).ranges(), all);
        assert_eq!(SlotSet::new().ranges(), []);
    }

    #[test]
    fn a_slot_put_in_and_taken_out_leaves_nothing() {
        let mut set = SlotSet::new();
        set.insert(Slot(100));
        set.remove(Slot(100));
        assert!(set.is_empty());
    }

    #[test]
    fn a_command_must_name_the_generation() {
        let mut ownership = Ownership::default();
        ownership.owned.insert(Slot(5));
        assert!(ownership.admits(Slot(5), 0) && !ownership.admits(Slot(6), 0));
        ownership.generations.insert(5, 2);
        assert!(ownership.admits(Slot(5), 2) && !ownership.admits(Slot(5), 0));
    }
}
