//! Exactly once: what a shard remembers of each origin's stream (P7).
//!
//! An origin numbers its commands, and resends under the same number what it has no answer for.
//! The shard keeps the reply of each number until the origin has acked it, or has begun a new epoch
//! without naming it as unsettled. So a command is executed at most once, however often it comes.
//!
//! | a chunk says | what becomes of its commands |
//! |---|---|
//! | an incarnation below the lowest one allowed | refused |
//! | the present incarnation with another boot nonce | refused |
//! | a higher incarnation | the node's sessions are dropped, then as below |
//! | an older epoch, or a new one without the list of unsettled positions | void |
//! | a new epoch | only records of unsettled positions stay, then as below |
//! | a position that has a record | answered from it |
//! | a position that was acked | void |
//! | any other position | executed and recorded, if the shard owns the slot |
//!
//! Void means: not executed by this attempt, and never will be. Nothing here expires by time.
//!
//! Invariants: `min_incarnation`, and within an incarnation `epoch`, `acked` and `floor`, never go
//! back; every record is above `acked`; `reply_bytes` and `digest` are sums over the records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::entry::{ChunkHead, Origin};
use crate::keyspace::{of_bytes, of_words};

/// Most commands that an origin may have unsettled in one shard.
pub const UNSETTLED_COMMANDS_MAX: usize = 4_096;

/// Most bytes of replies that an origin may have unsettled in one shard; a single command may
/// exceed it alone.
pub const UNSETTLED_REPLY_BYTES_MAX: usize = 64 << 20;

/// A reply up to this length needs no allocation of its own.
const SHORT_MAX: usize = 22;

/// What a shard keeps for one origin at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Number of commands with a record.
    pub commands: usize,
    /// Bytes of their replies.
    pub reply_bytes: usize,
}

/// The sessions of all nodes with one shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    nodes: BTreeMap<u32, NodeSession>,
}

/// What is known of a node's boots, and the streams of its lanes.
#[derive(Clone, Debug)]
pub(crate) struct NodeSession {
    pub(crate) min_incarnation: u64,
    pub(crate) incarnation: u64,
    pub(crate) nonce: u64,
    pub(crate) streams: BTreeMap<u16, Stream>,
}

/// The stream of one origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) epoch: u64,
    pub(crate) acked: u64,
    pub(crate) floor: u64,
    /// By position, ascending: nearly all come at the end and go at the front.
    records: VecDeque<(u64, Record)>,
    reply_bytes: usize,
    digest: u64,
}

/// A command that was executed, and its reply.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) slot: u16,
    pub(crate) reply: Reply,
    digest: u64,
}

/// The bytes of a reply; a clone shares long ones.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Arc<[u8]>),
}

/// What a chunk may do.
#[derive(Debug)]
pub(crate) enum Admission<'a> {
    /// Its commands go on here.
    Stream(&'a mut Stream),
    /// None of its commands is executed.
    Void,
    /// The node must take an incarnation above this one.
    Refused { min_incarnation: u64 },
}

/// What a position may do.
#[derive(Debug)]
pub(crate) enum Position<'a> {
    /// It was executed, with this reply.
    Recorded(&'a [u8]),
    /// It was acked: its attempt is not executed.
    Void,
    /// It was not executed and may be now.
    New,
}

