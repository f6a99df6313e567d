//! Who leads which shard, as far as this node knows: from its own replicas, and from what others
//! claim of themselves (P10).
//!
//! Both may be late. What a peer claims travels on its link, what its Raft messages and snapshots
//! say on another connection too, so that a claim may be older than what is known already. Terms
//! tell which is newer: a node that leads a shard in one term never led it in a later one before.

use std::collections::BTreeMap;

use flotilla_shard::{NodeId, ShardId};

use crate::link::Claims;

/// The leaders known.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    /// Term and node; the term stays when the node goes.
    known: BTreeMap<ShardId, (u64, Option<NodeId>)>,
}

impl Leaders {
    /// The last term in which a leader was known, or 0, and that leader, if it still leads.
    pub(crate) fn get(&self, shard: ShardId) -> (u64, Option<NodeId>) {
        self.known.get(&shard).copied().unwrap_or((0, None))
    }

    /// `node` leads `shard` in `term`, unless something newer is known.
    pub(crate) fn learn(&mut self, shard: ShardId, term: u64, node: NodeId) {
        let known = self.known.entry(shard).or_insert((term, None));
        if term > known.0 || (term == known.0 && known.1.is_none()) {
            *known = (term, Some(node));
        }
    }

    /// `node` does not lead `shard`, if it did. The same term may be learned again: whoever forgot
    /// for the sake of a claim that was older than what it knew hears the newer one next.
    pub(crate) fn forget(&mut self, shard: ShardId, node: NodeId) {
        if let Some(known) = self.known.get_mut(&shard)
            && known.1 == Some(node)
        {
            known.1 = None;
        }
    }

    /// Which shards a peer leads: what it does not name it does not lead. What it names in an older
    /// term than is known it has led, and the claim is the older news.
    pub(crate) fn on_claims(&mut self, node: NodeId, claims: &Claims) {
        for (shard, known) in &mut self.known {
            let named = || claims.leads.iter().any(|(claimed, _)| claimed == shard);
            if known.1 == Some(node) && !named() {
                known.1 = None;
            }
        }
        for (shard, term) in &claims.leads {
            self.learn(*shard, term.0, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_raft::Term;

    use super::*;

    const SHARD: ShardId = ShardId(1);
    const NODE: NodeId = NodeId(3);

    fn claims(terms: &[u64]) -> Claims {
        Claims { generation: 1, leads: terms.iter().map(|&term| (SHARD, Term(term))).collect() }
    }

    #[test]
    fn the_newer_term_counts() {
        let mut leaders = Leaders::default();
        assert_eq!(leaders.get(SHARD), (0, None));
        leaders.learn(SHARD, 4, NODE);
        leaders.learn(SHARD, 3, NodeId(1));
        leaders.forget(SHARD, NodeId(1));
        assert_eq!(leaders.get(SHARD), (4, Some(NODE)));
        leaders.forget(SHARD, NODE);
        assert_eq!(leaders.get(SHARD), (4, None));
        leaders.learn(SHARD, 5, NodeId(1));
        assert_eq!(leaders.get(SHARD), (5, Some(NodeId(1))));
    }

    #[test]
    fn what_is_not_claimed_is_not_led() {
        let mut leaders = Leaders::default();
        leaders.on_claims(NODE, &claims(&[4]));
        leaders.on_claims(NodeId(1), &claims(&[]));
        assert_eq!(leaders.get(SHARD), (4, Some(NODE)));
        leaders.on_claims(NODE, &claims(&[]));
        assert_eq!(leaders.get(SHARD), (4, None));
    }

    /// A snapshot has a connection of its own, and may overtake claims that wait on the link.
    #[test]
    fn claims_that_were_overtaken_do_not_bar_the_leader() {
        let mut leaders = Leaders::default();
        leaders.on_claims(NODE, &claims(&[6]));
        leaders.learn(SHARD, 7, NODE);
        leaders.on_claims(NODE, &claims(&[6]));
        assert_eq!(leaders.get(SHARD), (7, Some(NODE)), "it has led term 6 before");
        leaders.on_claims(NODE, &claims(&[]));
        leaders.on_claims(NODE, &claims(&[7]));
        assert_eq!(leaders.get(SHARD), (7, Some(NODE)), "between the terms it did not lead");
    }
}
