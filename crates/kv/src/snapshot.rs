//! A machine as bytes and back, while it goes on (P11).
//!
//! [`Machine::start_snapshot`] fixes the state at the applied index. [`Machine::walk_snapshot`],
//! called once a turn, writes a bounded part of it; what is applied in between does not show.
//! [`Restorer`] builds a machine from the whole, and [`Audit`] reads it through without one. The
//! bytes depend on the state alone: replicas at the same index write the same, however their tables
//! came about.
//!
//! A snapshot is a sequence of pieces, in this order, and each call writes whole pieces. All
//! integers are little-endian.
//!
//! | kind | bytes after the kind | piece |
//! |---|---|---|
//! | 1 | 1 + 8 + 8 + 8 | head: format, hash seed, applied index, clock in Unix milliseconds |
//! | 2 | 2 + 2 | slots owned: first, last |
//! | 3 | 2 + 4 | slot, its generation if not 0 |
//! | 4 | 8 + 8 | checkpoint: index, state hash |
//! | 5 | 4 + 8 + 8 + 8 | node: id, lowest incarnation allowed, incarnation, boot nonce |
//! | 6 | 2 + 8 + 8 + 8 | stream of that node: lane, epoch, acked, floor |
//! | 7 | 8 + 2 + 4 | record of that stream: position, slot, length of the reply; bodies follow |
//! | 8 | 2 + 8 + 4 + 4 | key: slot, expiry or 0, length of key, of value; bodies follow |
//! | 9 | 4 + … | body: length, next bytes of a reply or of key and value |
//! | 10 | 8 + 8 | end: number of keys, hash of all of it |
//!
//! The hash in the end piece is computed anew from what was restored: a snapshot that was not
//! written or carried faithfully is refused.
//!
//! # Parts
//!
//! The pieces are written in [`Part`]s. Those with keys cover neighbouring slots, and a part ends
//! where a slot does, as soon as it has [`PART_MIN`] bytes or the next slots are left out; only
//! slots that are larger than [`PART_MAX`] are in several. So a later snapshot may take a part of
//! an earlier one for its own, if none of its slots has changed ([`Machine::unchanged_since`]);
//! [`Machine::leave_out`] then spares the walk. What is restored must have the parts with keys in
//! the order of their slots.

mod audit;
mod pieces;
mod restore;

pub use audit::{Audit, Audited, KeySums};
pub use pieces::SnapshotKey;
pub use restore::Restorer;

use std::collections::VecDeque;

use flotilla_shard::Slot;
use smallvec::SmallVec;

use crate::keyspace::{Old, of_words};
use crate::machine::Machine;
use crate::scope::SlotSet;
use crate::session::Reply;

/// The least that one call of [`Machine::walk_snapshot`] may be allowed to write, in bytes.
pub const BUDGET_MIN: usize = 256;

/// A part of keys ends with the first slot that brings it to so many bytes, unless others are asked
/// for.
pub const PART_MIN: usize = 32 << 10;

/// A part that has so many bytes ends, be it within a slot.
pub const PART_MAX: usize = 256 << 10;

const FORMAT: u8 = 1;

const HEAD: u8 = 1;
const OWNED: u8 = 2;
const GENERATION: u8 = 3;
const CHECKPOINT: u8 = 4;
const NODE: u8 = 5;
const STREAM: u8 = 6;
const RECORD: u8 = 7;
const KEY: u8 = 8;
const BODY: u8 = 9;
const END: u8 = 10;

/// Kind and length of a body piece.
const BODY_HEADER: usize = 5;

/// Shortest body piece that is worth its header, unless no more is left.
const BODY_MIN: usize = 64;

/// A snapshot being written.
#[derive(Debug)]
pub(crate) struct Walk {
    /// What comes before the keys, captured whole at the start.
    captured: VecDeque<Captured>,
    /// How much of the first captured body is written.
    written: usize,
    keys_done: bool,
    end: Piece,
    left_out: SlotSet,
    part: OpenPart,
}

/// A part that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first and the last slot of which it has keys; `None` if it has no keys.
    pub slots: Option<(Slot, Slot)>,
}

/// What a call of [`Machine::walk_snapshot`] has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// All that was written since the last part ended is one; the next call begins another.
    pub part: Option<Part>,
    /// The snapshot is complete.
    pub complete: bool,
}

/// The part that is being written.
#[derive(Clone, Copy, Debug, Default)]
struct OpenPart {
    min: usize,
    bytes: usize,
    slots: Option<(Slot, Slot)>,
    /// The slot that the part before ended with.
    before: Option<Slot>,
    /// It goes on with a slot of the part before.
    within: bool,
}

/// A piece but for the two that carry data; none is longer than this holds in place, so that
/// capturing thousands of records allocates nothing for each.
type Piece = SmallVec<[u8; 32]>;

/// A piece captured at the start, with the reply that follows it.
#[derive(Debug)]
struct Captured {
    piece: Piece,
    reply: Option<Reply>,
}

