//! One whole machine, still pure: many Rafts, routing, waiting clients, retries.

mod io;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the node's turn uses it next"))]
mod link;
mod options;
mod status;

pub use io::*;
pub use options::Options;
pub use status::*;

use std::collections::BTreeMap;

use flotilla_raft::{Recovered, Time};
use flotilla_shard::{Layout, NodeId, ShardId};

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
    /// Random, used as the storage id if the disk is fresh.
    pub storage_id: [u8; 16],
    /// Random per boot.
    pub nonce: u64,
    /// Seeds the elections' jitter.
    pub seed: u64,
    /// The cluster port that was opened, 0 if off.
    pub cluster_port: u16,
    /// The HTTP port that was opened, 0 if off.
    pub http_port: u16,
    /// Limits and times.
    pub options: Options,
}

/// A node: one lane's machine.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Starts a node. An error says in words why this disk or layout can't be started with.
    pub fn new(boot: Boot, now: Now) -> Result<Self, String> {
        let _ = (boot, now);
        Ok(Self {})
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Now, event: Event<'_>) {
        let _ = (now, event);
    }

    /// Ends the turn: everything that it decided is appended to `outputs`.
    pub fn end_turn(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let _ = (now, outputs);
    }

    /// When [`Event::Wake`] is wanted next.
    pub fn deadline(&self) -> Time {
        Time::NEVER
    }

    /// This node's view of itself and the cluster.
    pub fn status(&self, now: Now) -> Status {
        let _ = now;
        Status::default()
    }
}
