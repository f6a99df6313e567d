//! Reading what is cold, to see whether it still can be read.

use crate::disk::Disk;
use crate::frame::{SegmentId, read_frame};
use crate::load::{BadFrame, bad_frame, next_frame, read_bytes};
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotReader};

/// A part of the log or of a snapshot to look at; after [`crate::Chore::run`] what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrub {
    pub(crate) target: Target,
    /// About how many bytes to read.
    pub(crate) bytes_max: u64,
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Segment {
        file: String,
        id: SegmentId,
        /// Where the first frame to read begins; after the run, where to go on.
        next: u64,
        /// Where its frames end.
        end: u64,
        bad: Vec<BadFrame>,
    },
    Snapshot {
        file: Box<SnapshotFile>,
        /// The first chunk to read; after the run, where to go on; `None` at the end.
        next: Option<u32>,
        error: Option<SnapshotError>,
    },
}

impl Scrub {
    pub(crate) fn run(&mut self, disk: &mut dyn Disk) {
        match &mut self.target {
            Target::Segment { file, id, next, end, bad } => {
                let stop = (*next + self.bytes_max).min(*end);
                while *next < stop {
                    *next = look_at_frame(disk, file, *id, *next, *end, bad);
                }
            }
            Target::Snapshot { file, next, error } => {
                match look_at_chunks(disk, file, next.unwrap_or(0), self.bytes_max) {
                    Ok(at) => *next = at,
                    Err(found) => (*next, *error) = (None, Some(found)),
                }
            }
        }
    }
}

/// Reads one frame; gives back where the next one begins.
fn look_at_frame(
    disk: &mut dyn Disk,
    file: &str,
    id: SegmentId,
    offset: u64,
    end: u64,
    bad: &mut Vec<BadFrame>,
) -> u64 {
    let bytes = read_bytes(disk, file, offset);
    let next = next_frame(disk, file, id, (offset, end), &bytes);
    if let Err(flaw) = read_frame(&bytes, offset, id) {
        let behind = (next < end).then(|| (read_bytes(disk, file, next), next));
        bad.push(bad_frame(&bytes, behind, offset, id, flaw.describe()));
    }
    next
}

/// Reads chunks; gives back the next one, `None` at the end.
fn look_at_chunks(
    disk: &mut dyn Disk,
    file: &SnapshotFile,
    first: u32,
    bytes_max: u64,
) -> Result<Option<u32>, SnapshotError> {
    let (_, reader) = SnapshotReader::open(disk, &file.name)?;
    if reader.file() != *file {
        return Err(reader.is_not(file));
    }
    let (mut number, mut bytes) = (first, 0);
    while bytes < bytes_max {
        let Some(chunk) = reader.read(disk, number)? else { return Ok(None) };
        bytes += chunk.len() as u64;
        number += 1;
    }
    Ok(Some(number))
}
