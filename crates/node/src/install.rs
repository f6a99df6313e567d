//! Carrying out the three roles of snapshots: making, sending, receiving; and loading a table.

use flotilla_raft::{Index, Input, ReplicaId, Term, Time};
use flotilla_shard::{NodeId, ShardId};

use crate::io::{ConnId, Notice, Now, Output};
use crate::link::{
    FrameWriter, LinkError, PacketKind, Purpose, Snapshot, SnapshotOutcome, SnapshotReply,
};
use crate::node::Node;
use crate::replica::State;
use crate::snapshots::{
    APPENDS_OPEN_MAX, CHUNK_BYTES, Making, Receiving, SENDING_FACTOR, Sending, WALK_BYTES,
};

impl Node {
    /// One slice of the snapshot being made; begins the next one that is due.
    pub(crate) fn walk_snapshot(&mut self, now: Now) {
        if self.snapshots.making.is_none() && now.time >= self.snapshots.not_before {
            self.plan_replacements();
            self.plan_snapshots();
            self.begin_snapshot();
        }
        let Some(making) = &mut self.snapshots.making else { return };
        if making.finishing || making.appends_open >= APPENDS_OPEN_MAX {
            return;
        }
        let shard = making.shard;
        let machine = self.replicas.get_mut(&shard).and_then(crate::replica::Replica::machine_mut);
        let Some(machine) = machine else {
            if self.snapshots.give_up_making(shard) {
                self.outputs.push(Output::SnapshotAbort { shard });
            }
            return;
        };
        let finished = machine.walk_snapshot(WALK_BYTES, &mut making.chunk);
        if !making.chunk.is_empty() && (finished || making.chunk.len() >= CHUNK_BYTES) {
            let chunk = std::mem::take(&mut making.chunk);
            making.appends_open += 1;
            self.outputs.push(Output::SnapshotAppend { shard, chunk });
        }
        if finished {
            making.finishing = true;
            self.outputs.push(Output::SnapshotFinish { shard });
        }
    }

    /// When the walk goes on, or the next one begins.
    pub(crate) fn next_walk_at(&self) -> Time {
        match &self.snapshots.making {
            Some(making) if making.finishing || making.appends_open >= APPENDS_OPEN_MAX => {
                Time::NEVER
            }
            Some(_) => Time(0),
            None if self.snapshots.due.is_empty() => Time::NEVER,
            None => self.snapshots.not_before,
        }
    }

    /// When the log of all shards together has grown enough, every shard is due.
    fn plan_snapshots(&mut self) {
        if !self.snapshots.due.is_empty() {
            return;
        }
        let log: u64 = self.replicas.values().map(|replica| replica.raft.log_bytes()).sum();
        if log < self.options.snapshot_log_bytes {
            return;
        }
        let data: u64 = self.replicas.values().filter_map(|r| Some(r.machine()?.bytes())).sum();
        let limit = self.options.snapshot_log_bytes.max(data / 2);
        if log < limit {
            return;
        }
        for replica in self.replicas.values() {
            let shard = replica.shard;
            let travels = self.snapshots.is_sending(shard) && log < limit * SENDING_FACTOR;
            let grown = replica.raft.log_bytes() > 0 && replica.applied > replica.snapshot.index;
            if grown && !travels && replica.machine().is_some() {
                self.snapshots.due.push_back(shard);
            }
        }
    }

    fn begin_snapshot(&mut self) {
        while let Some(shard) = self.snapshots.due.pop_front() {
            if self.snapshots.receiving.contains_key(&shard) {
                continue;
            }
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            let applied = replica.applied;
            if applied <= replica.snapshot.index {
                continue;
            }
            let State::Serving(machine) = &mut replica.state else { continue };
            machine.start_snapshot();
            let meta = replica.raft.snapshot_meta(applied);
            self.outputs.push(Output::SnapshotBegin { shard, meta: meta.clone() });
            let chunk = Vec::new();
            self.snapshots.making =
                Some(Making { shard, meta, chunk, appends_open: 0, finishing: false });
            return;
        }
    }

