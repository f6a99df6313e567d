//! Snapshots on their way: written here, sent to a follower that lags, received from a leader.
//!
//! Written: when the log of all shards together has grown enough, every shard with entries since
//! its last snapshot takes its turn; a slice of the table is walked each turn (P11). Sent and
//! received: chunk by chunk on a connection of their own, each acknowledged before the next, into a
//! file that counts only when it is whole and durable.
//!
//! Invariant: at most one snapshot file per shard is being written on a node; a received one takes
//! the place of one being made, never of one that is being finished.

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::{Index, ReplicaId, SnapshotMeta, Term, Time};
use flotilla_shard::ShardId;

use crate::io::ConnId;

/// A chunk is closed at this size, bytes; one large value can make it larger.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Work of one walk, bytes: at most about 200 µs.
pub(crate) const WALK_BYTES: usize = 64 << 10;
/// Chunks handed to the driver and not yet in the file; beyond, the walk waits.
pub(crate) const APPENDS_OPEN_MAX: u32 = 4;
/// While a snapshot travels, a new one of its shard waits until the log has grown this many times
/// the usual, or the follower would never catch up.
pub(crate) const SENDING_FACTOR: u64 = 4;

/// A snapshot being made of this node's own table.
#[derive(Debug)]
pub(crate) struct Making {
    /// Of which shard.
    pub(crate) shard: ShardId,
    /// What it stands for.
    pub(crate) meta: SnapshotMeta,
    /// The chunk being filled.
    pub(crate) chunk: Vec<u8>,
    /// Chunks on their way into the file.
    pub(crate) appends_open: u32,
    /// Whether the walk is over and the file is being finished.
    pub(crate) finishing: bool,
}

/// A snapshot being sent to a follower.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Its connection.
    pub(crate) conn: ConnId,
    /// From this leader's replica.
    pub(crate) from: ReplicaId,
    /// In this term.
    pub(crate) term: Term,
    /// What it stands for.
    pub(crate) meta: SnapshotMeta,
    /// The chunk being read or under way.
    pub(crate) number: u32,
    /// Whether that chunk is being read.
    pub(crate) asked: bool,
}

/// A snapshot being received.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// Its connection.
    pub(crate) conn: ConnId,
    /// The leader that sends it.
    pub(crate) from: ReplicaId,
    /// The leader's term.
    pub(crate) term: Term,
    /// What it stands for.
    pub(crate) meta: SnapshotMeta,
    /// The next chunk expected.
    pub(crate) number: u32,
    /// Whether a chunk is on its way into the file.
    pub(crate) open: bool,
    /// Whether all chunks are in and the file is being finished.
    pub(crate) finishing: bool,
}

/// All snapshots on their way at this node.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// Shards whose turn comes.
    pub(crate) due: VecDeque<ShardId>,
    /// The one being made.
    pub(crate) making: Option<Making>,
    /// Those being sent, by shard and receiver.
    pub(crate) sending: BTreeMap<(ShardId, ReplicaId), Sending>,
    /// Those being received.
    pub(crate) receiving: BTreeMap<ShardId, Receiving>,
    /// There was no room for the last one made: the next is not begun before this moment.
    pub(crate) not_before: Time,
    /// Answers still to come for files that were given up.
    stale_appends: BTreeMap<ShardId, u32>,
}

impl Snapshots {
    /// Gives up the one being made of `shard`, unless it is being finished. True if the shard's
    /// file is free now.
    pub(crate) fn give_up_making(&mut self, shard: ShardId) -> bool {
        match &self.making {
            Some(making) if making.shard == shard => {
                if making.finishing {
                    return false;
                }
                *self.stale_appends.entry(shard).or_default() += making.appends_open;
                self.making = None;
                true
            }
            _ => true,
        }
    }

    /// Gives up the one being received for `shard`; true if a file was begun.
    pub(crate) fn give_up_receiving(&mut self, shard: ShardId, open: u32) {
        if self.receiving.remove(&shard).is_some() {
            *self.stale_appends.entry(shard).or_default() += open;
        }
    }

    /// Whether an answer about an appended chunk belongs to a file that was given up.
    pub(crate) fn is_stale_append(&mut self, shard: ShardId) -> bool {
        match self.stale_appends.get_mut(&shard) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    /// The snapshot of `shard` being sent to some replica over `conn`.
    pub(crate) fn sent_over(&self, conn: ConnId) -> Option<(ShardId, ReplicaId)> {
        self.sending.iter().find(|(_, sending)| sending.conn == conn).map(|(key, _)| *key)
    }

    /// Who waits for this chunk of a snapshot file, to send it.
    pub(crate) fn senders_of(
        &self,
        shard: ShardId,
        index: Index,
        number: u32,
    ) -> Vec<(ShardId, ReplicaId)> {
        let wanted = |(key, sending): (&(ShardId, ReplicaId), &Sending)| {
            let wants = key.0 == shard && sending.meta.index == index && sending.number == number;
            (wants && sending.asked).then_some(*key)
        };
        self.sending.iter().filter_map(wanted).collect()
    }

    /// Whether a snapshot of this shard is being made, or is to be.
    pub(crate) fn is_due(&self, shard: ShardId) -> bool {
        self.due.contains(&shard)
            || self.making.as_ref().is_some_and(|making| making.shard == shard)
    }

    /// Whether a snapshot of this shard is on its way to a follower.
    pub(crate) fn is_sending(&self, shard: ShardId) -> bool {
        self.sending.keys().any(|(of, _)| *of == shard)
    }
}
