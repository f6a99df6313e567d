//! Requests out and answers in: streams to leaders, here or elsewhere, and what comes back.

use flotilla_kv::args::Args;
use flotilla_kv::entry::{Chunk, Origin};
use flotilla_shard::{NodeId, ShardId};
use smallvec::SmallVec;

use crate::io::Now;
use crate::lead::{LeaderRead, refuse};
use crate::link::{
    LinkError, ReadOutcome, RefusalReason, Replies as ReplyReader, Reply, ReplyEncoder, Request,
    RequestEncoder, Requests, WriteOutcome,
};
use crate::node::Node;
use crate::peers::Peer;
use crate::replies::Answer;
use crate::stream::CutChunk;

/// After a refusal a stream waits this long and up to twice as long, microseconds.
const REFUSED_PAUSE_MICROS: u64 = 4_000;
/// A reply longer than this does not travel between nodes, bytes.
const REPLY_BYTES_MAX: usize = 96 << 20;

impl Node {
    /// Sends what waits in the streams to the leaders, as far as they are known and linked.
    pub(crate) fn flush_streams(&mut self, now: Now) {
        let shards: SmallVec<[ShardId; 16]> = self.streams.keys().copied().collect();
        for shard in shards {
            let target = self.target_of(shard);
            let Some(stream) = self.streams.get_mut(&shard) else { continue };
            stream.set_target(target, now.time);
            if stream.lacks_room(now.time) {
                self.give_up_writes(shard);
            }
            let Some(stream) = self.streams.get_mut(&shard) else { continue };
            if stream.check_silence(now.time)
                && let Some((_, node)) = target
            {
                self.on_silent_peer(node, now);
                continue;
            }
            let Some((_, node)) = target.filter(|_| stream.has_unsent()) else { continue };
            if node == self.me {
                self.flush_here(shard, now);
            } else {
                self.flush_to(shard, node, now);
            }
        }
    }

    /// Term and node of the leader that a shard's requests can go to now.
    fn target_of(&self, shard: ShardId) -> Option<(u64, NodeId)> {
        let (term, node) = self.leaders.get(shard);
        let node = node?;
        let reachable = if node == self.me {
            self.replicas.get(&shard).is_some_and(|replica| replica.lead.is_some())
        } else {
            self.peers.is_linked(node)
        };
        reachable.then_some((term, node))
    }

    /// The lowest write of this origin that is not settled anywhere.
    fn floor(&self) -> u64 {
        let lowest = self.streams.values().filter_map(crate::stream::Stream::lowest_unsettled);
        lowest.min().unwrap_or(self.last_seq + 1)
    }

    fn flush_here(&mut self, shard: ShardId, now: Now) {
        let (origin, floor) = (self.origin, self.floor());
        let Some(stream) = self.streams.get_mut(&shard) else { return };
        let Some(lead) = self.replicas.get_mut(&shard).and_then(|replica| replica.lead.as_mut())
        else {
            return;
        };
        while let Some(chunk) = stream.next_chunk(origin, floor, now.time) {
            lead.take_chunk(shard, origin, chunk, &mut self.replies);
        }
        let replies = &mut self.replies;
        stream.send_reads(now.time, |epoch, read| {
            let read = LeaderRead {
                origin,
                epoch,
                id: read.id,
                slot: read.slot,
                generation: read.generation,
                after_writes: read.after_writes,
                args: read.args.bytes().to_vec(),
            };
            lead.take_read(shard, read, replies);
        });
    }

    fn flush_to(&mut self, shard: ShardId, node: NodeId, now: Now) {
        let (origin, floor) = (self.origin, self.floor());
        let Some(stream) = self.streams.get_mut(&shard) else { return };
        let Some(outbox) = self.peers.outbox(node) else { return };
        while let Some(chunk) = stream.next_chunk(origin, floor, now.time) {
            RequestEncoder::new(&mut outbox.requests)
                .push(Request::Writes { shard, chunk: &chunk.bytes });
            outbox.close_long_rows();
        }
        stream.send_reads(now.time, |epoch, read| {
            RequestEncoder::new(&mut outbox.requests).push(Request::Read {
                shard,
                epoch,
                read_id: read.id,
                slot: read.slot,
                generation: read.generation,
                after_writes: read.after_writes,
                command: read.args.bytes(),
            });
            outbox.close_long_rows();
        });
    }

