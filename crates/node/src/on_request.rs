//! A snapshot at somebody's request: for a backup, which needs the state of a shard at one index.
//!
//! It is made like any other, in its turn and in slices, compacts the log like any other, and may
//! serve a follower as well. A durable one that is recent enough is not made again.

use flotilla_raft::Index;
use flotilla_shard::ShardId;

use crate::node::Node;
use crate::replica::State;

/// What has become of a snapshot that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotAnswer {
    /// It is being made, or will be; ask again after the next turn.
    Underway,
    /// The durable snapshot at this index will do.
    Durable(Index),
    /// The replica here has applied only so much, and may have more soon; ask again after the next
    /// turn.
    Behind(Index),
    /// No replica of the shard is on this node.
    NotHere,
    /// Not now, for this reason; another replica or a later attempt may do better.
    NotNow(String),
}

impl Node {
    /// Asks for a durable snapshot of the shard that has the entry at `from` in it. Nothing is
    /// remembered of the request: whoever asks does so again each turn until there is an answer.
    ///
    /// Only what is applied here gets into it, hence only what is committed.
    pub fn request_snapshot(&mut self, shard: ShardId, from: Index) -> SnapshotAnswer {
        let Some(replica) = self.replicas.get(&shard) else { return SnapshotAnswer::NotHere };
        let newest = replica.snapshot.index;
        if newest > Index(0) && newest >= from {
            return SnapshotAnswer::Durable(newest);
        }
        if !matches!(replica.state, State::Serving(_)) {
            return not_now(shard, "its replica here can't be read");
        }
        if replica.applied < from.max(Index(1)) {
            return SnapshotAnswer::Behind(replica.applied);
        }
        let snapshots = &mut self.snapshots;
        let making = snapshots.making.as_ref().is_some_and(|making| making.shard == shard);
        if making || snapshots.due.contains(&shard) {
            return SnapshotAnswer::Underway;
        }
        if snapshots.receiving.contains_key(&shard) {
            return not_now(shard, "its replica here is being sent a snapshot");
        }
        // A newer one would take the file away that the follower is being sent.
        if snapshots.is_sending(shard) {
            return not_now(shard, "its snapshot here is on its way to a follower");
        }
        snapshots.due.push_back(shard);
        SnapshotAnswer::Underway
    }
}

fn not_now(shard: ShardId, reason: &str) -> SnapshotAnswer {
    SnapshotAnswer::NotNow(format!("shard {shard}: {reason}"))
}
