//! Why a log can't be used.

use std::fmt;

use flotilla_shard::ShardId;
use thiserror::Error;

use crate::disk::DiskError;
use crate::snapshot::SnapshotError;

/// A frame that was acknowledged and can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFrame {
    /// The segment's file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The frame's sequence.
    pub sequence: u64,
    /// The shards it had records of, as far as a copy of its table can be read; empty if none can
    /// (then it may be any shard of the lane).
    pub shards: Vec<ShardId>,
    /// What is wrong, and which entries of which shards it holds.
    pub detail: String,
}

impl fmt::Display for DamagedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, sequence, shards, detail } = self;
        write!(f, "{file} is damaged at offset {offset} (frame {sequence}), ")?;
        if shards.is_empty() {
            write!(f, "which may concern every shard of this lane: {detail}")
        } else {
            let names: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
            write!(f, "which concerns shard {}: {detail}", names.join(", "))
        }
    }
}

/// Why recovery refused a log. The node must not start: it may have forgotten promises.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecoverError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Acknowledged data can't be read.
    #[error("{0}")]
    Damaged(Box<DamagedFrame>),
    /// A segment that was acknowledged is not there, or neither copy of its header can be read.
    #[error("segment {number} of the log is missing or has no readable header; {needed_by}")]
    MissingSegment {
        /// Its number.
        number: u64,
        /// Who says that it must be there, and which files can't be read.
        needed_by: String,
    },
    /// There are snapshots but no log that names them.
    #[error("the log is missing: there are snapshots ({snapshot}) but no segment that names them")]
    MissingLog {
        /// The file name of one of them.
        snapshot: String,
    },
    /// The segment was written by another version of this program.
    #[error("{file} has format version {found}, this program knows version 1")]
    Version {
        /// The segment's file.
        file: String,
        /// The version it has.
        found: u32,
    },
    /// The checksums are right but the content contradicts itself.
    #[error("{file} contradicts itself at offset {offset}: {detail}")]
    Inconsistent {
        /// The segment's file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// How.
        detail: String,
    },
    /// A snapshot that the log begins at is missing or damaged.
    #[error("the snapshot of shard {} can't be used: {error}", shard.0)]
    Snapshot {
        /// Whose.
        shard: ShardId,
        /// Which file and why.
        error: SnapshotError,
    },
}
