//! What stands in a file, for people who look: nothing is written, and nothing is judged.

use flotilla_shard::ShardId;

use crate::disk::{Disk, DiskError};
use crate::format::FORMAT_VERSION;
use crate::image::Image;
use crate::scan::{Content, Found, Head, read_head, scan};
use crate::table::{Record, read_table};

/// What a segment file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its header.
    pub header: HeaderView,
    /// Its frames, in order; none without a header.
    pub frames: Vec<FrameView>,
    /// Where the next frame would begin, in bytes.
    pub end_offset: u64,
    /// Blocks that can't be read.
    pub unreadable_blocks: usize,
}

/// What the header of a segment says, from whichever copy can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderView {
    /// The file was never used.
    Blank,
    /// Neither copy can be read.
    Unreadable,
    /// Another version of this program wrote it.
    Version(u32),
    /// A segment.
    Segment {
        /// Its number.
        number: u64,
        /// The size the file should have, in bytes.
        bytes: u64,
        /// The sequence of its first frame.
        first_sequence: u64,
        /// The number of the segment before; 0 if there is none.
        previous: u64,
        /// The last sequence that counts before this segment.
        continues: u64,
    },
}

/// A frame, or several of which nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameView {
    /// Where, in bytes.
    pub offset: u64,
    /// Its sequence; of several, the first.
    pub sequence: u64,
    /// The last sequence of several, else the same.
    pub last_sequence: u64,
    /// What is wrong with it, if it is not whole.
    pub flaw: Option<&'static str>,
    /// What it holds, each with the shard it is about; empty if no copy of its table is known here.
    pub records: Vec<(Option<ShardId>, String)>,
}

/// The version of the format that this program writes.
pub const fn format_version() -> u32 {
    FORMAT_VERSION
}

/// Looks at a segment file.
pub fn inspect_segment(disk: &mut dyn Disk, file: &str) -> Result<SegmentView, DiskError> {
    let bytes = disk.size(file)?;
    let mut view = SegmentView {
        bytes,
        header: HeaderView::Blank,
        frames: Vec::new(),
        end_offset: 0,
        unreadable_blocks: 0,
    };
    let header = match read_head(disk, file, bytes) {
        Head::Blank => return Ok(view),
        Head::Unreadable => HeaderView::Unreadable,
        Head::Version(version) => HeaderView::Version(version),
        Head::Segment(header) => {
            let found = Found { file: file.into(), size: bytes, header: header.clone() };
            frames(disk, &found, &mut view)?;
            HeaderView::Segment {
                number: header.number,
                bytes: header.bytes,
                first_sequence: header.first_sequence,
                previous: header.previous,
                continues: header.continues,
            }
        }
    };
    view.header = header;
    Ok(view)
}

fn frames(disk: &mut dyn Disk, found: &Found, view: &mut SegmentView) -> Result<(), DiskError> {
    let scan = scan(disk, found)?;
    let image = Image::read(disk, &found.file, 0, found.size as usize)?;
    view.unreadable_blocks = image.unreadable.len();
    view.end_offset = scan.end_offset;
    for slot in scan.slots {
        let whole = slot.content == Content::Whole;
        let records = match &slot.content {
            Content::Unknown => Vec::new(),
            Content::Table(table) => described(table, found.id().entries_max),
            Content::Whole => {
                let rest = &image.bytes[slot.offset as usize..];
                let frame = crate::frame::read_frame(rest, slot.offset, found.id());
                frame.map_or_else(|_| Vec::new(), |f| described(f.table, found.id().entries_max))
            }
        };
        view.frames.push(FrameView {
            offset: slot.offset,
            sequence: slot.first,
            last_sequence: slot.last,
            flaw: (!whole).then_some(slot.reason),
            records,
        });
    }
    Ok(())
}

/// The records of a frame's table in words, each with the shard it is about; `None` if these bytes
/// are no table.
pub fn describe_table(table: &[u8]) -> Option<Vec<(Option<ShardId>, String)>> {
    let records = read_table(table, u64::from(u32::MAX))?;
    Some(records.iter().map(|record| (record.shard(), in_words(record))).collect())
}

fn described(table: &[u8], entries_max: u64) -> Vec<(Option<ShardId>, String)> {
    let records = read_table(table, entries_max).unwrap_or_default();
    records.iter().map(|record| (record.shard(), in_words(record))).collect()
}

fn in_words(record: &Record<'_>) -> String {
    match record {
        Record::State { hard_state, .. } => {
            let vote = hard_state.voted_for.map_or_else(
                || "no vote".to_string(),
                |replica| format!("vote for replica {}", replica.0),
            );
            format!("term {}, {vote}", hard_state.term)
        }
        Record::Checkpoint(said) => {
            let lost = if said.lost { ", lost" } else { "" };
            let (last, term) = said.last;
            let snapshot = said.snapshot.index;
            format!("checkpoint: snapshot {snapshot}, last entry {last} of term {term}{lost}")
        }
        Record::Incomplete => "something newer may have been lost".to_string(),
        other => other.describe().unwrap_or_default(),
    }
}
