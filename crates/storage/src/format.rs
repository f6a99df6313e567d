//! The bytes on disk: numbers, checksums, segment headers, frame headers, snapshots' identities.
//!
//! All numbers are little-endian; checksums are CRC-32C (Castagnoli). The byte tables of
//! everything are in `docs/internals/storage-format.md`.

use flotilla_raft::{Configuration, EntryKind, HardState, Index, ReplicaId, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::snapshot::{Base, SnapshotFile};

/// Frames and segment headers start at multiples of this many bytes.
pub const BLOCK: usize = 4096;

/// The version this code reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 3;
/// Bytes in front of the first frame of a segment.
pub(crate) const SEGMENT_HEAD: u64 = 2 * BLOCK as u64;
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 88;
/// Bytes of an entry in a body without its payload.
pub(crate) const ENTRY_HEAD: usize = 4;
/// Flag of a frame that is a segment's checkpoint.
pub(crate) const FLAG_CHECKPOINT: u32 = 1;
/// Flag of a frame behind one whose table nobody can read: no table of it is repeated.
pub(crate) const FLAG_PREVIOUS_UNKNOWN: u32 = 2;

const SEGMENT_MAGIC: [u8; 8] = *b"FLOTSEG\0";
/// What the checksum of a segment header covers in every version, bytes.
const SEGMENT_FIELDS: usize = 128;
/// What it covered in version 1.
const SEGMENT_FIELDS_1: usize = 72;
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
    /// Which log it is of: all segments of a lane name the same.
    pub(crate) log: u64,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) first_sequence: u64,
    /// The segment before in the log; 0 if there is none.
    pub(crate) previous: u64,
    pub(crate) previous_first: u64,
    pub(crate) previous_nonce: u64,
    /// The last sequence that counts before this segment.
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
            self.log,
            self.number,
            self.bytes,
            self.first_sequence,
            self.previous,
            self.previous_first,
            self.previous_nonce,
            self.continues,
        ] {
            block.put_u64(field);
        }
        block.resize(BLOCK, 0);
        let crc = checksum(&block[..SEGMENT_FIELDS]);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
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
        if checksum(&fields) != crc && checksum(&fields[..SEGMENT_FIELDS_1]) != crc {
            return None;
        }
        if version != FORMAT_VERSION {
            return Some(HeaderBlock::Version(version));
        }
        Some(HeaderBlock::Valid(Self {
            nonce: take.u64()?,
            log: take.u64()?,
            number: take.u64()?,
            bytes: take.u64()?,
            first_sequence: take.u64()?,
            previous: take.u64()?,
            previous_first: take.u64()?,
            previous_nonce: take.u64()?,
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
    16 + 12
        + 8 * replicas
        + 16
        + 1
        + file.map_or(0, |file| 20 + file.name.len() + Base::BYTES * file.bases.len())
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
        out.put_u16(u16::try_from(file.bases.len()).expect("a snapshot has few bases"));
        for base in &file.bases {
            base.put(out);
        }
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
    let count = take.u16()?;
    let bases = (0..count).map(|_| Base::take(take)).collect::<Option<Vec<_>>>()?;
    let file = SnapshotFile { shard, meta: meta.clone(), name, bytes, digest, bases };
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
    let index = take_index(take)?;
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

/// An index that has a next one: no log is so long that its last entry has not.
pub(crate) fn take_index(take: &mut Take<'_>) -> Option<Index> {
    take.u64().filter(|&index| index < u64::MAX).map(Index)
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
