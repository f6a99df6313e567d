//! Who is where at the start: the nodes' addresses and which of them hold which data shard.
//!
//! Invariants of a valid layout, checked by [`Layout::validate`]: at least one node and one shard;
//! no address twice; every shard has at least one replica, no node twice, and only nodes that
//! exist.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{NodeId, ShardId};

/// How many data shards there may be: as many as there is room for their tokens on the slots.
pub const MAX_SHARDS: usize = 1024;

/// The nodes and shards a cluster is founded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The address `ip:port` of each node, in the order of [`NodeId`]s.
    pub nodes: Vec<String>,
    /// The replicas of data shards 1, 2, … in order; a shard's first is its preferred first leader.
    pub shards: Vec<Vec<NodeId>>,
}

impl Layout {
    /// `shards` shards with `replicas` replicas each on the nodes at `addresses`: replicas and
    /// preferred leaders are spread evenly.
    pub fn local(
        addresses: &[String],
        shards: usize,
        replicas: usize,
    ) -> Result<Self, LayoutError> {
        let nodes = addresses.len();
        if replicas == 0 || replicas > nodes {
            return Err(LayoutError::Replicas { replicas, nodes });
        }
        if shards > MAX_SHARDS {
            return Err(LayoutError::TooManyShards { shards });
        }
        let shards = (0..shards).map(|shard| spread(shard, nodes, replicas)).collect();
        let layout = Self { nodes: addresses.to_vec(), shards };
        layout.validate()?;
        Ok(layout)
    }

    /// One shard per inner list, on the addresses in it; nodes count in the order of the lists.
    pub fn from_lists(lists: &[Vec<String>]) -> Result<Self, LayoutError> {
        let mut nodes = Vec::new();
        let mut shards = Vec::new();
        for list in lists {
            shards.push((0..list.len()).map(|place| NodeId::at(nodes.len() + place)).collect());
            nodes.extend(list.iter().cloned());
        }
        let layout = Self { nodes, shards };
        layout.validate()?;
        Ok(layout)
    }

    /// Whether the invariants of a layout hold; the error names the first that does not.
    pub fn validate(&self) -> Result<(), LayoutError> {
        if self.nodes.is_empty() {
            return Err(LayoutError::NoNodes);
        }
        if self.shards.is_empty() {
            return Err(LayoutError::NoShards);
        }
        if self.shards.len() > MAX_SHARDS {
            return Err(LayoutError::TooManyShards { shards: self.shards.len() });
        }
        let mut seen = BTreeSet::new();
        if let Some(address) = self.nodes.iter().find(|address| !seen.insert(*address)) {
            return Err(LayoutError::AddressTwice { address: address.clone() });
        }
        self.shard_ids().try_for_each(|shard| self.validate_shard(shard))
    }

    fn validate_shard(&self, shard: ShardId) -> Result<(), LayoutError> {
        let replicas = self.replicas(shard);
        if replicas.is_empty() {
            return Err(LayoutError::NoReplicas { shard });
        }
        let mut seen = BTreeSet::new();
        for &node in replicas {
            if self.address(node).is_none() {
                return Err(LayoutError::UnknownNode { shard, node });
            }
            if !seen.insert(node) {
                return Err(LayoutError::NodeTwice { shard, node });
            }
        }
        Ok(())
    }

    /// The address of `node`, if it exists.
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(node.position()?).map(String::as_str)
    }

    /// The node at `address`, if it is listed.
    pub fn node_at(&self, address: &str) -> Option<NodeId> {
        self.nodes.iter().position(|listed| listed == address).map(NodeId::at)
    }

    /// Every node, in order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId::at)
    }

    /// Every data shard, in order.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.shards.len() as u32).map(ShardId)
    }

    /// The nodes with a replica of data shard `shard`, the preferred first leader first; none for
    /// META and for shards that don't exist.
    pub fn replicas(&self, shard: ShardId) -> &[NodeId] {
        let position = (shard.0 as usize).wrapping_sub(1);
        self.shards.get(position).map_or(&[], Vec::as_slice)
    }

    /// The one encoding of this layout: JSON without white space.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a layout has only strings and numbers")
    }

    /// SHA-256 of [`Layout::canonical_bytes`]: equal on nodes that were given the same layout.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical_bytes()).into()
    }
}

