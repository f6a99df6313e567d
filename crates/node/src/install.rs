//! Receiving a snapshot, and loading a table from one that is on the disk.
//!
//! What has arrived stays when its connection breaks, and counts when the same file is offered
//! again. While it goes on arriving, no other file takes its place: a new leader's offer is
//! refused, but makes the state that arrives the new leader's. It may, since the state is of
//! committed entries, which the new leader has [Raft §5.4].

use flotilla_raft::{Index, Input};
use flotilla_shard::{NodeId, ShardId};

use crate::io::{ConnId, Now, Output, ReadChunk, SnapshotChunk};
use crate::link::{LinkError, PacketKind, Snapshot, SnapshotOutcome, SnapshotReply};
use crate::node::Node;
use crate::replica::Replica;
use crate::snapshots::{KEPT_MICROS, Making, Receiving, STILL_MICROS, WINDOW_CHUNKS};

/// What becomes of the first chunk of a snapshot.
enum Arrival {
    /// It is to be stored.
    Begins,
    /// It is stored: the sender is to go on with this one.
    GoesOn(u32),
    /// It is not taken now.
    Refused,
}

impl Node {
    pub(crate) fn on_snapshot_appended(&mut self, shard: ShardId, now: Now) {
        if self.snapshots.is_stale_append(shard) {
            return;
        }
        if let Some(receiving) = self.snapshots.receiving.get_mut(&shard) {
            receiving.stored += 1;
            receiving.moved_at = now.time;
            let (conn, number) = (receiving.conn, receiving.stored);
            let reply = receiving.reply(shard, number, SnapshotOutcome::Next);
            self.reply_snapshot(conn, &reply, now);
        } else if let Some(making) = &mut self.snapshots.making
            && making.shard == shard
        {
            making.appends_open -= 1;
        }
    }

    pub(crate) fn on_snapshot_stored(&mut self, shard: ShardId, index: Index, now: Now) {
        let received = self
            .snapshots
            .receiving
            .get(&shard)
            .is_some_and(|r| r.finishing && r.meta.index == index);
        if received {
            let Some(receiving) = self.snapshots.receiving.remove(&shard) else { return };
            let reply = receiving.reply(shard, receiving.number, SnapshotOutcome::Durable);
            let Receiving { conn, from, term, meta, .. } = receiving;
            let meta = Box::new(meta);
            self.step(shard, Input::SnapshotReceived { from, term, meta }, now);
            self.reply_snapshot(conn, &reply, now);
            return;
        }
        let made = |making: &mut Making| making.shard == shard && making.meta.index == index;
        if let Some(making) = self.snapshots.making.take_if(made)
            && let Some(replica) = self.replicas.get_mut(&shard)
            && making.meta.index > replica.snapshot.index
        {
            self.snapshots.on_disk.begin_anew();
            replica.snapshot = making.meta.clone();
            self.step(shard, Input::Compact { meta: Box::new(making.meta) }, now);
        }
    }

    /// A connection for snapshots is gone: what travelled on it did not arrive.
    pub(crate) fn on_snapshot_link_lost(&mut self, conn: ConnId, now: Now) {
        if let Some((shard, to)) = self.snapshots.sent_over(conn) {
            self.snapshots.sending.remove(&(shard, to));
            self.step(shard, Input::SnapshotSent { to, delivered: None }, now);
        }
        for receiving in self.snapshots.receiving.values_mut() {
            if receiving.conn == Some(conn) {
                receiving.conn = None;
            }
        }
    }

    /// Gives up what arrived of a snapshot and was left alone for long, or for a while if the log
    /// has brought as much in the meantime. True if nothing arrives.
    pub(crate) fn give_up_abandoned(&mut self, shard: ShardId, now: Now) -> bool {
        let Some(receiving) = self.snapshots.receiving.get(&shard) else { return true };
        let replica = self.replicas.get(&shard);
        let needless = replica.is_some_and(|it| it.has_state_at(receiving.meta.index));
        let kept = if needless { STILL_MICROS } else { KEPT_MICROS };
        let abandoned = (needless || receiving.conn.is_none())
            && !receiving.finishing
            && now.time.since(receiving.moved_at) >= kept;
        if abandoned {
            self.give_up_receiving(shard);
        }
        abandoned
    }

    fn give_up_receiving(&mut self, shard: ShardId) {
        if self.snapshots.give_up_receiving(shard) {
            self.outputs.push(Output::SnapshotAbort { shard });
        }
    }

    pub(crate) fn on_snapshot_chunk(
        &mut self,
        shard: ShardId,
        index: Index,
        number: u32,
        result: Result<ReadChunk, String>,
        now: Now,
    ) {
        for key in self.snapshots.senders_of(shard, index, number) {
            self.send_chunk(key, &result, now);
        }
        let awaits =
            self.replicas.get(&shard).is_some_and(|replica| replica.awaits_chunk(index, number));
        if awaits {
            self.load_chunk(shard, index, number, result, now);
        }
    }

    /// A chunk from a leader.
    pub(crate) fn on_snapshot(
        &mut self,
        conn: ConnId,
        node: NodeId,
        body: &[u8],
        now: Now,
    ) -> Result<(), LinkError> {
        let packet = Snapshot::decode(body)?;
        if let Some((number, outcome)) = self.answer_to(conn, node, &packet, now) {
            let reply = SnapshotReply {
                shard: packet.shard,
                to_replica: packet.to_replica,
                index: packet.meta.index,
                number,
                outcome,
            };
            self.reply_snapshot(Some(conn), &reply, now);
        }
        Ok(())
    }

