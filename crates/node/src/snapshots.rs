//! Snapshots on their way: written here, sent to a follower that lags, received from a leader.
//!
//! Written: when the log of all shards together has grown enough, every shard with entries since
//! its last snapshot takes its turn; a slice of the table is walked each turn (P11), and what has
//! not changed since that snapshot is left out. Sent and received: chunk by chunk on a connection
//! of their own, into a file that counts only when it is whole and durable.
//!
//! Invariant: at most one snapshot file per shard is being written on a node; a received one takes
//! the place of one being made, never of one that is being finished.

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::{Index, ReplicaId, SnapshotMeta, Term, Time};
use flotilla_shard::ShardId;

use crate::io::{ConnId, SnapshotChunk};
use crate::link::{Snapshot, SnapshotOutcome, SnapshotReply};

/// Work of one walk, bytes: at most about 200 µs.
pub(crate) const WALK_BYTES: usize = 64 << 10;
/// Chunks handed to the driver and not yet in the file; beyond, the walk waits.
pub(crate) const APPENDS_OPEN_MAX: u32 = 4;
/// While a snapshot travels, a new one of its shard waits until the log has grown this many times
/// the usual, or the follower would never catch up.
pub(crate) const SENDING_FACTOR: u64 = 2;
/// A log of so many times what makes snapshots due has them written as fast as can be.
pub(crate) const HURRY_FACTOR: u64 = 2;
/// A log of so many times what makes snapshots due has no room for more from leaders until they are
/// made.
pub(crate) const FULL_FACTOR: u64 = 3;
/// Chunks sent and not yet known to be stored; beyond, the sender waits.
pub(crate) const WINDOW_CHUNKS: u32 = 8;
/// A snapshot of which nothing has arrived for so long gives way to another, microseconds.
pub(crate) const STILL_MICROS: u64 = 2_000_000;
/// What has arrived of a snapshot is kept for so long after its connection broke, at least, if the
/// node wants to make one itself, microseconds.
pub(crate) const KEPT_MICROS: u64 = 30_000_000;
/// Whoever has refused a snapshot is offered none for so long, microseconds.
pub(crate) const REFUSED_PAUSE_MICROS: u64 = 500_000;
/// A receiver that owes an answer for so many election timeouts, and for the time that the largest
/// chunk takes on the slowest wire, is given up: the sender begins again on another connection, and
/// goes on from what the receiver has.
pub(crate) const PATIENCE_TIMEOUTS: u64 = 10;
/// The slowest wire on which snapshots still arrive, bytes per second.
const SLOWEST_WIRE: u64 = 64 << 10;
/// How far a sender that was late may catch up, microseconds of its rate.
const BURST_MICROS: u64 = 10_000;

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
    /// Whether the driver still has to say what is kept of the former one.
    pub(crate) waits: bool,
    /// When the walk may go on.
    pub(crate) walk_at: Time,
    /// Whether it does not wait for that, since the log has grown too large.
    pub(crate) hurries: bool,
    /// Whether the walk is over and the file is being finished.
    pub(crate) finishing: bool,
}

impl Making {
    /// Nothing is walked yet.
    pub(crate) fn new(shard: ShardId, meta: SnapshotMeta, waits: bool) -> Self {
        Self {
            shard,
            meta,
            chunk: Vec::new(),
            appends_open: 0,
            waits,
            walk_at: Time(0),
            hurries: false,
            finishing: false,
        }
    }

    /// Whether the walk goes on.
    pub(crate) fn can_walk(&self) -> bool {
        !self.waits && !self.finishing && self.appends_open < APPENDS_OPEN_MAX
    }
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
    /// Whether the receiver has said where to go on.
    agreed: bool,
    /// The receiver has all chunks below this one.
    acked: u32,
    /// The next chunk to send.
    pub(crate) sent: u32,
    /// The next chunk to ask for.
    pub(crate) next_read: u32,
    /// Whether the end was sent.
    pub(crate) ended: bool,
    /// Size of the chunk sent last, by which the next one is paced.
    pub(crate) chunk_bytes: u64,
    /// Size of the largest chunk sent.
    largest_chunk: u64,
    /// Since when the receiver has owed an answer; `None` while the next step is the sender's own.
    owed_since: Option<Time>,
}

impl Sending {
    /// Nothing is sent yet, and the connection is being made since `now`.
    pub(crate) fn new(
        conn: ConnId,
        from: ReplicaId,
        term: Term,
        meta: SnapshotMeta,
        now: Time,
    ) -> Self {
        Self {
            owed_since: Some(now),
            largest_chunk: 0,
            conn,
            from,
            term,
            meta,
            agreed: false,
            acked: 0,
            sent: 0,
            next_read: 0,
            ended: false,
            chunk_bytes: 0,
        }
    }

