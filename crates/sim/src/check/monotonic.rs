//! Within a boot, a term, a commit index and an applied index never go back [Raft §5.1, §5.3;
//! Figure 2: `currentTerm`, `commitIndex` and `lastApplied` increase monotonically].

use flotilla_node::Inspection;
use flotilla_raft::{Index, Term};

/// What one replica had reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Monotonic {
    term: Term,
    commit: Index,
    applied: Index,
}

impl Monotonic {
    /// Looks at the replica once more.
    pub(crate) fn check(&mut self, replica: &Inspection) -> Result<(), String> {
        if replica.term < self.term {
            return Err(format!("its term went from {} to {}", self.term, replica.term));
        }
        if replica.commit < self.commit {
            return Err(format!(
                "its commit index went from {} to {}",
                self.commit, replica.commit
            ));
        }
        if replica.applied < self.applied {
            let (from, to) = (self.applied, replica.applied);
            return Err(format!("its applied index went from {from} to {to}"));
        }
        if replica.commit > replica.last {
            let (commit, last) = (replica.commit, replica.last);
            return Err(format!("its commit index {commit} is beyond its last entry {last}"));
        }
        *self = Self { term: replica.term, commit: replica.commit, applied: replica.applied };
        Ok(())
    }
}
