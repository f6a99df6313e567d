//! Recovery: a node comes up with exactly what it had been promised to be durable, votes and terms
//! included, and perhaps with some of the frames after that, in their order and whole (P3).
//!
//! What it says it has lost is excused: there its replica is dead (P4). But the damage of one frame
//! may cost payloads only, since the next frame repeats its table (P2).
//!
//! This is stronger than durability on a majority: no node may lose anything, so that no promise
//! rests on another node's luck.

use std::collections::BTreeMap;

use flotilla_raft::Recovered;
use flotilla_shard::ShardId;
use flotilla_storage::RecoveredLane;

use super::shadow::NodeLogs;

/// A node comes up. Gives how many frames more than known to be durable it has.
pub(crate) fn check(
    logs: &mut NodeLogs,
    found: &BTreeMap<ShardId, Recovered>,
    lost: &BTreeMap<ShardId, Recovered>,
) -> Result<usize, String> {
    logs.on_boot(found, lost).map_err(|wrong| format!("came up with another log: {wrong}"))
}

/// A node comes up after one frame of a log that was whole was made unreadable.
pub(crate) fn forgets_nothing(lane: &RecoveredLane) -> Result<(), String> {
    if lane.lost.is_empty() && !lane.incomplete {
        return Ok(());
    }
    let lost: Vec<String> = lane.lost.keys().map(ToString::to_string).collect();
    let lost = lost.join(", ");
    Err(format!("lost more than payloads with one frame (P2): shards [{lost}]"))
}
