//! A disk without room: what this node leads is handed over, or takes no writes until there is
//! room. Reads go on, and so does all that can't be refused, in the reserve that the log keeps.
//!
//! A write is refused before it is taken, so it is provably not applied, and its client is told so.
//! Whoever follows goes on as well: its log waits for room when the reserve is used up, and
//! acknowledges nothing meanwhile, as if its disk were slow.

use flotilla_raft::{Input, RequestId, Time};
use flotilla_shard::ShardId;

use crate::io::{Notice, Now, Output};
use crate::link::SnapshotOutcome;
use crate::node::Node;

/// While the disk is full, what is led here is offered to others this often, microseconds.
const OFFER_EVERY_MICROS: u64 = 10_000_000;
/// A snapshot for which there was no room is tried again so much later, microseconds.
const SNAPSHOT_RETRY_MICROS: u64 = 5_000_000;

/// What a leader does about its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// There is room.
    #[default]
    None,
    /// There is none, and somebody else is asked to lead; writes wait for the outcome.
    HandsOver(RequestId),
    /// There is none, and no write is taken.
    Refuses,
}

impl Node {
    /// The disk has no room for more, or has again.
    pub(crate) fn on_room(&mut self, lacks: bool, now: Now) {
        if lacks == self.lacks_room {
            return;
        }
        self.lacks_room = lacks;
        self.offer_at = if lacks { now.time + OFFER_EVERY_MICROS } else { Time::NEVER };
        self.notice(Notice::Warning(if lacks {
            "the disk is full: what is led here is handed over, or takes no writes".to_owned()
        } else {
            "there is room on the disk again: writes are taken".to_owned()
        }));
        for shard in self.shards_with_lead() {
            if lacks {
                self.offer_lead(shard, true, now);
            } else if let Some(lead) = self.replicas.get_mut(&shard).and_then(|r| r.lead.as_mut()) {
                lead.shortage = Shortage::None;
            }
        }
    }

    /// Offers again what could not be handed over: somebody may have caught up meanwhile. If all
    /// disks are full the lead moves for nothing, so it is not done often.
    pub(crate) fn offer_leads(&mut self, now: Now) {
        if now.time < self.offer_at {
            return;
        }
        self.offer_at = now.time + OFFER_EVERY_MICROS;
        for shard in self.shards_with_lead() {
            self.offer_lead(shard, false, now);
        }
    }

    /// Asks the best follower to lead. Until it does, or does not, writes `wait` or are refused.
    fn offer_lead(&mut self, shard: ShardId, wait: bool, now: Now) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let to = replica.raft.best_successor().filter(|to| *to != replica.id);
        let Some(lead) = &mut replica.lead else { return };
        let id = lead.next_id();
        lead.shortage = match to {
            Some(_) if wait => Shortage::HandsOver(id),
            _ => Shortage::Refuses,
        };
        if let Some(to) = to {
            self.step(shard, Input::TransferLeadership { id, to }, now);
        }
    }

    /// Something that was asked of the core is refused: perhaps to hand over the lead.
    pub(crate) fn on_request_refused(&mut self, shard: ShardId, id: RequestId) {
        let lead = self.replicas.get_mut(&shard).and_then(|replica| replica.lead.as_mut());
        if let Some(lead) = lead.filter(|lead| lead.shortage == Shortage::HandsOver(id)) {
            lead.shortage = Shortage::Refuses;
        }
    }

    fn shards_with_lead(&self) -> Vec<ShardId> {
        let led = self.replicas.values().filter(|replica| replica.lead.is_some());
        led.map(|replica| replica.shard).collect()
    }

    /// A chunk of a snapshot file, or its end, found no room; the file is gone. This stands in the
    /// place of the answer that was due.
    pub(crate) fn on_snapshot_failed(&mut self, shard: ShardId, now: Now) {
        if self.snapshots.is_stale_append(shard) {
            return;
        }
        if let Some(receiving) = self.snapshots.receiving.get(&shard) {
            let conn = receiving.conn;
            let reply = receiving.reply(shard, receiving.number, SnapshotOutcome::Refused);
            // What was asked for after it fails as well; this is the first answer of these.
            self.snapshots.give_up_receiving(shard);
            self.snapshots.is_stale_append(shard);
            self.outputs.push(Output::SnapshotAbort { shard });
            self.reply_snapshot(conn, &reply, now);
            return;
        }
        let Some(making) = self.snapshots.making.as_mut().filter(|m| m.shard == shard) else {
            return;
        };
        if making.finishing && making.appends_open > 0 {
            // The end of the file fails as well, and that answer is still to come.
            making.appends_open -= 1;
            return;
        }
        if making.finishing {
            self.snapshots.making = None;
        } else {
            making.appends_open -= 1;
            self.snapshots.give_up_making(shard);
            self.outputs.push(Output::SnapshotAbort { shard });
            let replica = self.replicas.get_mut(&shard);
            if let Some(machine) = replica.and_then(crate::replica::Replica::machine_mut) {
                machine.cancel_snapshot();
            }
        }
        if !self.snapshots.due.contains(&shard) {
            self.snapshots.due.push_front(shard);
        }
        self.snapshots.not_before = now.time + SNAPSHOT_RETRY_MICROS;
    }
}
