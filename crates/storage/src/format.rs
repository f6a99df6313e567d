//! The bytes of segments and frames. All numbers are little endian; checksums are CRC-32C.
//!
//! A **segment** is a file of fixed size:
//!
//! | offset | content |
//! |---|---|
//! | 0 | segment header |
//! | 4096 | the same header again |
//! | 8192 | frames, each a multiple of 4096 bytes; the first is the checkpoint |
//!
//! **Segment header** (its block is padded with zeros). A file whose header blocks are zero is
//! blank. Magic, version and checksum keep their places in all versions.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `FLOTSEG\0` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | checksum of bytes 0..72, with this field as 0 |
//! | 16 | 8 | nonce: random, secret, new each time the file is used |
//! | 24 | 8 | number of the segment, from 1, rising |
//! | 32 | 8 | size of the file in bytes |
//! | 40 | 8 | sequence of the first frame, the checkpoint |
//! | 48 | 8 | number of the segment before in the log, 0 if there is none |
//! | 56 | 8 | sequence of that segment's first frame |
//! | 64 | 8 | sequence of the last frame kept before this segment: all above it there is void |
//!
//! **Frame**: header, table, the table of the frame before, body, zeros up to a block boundary.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `FRME` |
//! | 4 | 4 | checksum of bytes 8..88 |
//! | 8 | 8 | nonce of the segment |
//! | 16 | 8 | number of the segment |
//! | 24 | 8 | offset of this frame in the file |
//! | 32 | 8 | sequence |
//! | 40 | 8 | durable through: every frame up to this sequence was durable when this one was built |
//! | 48 | 8 | floor: no segment below this number is needed any more |
//! | 56 | 8 | body length |
//! | 64 | 4 | table length |
//! | 68 | 4 | length of the repeated table |
//! | 72 | 4 | checksum of both tables |
//! | 76 | 4 | checksum of the body |
//! | 80 | 4 | flags: 1 checkpoint, 2 has a node record |
//! | 84 | 4 | zero |
//!
//! **Table**: for each write, in order, one head and its items. The last head of a shard is its
//! term and vote after the frame: the record `State` of a turn is here and nowhere else, so it is
//! twice on disk as soon as a next frame is.
//!
//! | size | field of a head | | size | field of an item |
//! |---|---|---|---|---|
//! | 4 | shard | | 1 | kind: 1 entries, 2 more entries (of another term), 3 reset, 4 carry, 5 removed, 6 checkpoint |
//! | 4 | number of items | | 8 | term of these entries; of the snapshot |
//! | 1 | 1 if there is a vote | | 8 | first index; index of the snapshot |
//! | 8 | term | | 8 | last index (checkpoint: of the log) |
//! | 8 | vote | | | |
//!
//! **Body**: records, each with a head of kind (1), shard (4) and length of the rest (8).
//!
//! | kind | record | rest |
//! |---|---|---|
//! | 1 | `Node` | the node's own state, opaque; the latest wins |
//! | 2 | `Entries` | first index (8), term of the entry before (8), count (4), entries; replaces everything from the first index on |
//! | 3 | `Reset` | 1 if later entries stay (1), snapshot |
//! | 4 | `Carry` | as `Entries`; the entries are in the log already and stand here now, nothing else changes |
//! | 5 | `Removed` | nothing: the shard has left this node |
//! | 6 | `Checkpoint` | count (4), then per shard: shard (4), vote given (1), term (8), vote (8), last index (8), last term (8), snapshot |
//!
//! An entry is term (8), kind (1: 0 empty, 1 normal, 2 configuration), length (4), payload. A
//! snapshot is index (8), term (8), configuration (three lists of replica ids: voters, outgoing,
//! learners, each count (4) and ids (8); highest retired id (8), lease in µs (8)), 1 if there is a
//! file (1), and then digest (8), file size (8), name length (2), name.

