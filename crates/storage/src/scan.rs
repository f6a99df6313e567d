//! Reading one segment: what stands in it, frame by frame, and what it attests.
//!
//! A frame that can't be read does not hide those behind it: the next header of this segment is
//! looked for, block by block, since nobody can write one who does not know the nonce. What a
//! damaged frame said is in its own table or, repeated, in the next frame.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::disk::{Disk, DiskError};
use crate::format::{
    BLOCK, FLAG_CHECKPOINT, FrameHeader, HeaderBlock, SEGMENT_HEAD, SegmentHeader,
};
use crate::frame::{Flaw, SegmentId, frame_length, read_frame, read_header, read_tables};
use crate::image::Image;

/// A segment file with a readable header.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) file: Arc<str>,
    pub(crate) size: u64,
    pub(crate) header: SegmentHeader,
}

impl Found {
    pub(crate) fn id(&self) -> SegmentId {
        segment_id(self.header.nonce, self.header.number, self.header.bytes)
    }
}

/// What tells the frames of a segment with a file of `bytes` bytes.
pub(crate) fn segment_id(nonce: u64, number: u64, bytes: u64) -> SegmentId {
    SegmentId { nonce, number, entries_max: bytes / crate::format::ENTRY_HEAD as u64 }
}

/// What is known of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Whole,
    /// The payloads are lost; this is the table.
    Table(Vec<u8>),
    /// Nothing.
    Unknown,
}

/// Where a frame is, or several of which nothing is known.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) offset: u64,
    /// The sequences.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) content: Content,
    /// What is wrong, if it is not whole.
    pub(crate) reason: &'static str,
}

/// What a segment holds.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// In the order of their sequences, without a gap.
    pub(crate) slots: Vec<Slot>,
    /// Where the next frame would begin.
    pub(crate) end_offset: u64,
    /// The sequence it would have.
    pub(crate) end_sequence: u64,
    /// The file is too short: of what stood behind nothing is known.
    is_short: bool,
    /// Blocks that can't be read, by number.
    unreadable: BTreeSet<usize>,
    /// All of the file, for whoever reads it next and soon.
    pub(crate) image: Option<Image>,
    /// The table of the last frame before this segment, if the checkpoint repeats it.
    pub(crate) repeated: Option<Vec<u8>>,
    /// The highest sequence that some frame here says is durable.
    pub(crate) attests: u64,
    pub(crate) highest_sequence: u64,
    pub(crate) floor: u64,
}

/// What the header blocks of a file say.
pub(crate) enum Head {
    /// It was never used.
    Blank,
    /// It is, or was, this segment.
    Segment(SegmentHeader),
    /// It has a format this code does not know.
    Version(u32),
    /// Neither copy can be read.
    Unreadable,
}

/// Reads both copies of a segment's header. If they differ, a new life of the file was begun and
/// torn; the newer one counts, since the older one was over by then.
pub(crate) fn read_head(disk: &mut dyn Disk, file: &str, size: u64) -> Head {
    let length = size.min(SEGMENT_HEAD) as usize;
    // Where neither copy can be read, the frames are still asked.
    let Ok(image) = Image::read(disk, file, 0, length) else { return Head::Unreadable };
    let copies: Vec<_> = image.bytes.chunks(BLOCK).map(SegmentHeader::decode).collect();
    let mut best: Option<SegmentHeader> = None;
    for copy in &copies {
        match copy {
            HeaderBlock::Version(version) => return Head::Version(*version),
            HeaderBlock::Valid(header) => {
                if best.as_ref().is_none_or(|best| header.number > best.number) {
                    best = Some(header.clone());
                }
            }
            HeaderBlock::Blank | HeaderBlock::Unreadable => {}
        }
    }
    let blank = copies.len() == 2 && copies.iter().all(|copy| *copy == HeaderBlock::Blank);
    match best {
        Some(header) => Head::Segment(header),
        None if blank && image.is_whole() => Head::Blank,
        None => Head::Unreadable,
    }
}

/// Reads a whole segment.
pub(crate) fn scan(disk: &mut dyn Disk, found: &Found) -> Result<Scan, DiskError> {
    let image = Image::read(disk, &found.file, 0, found.size as usize)?;
    let mut scan = Scan {
        slots: Vec::new(),
        end_offset: SEGMENT_HEAD,
        end_sequence: found.header.first_sequence,
        is_short: found.size < found.header.bytes,
        unreadable: image.unreadable.clone(),
        image: None,
        repeated: None,
        attests: 0,
        highest_sequence: 0,
        floor: 0,
    };
    scan.read_frames(&image.bytes, found.id());
    scan.image = Some(image);
    Ok(scan)
}

impl Scan {
    /// Whether frames may have stood from `offset` on of which there is no sign: what can't be read
    /// there may have been one, and may have attested what looks torn.
    pub(crate) fn is_unsure_from(&self, offset: u64) -> bool {
        let blocks = offset as usize / BLOCK..=self.end_offset as usize / BLOCK;
        self.is_short || self.unreadable.range(blocks).next().is_some()
    }

    /// The last frame, and those before it, are damaged beyond what this segment can tell.
    pub(crate) fn lacks_through(&mut self, sequence: u64) {
        self.slots.push(Slot {
            offset: self.end_offset,
            first: self.end_sequence,
            last: sequence,
            content: Content::Unknown,
            reason: "frames that were acknowledged are not there",
        });
        self.end_sequence = sequence + 1;
    }

