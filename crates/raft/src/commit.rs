//! What is committed, and handing it out [Raft §5.3, §5.4.2].
//!
//! Invariants: `emitted_index = commit_index` at the end of each step, or a hole is next; neither
//! ever descends; a leader commits by counting only entries of its own term, which commits all
//! before them.

use alloc::vec::Vec;

use crate::log::Position;
use crate::raft::Raft;
use crate::role::Role;
use crate::{Effect, Index, quorum};

impl Raft {
    /// Commits what a quorum has on disk, if it is of this leader's term. The leader's own disk
    /// counts like any other: with what is durable, and not necessarily.
    pub(crate) fn advance_commit(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        let reached = quorum::reached(self.configurations.current(), |id| {
            if id == self.config.id {
                return self.log.durable_index().0;
            }
            leader.value_of(id, |progress| progress.matched.0)
        });
        let reached = Index(reached);
        if reached > self.commit_index && self.log.term_at(reached) == Some(self.hard_state.term) {
            self.commit_to(reached, effects);
            self.start_round(effects);
            self.advance_change(effects);
        }
    }

    /// Commits and hands out everything up to `index`, if that is news.
    pub(crate) fn commit_to(&mut self, index: Index, effects: &mut Vec<Effect>) {
        if index <= self.commit_index {
            return;
        }
        assert!(index <= self.log.last_index(), "only entries of the log are committed");
        self.commit_index = index;
        self.hand_out(effects);
    }

    /// Hands out what is committed and was not yet, up to the first hole, to a state that is there.
    pub(crate) fn hand_out(&mut self, effects: &mut Vec<Effect>) {
        if self.lacks_state() {
            return;
        }
        let hole = self.log.holes().first();
        let last = hole.map_or(self.commit_index, |hole| self.commit_index.min(hole.previous()));
        if last <= self.emitted_index {
            return;
        }
        if self.applied_index == self.emitted_index {
            self.applied_at = self.now;
        }
        let entries = self.log.range(self.emitted_index.next(), last);
        self.emitted_index = last;
        effects.push(Effect::Apply { entries });
    }

    /// The last committed entry. Its term is known since a snapshot is of committed entries.
    pub(crate) fn committed_position(&self) -> Position {
        let index = self.commit_index;
        let term = self.log.term_at(index).expect("the log begins at or below the commit index");
        Position { index, term }
    }
}
