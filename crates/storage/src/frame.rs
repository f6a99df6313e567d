//! One frame: encoded in one pass, and read back.
//!
//! A frame is measured first ([`Measure`]), so that its place is known and its buffer never moves;
//! then table and body are filled side by side, and the header comes last. Payloads are copied
//! once.

use std::sync::Arc;

use flotilla_raft::{Entry, HardState, Payload, Term};
use flotilla_shard::ShardId;

use crate::buffer::AlignedBuffer;
use crate::format::{FLAG_PREVIOUS_UNKNOWN, FRAME_HEADER, FrameHeader, Put, Take};
use crate::format::{checksum, whole_blocks};
use crate::snapshot::SnapshotFile;
use crate::table;
use crate::table::{Identities, Measure, ShardCheckpoint};

impl Measure {
    /// Length of the frame on disk, behind a frame whose table is `previous` bytes long.
    pub(crate) fn frame_length(&self, previous: usize) -> usize {
        whole_blocks(FRAME_HEADER + self.table + previous + self.body)
    }
}

/// Fills one frame at the end of a buffer.
pub(crate) struct FrameEncoder<'a> {
    buffer: &'a mut AlignedBuffer,
    start: usize,
    table: Vec<u8>,
    measure: Measure,
    previous: &'a [u8],
}

impl<'a> FrameEncoder<'a> {
    /// Begins a frame of that measure; `table` is empty memory for its table.
    pub(crate) fn begin(
        buffer: &'a mut AlignedBuffer,
        measure: Measure,
        previous: &'a [u8],
        mut table: Vec<u8>,
    ) -> Self {
        table.clear();
        let start = buffer.len();
        buffer.pad_to(start + FRAME_HEADER + measure.table + previous.len());
        Self { buffer, start, table, measure, previous }
    }

    pub(crate) fn node(&mut self, state: &[u8]) {
        table::put_node(&mut self.table, state);
    }

    pub(crate) fn incomplete(&mut self) {
        table::put_incomplete(&mut self.table);
    }

    /// Begins a shard's part.
    pub(crate) fn state(&mut self, shard: ShardId, hard_state: &HardState) {
        table::put_state(&mut self.table, shard, hard_state);
    }

    pub(crate) fn entries(&mut self, previous_term: Term, entries: &[Entry]) {
        table::put_entries(&mut self.table, previous_term, entries);
        self.payloads(entries);
    }

    pub(crate) fn carry(&mut self, entries: &[Entry]) {
        table::put_carry(&mut self.table, entries);
        self.payloads(entries);
    }

    pub(crate) fn holes(&mut self, identities: &Identities) {
        table::put_holes(&mut self.table, identities);
    }

    pub(crate) fn reset(&mut self, keeps_later: bool, file: &SnapshotFile) {
        table::put_reset(&mut self.table, keeps_later, file);
    }

    pub(crate) fn removed(&mut self) {
        table::put_removed(&mut self.table);
    }

    pub(crate) fn renewed(&mut self) {
        table::put_renewed(&mut self.table);
    }

    pub(crate) fn checkpoint(&mut self, said: &ShardCheckpoint) {
        table::put_checkpoint(&mut self.table, said);
    }

    /// Completes the frame; gives back its table. `header` brings place, sequence and flags.
    pub(crate) fn finish(self, mut header: FrameHeader) -> Vec<u8> {
        assert_eq!(self.table.len(), self.measure.table, "a table is as long as measured");
        let tables = self.start + FRAME_HEADER;
        let body = tables + self.table.len() + self.previous.len();
        assert_eq!(self.buffer.len() - body, self.measure.body, "a body is as long as measured");
        let middle = tables + self.table.len();
        self.buffer[tables..middle].copy_from_slice(&self.table);
        self.buffer[middle..body].copy_from_slice(self.previous);
        header.table_length = u32::try_from(self.table.len()).expect("a table is below 4 GiB");
        header.previous_length = u32::try_from(self.previous.len()).expect("so is the last one");
        header.tables_crc = checksum(&self.buffer[tables..body]);
        header.body_length = self.measure.body as u64;
        header.body_crc = checksum(&self.buffer[body..]);
        self.buffer[self.start..tables].copy_from_slice(&header.encode());
        let end = self.start + self.measure.frame_length(self.previous.len());
        self.buffer.pad_to(end);
        self.table
    }