    /// Whether another chunk may be under way.
    pub(crate) fn has_room(&self) -> bool {
        let window = if self.agreed { WINDOW_CHUNKS } else { 1 };
        !self.ended && self.next_read - self.acked < window
    }

    /// The connection is ready.
    pub(crate) fn is_linked(&mut self) {
        self.owed_since = None;
    }

    /// A chunk leaves, or the end of them; gives its number.
    pub(crate) fn send(&mut self, chunk: Option<&SnapshotChunk>, now: Time) -> u32 {
        let number = self.sent;
        self.sent += 1;
        self.ended = chunk.is_none();
        self.chunk_bytes = chunk.map_or(0, |chunk| chunk.content.len() as u64);
        self.largest_chunk = self.largest_chunk.max(self.chunk_bytes);
        self.owed_since.get_or_insert(now);
        number
    }

    /// When the receiver has owed an answer for `patience` microseconds, and for as long as a chunk
    /// may be on its way.
    pub(crate) fn late_at(&self, patience: u64) -> Time {
        let travels = self.largest_chunk.saturating_mul(1_000_000) / SLOWEST_WIRE;
        self.owed_since.map_or(Time::NEVER, |since| since + patience + travels)
    }

    /// The receiver has all chunks below `number`, or will soon.
    pub(crate) fn answered(&mut self, number: u32, now: Time) {
        if !self.agreed {
            (self.agreed, self.acked, self.sent, self.next_read) = (true, number, number, number);
        }
        self.acked = self.acked.max(number.min(self.sent));
        self.owed_since = (self.acked < self.sent).then_some(now);
    }
}

/// A snapshot being received.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// Its connection, if it has not broken.
    pub(crate) conn: Option<ConnId>,
    /// The leader that sends it, or another leader since.
    pub(crate) from: ReplicaId,
    /// For which replica here.
    to: ReplicaId,
    /// That leader's term.
    pub(crate) term: Term,
    /// What it stands for.
    pub(crate) meta: SnapshotMeta,
    /// Of the whole file, as the sender has it.
    pub(crate) digest: u64,
    /// The next chunk expected.
    pub(crate) number: u32,
    /// How many chunks are in the file.
    pub(crate) stored: u32,
    /// When a chunk came or was stored last.
    pub(crate) moved_at: Time,
    /// Whether all chunks are in and the file is being finished.
    pub(crate) finishing: bool,
}

impl Receiving {
    /// A snapshot whose first chunk comes.
    pub(crate) fn new(conn: ConnId, first: &Snapshot<'_>, now: Time) -> Self {
        Self {
            conn: Some(conn),
            from: first.from_replica,
            to: first.to_replica,
            term: first.term,
            meta: first.meta.clone(),
            digest: first.digest,
            number: 0,
            stored: 0,
            moved_at: now,
            finishing: false,
        }
    }

    /// The same file is offered over a connection: whether it goes on there. It does not over one
    /// that another has taken the place of, from which this comes late: the answers would go where
    /// nobody waits for them.
    pub(crate) fn take_up(&mut self, conn: ConnId, now: Time) -> bool {
        if self.conn.is_some_and(|newer| newer > conn) {
            return false;
        }
        (self.conn, self.moved_at) = (Some(conn), now);
        true
    }

    /// An answer to whoever sends it.
    pub(crate) fn reply(
        &self,
        shard: ShardId,
        number: u32,
        outcome: SnapshotOutcome,
    ) -> SnapshotReply {
        SnapshotReply { shard, to_replica: self.to, index: self.meta.index, number, outcome }
    }

    /// Whether this is the next chunk.
    pub(crate) fn expects(&self, conn: ConnId, packet: &Snapshot<'_>) -> bool {
        let same = self.meta == packet.meta && self.digest == packet.digest;
        same && self.conn == Some(conn) && self.number == packet.number && !self.finishing
    }
}

/// Divides the rate at which this node sends snapshots among their receivers.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the next chunk may be read.
    next_at: Time,
    /// Who waits for that, in the order of their coming.
    waiting: VecDeque<(ShardId, ReplicaId)>,
}

impl Pace {
    /// Takes the room of a chunk, or has the sending wait; says which.
    pub(crate) fn take(
        &mut self,
        key: (ShardId, ReplicaId),
        bytes: u64,
        bytes_per_second: u64,
        now: Time,
    ) -> bool {
        if now < self.next_at {
            if !self.waiting.contains(&key) {
                self.waiting.push_back(key);
            }
            return false;
        }
        self.next_at = paced(self.next_at, bytes, bytes_per_second, now);
        true
    }

