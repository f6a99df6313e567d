//! What the log remembers of the node itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use flotilla_shard::{FoundingRecord, Layout, NodeId, ShardId, StorageId};

use crate::Boot;
use crate::link::Sighting;

/// The version of the format that this code writes and reads.
const FORMAT: u32 = 2;

/// What a node must not forget: who it is, how often it booted, and what it promised at the
/// founding. It is logged whole whenever a part changes.
///
/// Invariants, checked when it is read: a founded node has a record; the record names this node's
/// address under this node's number, and its disk, unless that took the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeState {
    format: u32,
    /// Random, drawn at the first boot; who loses the log loses it.
    pub(crate) storage_id: StorageId,
    /// The node's number.
    pub(crate) me: NodeId,
    /// The address it was first started with, `ip:port`.
    pub(crate) address: String,
    /// Counts the boots; 0 before the first.
    pub(crate) incarnation: u64,
    /// The record this node has agreed to. It is never replaced by another.
    pub(crate) proposed: Option<FoundingRecord>,
    /// Whether `proposed` is what the cluster was founded with.
    pub(crate) founded: bool,
    /// The log had a past that can't be read: it may be told of the cluster it was of, and never
    /// found one.
    pub(crate) forgot: bool,
    /// It was told since: what is left in the log of what it was goes at the next boot.
    pub(crate) clears: bool,
    /// Which of the node's disks this is: 0 is the one that the record names.
    pub(crate) disk: u64,
    /// The replicas here that are not those of the record: the new one, or none yet in the place
    /// of one that is dead (P4).
    pub(crate) replicas: BTreeMap<ShardId, Option<u64>>,
    /// The other nodes' newest disks, where they are not those of the record.
    pub(crate) disks: BTreeMap<NodeId, NewerDisk>,
    /// The newest that was seen of the other nodes' disks; what this node has in memory is newer.
    pub(crate) seen: BTreeMap<NodeId, Sighting>,
}

/// A disk that took the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewerDisk {
    /// Counts the disks of the node, from 1.
    pub(crate) number: u64,
    /// Its id.
    pub(crate) storage_id: StorageId,
}

impl NodeState {
    /// Of a fresh disk, before its first boot.
    pub(crate) fn new(storage_id: StorageId, me: NodeId, address: String) -> Self {
        let format = FORMAT;
        Self {
            format,
            storage_id,
            me,
            address,
            incarnation: 0,
            proposed: None,
            founded: false,
            forgot: false,
            clears: false,
            disk: 0,
            replicas: BTreeMap::new(),
            disks: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// The one encoding: JSON without white space.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has only strings, numbers and flags")
    }

    /// Reads what was logged and checks that its parts fit together.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NodeStateError> {
        let malformed =
            |error: serde_json::Error| NodeStateError::Malformed { reason: error.to_string() };
        let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
        if version.format != FORMAT {
            return Err(NodeStateError::Format { found: version.format });
        }
        let state: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if let Some(record) = &state.proposed {
            // Reading it as a record checks it as a record.
            FoundingRecord::decode(&record.encode())?;
            let is_known = record.storage_id(state.me) == Some(state.storage_id);
            if is_known != (state.disk == 0)
                || record.layout.address(state.me) != Some(&state.address)
            {
                return Err(NodeStateError::NotNamed);
            }
        } else if state.founded {
            return Err(NodeStateError::NoRecord);
        }
        Ok(state)
    }

    /// The replicas that may have forgotten a promise are dead from this boot on: those lost, and,
    /// where anything may be missing, those of which nothing is left.
    pub(crate) fn bury(&mut self, boot: &Boot) {
        let Some(record) = self.record() else { return };
        let here: Vec<ShardId> = record.replicas_on(self.me).map(|(shard, _)| shard).collect();
        for shard in here {
            let is_missing = boot.incomplete && !boot.shards.contains_key(&shard);
            if boot.lost.contains_key(&shard) || is_missing {
                self.replicas.insert(shard, None);
            }
        }
    }