use flotilla_raft::{Configuration, EntryKind, HardState, Index, ReplicaId, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::snapshot::SnapshotFile;

/// Frames and segment headers start at multiples of this many bytes.
pub const BLOCK: usize = 4096;

/// The version this code reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes in front of the first frame of a segment.
pub(crate) const SEGMENT_HEAD: u64 = 2 * BLOCK as u64;
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 88;
/// Bytes of a record's head.
pub(crate) const RECORD_HEAD: usize = 13;
/// Bytes of a shard's head in a table.
pub(crate) const TABLE_HEAD: usize = 25;
/// Bytes of an item in a table.
pub(crate) const TABLE_ITEM: usize = 25;
/// Bytes of an entry without its payload.
pub(crate) const ENTRY_HEAD: usize = 13;
/// Bytes of an `Entries` or `Carry` record without its head and entries.
pub(crate) const ENTRIES_HEAD: usize = 20;
/// Flag of a frame that is a segment's checkpoint.
pub(crate) const FLAG_CHECKPOINT: u32 = 1;
/// Flag of a frame that has a node record.
pub(crate) const FLAG_NODE: u32 = 2;

const SEGMENT_MAGIC: [u8; 8] = *b"FLOTSEG\0";
const SEGMENT_FIELDS: usize = 72;
const FRAME_MAGIC: [u8; 4] = *b"FRME";

/// CRC-32C.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// `length` rounded up to a whole number of blocks.
pub(crate) fn whole_blocks(length: usize) -> usize {
    length.div_ceil(BLOCK) * BLOCK
}

/// Something bytes can be appended to.
pub(crate) trait Put {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends two bytes.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    /// Appends four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads numbers off the front of bytes from outside; `None` when they end too early.
#[derive(Clone)]
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The head of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) nonce: u64,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) first_sequence: u64,
    pub(crate) previous: u64,
    pub(crate) previous_first: u64,
    pub(crate) continues: u64,
}

/// What one header block of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderBlock {
    /// Nothing was ever written here.
    Blank,
    /// A header.
    Valid(SegmentHeader),
    /// A header of a format this code does not know.
    Version(u32),
    /// Neither.
    Unreadable,
}

impl SegmentHeader {
    /// Appends both copies, each in its block.
    pub(crate) fn encode(&self, out: &mut impl Put) {
        let mut block = Vec::with_capacity(BLOCK);
        block.put(&SEGMENT_MAGIC);
        block.put_u32(FORMAT_VERSION);
        block.put_u32(0);
        for field in [
            self.nonce,
            self.number,
            self.bytes,
            self.first_sequence,
            self.previous,
            self.previous_first,
            self.continues,
        ] {
            block.put_u64(field);
        }
        let crc = checksum(&block[..SEGMENT_FIELDS]);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block.resize(BLOCK, 0);
        out.put(&block);
        out.put(&block);
    }

    /// Reads one copy.
    pub(crate) fn decode(block: &[u8]) -> HeaderBlock {
        if !block.is_empty() && block.iter().all(|&byte| byte == 0) {
            return HeaderBlock::Blank;
        }
        Self::decode_fields(block).unwrap_or(HeaderBlock::Unreadable)
    }

    fn decode_fields(block: &[u8]) -> Option<HeaderBlock> {
        let mut fields: [u8; SEGMENT_FIELDS] = block.get(..SEGMENT_FIELDS)?.try_into().ok()?;
        let mut take = Take(block);
        if take.bytes(8)? != SEGMENT_MAGIC {
            return None;
        }
        let version = take.u32()?;
        let crc = take.u32()?;
        fields[12..16].fill(0);
        if checksum(&fields) != crc {
            return None;
        }
        if version != FORMAT_VERSION {
            return Some(HeaderBlock::Version(version));
        }
        Some(HeaderBlock::Valid(Self {
            nonce: take.u64()?,
            number: take.u64()?,
            bytes: take.u64()?,
            first_sequence: take.u64()?,
            previous: take.u64()?,
            previous_first: take.u64()?,
            continues: take.u64()?,
        }))
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) nonce: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    pub(crate) durable_through: u64,
    pub(crate) floor: u64,
    pub(crate) body_length: u64,
    pub(crate) table_length: u32,
    pub(crate) previous_length: u32,
    pub(crate) tables_crc: u32,
    pub(crate) body_crc: u32,
    pub(crate) flags: u32,
}

impl FrameHeader {
    /// The bytes on disk.
    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER] {
        let mut out = Vec::with_capacity(FRAME_HEADER);
        out.put(&FRAME_MAGIC);
        out.put_u32(0);
        for field in [
            self.nonce,
            self.segment,
            self.offset,
            self.sequence,
            self.durable_through,
            self.floor,
            self.body_length,
        ] {
            out.put_u64(field);
        }
        for field in
            [self.table_length, self.previous_length, self.tables_crc, self.body_crc, self.flags, 0]
        {
            out.put_u32(field);
        }
        let crc = checksum(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.try_into().expect("the fields above are 88 bytes")
    }

    /// Reads a header; `None` if there is no sound one.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let bytes = block.get(..FRAME_HEADER)?;
        let mut take = Take(bytes);
        if take.bytes(4)? != FRAME_MAGIC || take.u32()? != checksum(&bytes[8..]) {
            return None;
        }
        Some(Self {
            nonce: take.u64()?,
            segment: take.u64()?,
            offset: take.u64()?,
            sequence: take.u64()?,
            durable_through: take.u64()?,
            floor: take.u64()?,
            body_length: take.u64()?,
            table_length: take.u32()?,
            previous_length: take.u32()?,
            tables_crc: take.u32()?,
            body_crc: take.u32()?,
            flags: take.u32()?,
        })
    }
}

