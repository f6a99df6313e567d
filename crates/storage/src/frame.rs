//! One frame: how it is measured, encoded in one pass, and read back.
//!
//! A frame is measured first, so that its place is known and its buffer never moves; then table
//! and body are filled side by side, and the header comes last. Payloads are copied once.

use std::sync::Arc;

use flotilla_raft::{Entry, HardState, Index, Payload, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::buffer::AlignedBuffer;
use crate::format::{
    ENTRIES_HEAD, ENTRY_HEAD, FRAME_HEADER, FrameHeader, Put, RECORD_HEAD, TABLE_HEAD, TABLE_ITEM,
    Take, checksum, entry_kind, entry_kind_byte, put_hard_state, put_snapshot, snapshot_length,
    take_hard_state, take_snapshot, whole_blocks,
};
use crate::snapshot::SnapshotFile;

const NODE: u8 = 1;
const ENTRIES: u8 = 2;
const RESET: u8 = 3;
const CARRY: u8 = 4;
const REMOVED: u8 = 5;
const CHECKPOINT: u8 = 6;

/// What an item of a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Entries = 1,
    MoreEntries = 2,
    Reset = 3,
    Carry = 4,
    Removed = 5,
    Checkpoint = 6,
}

/// What a checkpoint says of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardCheckpoint {
    pub(crate) shard: ShardId,
    pub(crate) hard_state: HardState,
    pub(crate) last: (Index, Term),
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) file: Option<SnapshotFile>,
}

/// The size of a frame to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measure {
    pub(crate) table: usize,
    pub(crate) body: usize,
}

impl Measure {
    pub(crate) fn node(&mut self, state: &[u8]) {
        self.body += RECORD_HEAD + state.len();
    }

    pub(crate) fn head(&mut self) {
        self.table += TABLE_HEAD;
    }

    pub(crate) fn entries(&mut self, entries: &[Entry]) {
        if !entries.is_empty() {
            self.table += TABLE_ITEM * runs(entries).count();
            self.body += RECORD_HEAD + entries_length(entries);
        }
    }

    pub(crate) fn reset(&mut self, file: &SnapshotFile) {
        self.table += TABLE_ITEM;
        self.body += RECORD_HEAD + 1 + snapshot_length(&file.meta, Some(file));
    }

    pub(crate) fn removed(&mut self) {
        self.table += TABLE_HEAD + TABLE_ITEM;
        self.body += RECORD_HEAD;
    }

    pub(crate) fn checkpoint(&mut self, shards: &[ShardCheckpoint]) {
        self.table += shards.len() * (TABLE_HEAD + TABLE_ITEM);
        self.body += RECORD_HEAD + checkpoint_length(shards);
    }

    /// Length of the frame on disk, behind a frame whose table is `previous` bytes long.
    pub(crate) fn frame_length(&self, previous: usize) -> usize {
        whole_blocks(FRAME_HEADER + self.table + previous + self.body)
    }
}

fn runs(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    entries.chunk_by(|a, b| a.term == b.term)
}

fn entries_length(entries: &[Entry]) -> usize {
    let payloads: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    ENTRIES_HEAD + ENTRY_HEAD * entries.len() + payloads
}