    /// The first one that waits, once it may go on.
    pub(crate) fn next(&mut self, now: Time) -> Option<(ShardId, ReplicaId)> {
        if now < self.next_at { None } else { self.waiting.pop_front() }
    }

    /// When somebody who waits may go on.
    pub(crate) fn deadline(&self) -> Time {
        if self.waiting.is_empty() { Time::NEVER } else { self.next_at }
    }
}

/// When more may follow after so many bytes, which followed at `at` or `now`.
pub(crate) fn paced(at: Time, bytes: u64, bytes_per_second: u64, now: Time) -> Time {
    let least = Time(now.0.saturating_sub(BURST_MICROS));
    at.max(least) + bytes.saturating_mul(1_000_000) / bytes_per_second.max(1)
}

/// What the log takes on disk, from the oldest entry above a snapshot on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogOnDisk {
    /// At present, bytes.
    bytes: u64,
    /// The least since the last snapshot: what that could not free does not count.
    least: u64,
}

impl LogOnDisk {
    /// It is so many bytes now.
    pub(crate) fn note(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.least = self.least.min(bytes);
    }

    /// A snapshot was made.
    pub(crate) fn begin_anew(&mut self) {
        self.least = self.bytes;
    }

    /// How much it has grown since the last snapshot, bytes.
    pub(crate) fn grown(&self) -> u64 {
        self.bytes - self.least
    }
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
    /// When a receiver refused one last.
    pub(crate) refused: BTreeMap<(ShardId, ReplicaId), Time>,
    /// How fast they are sent.
    pub(crate) pace: Pace,
    /// Those being received.
    pub(crate) receiving: BTreeMap<ShardId, Receiving>,
    /// There was no room for the last one made: the next is not begun before this moment.
    pub(crate) not_before: Time,
    /// Answers still to come for files that were given up.
    stale_appends: BTreeMap<ShardId, u32>,
    /// How the log grows on disk, where small entries take more than their bytes.
    pub(crate) on_disk: LogOnDisk,
    /// The log is full: replicas with so many committed bytes above their snapshots, or more, take
    /// no entries.
    pub(crate) full_from: Option<u64>,
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

