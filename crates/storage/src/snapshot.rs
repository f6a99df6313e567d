//! Snapshot files: chunks that can be written as they come and read by number.
//!
//! A file is written under a `.tmp` name, synced, renamed, and its directory synced, before
//! anything names it; from then on it is never changed. Its name is used once. Its bytes are in
//! `docs/internals/storage-format.md`.

use flotilla_raft::{Index, SnapshotMeta};
use flotilla_shard::ShardId;
use thiserror::Error;

use crate::disk::{Disk, DiskError};
use crate::format::{FORMAT_VERSION, Put, Take, checksum, put_meta, take_meta};

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
    /// CRC-64/NVMe of header and chunks.
    pub digest: u64,
}

impl SnapshotFile {
    /// The name it has until it is complete and synced.
    pub fn temporary_name(&self) -> String {
        format!("{}.tmp", self.name)
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

/// Encodes one snapshot file, piece by piece. The driver appends each piece to the file.
#[derive(Debug)]
pub struct SnapshotWriter {
    shard: ShardId,
    meta: SnapshotMeta,
    id: u64,
    name: String,
    offsets: Vec<u64>,
    bytes: u64,
    digest: crc_fast::Digest,
}

impl SnapshotWriter {
    /// Begins a file; `id` must never have been used in this directory. The second value is the
    /// temporary name to write it under. [`crate::Log::snapshot_writer`] chooses the id.
    pub fn new(shard: ShardId, meta: SnapshotMeta, id: u64) -> (Self, String) {
        let name = format!("shard-{}-{:020}-{id:016x}{FINAL_SUFFIX}", shard.0, meta.index.0);
        let temporary = format!("{name}.tmp");
        let digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        let offsets = Vec::new();
        (Self { shard, meta, id, name, offsets, bytes: 0, digest }, temporary)
    }

    /// The bytes to append for the next chunk, at most [`MAX_CHUNK_BYTES`] of content.
    pub fn chunk(&mut self, content: &[u8]) -> Vec<u8> {
        assert!(content.len() <= MAX_CHUNK_BYTES, "a chunk is bounded");
        let mut out = self.header_if_first();
        let number = u32::try_from(self.offsets.len()).expect("a file has fewer than 2^32 chunks");
        self.offsets.push(self.bytes + out.len() as u64);
        let packed = lz4_flex::compress(content);
        let stored = if packed.len() < content.len() { &packed[..] } else { content };
        let lengths = (content.len() as u32, stored.len() as u32);
        out.put_u32(lengths.0);
        out.put_u32(lengths.1);
        out.put_u32(chunk_checksum(self.id, number, lengths, stored));
        out.put(stored);
        self.account(&out);
        out
    }

    /// The last bytes to append, and what the file then is.
    pub fn finish(mut self) -> (Vec<u8>, SnapshotFile) {
        let mut out = self.header_if_first();
        self.account(&out);
        let digest = self.digest.finalize();
        let mut footer = Vec::with_capacity(self.offsets.len() * 8 + TRAILER);
        for offset in &self.offsets {
            footer.put_u64(*offset);
        }
        footer.put_u64(self.offsets.len() as u64);
        footer.put_u64(digest);
        footer.put_u64(self.id);
        let crc = checksum(&footer);
        footer.put_u32(crc);
        footer.put(&END_MAGIC);
        let bytes = self.bytes + footer.len() as u64;
        out.put(&footer);
        let Self { shard, meta, name, .. } = self;
        (out, SnapshotFile { shard, meta, name, bytes, digest })
    }

    /// Content in the file so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn header_if_first(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.bytes == 0 {
            let mut rest = Vec::new();
            put_meta(&mut rest, &self.meta);
            let mut covered = Vec::new();
            covered.put_u32(FORMAT_VERSION);
            covered.put_u64(self.id);
            covered.put_u32(self.shard.0);
            covered.put_u32(u32::try_from(rest.len()).expect("a configuration is small"));
            covered.put(&rest);
            out.put(&MAGIC);
            out.put_u32(FORMAT_VERSION);
            out.put_u32(checksum(&covered));
            out.put(&covered[4..]);
        }
        out
    }