fn checkpoint_length(shards: &[ShardCheckpoint]) -> usize {
    let snapshots = shards.iter().map(|shard| {
        let file = shard.file.as_ref();
        4 + 17 + 16 + snapshot_length(&shard.snapshot, file)
    });
    4 + snapshots.sum::<usize>()
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
        self.record(NODE, ShardId(0), state.len());
        self.buffer.put(state);
    }

    /// Begins a shard's part of the table: `items` items follow.
    pub(crate) fn head(&mut self, shard: ShardId, items: usize, hard_state: &HardState) {
        self.table.put_u32(shard.0);
        self.table.put_u32(u32::try_from(items).expect("a turn has fewer than 2^32 items"));
        put_hard_state(&mut self.table, hard_state);
    }

    /// How many items [`Self::entries`] or [`Self::carry`] will put in the table.
    pub(crate) fn items(entries: &[Entry]) -> usize {
        runs(entries).count()
    }

    pub(crate) fn entries(&mut self, shard: ShardId, previous_term: Term, entries: &[Entry]) {
        for (number, run) in runs(entries).enumerate() {
            let more = number > 0;
            let kind = if more { ItemKind::MoreEntries } else { ItemKind::Entries };
            self.item(kind, run[0].term, run[0].index, run[run.len() - 1].index);
        }
        self.entries_record(ENTRIES, shard, previous_term, entries);
    }

    pub(crate) fn carry(&mut self, shard: ShardId, previous_term: Term, entries: &[Entry]) {
        for run in runs(entries) {
            self.item(ItemKind::Carry, run[0].term, run[0].index, run[run.len() - 1].index);
        }
        self.entries_record(CARRY, shard, previous_term, entries);
    }

    pub(crate) fn reset(&mut self, shard: ShardId, keeps_later: bool, file: &SnapshotFile) {
        self.item(ItemKind::Reset, file.meta.term, file.meta.index, file.meta.index);
        self.record(RESET, shard, 1 + snapshot_length(&file.meta, Some(file)));
        self.buffer.put_u8(u8::from(keeps_later));
        put_snapshot(self.buffer, &file.meta, Some(file));
    }

    pub(crate) fn removed(&mut self, shard: ShardId) {
        self.head(shard, 1, &HardState::default());
        self.item(ItemKind::Removed, Term(0), Index(0), Index(0));
        self.record(REMOVED, shard, 0);
    }

    pub(crate) fn checkpoint(&mut self, shards: &[ShardCheckpoint]) {
        self.record(CHECKPOINT, ShardId(0), checkpoint_length(shards));
        self.buffer.put_u32(u32::try_from(shards.len()).expect("a lane has fewer shards"));
        for shard in shards {
            self.head(shard.shard, 1, &shard.hard_state);
            let snapshot = &shard.snapshot;
            self.item(ItemKind::Checkpoint, snapshot.term, snapshot.index, shard.last.0);
            self.buffer.put_u32(shard.shard.0);
            put_hard_state(self.buffer, &shard.hard_state);
            self.buffer.put_u64(shard.last.0.0);
            self.buffer.put_u64(shard.last.1.0);
            put_snapshot(self.buffer, snapshot, shard.file.as_ref());
        }
    }

    /// Completes the frame; gives back its table. `header` brings identity, sequence and flags.
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

    fn item(&mut self, kind: ItemKind, term: Term, first: Index, last: Index) {
        self.table.put_u8(kind as u8);
        self.table.put_u64(term.0);
        self.table.put_u64(first.0);
        self.table.put_u64(last.0);
    }

    fn record(&mut self, kind: u8, shard: ShardId, length: usize) {
        self.buffer.put_u8(kind);
        self.buffer.put_u32(shard.0);
        self.buffer.put_u64(length as u64);
    }

    fn entries_record(&mut self, kind: u8, shard: ShardId, previous: Term, entries: &[Entry]) {
        let length = entries_length(entries);
        assert!(u32::try_from(length).is_ok(), "the entries of one write are below 4 GiB");
        self.record(kind, shard, length);
        self.buffer.put_u64(entries[0].index.0);
        self.buffer.put_u64(previous.0);
        self.buffer.put_u32(u32::try_from(entries.len()).expect("they are below 4 GiB"));
        for entry in entries {
            self.buffer.put_u64(entry.term.0);
            self.buffer.put_u8(entry_kind_byte(entry.kind));
            self.buffer.put_u32(u32::try_from(entry.payload.len()).expect("below 4 GiB"));
            self.buffer.put(entry.payload.bytes());
        }
    }
}

/// What tells a segment's frames from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) nonce: u64,
    pub(crate) number: u64,
}

/// A frame whose checksums are right.
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    pub(crate) table: &'a [u8],
    pub(crate) previous: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) length: usize,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw<'a> {
    /// There is no header of this segment here.
    Header,
    /// The tables' checksum is wrong.
    Tables,
    /// The body's checksum is wrong; this is the table.
    Body(&'a [u8]),
}

impl Flaw<'_> {
    /// In words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Header => "no readable frame header",
            Self::Tables => "the frame's table fails its checksum",
            Self::Body(_) => "the frame's body fails its checksum",
        }
    }
}

/// The header of a frame of segment `of` at `offset`, if a sound one is at the front of `bytes`.
pub(crate) fn read_header(bytes: &[u8], offset: u64, of: Identity) -> Option<FrameHeader> {
    let header = FrameHeader::decode(bytes)?;
    let own = header.nonce == of.nonce && header.segment == of.number;
    (own && header.offset == offset).then_some(header)
}

/// The frame of segment `of` at `offset`, which is the front of `bytes`.
pub(crate) fn read_frame(bytes: &[u8], offset: u64, of: Identity) -> Result<Frame<'_>, Flaw<'_>> {
    let header = read_header(bytes, offset, of).ok_or(Flaw::Header)?;
    let mut take = Take(&bytes[FRAME_HEADER..]);
    let (table_length, length) = (header.table_length as usize, header.previous_length as usize);
    let tables = table_length.checked_add(length).and_then(|sum| take.bytes(sum));
    let tables = tables.filter(|tables| checksum(tables) == header.tables_crc);
    let (table, previous) = tables.ok_or(Flaw::Tables)?.split_at(table_length);
    let body = usize::try_from(header.body_length).ok().and_then(|length| take.bytes(length));
    let body = body.filter(|body| checksum(body) == header.body_crc).ok_or(Flaw::Body(table))?;
    let length = whole_blocks(FRAME_HEADER + table.len() + previous.len() + body.len());
    Ok(Frame { header, table, previous, body, length })
}