    /// What is to be said of a chunk at once: where to go on, and what becomes of it. Nothing if it
    /// is taken, until it is in the file. Whoever sends waits for one or the other, so it is told
    /// as well if the replica is not there, or not yet.
    fn answer_to(
        &mut self,
        conn: ConnId,
        node: NodeId,
        packet: &Snapshot<'_>,
        now: Now,
    ) -> Option<(u32, SnapshotOutcome)> {
        let number = packet.number;
        let replica = self.replicas.get(&packet.shard).filter(|replica| {
            let theirs = replica.node_of(packet.from_replica) == Some(node);
            theirs && packet.to_replica == replica.id && !replica.is_halted()
        });
        let Some(replica) = replica else { return Some((number, SnapshotOutcome::Refused)) };
        if replica.has_state_at(packet.meta.index) {
            return Some((number, SnapshotOutcome::Durable));
        }
        let arrival =
            if number == 0 { self.on_first_chunk(conn, packet, now) } else { Arrival::Begins };
        match arrival {
            Arrival::Begins if self.take_chunk(conn, packet) => None,
            Arrival::Begins | Arrival::Refused => Some((number, SnapshotOutcome::Refused)),
            Arrival::GoesOn(number) => Some((number, SnapshotOutcome::Next)),
        }
    }

    /// Stores a chunk if it is the next one; says whether it is.
    fn take_chunk(&mut self, conn: ConnId, packet: &Snapshot<'_>) -> bool {
        let shard = packet.shard;
        let receiving = self.snapshots.receiving.get_mut(&shard);
        let Some(receiving) = receiving.filter(|r| r.expects(conn, packet)) else { return false };
        if let Some(chunk) = packet.chunk {
            if receiving.number - receiving.stored >= WINDOW_CHUNKS {
                return false;
            }
            receiving.number += 1;
            let chunk = SnapshotChunk { slots: chunk.slots, content: chunk.content.to_vec() };
            self.outputs.push(Output::SnapshotAppend { shard, chunk });
        } else {
            receiving.finishing = true;
            self.outputs.push(Output::SnapshotFinish { shard });
        }
        true
    }

    /// A snapshot is offered.
    fn on_first_chunk(&mut self, conn: ConnId, packet: &Snapshot<'_>, now: Now) -> Arrival {
        let shard = packet.shard;
        if let Some(old) = self.snapshots.receiving.get_mut(&shard) {
            let newer =
                !packet.term.is_of_repair() && (old.term.is_of_repair() || packet.term > old.term);
            if newer {
                (old.from, old.term) = (packet.from_replica, packet.term);
            }
            if old.finishing {
                return Arrival::Refused;
            }
            if (&old.meta, old.digest) == (&packet.meta, packet.digest) {
                let taken_up = old.take_up(conn, now.time);
                return if taken_up { Arrival::GoesOn(old.number) } else { Arrival::Refused };
            }
            if old.conn.is_some() && now.time.since(old.moved_at) < STILL_MICROS {
                return Arrival::Refused;
            }
            self.give_up_receiving(shard);
        }
        let making = self.snapshots.making.as_ref().is_some_and(|making| making.shard == shard);
        if !self.snapshots.give_up_making(shard) {
            return Arrival::Refused;
        }
        if making {
            self.outputs.push(Output::SnapshotAbort { shard });
            if let Some(machine) = self.replicas.get_mut(&shard).and_then(Replica::machine_mut) {
                machine.cancel_snapshot();
            }
        }
        let meta = packet.meta.clone();
        self.outputs.push(Output::SnapshotBegin { shard, meta, upon: None });
        self.snapshots.receiving.insert(shard, Receiving::new(conn, packet, now.time));
        Arrival::Begins
    }

    pub(crate) fn reply_snapshot(&mut self, conn: Option<ConnId>, reply: &SnapshotReply, now: Now) {
        if let Some(conn) = conn {
            self.send_packet(conn, PacketKind::SnapshotReply, now, |out| reply.encode(out));
        }
    }

    fn load_chunk(
        &mut self,
        shard: ShardId,
        index: Index,
        number: u32,
        result: Result<ReadChunk, String>,
        now: Now,
    ) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let loaded = result.and_then(|read| {
            let content = read.chunk.as_ref().map(|chunk| &chunk.content[..]);
            replica.load(index, number, read.chunks, content)
        });
        match loaded {
            Ok(Some(_)) => self.ask_chunks(shard),
            // What was committed meanwhile is applied in the turns to come.
            Ok(None) => {
                self.on_loaded(shard, now);
                self.load_next();
            }
            Err(reason) => {
                self.lose_state(shard, &reason, now);
                self.load_next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_raft::{ReplicaId, SnapshotMeta, Term};

    use super::*;
    use crate::alone::{Host, PEER};

    /// Its sender waits for an answer, and the replica may be about to come to life.
    #[test]
    fn what_is_sent_to_a_replica_that_is_not_there_is_answered() {
        let (mut host, conn) = Host::with_peer();
        let packet = Snapshot {
            shard: ShardId(7),
            from_replica: ReplicaId(1),
            to_replica: ReplicaId(2),
            term: Term(1),
            meta: SnapshotMeta::default(),
            digest: 9,
            number: 0,
            chunk: None,
        };
        let mut body = Vec::new();
        packet.encode(&mut body);
        assert_eq!(host.sent.get(&conn), None);
        host.node.on_snapshot(conn, PEER, &body, host.now).expect("it can be read");
        host.wait(10_000);
        assert!(host.sent.contains_key(&conn));
    }
}
