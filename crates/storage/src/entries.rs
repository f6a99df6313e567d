//! The entries of a log while it is replayed, and where they stand.
//!
//! Nearly always an entry follows the last one, so that they are kept in a row, ready to be handed
//! over. There may be gaps: replay begins in the middle of a log, and what was carried comes later.
//!
//! Invariants: the indexes rise; there is a spot for each entry.

use flotilla_raft::{Entry, Index};

use crate::live::Place;

/// Where an entry stands, and whether its payload is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) place: Place,
    pub(crate) whole: bool,
}

/// Entries by index, each with its spot.
#[derive(Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    spots: Vec<Spot>,
}

impl Entries {
    /// Adds an entry behind the last one.
    pub(crate) fn push(&mut self, entry: Entry, spot: Spot) {
        assert!(self.last().is_none_or(|last| last.index < entry.index), "indexes rise");
        self.entries.push(entry);
        self.spots.push(spot);
    }

    /// Puts an entry in place of the one of its index.
    pub(crate) fn replace(&mut self, entry: Entry, spot: Spot) {
        let at = self.find(entry.index).expect("it is there");
        (self.entries[at], self.spots[at]) = (entry, spot);
    }

    /// Puts entries where none are; their indexes rise. What comes behind them moves, but once for
    /// all that belong into the same gap.
    pub(crate) fn fill(&mut self, run: Vec<(Entry, Spot)>) {
        let mut run = run.into_iter().peekable();
        while let Some((entry, spot)) = run.next() {
            let at = self.find(entry.index).expect_err("nothing is there");
            let end = self.entries.get(at).map_or(Index(u64::MAX), |after| after.index);
            let (mut entries, mut spots) = (vec![entry], vec![spot]);
            while let Some((entry, spot)) = run.next_if(|(entry, _)| entry.index < end) {
                entries.push(entry);
                spots.push(spot);
            }
            self.entries.splice(at..at, entries);
            self.spots.splice(at..at, spots);
        }
    }

    /// The entry at `index`, if it is there.
    pub(crate) fn get(&self, index: Index) -> Option<(&Entry, Spot)> {
        let at = self.find(index).ok()?;
        Some((&self.entries[at], self.spots[at]))
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Drops those from `index` on.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        if self.last().is_some_and(|last| last.index >= index) {
            let (Ok(kept) | Err(kept)) = self.find(index);
            self.entries.truncate(kept);
            self.spots.truncate(kept);
        }
    }

    /// Drops those through `index`.
    pub(crate) fn drop_through(&mut self, index: Index) {
        let (Ok(dropped) | Err(dropped)) = self.find(index.next());
        self.entries.drain(..dropped);
        self.spots.drain(..dropped);
    }

    /// Drops all of them.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.spots.clear();
    }

    /// The entries, and the spot of each.
    pub(crate) fn into_parts(self) -> (Vec<Entry>, Vec<Spot>) {
        (self.entries, self.spots)
    }

    /// Where the entry at `index` is, or would be. Without gaps it is as far from the first as its
    /// index.
    fn find(&self, index: Index) -> Result<usize, usize> {
        let first = self.entries.first().map_or(0, |first| first.index.0);
        let guess = index.0.checked_sub(first).map(|distance| distance as usize);
        match guess.filter(|&at| self.entries.get(at).is_some_and(|found| found.index == index)) {
            Some(at) => Ok(at),
            None => self.entries.binary_search_by_key(&index, |entry| entry.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_raft::{EntryKind, Payload, Term};

    use super::*;

    fn some(index: u64) -> (Entry, Spot) {
        let payload = Payload::new(index.to_le_bytes().to_vec());
        let entry = Entry { index: Index(index), term: Term(1), kind: EntryKind::Normal, payload };
        (entry, Spot { place: Place { segment: 1, offset: index }, whole: true })
    }

    fn of(indexes: &[u64]) -> Entries {
        let mut entries = Entries::default();
        indexes
            .iter()
            .map(|&index| some(index))
            .for_each(|(entry, spot)| entries.push(entry, spot));
        entries
    }

    fn indexes(entries: Entries) -> Vec<u64> {
        let (entries, spots) = entries.into_parts();
        let indexes: Vec<u64> = entries.iter().map(|entry| entry.index.0).collect();
        let offsets: Vec<u64> = spots.iter().map(|spot| spot.place.offset).collect();
        assert_eq!(indexes, offsets, "each has its own spot");
        indexes
    }

    #[test]
    fn what_comes_late_goes_into_its_gaps() {
        let mut entries = of(&[4, 5, 9]);
        entries.fill([2, 3, 6, 8, 10, 12].map(some).into());
        assert_eq!(entries.get(Index(8)).map(|(entry, _)| entry.index), Some(Index(8)));
        assert_eq!(entries.get(Index(7)).map(|(entry, _)| entry.index), None);
        assert_eq!(indexes(entries), [2, 3, 4, 5, 6, 8, 9, 10, 12]);
    }

    #[test]
    fn both_ends_are_cut_off_inside_gaps_too() {
        let mut entries = of(&[2, 3, 5, 8, 9]);
        entries.truncate_from(Index(7));
        entries.drop_through(Index(2));
        entries.drop_through(Index(1));
        entries.truncate_from(Index(6));
        assert_eq!(indexes(entries), [3, 5]);
        let mut all = of(&[2, 3]);
        all.drop_through(Index(7));
        all.truncate_from(Index(1));
        assert_eq!(indexes(all), [0; 0]);
    }
}