    /// Gives up the one being received for `shard`; true if there was one.
    pub(crate) fn give_up_receiving(&mut self, shard: ShardId) -> bool {
        let Some(receiving) = self.receiving.remove(&shard) else { return false };
        let open = receiving.number - receiving.stored + u32::from(receiving.finishing);
        *self.stale_appends.entry(shard).or_default() += open;
        true
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
            let asked = sending.sent == number && number < sending.next_read && !sending.ended;
            (asked && key.0 == shard && sending.meta.index == index).then_some(*key)
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

#[cfg(test)]
mod tests {
    use super::*;

    const TO: (ShardId, ReplicaId) = (ShardId(1), ReplicaId(2));
    const OTHER: (ShardId, ReplicaId) = (ShardId(1), ReplicaId(3));

    fn sending() -> Sending {
        let mut sending =
            Sending::new(ConnId(1), ReplicaId(1), Term(1), SnapshotMeta::default(), Time(0));
        sending.is_linked();
        sending
    }

    const CHUNK: SnapshotChunk = SnapshotChunk { slots: None, content: Vec::new() };

    /// Asks for and sends as many chunks as may be under way.
    fn send_all(sending: &mut Sending) {
        while sending.has_room() {
            sending.next_read += 1;
            sending.send(Some(&CHUNK), Time(0));
        }
    }

    #[test]
    fn only_an_answer_that_is_owed_can_be_late() {
        let mut sending =
            Sending::new(ConnId(1), ReplicaId(1), Term(1), SnapshotMeta::default(), Time(5));
        assert_eq!(sending.late_at(10), Time(15), "the other side's hello");
        sending.is_linked();
        assert_eq!(sending.late_at(10), Time::NEVER, "the chunk is still being read");
        sending.send(Some(&CHUNK), Time(20));
        assert_eq!(sending.late_at(10), Time(30));
        sending.answered(1, Time(21));
        assert_eq!(sending.late_at(10), Time::NEVER);
        sending.send(Some(&CHUNK), Time(40));
        sending.send(None, Time(45));
        assert_eq!(sending.late_at(10), Time(50), "since the oldest that has no answer");
        sending.answered(2, Time(48));
        assert_eq!(sending.late_at(10), Time(58), "that of the end");
        let content = vec![0; 2 * SLOWEST_WIRE as usize];
        sending.send(Some(&SnapshotChunk { slots: None, content }), Time(60));
        assert_eq!(sending.late_at(10), Time(58 + 2_000_000), "a large chunk takes its time");
    }

    #[test]
    fn the_first_chunk_goes_alone_and_then_a_window() {
        let mut sending = sending();
        send_all(&mut sending);
        assert_eq!(sending.sent, 1, "where to go on is not known yet");
        sending.answered(1, Time(0));
        send_all(&mut sending);
        assert_eq!(sending.sent, 1 + WINDOW_CHUNKS);
        sending.answered(3, Time(0));
        send_all(&mut sending);
        assert_eq!(sending.sent, 3 + WINDOW_CHUNKS);
    }

    /// Two receivers are at the same chunk of one file, and one of them has not asked for it yet.
    #[test]
    fn a_chunk_goes_to_those_who_asked_for_it() {
        let mut snapshots = Snapshots::default();
        for key in [TO, OTHER] {
            snapshots.sending.insert(key, sending());
        }
        let senders_of = |snapshots: &Snapshots| snapshots.senders_of(TO.0, Index(0), 0);
        let asks = |snapshots: &mut Snapshots, key| {
            snapshots.sending.get_mut(&key).expect("it is there").next_read = 1;
        };
        asks(&mut snapshots, TO);
        assert_eq!(senders_of(&snapshots), [TO], "the other one would get it twice");
        asks(&mut snapshots, OTHER);
        assert_eq!(senders_of(&snapshots), [TO, OTHER], "one read is enough for both");
        snapshots.sending.get_mut(&TO).expect("it is there").send(Some(&CHUNK), Time(0));
        assert_eq!(senders_of(&snapshots), [OTHER], "the first one has it");
    }

    #[test]
    fn what_the_receiver_has_is_not_sent_again() {
        let mut sending = sending();
        send_all(&mut sending);
        sending.answered(40, Time(0));
        send_all(&mut sending);
        assert_eq!((sending.sent, sending.next_read), (40 + WINDOW_CHUNKS, 40 + WINDOW_CHUNKS));
        // An answer that names what was never sent changes nothing.
        sending.answered(1_000, Time(0));
        assert_eq!(sending.acked, 40 + WINDOW_CHUNKS);
    }

    #[test]
    fn what_comes_late_over_an_older_connection_takes_no_answers_with_it() {
        let (from_replica, to_replica) = (ReplicaId(1), ReplicaId(2));
        let (shard, term, meta) = (ShardId(1), Term(1), SnapshotMeta::default());
        let first = Snapshot {
            shard,
            from_replica,
            to_replica,
            term,
            meta,
            digest: 9,
            number: 0,
            chunk: None,
        };
        let mut receiving = Receiving::new(ConnId(4), &first, Time(1));
        assert!(receiving.take_up(ConnId(6), Time(2)), "the sender has begun again");
        assert!(!receiving.take_up(ConnId(5), Time(3)), "what it had sent before that");
        assert!(receiving.expects(ConnId(6), &first));
        receiving.conn = None;
        assert!(receiving.take_up(ConnId(5), Time(4)), "it is the only one left");
    }

    #[test]
    fn chunks_go_at_the_rate_and_in_turns() {
        let mut pace = Pace::default();
        let (bytes, rate) = (64 << 10, 64 << 20);
        let (mut now, mut taken) = (Time(5_000_000), [0_u64; 2]);
        let began = now;
        // Both have more to send whenever they may.
        let mut send_on = |pace: &mut Pace, key, now| {
            while pace.take(key, bytes, rate, now) {
                taken[usize::from(key == OTHER)] += 1;
            }
        };
        send_on(&mut pace, TO, now);
        send_on(&mut pace, OTHER, now);
        for _ in 0..1_000 {
            now = pace.deadline();
            while let Some(key) = pace.next(now) {
                send_on(&mut pace, key, now);
            }
        }
        let micros = now.since(began);
        let at_rate = (taken[0] + taken[1]) * bytes * 1_000_000 / rate;
        // Each of the thousand pauses is rounded to a microsecond.
        let least = at_rate - BURST_MICROS - at_rate / 500;
        assert!(micros >= least, "{micros} µs, {at_rate} at that rate");
        assert!(micros < at_rate * 11 / 10, "{micros} µs, {at_rate} at that rate");
        assert!(taken[0].abs_diff(taken[1]) < 30, "{taken:?}");
    }

    #[test]
    fn only_what_the_log_grew_by_on_disk_since_a_snapshot_counts() {
        let mut on_disk = LogOnDisk::default();
        on_disk.note(100);
        assert_eq!(on_disk.grown(), 100);
        on_disk.begin_anew();
        on_disk.note(140);
        assert_eq!(on_disk.grown(), 40);
        on_disk.note(30);
        on_disk.note(50);
        assert_eq!(on_disk.grown(), 20);
    }
}