impl Machine {
    /// Fixes the present state to be written, and gives its applied index.
    ///
    /// # Panics
    /// If a snapshot is being written.
    pub fn start_snapshot(&mut self) -> u64 {
        self.start_snapshot_in_parts(PART_MIN)
    }

    /// The same, in parts that end with the first slot that brings them to `part_min` bytes.
    ///
    /// # Panics
    /// If a snapshot is being written.
    pub fn start_snapshot_in_parts(&mut self, part_min: usize) -> u64 {
        assert!(self.walk.is_none(), "one snapshot is written at a time");
        self.keyspace.begin_cut();
        let keys = self.keyspace.len();
        let end = [keys, self.snapshot_hash(self.keyspace.digest(), keys)];
        let end = piece(END, &[&end[0].to_le_bytes(), &end[1].to_le_bytes()]);
        let captured = self.capture();
        let (left_out, part) = (SlotSet::new(), OpenPart { min: part_min, ..OpenPart::default() });
        self.walk = Some(Walk { captured, written: 0, keys_done: false, end, left_out, part });
        self.applied_index
    }

    /// The slots whose keys are the same at every index from `index` to the applied one.
    pub fn unchanged_since(&self, index: u64) -> SlotSet {
        self.keyspace.unchanged_since(index)
    }

    /// Leaves the keys of these slots out of the snapshot that was just started: there are parts
    /// with them already.
    ///
    /// # Panics
    /// If no snapshot was started, or if keys were walked.
    pub fn leave_out(&mut self, slots: &SlotSet) {
        let walk = self.walk.as_mut().expect("a snapshot was started");
        walk.left_out = slots.clone();
        self.keyspace.leave_out_of_cut(slots);
    }

    /// Adds the next whole pieces of the snapshot to `out`, at most `budget_bytes` of them and for
    /// a bounded time, until a part is whole. A call may write nothing and yet get on.
    ///
    /// # Panics
    /// If no snapshot was started, or if the budget is below [`BUDGET_MIN`].
    pub fn walk_snapshot(&mut self, budget_bytes: usize, out: &mut Vec<u8>) -> Walked {
        assert!(budget_bytes >= BUDGET_MIN, "a budget holds at least a piece");
        let walk = self.walk.as_mut().expect("a snapshot was started");
        let start = out.len();
        let mut pieces = Pieces { limit: start + budget_bytes, out };
        let (mut ends, mut complete) = (false, false);
        if !walk.captured.is_empty() {
            ends = walk.write_captured(&mut pieces);
        } else if !walk.keys_done {
            let (part, left_out, ends) = (&mut walk.part, &walk.left_out, &mut ends);
            walk.keys_done = self.keyspace.walk_cut(&mut |old, written| {
                let so_far = part.bytes + pieces.out.len() - start;
                *ends = part.ends_before(old.slot, written.is_some(), so_far, left_out);
                if *ends { written } else { part.key(&mut pieces, old, written) }
            });
            *ends |= walk.keys_done;
        } else {
            complete = pieces.whole(&walk.end);
            ends = complete;
        }
        walk.part.bytes += out.len() - start;
        let part = walk.part.take_if(ends);
        if complete {
            self.cancel_snapshot();
        }
        Walked { part, complete }
    }

    /// Gives a snapshot up, if one is being written.
    pub fn cancel_snapshot(&mut self) {
        self.keyspace.end_cut();
        self.walk = None;
    }

    /// Whether a snapshot is being written.
    pub fn is_writing_snapshot(&self) -> bool {
        self.walk.is_some()
    }

    /// A word that stands for all that a snapshot carries, with these keys: digest and number.
    fn snapshot_hash(&self, keys_digest: u64, keys: u64) -> u64 {
        let state = self.state_hash_with(keys_digest, keys);
        let start = of_words(state, self.applied_index, 0);
        self.checkpoints.iter().fold(start, |sum, &(index, hash)| of_words(sum, index, hash))
    }

    /// All that comes before the keys.
    fn capture(&self) -> VecDeque<Captured> {
        let mut captured = VecDeque::new();
        let mut add = |kind, fields: &[&[u8]], reply: Option<&Reply>| {
            captured.push_back(Captured { piece: piece(kind, fields), reply: reply.cloned() });
        };
        let head = [self.keyspace.hash_seed(), self.applied_index, self.clock_ms];
        let [seed, index, clock] = head.map(u64::to_le_bytes);
        add(HEAD, &[&[FORMAT], &seed, &index, &clock], None);
        for (first, last) in self.ownership.owned.ranges() {
            add(OWNED, &[&first.0.to_le_bytes(), &last.0.to_le_bytes()], None);
        }
        for (slot, generation) in &self.ownership.generations {
            add(GENERATION, &[&slot.to_le_bytes(), &generation.to_le_bytes()], None);
        }
        for (index, hash) in &self.checkpoints {
            add(CHECKPOINT, &[&index.to_le_bytes(), &hash.to_le_bytes()], None);
        }
        for (id, node) in self.sessions.nodes() {
            let boots = [node.min_incarnation, node.incarnation, node.nonce];
            let [lowest, incarnation, nonce] = boots.map(u64::to_le_bytes);
            add(NODE, &[&id.to_le_bytes(), &lowest, &incarnation, &nonce], None);
            for (lane, stream) in &node.streams {
                let positions = [stream.epoch, stream.acked, stream.floor];
                let [epoch, acked, floor] = positions.map(u64::to_le_bytes);
                add(STREAM, &[&lane.to_le_bytes(), &epoch, &acked, &floor], None);
                for (seq, record) in stream.records() {
                    let (slot, len) = (record.slot, length(record.reply.bytes().len()));
                    let fields: [&[u8]; 3] =
                        [&seq.to_le_bytes(), &slot.to_le_bytes(), &len.to_le_bytes()];
                    add(RECORD, &fields, Some(&record.reply));
                }
            }
        }
        captured
    }
}

