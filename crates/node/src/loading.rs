//! Coming back to a table after a start, or to a newer one: reading its snapshot ahead of the lane,
//! saying how far that is, and telling clients who would wait for it.
//!
//! Snapshots are loaded one shard after the other, the lowest shard first: what is read and not yet
//! loaded is bounded whatever the number of shards, and the first ones serve early.
//!
//! A request for a table that is being loaded is held like any other for which there is no leader.
//! When that has taken [`TELL_AFTER_MICROS`], the leader gives back what waits for it, none of
//! which it has proposed, and clients are answered `LOADING`.

use flotilla_raft::Time;
use flotilla_shard::ShardId;

use crate::io::{Notice, Now, Output};
use crate::node::Node;
use crate::replica::Replica;

/// Chunks of a snapshot that are asked for before they are needed, so that the disk and the thread
/// that reads and unpacks work while the lane loads.
const READ_AHEAD: u32 = 4;
/// Loading may take so long before clients are told: less than the silence after which a stream
/// takes its leader to be out of reach.
const TELL_AFTER_MICROS: u64 = 500_000;
/// How often the operator is told, microseconds.
const NOTICE_MICROS: u64 = 1_000_000;

/// What a node remembers of loading.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// Since when some table is being loaded.
    since: Option<Time>,
    /// When that was told last.
    told_at: Option<Time>,
}

impl Node {
    /// Begins to load the next snapshot that is to be, unless one is being loaded.
    pub(crate) fn load_next(&mut self) {
        if self.replicas.values().any(Replica::is_reading) {
            return;
        }
        let Some(replica) = self.replicas.values().find(|replica| replica.must_read()) else {
            return;
        };
        let shard = replica.shard;
        self.ask_chunks(shard);
    }

    /// Asks for the chunks of the snapshot being loaded that are to be read ahead.
    pub(crate) fn ask_chunks(&mut self, shard: ShardId) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        while let Some((index, number)) = replica.ask_chunk(READ_AHEAD) {
            self.outputs.push(Output::SnapshotRead { shard, index, number });
        }
    }

    /// Tells whoever should know that tables are being loaded, if that takes long.
    pub(crate) fn watch_loading(&mut self, now: Now) {
        if !self.replicas.values().any(Replica::is_loading) {
            self.loading = Loading::default();
            return;
        }
        let since = *self.loading.since.get_or_insert(now.time);
        if now.time.since(since) < TELL_AFTER_MICROS {
            return;
        }
        let loading = self.replicas.values_mut().filter(|replica| replica.is_loading());
        for replica in loading {
            if let Some(lead) = &mut replica.lead {
                lead.refuse_waiting(replica.shard, &mut self.replies);
            }
        }
        if self.loading.told_at.is_none_or(|told| now.time.since(told) >= NOTICE_MICROS) {
            self.loading.told_at = Some(now.time);
            let percent = self.loaded_percent().unwrap_or(100);
            self.notice(Notice::Loading { percent });
        }
    }

    /// How far all tables together are, if some are being loaded.
    pub(crate) fn loaded_percent(&self) -> Option<u8> {
        let percents = || self.replicas.values().map(Replica::loaded_percent);
        let any = percents().any(|percent| percent.is_some());
        let sum: u32 = percents().map(|percent| percent.map_or(100, u32::from)).sum();
        let count =
            u32::try_from(self.replicas.len()).expect("a node has fewer than 2^32 replicas");
        any.then(|| u8::try_from(sum / count).expect("a mean of percents is at most 100"))
    }
}

#[cfg(test)]
mod tests;
