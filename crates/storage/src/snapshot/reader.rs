//! Reading a snapshot, wherever its chunks lie.

use flotilla_raft::{Index, SnapshotMeta};
use flotilla_shard::{ShardId, Slot};

use super::index::{Chunk, Counts, Footer};
use super::{
    Base, CHUNK_HEAD, HEAD, MAGIC, SnapshotError, SnapshotFile, StoredSnapshot, TRAILER,
    chunk_checksum, crc64, name_of,
};
use crate::disk::Disk;
use crate::format::{FORMAT_VERSION, Take, checksum, take_meta};

/// Reads the chunks of a snapshot, in any order.
#[derive(Clone, Debug)]
pub struct SnapshotReader {
    stored: StoredSnapshot,
    /// Names and ids of the files that chunks lie in, by the number in their entries.
    files: Vec<(String, u64)>,
}

impl SnapshotReader {
    /// Opens a complete file and checks everything but the chunks.
    pub fn open(disk: &mut dyn Disk, name: &str) -> Result<(SnapshotMeta, Self), SnapshotError> {
        let stored = Source { disk, name }.open()?;
        let file = &stored.file;
        let mut files = vec![(name.to_string(), stored.id)];
        for base in &file.bases {
            let name = name_of(file.shard, base.index, base.id);
            Source { disk, name: &name }.check_base(file.shard, base)?;
            files.push((name, base.id));
        }
        Ok((stored.file.meta.clone(), Self { stored, files }))
    }

    /// Opens the file that a log names, and no other.
    pub fn open_file(disk: &mut dyn Disk, file: &SnapshotFile) -> Result<Self, SnapshotError> {
        let (_, reader) = Self::open(disk, &file.name)?;
        if reader.stored.file == *file { Ok(reader) } else { Err(reader.is_not(file)) }
    }

    /// The content of chunk `number`, from 0; `None` after the last.
    pub fn read(&self, disk: &mut dyn Disk, number: u32) -> Result<Option<Vec<u8>>, SnapshotError> {
        let Some(chunk) = self.stored.chunks.get(number as usize) else { return Ok(None) };
        let bytes = self.read_stored(disk, chunk)?;
        let content = content_of(&bytes, chunk).ok_or_else(|| self.flaw(disk, chunk));
        content.map(Some)
    }

    /// A chunk as it is stored, with its head; its checksums are right.
    pub(super) fn read_stored(
        &self,
        disk: &mut dyn Disk,
        chunk: &Chunk,
    ) -> Result<Vec<u8>, SnapshotError> {
        let (name, id) = &self.files[usize::from(chunk.file)];
        let bytes = Source { disk, name }.read(chunk.offset, chunk.bytes())?;
        if is_whole(&bytes, *id, chunk) { Ok(bytes) } else { Err(self.flaw(disk, chunk)) }
    }

    fn flaw(&self, disk: &mut dyn Disk, chunk: &Chunk) -> SnapshotError {
        let (name, _) = &self.files[usize::from(chunk.file)];
        let detail = format!("chunk {} fails its checksum", chunk.number);
        Source { disk, name }.damaged(chunk.offset, &detail)
    }

    /// Reads all chunks; an error says what is damaged. The digest of the whole was checked when
    /// the file was opened: it is of the CRCs of the chunks.
    pub fn verify(&self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        (0..self.chunks()).try_for_each(|number| self.read(disk, number).map(drop))
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        self.stored.chunks.len() as u32
    }

    /// The first and the last slot of which chunk `number` has keys, if it has keys.
    pub fn slots(&self, number: u32) -> Option<(Slot, Slot)> {
        self.stored.chunks.get(number as usize)?.slots
    }

    /// Whose state it is.
    pub fn shard(&self) -> ShardId {
        self.stored.file.shard
    }

    /// The index that it stands for.
    pub fn index(&self) -> Index {
        self.stored.file.meta.index
    }

    /// Which file this is.
    pub fn file(&self) -> SnapshotFile {
        self.stored.file.clone()
    }

    /// The digest of the whole: two files of one digest have the same chunks.
    pub fn digest(&self) -> u64 {
        self.stored.file.digest
    }

    /// The file with the list of its chunks, as [`super::SnapshotWriter::finish`] gave it.
    pub fn stored(&self) -> &StoredSnapshot {
        &self.stored
    }

    /// The error that this is not the file that the log names.
    pub(crate) fn is_not(&self, file: &SnapshotFile) -> SnapshotError {
        let found = &self.stored.file;
        let detail = format!(
            "the log names one of index {}, {} bytes, digest {:016x}; this is of index {}, {} \
             bytes, digest {:016x}",
            file.meta.index, file.bytes, file.digest, found.meta.index, found.bytes, found.digest
        );
        SnapshotError::Damaged { name: found.name.clone(), offset: 0, detail }
    }
}

