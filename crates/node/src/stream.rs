//! What this node, as an origin, has asked of one shard and not heard the end of (P7, P8).
//!
//! A stream is the sequence of this node's requests to a shard. Its *epoch* rises with every new
//! connection, leader or retry; the first chunk of an epoch lists all that is unsettled, and then
//! everything is sent again, oldest first. A write is *uncertain* once an attempt ended without an
//! answer: it may have been applied, so only its session record can tell, and if the time is up the
//! client is told just that.
//!
//! Invariants: `writes` ascends by seq; the first `sent` of them were sent in this epoch, the rest
//! were not; parts joined to their successor are never separated by a chunk's end.

use std::collections::{BTreeMap, VecDeque};

use flotilla_kv::args::{Args, ArgsBuf};
use flotilla_kv::entry::{ChunkHead, ChunkWriter, Origin};
use flotilla_raft::Time;
use flotilla_shard::NodeId;

use crate::io::ConnId;

/// With requests out and no answer for so long, the stream starts over, microseconds.
const SILENCE_MICROS: u64 = 1_000_000;
/// A leader without room is asked again after so long; meanwhile reads are not held up by writes
/// that it refuses, microseconds.
const NO_ROOM_MICROS: u64 = 200_000;

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    /// Straight to the place kept in a client's row of replies.
    Client {
        /// Whose.
        conn: ConnId,
        /// Which.
        place: u64,
    },
    /// To one part of a command over several slots or shards.
    Part {
        /// Whose command.
        conn: ConnId,
        /// The command.
        gather: u64,
        /// Which part.
        part: usize,
    },
}

impl ReplyTo {
    /// The client that asked.
    pub(crate) fn conn(self) -> ConnId {
        match self {
            Self::Client { conn, .. } | Self::Part { conn, .. } => conn,
        }
    }
}

/// A write that is not settled.
#[derive(Debug)]
pub(crate) struct Write {
    /// Its number among all of this origin's writes.
    pub(crate) seq: u64,
    /// Its slot, or [`flotilla_kv::entry::WHOLE_SHARD`].
    pub(crate) slot: u16,
    /// The slot's ownership generation it was routed by.
    pub(crate) generation: u32,
    /// Whether the next write is applied with it, or neither.
    pub(crate) joined: bool,
    /// The command.
    pub(crate) args: ArgsBuf,
    /// Who waits for it.
    pub(crate) reply_to: ReplyTo,
    /// When the client is told that it took too long.
    pub(crate) deadline: Time,
    /// Whether an earlier attempt ended without an answer.
    uncertain: bool,
}

/// A read that is not answered.
#[derive(Debug)]
pub(crate) struct Read {
    /// Its slot, or [`flotilla_kv::entry::WHOLE_SHARD`].
    pub(crate) slot: u16,
    /// The slot's ownership generation it was routed by.
    pub(crate) generation: u32,
    /// The last write of its connection in this shard that was open when it came, or 0.
    pub(crate) after_seq: u64,
    /// The command.
    pub(crate) args: ArgsBuf,
    /// Who waits for it.
    pub(crate) reply_to: ReplyTo,
    /// When the client is told that it took too long.
    pub(crate) deadline: Time,
}

/// A read as it is sent.
#[derive(Debug)]
pub(crate) struct ReadToSend<'a> {
    /// Its number in this stream.
    pub(crate) id: u64,
    /// Its slot.
    pub(crate) slot: u16,
    /// The ownership generation.
    pub(crate) generation: u32,
    /// Whether it must see writes sent before it in this epoch.
    pub(crate) after_writes: bool,
    /// The command.
    pub(crate) args: Args<'a>,
}

/// A chunk of writes as it is sent.
#[derive(Debug)]
pub(crate) struct CutChunk {
    /// The stream's epoch.
    pub(crate) epoch: u64,
    /// Whether the epoch begins with it.
    pub(crate) begins: bool,
    /// Its first write.
    pub(crate) first_seq: u64,
    /// Its encoding.
    pub(crate) bytes: Vec<u8>,
}

