//! Durability: what is committed is on the disks of a majority of the voters from that moment on,
//! so that every acknowledged write survives whatever happens to any minority (P5) [Raft §5.3].
//!
//! A disk that was wiped, put back as it had been before, or has lost a shard's log counts with
//! what was durable on it then: its node has vouched for that while it was true, and its word may
//! arrive after that is gone. It does not count with what was on its way.

use std::collections::BTreeMap;

use flotilla_shard::ShardId;

use super::shadow::{Identity, NodeLogs, Shadow};

/// An entry is committed for the first time: looks at the disks of the `voters`.
pub(crate) fn check(
    logs: &[NodeLogs],
    voters: &[usize],
    shard: ShardId,
    index: u64,
    entry: Identity,
) -> Result<(), String> {
    let had = |node: usize| {
        let wiped = logs[node].wiped.iter();
        holds(&logs[node], shard, index, entry)
            || wiped.into_iter().any(|disk| on(disk, shard, index, entry))
    };
    let disks = voters.iter().filter(|&&node| had(node)).count();
    if disks > voters.len() / 2 {
        return Ok(());
    }
    Err(format!(
        "entry {index} of term {} is committed, but on {disks} disks of {} voters",
        entry.term,
        voters.len()
    ))
}

/// Whether a node's disk has the entry, or a snapshot that covers it.
pub(crate) fn holds(logs: &NodeLogs, shard: ShardId, index: u64, entry: Identity) -> bool {
    on(&logs.durable, shard, index, entry)
}

fn on(disk: &BTreeMap<ShardId, Shadow>, shard: ShardId, index: u64, entry: Identity) -> bool {
    let log = disk.get(&shard);
    log.is_some_and(|log| log.base >= index || log.has(index, entry))
}

#[cfg(test)]
mod tests {
    use super::super::shadow::ShadowWrite;
    use super::*;

    const SHARD: ShardId = ShardId(1);
    const ENTRY: Identity = Identity { term: 2, digest: 7 };

    /// A node that was given the entry to be written, and has it on its disk if `done`.
    fn node(done: bool) -> NodeLogs {
        let mut logs = NodeLogs::default();
        logs.submit(1, vec![ShadowWrite::one(SHARD, 1, ENTRY)]);
        if done {
            logs.done(1);
        }
        logs
    }

    fn judge(logs: &[NodeLogs]) -> Result<(), String> {
        check(logs, &[0, 1, 2], SHARD, 1, ENTRY)
    }

    #[test]
    fn a_majority_of_disks_is_demanded() {
        assert_eq!(judge(&[node(true), node(true), node(false)]), Ok(()));
        assert!(judge(&[node(true), node(false), node(false)]).is_err());
    }

    #[test]
    fn a_wiped_disk_counts_with_what_was_durable_on_it() {
        let mut wiped = node(true);
        wiped.forget();
        assert_eq!(judge(&[node(true), wiped.clone(), node(false)]), Ok(()));
        assert!(!holds(&wiped, SHARD, 1, ENTRY), "it does not have it any more");
        let mut early = node(false);
        early.forget();
        assert!(judge(&[node(true), early, node(false)]).is_err(), "it was not durable there");
    }
}
