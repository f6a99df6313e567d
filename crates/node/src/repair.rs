//! What is damaged on this node's disk and comes back from its peers (P3).
//!
//! The core knows which payloads are lost and asks round for them; this is what its host adds: the
//! repaired payloads go to the log, a state that can't be read is fetched anew, and a snapshot is
//! made early where somebody needs one.
//!
//! A medium on which something can't be read now may give it later, when the same has befallen the
//! peers: so a replica without a state goes on trying its own file too.

use flotilla_raft::{Entry, Index, Input, ReplicaId, Time};
use flotilla_shard::ShardId;

use crate::io::{Notice, Now, Output};
use crate::node::Node;

/// The first attempt comes so long after what failed, and each pause is twice the one before.
const FIRST_PAUSE_MICROS: u64 = 1_000_000;
/// No pause is longer.
const LONGEST_PAUSE_MICROS: u64 = 8_000_000;

/// When something that failed is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) at: Time,
    pause: u64,
}

impl Default for Attempt {
    fn default() -> Self {
        Self { at: Time::NEVER, pause: FIRST_PAUSE_MICROS }
    }
}

impl Attempt {
    /// It has failed again.
    pub(crate) fn put_off(&mut self, now: Time) {
        self.at = now + self.pause;
        self.pause = LONGEST_PAUSE_MICROS.min(self.pause * 2);
    }
}

impl Node {
    /// Payloads have been found at a peer, or are still in memory: the log gets them.
    pub(crate) fn repair(&mut self, shard: ShardId, entries: Vec<Entry>) {
        self.repaired += entries.len() as u64;
        self.outputs.push(Output::Repair { shard, entries });
    }

    /// The snapshot that a replica begins with can't be read.
    pub(crate) fn lose_state(&mut self, shard: ShardId, reason: &str, now: Now) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        replica.lose_state(now.time);
        if replica.raft.lacks_state() {
            return;
        }
        let index = replica.snapshot.index;
        self.notice(Notice::Warning(format!(
            "the snapshot of shard {shard} at index {index} can't be loaded ({reason}): this \
             replica votes and acknowledges, and fetches another one from its peers"
        )));
        self.step(shard, Input::StateLost, now);
    }

    /// Reads what could not be read again, if it is time.
    pub(crate) fn look_for_states(&mut self, now: Now) {
        let mut tried = false;
        for replica in self.replicas.values_mut() {
            if replica.raft.lacks_state() && replica.next_attempt.at <= now.time {
                replica.attempt_again();
                tried = true;
            }
        }
        if tried {
            self.load_next();
        }
    }

    /// A table is complete. If it stands for a state that was lost, the core goes on from there.
    pub(crate) fn on_loaded(&mut self, shard: ShardId, now: Now) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        if replica.raft.lacks_state() {
            let index = replica.snapshot.index;
            self.notice(Notice::Warning(format!(
                "the snapshot of shard {shard} at index {index} could be loaded after all"
            )));
            self.step(shard, Input::StateFound, now);
        }
    }

    /// The snapshot on disk can't be read any more, while what it stands for is in memory: another
    /// takes its place as soon as there is more to say than that one said.
    pub(crate) fn on_snapshot_damaged(&mut self, shard: ShardId, index: Index) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if replica.snapshot.index == index {
            replica.snapshot_damaged = true;
        }
    }

    /// Somebody's state is lost, and this node's newest snapshot is too old for it: a new one is
    /// made, and sent when it is asked for again.
    pub(crate) fn make_snapshot_for(&mut self, shard: ShardId, to: ReplicaId, now: Now) {
        if !self.snapshots.is_due(shard) {
            self.snapshots.due.push_back(shard);
        }
        self.step(shard, Input::SnapshotSent { to, delivered: None }, now);
    }

    /// Shards whose snapshot on disk is damaged get another one at once, not at the next round.
    pub(crate) fn plan_replacements(&mut self) {
        for replica in self.replicas.values_mut() {
            if replica.snapshot_damaged && replica.applied > replica.snapshot.index {
                replica.snapshot_damaged = false;
                self.snapshots.due.push_back(replica.shard);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::FIRST_PAUSE_MICROS;
    use crate::alone::Host;

    /// Peers that might have the state have met the same, or, as here, there are none.
    #[test]
    fn a_state_that_could_not_be_read_is_looked_for_again() {
        let mut host = Host::start(None, BTreeMap::new());
        for number in 0..8 {
            host.ask(&format!("SET key{number} {}", "x".repeat(200 << 10)));
            host.wait(20_000);
        }
        host.wait(1_000_000);
        let mut host = host.restart();
        host.may_warn = true;
        while !host.reads.is_empty() {
            host.fail_read();
        }
        host.wait(FIRST_PAUSE_MICROS / 2);
        assert!(host.reads.is_empty() && !host.status().ready);
        host.wait(FIRST_PAUSE_MICROS);
        while !host.reads.is_empty() {
            host.read();
        }
        host.wait(50_000);
        assert!(host.status().ready, "{:?}", host.status().waiting_for);
        host.take_answer();
        host.ask("STRLEN key0");
        assert_eq!(host.take_answer(), format!(":{}\r\n", 200 << 10));
    }
}
