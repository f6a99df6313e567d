//! One whole machine, still pure: many Rafts, routing, waiting clients, retries.
//!
//! A [`Node`] is one lane: its shards, their tables, its clients and its links to other nodes. It
//! touches nothing of the world. A driver gives it [`Event`]s and carries out its [`Output`]s;
//! there are two drivers, one real and one simulated, and they run the same code, this one.
//!
//! # The way of a write
//! bytes of a client → its front end (`client`) → requests per shard (`route`) → the shard's stream
//! (`stream`) → here or by a peer's frame to the leader (`forward`) → its gate (`intake`) → one
//! Raft entry per turn (`lead`, `consensus`) → applied by each replica (`replica`) → the answer
//! back to the stream, by its number → the client's place in the row.
//!
//! # Invariants
//! - A write's request stays in its stream until its answer came, or its client was told that
//!   nobody knows; a retry has the same number, so it is applied once (P7).
//! - Commands of one connection take effect in their order, per shard (P8).
//! - A read is answered from a state that has every write acknowledged before it was asked (P6).
//! - Nothing is sent before this boot's incarnation is durable; nothing that depends on a write is
//!   sent before that write is (the cores see to it, P5).
//!
//! # Left out
//! More lanes than one, moves of slots, and meta's own commands: the first map counts, and replicas
//! change only in the place of dead ones.

pub mod client;

mod admission;
#[cfg(test)]
mod alone;
mod clock;
mod conns;
mod consensus;
mod forward;
mod founding;
mod gather;
mod inspect;
mod install;
mod intake;
mod io;
mod lead;
mod leaders;
mod link;
mod links;
mod loading;
mod making;
mod node;
mod on_request;
mod options;
mod peers;
mod repair;
mod replica;
mod replies;
mod report;
mod rest;
mod room;
mod route;
mod sending;
mod sighting;
mod snapshots;
mod spare;
mod status;
mod stream;
mod turns;

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::Recovered;
use flotilla_shard::{Layout, NodeId, ShardId};

/// What must hold of any bytes from other nodes, for the fuzz targets.
#[cfg(fuzzing)]
pub mod laws {
    /// However the bytes of frames are cut, they make up the same packets.
    pub fn frames(input: &[u8]) {
        crate::link::laws::frames(input);
    }

    /// A packet that is understood is written again with the same bytes.
    pub fn packets(input: &[u8]) {
        crate::link::laws::packets(input);
    }
}

pub use inspect::Inspection;
pub use io::*;
pub use link::describe_link;
pub use node::Node;
pub use on_request::SnapshotAnswer;
pub use options::Options;
pub use status::*;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The nodes and shards asked for. After the founding only compared with the record.
    pub layout: Layout,
    /// Which of the layout's nodes this is.
    pub me: NodeId,
    /// What the log remembers of the node itself; `None` on a fresh disk.
    pub node_state: Option<Vec<u8>>,
    /// What the log remembers of each shard.
    pub shards: BTreeMap<ShardId, Recovered>,
    /// What is left of the shards whose replica here may have forgotten a promise (P4).
    pub lost: BTreeMap<ShardId, Recovered>,
    /// Whether frames of the log were lost that may have held anything.
    pub incomplete: bool,
    /// Every frame of the log up to this one was found durable; 0 on a fresh disk.
    pub durable_through: u64,
    /// The shards among all of them whose snapshot can't be read: they need one from a peer.
    pub stateless: BTreeSet<ShardId>,
    /// Random, used as the storage id if the disk is fresh, or has to become another one.
    pub storage_id: [u8; 16],
    /// Random per boot.
    pub nonce: u64,
    /// Seeds the jitter of elections and retries.
    pub seed: u64,
    /// The cluster port that was opened, 0 if off.
    pub cluster_port: u16,
    /// The HTTP port that was opened, 0 if off.
    pub http_port: u16,
    /// Whether the disk keeps what was synced; false on a file system in memory.
    pub durable: bool,
    /// Limits and times.
    pub options: Options,
}

impl Boot {
    /// Whether there is, or may have been, more in the log than its first checkpoint.
    fn has_past(&self) -> bool {
        self.incomplete || !self.shards.is_empty() || !self.lost.is_empty()
    }
}
