//! Damage that is found while the log is in use: named, told once, and fenced in.
//!
//! Its entries become holes, whose identity is stated anew behind the checkpoint of a new segment:
//! from then on nothing depends on the damaged frame, whatever else of it goes bad.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_raft::{EntryKind, Index};
use flotilla_shard::ShardId;

use super::Log;
use crate::error::DamagedFrame;
use crate::live::Place;
use crate::load::BadFrame;
use crate::snapshot::{SnapshotError, SnapshotFile};

/// Something on disk that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A frame of the log.
    Frame {
        /// Which, for the operator.
        frame: DamagedFrame,
        /// The entries whose payloads are lost on this disk.
        entries: BTreeMap<ShardId, Vec<Index>>,
    },
    /// A snapshot. It stands for what the node has in memory, so a new one takes its place.
    Snapshot {
        /// Which.
        file: SnapshotFile,
        /// What is wrong.
        error: SnapshotError,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame { frame, entries } => {
                let lost: usize = entries.values().map(Vec::len).sum();
                write!(f, "{frame}; {lost} entries that are still needed were in it")
            }
            Self::Snapshot { file, error } => {
                write!(f, "the snapshot of shard {} can't be read any more: {error}", file.shard.0)
            }
        }
    }
}

impl Log {
    /// A frame of a segment can't be read.
    pub(super) fn puncture(&mut self, segment: u64, file: &str, bad: &BadFrame) {
        let place = Place { segment, offset: bad.offset };
        let needed = self.segments.chain.iter().any(|known| known.number == segment);
        if !needed || !self.bad_frames.insert(place) {
            return;
        }
        let mut entries = BTreeMap::new();
        for (&shard, log) in &mut self.shards {
            // Where the kind is not known the entry may be a configuration.
            let kind =
                |index| bad.kinds.get(&(shard, index)).copied().unwrap_or(EntryKind::Configuration);
            let holes = log.puncture(place, kind);
            if let (Some(&first), Some(&last)) = (holes.first(), holes.last()) {
                self.carry.state_holes(shard, first, last);
                entries.insert(shard, holes);
            }
        }
        self.wants_segment = true;
        let frame = DamagedFrame {
            file: file.to_string(),
            offset: bad.offset,
            sequence: bad.sequence,
            shards: Some(entries.keys().copied().collect()),
            detail: bad.detail.clone(),
        };
        self.damage.push(Damage::Frame { frame, entries });
    }
}