impl Walk {
    /// Writes what was captured at the start; says whether the part ends.
    fn write_captured(&mut self, pieces: &mut Pieces<'_>) -> bool {
        let start = pieces.out.len();
        while let Some(first) = self.captured.front_mut() {
            if self.part.bytes + pieces.out.len() - start >= PART_MAX {
                return true;
            }
            if !first.piece.is_empty() {
                if !pieces.whole(&first.piece) {
                    return false;
                }
                first.piece.clear();
            }
            if let Some(reply) = &first.reply {
                self.written = pieces.body(reply.bytes(), self.written);
                if self.written < reply.bytes().len() {
                    return false;
                }
            }
            self.written = 0;
            self.captured.pop_front();
        }
        true
    }
}

impl OpenPart {
    /// Whether it ends before more is written of a key in `slot`, of which some `is_begun`.
    fn ends_before(&self, slot: Slot, is_begun: bool, bytes: usize, left_out: &SlotSet) -> bool {
        let Some((_, last)) = self.slots else { return false };
        let ends_slot = !is_begun && last != slot;
        let passes_by = || left_out.next_present(last.0) < slot.0;
        bytes >= PART_MAX || (ends_slot && (bytes >= self.min || self.within || passes_by()))
    }

    /// Writes what fits of a key.
    fn key(
        &mut self,
        pieces: &mut Pieces<'_>,
        old: &Old<'_>,
        written: Option<usize>,
    ) -> Option<usize> {
        let now_written = pieces.key(old, written);
        if now_written != written {
            let first = self.slots.map_or(old.slot, |(first, _)| first);
            self.within |= self.slots.is_none() && self.before == Some(old.slot);
            self.slots = Some((first, old.slot));
        }
        now_written
    }

    /// The part, if it ends and there is something in it.
    fn take_if(&mut self, ends: bool) -> Option<Part> {
        if !ends || self.bytes == 0 {
            return None;
        }
        let slots = self.slots;
        let before = slots.map(|(_, last)| last);
        *self = Self { min: self.min, before, ..Self::default() };
        Some(Part { slots })
    }
}

/// Adds whole pieces to `out`, up to a limit.
struct Pieces<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

impl Pieces<'_> {
    /// Writes a piece if it fits; says whether it did.
    fn whole(&mut self, piece: &[u8]) -> bool {
        let fits = self.room() >= piece.len();
        if fits {
            self.out.extend_from_slice(piece);
        }
        fits
    }

    /// Writes as much of `body` behind its first `written` bytes as fits, and gives how much of it
    /// is written then.
    fn body(&mut self, body: &[u8], written: usize) -> usize {
        let rest = &body[written..];
        let taken = rest.len().min(self.room().saturating_sub(BODY_HEADER));
        if taken < rest.len().min(BODY_MIN) || rest.is_empty() {
            return written;
        }
        self.out.push(BODY);
        self.out.extend_from_slice(&length(taken).to_le_bytes());
        self.out.extend_from_slice(&rest[..taken]);
        written + taken
    }

    /// Writes a key of which `written` bytes are written, or none of it, not even the piece that
    /// announces it. Gives how much is written then.
    fn key(&mut self, old: &Old<'_>, written: Option<usize>) -> Option<usize> {
        if let Some(written) = written {
            return Some(self.body(old.body, written));
        }
        let mut header = [0; 19];
        header[0] = KEY;
        header[1..3].copy_from_slice(&old.slot.0.to_le_bytes());
        header[3..11].copy_from_slice(&old.expires_at_ms.unwrap_or(0).to_le_bytes());
        header[11..15].copy_from_slice(&length(old.key_len).to_le_bytes());
        header[15..].copy_from_slice(&length(old.body.len() - old.key_len).to_le_bytes());
        self.whole(&header).then(|| self.body(old.body, 0))
    }

    fn room(&self) -> usize {
        self.limit - self.out.len()
    }
}

fn piece(kind: u8, fields: &[&[u8]]) -> Piece {
    let mut bytes = Piece::from_slice(&[kind]);
    for field in fields {
        bytes.extend_from_slice(field);
    }
    bytes
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("keys, values and replies are limited far below 4 GiB (P15)")
}