/// One head of a table with its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) shard: ShardId,
    pub(crate) hard_state: HardState,
    pub(crate) items: Vec<TableItem>,
}

/// One item of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableItem {
    pub(crate) kind: ItemKind,
    pub(crate) term: Term,
    pub(crate) first: Index,
    pub(crate) last: Index,
}

/// Reads a table; `None` if it makes no sense.
pub(crate) fn read_table(table: &[u8]) -> Option<Vec<TableEntry>> {
    let mut take = Take(table);
    let mut entries = Vec::new();
    while !take.is_empty() {
        let shard = ShardId(take.u32()?);
        let count = take.u32()?;
        let hard_state = take_hard_state(&mut take)?;
        let items = (0..count).map(|_| read_item(&mut take)).collect::<Option<Vec<_>>>()?;
        entries.push(TableEntry { shard, hard_state, items });
    }
    Some(entries)
}

fn read_item(take: &mut Take<'_>) -> Option<TableItem> {
    let kind = match take.u8()? {
        1 => ItemKind::Entries,
        2 => ItemKind::MoreEntries,
        3 => ItemKind::Reset,
        4 => ItemKind::Carry,
        5 => ItemKind::Removed,
        6 => ItemKind::Checkpoint,
        _ => return None,
    };
    let term = Term(take.u64()?);
    Some(TableItem { kind, term, first: Index(take.u64()?), last: Index(take.u64()?) })
}

/// One record of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Node(&'a [u8]),
    Entries { shard: ShardId, previous_term: Term, entries: Vec<Entry> },
    Reset { shard: ShardId, keeps_later: bool, meta: SnapshotMeta, file: Option<Box<SnapshotFile>> },
    Carry { shard: ShardId, entries: Vec<Entry> },
    Removed { shard: ShardId },
    Checkpoint(Vec<ShardCheckpoint>),
}

/// Reads the records of a body; `None` if they make no sense.
pub(crate) fn read_records(body: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut take = Take(body);
    let mut records = Vec::new();
    while !take.is_empty() {
        let kind = take.u8()?;
        let shard = ShardId(take.u32()?);
        let length = usize::try_from(take.u64()?).ok()?;
        records.push(read_record(kind, shard, take.bytes(length)?)?);
    }
    Some(records)
}

fn read_record(kind: u8, shard: ShardId, rest: &[u8]) -> Option<Record<'_>> {
    let mut take = Take(rest);
    match kind {
        NODE => Some(Record::Node(rest)),
        ENTRIES => {
            let (previous_term, entries) = read_entries(rest)?;
            Some(Record::Entries { shard, previous_term, entries })
        }
        RESET => {
            let keeps_later = take.u8()? == 1;
            let (meta, file) = take_snapshot(&mut take, shard)?;
            Some(Record::Reset { shard, keeps_later, meta, file: file.map(Box::new) })
        }
        CARRY => read_entries(rest).map(|(_, entries)| Record::Carry { shard, entries }),
        REMOVED => Some(Record::Removed { shard }),
        CHECKPOINT => {
            let count = take.u32()?;
            let shards = (0..count).map(|_| read_shard_checkpoint(&mut take));
            shards.collect::<Option<Vec<_>>>().map(Record::Checkpoint)
        }
        _ => None,
    }
}

fn read_shard_checkpoint(take: &mut Take<'_>) -> Option<ShardCheckpoint> {
    let shard = ShardId(take.u32()?);
    let hard_state = take_hard_state(take)?;
    let last = (Index(take.u64()?), Term(take.u64()?));
    let (snapshot, file) = take_snapshot(take, shard)?;
    Some(ShardCheckpoint { shard, hard_state, last, snapshot, file })
}

/// The term before and the entries; their payloads share one copy of the record.
fn read_entries(rest: &[u8]) -> Option<(Term, Vec<Entry>)> {
    u32::try_from(rest.len()).ok()?;
    let block = Arc::new(rest.to_vec());
    let mut take = Take(rest);
    let first = take.u64()?;
    let previous_term = Term(take.u64()?);
    let count = u64::from(take.u32()?);
    let mut entries = Vec::new();
    for index in first..first.checked_add(count)? {
        let term = Term(take.u64()?);
        let kind = entry_kind(take.u8()?)?;
        let length = take.u32()? as usize;
        take.bytes(length)?;
        let end = rest.len() - take.0.len();
        let payload = Payload::view(&block, end - length..end);
        entries.push(Entry { index: Index(index), term, kind, payload });
    }
    (take.is_empty() && count > 0 && first > 0).then_some((previous_term, entries))
}
