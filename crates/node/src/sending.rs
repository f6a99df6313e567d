//! Sending a snapshot to a replica that lags: chunk by chunk on a connection of its own, at a
//! bounded rate, a few chunks ahead of the answers.
//!
//! The first chunk goes alone; its answer says where to go on. So what a broken connection has
//! delivered is not sent again, nor what a leader before this one has sent of the same file. A
//! receiver that owes an answer for long is given up in the same way: no sender waits for ever,
//! whatever became of the answer.
//!
//! Differs: [`flotilla_raft::chunks`] cuts a file of bytes into chunks of one size. A snapshot here
//! may lie in several files, its chunks are of any size, already checked and numbered, and only
//! their content travels. Of that module's ideas these are used: a name by digest, resuming at what
//! is stored, a window, and that another file takes the place of one only if that stands still.

use flotilla_raft::{Index, Input, ReplicaId, Term, Time};
use flotilla_shard::ShardId;

use crate::io::{ConnId, Notice, Now, Output, ReadChunk};
use crate::link::{
    ChunkView, LinkError, PacketKind, Purpose, Snapshot, SnapshotOutcome, SnapshotReply,
};
use crate::node::Node;
use crate::snapshots::{PATIENCE_TIMEOUTS, REFUSED_PAUSE_MICROS, Sending};

impl Node {
    /// A follower needs a snapshot: it goes over a connection of its own.
    pub(crate) fn send_snapshot(&mut self, shard: ShardId, to: ReplicaId, term: Term, now: Now) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        let (from, meta) = (replica.id, replica.snapshot.clone());
        let repairs = term.is_of_repair();
        if repairs && self.snapshots.sending.contains_key(&(shard, to)) {
            // One is on its way already, and repairs as well.
            return;
        }
        let node = replica.node_of(to).filter(|node| self.peers.is_linked(*node));
        if let Some(old) = self.snapshots.sending.remove(&(shard, to)) {
            self.conns.remove(old.conn);
            self.outputs.push(Output::Close { conn: old.conn });
        }
        let refused = self.snapshots.refused.get(&(shard, to));
        let pauses = refused.is_some_and(|at| now.time.since(*at) < REFUSED_PAUSE_MICROS);
        let dialed = node.filter(|_| !pauses).and_then(|node| self.dial(node, Purpose::Snapshots));
        let Some(conn) = dialed else {
            self.step(shard, Input::SnapshotSent { to, delivered: None }, now);
            return;
        };
        let sending = Sending::new(conn, from, term, meta, now.time);
        self.snapshots.sending.insert((shard, to), sending);
    }

    /// A connection for snapshots is ready: the first chunk is read.
    pub(crate) fn on_snapshot_link(&mut self, conn: ConnId, now: Now) {
        let Some(key) = self.snapshots.sent_over(conn) else { return };
        if let Some(sending) = self.snapshots.sending.get_mut(&key) {
            sending.is_linked();
        }
        self.read_ahead(key, now);
    }

    /// When a snapshot may be sent on, or its receiver is late.
    pub(crate) fn next_sending_at(&self) -> Time {
        let patience = self.sending_patience();
        let late = self.snapshots.sending.values().map(|sending| sending.late_at(patience)).min();
        self.snapshots.pace.deadline().min(late.unwrap_or(Time::NEVER))
    }

    /// How long a receiver may owe an answer, microseconds.
    fn sending_patience(&self) -> u64 {
        PATIENCE_TIMEOUTS * self.options.election_timeout_ms * 1_000
    }

    /// Gives up what has waited too long for an answer; the core asks again.
    pub(crate) fn give_up_late_receivers(&mut self, now: Now) {
        let patience = self.sending_patience();
        let late = |(key, sending): (&(ShardId, ReplicaId), &Sending)| {
            (sending.late_at(patience) <= now.time).then_some(*key)
        };
        let late: Vec<_> = self.snapshots.sending.iter().filter_map(late).collect();
        for key in late {
            self.end_sending(key, None, now);
        }
    }

    /// Goes on with what has waited for its turn.
    pub(crate) fn send_snapshots_on(&mut self, now: Now) {
        while let Some(key) = self.snapshots.pace.next(now.time) {
            self.read_ahead(key, now);
        }
    }

    /// The rate at which snapshots are sent, bytes per second. None is kept to once the log has
    /// grown so much that another one is due: that would take the place of the one that travels,
    /// whose follower would never catch up.
    fn sending_rate(&self) -> u64 {
        match self.log_size() {
            Some(_) => u64::MAX,
            None => self.options.snapshot_bytes_per_second,
        }
    }

    /// Asks for chunks to be read, as far as the receiver has answered and the rate allows.
    fn read_ahead(&mut self, key: (ShardId, ReplicaId), now: Now) {
        let rate = self.sending_rate();
        while let Some(sending) = self.snapshots.sending.get_mut(&key)
            && sending.has_room()
        {
            if !self.snapshots.pace.take(key, sending.chunk_bytes, rate, now.time) {
                return;
            }
            let (shard, index, number) = (key.0, sending.meta.index, sending.next_read);
            sending.next_read += 1;
            self.outputs.push(Output::SnapshotRead { shard, index, number });
        }
    }

    /// A chunk was read that somebody may wait for.
    pub(crate) fn send_chunk(
        &mut self,
        key: (ShardId, ReplicaId),
        result: &Result<ReadChunk, String>,
        now: Now,
    ) {
        let (shard, to) = key;
        let Some(sending) = self.snapshots.sending.get_mut(&key) else { return };
        match result {
            Ok(ReadChunk { digest, chunk, .. }) => {
                let number = sending.send(chunk.as_ref(), now.time);
                let conn = sending.conn;
                let packet = Snapshot {
                    shard,
                    from_replica: sending.from,
                    to_replica: to,
                    term: sending.term,
                    meta: sending.meta.clone(),
                    digest: *digest,
                    number,
                    chunk: chunk
                        .as_ref()
                        .map(|chunk| ChunkView { slots: chunk.slots, content: &chunk.content }),
                };
                self.send_packet(conn, PacketKind::Snapshot, now, |out| packet.encode(out));
            }
            Err(reason) => {
                self.notice(Notice::Warning(format!(
                    "a snapshot of shard {shard} can't be sent: {reason}"
                )));
                self.end_sending(key, None, now);
            }
        }
    }

    fn end_sending(&mut self, key: (ShardId, ReplicaId), delivered: Option<Index>, now: Now) {
        let (shard, to) = key;
        if let Some(sending) = self.snapshots.sending.remove(&key) {
            self.conns.remove(sending.conn);
            self.outputs.push(Output::Close { conn: sending.conn });
            self.step(shard, Input::SnapshotSent { to, delivered }, now);
        }
    }

    pub(crate) fn on_snapshot_reply(
        &mut self,
        conn: ConnId,
        body: &[u8],
        now: Now,
    ) -> Result<(), LinkError> {
        let reply = SnapshotReply::decode(body)?;
        let key = (reply.shard, reply.to_replica);
        let Some(sending) = self.snapshots.sending.get_mut(&key) else { return Ok(()) };
        if sending.conn != conn || sending.meta.index != reply.index {
            return Ok(());
        }
        match reply.outcome {
            SnapshotOutcome::Next => {
                sending.answered(reply.number, now.time);
                self.read_ahead(key, now);
            }
            SnapshotOutcome::Durable => self.end_sending(key, Some(reply.index), now),
            SnapshotOutcome::Refused => {
                self.snapshots.refused.insert(key, now.time);
                self.end_sending(key, None, now);
            }
        }
        Ok(())
    }
}
