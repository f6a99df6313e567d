//! Reading frames of old segments: what is live in them must be carried, or can't be read.

use std::collections::BTreeMap;

use flotilla_raft::{Entry, EntryKind, Index};
use flotilla_shard::ShardId;

use crate::disk::Disk;
use crate::format::{BLOCK, FrameHeader};
use crate::frame::{Payloads, SegmentId, frame_length, read_frame, read_header, read_tables};
use crate::image::Image;
use crate::live::Place;
use crate::table::{Record, read_table};

/// Which entries to read for carrying, and after [`crate::Chore::run`] the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarryLoad {
    pub(crate) file: String,
    pub(crate) id: SegmentId,
    pub(crate) wanted: Vec<CarryPiece>,
    /// Frames that can't be read.
    pub(crate) damaged: Vec<BadFrame>,
}

/// Live entries of one shard in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CarryPiece {
    pub(crate) shard: ShardId,
    pub(crate) place: Place,
    pub(crate) first: Index,
    pub(crate) last: Index,
    /// All of `first..=last` once read.
    pub(crate) entries: Vec<Entry>,
}

/// A frame that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadFrame {
    pub(crate) offset: u64,
    /// 0 if it can't be read.
    pub(crate) sequence: u64,
    pub(crate) detail: String,
    /// What its entries are, if its table can be read.
    pub(crate) kinds: BTreeMap<(ShardId, Index), EntryKind>,
}

impl CarryLoad {
    pub(crate) fn run(&mut self, disk: &mut dyn Disk) {
        self.wanted.sort_by_key(|piece| (piece.place, piece.shard, piece.first));
        let mut damaged = Vec::new();
        for pieces in self.wanted.chunk_by_mut(|a, b| a.place == b.place) {
            let offset = pieces[0].place.offset;
            if let Err(bad) = fill(disk, &self.file, offset, self.id, pieces) {
                damaged.push(bad);
            }
        }
        self.wanted.retain(|piece| !piece.entries.is_empty());
        self.damaged = damaged;
    }
}

/// The bytes of the frame at `offset`, or as many as its header leads to believe. What can't be
/// read is zeros, which no checksum accepts.
pub(crate) fn read_bytes(disk: &mut dyn Disk, file: &str, offset: u64) -> Vec<u8> {
    let Ok(block) = Image::read(disk, file, offset, BLOCK) else { return vec![0; BLOCK] };
    let room = disk.size(file).unwrap_or(0).saturating_sub(offset);
    let length = FrameHeader::decode(&block.bytes).and_then(|header| frame_length(&header));
    match length {
        Some(length) if length > BLOCK as u64 && length <= room => {
            Image::read(disk, file, offset, length as usize).map_or(block.bytes, |i| i.bytes)
        }
        _ => block.bytes,
    }
}

/// Where the frame behind the one at `offset` begins, which is the front of `bytes`: by its header,
/// else where the next header of the segment is; at most `end`.
pub(crate) fn next_frame(
    disk: &mut dyn Disk,
    file: &str,
    of: SegmentId,
    (offset, end): (u64, u64),
    bytes: &[u8],
) -> u64 {
    let header = read_header(bytes, offset, of);
    if let Some(length) = header.and_then(|header| frame_length(&header)) {
        return offset.saturating_add(length).min(end);
    }
    let mut next = offset + BLOCK as u64;
    while next < end {
        let block = disk.read(file, next, BLOCK).unwrap_or_default();
        if read_header(&block, next, of).is_some() {
            return next;
        }
        next += BLOCK as u64;
    }
    end
}

/// Puts the entries of a frame into the pieces that want them.
fn fill(
    disk: &mut dyn Disk,
    file: &str,
    offset: u64,
    of: SegmentId,
    pieces: &mut [CarryPiece],
) -> Result<(), BadFrame> {
    let bytes = read_bytes(disk, file, offset);
    let frame = match read_frame(&bytes, offset, of) {
        Ok(frame) => frame,
        Err(flaw) => {
            let end = disk.size(file).unwrap_or(0);
            let next = next_frame(disk, file, of, (offset, end), &bytes);
            let next = (next < end).then(|| (read_bytes(disk, file, next), next));
            return Err(bad_frame(&bytes, next, offset, of, flaw.describe()));
        }
    };
    let bad = |detail: &str| bad_frame(&bytes, None, offset, of, detail);
    let found = entries_of(frame.table, frame.body, of).ok_or_else(|| bad("it makes no sense"))?;
    for piece in &mut *pieces {
        let range = found.get(&piece.shard).map(|log| log.range(piece.first..=piece.last));
        piece.entries = range.into_iter().flatten().map(|(_, entry)| entry.clone()).collect();
        if piece.entries.len() as u64 != piece.last.0 + 1 - piece.first.0 {
            for piece in pieces {
                piece.entries.clear();
            }
            return Err(bad("it lacks entries"));
        }
    }
    Ok(())
}

fn entries_of(
    table: &[u8],
    body: &[u8],
    of: SegmentId,
) -> Option<BTreeMap<ShardId, BTreeMap<Index, Entry>>> {
    let mut found: BTreeMap<ShardId, BTreeMap<Index, Entry>> = BTreeMap::new();
    let mut payloads = Payloads::new(body);
    for record in read_table(table, of.entries_max)? {
        match record {
            Record::Entries { shard, identities, .. } => {
                let log = found.entry(shard).or_default();
                log.split_off(&identities.first);
                let entries = payloads.take(&identities)?;
                log.extend(entries.map(|entry| (entry.index, entry)));
            }
            Record::Carry { shard, identities } => {
                let entries = payloads.take(&identities)?;
                let log = found.entry(shard).or_default();
                log.extend(entries.map(|entry| (entry.index, entry)));
            }
            _ => {}
        }
    }
    Some(found)
}

/// What can still be said of a frame that can't be read: by its own table, or by the copy in the
/// frame behind it, whose bytes and offset are `next`.
pub(crate) fn bad_frame(
    bytes: &[u8],
    next: Option<(Vec<u8>, u64)>,
    offset: u64,
    of: SegmentId,
    detail: &str,
) -> BadFrame {
    let header = read_header(bytes, offset, of);
    let own = header.and_then(|header| read_tables(bytes, &header)).map(|tables| tables.0);
    let repeated = next.as_ref().and_then(|(next, at)| {
        let header = read_header(next, *at, of)?;
        read_tables(next, &header)?.1
    });
    let records = own.or(repeated).and_then(|table| read_table(table, of.entries_max));
    let mut kinds = BTreeMap::new();
    for record in records.unwrap_or_default() {
        if let Record::Entries { shard, identities, .. } | Record::Carry { shard, identities } =
            record
        {
            kinds.extend(identities.iter().map(|(index, _, kind)| ((shard, index), kind)));
        }
    }
    let sequence = header.map_or(0, |header| header.sequence);
    BadFrame { offset, sequence, detail: detail.to_string(), kinds }
}
