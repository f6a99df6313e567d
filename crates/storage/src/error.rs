//! Why a log can't be used.

use std::fmt;

use flotilla_shard::ShardId;
use thiserror::Error;

use crate::disk::DiskError;
use crate::format::FORMAT_VERSION;

/// Frames that were acknowledged and can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFrame {
    /// The segment's file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The frame's sequence; of several, the first.
    pub sequence: u64,
    /// The shards it had records of; `None` if no copy of its table can be read: then it may be
    /// any shard of the lane.
    pub shards: Option<Vec<ShardId>>,
    /// What is wrong, and which entries of which shards it holds.
    pub detail: String,
}

impl fmt::Display for DamagedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, sequence, shards, detail } = self;
        write!(f, "{file} is damaged at offset {offset} (frame {sequence}), ")?;
        match shards {
            None => write!(f, "which may concern every shard of this lane: {detail}"),
            Some(shards) if shards.is_empty() => write!(f, "which concerns no shard: {detail}"),
            Some(shards) => {
                let names: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
                write!(f, "which concerns shard {}: {detail}", names.join(", "))
            }
        }
    }
}

/// Why recovery refused a log as a whole. The node must not start: it may have forgotten promises.
/// What is damaged in part is no error: [`crate::RecoveredLane`] says what is lost.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecoverError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There was a log, and nothing of it can be read.
    #[error("nothing is left of the log: {0}")]
    Unreadable(String),
    /// There are snapshots but no log that names them.
    #[error("the log is missing: there are snapshots ({snapshot}) but no segment that names them")]
    MissingLog {
        /// The file name of one of them.
        snapshot: String,
    },
    /// A segment or a snapshot was written by another version of this program.
    #[error("{file} has format version {found}, this program knows version {FORMAT_VERSION}")]
    Version {
        /// The file.
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
}
