//! Forced recovery: a group whose majority is lost for ever goes on from one survivor.
//!
//! This breaks what Raft promises: entries that were committed may be gone, and entries that were
//! never acknowledged may be committed. It is an operator's decision, made while no replica of the
//! group runs, and it returns what has to be logged about it. The other survivors are wiped and
//! join again under new ids: whatever they promised to the old group is void.
//!
//! The survivor becomes the only voter by an entry of a new term behind its log, so everything in
//! the tail, configurations included, is superseded and not edited.

use alloc::vec;
use alloc::vec::Vec;

use crate::configuration::ConfigurationHistory;
use crate::{
    Configuration, Entry, EntryKind, HardState, Index, Payload, Recovered, ReplicaId, Term, Write,
    WriteSeq,
};

/// What a forced recovery did, to be logged, and what is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForcedRecovery {
    /// To be made durable before the replica starts.
    pub write: Write,
    /// What the disk holds after that.
    pub recovered: Recovered,
    /// The configuration that was in force at the survivor.
    pub before: Configuration,
    /// The entries above this index may or may not have been committed before; now they will be.
    pub doubtful_after: Index,
    /// How many entries were dropped, since the first of them was damaged beyond repair.
    pub dropped: u64,
}

impl Recovered {
    /// Where the log ends. Of several survivors, the one where this is greatest has the most.
    pub fn last(&self) -> (Term, Index) {
        let snapshot = (self.snapshot.term, self.snapshot.index);
        self.entries.last().map_or(snapshot, |entry| (entry.term, entry.index))
    }

    /// Makes the survivor `id` the only voter of the group. `seen` is the highest term that any
    /// survivor has seen.
    ///
    /// Damaged entries end the log: nobody is left to have them whole. Panics if a configuration
    /// that is not named as damaged can't be read.
    pub fn force_sole_voter(mut self, id: ReplicaId, seen: Term) -> ForcedRecovery {
        let length = self.entries.len();
        if let Some(&hole) = self.damaged.iter().min() {
            self.entries.retain(|entry| entry.index < hole);
        }
        self.damaged.clear();
        let dropped = (length - self.entries.len()) as u64;
        let snapshot = self.snapshot.configuration.clone();
        let mut history = ConfigurationHistory::new(self.snapshot.index, snapshot);
        for entry in &self.entries {
            history.appended(entry);
        }
        let ids = history.since(self.snapshot.index).flat_map(|known| {
            let members = known.members().into_iter();
            members.filter(|&other| other != id).chain([known.retired])
        });
        let retired = ids.max().unwrap_or_default();
        let before = history.current().clone();
        let lease = before.lease;
        let sole = Configuration { retired, lease, ..Configuration::of_voters([id]) };
        let term = self.hard_state.term.max(seen).next();
        let entry = Entry {
            index: self.last().1.next(),
            term,
            kind: EntryKind::Configuration,
            payload: Payload::new(sole.encode()),
        };
        self.hard_state = HardState { term, voted_for: Some(id) };
        self.entries.push(entry.clone());
        let entries: Vec<Entry> = vec![entry];
        let hard_state = self.hard_state;
        ForcedRecovery {
            write: Write { seq: WriteSeq(1), hard_state, snapshot: None, entries },
            before,
            doubtful_after: self.snapshot.index,
            dropped,
            recovered: self,
        }
    }
}