/// Puts term and vote: vote given (1), term (8), vote (8).
pub(crate) fn put_hard_state(out: &mut impl Put, hard_state: &HardState) {
    out.put_u8(u8::from(hard_state.voted_for.is_some()));
    out.put_u64(hard_state.term.0);
    out.put_u64(hard_state.voted_for.map_or(0, |replica| replica.0));
}

/// Reads what [`put_hard_state`] put.
pub(crate) fn take_hard_state(take: &mut Take<'_>) -> Option<HardState> {
    let voted = take.u8()?;
    let term = Term(take.u64()?);
    let vote = ReplicaId(take.u64()?);
    Some(HardState { term, voted_for: (voted == 1).then_some(vote) })
}

/// Length of what [`put_snapshot`] puts.
pub(crate) fn snapshot_length(meta: &SnapshotMeta, file: Option<&SnapshotFile>) -> usize {
    let members = &meta.configuration;
    let replicas = members.voters.len() + members.outgoing.len() + members.learners.len();
    16 + 12 + 8 * replicas + 16 + 1 + file.map_or(0, |file| 18 + file.name.len())
}

/// Puts what a snapshot stands for and which file it is in.
pub(crate) fn put_snapshot(out: &mut impl Put, meta: &SnapshotMeta, file: Option<&SnapshotFile>) {
    put_meta(out, meta);
    out.put_u8(u8::from(file.is_some()));
    if let Some(file) = file {
        out.put_u64(file.digest);
        out.put_u64(file.bytes);
        out.put_u16(u16::try_from(file.name.len()).expect("snapshot names are short"));
        out.put(file.name.as_bytes());
    }
}

/// Reads what [`put_snapshot`] put.
pub(crate) fn take_snapshot(
    take: &mut Take<'_>,
    shard: ShardId,
) -> Option<(SnapshotMeta, Option<SnapshotFile>)> {
    let meta = take_meta(take)?;
    if take.u8()? == 0 {
        return Some((meta, None));
    }
    let digest = take.u64()?;
    let bytes = take.u64()?;
    let length = take.u16()?;
    let name = String::from_utf8(take.bytes(usize::from(length))?.to_vec()).ok()?;
    let file = SnapshotFile { shard, meta: meta.clone(), name, bytes, digest };
    Some((meta, Some(file)))
}

/// Puts index, term and configuration.
pub(crate) fn put_meta(out: &mut impl Put, meta: &SnapshotMeta) {
    out.put_u64(meta.index.0);
    out.put_u64(meta.term.0);
    let members = &meta.configuration;
    for list in [&members.voters, &members.outgoing, &members.learners] {
        out.put_u32(u32::try_from(list.len()).expect("a configuration is small"));
        for replica in list {
            out.put_u64(replica.0);
        }
    }
    out.put_u64(members.retired.0);
    out.put_u64(members.lease);
}

/// Reads what [`put_meta`] put.
pub(crate) fn take_meta(take: &mut Take<'_>) -> Option<SnapshotMeta> {
    let index = Index(take.u64()?);
    let term = Term(take.u64()?);
    let mut list = || {
        let count = take.u32()? as usize;
        let mut ids = Take(take.bytes(count.checked_mul(8)?)?);
        (0..count).map(|_| ids.u64().map(ReplicaId)).collect::<Option<Vec<_>>>()
    };
    let (voters, outgoing, learners) = (list()?, list()?, list()?);
    let (retired, lease) = (ReplicaId(take.u64()?), take.u64()?);
    let configuration = Configuration { voters, outgoing, learners, retired, lease };
    Some(SnapshotMeta { index, term, configuration })
}

/// The byte for an entry's kind.
pub(crate) fn entry_kind_byte(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Empty => 0,
        EntryKind::Normal => 1,
        EntryKind::Configuration => 2,
    }
}

/// The kind for a byte.
pub(crate) fn entry_kind(byte: u8) -> Option<EntryKind> {
    match byte {
        0 => Some(EntryKind::Empty),
        1 => Some(EntryKind::Normal),
        2 => Some(EntryKind::Configuration),
        _ => None,
    }
}
