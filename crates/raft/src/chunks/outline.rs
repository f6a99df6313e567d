//! Where a snapshot file is cut: what its sender knows of it.

use alloc::vec::Vec;
use core::ops::Range;

use super::crc::Running;
use super::{ChunkNumber, Crc, Manifest};
use crate::SnapshotMeta;

/// A snapshot file as its sender knows it: 4 bytes per chunk, and no bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    manifest: Manifest,
    crcs: Vec<Crc>,
}

impl Outline {
    /// What is offered.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The CRC that the chunk had when the file was made; `None` if there is no such chunk.
    pub fn crc(&self, number: ChunkNumber) -> Option<Crc> {
        self.crcs.get(number.0 as usize).copied()
    }

    /// Which bytes of the file a chunk is. Panics if there is no such chunk.
    pub(super) fn range(&self, number: ChunkNumber) -> Range<u64> {
        self.manifest.range(number).expect("only chunks of the file are sent")
    }
}

/// Sees the bytes of a snapshot file go by while it is written, or read again after a restart.
#[derive(Debug)]
pub struct Cutter {
    chunk_bytes: u32,
    crcs: Vec<Crc>,
    running: Running,
    /// How many bytes of the last chunk were seen.
    filled: u32,
    bytes: u64,
}

impl Cutter {
    /// Cuts into chunks of so many bytes. Panics if that is 0.
    pub fn new(chunk_bytes: u32) -> Self {
        assert!(chunk_bytes > 0, "a chunk has bytes");
        let (crcs, running) = (Vec::new(), Running::default());
        Self { chunk_bytes, crcs, running, filled: 0, bytes: 0 }
    }

    /// The next bytes of the file, in pieces of any size.
    pub fn take(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = (self.chunk_bytes - self.filled) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.running.take(now);
            self.filled += now.len() as u32;
            if self.filled == self.chunk_bytes {
                self.end_chunk();
            }
            bytes = later;
        }
    }

    fn end_chunk(&mut self) {
        self.crcs.push(core::mem::take(&mut self.running).crc());
        self.filled = 0;
    }

    /// That was all; the file stands for `meta`.
    pub fn finish(mut self, meta: SnapshotMeta) -> Outline {
        if self.filled > 0 {
            self.end_chunk();
        }
        let Self { chunk_bytes, crcs, bytes, .. } = self;
        let mut manifest = Manifest { meta, bytes, chunk_bytes, digest: Crc(0) };
        manifest.digest = manifest.digest_of(crcs.iter().copied());
        Outline { manifest, crcs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Configuration, Index, ReplicaId, Term};

    fn meta(index: u64) -> SnapshotMeta {
        let configuration = Configuration::of_voters([ReplicaId(1)]);
        SnapshotMeta { index: Index(index), term: Term(1), configuration }
    }

    fn outline(chunk_bytes: u32, pieces: &[&[u8]]) -> Outline {
        let mut cutter = Cutter::new(chunk_bytes);
        for piece in pieces {
            cutter.take(piece);
        }
        cutter.finish(meta(7))
    }

    #[test]
    fn pieces_do_not_show() {
        let whole = outline(4, &[b"0123456789"]);
        assert_eq!(whole, outline(4, &[b"012", b"", b"3", b"456789"]));
        assert_eq!(whole, outline(4, &[b"01", b"23456789"]));
        assert_eq!(whole.manifest().chunks(), 3);
        assert_eq!(whole.crc(ChunkNumber(0)), Some(Crc::of(b"0123")));
        assert_eq!(whole.crc(ChunkNumber(2)), Some(Crc::of(b"89")));
        assert_eq!(whole.crc(ChunkNumber(3)), None);
        assert_eq!(whole.range(ChunkNumber(2)), 8..10);
        assert_eq!(whole.manifest().range(ChunkNumber(3)), None);
    }

    #[test]
    fn a_full_last_chunk_is_the_last() {
        let full = outline(4, &[b"01234567"]);
        assert_eq!(full.manifest().chunks(), 2);
        assert_eq!(full.crc(ChunkNumber(2)), None);
        assert_eq!(full.manifest().range(ChunkNumber(2)), None);
        assert_eq!(outline(4, &[]).manifest().chunks(), 0);
    }

    #[test]
    fn the_digest_is_of_everything() {
        let known = outline(4, &[b"0123456789"]).manifest().clone();
        let others = [
            outline(4, &[b"0123456788"]),
            outline(4, &[b"012345678"]),
            outline(5, &[b"0123456789"]),
        ];
        for other in others {
            assert_ne!(other.manifest().digest, known.digest);
        }
        let cut = |meta| {
            let mut cutter = Cutter::new(4);
            cutter.take(b"0123456789");
            cutter.finish(meta).manifest().digest
        };
        assert_eq!(cut(meta(7)), known.digest);
        assert_ne!(cut(meta(8)), known.digest);
        assert_ne!(cut(SnapshotMeta { term: Term(2), ..meta(7) }), known.digest);
        let configuration = Configuration::of_voters([ReplicaId(2)]);
        assert_ne!(cut(SnapshotMeta { configuration, ..meta(7) }), known.digest);
    }
}