    /// Where a shard has no other replica there is nobody to repair it: what is damaged of it is
    /// not gone on with, since it may be read another time, or from a copy of the disk.
    pub(crate) fn check_sole_replicas(&self, boot: &Boot) -> Result<(), String> {
        let Some(record) = self.record() else { return Ok(()) };
        for (shard, _) in record.replicas_on(self.me) {
            let damaged = boot.shards.get(&shard).map_or(0, |found| found.damaged.len());
            let hurt =
                damaged > 0 || boot.stateless.contains(&shard) || boot.lost.contains_key(&shard);
            if hurt && record.replicas_of(shard).len() == 1 {
                return Err(format!(
                    "shard {shard} is damaged on this disk, and has no other replica that it could \
                     be repaired from: restore the data directory from a copy, or make the disk \
                     readable again"
                ));
            }
        }
        Ok(())
    }

    /// The layout in force for a node that was started with `asked`: what it has agreed to counts,
    /// founded or not.
    pub(crate) fn layout_in_force<'a>(&'a self, asked: &'a Layout) -> &'a Layout {
        self.proposed.as_ref().map_or(asked, |record| &record.layout)
    }

    /// The record of the founded cluster, if this node knows that it is founded.
    pub(crate) fn record(&self) -> Option<&FoundingRecord> {
        self.proposed.as_ref().filter(|_| self.founded)
    }
}

/// Why bytes are not the state of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeStateError {
    /// The bytes are not the JSON of a state.
    #[error("what the log remembers of the node can't be read: {reason}")]
    Malformed {
        /// What the JSON reader says.
        reason: String,
    },
    /// A version this code does not know.
    #[error("the log's state of the node has format {found}, this program knows format {FORMAT}")]
    Format {
        /// The version found.
        found: u32,
    },
    /// The record in it is wrong.
    #[error("in what the log remembers of the node: {0}")]
    Record(#[from] flotilla_shard::FoundingError),
    /// The record does not name this node.
    #[error("the founding record in the log does not name this node and its disk")]
    NotNamed,
    /// Founded, but with what?
    #[error("the log says that the cluster is founded, but has no founding record")]
    NoRecord,
}

/// What every version of the state begins with; the rest is passed over.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founded() -> NodeState {
        let addresses = ["127.0.0.1:5001".to_string(), "127.0.0.1:5002".to_string()];
        let layout = Layout::local(&addresses, 1, 2).expect("valid");
        let ids = vec![StorageId([1; 16]), StorageId([2; 16])];
        let mut state = NodeState::new(ids[1], NodeId(2), addresses[1].clone());
        state.proposed = Some(FoundingRecord::build(layout, ids));
        state.founded = true;
        state
    }

    #[test]
    fn there_and_back() {
        let blank = NodeState::new(StorageId([7; 16]), NodeId(3), "127.0.0.1:5003".to_string());
        let text = String::from_utf8(blank.encode()).expect("JSON is text");
        let id = "07".repeat(16);
        assert_eq!(
            text,
            format!(r#"{{"format":2,"storage_id":"{id}","me":3,"address":"127.0.0.1:5003","#)
                + r#""incarnation":0,"proposed":null,"founded":false,"forgot":false,"#
                + r#""clears":false,"disk":0,"replicas":{},"#
                + r#""disks":{},"seen":{}}"#
        );
        assert_eq!(NodeState::decode(&blank.encode()), Ok(blank.clone()));
        assert_eq!(blank.record(), None);

        let mut state = founded();
        assert_eq!(NodeState::decode(&state.encode()), Ok(state.clone()));
        assert_eq!(state.record(), state.proposed.as_ref());
        state.founded = false;
        assert_eq!(state.record(), None, "a proposal is not a founding");
        let asked = Layout::local(&["127.0.0.1:5002".to_string()], 1, 1).expect("valid");
        assert_eq!(state.layout_in_force(&asked).nodes.len(), 2);
        assert_eq!(blank.layout_in_force(&asked), &asked);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        type Spoil = fn(&mut NodeState);
        let spoilt: [(Spoil, &str); 6] = [
            (|state| state.format = 1, "has format 1"),
            (|state| state.me = NodeId(1), "does not name this node"),
            (|state| state.address = "127.0.0.1:1".to_string(), "does not name this node"),
            (|state| state.storage_id = StorageId([9; 16]), "does not name this node"),
            (|state| state.proposed = None, "no founding record"),
            (
                |state| state.proposed.as_mut().expect("proposed").replicas.clear(),
                "one configuration per shard",
            ),
        ];
        for (spoil, reason) in spoilt {
            let mut state = founded();
            spoil(&mut state);
            let error = NodeState::decode(&state.encode()).expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(NodeState::decode(b"").is_err());
    }
}
