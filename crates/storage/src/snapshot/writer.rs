//! Writing a snapshot file.

use flotilla_raft::SnapshotMeta;
use flotilla_shard::{ShardId, Slot};

use super::index::{Chunk, Footer};
use super::keep::Kept;
use super::{MAGIC, MAX_CHUNK_BYTES, SnapshotFile, StoredSnapshot, chunk_checksum, crc64, name_of};
use crate::format::{FORMAT_VERSION, Put, checksum, put_meta};

/// Encodes one snapshot file, piece by piece. The driver appends each piece to the file.
#[derive(Debug)]
pub struct SnapshotWriter {
    shard: ShardId,
    meta: SnapshotMeta,
    id: u64,
    name: String,
    header: Vec<u8>,
    /// Chunks of the former snapshot that are still to take their places, the first one last.
    waiting: Kept,
    chunks: Vec<Chunk>,
    /// How many of the chunks lie in this file.
    own: u32,
    bytes: u64,
}

impl SnapshotWriter {
    /// Begins a file; `id` must never have been used in this directory. The second value is the
    /// temporary name to write it under. [`crate::Log::snapshot_writer`] chooses the id.
    pub fn new(shard: ShardId, meta: SnapshotMeta, id: u64) -> (Self, String) {
        let name = name_of(shard, meta.index, id);
        let temporary = format!("{name}.tmp");
        let header = header(shard, &meta, id);
        let (waiting, chunks) = (Kept::default(), Vec::new());
        let writer = Self { shard, meta, id, name, header, waiting, chunks, own: 0, bytes: 0 };
        (writer, temporary)
    }

    /// Builds on the former snapshot of the shard, as far as slots are `unchanged` since (ranges,
    /// ascending, both ends included). Gives back the slots that must not be written, as ranges.
    /// Comes before the first chunk.
    pub fn build_on(
        &mut self,
        former: &StoredSnapshot,
        unchanged: &[(Slot, Slot)],
    ) -> Vec<(Slot, Slot)> {
        assert!(self.chunks.is_empty(), "what is kept is chosen before anything is written");
        assert_eq!(self.shard, former.file.shard, "a snapshot builds on one of its own shard");
        self.waiting = Kept::choose(former, unchanged);
        let kept = self.waiting.slots();
        self.waiting.chunks.reverse();
        kept
    }

    /// The bytes to append for the next chunk, at most [`MAX_CHUNK_BYTES`] of content. It has keys
    /// of these slots, or of none; chunks with keys come in the order of their slots, and none has
    /// keys on both sides of a slot that is kept. After them comes one chunk without keys.
    pub fn chunk(&mut self, content: &[u8], slots: Option<(Slot, Slot)>) -> Vec<u8> {
        assert!(content.len() <= MAX_CHUNK_BYTES, "a chunk is bounded");
        if let Some((first, _)) = slots {
            self.place_kept_below(first);
        }
        let mut out = self.header_if_first();
        let packed = lz4_flex::compress(content);
        let stored = if packed.len() < content.len() { &packed[..] } else { content };
        let lengths = (content.len() as u32, stored.len() as u32);
        let (number, offset) = (self.own, self.bytes + out.len() as u64);
        out.put_u32(lengths.0);
        out.put_u32(lengths.1);
        out.put_u32(chunk_checksum(self.id, number, lengths, stored));
        out.put(stored);
        let mut crc = crc64();
        crc.update(stored);
        let crc = crc.finalize();
        self.chunks.push(Chunk { file: 0, slots, number, offset, lengths, crc });
        self.own = number.checked_add(1).expect("a file has fewer than 2^32 chunks");
        self.bytes += out.len() as u64;
        out
    }

    /// The last bytes to append, and what the file then is.
    pub fn finish(mut self) -> (Vec<u8>, StoredSnapshot) {
        let mut out = self.header_if_first();
        self.place_all_kept();
        self.bytes += out.len() as u64;
        let bases = std::mem::take(&mut self.waiting.bases);
        let (footer, digest) = Footer::encode(&self.header, self.id, &bases, &self.chunks);
        let bytes = self.bytes + footer.len() as u64;
        out.put(&footer);
        let Self { shard, meta, id, name, chunks, .. } = self;
        let file = SnapshotFile { shard, meta, name, bytes, digest, bases };
        (out, StoredSnapshot { file, id, chunks: chunks.into() })
    }

    /// Bytes in the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn place_kept_below(&mut self, slot: Slot) {
        let lies_below = |chunk: &mut Chunk| chunk.slots.is_some_and(|(_, last)| last < slot);
        while let Some(chunk) = self.waiting.chunks.pop_if(lies_below) {
            self.chunks.push(chunk);
        }
    }

    /// What is left of the kept chunks goes between the last one with keys and the one behind it.
    fn place_all_kept(&mut self) {
        let behind = self.chunks.pop_if(|chunk| chunk.slots.is_none());
        self.chunks.extend(self.waiting.chunks.drain(..).rev());
        self.chunks.extend(behind);
    }

    fn header_if_first(&self) -> Vec<u8> {
        if self.bytes == 0 { self.header.clone() } else { Vec::new() }
    }
}

/// The header of a file.
pub(super) fn header(shard: ShardId, meta: &SnapshotMeta, id: u64) -> Vec<u8> {
    let mut rest = Vec::new();
    put_meta(&mut rest, meta);
    let mut covered = Vec::new();
    covered.put_u32(FORMAT_VERSION);
    covered.put_u64(id);
    covered.put_u32(shard.0);
    covered.put_u32(u32::try_from(rest.len()).expect("a configuration is small"));
    covered.put(&rest);
    let mut out = Vec::new();
    out.put(&MAGIC);
    out.put_u32(FORMAT_VERSION);
    out.put_u32(checksum(&covered));
    out.put(&covered[4..]);
    out
}
