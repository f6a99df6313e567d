//! Reading one segment: which frames are whole, where that ends, and what it attests.

use std::sync::Arc;

use crate::disk::{Disk, DiskError};
use crate::format::{
    BLOCK, FLAG_CHECKPOINT, FrameHeader, HeaderBlock, SEGMENT_HEAD, SegmentHeader,
};
use crate::frame::{Flaw, Identity, read_frame, read_header};

/// A segment file with a readable header.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) file: Arc<str>,
    pub(crate) size: u64,
    pub(crate) header: SegmentHeader,
}

impl Found {
    pub(crate) fn identity(&self) -> Identity {
        Identity { nonce: self.header.nonce, number: self.header.number }
    }
}

/// Where the whole frames of a segment end.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) offset: u64,
    /// The sequence of the frame that should be there.
    pub(crate) sequence: u64,
    pub(crate) reason: &'static str,
    /// There is something of a frame there.
    pub(crate) is_torn: bool,
    /// The table of that frame, if a copy in this segment can be read.
    pub(crate) table: Option<Vec<u8>>,
}

/// What a segment holds.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// Offset and sequence of the whole frames, without a gap from the first on.
    pub(crate) frames: Vec<(u64, u64)>,
    pub(crate) stop: Stop,
    /// Frames with a readable header behind the stop.
    pub(crate) later: u64,
    /// The repeated table in the checkpoint: that of the last frame of the segment before.
    pub(crate) repeated: Vec<u8>,
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
pub(crate) fn read_head(disk: &mut dyn Disk, file: &str, size: u64) -> Result<Head, DiskError> {
    let bytes = disk.read(file, 0, size.min(SEGMENT_HEAD) as usize)?;
    let copies: Vec<_> = bytes.chunks(BLOCK).map(SegmentHeader::decode).collect();
    let mut best: Option<SegmentHeader> = None;
    for copy in &copies {
        match copy {
            HeaderBlock::Version(version) => return Ok(Head::Version(*version)),
            HeaderBlock::Valid(header) => {
                if best.as_ref().is_none_or(|best| header.number > best.number) {
                    best = Some(header.clone());
                }
            }
            HeaderBlock::Blank | HeaderBlock::Unreadable => {}
        }
    }
    let blank = copies.len() == 2 && copies.iter().all(|copy| *copy == HeaderBlock::Blank);
    Ok(match best {
        Some(header) => Head::Segment(header),
        None if blank => Head::Blank,
        None => Head::Unreadable,
    })
}

/// Reads a whole segment.
pub(crate) fn scan(disk: &mut dyn Disk, found: &Found) -> Result<Scan, DiskError> {
    let bytes = disk.read(&found.file, 0, found.size as usize)?;
    let first = found.header.first_sequence;
    let stop = Stop {
        offset: SEGMENT_HEAD,
        sequence: first,
        reason: "the segment is full",
        is_torn: false,
        table: None,
    };
    let mut scan = Scan {
        frames: Vec::new(),
        stop,
        later: 0,
        repeated: Vec::new(),
        attests: 0,
        highest_sequence: 0,
        floor: 0,
    };
    scan.read_whole_frames(&bytes, found.identity());
    scan.read_later_headers(&bytes, found.identity());
    Ok(scan)
}

impl Scan {
    fn read_whole_frames(&mut self, bytes: &[u8], of: Identity) {
        while let Some(rest) = bytes.get(self.stop.offset as usize..).filter(|b| !b.is_empty()) {
            match read_frame(rest, self.stop.offset, of) {
                Ok(frame) if self.belongs(&frame.header) => {
                    if self.frames.is_empty() {
                        self.repeated = frame.previous.to_vec();
                    }
                    self.frames.push((self.stop.offset, self.stop.sequence));
                    self.learn(&frame.header);
                    self.stop.offset += frame.length as u64;
                    self.stop.sequence += 1;
                }
                Ok(_) => {
                    self.stop.reason = "there is a frame of another sequence or kind";
                    self.stop.is_torn = true;
                    return;
                }
                Err(flaw) => {
                    self.stop.reason = flaw.describe();
                    self.stop.is_torn = flaw != Flaw::Header;
                    if let Flaw::Body(table) = flaw {
                        self.stop.table = Some(table.to_vec());
                    }
                    return;
                }
            }
        }
    }

    fn belongs(&self, header: &FrameHeader) -> bool {
        let checkpoint = header.flags & FLAG_CHECKPOINT != 0;
        header.sequence == self.stop.sequence && checkpoint == self.frames.is_empty()
    }

    /// Learns from every frame behind the stop whose header can be read, whole or not.
    fn read_later_headers(&mut self, bytes: &[u8], of: Identity) {
        for offset in (self.stop.offset as usize..bytes.len()).step_by(BLOCK) {
            let rest = &bytes[offset..];
            let Some(header) = read_header(rest, offset as u64, of) else { continue };
            self.learn(&header);
            self.later += 1;
            let follows = header.sequence == self.stop.sequence + 1;
            if follows && self.stop.table.is_none() {
                let frame = read_frame(rest, offset as u64, of).ok();
                self.stop.table = frame.map(|frame| frame.previous.to_vec());
            }
        }
    }

    fn learn(&mut self, header: &FrameHeader) {
        self.attests = self.attests.max(header.durable_through);
        self.highest_sequence = self.highest_sequence.max(header.sequence);
        self.floor = self.floor.max(header.floor);
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

/// Looks for frames of the newest segment in a file whose header can't be read.
pub(crate) fn read_claim(
    disk: &mut dyn Disk,
    file: &str,
    size: u64,
) -> Result<Option<Claim>, DiskError> {
    let bytes = disk.read(file, 0, size as usize)?;
    let mut best: Option<Claim> = None;
    for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
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
    Ok(best)
}
