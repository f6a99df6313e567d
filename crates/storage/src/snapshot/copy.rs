//! A copy of a snapshot that needs no other file, for a backup.

use std::sync::Arc;

use super::index::{Chunk, Footer};
use super::writer::header;
use super::{CHUNK_HEAD, SnapshotError, SnapshotReader, TRAILER, chunk_checksum};
use crate::disk::Disk;
use crate::format::Put;

/// Gives out the bytes of such a copy, piece by piece; their number is known before.
#[derive(Debug)]
pub struct SnapshotCopy {
    reader: SnapshotReader,
    header: Vec<u8>,
    chunks: Vec<Chunk>,
    bytes: u64,
    is_complete: bool,
}

impl SnapshotCopy {
    /// A copy of this snapshot, whose files must stay meanwhile ([`crate::Log::hold_snapshot`]).
    pub fn new(reader: SnapshotReader) -> Self {
        let stored = reader.stored();
        let header = header(stored.file.shard, &stored.file.meta, stored.id);
        Self { reader, header, chunks: Vec::new(), bytes: 0, is_complete: false }
    }

    /// The size of the copy in bytes.
    pub fn size(&self) -> u64 {
        let chunks = &self.reader.stored().chunks;
        let footer = chunks.len() as u64 * Chunk::ENTRY_BYTES + TRAILER as u64;
        self.header.len() as u64 + chunks.iter().map(Chunk::bytes).sum::<u64>() + footer
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// A chunk can't be read, or is damaged.
    pub fn next(&mut self, disk: &mut dyn Disk) -> Result<Option<Vec<u8>>, SnapshotError> {
        if self.is_complete {
            return Ok(None);
        }
        let mut out = if self.bytes == 0 { self.header.clone() } else { Vec::new() };
        let chunks = Arc::clone(&self.reader.stored().chunks);
        if let Some(chunk) = chunks.get(self.chunks.len()) {
            let stored = self.reader.read_stored(disk, chunk)?;
            let number = self.chunks.len() as u32;
            let offset = self.bytes + out.len() as u64;
            out.put(&stored[..8]);
            let id = self.reader.stored().id;
            out.put_u32(chunk_checksum(id, number, chunk.lengths, &stored[CHUNK_HEAD..]));
            out.put(&stored[CHUNK_HEAD..]);
            self.chunks.push(Chunk { file: 0, number, offset, ..*chunk });
        } else {
            let id = self.reader.stored().id;
            out.put(&Footer::encode(&self.header, id, &[], &self.chunks).0);
            self.is_complete = true;
        }
        self.bytes += out.len() as u64;
        Ok(Some(out))
    }
}