/// A write that ended without a reply of the shard's.
#[derive(Debug)]
pub(crate) struct Expired {
    /// Who waits for it.
    pub(crate) reply_to: ReplyTo,
    /// Whether it is a write that may have been applied.
    pub(crate) uncertain: bool,
    /// Whether it was a write at all.
    pub(crate) write: bool,
}

/// The requests of this node to one shard.
#[derive(Debug)]
pub(crate) struct Stream {
    /// A chunk is ended at about so many bytes; a command above it goes alone.
    chunk_bytes: usize,
    epoch: u64,
    /// Whether anything was sent in this epoch.
    started: bool,
    /// Whether the epoch's list of unsettled writes was sent.
    announced: bool,
    target: Option<(u64, NodeId)>,
    not_before: Time,
    /// The target had no room for writes: before this moment it is sent none.
    no_room_until: Time,
    progress_at: Time,
    writes: VecDeque<Write>,
    sent: usize,
    reads: BTreeMap<u64, Read>,
    unsent_reads: VecDeque<u64>,
    next_read: u64,
    last_seq: u64,
    bytes: usize,
}

impl Stream {
    /// A stream on which nothing was asked yet, with chunks of about so many bytes.
    pub(crate) fn new(chunk_bytes: usize) -> Self {
        Self {
            chunk_bytes,
            epoch: 1,
            started: false,
            announced: false,
            target: None,
            not_before: Time(0),
            no_room_until: Time(0),
            progress_at: Time(0),
            writes: VecDeque::new(),
            sent: 0,
            reads: BTreeMap::new(),
            unsent_reads: VecDeque::new(),
            next_read: 1,
            last_seq: 0,
            bytes: 0,
        }
    }

    /// Adds a write; `seq` is above all before.
    pub(crate) fn push_write(
        &mut self,
        seq: u64,
        place: (u16, u32),
        joined: bool,
        args: ArgsBuf,
        reply_to: ReplyTo,
        deadline: Time,
    ) {
        assert!(seq > self.last_seq, "an origin's seqs ascend");
        self.last_seq = seq;
        self.bytes += args.as_args().bytes().len();
        let (slot, generation) = place;
        let uncertain = false;
        let write = Write { seq, slot, generation, joined, args, reply_to, deadline, uncertain };
        self.writes.push_back(write);
    }

    /// Adds a read.
    pub(crate) fn push_read(&mut self, read: Read) {
        let id = self.next_read;
        self.next_read += 1;
        self.bytes += read.args.as_args().bytes().len();
        self.reads.insert(id, read);
        self.unsent_reads.push_back(id);
    }

    /// The next attempt goes to `target` (term and node); another one than before starts over.
    pub(crate) fn set_target(&mut self, target: Option<(u64, NodeId)>, now: Time) {
        if target != self.target {
            self.target = target;
            self.restart(now);
            self.not_before = now;
            self.no_room_until = Time(0);
        }
    }

    /// The connection to the target is gone or fell silent, or it lost the lead: what was sent has
    /// no known outcome.
    pub(crate) fn restart(&mut self, now: Time) {
        for write in self.writes.iter_mut().take(self.sent) {
            write.uncertain = true;
        }
        self.start_over(now);
    }

    /// The target refused everything of `epoch` from `from_seq` on, and all its reads.
    /// False if that epoch is over.
    pub(crate) fn on_refused(&mut self, epoch: u64, from_seq: u64, now: Time, pause: u64) -> bool {
        if epoch != self.epoch {
            return false;
        }
        for write in self.writes.iter_mut().take(self.sent) {
            if write.seq < from_seq {
                write.uncertain = true;
            }
        }
        self.start_over(now);
        self.not_before = now + pause;
        true
    }

    /// The same, since the target has no room for writes.
    pub(crate) fn on_no_room(&mut self, epoch: u64, from_seq: u64, now: Time, pause: u64) {
        if epoch == self.epoch {
            self.on_refused(epoch, from_seq, now, pause);
            self.no_room_until = now + NO_ROOM_MICROS;
        }
    }

