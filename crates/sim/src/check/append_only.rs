//! Leader append-only: a leader never overwrites or deletes entries in its log; it only appends new
//! ones [Raft §5.3, Figure 3]. What it had given up before it was elected, since its content was
//! lost and no quorum can have it, is not its own any more (P3).

use flotilla_raft::Term;
use flotilla_shard::ShardId;

use super::shadow::{Shadow, ShadowWrite};

/// Judges a write that a node gives out; `before` is its log without it, `leads` the term that it
/// leads in that shard, if it does. The log of a leader may be cut at its beginning, where a
/// snapshot stands for it.
pub(crate) fn check(
    leads: Option<Term>,
    before: &Shadow,
    write: &ShadowWrite,
) -> Result<(), String> {
    let Some(term) = leads.filter(|term| *term == write.hard_state.term) else { return Ok(()) };
    let shard: ShardId = write.shard;
    let own = |what: &str| format!("shard {shard}: leads term {term} and {what}");
    if let Some(first) = write.first()
        && first <= before.last()
        && !before.holes().contains(&first)
    {
        let last = before.last();
        return Err(own(&format!("overwrites its own entries {first}..={last}")));
    }
    match write.snapshot {
        Some((index, snapshot_term)) if before.term_at(index) != Some(snapshot_term) => {
            Err(own(&format!("drops its log for a snapshot at {index} that it does not contain")))
        }
        _ => Ok(()),
    }
}