    fn payloads(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.buffer.put_u32(u32::try_from(entry.payload.len()).expect("below 4 GiB"));
            self.buffer.put(entry.payload.bytes());
        }
    }
}

/// What tells a segment's frames from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentId {
    pub(crate) nonce: u64,
    pub(crate) number: u64,
    /// A table in it names at most this many entries: each takes room.
    pub(crate) entries_max: u64,
}

/// A frame whose checksums are right.
pub(crate) struct Frame<'a> {
    pub(crate) table: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// There is no header of this segment here.
    Header,
    /// The tables' checksum is wrong.
    Tables,
    /// The body's checksum is wrong.
    Body,
}

impl Flaw {
    /// In words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Header => "no readable frame header",
            Self::Tables => "the frame's table fails its checksum",
            Self::Body => "the frame's body fails its checksum",
        }
    }
}

/// The header of a frame of segment `of` at `offset`, if a sound one is at the front of `bytes`.
pub(crate) fn read_header(bytes: &[u8], offset: u64, of: SegmentId) -> Option<FrameHeader> {
    let header = FrameHeader::decode(bytes)?;
    let own = header.nonce == of.nonce && header.segment == of.number;
    (own && header.offset == offset).then_some(header)
}

/// Both tables of a frame, which is the front of `bytes`: its own, and the one of the frame before
/// if that is known.
pub(crate) fn read_tables<'a>(
    bytes: &'a [u8],
    header: &FrameHeader,
) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let mut take = Take(bytes.get(FRAME_HEADER..)?);
    let (own, previous) = (header.table_length as usize, header.previous_length as usize);
    let tables = take.bytes(own.checked_add(previous)?)?;
    let (own, previous) = tables.split_at(own);
    let known = header.flags & FLAG_PREVIOUS_UNKNOWN == 0;
    (checksum(tables) == header.tables_crc).then_some((own, known.then_some(previous)))
}

/// The frame of segment `of` at `offset`, which is the front of `bytes`.
pub(crate) fn read_frame(bytes: &[u8], offset: u64, of: SegmentId) -> Result<Frame<'_>, Flaw> {
    let header = read_header(bytes, offset, of).ok_or(Flaw::Header)?;
    let (table, _) = read_tables(bytes, &header).ok_or(Flaw::Tables)?;
    let tables = header.table_length as usize + header.previous_length as usize;
    let length = usize::try_from(header.body_length).map_err(|_| Flaw::Body)?;
    let body = Take(&bytes[FRAME_HEADER + tables..]).bytes(length);
    let body = body.filter(|body| checksum(body) == header.body_crc).ok_or(Flaw::Body)?;
    Ok(Frame { table, body })
}

/// Length of a frame on disk with that header; `None` if it is impossible.
pub(crate) fn frame_length(header: &FrameHeader) -> Option<u64> {
    let tables = u64::from(header.table_length) + u64::from(header.previous_length);
    let length = (FRAME_HEADER as u64 + tables).checked_add(header.body_length)?;
    length.checked_next_multiple_of(crate::BLOCK as u64)
}

/// Takes the payloads of entries off a body, in the order of its table. All of them are views of
/// one copy of the body, made when the first one is taken.
pub(crate) struct Payloads<'a> {
    body: &'a [u8],
    rest: Take<'a>,
    block: Option<Arc<Vec<u8>>>,
}

impl<'a> Payloads<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { body, rest: Take(body), block: None }
    }

    /// These entries, whose payloads come next; `None` if they are not there, or if the body has
    /// more than 4 GiB, as none has that was written here. A table that names more entries than
    /// there are bytes for costs no memory.
    pub(crate) fn take(&mut self, identities: &Identities) -> Option<impl Iterator<Item = Entry>> {
        u32::try_from(self.body.len()).ok()?;
        let mut at = self.body.len() - self.rest.0.len();
        for _ in identities.iter() {
            let length = self.rest.u32()? as usize;
            self.rest.bytes(length)?;
        }
        let (body, block) =
            (self.body, self.block.get_or_insert_with(|| Arc::new(self.body.to_vec())));
        Some(identities.iter().map(move |(index, term, kind)| {
            let length = Take(&body[at..]).u32().expect("it was read before") as usize;
            let start = at + size_of::<u32>();
            at = start + length;
            Entry { index, term, kind, payload: Payload::view(block, start..at) }
        }))
    }

    /// Whether all was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