    /// Whether the target had no room just now, so that it is sent no writes.
    pub(crate) fn lacks_room(&self, now: Time) -> bool {
        now < self.no_room_until
    }

    /// Removes the writes that were certainly not applied; gives back who waits for each.
    pub(crate) fn give_up_certain(&mut self) -> Vec<ReplyTo> {
        assert_eq!(self.sent, 0, "what is out is not given up");
        let mut ended = Vec::new();
        let mut at = 0;
        while let Some(write) = self.writes.get(at) {
            if write.uncertain {
                at += 1;
            } else {
                ended.extend(self.take_write(at).map(|write| write.reply_to));
            }
        }
        ended
    }

    fn start_over(&mut self, now: Time) {
        if self.started {
            self.epoch += 1;
            self.started = false;
            self.announced = false;
        }
        self.sent = 0;
        self.unsent_reads = self.reads.keys().copied().collect();
        self.progress_at = now;
    }

    /// The write `seq` has its reply.
    pub(crate) fn settle_write(&mut self, seq: u64, now: Time) -> Option<Write> {
        let at = self.writes.binary_search_by_key(&seq, |write| write.seq).ok()?;
        self.progress_at = now;
        self.take_write(at)
    }

    /// The read `id` has its reply, given in `epoch`.
    pub(crate) fn settle_read(&mut self, id: u64, epoch: u64, now: Time) -> Option<Read> {
        // An answer to an earlier attempt is as good: it was given after the read was asked. But a
        // resent read may have followed writes that the earlier one did not wait for.
        if epoch != self.epoch {
            return None;
        }
        let read = self.reads.remove(&id)?;
        self.progress_at = now;
        self.bytes -= read.args.as_args().bytes().len();
        Some(read)
    }

    fn take_write(&mut self, at: usize) -> Option<Write> {
        let write = self.writes.remove(at)?;
        if at < self.sent {
            self.sent -= 1;
        }
        self.bytes -= write.args.as_args().bytes().len();
        Some(write)
    }

    /// Removes and gives what waited past its deadline.
    pub(crate) fn expire(&mut self, now: Time, expired: &mut Vec<Expired>) {
        while self.writes.front().is_some_and(|write| write.deadline <= now) {
            let was_sent = self.sent > 0;
            let Some(write) = self.take_write(0) else { break };
            let uncertain = write.uncertain || was_sent;
            expired.push(Expired { reply_to: write.reply_to, uncertain, write: true });
        }
        while let Some(entry) = self.reads.first_entry() {
            if entry.get().deadline > now {
                break;
            }
            let read = entry.remove();
            self.bytes -= read.args.as_args().bytes().len();
            expired.push(Expired { reply_to: read.reply_to, uncertain: false, write: false });
        }
    }

    /// Removes the reads, which have done nothing; gives back who waits for each.
    pub(crate) fn give_up_reads(&mut self) -> Vec<ReplyTo> {
        self.unsent_reads.clear();
        let reads = std::mem::take(&mut self.reads).into_values();
        let ended = reads.map(|read| {
            self.bytes -= read.args.as_args().bytes().len();
            read.reply_to
        });
        ended.collect()
    }

    /// The next chunk of writes to send, if any may be sent now.
    pub(crate) fn next_chunk(&mut self, origin: Origin, floor: u64, now: Time) -> Option<CutChunk> {
        if self.sent == self.writes.len() || now < self.not_before.max(self.no_room_until) {
            return None;
        }
        let (epoch, begins, first_seq) = (self.epoch, !self.announced, self.writes[self.sent].seq);
        let unsettled =
            (!self.announced).then(|| self.writes.iter().map(|write| write.seq).collect());
        let head = ChunkHead { origin, epoch: self.epoch, acked: self.acked(), floor, unsettled };
        if self.nothing_out() {
            self.progress_at = now;
        }
        let mut chunk = ChunkWriter::begin(&head);
        let mut joined = true;
        while let Some(write) = self.writes.get(self.sent) {
            if chunk.count() > 0
                && !joined
                && chunk.len_bytes() + write.args.as_args().bytes().len() > self.chunk_bytes
            {
                break;
            }
            chunk.push(write.seq, write.slot, write.generation, write.joined, write.args.as_args());
            joined = write.joined;
            self.sent += 1;
        }
        self.started = true;
        self.announced = true;
        Some(CutChunk { epoch, begins, first_seq, bytes: chunk.finish() })
    }

