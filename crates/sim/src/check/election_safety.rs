//! Election safety: at most one leader can be elected in a given term [Raft §5.2, Figure 3].

use std::collections::BTreeMap;

use flotilla_raft::Term;
use flotilla_shard::ShardId;

/// Who led which term of which shard, over all of the run.
#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<(ShardId, Term), usize>,
}

/// What a leader is to this checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// It was seen to lead this term before.
    Known,
    /// The first leader of the shard.
    First,
    /// A leader after others.
    Next,
}

impl ElectionSafety {
    /// A node leads a term.
    pub(crate) fn on_leader(
        &mut self,
        shard: ShardId,
        term: Term,
        node: usize,
    ) -> Result<Leader, String> {
        if let Some(&leader) = self.leaders.get(&(shard, term)) {
            return if leader == node {
                Ok(Leader::Known)
            } else {
                Err(format!("leads term {term}, which node {} led", leader + 1))
            };
        }
        let known = self.leaders.range((shard, Term(0))..=(shard, Term(u64::MAX)));
        let leader = if known.count() == 0 { Leader::First } else { Leader::Next };
        self.leaders.insert((shard, term), node);
        Ok(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_one_leader() {
        let mut safety = ElectionSafety::default();
        let (one, two) = (ShardId(1), ShardId(2));
        assert_eq!(safety.on_leader(one, Term(3), 0), Ok(Leader::First));
        assert_eq!(safety.on_leader(one, Term(3), 0), Ok(Leader::Known));
        assert_eq!(safety.on_leader(two, Term(3), 1), Ok(Leader::First));
        assert_eq!(safety.on_leader(one, Term(4), 1), Ok(Leader::Next));
        assert!(safety.on_leader(one, Term(3), 1).is_err());
    }
}
