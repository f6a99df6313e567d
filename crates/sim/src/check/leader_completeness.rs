//! Leader completeness: if a log entry is committed in a given term, then that entry will be
//! present in the logs of the leaders for all higher-numbered terms [Raft §5.4, Figure 3].

use super::shadow::{Identity, Shadow};

/// Judges a new leader: its log reaches to `last`; `committed` is the last entry known to be
/// committed.
pub(crate) fn check_length(last: u64, committed: Option<(u64, Identity)>) -> Result<(), String> {
    match committed {
        Some((index, _)) if last < index => {
            Err(format!("leads with a log up to {last}, but {index} is committed"))
        }
        _ => Ok(()),
    }
}

/// Judges a leader whose log in memory, up to `last`, is what it has `given` out to be written.
pub(crate) fn check(
    last: u64,
    given: &Shadow,
    committed: Option<(u64, Identity)>,
) -> Result<(), String> {
    check_length(last, committed)?;
    let Some((index, entry)) = committed else { return Ok(()) };
    match given.at(index) {
        // With log matching, what is the same at its end is the same everywhere.
        Some(mine) if !given.has(index, entry) => Err(format!(
            "leads with entry {index} of term {}, but that of term {} is committed",
            mine.term, entry.term
        )),
        _ => Ok(()),
    }
}
