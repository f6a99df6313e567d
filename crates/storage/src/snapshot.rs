//! Snapshot files: chunks that can be written as they come and read by number.
//!
//! A file is written under a `.tmp` name, synced, renamed, and its directory synced, before
//! anything names it; from then on it is never changed. Its name is used once. Its bytes are in
//! `docs/internals/storage-format.md`.
//!
//! A snapshot need not be whole in one file: a chunk whose slots have not changed since the former
//! snapshot is *kept* where it is, and the new file only names it (module `keep`). Such a file
//! names its *bases*, always the files in which the chunks lie, so there are no chains to follow.
//! Whoever reads a snapshot by [`SnapshotReader`] sees no difference.

mod copy;
mod index;
mod keep;
mod reader;
mod writer;

pub use copy::SnapshotCopy;
pub use reader::SnapshotReader;
pub use writer::SnapshotWriter;

pub(crate) use index::Chunk;

use std::sync::Arc;

use flotilla_raft::{Index, SnapshotMeta};
use flotilla_shard::ShardId;
use thiserror::Error;

use crate::disk::DiskError;
use crate::format::{FORMAT_VERSION, Put, checksum};

/// The most bytes one chunk may have.
pub const MAX_CHUNK_BYTES: usize = 64 << 20;

const MAGIC: [u8; 8] = *b"FLOTSNAP";
const END_MAGIC: [u8; 8] = *b"FLOTSEND";
const HEAD: usize = 32;
const TRAILER: usize = 36;
const CHUNK_HEAD: usize = 12;

/// The ends of the names of complete and of unfinished snapshot files.
pub(crate) const FINAL_SUFFIX: &str = ".snap";
pub(crate) const TEMPORARY_SUFFIX: &str = ".snap.tmp";

/// A complete snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Whose state it is.
    pub shard: ShardId,
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// Its final name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// CRC-64/NVMe of its header and of the list of its chunks, which has a CRC of each.
    pub digest: u64,
    /// Older files of the same shard that some of its chunks lie in.
    pub bases: Vec<Base>,
}

/// A snapshot file that a later one names chunks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What it stood for.
    pub index: Index,
    /// Its id.
    pub id: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Size of the chunks that lie in it, bytes.
    pub chunk_bytes: u64,
}

/// A complete snapshot file with the list of its chunks, by which the next one can build on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Which file it is.
    pub file: SnapshotFile,
    pub(crate) id: u64,
    pub(crate) chunks: Arc<[Chunk]>,
}

impl SnapshotFile {
    /// The name it has until it is complete and synced.
    pub fn temporary_name(&self) -> String {
        format!("{}.tmp", self.name)
    }

    /// The names of all files that it needs, its own first.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        let bases = self.bases.iter().map(|base| name_of(self.shard, base.index, base.id));
        std::iter::once(self.name.clone()).chain(bases)
    }
}

/// Why a snapshot file can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// The disk failed, or the file is not there.
    #[error("{name}: {error}")]
    Disk {
        /// The file.
        name: String,
        /// What the disk said.
        error: DiskError,
    },
    /// Another version of this program wrote it.
    #[error("{name} has format version {found}, this program knows version {FORMAT_VERSION}")]
    Version {
        /// The file.
        name: String,
        /// The version it has.
        found: u32,
    },
    /// The content is not what was written.
    #[error("{name} is damaged at offset {offset}: {detail}")]
    Damaged {
        /// The file.
        name: String,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
}

fn name_of(shard: ShardId, index: Index, id: u64) -> String {
    format!("shard-{}-{:020}-{id:016x}{FINAL_SUFFIX}", shard.0, index.0)
}

fn crc64() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme)
}

fn chunk_checksum(id: u64, number: u32, lengths: (u32, u32), stored: &[u8]) -> u32 {
    let mut head = Vec::with_capacity(24);
    head.put_u64(id);
    head.put_u32(number);
    head.put_u32(lengths.0);
    head.put_u32(lengths.1);
    head.put_u32(checksum(stored));
    checksum(&head)
}