    /// Gives every unsent read to `send`, if any may be sent now; call it after the chunks.
    pub(crate) fn send_reads(&mut self, now: Time, mut send: impl FnMut(u64, ReadToSend<'_>)) {
        if now < self.not_before || self.unsent_reads.is_empty() {
            return;
        }
        if self.nothing_out() {
            self.progress_at = now;
        }
        self.started = true;
        let lowest = self.writes.front().map_or(u64::MAX, |write| write.seq);
        while let Some(id) = self.unsent_reads.pop_front() {
            let Some(read) = self.reads.get(&id) else { continue };
            let after_writes = read.after_seq >= lowest;
            let Read { slot, generation, .. } = *read;
            send(
                self.epoch,
                ReadToSend { id, slot, generation, after_writes, args: read.args.as_args() },
            );
        }
    }

    /// Starts over if the target has been silent for too long, and says so.
    pub(crate) fn check_silence(&mut self, now: Time) -> bool {
        let silent = !self.nothing_out() && now.since(self.progress_at) >= SILENCE_MICROS;
        if silent {
            self.restart(now);
        }
        silent
    }

    /// When something is due although nothing happens.
    pub(crate) fn deadline(&self) -> Time {
        let write = self.writes.front().map_or(Time::NEVER, |write| write.deadline);
        let read = self.reads.first_key_value().map_or(Time::NEVER, |(_, read)| read.deadline);
        let resend = if self.target.is_none() {
            Time::NEVER
        } else if !self.unsent_reads.is_empty() {
            self.not_before
        } else if self.sent < self.writes.len() {
            self.not_before.max(self.no_room_until)
        } else {
            Time::NEVER
        };
        let silence =
            if self.nothing_out() { Time::NEVER } else { self.progress_at + SILENCE_MICROS };
        write.min(read).min(resend).min(silence)
    }

    /// The lowest unsettled seq, if any.
    pub(crate) fn lowest_unsettled(&self) -> Option<u64> {
        self.writes.front().map(|write| write.seq)
    }

    /// Where the requests go: the leader's term and node.
    pub(crate) fn target(&self) -> Option<(u64, NodeId)> {
        self.target
    }

    /// Whether so much is unsettled that clients must wait.
    pub(crate) fn is_full(&self, commands: usize, bytes: usize) -> bool {
        self.writes.len() + self.reads.len() >= commands || self.bytes >= bytes
    }

    /// Whether there is anything to send.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.writes.len() || !self.unsent_reads.is_empty()
    }

    fn nothing_out(&self) -> bool {
        self.sent == 0 && self.unsent_reads.len() == self.reads.len()
    }

