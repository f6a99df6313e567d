//! The founding record: everything a cluster starts from, the same on every node.
//!
//! It is a pure function of the layout and the nodes' storage ids, made once and logged; what it
//! says is never computed again, since a later version may compute something else (rule P1).
//!
//! Meta has a replica on every node: the first five vote, the others are learners from the start.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ClusterId, Layout, LayoutError, META, NodeId, ShardId, SlotMap, StorageId, plan};

/// The version of the record's format that this code writes and reads.
pub const FOUNDING_FORMAT_VERSION: u32 = 1;

/// How many nodes, the first of the layout, vote in meta.
pub const META_VOTERS: usize = 5;

/// What a cluster was founded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundingRecord {
    /// [`FOUNDING_FORMAT_VERSION`] of the code that built it.
    pub format_version: u32,
    /// The nodes and the data shards.
    pub layout: Layout,
    /// The storage id of each node, in the layout's order.
    pub storage_ids: Vec<StorageId>,
    /// The first map.
    pub map: SlotMap,
    /// Seeds the hash tables of every replica, so that their order is the same everywhere.
    pub hash_seed: u64,
    /// The first configuration of each shard, at the position of its id: meta's is the first.
    pub replicas: Vec<Vec<FoundingReplica>>,
}

/// A member of a shard's first configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundingReplica {
    /// The replica's id; unique in the whole cluster and never used again.
    pub id: u64,
    /// Where it lives.
    pub node: NodeId,
    /// Whether it votes; otherwise it is a learner.
    pub voter: bool,
}

impl FoundingRecord {
    /// The record of a cluster with this layout on disks with these ids, in the layout's order.
    ///
    /// Panics if the layout is not valid or the ids are not one per node.
    pub fn build(layout: Layout, storage_ids: Vec<StorageId>) -> Self {
        assert!(layout.validate() == Ok(()), "a cluster is founded with a valid layout");
        assert!(storage_ids.len() == layout.nodes.len(), "every node has told its storage id");
        let shards: Vec<(ShardId, u32)> = layout.shard_ids().map(|shard| (shard, 1)).collect();
        Self {
            format_version: FOUNDING_FORMAT_VERSION,
            map: plan(&shards, None),
            hash_seed: hash_seed(&storage_ids),
            replicas: first_configurations(&layout),
            layout,
            storage_ids,
        }
    }

    /// The one encoding of the record: JSON without white space.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has only strings, numbers and flags")
    }

    /// Reads a record and checks that its parts fit together.
    pub fn decode(bytes: &[u8]) -> Result<Self, FoundingError> {
        let version: Version = serde_json::from_slice(bytes)
            .map_err(|error| FoundingError::Malformed { reason: error.to_string() })?;
        if version.format_version != FOUNDING_FORMAT_VERSION {
            return Err(FoundingError::Version { found: version.format_version });
        }
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|error| FoundingError::Malformed { reason: error.to_string() })?;
        record.validate()?;
        Ok(record)
    }

    fn validate(&self) -> Result<(), FoundingError> {
        self.layout.validate()?;
        let inconsistent = |reason| Err(FoundingError::Inconsistent { reason });
        if self.storage_ids.len() != self.layout.nodes.len() {
            return inconsistent("there is not one storage id per node");
        }
        if self.storage_ids.iter().collect::<BTreeSet<_>>().len() != self.storage_ids.len() {
            return inconsistent("two nodes have one storage id");
        }
        if !self.map.is_complete() {
            return inconsistent("a slot has no owner");
        }
        if self.map.ranges().iter().any(|range| self.layout.replicas(range.2).is_empty()) {
            return inconsistent("a slot's owner does not exist");
        }
        if self.replicas.len() != self.layout.shards.len() + 1 {
            return inconsistent("there is not one configuration per shard");
        }
        if self.replicas.iter().any(|members| !members.iter().any(|member| member.voter)) {
            return inconsistent("a shard has no voter");
        }
        self.validate_replicas()
    }

    fn validate_replicas(&self) -> Result<(), FoundingError> {
        let inconsistent = |reason| Err(FoundingError::Inconsistent { reason });
        let mut ids = BTreeSet::new();
        for members in &self.replicas {
            let mut nodes = BTreeSet::new();
            for member in members {
                if self.layout.address(member.node).is_none() {
                    return inconsistent("a replica is on a node that does not exist");
                }
                if !nodes.insert(member.node) {
                    return inconsistent("a shard has two replicas on one node");
                }
                if !ids.insert(member.id) {
                    return inconsistent("two replicas have one id");
                }
            }
        }
        Ok(())
    }

    /// The cluster's name: the first 16 bytes of SHA-256 of [`FoundingRecord::encode`].
    pub fn cluster_id(&self) -> ClusterId {
        let digest: [u8; 32] = Sha256::digest(self.encode()).into();
        ClusterId(first_bytes(&digest))
    }

    /// The first configuration of `shard`, the preferred first leader first; empty if there is no
    /// such shard.
    pub fn replicas_of(&self, shard: ShardId) -> &[FoundingReplica] {
        self.replicas.get(shard.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The replicas on `node`, in the order of shards, meta first.
    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (ShardId, FoundingReplica)> {
        let shards = (0..).map(ShardId).zip(&self.replicas);
        shards.filter_map(move |(shard, members)| {
            members.iter().find(|member| member.node == node).map(|&member| (shard, member))
        })
    }

    /// Every shard, meta first.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        core::iter::once(META).chain(self.layout.shard_ids())
    }

    /// The storage id of `node`, if it exists.
    pub fn storage_id(&self, node: NodeId) -> Option<StorageId> {
        self.storage_ids.get(node.position()?).copied()
    }

    /// The node whose disk had `id` at the founding.
    pub fn node_of(&self, id: StorageId) -> Option<NodeId> {
        self.storage_ids.iter().position(|&known| known == id).map(NodeId::at)
    }
}