    /// Requests that a peer has forwarded. An error means that the peer's bytes make no sense.
    pub(crate) fn on_requests(&mut self, from: NodeId, body: &[u8]) -> Result<(), LinkError> {
        let Some(sender) = self.peers.map.get(&from).and_then(Peer::origin) else {
            return Ok(());
        };
        for request in Requests::new(body) {
            match request? {
                Request::Writes { shard, chunk } => self.on_writes(shard, chunk, sender)?,
                Request::Read {
                    shard,
                    epoch,
                    read_id: id,
                    slot,
                    generation,
                    after_writes,
                    command,
                } => {
                    Args::parse(command)
                        .map_err(|_| LinkError::Value { field: "command of a read" })?;
                    let (origin, args) = (sender, command.to_vec());
                    let read =
                        LeaderRead { origin, epoch, id, slot, generation, after_writes, args };
                    self.on_read(shard, read);
                }
            }
        }
        Ok(())
    }

    /// A chunk of a stream, for this node to propose.
    fn on_writes(&mut self, shard: ShardId, bytes: &[u8], from: Origin) -> Result<(), LinkError> {
        let wrong = LinkError::Value { field: "chunk of a stream" };
        let chunk = Chunk::parse(bytes).map_err(|_| wrong)?;
        let head = chunk.head();
        let Some(first) = chunk.commands().next().filter(|_| head.origin == from) else {
            return Err(wrong);
        };
        let (epoch, first_seq) = (head.epoch, first.seq);
        if let Some(lead) = self.replicas.get_mut(&shard).and_then(|r| r.lead.as_mut()) {
            let (begins, bytes) = (head.unsettled.is_some(), bytes.to_vec());
            let chunk = CutChunk { epoch, begins, first_seq, bytes };
            lead.take_chunk(shard, from, chunk, &mut self.replies);
        } else {
            refuse(shard, from, epoch, first_seq, &mut self.replies);
        }
        Ok(())
    }

    /// A read, for this node to serve.
    fn on_read(&mut self, shard: ShardId, read: LeaderRead) {
        if let Some(lead) = self.replicas.get_mut(&shard).and_then(|r| r.lead.as_mut()) {
            lead.take_read(shard, read, &mut self.replies);
        } else {
            refuse(shard, read.origin, read.epoch, u64::MAX, &mut self.replies);
        }
    }

    /// Hands the answers of this node's replicas to its own streams and to peers.
    pub(crate) fn dispatch(&mut self, now: Now) {
        let mut replies = std::mem::take(&mut self.replies);
        if !replies.items.is_empty() {
            self.release_held();
        }
        for (shard, origin, answer) in replies.items.drain(..) {
            let node = NodeId(origin.node);
            if origin == self.origin {
                self.on_answer(shard, answer, &replies.bytes, now);
            } else if self.peers.is_present(origin) {
                self.send_answer(shard, node, &answer, &replies.bytes);
            }
        }
        replies.clear();
        // Answers that these have caused meanwhile are kept; usually there are none.
        if self.replies.items.is_empty() {
            self.replies = replies;
        }
    }