impl Sessions {
    /// Takes note of what a chunk says of its stream, and decides on its commands.
    pub(crate) fn admit(&mut self, head: &ChunkHead) -> Admission<'_> {
        let origin = &head.origin;
        let node = self.nodes.entry(origin.node).or_insert_with(|| NodeSession::new(origin));
        if origin.incarnation < node.min_incarnation
            || (origin.incarnation == node.incarnation && origin.nonce != node.nonce)
        {
            return Admission::Refused { min_incarnation: node.min_incarnation };
        }
        if origin.incarnation > node.incarnation {
            *node = NodeSession::new(origin);
        }
        let stream = node.streams.entry(origin.lane).or_default();
        if stream.follow(head) { Admission::Stream(stream) } else { Admission::Void }
    }

    /// What is kept for an origin; nothing for one that is not the node's present boot.
    pub(crate) fn pending(&self, origin: &Origin) -> Pending {
        let node = self.nodes.get(&origin.node);
        let present = node
            .filter(|node| (node.incarnation, node.nonce) == (origin.incarnation, origin.nonce));
        let stream = present.and_then(|node| node.streams.get(&origin.lane));
        stream.map_or(Pending::default(), |stream| Pending {
            commands: stream.records.len(),
            reply_bytes: stream.reply_bytes,
        })
    }

    /// The lowest incarnation of a node that may still write, if the node is known.
    pub(crate) fn min_incarnation(&self, node: u32) -> Option<u64> {
        self.nodes.get(&node).map(|node| node.min_incarnation)
    }

    /// A word that stands for all of it.
    pub(crate) fn digest(&self) -> u64 {
        self.nodes.iter().fold(0, |sum, (&id, node)| {
            let boots = of_words(node.min_incarnation, node.incarnation, node.nonce);
            let boots = of_words(id.into(), boots, 0);
            let streams = node.streams.iter().fold(boots, |sum, (&lane, stream)| {
                let position = of_words(stream.epoch, stream.acked, stream.floor);
                let words = of_words(boots, of_words(lane.into(), position, 1), stream.digest);
                sum.wrapping_add(words)
            });
            sum.wrapping_add(streams)
        })
    }

    /// The sessions by node id.
    pub(crate) fn nodes(&self) -> &BTreeMap<u32, NodeSession> {
        &self.nodes
    }

    /// Puts a node in, as a snapshot has it; says whether it was not there.
    pub(crate) fn restore_node(&mut self, id: u32, node: NodeSession) -> bool {
        self.nodes.insert(id, node).is_none()
    }

    /// The node that a snapshot is restoring.
    pub(crate) fn node_mut(&mut self, id: u32) -> Option<&mut NodeSession> {
        self.nodes.get_mut(&id)
    }
}

impl NodeSession {
    fn new(origin: &Origin) -> Self {
        Self {
            min_incarnation: origin.incarnation,
            incarnation: origin.incarnation,
            nonce: origin.nonce,
            streams: BTreeMap::new(),
        }
    }
}

impl Stream {
    /// A stream without records.
    pub(crate) fn new(epoch: u64, acked: u64, floor: u64) -> Self {
        Self { epoch, acked, floor, ..Self::default() }
    }

    /// Takes over what a chunk says; says whether its commands belong to the present epoch.
    fn follow(&mut self, head: &ChunkHead) -> bool {
        if head.epoch < self.epoch {
            return false;
        }
        if head.epoch > self.epoch {
            let Some(unsettled) = &head.unsettled else { return false };
            self.epoch = head.epoch;
            self.drop_records(|seq| unsettled.binary_search(&seq).is_err());
        }
        self.acked = self.acked.max(head.acked);
        self.floor = self.floor.max(head.floor);
        while let Some((_, record)) = self.records.pop_front_if(|first| first.0 <= self.acked) {
            self.forget(&record);
        }
        true
    }

    /// What a position may do.
    pub(crate) fn position(&self, seq: u64) -> Position<'_> {
        match self.place(seq) {
            Ok(at) => Position::Recorded(self.records[at].1.reply.bytes()),
            Err(_) if seq <= self.acked => Position::Void,
            Err(_) => Position::New,
        }
    }

    /// Bytes of the replies that are kept.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// Keeps the reply of an executed command. Panics if the position has one or was acked.
    pub(crate) fn record(&mut self, seq: u64, slot: u16, reply: &[u8]) {
        assert!(seq > self.acked, "an acked position is not executed again");
        let digest = of_words(seq, slot.into(), of_bytes(reply));
        let record = Record { slot, reply: Reply::new(reply), digest };
        self.reply_bytes += reply.len();
        self.digest = self.digest.wrapping_add(digest);
        let place = self.place(seq).expect_err("a position is executed once");
        self.records.insert(place, (seq, record));
    }

    /// The records by position.
    pub(crate) fn records(&self) -> &VecDeque<(u64, Record)> {
        &self.records
    }

    /// Whether a position has a record.
    pub(crate) fn has_record(&self, seq: u64) -> bool {
        self.place(seq).is_ok()
    }

    /// Where the record of a position stands, or else would.
    fn place(&self, seq: u64) -> Result<usize, usize> {
        match self.records.back() {
            Some((last, _)) if *last >= seq => self.records.binary_search_by_key(&seq, |r| r.0),
            _ => Err(self.records.len()),
        }
    }

    fn drop_records(&mut self, dropped: impl Fn(u64) -> bool) {
        let mut records = std::mem::take(&mut self.records);
        records.retain(|(seq, record)| {
            let goes = dropped(*seq);
            if goes {
                self.forget(record);
            }
            !goes
        });
        self.records = records;
    }

    fn forget(&mut self, record: &Record) {
        self.reply_bytes -= record.reply.bytes().len();
        self.digest = self.digest.wrapping_sub(record.digest);
    }
}