/// Why bytes are not a founding record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    /// The bytes are not the JSON of a record.
    #[error("the founding record can't be read: {reason}")]
    Malformed {
        /// What the JSON reader says.
        reason: String,
    },
    /// A version this code does not know.
    #[error(
        "the founding record has format version {found}, this program knows version \
         {FOUNDING_FORMAT_VERSION}"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// The layout in it is not valid.
    #[error("the founding record's layout is wrong: {0}")]
    Layout(#[from] LayoutError),
    /// Its parts contradict each other.
    #[error("the founding record contradicts itself: {reason}")]
    Inconsistent {
        /// The contradiction.
        reason: &'static str,
    },
}

/// What every version of the record begins with; the rest is passed over.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// Meta first, then the data shards; ids count up from 1.
fn first_configurations(layout: &Layout) -> Vec<Vec<FoundingReplica>> {
    let meta: Vec<NodeId> = layout.node_ids().collect();
    let mut ids = 1..;
    let mut configuration = |nodes: &[NodeId], voters: usize| {
        let member = |(position, &node): (usize, &NodeId)| FoundingReplica {
            id: ids.next().expect("there are fewer than 2^64 replicas"),
            node,
            voter: position < voters,
        };
        nodes.iter().enumerate().map(member).collect()
    };
    let mut all = vec![configuration(&meta, META_VOTERS)];
    all.extend(layout.shards.iter().map(|nodes| configuration(nodes, nodes.len())));
    all
}

/// A number that depends on every storage id, and that nobody outside can guess.
fn hash_seed(storage_ids: &[StorageId]) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(b"flotilla hash seed");
    for id in storage_ids {
        hasher.update(id.0);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    u64::from_le_bytes(first_bytes(&digest))
}

fn first_bytes<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    *digest.first_chunk().expect("a digest is long enough")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(nodes: usize, shards: usize, replicas: usize) -> FoundingRecord {
        let addresses: Vec<String> =
            (1..=nodes).map(|node| format!("127.0.0.1:{}", 7000 + node)).collect();
        let layout = Layout::local(&addresses, shards, replicas).expect("valid");
        let ids = (1..=nodes).map(|node| StorageId([node as u8; 16])).collect();
        FoundingRecord::build(layout, ids)
    }

    #[test]
    fn the_record_of_a_default_cluster_is_known() {
        let record = record(3, 3, 3);
        assert_eq!(record.cluster_id().to_string(), "aa2428dfeca5e84dd7b8619d07fe3533");
        assert_eq!(record.hash_seed, 17_690_844_308_490_390_670);
        assert_eq!(FoundingRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn meta_is_everywhere_and_five_vote() {
        let record = record(7, 4, 3);
        let meta = record.replicas_of(META);
        let voters: Vec<bool> = meta.iter().map(|member| member.voter).collect();
        assert_eq!(voters, [true, true, true, true, true, false, false]);
        let ids: Vec<u64> = record.replicas.iter().flatten().map(|member| member.id).collect();
        assert_eq!(ids, (1..=7 + 4 * 3).collect::<Vec<u64>>());
        let on_two: Vec<ShardId> = record.replicas_on(NodeId(2)).map(|(shard, _)| shard).collect();
        assert_eq!(on_two, [META, ShardId(1), ShardId(2)]);
        assert_eq!(record.replicas_of(ShardId(9)), []);
    }

    #[test]
    fn other_disks_found_another_cluster() {
        let one = record(3, 3, 3);
        let mut ids = one.storage_ids.clone();
        ids[2] = StorageId([9; 16]);
        let other = FoundingRecord::build(one.layout.clone(), ids);
        assert_ne!(one.cluster_id(), other.cluster_id());
        assert_ne!(one.hash_seed, other.hash_seed);
        assert_eq!(other.node_of(StorageId([9; 16])), Some(NodeId(3)));
        assert_eq!(other.storage_id(NodeId(3)), Some(StorageId([9; 16])));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |spoil: &dyn Fn(&mut FoundingRecord)| {
            let mut record = record(3, 2, 2);
            spoil(&mut record);
            FoundingRecord::decode(&record.encode()).expect_err("refused").to_string()
        };
        type Spoil<'a> = &'a dyn Fn(&mut FoundingRecord);
        let spoilt: [(Spoil<'_>, &str); 8] = [
            (&|record| record.format_version = 2, "has format version 2"),
            (&|record| record.layout.nodes.clear(), "at least one node"),
            (&|record| record.storage_ids.truncate(2), "one storage id per node"),
            (&|record| record.storage_ids[0] = record.storage_ids[1], "one storage id"),
            (&|record| record.replicas.truncate(2), "one configuration per shard"),
            (&|record| record.replicas[1].clear(), "no voter"),
            (&|record| record.replicas[1][0].id = 1, "two replicas have one id"),
            (&|record| record.replicas[1][0].node = NodeId(0), "does not exist"),
        ];
        for (spoil, reason) in spoilt {
            let error = refused(spoil);
            assert!(error.contains(reason), "{error}");
        }
        let error = FoundingRecord::decode(b"{]").expect_err("refused").to_string();
        assert!(error.starts_with("the founding record can't be read"), "{error}");
    }
}