    fn send_answer(&mut self, shard: ShardId, node: NodeId, answer: &Answer, bytes: &[u8]) {
        let (term, leader) = self.leaders.get(shard);
        let Some(outbox) = self.peers.outbox(node) else { return };
        let reply_bytes = |range: &std::ops::Range<usize>| -> &[u8] {
            if range.len() > REPLY_BYTES_MAX {
                b"-ERR the reply is too long to be sent between nodes: ask in smaller parts\r\n"
            } else {
                &bytes[range.clone()]
            }
        };
        let reply = match answer {
            Answer::Written { epoch, seq, reply } => Reply::Written {
                shard,
                epoch: *epoch,
                seq: *seq,
                outcome: WriteOutcome::Reply(reply_bytes(reply)),
            },
            Answer::NotOwner { epoch, seq } => {
                Reply::Written { shard, epoch: *epoch, seq: *seq, outcome: WriteOutcome::NotOwner }
            }
            Answer::Fenced { epoch, seq, min_incarnation } => {
                let min_incarnation = *min_incarnation;
                let outcome = WriteOutcome::Fenced { min_incarnation };
                Reply::Written { shard, epoch: *epoch, seq: *seq, outcome }
            }
            Answer::Read { id, epoch, reply } => Reply::Read {
                shard,
                epoch: *epoch,
                read_id: *id,
                outcome: reply
                    .as_ref()
                    .map_or(ReadOutcome::Refused, |range| ReadOutcome::Reply(reply_bytes(range))),
            },
            Answer::Refused { epoch, from_seq, reason } => Reply::Refused {
                shard,
                epoch: *epoch,
                from_seq: *from_seq,
                reason: *reason,
                leader,
                term: flotilla_raft::Term(term),
            },
        };
        ReplyEncoder::new(&mut outbox.replies).push(reply);
        outbox.close_long_rows();
    }

    /// Answers that a peer has sent.
    pub(crate) fn on_replies(&mut self, body: &[u8], now: Now) -> Result<(), LinkError> {
        self.release_held();
        for reply in ReplyReader::new(body) {
            match reply? {
                Reply::Written { shard, seq, epoch, outcome } => match outcome {
                    WriteOutcome::Reply(bytes) => {
                        let reply = 0..bytes.len();
                        self.on_answer(shard, Answer::Written { epoch, seq, reply }, bytes, now);
                    }
                    WriteOutcome::NotOwner => {
                        self.on_answer(shard, Answer::NotOwner { epoch, seq }, &[], now);
                    }
                    WriteOutcome::Fenced { min_incarnation } => {
                        let answer = Answer::Fenced { epoch, seq, min_incarnation };
                        self.on_answer(shard, answer, &[], now);
                    }
                },
                Reply::Read { shard, epoch, read_id: id, outcome } => match outcome {
                    ReadOutcome::Reply(bytes) => {
                        let reply = Some(0..bytes.len());
                        self.on_answer(shard, Answer::Read { id, epoch, reply }, bytes, now);
                    }
                    ReadOutcome::Refused => {
                        let reply = None;
                        self.on_answer(shard, Answer::Read { id, epoch, reply }, &[], now);
                    }
                },
                Reply::Refused { shard, epoch, from_seq, reason, .. } => {
                    let answer = Answer::Refused { epoch, from_seq, reason };
                    self.on_answer(shard, answer, &[], now);
                }
            }
        }
        Ok(())
    }

    /// An answer for this node's own stream.
    fn on_answer(&mut self, shard: ShardId, answer: Answer, bytes: &[u8], now: Now) {
        let pause = REFUSED_PAUSE_MICROS + self.jitter(REFUSED_PAUSE_MICROS);
        let Some(stream) = self.streams.get_mut(&shard) else { return };
        match answer {
            Answer::Written { seq, reply, .. } => {
                if let Some(write) = stream.settle_write(seq, now.time) {
                    self.deliver(shard, write.reply_to, true, &bytes[reply]);
                    self.spare.give(write.args);
                }
            }
            Answer::NotOwner { seq, .. } => {
                if let Some(write) = stream.settle_write(seq, now.time) {
                    self.deliver(shard, write.reply_to, true, NOT_SERVED);
                }
            }
            Answer::Read { id, epoch, reply } => {
                if let Some(read) = stream.settle_read(id, epoch, now.time) {
                    let reply = reply.map_or(NOT_SERVED, |range| &bytes[range]);
                    self.deliver(shard, read.reply_to, false, reply);
                    self.spare.give(read.args);
                }
            }
            Answer::Fenced { min_incarnation, .. } => {
                // Only this very boot hears this: another one has used its number, or a later one.
                let reason = format!(
                    "shard {shard} knows boot {min_incarnation} of this node, and this is boot {}: \
                     its disk is an older image of itself",
                    self.origin.incarnation
                );
                self.renew(self.founding.own_disk().0, min_incarnation, &reason);
                self.after_founding(now);
            }
            Answer::Refused { epoch, from_seq, reason: RefusalReason::NoRoom } => {
                stream.on_no_room(epoch, from_seq, now.time, pause);
            }
            Answer::Refused { epoch, from_seq, reason } => {
                let is_present = stream.on_refused(epoch, from_seq, now.time, pause);
                if is_present && reason == RefusalReason::Loading {
                    self.answer_loading(shard);
                }
            }
        }
    }

