//! What a node says about itself and the cluster: for INFO, CLUSTER, `flotilla status`.

use serde::{Deserialize, Serialize};

/// One node's view, serialised as the reply of `FLOTILLA STATUS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's id in hex; empty before the founding.
    pub cluster: String,
    /// The epoch of the map.
    pub epoch: u64,
    /// The node that speaks: its number, from 1.
    pub me: u32,
    /// Boots of this node.
    pub incarnation: u64,
    /// Whether every shard with a replica here has a leader and is readable.
    pub ready: bool,
    /// Why not, in words.
    pub waiting_for: Vec<String>,
    /// How much of what was found on disk is loaded; `None` once all of it is.
    #[serde(default)]
    pub loaded_percent: Option<u8>,
    /// Whether the log can't grow, since the disk is full: what this node leads takes no writes.
    #[serde(default)]
    pub disk_full: bool,
    /// Milliseconds since this boot.
    pub uptime_ms: u64,
    /// Which of the node's disks this is: 0 is the one it was founded with, and each that took the
    /// place of one that may have forgotten something has a higher number.
    pub disk: u64,
    /// Damaged entries whose payload came back from a peer, or from memory, since this boot.
    pub repaired: u64,
    /// Connected clients.
    pub clients: u64,
    /// Commands processed since this boot.
    pub commands: u64,
    /// Every node of the cluster, ascending.
    pub nodes: Vec<NodeStatus>,
    /// Every shard, meta (0) first.
    pub shards: Vec<ShardStatus>,
    /// The replicas on this node.
    pub replicas: Vec<ReplicaStatus>,
}

/// A node as seen by another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number, from 1.
    pub id: u32,
    /// 40 hex digits, the name in CLUSTER replies.
    pub name: String,
    /// IP address.
    pub ip: String,
    /// The plain port.
    pub port: u16,
    /// The cluster port, 0 if off.
    pub cluster_port: u16,
    /// The HTTP port, 0 if off.
    pub http_port: u16,
    /// Whether a link to it is up (true for the node that speaks).
    pub linked: bool,
}

/// A shard as known to the node that speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number; 0 is meta.
    pub id: u32,
    /// Its slots, ascending, both ends inclusive.
    pub ranges: Vec<(u16, u16)>,
    /// The nodes with a voting replica.
    pub voters: Vec<u32>,
    /// The nodes with a learner.
    pub learners: Vec<u32>,
    /// Its leader's node, if known.
    pub leader: Option<u32>,
    /// The term in which it was last known to lead.
    pub term: u64,
}

/// A replica on the node that speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its shard.
    pub shard: u32,
    /// Its id; one that took the place of another has a higher one.
    pub id: u64,
    /// Entries of its log whose payload is damaged on disk and not repaired yet.
    pub damaged: u64,
    /// `leader`, `follower`, `candidate`, `pre-candidate`, `learner` or `halted`.
    pub role: String,
    /// Its current term.
    pub term: u64,
    /// Its commit index.
    pub commit: u64,
    /// Its applied index.
    pub applied: u64,
    /// Its last index.
    pub last: u64,
    /// Its last durable index.
    pub durable: u64,
    /// The index of its snapshot.
    pub snapshot: u64,
    /// Keys in its table.
    pub keys: u64,
    /// Bytes of keys and values in its table.
    pub bytes: u64,
    /// On a leader: how many entries each follower's node lags behind.
    pub lag: Vec<(u32, u64)>,
}