/// Whether a stored chunk's checksums are right.
fn is_whole(bytes: &[u8], id: u64, chunk: &Chunk) -> bool {
    let Some((head, stored)) = bytes.split_at_checked(CHUNK_HEAD) else { return false };
    let mut take = Take(head);
    let lengths = take.u32().zip(take.u32());
    let mut crc = crc64();
    crc.update(stored);
    lengths == Some(chunk.lengths)
        && take.u32() == Some(chunk_checksum(id, chunk.number, chunk.lengths, stored))
        && crc.finalize() == chunk.crc
}

/// The content of a stored chunk, if it can be had.
fn content_of(bytes: &[u8], chunk: &Chunk) -> Option<Vec<u8>> {
    let stored = &bytes[CHUNK_HEAD..];
    if chunk.lengths.0 == chunk.lengths.1 {
        return Some(stored.to_vec());
    }
    lz4_flex::decompress(stored, chunk.lengths.0 as usize).ok()
}

/// A file being opened.
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

    fn size(&mut self) -> Result<u64, SnapshotError> {
        let name = self.name.to_string();
        self.disk.size(self.name).map_err(|error| SnapshotError::Disk { name, error })
    }

    fn open(mut self) -> Result<StoredSnapshot, SnapshotError> {
        let bytes = self.size()?;
        self.check_version(bytes)?;
        let trailer_at = bytes
            .checked_sub(TRAILER as u64)
            .filter(|&at| at >= HEAD as u64)
            .ok_or_else(|| self.damaged(bytes, "it is too short for a snapshot"))?;
        let trailer = self.read(trailer_at, TRAILER as u64)?;
        let (counts, id) = Counts::take(&trailer)
            .ok_or_else(|| self.damaged(trailer_at, "the trailer can't be read"))?;
        let footer_at = trailer_at
            .checked_sub(counts.footer_bytes())
            .filter(|&at| at >= HEAD as u64)
            .ok_or_else(|| self.damaged(trailer_at, "the number of chunks is impossible"))?;
        let (shard, meta, header) = self.read_header(id, footer_at)?;
        let footer = self.read(footer_at, bytes - footer_at)?;
        let footer = Footer::decode(&header, &counts, &footer)
            .ok_or_else(|| self.damaged(footer_at, "the footer fails its checksum"))?;
        if !footer.is_possible(header.len() as u64, footer_at) {
            return Err(self.damaged(footer_at, "the chunks' places are impossible"));
        }
        let Footer { bases, chunks, digest } = footer;
        let name = self.name.to_string();
        let file = SnapshotFile { shard, meta, name, bytes, digest, bases };
        Ok(StoredSnapshot { file, id, chunks: chunks.into() })
    }

    /// Whether this is the file that another one names as its base.
    fn check_base(mut self, shard: ShardId, base: &Base) -> Result<(), SnapshotError> {
        let bytes = self.size()?;
        self.check_version(bytes)?;
        let (found, meta, _) = self.read_header(base.id, bytes)?;
        let same = (found, meta.index, bytes) == (shard, base.index, base.bytes);
        if same { Ok(()) } else { Err(self.damaged(0, "it is not the base that another names")) }
    }

    /// Shard and meta, and the bytes of the header.
    fn read_header(
        &mut self,
        id: u64,
        limit: u64,
    ) -> Result<(ShardId, SnapshotMeta, Vec<u8>), SnapshotError> {
        let mut head = self.read(0, (HEAD as u64).min(limit))?;
        let unreadable = self.damaged(0, "the header can't be read");
        let length = head.get(28..).and_then(|rest| Take(rest).u32()).map(u64::from);
        let Some(length) = length.filter(|length| HEAD as u64 + length <= limit) else {
            return Err(unreadable);
        };
        head.extend(self.read(HEAD as u64, length)?);
        read_header_fields(&head, id).map(|(shard, meta)| (shard, meta, head)).ok_or(unreadable)
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

fn read_header_fields(header: &[u8], id: u64) -> Option<(ShardId, SnapshotMeta)> {
    let mut take = Take(header);
    let magic = take.bytes(8)? == MAGIC && take.u32()? == FORMAT_VERSION;
    let covered = [&header[8..12], &header[16..]].concat();
    if !magic || take.u32()? != checksum(&covered) {
        return None;
    }
    if take.u64()? != id {
        return None;
    }
    let shard = ShardId(take.u32()?);
    take.u32()?;
    let meta = take_meta(&mut take)?;
    take.is_empty().then_some((shard, meta))
}
