//! Votes: a replica gives one vote in a term and never takes it back, and its term never descends
//! [Raft §5.2, Figure 2].

use super::shadow::{Shadow, ShadowWrite};

/// Judges a write that a node gives out; `before` is what it has given out until then.
pub(crate) fn check(before: &Shadow, write: &ShadowWrite) -> Result<(), String> {
    let (old, new) = (before.hard_state, write.hard_state);
    let shard = write.shard;
    if new.term < old.term {
        return Err(format!("shard {shard}: goes back from term {} to {}", old.term, new.term));
    }
    match old.voted_for {
        Some(vote) if new.term == old.term && new.voted_for != old.voted_for => {
            Err(format!("shard {shard}: takes back its vote for {vote} in term {}", new.term))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_raft::{HardState, ReplicaId, Term};
    use flotilla_shard::ShardId;

    use super::super::shadow::Identity;
    use super::*;

    #[test]
    fn a_vote_is_given_once() {
        let judge = |old: (u64, Option<u64>), new: (u64, Option<u64>)| {
            let state = |(term, vote): (u64, Option<u64>)| HardState {
                term: Term(term),
                voted_for: vote.map(ReplicaId),
            };
            let write = |index, hard_state| {
                let entry = Identity { term: 1, digest: 7 };
                let mut write = ShadowWrite::one(ShardId(1), index, entry);
                write.hard_state = hard_state;
                write
            };
            let mut before = Shadow::default();
            before.take(&write(1, state(old)));
            check(&before, &write(2, state(new)))
        };
        assert_eq!(judge((3, None), (3, Some(1))), Ok(()));
        assert_eq!(judge((3, Some(1)), (3, Some(1))), Ok(()));
        assert_eq!(judge((3, Some(1)), (4, None)), Ok(()));
        assert!(judge((3, Some(1)), (3, Some(2))).is_err());
        assert!(judge((3, Some(1)), (3, None)).is_err());
        assert!(judge((3, Some(1)), (2, None)).is_err());
    }
}