/// What is wrong with a layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No address.
    #[error("a cluster needs at least one node")]
    NoNodes,
    /// No data shard.
    #[error("a cluster needs at least one shard")]
    NoShards,
    /// More than [`MAX_SHARDS`] data shards.
    #[error("{shards} shards are too many: the limit is {MAX_SHARDS}")]
    TooManyShards {
        /// How many were asked for.
        shards: usize,
    },
    /// A number of replicas that the nodes can't hold.
    #[error("{replicas} replicas on {nodes} nodes: a shard has between 1 and {nodes}")]
    Replicas {
        /// How many were asked for.
        replicas: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Two nodes with one address.
    #[error("{address} is listed twice")]
    AddressTwice {
        /// The address.
        address: String,
    },
    /// A shard on no node.
    #[error("shard {shard} has no replica")]
    NoReplicas {
        /// The shard.
        shard: ShardId,
    },
    /// A shard on a node that is not listed.
    #[error("shard {shard} names node {node}, which does not exist")]
    UnknownNode {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
    },
    /// A shard twice on a node.
    #[error("shard {shard} has two replicas on node {node}")]
    NodeTwice {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
    },
}

/// The replicas of the data shard at position `shard`: the leader is the next node in turn, and the
/// followers come after it, each round of leaders with other followers than the round before.
fn spread(shard: usize, nodes: usize, replicas: usize) -> Vec<NodeId> {
    let leader = shard % nodes;
    let round = shard / nodes;
    let followers = (0..replicas - 1).map(|place| {
        let step = (round * (replicas - 1) + place) % (nodes - 1);
        (leader + 1 + step) % nodes
    });
    core::iter::once(leader).chain(followers).map(NodeId::at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: usize) -> Vec<String> {
        (1..=count).map(|node| format!("127.0.0.1:{}", 7000 + node)).collect()
    }

    #[test]
    fn a_local_layout_spreads_replicas_and_leaders() {
        for (nodes, shards, replicas) in [(3, 3, 3), (5, 10, 3), (5, 7, 2), (4, 12, 1), (1, 4, 1)] {
            let layout = Layout::local(&addresses(nodes), shards, replicas).expect("valid");
            let count = |matches: &dyn Fn(&[NodeId], NodeId) -> bool| {
                let held = |node| layout.shards.iter().filter(|shard| matches(shard, node)).count();
                let counts: Vec<usize> = layout.node_ids().map(held).collect();
                counts.iter().max().expect("nodes") - counts.iter().min().expect("nodes")
            };
            assert!(count(&|shard, node| shard[0] == node) <= 1, "{nodes} {shards} {replicas}");
            assert!(count(&|shard, node| shard.contains(&node)) <= replicas, "{layout:?}");
            assert!(layout.shards.iter().all(|shard| shard.len() == replicas));
        }
    }

    #[test]
    fn the_default_layout_is_known() {
        let layout = Layout::local(&addresses(3), 3, 3).expect("valid");
        let text = String::from_utf8(layout.canonical_bytes()).expect("JSON");
        assert_eq!(
            text,
            r#"{"nodes":["127.0.0.1:7001","127.0.0.1:7002","127.0.0.1:7003"],"#.to_owned()
                + r#""shards":[[1,2,3],[2,3,1],[3,1,2]]}"#
        );
        let back: Layout = serde_json::from_str(&text).expect("reads back");
        assert_eq!(back.digest(), layout.digest());
    }

    #[test]
    fn each_list_is_a_shard() {
        let all = addresses(5);
        let layout = Layout::from_lists(&[all[..3].to_vec(), all[3..].to_vec()]).expect("valid");
        assert_eq!(layout.nodes, all);
        assert_eq!(layout.replicas(ShardId(2)), [NodeId(4), NodeId(5)]);
        assert_eq!(layout.node_at("127.0.0.1:7004"), Some(NodeId(4)));
        assert_eq!(layout.address(NodeId(0)), None);
        assert_eq!(layout.replicas(crate::META), []);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let all = addresses(3);
        let refused = |lists: &[Vec<String>]| Layout::from_lists(lists).expect_err("wrong");
        assert_eq!(refused(&[]), LayoutError::NoNodes);
        assert_eq!(refused(&[all.clone(), vec![]]), LayoutError::NoReplicas { shard: ShardId(2) });
        assert_eq!(
            refused(&[all.clone(), vec![all[1].clone()]]),
            LayoutError::AddressTwice { address: all[1].clone() }
        );
        let text = Layout::local(&all, 3, 4).expect_err("too many replicas").to_string();
        assert_eq!(text, "4 replicas on 3 nodes: a shard has between 1 and 3");
        assert_eq!(Layout::local(&all, 0, 3), Err(LayoutError::NoShards));
        let twice = Layout { nodes: all, shards: vec![vec![NodeId(1), NodeId(1)]] };
        let error = LayoutError::NodeTwice { shard: ShardId(1), node: NodeId(1) };
        assert_eq!(twice.validate(), Err(error));
    }
}
