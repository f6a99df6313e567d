//! The leader's gate for streams: in order, whole, and only from the start of an epoch (P8).
//!
//! A leader takes the chunks of a stream's epoch in the order they come. After it refused one it
//! refuses all later ones of that epoch, or a later write would overtake an earlier one. A leader
//! that has not seen an epoch begin in its own term can't know what came before, so it refuses too.

use std::collections::BTreeMap;

use flotilla_kv::entry::Origin;

#[derive(Debug)]
struct Epoch {
    number: u64,
    broken: bool,
}

/// What a leader has accepted of each origin's stream in its present term.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    epochs: BTreeMap<Origin, Epoch>,
}

impl Intake {
    /// Whether a chunk may be taken. `begins` says that it carries its epoch's list of unsettled
    /// writes.
    pub(crate) fn admits(&mut self, origin: Origin, number: u64, begins: bool) -> bool {
        match self.epochs.get_mut(&origin) {
            Some(epoch) if epoch.number == number => !epoch.broken,
            Some(epoch) if epoch.number > number => false,
            _ => {
                self.epochs.insert(origin, Epoch { number, broken: !begins });
                begins
            }
        }
    }

    /// What was taken of the present epochs was given back: nothing more of them is taken.
    pub(crate) fn refuse_all(&mut self) {
        self.epochs.values_mut().for_each(|epoch| epoch.broken = true);
    }

    /// Nothing of this epoch is taken from now on.
    pub(crate) fn refuse(&mut self, origin: Origin, number: u64) {
        let epoch = self.epochs.entry(origin).or_insert(Epoch { number, broken: true });
        if number >= epoch.number {
            *epoch = Epoch { number, broken: true };
        }
    }

    /// Whether a read of this epoch may be taken; one that must see writes of its epoch only if
    /// those were.
    pub(crate) fn admits_read(&self, origin: Origin, number: u64, after_writes: bool) -> bool {
        match self.epochs.get(&origin) {
            Some(epoch) if epoch.number == number => !epoch.broken,
            _ => !after_writes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { node: 1, incarnation: 1, nonce: 7, lane: 0 };

    #[test]
    fn an_epoch_is_taken_from_its_beginning_and_in_order() {
        let mut intake = Intake::default();
        assert!(!intake.admits(ORIGIN, 3, false), "its beginning went elsewhere");
        assert!(!intake.admits(ORIGIN, 3, true), "what was refused stays refused");
        assert!(intake.admits(ORIGIN, 4, true));
        assert!(intake.admits(ORIGIN, 4, false));
        assert!(!intake.admits(ORIGIN, 3, true), "an older epoch is void");
        assert!(intake.admits_read(ORIGIN, 4, true));
        assert!(!intake.admits(ORIGIN, 6, false), "the beginning of epoch 6 is missing");
        assert!(!intake.admits_read(ORIGIN, 6, false), "so its reads may be out of order");
        assert!(intake.admits(ORIGIN, 7, true));
        intake.refuse_all();
        assert!(!intake.admits(ORIGIN, 7, false), "a later write would overtake");
        assert!(!intake.admits_read(ORIGIN, 7, false));
        assert!(intake.admits(ORIGIN, 8, true));
    }

    #[test]
    fn what_was_refused_for_another_reason_stays_refused_too() {
        let mut intake = Intake::default();
        assert!(intake.admits(ORIGIN, 3, true));
        intake.refuse(ORIGIN, 2);
        assert!(intake.admits(ORIGIN, 3, false), "an older epoch says nothing of this one");
        intake.refuse(ORIGIN, 3);
        assert!(!intake.admits(ORIGIN, 3, false));
        assert!(!intake.admits_read(ORIGIN, 3, false));
        assert!(intake.admits(ORIGIN, 4, true));
    }

    #[test]
    fn a_read_that_depends_on_nothing_needs_no_epoch() {
        let intake = Intake::default();
        assert!(intake.admits_read(ORIGIN, 1, false));
        assert!(!intake.admits_read(ORIGIN, 1, true));
    }
}
