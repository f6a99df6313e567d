//! A replica whose snapshot can't be read any more, while its log above it can.
//!
//! It knows every promise it made, so it votes and acknowledges by identity, and may even lead if
//! nobody else has its entries; but it has no state to apply them to, so it hands nothing out. It
//! asks one member after the other for a snapshot of a later entry than the one it lost: the log on
//! disk begins at that one, and a file at the same place would not tell from it.
//!
//! Where no later entry is committed the group is idle, and its leader appends an empty one.
//!
//! What could not be read once may be read later, so its host goes on trying.
//!
//! Invariants: nothing is handed out before a snapshot is restored; no entry that was acknowledged
//! is given up for it.

use alloc::vec::Vec;

use crate::raft::Raft;
use crate::role::Role;
use crate::{Body, Effect, EntryKind, Index, Payload, ReplicaId, SnapshotMeta};

impl Raft {
    /// Whether the state is lost ([`crate::Input::StateLost`]) and none has come in its place.
    pub fn lacks_state(&self) -> bool {
        self.search.state_lost
    }

    /// The snapshot can't be read: what was handed out above it goes with it.
    pub(crate) fn on_state_lost(&mut self, effects: &mut Vec<Effect>) {
        self.search.state_lost = true;
        self.emitted_index = self.log.snapshot().index;
        self.applied_index = self.emitted_index;
        self.applied_at = self.now;
        self.search(effects);
    }

    /// The snapshot could be read in another attempt; the log above it has stayed.
    pub(crate) fn on_state_found(&mut self, effects: &mut Vec<Effect>) {
        if self.lacks_state() {
            self.search.state_lost = false;
            self.hand_out(effects);
            self.open_term(effects);
        }
    }

    /// Asks `to` for another state, if this one is lost.
    pub(crate) fn fetch_state_from(&self, to: ReplicaId, effects: &mut Vec<Effect>) {
        if self.lacks_state() {
            let at_least = self.log.snapshot().index.next();
            self.send(to, Body::FetchSnapshot { at_least }, effects);
        }
    }

    /// Whether a snapshot of committed entries covers all of a log that lacks its state or some of
    /// its payloads: then nothing that was acknowledged is lost with that log.
    pub(crate) fn is_beyond_what_lacks(&self, meta: &SnapshotMeta) -> bool {
        (self.lacks_state() || !self.log.holes().is_empty())
            && meta.index > self.log.last_index()
            && meta.term <= self.hard_state.term
            && !self.is_leader()
    }

    /// Somebody has no state.
    pub(crate) fn on_fetch_snapshot(
        &mut self,
        from: ReplicaId,
        at_least: Index,
        effects: &mut Vec<Effect>,
    ) {
        if self.lacks_state() {
            return;
        }
        if at_least <= self.applied_index {
            self.send_repair(from, at_least, effects);
        } else if at_least > self.log.last_index()
            && let Role::Leader(leader) = &self.role
            && leader.first_index <= self.commit_index
        {
            self.append_as_leader(EntryKind::Empty, Payload::default(), effects);
        }
    }
}
