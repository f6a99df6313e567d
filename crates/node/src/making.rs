//! Making a snapshot of this node's own table, a slice a turn (P11).

use flotilla_kv::SlotSet;
use flotilla_raft::{Index, Time};
use flotilla_shard::{ShardId, Slot};

use crate::io::{Now, Output, SnapshotChunk, Unchanged};
use crate::node::Node;
use crate::replica::{Replica, State};
use crate::snapshots::{FULL_FACTOR, HURRY_FACTOR, Making, SENDING_FACTOR, WALK_BYTES, paced};

/// How long a log is that makes snapshots due, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSize {
    log: u64,
    /// How much makes them due.
    due: u64,
    /// How much is too much. `None` while a table is loaded for the first time: how much data there
    /// is, and so how long logs may be, is not known then.
    full: Option<u64>,
}

impl LogSize {
    /// Whether it is so many times what makes snapshots due.
    pub(crate) fn is_times(&self, factor: u64) -> bool {
        self.log >= self.due * factor
    }

    /// From how many committed bytes on a replica adds nothing to a log that is full: those with
    /// the average, since snapshots of them are what makes room. Committed ones, since for these
    /// alone nothing has to be taken first; who has something to repair may need more for that.
    fn full_from(&self, replicas: u64) -> Option<u64> {
        self.full.filter(|full| self.log >= *full)?.checked_div(replicas)
    }
}

impl Node {
    /// One slice of the snapshot being made; begins the next one that is due.
    pub(crate) fn walk_snapshot(&mut self, now: Now) {
        let size = self.log_size();
        let replicas = self.replicas.len() as u64;
        let waits = self.snapshots.making.is_none() && now.time < self.snapshots.not_before;
        // While there is no room for snapshots the log has to do: a quorum may need this node.
        self.snapshots.full_from =
            size.filter(|_| !waits).and_then(|size| size.full_from(replicas));
        if self.snapshots.making.is_none() && !waits {
            self.plan_replacements();
            self.plan_snapshots(size);
            self.begin_snapshot(now);
        }
        let Some(making) = &mut self.snapshots.making else { return };
        if !making.can_walk() || (now.time < making.walk_at && !making.hurries) {
            return;
        }
        let shard = making.shard;
        let Some(machine) = self.replicas.get_mut(&shard).and_then(Replica::machine_mut) else {
            if self.snapshots.give_up_making(shard) {
                self.outputs.push(Output::SnapshotAbort { shard });
            }
            return;
        };
        let walked = machine.walk_snapshot(WALK_BYTES, &mut making.chunk);
        if let Some(part) = walked.part {
            let content = std::mem::take(&mut making.chunk);
            let rate = self.options.snapshot_write_bytes_per_second;
            making.walk_at = paced(making.walk_at, content.len() as u64, rate, now.time);
            making.appends_open += 1;
            let chunk = SnapshotChunk { slots: part.slots, content };
            self.outputs.push(Output::SnapshotAppend { shard, chunk });
        }
        let ends_part = walked.part.is_some();
        if walked.complete {
            making.finishing = true;
            self.outputs.push(Output::SnapshotFinish { shard });
        } else if ends_part {
            let hurries = self.log_size().is_some_and(|size| size.is_times(HURRY_FACTOR));
            if let Some(making) = &mut self.snapshots.making {
                making.hurries = hurries;
            }
        }
    }

    /// When the walk goes on, or the next one begins.
    pub(crate) fn next_walk_at(&self) -> Time {
        match &self.snapshots.making {
            Some(making) if making.can_walk() && making.hurries => Time(0),
            Some(making) if making.can_walk() => making.walk_at,
            None if !self.snapshots.due.is_empty() => self.snapshots.not_before,
            _ => Time::NEVER,
        }
    }

    /// The log takes so many bytes on disk, from the oldest entry above a snapshot on. To be told
    /// now and then.
    pub fn note_log_on_disk(&mut self, bytes: u64) {
        self.snapshots.on_disk.note(bytes);
    }

    /// When the log of all shards together has grown enough, every shard is due.
    fn plan_snapshots(&mut self, size: Option<LogSize>) {
        let Some(size) = size.filter(|_| self.snapshots.due.is_empty()) else { return };
        for replica in self.replicas.values() {
            let shard = replica.shard;
            let travels = self.snapshots.is_sending(shard) && !size.is_times(SENDING_FACTOR);
            let grown = replica.raft.log_bytes() > 0 && replica.applied > replica.snapshot.index;
            if grown && !travels && replica.machine().is_some() {
                self.snapshots.due.push_back(shard);
            }
        }
    }

    /// How long the log is, if that is enough to make snapshots due.
    pub(crate) fn log_size(&self) -> Option<LogSize> {
        let entries: u64 = self.replicas.values().map(|replica| replica.raft.log_bytes()).sum();
        let log = entries.max(self.snapshots.on_disk.grown());
        let least = self.options.snapshot_log_bytes;
        if log < least {
            return None;
        }
        let limit = |data: u64| least.max(data / 2);
        let tables: u64 = self.replicas.values().filter_map(|r| Some(r.machine()?.bytes())).sum();
        let known = self.replicas.values().map(Replica::known_bytes).sum::<Option<u64>>();
        let (due, full) = (limit(tables), known.map(|data| limit(data) * FULL_FACTOR));
        (log >= due).then_some(LogSize { log, due, full })
    }

    /// Whether a replica takes no entries of its leader's now: a follower that has much to catch up
    /// with gets it faster than it can drop what was before.
    pub(crate) fn has_full_log(&self, shard: ShardId) -> bool {
        self.snapshots.full_from.is_some_and(|least| {
            let can_drop = |replica: &Replica| {
                let whole = !replica.raft.lacks_state() && replica.raft.damaged() == 0;
                whole && replica.raft.committed_log_bytes() >= least
            };
            // What arrives stands in the way of a snapshot of its own.
            let receives = self.snapshots.receiving.contains_key(&shard);
            !receives && self.replicas.get(&shard).is_some_and(can_drop)
        })
    }

    fn begin_snapshot(&mut self, now: Now) {
        while let Some(shard) = self.snapshots.due.pop_front() {
            if !self.give_up_abandoned(shard, now) {
                continue;
            }
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            let applied = replica.applied;
            if applied <= replica.snapshot.index {
                continue;
            }
            let State::Serving(machine) = &mut replica.state else { continue };
            machine.start_snapshot_in_parts(self.options.snapshot_part_bytes);
            let since = replica.snapshot.index;
            let upon = (since > Index(0)).then(|| {
                let slots = machine.unchanged_since(since.0).ranges();
                Unchanged { since, slots }
            });
            let meta = replica.raft.snapshot_meta(applied);
            self.snapshots.making = Some(Making::new(shard, meta.clone(), upon.is_some()));
            self.outputs.push(Output::SnapshotBegin { shard, meta, upon });
            return;
        }
    }

    /// The driver has looked what of the former snapshot can stay where it is.
    pub(crate) fn on_snapshot_kept(
        &mut self,
        shard: ShardId,
        index: Index,
        slots: &[(Slot, Slot)],
    ) {
        let Some(making) = &mut self.snapshots.making else { return };
        if (making.shard, making.meta.index) != (shard, index) || !making.waits {
            return;
        }
        making.waits = false;
        if let Some(machine) = self.replicas.get_mut(&shard).and_then(Replica::machine_mut)
            && machine.is_writing_snapshot()
        {
            machine.leave_out(&SlotSet::from_ranges(slots));
        }
    }
}

#[cfg(test)]
mod tests;