impl Reply {
    fn new(reply: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..reply.len()) {
            Some(short) => {
                short.copy_from_slice(reply);
                Self::Short { len: reply.len() as u8, bytes }
            }
            None => Self::Long(reply.into()),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(incarnation: u64, nonce: u64, epoch: u64, acked: u64) -> ChunkHead {
        let origin = Origin { node: 1, incarnation, nonce, lane: 0 };
        ChunkHead { origin, epoch, acked, floor: acked + 1, unsettled: None }
    }

    fn first(incarnation: u64, epoch: u64, unsettled: &[u64]) -> ChunkHead {
        let head = head(incarnation, 7, epoch, 0);
        ChunkHead { unsettled: Some(unsettled.to_vec()), ..head }
    }

    fn stream<'a>(sessions: &'a mut Sessions, head: &ChunkHead) -> &'a mut Stream {
        match sessions.admit(head) {
            Admission::Stream(stream) => stream,
            other => panic!("not admitted: {other:?}"),
        }
    }

    #[test]
    fn a_recorded_position_answers_until_it_is_acked() {
        let mut sessions = Sessions::default();
        stream(&mut sessions, &first(1, 1, &[])).record(4, 9, b"+OK\r\n");
        let again = stream(&mut sessions, &head(1, 7, 1, 0));
        assert!(matches!(again.position(4), Position::Recorded(b"+OK\r\n")));
        assert!(matches!(again.position(5), Position::New));
        let acked = stream(&mut sessions, &head(1, 7, 1, 4));
        assert!(matches!(acked.position(4), Position::Void));
        assert_eq!(sessions.pending(&head(1, 7, 1, 4).origin), Pending::default());
    }

    #[test]
    fn a_new_epoch_keeps_what_it_names_and_voids_the_old_one() {
        let mut sessions = Sessions::default();
        let before = stream(&mut sessions, &first(1, 1, &[]));
        for seq in 1..=3 {
            before.record(seq, 0, &[b'x'; 40]);
        }
        assert!(matches!(sessions.admit(&head(1, 7, 2, 0)), Admission::Void), "no list yet");
        let after = stream(&mut sessions, &first(1, 2, &[2, 5]));
        assert!(matches!(after.position(2), Position::Recorded(_)));
        assert!(matches!(after.position(3), Position::New), "its attempts are void by their epoch");
        assert_eq!(sessions.pending(&head(1, 7, 2, 0).origin).reply_bytes, 40);
        assert!(matches!(sessions.admit(&head(1, 7, 1, 0)), Admission::Void));
    }

    #[test]
    fn an_older_boot_and_a_second_one_of_the_same_number_are_refused() {
        let mut sessions = Sessions::default();
        stream(&mut sessions, &first(5, 1, &[])).record(1, 0, b":1\r\n");
        for (incarnation, nonce) in [(4, 7), (5, 8)] {
            let refused = sessions.admit(&head(incarnation, nonce, 9, 0));
            assert!(matches!(refused, Admission::Refused { min_incarnation: 5 }));
        }
        let reborn = stream(&mut sessions, &first(6, 1, &[]));
        assert!(matches!(reborn.position(1), Position::New), "another boot, another numbering");
        assert_eq!(sessions.min_incarnation(1), Some(6));
    }

    #[test]
    fn the_digest_depends_on_the_records_alone() {
        let (mut a, mut b) = (Sessions::default(), Sessions::default());
        let long = [b'y'; 100];
        let twin = stream(&mut a, &first(1, 1, &[]));
        twin.record(1, 0, b"+OK\r\n");
        twin.record(2, 0, &long);
        stream(&mut a, &head(1, 7, 1, 1));
        let head = ChunkHead { acked: 1, floor: 2, ..first(1, 1, &[]) };
        stream(&mut b, &head).record(2, 0, &long);
        assert_eq!(a.digest(), b.digest());
        stream(&mut b, &head).record(3, 0, b"");
        assert_ne!(a.digest(), b.digest());
    }
}