    fn account(&mut self, out: &[u8]) {
        self.digest.update(out);
        self.bytes += out.len() as u64;
    }
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

/// Reads the chunks of a snapshot file, in any order.
#[derive(Clone, Debug)]
pub struct SnapshotReader {
    name: String,
    shard: ShardId,
    meta: SnapshotMeta,
    id: u64,
    /// The offset of each chunk, and of the footer.
    offsets: Vec<u64>,
    bytes: u64,
    digest: u64,
}

impl SnapshotReader {
    /// Opens a complete file and checks everything but the chunks.
    pub fn open(disk: &mut dyn Disk, name: &str) -> Result<(SnapshotMeta, Self), SnapshotError> {
        let source = Source { disk, name };
        let reader = source.open()?;
        Ok((reader.meta.clone(), reader))
    }

    /// The content of chunk `number`, from 0; `None` after the last.
    pub fn read(&self, disk: &mut dyn Disk, number: u32) -> Result<Option<Vec<u8>>, SnapshotError> {
        let at = number as usize;
        if at + 1 >= self.offsets.len() {
            return Ok(None);
        }
        let (start, end) = (self.offsets[at], self.offsets[at + 1]);
        let mut source = Source { disk, name: &self.name };
        let bytes = source.read(start, end - start)?;
        match unpack(&bytes, self.id, number) {
            Some(content) => Ok(Some(content)),
            None => Err(source.damaged(start, &format!("chunk {number} fails its checksum"))),
        }
    }

    /// Reads all chunks and the digest; an error says what is damaged.
    pub fn verify(&self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        let mut source = Source { disk, name: &self.name };
        digest.update(&source.read(0, self.offsets[0])?);
        for (number, ends) in self.offsets.windows(2).enumerate() {
            let bytes = source.read(ends[0], ends[1] - ends[0])?;
            if unpack(&bytes, self.id, number as u32).is_none() {
                let detail = format!("chunk {number} fails its checksum");
                return Err(source.damaged(ends[0], &detail));
            }
            digest.update(&bytes);
        }
        if digest.finalize() != self.digest {
            return Err(source.damaged(0, "the content does not have the digest of the footer"));
        }
        Ok(())
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        (self.offsets.len() - 1) as u32
    }

    /// Whose state it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Which file this is, as [`SnapshotWriter::finish`] said.
    pub fn file(&self) -> SnapshotFile {
        SnapshotFile {
            shard: self.shard,
            meta: self.meta.clone(),
            name: self.name.clone(),
            bytes: self.bytes,
            digest: self.digest,
        }
    }

    /// The error that this is not the file that the log names.
    pub(crate) fn is_not(&self, file: &SnapshotFile) -> SnapshotError {
        let detail = format!(
            "the log names one of index {}, {} bytes, digest {:016x}; this is of \
            index {}, {} bytes, digest {:016x}",
            file.meta.index, file.bytes, file.digest, self.meta.index, self.bytes, self.digest
        );
        SnapshotError::Damaged { name: self.name.clone(), offset: 0, detail }
    }

    /// What it stands for up to.
    pub fn index(&self) -> Index {
        self.meta.index
    }
}

fn unpack(bytes: &[u8], id: u64, number: u32) -> Option<Vec<u8>> {
    let mut take = Take(bytes);
    let (raw, stored, crc) = (take.u32()?, take.u32()?, take.u32()?);
    let packed = take.bytes(stored as usize)?;
    let right = chunk_checksum(id, number, (raw, stored), packed) == crc;
    if !right || !take.is_empty() || raw as usize > MAX_CHUNK_BYTES {
        return None;
    }
    if raw == stored {
        return Some(packed.to_vec());
    }
    let content = lz4_flex::decompress(packed, raw as usize).ok()?;
    (content.len() == raw as usize).then_some(content)
}

/// A file being read, for errors that name it.
struct Source<'a> {
    disk: &'a mut dyn Disk,
    name: &'a str,
}