    /// The first frame that no other frame attests and that is not whole: sequence, offset, what
    /// is wrong there.
    pub(crate) fn first_doubtful(&self, attested: u64) -> Option<(u64, u64, &'static str)> {
        let slot = self
            .slots
            .iter()
            .find(|slot| slot.content != Content::Whole && slot.last > attested)?;
        Some((slot.first.max(attested + 1), slot.offset, slot.reason))
    }

    /// Frame `sequence` is the last that counts, and `table` is its, if it is known at all.
    pub(crate) fn end_at(&mut self, sequence: u64, table: Option<&[u8]>) {
        let kept = self.slots.partition_point(|slot| slot.first <= sequence);
        if let Some(void) = self.slots.get(kept) {
            self.end_offset = void.offset;
        }
        self.slots.truncate(kept);
        if let Some(slot) = self.slots.last_mut() {
            slot.last = slot.last.min(sequence);
        }
        self.learn_table(table);
    }

    fn read_frames(&mut self, bytes: &[u8], of: SegmentId) {
        while let Some(rest) = bytes.get(self.end_offset as usize..).filter(|b| !b.is_empty()) {
            let header = read_header(rest, self.end_offset, of);
            if let Some(header) = header.filter(|header| self.belongs(header)) {
                self.read_frame(rest, &header, of);
            } else if let Some((offset, header)) = self.next_header(bytes, of) {
                self.slots.push(Slot {
                    offset: self.end_offset,
                    first: self.end_sequence,
                    last: header.sequence - 1,
                    content: Content::Unknown,
                    reason: Flaw::Header.describe(),
                });
                (self.end_offset, self.end_sequence) = (offset, header.sequence);
            } else {
                return;
            }
        }
    }

    fn belongs(&self, header: &FrameHeader) -> bool {
        let checkpoint = header.flags & FLAG_CHECKPOINT != 0;
        header.sequence == self.end_sequence
            && checkpoint == self.slots.is_empty()
            && frame_length(header).is_some()
    }

    /// The next readable header behind a frame without one. Every frame takes a block at least.
    fn next_header(&self, bytes: &[u8], of: SegmentId) -> Option<(u64, FrameHeader)> {
        let start = self.end_offset as usize;
        (start + BLOCK..bytes.len()).step_by(BLOCK).find_map(|at| {
            let header = read_header(&bytes[at..], at as u64, of)?;
            let missing = header.sequence.checked_sub(self.end_sequence)?;
            let plausible = missing > 0 && missing <= ((at - start) / BLOCK) as u64;
            (plausible && header.flags & FLAG_CHECKPOINT == 0 && frame_length(&header).is_some())
                .then_some((at as u64, header))
        })
    }

    fn read_frame(&mut self, rest: &[u8], header: &FrameHeader, of: SegmentId) {
        let tables = read_tables(rest, header);
        let previous = tables.and_then(|(_, previous)| previous);
        if self.slots.is_empty() {
            self.repeated = previous.map(<[u8]>::to_vec);
        } else {
            self.learn_table(previous);
        }
        let (content, reason) = match (read_frame(rest, self.end_offset, of), tables) {
            (Ok(_), _) => (Content::Whole, ""),
            (Err(flaw), Some((table, _))) => (Content::Table(table.to_vec()), flaw.describe()),
            (Err(flaw), None) => (Content::Unknown, flaw.describe()),
        };
        let (offset, first) = (self.end_offset, self.end_sequence);
        self.slots.push(Slot { offset, first, last: first, content, reason });
        self.attests = self.attests.max(header.durable_through);
        self.highest_sequence = self.highest_sequence.max(header.sequence);
        self.floor = self.floor.max(header.floor);
        self.end_offset += frame_length(header).expect("only a possible length belongs here");
        self.end_sequence += 1;
    }

    /// The table of the last frame so far is said elsewhere.
    fn learn_table(&mut self, table: Option<&[u8]>) {
        let Some(table) = table else { return };
        let Some(slot) = self.slots.last_mut().filter(|slot| slot.content == Content::Unknown)
        else {
            return;
        };
        let known =
            Slot { first: slot.last, content: Content::Table(table.to_vec()), ..slot.clone() };
        if slot.first == slot.last {
            *slot = known;
        } else {
            slot.last -= 1;
            self.slots.push(known);
        }
    }
}

/// What the frames in a file without a readable header say about themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) segment: u64,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) attests: u64,
}

impl Claim {
    /// Some of these frames were acknowledged.
    pub(crate) fn is_attested(&self) -> bool {
        self.attests >= self.first_sequence
    }
}

/// Looks for frames of the newest segment in a file whose header can't be read; also says whether
/// all of the file could be read.
pub(crate) fn read_claim(
    disk: &mut dyn Disk,
    file: &str,
    size: u64,
) -> Result<(Option<Claim>, bool), DiskError> {
    let image = Image::read(disk, file, 0, size as usize)?;
    let mut best: Option<Claim> = None;
    for (block, bytes) in image.bytes.chunks(BLOCK).enumerate() {
        let Some(header) = FrameHeader::decode(bytes) else { continue };
        let newer = best.as_ref().is_none_or(|best| header.segment > best.segment);
        if header.offset != (block * BLOCK) as u64 {
            continue;
        }
        if newer {
            best = Some(Claim {
                segment: header.segment,
                first_sequence: header.sequence,
                last_sequence: header.sequence,
                attests: header.durable_through,
            });
        } else if let Some(best) = best.as_mut().filter(|best| best.segment == header.segment) {
            best.first_sequence = best.first_sequence.min(header.sequence);
            best.last_sequence = best.last_sequence.max(header.sequence);
            best.attests = best.attests.max(header.durable_through);
        }
    }
    Ok((best, image.is_whole()))
}