    /// The leader's table is being loaded, and that takes longer: nobody is kept waiting for it who
    /// can be told that the command was not applied.
    fn answer_loading(&mut self, shard: ShardId) {
        let Some(stream) = self.streams.get_mut(&shard) else { return };
        let (writes, reads) = (stream.give_up_certain(), stream.give_up_reads());
        let text =
            format!("-LOADING shard {shard} is loading its data; the command was not applied\r\n");
        for (ended, write) in [(writes, true), (reads, false)] {
            for reply_to in ended {
                self.deliver(shard, reply_to, write, text.as_bytes());
            }
        }
    }

    /// Ends the writes that the leader has no room for, all but those of which an earlier attempt
    /// may have been taken: only their records can tell.
    fn give_up_writes(&mut self, shard: ShardId) {
        let Some(stream) = self.streams.get_mut(&shard) else { return };
        let ended = stream.give_up_certain();
        if !ended.is_empty() {
            self.release_held();
        }
        for reply_to in ended {
            let text = format!(
                "-MISCONF the disk of the node that leads shard {shard} is full: the command was \
                 not applied, and can be tried again when there is room\r\n"
            );
            self.deliver(shard, reply_to, true, text.as_bytes());
        }
    }

    /// Ends the requests whose time is up: a write that may have been applied is `UNCERTAIN`, all
    /// others were provably not applied and may be tried again.
    pub(crate) fn expire_requests(&mut self, now: Now) {
        let shards: Vec<ShardId> = self.streams.keys().copied().collect();
        let mut expired = Vec::new();
        for shard in shards {
            let Some(stream) = self.streams.get_mut(&shard) else { continue };
            stream.expire(now.time, &mut expired);
            if !expired.is_empty() {
                self.release_held();
            }
            for ended in expired.drain(..) {
                let seconds = self.options.hold_ms as f64 / 1_000.0;
                let text = if ended.uncertain {
                    format!(
                        "-UNCERTAIN shard {shard} has not answered within {seconds} s: the write \
                         may or may not have been applied\r\n"
                    )
                } else {
                    format!(
                        "-CLUSTERDOWN shard {shard} has had no leader within reach for \
                         {seconds} s; the command was not applied\r\n"
                    )
                };
                self.deliver(shard, ended.reply_to, ended.write, text.as_bytes());
            }
        }
    }

    /// Whether another round of the turn would do something.
    pub(crate) fn has_local_work(&self) -> bool {
        self.replicas.values().filter(|replica| replica.is_open()).any(|replica| {
            replica.lead.as_ref().is_some_and(|lead| {
                lead.has_staged()
                    || lead.has_asked()
                    || lead.wants_tick()
                    || lead.has_servable(replica.applied)
            })
        })
    }

    /// Uniform below `bound`: splitmix64 over this boot's seed.
    fn jitter(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// No shard owns the slot by the map that routed: with today's fixed map this can't happen, and a
/// retry is safe.
pub(crate) const NOT_SERVED: &[u8] = b"-CLUSTERDOWN Hash slot not served\r\n";
