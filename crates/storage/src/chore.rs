//! Work for a helper thread: preparing and removing files, and reading what must be carried.
//!
//! *Carrying* frees an old segment in which a few entries are still live because their shard
//! can't be snapshotted (no quorum, or simply idle): they are read from it and stand again in new
//! frames. A carried entry changes nothing but where it is.

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::{Entry, Index};
use flotilla_shard::ShardId;

use crate::disk::{Disk, DiskError};
use crate::format::{BLOCK, FRAME_HEADER, FrameHeader, whole_blocks};
use crate::frame::{Identity, Record, read_frame, read_records};
use crate::live::{Place, ShardLog};

/// Something to be done off the lane: [`Chore::run`], then [`crate::Log::chore_done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Create a blank segment file.
    Prepare {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Remove a file that nothing needs any more.
    Remove {
        /// Its name.
        name: String,
    },
    /// Read live entries of an old segment, to be carried.
    Load(CarryLoad),
}

impl Chore {
    /// Does it. An error in [`Chore::Prepare`] may be for want of space and goes to
    /// [`crate::Log::chore_failed`]; one in [`Chore::Load`] means that the log is damaged.
    pub fn run(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        match self {
            Self::Prepare { name, bytes } => disk.create(name, *bytes),
            Self::Remove { name } => disk.remove(name),
            Self::Load(load) => load.run(disk),
        }
    }
}

/// Which entries to read for carrying, and after [`Chore::run`] the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarryLoad {
    pub(crate) file: String,
    pub(crate) identity: Identity,
    pub(crate) wanted: Vec<CarryPiece>,
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

impl CarryLoad {
    fn run(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        self.wanted.sort_by_key(|piece| (piece.place, piece.shard, piece.first));
        for pieces in self.wanted.chunk_by_mut(|a, b| a.place == b.place) {
            let offset = pieces[0].place.offset;
            let filled = read_whole_frame(disk, &self.file, offset)
                .map(|bytes| fill(&bytes, offset, self.identity, pieces));
            if filled? != Some(()) {
                let file = &self.file;
                return Err(DiskError(format!("{file} is damaged at offset {offset}")));
            }
        }
        Ok(())
    }
}

/// The bytes of the frame at `offset`, or as many as its header leads to believe.
fn read_whole_frame(disk: &mut dyn Disk, file: &str, offset: u64) -> Result<Vec<u8>, DiskError> {
    let block = disk.read(file, offset, BLOCK)?;
    let room = disk.size(file)?.saturating_sub(offset);
    let length = FrameHeader::decode(&block).and_then(|header| {
        let tables = u64::from(header.table_length) + u64::from(header.previous_length);
        let length = (FRAME_HEADER as u64).checked_add(tables)?.checked_add(header.body_length)?;
        (length <= room).then_some(whole_blocks(length as usize))
    });
    match length {
        Some(length) if length > BLOCK => disk.read(file, offset, length),
        _ => Ok(block),
    }
}

/// Puts the entries of a frame into the pieces that want them.
fn fill(bytes: &[u8], offset: u64, of: Identity, pieces: &mut [CarryPiece]) -> Option<()> {
    let frame = read_frame(bytes, offset, of).ok()?;
    let mut found: BTreeMap<ShardId, BTreeMap<Index, Entry>> = BTreeMap::new();
    for record in read_records(frame.body)? {
        match record {
            Record::Entries { shard, entries, .. } => {
                let log = found.entry(shard).or_default();
                log.split_off(&entries[0].index);
                log.extend(entries.into_iter().map(|entry| (entry.index, entry)));
            }
            Record::Carry { shard, entries } => {
                let log = found.entry(shard).or_default();
                log.extend(entries.into_iter().map(|entry| (entry.index, entry)));
            }
            _ => {}
        }
    }
    for piece in pieces {
        let range = found.get(&piece.shard)?.range(piece.first..=piece.last);
        piece.entries = range.map(|(_, entry)| entry.clone()).collect();
        if piece.entries.len() as u64 != piece.last.0 + 1 - piece.first.0 {
            return None;
        }
    }
    Some(())
}

/// What has been read and waits for a frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carry {
    queue: VecDeque<CarryPiece>,
    /// The segment that is being read.
    pub(crate) loading: Option<u64>,
}

impl Carry {
    /// Takes what a chore has read.
    pub(crate) fn loaded(&mut self, load: &CarryLoad) {
        assert_eq!(self.loading, Some(load.identity.number), "a load was asked for");
        self.loading = None;
        self.queue.extend(load.wanted.iter().cloned());
    }

    /// Whether nothing is read or being read.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.loading.is_none()
    }

    /// Runs of entries to carry in one frame: what is still live where it was read, at least one
    /// piece, about `limit` bytes.
    pub(crate) fn take(
        &mut self,
        limit: usize,
        shards: &BTreeMap<ShardId, ShardLog>,
    ) -> Vec<(ShardId, Vec<Entry>)> {
        let (mut runs, mut bytes) = (Vec::new(), 0);
        while bytes < limit {
            let Some(piece) = self.queue.pop_front() else { break };
            let Some(log) = shards.get(&piece.shard) else { continue };
            for extent in log.extents_at(piece.place, piece.first, piece.last) {
                let from = (extent.first.0 - piece.first.0) as usize;
                let to = (extent.last.0 - piece.first.0) as usize;
                let entries = piece.entries[from..=to].to_vec();
                for entry in &entries {
                    let same = log.term_at(entry.index) == Some(entry.term);
                    assert!(same, "what is carried is what the log has");
                }
                bytes += extent.bytes as usize;
                runs.push((piece.shard, entries));
            }
        }
        runs
    }
}
