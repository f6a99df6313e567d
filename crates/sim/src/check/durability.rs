//! Durability: what is committed is on the disks of a majority of the voters from that moment on,
//! so that every acknowledged write survives whatever happens to any minority (P5) [Raft §5.3].

use flotilla_shard::ShardId;

use super::shadow::{Identity, NodeLogs};

/// An entry is committed for the first time: looks at the disks of the `voters`.
pub(crate) fn check(
    logs: &[NodeLogs],
    voters: &[usize],
    shard: ShardId,
    index: u64,
    entry: Identity,
) -> Result<(), String> {
    let disks = voters.iter().filter(|&&node| holds(&logs[node], shard, index, entry)).count();
    if disks > voters.len() / 2 {
        return Ok(());
    }
    Err(format!(
        "entry {index} of term {} is committed, but on {disks} disks of {} voters",
        entry.term,
        voters.len()
    ))
}

/// Whether a disk has the entry, or a snapshot that covers it.
pub(crate) fn holds(logs: &NodeLogs, shard: ShardId, index: u64, entry: Identity) -> bool {
    let log = logs.durable.get(&shard);
    log.is_some_and(|log| log.base >= index || log.at(index) == Some(entry))
}
