//! State machine safety: if a server has applied a log entry at a given index to its state
//! machine, no other server will ever apply a different log entry for the same index
//! [Raft §5.4.3, Figure 3].
//!
//! Seen twice: what is committed is the same entry everywhere, and the state after each index is
//! the same everywhere: keys, values, expiries, clock, sessions and owned slots in one word (P12).

use std::collections::BTreeMap;

use flotilla_shard::ShardId;

use super::shadow::Identity;

/// What is committed, and what the state was after it.
#[derive(Debug, Default)]
pub(crate) struct StateMachineSafety {
    /// By shard and term: the last entry first seen to be committed by a node in that term.
    terms: BTreeMap<ShardId, BTreeMap<u64, u64>>,
    committed: BTreeMap<ShardId, Vec<Option<Identity>>>,
    states: BTreeMap<ShardId, Vec<Option<(u64, usize)>>>,
}

impl StateMachineSafety {
    /// An entry is committed on some node, which is in `term`. True if that was not known before.
    pub(crate) fn on_commit(
        &mut self,
        shard: ShardId,
        (index, entry): (u64, Identity),
        term: u64,
    ) -> Result<bool, String> {
        let known = slot(self.committed.entry(shard).or_default(), index);
        match known {
            None => {
                *known = Some(entry);
                let last = self.terms.entry(shard).or_default().entry(term).or_insert(index);
                *last = index.max(*last);
                Ok(true)
            }
            Some(theirs) if *theirs == entry => Ok(false),
            Some(theirs) => Err(format!(
                "entry {index} of term {} is committed here, of term {} elsewhere",
                entry.term, theirs.term
            )),
        }
    }

    /// The last entry known to be committed.
    pub(crate) fn last_committed(&self, shard: ShardId) -> Option<(u64, Identity)> {
        let committed = self.committed.get(&shard)?;
        let last = committed.len().checked_sub(1)?;
        committed[last].map(|entry| (last as u64, entry))
    }

    /// The last entry known to have been committed in a term below that one: what its leader must
    /// have. A leader that learns late that it was elected may lack what later ones committed.
    pub(crate) fn committed_before(&self, shard: ShardId, term: u64) -> Option<(u64, Identity)> {
        let last = self.terms.get(&shard)?.range(..term).map(|(_, index)| *index).max()?;
        let committed = self.committed.get(&shard)?;
        committed[usize::try_from(last).ok()?].map(|entry| (last, entry))
    }

    /// A node's state after an index. True if another node's could be compared.
    pub(crate) fn on_state(
        &mut self,
        shard: ShardId,
        index: u64,
        hash: u64,
        node: usize,
    ) -> Result<bool, String> {
        let known = slot(self.states.entry(shard).or_default(), index);
        let (theirs, other) = *known.get_or_insert((hash, node));
        if theirs == hash {
            return Ok(other != node);
        }
        Err(format!(
            "at index {index} its state is {hash:016x}, on node {} it was {theirs:016x}",
            other + 1
        ))
    }
}

fn slot<T: Copy>(items: &mut Vec<Option<T>>, index: u64) -> &mut Option<T> {
    let place = usize::try_from(index).expect("an index of a run is small");
    if items.len() <= place {
        items.resize(place + 1, None);
    }
    &mut items[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_entry_or_another_state_is_found() {
        let mut safety = StateMachineSafety::default();
        let entry = |digest| Identity { term: 1, digest };
        assert_eq!(safety.on_commit(ShardId(1), (4, entry(7)), 3), Ok(true));
        assert_eq!(safety.on_commit(ShardId(1), (4, entry(7)), 5), Ok(false));
        assert!(safety.on_commit(ShardId(1), (4, entry(8)), 5).is_err());
        assert_eq!(safety.committed_before(ShardId(1), 4), Some((4, entry(7))));
        assert_eq!(safety.committed_before(ShardId(1), 3), None);
        assert_eq!(safety.last_committed(ShardId(1)), Some((4, entry(7))));
        assert_eq!(safety.on_state(ShardId(1), 4, 9, 0), Ok(false));
        assert_eq!(safety.on_state(ShardId(1), 4, 9, 1), Ok(true));
        assert!(safety.on_state(ShardId(1), 4, 5, 2).is_err());
    }
}