    pub(crate) fn on_snapshot_appended(&mut self, shard: ShardId, now: Now) {
        if self.snapshots.is_stale_append(shard) {
            return;
        }
        if let Some(receiving) = self.snapshots.receiving.get_mut(&shard) {
            receiving.number += 1;
            receiving.open = false;
            let (conn, number, index) = (receiving.conn, receiving.number, receiving.meta.index);
            self.reply_snapshot(conn, shard, index, number - 1, SnapshotOutcome::Next, now);
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
            let Some(Receiving { conn, from, term, meta, number, .. }) =
                self.snapshots.receiving.remove(&shard)
            else {
                return;
            };
            let meta = Box::new(meta);
            self.step(shard, Input::SnapshotReceived { from, term, meta }, now);
            self.reply_snapshot(conn, shard, index, number, SnapshotOutcome::Durable, now);
            return;
        }
        let made = |making: &mut Making| making.shard == shard && making.meta.index == index;
        if let Some(making) = self.snapshots.making.take_if(made)
            && let Some(replica) = self.replicas.get_mut(&shard)
            && making.meta.index > replica.snapshot.index
        {
            replica.snapshot = making.meta.clone();
            self.step(shard, Input::Compact { meta: Box::new(making.meta) }, now);
        }
    }

    /// A follower needs a snapshot: it goes over a connection of its own.
    pub(crate) fn send_snapshot(&mut self, shard: ShardId, to: ReplicaId, term: Term, now: Now) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        let (from, meta) = (replica.id, replica.snapshot.clone());
        let repairs = term == Term(0);
        if repairs && self.snapshots.sending.contains_key(&(shard, to)) {
            // One is on its way already, and repairs as well.
            return;
        }
        let node = replica.node_of(to).filter(|node| self.peers.is_linked(*node));
        if let Some(old) = self.snapshots.sending.remove(&(shard, to)) {
            self.conns.remove(old.conn);
            self.outputs.push(Output::Close { conn: old.conn });
        }
        let dialed = node.and_then(|node| self.dial(node, Purpose::Snapshots));
        let Some(conn) = dialed else {
            self.step(shard, Input::SnapshotSent { to, delivered: None }, now);
            return;
        };
        let sending = Sending { conn, from, term, meta, number: 0, asked: false };
        self.snapshots.sending.insert((shard, to), sending);
    }

    /// A connection for snapshots is ready: the first chunk is read.
    pub(crate) fn on_snapshot_link(&mut self, conn: ConnId) {
        if let Some(key) = self.snapshots.sent_over(conn)
            && let Some(sending) = self.snapshots.sending.get_mut(&key)
        {
            sending.asked = true;
            let (shard, index, number) = (key.0, sending.meta.index, sending.number);
            self.outputs.push(Output::SnapshotRead { shard, index, number });
        }
    }

    /// A connection for snapshots is gone: what travelled on it did not arrive.
    pub(crate) fn on_snapshot_link_lost(&mut self, conn: ConnId, now: Now) {
        if let Some((shard, to)) = self.snapshots.sent_over(conn) {
            self.snapshots.sending.remove(&(shard, to));
            self.step(shard, Input::SnapshotSent { to, delivered: None }, now);
        }
        let received =
            self.snapshots.receiving.iter().find(|(_, receiving)| receiving.conn == conn);
        // A file that is being finished is complete: it counts, whoever is still listening.
        if let Some((&shard, receiving)) = received
            && !receiving.finishing
        {
            let open = u32::from(receiving.open);
            self.snapshots.give_up_receiving(shard, open);
            self.outputs.push(Output::SnapshotAbort { shard });
        }
    }

    pub(crate) fn on_snapshot_chunk(
        &mut self,
        shard: ShardId,
        index: Index,
        number: u32,
        result: Result<Option<Vec<u8>>, String>,
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

    fn send_chunk(
        &mut self,
        key: (ShardId, ReplicaId),
        result: &Result<Option<Vec<u8>>, String>,
        now: Now,
    ) {
        let (shard, to) = key;
        let Some(sending) = self.snapshots.sending.get_mut(&key) else { return };
        sending.asked = false;
        let conn = sending.conn;
        match result {
            Ok(chunk) => {
                let packet = Snapshot {
                    shard,
                    from_replica: sending.from,
                    to_replica: to,
                    term: sending.term,
                    meta: sending.meta.clone(),
                    number: sending.number,
                    chunk: chunk.as_deref(),
                };
                let mut writer = FrameWriter::default();
                writer.packet_with(PacketKind::Snapshot, now.wall_ms, |out| packet.encode(out));
                self.outputs.push(Output::Send { conn, bytes: writer.take() });
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
            SnapshotOutcome::Next if reply.number == sending.number => {
                sending.number += 1;
                sending.asked = true;
                let (shard, index, number) = (reply.shard, reply.index, sending.number);
                self.outputs.push(Output::SnapshotRead { shard, index, number });
            }
            SnapshotOutcome::Next => {}
            SnapshotOutcome::Durable => self.end_sending(key, Some(reply.index), now),
            SnapshotOutcome::Refused => self.end_sending(key, None, now),
        }
        Ok(())
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
        let (shard, index, number) = (packet.shard, packet.meta.index, packet.number);
        let Some(replica) = self.replicas.get(&shard) else { return Ok(()) };
        let theirs = replica.node_of(packet.from_replica) == Some(node);
        if !theirs || packet.to_replica != replica.id || replica.is_halted() {
            self.reply_snapshot(conn, shard, index, number, SnapshotOutcome::Refused, now);
            return Ok(());
        }
        if index <= replica.applied && !replica.raft.lacks_state() {
            self.reply_snapshot(conn, shard, index, number, SnapshotOutcome::Durable, now);
            return Ok(());
        }
        if number == 0 && !self.begin_receiving(conn, &packet) {
            self.reply_snapshot(conn, shard, index, number, SnapshotOutcome::Refused, now);
            return Ok(());
        }
        let receiving = self.snapshots.receiving.get_mut(&shard);
        let Some(receiving) = receiving.filter(|r| {
            r.conn == conn && r.meta == packet.meta && r.number == number && !r.open && !r.finishing
        }) else {
            self.reply_snapshot(conn, shard, index, number, SnapshotOutcome::Refused, now);
            return Ok(());
        };
        if let Some(chunk) = packet.chunk {
            receiving.open = true;
            self.outputs.push(Output::SnapshotAppend { shard, chunk: chunk.to_vec() });
        } else {
            receiving.finishing = true;
            self.outputs.push(Output::SnapshotFinish { shard });
        }
        Ok(())
    }

    /// Makes room for a snapshot that arrives; false if the shard's file is taken.
    fn begin_receiving(&mut self, conn: ConnId, packet: &Snapshot<'_>) -> bool {
        let shard = packet.shard;
        if let Some(old) = self.snapshots.receiving.get(&shard) {
            if old.finishing {
                return false;
            }
            let open = u32::from(old.open);
            self.snapshots.give_up_receiving(shard, open);
            self.outputs.push(Output::SnapshotAbort { shard });
        }
        let making = self.snapshots.making.as_ref().is_some_and(|making| making.shard == shard);
        if !self.snapshots.give_up_making(shard) {
            return false;
        }
        if making {
            self.outputs.push(Output::SnapshotAbort { shard });
            if let Some(machine) =
                self.replicas.get_mut(&shard).and_then(crate::replica::Replica::machine_mut)
            {
                machine.cancel_snapshot();
            }
        }
        let meta = packet.meta.clone();
        self.outputs.push(Output::SnapshotBegin { shard, meta: meta.clone() });
        let receiving = Receiving {
            conn,
            from: packet.from_replica,
            term: packet.term,
            meta,
            number: 0,
            open: false,
            finishing: false,
        };
        self.snapshots.receiving.insert(shard, receiving);
        true
    }

    pub(crate) fn reply_snapshot(
        &mut self,
        conn: ConnId,
        shard: ShardId,
        index: Index,
        number: u32,
        outcome: SnapshotOutcome,
        now: Now,
    ) {
        let Some(to_replica) = self.replicas.get(&shard).map(|replica| replica.id) else { return };
        if self.conns.link_mut(conn).is_none() {
            return;
        }
        let reply = SnapshotReply { shard, to_replica, index, number, outcome };
        let mut writer = FrameWriter::default();
        writer.packet_with(PacketKind::SnapshotReply, now.wall_ms, |out| reply.encode(out));
        self.outputs.push(Output::Send { conn, bytes: writer.take() });
    }

    /// A replica that was found with a snapshot asks for its first chunk.
    pub(crate) fn ask_first_chunk(&mut self, shard: ShardId) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        let index = replica.snapshot.index;
        if replica.awaits_chunk(index, 0) {
            self.outputs.push(Output::SnapshotRead { shard, index, number: 0 });
        }
    }

    fn load_chunk(
        &mut self,
        shard: ShardId,
        index: Index,
        number: u32,
        result: Result<Option<Vec<u8>>, String>,
        now: Now,
    ) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let loaded = result.and_then(|chunk| replica.load(index, number, chunk.as_deref()));
        match loaded {
            Ok(Some(number)) => self.outputs.push(Output::SnapshotRead { shard, index, number }),
            // What was committed meanwhile is applied at the end of the turn.
            Ok(None) => {}
            Err(reason) => self.lose_state(shard, &reason, now),
        }
    }
}