    /// Everything of this stream up to here is settled.
    fn acked(&self) -> u64 {
        self.lowest_unsettled().map_or(self.last_seq, |seq| seq - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_kv::entry::Chunk;

    const ORIGIN: Origin = Origin { node: 1, incarnation: 1, nonce: 7, lane: 0 };
    const LEADER: Option<(u64, NodeId)> = Some((1, NodeId(2)));
    const HOLD: u64 = 5_000_000;
    const CHUNK_BYTES: usize = 1 << 20;

    fn to(place: u64) -> ReplyTo {
        ReplyTo::Client { conn: ConnId(1), place }
    }

    fn write(stream: &mut Stream, seq: u64, joined: bool) {
        let args = ArgsBuf::from_slices(&[b"INCR", b"k"]);
        stream.push_write(seq, (1, 0), joined, args, to(seq), Time(HOLD));
    }

    fn read(stream: &mut Stream, after_seq: u64) {
        let args = ArgsBuf::from_slices(&[b"GET", b"k"]);
        let (slot, generation, deadline) = (1, 0, Time(HOLD));
        stream.push_read(Read { slot, generation, after_seq, args, reply_to: to(99), deadline });
    }

    /// Epoch, list of unsettled writes, and the writes of the next chunk.
    fn sent(stream: &mut Stream, now: u64) -> Option<(u64, Option<Vec<u64>>, Vec<u64>)> {
        let cut = stream.next_chunk(ORIGIN, 0, Time(now))?;
        let chunk = Chunk::parse(&cut.bytes).expect("a chunk made here is well formed");
        let seqs = chunk.commands().map(|command| command.seq).collect();
        assert_eq!(cut.begins, chunk.head().unsettled.is_some());
        Some((cut.epoch, chunk.head().unsettled, seqs))
    }

    fn started() -> Stream {
        let mut stream = Stream::new(CHUNK_BYTES);
        stream.set_target(LEADER, Time(0));
        write(&mut stream, 1, false);
        write(&mut stream, 2, false);
        assert_eq!(sent(&mut stream, 0), Some((1, Some(vec![1, 2]), vec![1, 2])));
        stream
    }

    #[test]
    fn only_the_first_chunk_of_an_epoch_lists_what_is_unsettled() {
        let mut stream = started();
        write(&mut stream, 3, false);
        assert_eq!(sent(&mut stream, 1), Some((1, None, vec![3])));
        assert_eq!(sent(&mut stream, 1), None);
    }

    #[test]
    fn a_new_leader_is_sent_everything_again_oldest_first() {
        let mut stream = started();
        assert!(stream.settle_write(1, Time(1)).is_some());
        write(&mut stream, 3, false);
        stream.set_target(Some((2, NodeId(3))), Time(2));
        assert_eq!(sent(&mut stream, 2), Some((2, Some(vec![2, 3]), vec![2, 3])));
    }

    #[test]
    fn an_epoch_with_reads_only_still_lists_its_writes_later() {
        let mut stream = Stream::new(CHUNK_BYTES);
        stream.set_target(LEADER, Time(0));
        read(&mut stream, 0);
        stream.send_reads(Time(0), |epoch, _| assert_eq!(epoch, 1));
        write(&mut stream, 1, false);
        assert_eq!(sent(&mut stream, 0), Some((1, Some(vec![1]), vec![1])));
    }

    #[test]
    fn a_read_is_behind_the_open_writes_of_its_connection_only() {
        let mut stream = started();
        read(&mut stream, 2);
        read(&mut stream, 0);
        let mut behind = Vec::new();
        stream.send_reads(Time(0), |_, read| behind.push(read.after_writes));
        assert_eq!(behind, [true, false]);
        stream.settle_write(1, Time(1));
        stream.settle_write(2, Time(1));
        stream.restart(Time(2));
        let mut behind = Vec::new();
        stream.send_reads(Time(2), |_, read| behind.push(read.after_writes));
        assert_eq!(behind, [false, false], "what is settled is seen by every later read");
    }

    #[test]
    fn what_was_provably_refused_is_not_uncertain() {
        let mut stream = started();
        stream.on_refused(1, 2, Time(1), 10);
        assert_eq!(sent(&mut stream, 5), None, "it pauses after a refusal");
        stream.set_target(None, Time(20));
        let mut expired = Vec::new();
        stream.expire(Time(HOLD), &mut expired);
        let uncertain: Vec<bool> = expired.iter().map(|ended| ended.uncertain).collect();
        assert_eq!(uncertain, [true, false], "the first was taken, the second refused");
    }

    #[test]
    fn a_broken_attempt_stays_uncertain_although_a_later_one_was_refused() {
        let mut stream = started();
        stream.restart(Time(1));
        assert_eq!(sent(&mut stream, 1), Some((2, Some(vec![1, 2]), vec![1, 2])));
        stream.on_refused(2, 0, Time(2), 10);
        let mut expired = Vec::new();
        stream.expire(Time(HOLD), &mut expired);
        assert!(expired.iter().all(|ended| ended.uncertain));
    }

    #[test]
    fn what_is_refused_for_loading_ends_unless_it_may_have_been_applied() {
        let mut stream = started();
        read(&mut stream, 0);
        stream.restart(Time(1));
        write(&mut stream, 3, false);
        assert!(sent(&mut stream, 1).is_some());
        assert!(!stream.on_refused(1, 0, Time(2), 10), "that epoch is over");
        assert!(stream.on_refused(2, 1, Time(2), 10));
        assert_eq!(stream.give_up_certain(), [to(3)], "of the others nobody knows");
        assert_eq!(stream.give_up_reads(), [to(99)]);
        assert_eq!(sent(&mut stream, 12), Some((3, Some(vec![1, 2]), vec![1, 2])));
    }

    #[test]
    fn a_refusal_of_an_older_epoch_means_nothing() {
        let mut stream = started();
        stream.restart(Time(1));
        sent(&mut stream, 1);
        stream.on_refused(1, 0, Time(2), 10);
        assert_eq!(sent(&mut stream, 2), None, "the present epoch goes on");
    }

    #[test]
    fn what_finds_no_room_is_given_up_unless_it_may_have_been_taken_before() {
        let mut stream = started();
        read(&mut stream, 0);
        stream.send_reads(Time(0), |_, _| ());
        stream.on_no_room(1, 2, Time(1), 10);
        assert!(stream.lacks_room(Time(1)));
        assert_eq!(stream.give_up_certain(), [to(2)], "the first may have been taken");
        assert_eq!(sent(&mut stream, 20), None, "no write is sent for a while");
        let mut reads = 0;
        stream.send_reads(Time(20), |epoch, _| {
            assert_eq!(epoch, 2);
            reads += 1;
        });
        assert_eq!(reads, 1, "reads go on");
        let later = 1 + NO_ROOM_MICROS;
        assert_eq!(stream.deadline(), Time(later));
        assert!(!stream.lacks_room(Time(later)));
        assert_eq!(sent(&mut stream, later), Some((2, Some(vec![1]), vec![1])));
    }

    #[test]
    fn another_leader_may_have_room() {
        let mut stream = started();
        stream.on_no_room(1, 1, Time(1), 10);
        assert_eq!(stream.deadline(), Time(1 + NO_ROOM_MICROS));
        stream.set_target(Some((2, NodeId(3))), Time(2));
        assert_eq!(sent(&mut stream, 2), Some((2, Some(vec![1, 2]), vec![1, 2])));
    }

    #[test]
    fn silence_starts_over() {
        let mut stream = started();
        assert!(!stream.check_silence(Time(SILENCE_MICROS - 1)));
        assert_eq!(sent(&mut stream, SILENCE_MICROS - 1), None);
        assert!(stream.check_silence(Time(SILENCE_MICROS)));
        assert_eq!(sent(&mut stream, SILENCE_MICROS).map(|(epoch, ..)| epoch), Some(2));
    }

    #[test]
    fn parts_of_one_command_are_never_separated() {
        let mut stream = Stream::new(CHUNK_BYTES);
        stream.set_target(LEADER, Time(0));
        let long = vec![b'x'; CHUNK_BYTES];
        for seq in 1..=3 {
            let args = ArgsBuf::from_slices(&[b"SET", b"k", &long]);
            stream.push_write(seq, (1, 0), seq < 3, args, to(seq), Time(HOLD));
        }
        write(&mut stream, 4, false);
        assert_eq!(sent(&mut stream, 0), Some((1, Some(vec![1, 2, 3, 4]), vec![1, 2, 3])));
        assert_eq!(sent(&mut stream, 0), Some((1, None, vec![4])));
    }
}