impl Source<'_> {
    fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, SnapshotError> {
        let length = usize::try_from(length).map_err(|_| self.damaged(offset, "too long"))?;
        let read = self.disk.read(self.name, offset, length);
        read.map_err(|error| SnapshotError::Disk { name: self.name.to_string(), error })
    }

    fn damaged(&self, offset: u64, detail: &str) -> SnapshotError {
        let (name, detail) = (self.name.to_string(), detail.to_string());
        SnapshotError::Damaged { name, offset, detail }
    }

    fn open(mut self) -> Result<SnapshotReader, SnapshotError> {
        let name = self.name.to_string();
        let bytes =
            self.disk.size(self.name).map_err(|error| SnapshotError::Disk { name, error })?;
        self.check_version(bytes)?;
        let trailer_at = bytes
            .checked_sub(TRAILER as u64)
            .filter(|&at| at >= HEAD as u64)
            .ok_or_else(|| self.damaged(bytes, "it is too short for a snapshot"))?;
        let trailer = self.read(trailer_at, TRAILER as u64)?;
        let (count, digest, id) = read_trailer(&trailer)
            .ok_or_else(|| self.damaged(trailer_at, "the trailer can't be read"))?;
        let footer_at = count
            .checked_mul(8)
            .and_then(|length| trailer_at.checked_sub(length))
            .filter(|&at| at >= HEAD as u64)
            .ok_or_else(|| self.damaged(trailer_at, "the number of chunks is impossible"))?;
        let mut footer = self.read(footer_at, trailer_at - footer_at)?;
        footer.extend_from_slice(&trailer[..24]);
        if trailer[24..28] != checksum(&footer).to_le_bytes() {
            return Err(self.damaged(footer_at, "the footer fails its checksum"));
        }
        let mut take = Take(&footer);
        let mut offsets: Vec<u64> = (0..count).filter_map(|_| take.u64()).collect();
        offsets.push(footer_at);
        let head = self.read(0, HEAD as u64)?;
        let (shard, meta, head_length) = self.read_head(&head, id, offsets[0])?;
        let room =
            |ends: &[u64]| ends[0].checked_add(CHUNK_HEAD as u64).is_some_and(|end| ends[1] >= end);
        let rising = offsets.windows(2).all(room);
        if offsets[0] != head_length || !rising {
            return Err(self.damaged(footer_at, "the chunks' offsets are impossible"));
        }
        let name = self.name.to_string();
        Ok(SnapshotReader { name, shard, meta, id, offsets, bytes, digest })
    }

    fn read_head(
        &mut self,
        head: &[u8],
        id: u64,
        limit: u64,
    ) -> Result<(ShardId, SnapshotMeta, u64), SnapshotError> {
        let length = Take(&head[28..]).u32().map_or(0, u64::from);
        let end = HEAD as u64 + length;
        let unreadable = self.damaged(0, "the header can't be read");
        if end > limit {
            return Err(unreadable);
        }
        let mut covered = [&head[8..12], &head[16..]].concat();
        covered.extend(self.read(HEAD as u64, length)?);
        read_head_fields(head, &covered, id)
            .map(|(shard, meta)| (shard, meta, end))
            .ok_or(unreadable)
    }

    /// Another version's file is not taken for a damaged one: in all versions the header has magic,
    /// version, checksum and length at these places. Version 1 left the version unchecked.
    fn check_version(&mut self, bytes: u64) -> Result<(), SnapshotError> {
        let Ok(head) = self.read(0, (HEAD as u64).min(bytes)) else { return Ok(()) };
        let mut take = Take(&head);
        let magic = take.bytes(8) == Some(&MAGIC);
        let (Some(found), Some(crc), Some(length)) =
            (take.u32(), take.u32(), head.get(28..).and_then(|rest| Take(rest).u32()))
        else {
            return Ok(());
        };
        let length = u64::from(length);
        if !magic || found == FORMAT_VERSION || HEAD as u64 + length > bytes {
            return Ok(());
        }
        let rest = self.read(HEAD as u64, length).unwrap_or_default();
        let covered = [&head[8..12], &head[16..], &rest[..]].concat();
        if crc == checksum(&covered) || crc == checksum(&covered[4..]) {
            return Err(SnapshotError::Version { name: self.name.to_string(), found });
        }
        Ok(())
    }
}

fn read_trailer(trailer: &[u8]) -> Option<(u64, u64, u64)> {
    let mut take = Take(trailer);
    let fields = (take.u64()?, take.u64()?, take.u64()?);
    take.u32()?;
    (take.bytes(8)? == END_MAGIC).then_some(fields)
}

fn read_head_fields(head: &[u8], covered: &[u8], id: u64) -> Option<(ShardId, SnapshotMeta)> {
    let mut take = Take(head);
    let magic = take.bytes(8)? == MAGIC && take.u32()? == FORMAT_VERSION;
    if !magic || take.u32()? != checksum(covered) {
        return None;
    }
    let mut take = Take(&covered[4..]);
    if take.u64()? != id {
        return None;
    }
    let shard = ShardId(take.u32()?);
    take.u32()?;
    let meta = take_meta(&mut take)?;
    take.is_empty().then_some((shard, meta))
}
