//! The list of a snapshot's chunks: where each lies, and how it is known again.

use flotilla_raft::Index;
use flotilla_shard::Slot;

use super::{Base, CHUNK_HEAD, END_MAGIC, MAX_CHUNK_BYTES, TRAILER, crc64};
use crate::format::{Put, Take, checksum};

/// The first slot of a chunk that has no keys; its last one is 0.
const NO_SLOTS: u16 = u16::MAX;

/// A chunk of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// 0: it lies in the snapshot's own file; else in the base of that number, from 1.
    pub(super) file: u16,
    /// The first and the last slot that it has keys of, if it has keys.
    pub(super) slots: Option<(Slot, Slot)>,
    /// Which one it is of those that lie in that file, from 0.
    pub(super) number: u32,
    /// Where it begins in that file, bytes.
    pub(super) offset: u64,
    /// Length of its content and of what is stored, bytes.
    pub(super) lengths: (u32, u32),
    /// CRC-64/NVMe of what is stored.
    pub(super) crc: u64,
}

impl Chunk {
    /// Size of its entry in the footer, bytes.
    pub(super) const ENTRY_BYTES: u64 = 34;

    /// What it takes in its file, bytes.
    pub(super) fn bytes(&self) -> u64 {
        CHUNK_HEAD as u64 + u64::from(self.lengths.1)
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (first, last) = self.slots.map_or((NO_SLOTS, 0), |(first, last)| (first.0, last.0));
        for field in [self.file, first, last] {
            out.put_u16(field);
        }
        out.put_u32(self.number);
        out.put_u64(self.offset);
        out.put_u32(self.lengths.0);
        out.put_u32(self.lengths.1);
        out.put_u64(self.crc);
    }

    fn take(take: &mut Take<'_>) -> Option<Self> {
        let (file, first, last) = (take.u16()?, take.u16()?, take.u16()?);
        let slots = (first <= last).then_some((Slot(first), Slot(last)));
        let (number, offset) = (take.u32()?, take.u64()?);
        let lengths = (take.u32()?, take.u32()?);
        Some(Self { file, slots, number, offset, lengths, crc: take.u64()? })
    }
}

impl Base {
    /// Size of what [`Base::put`] puts.
    pub(crate) const BYTES: usize = 32;

    /// Puts it, [`Base::BYTES`] bytes.
    pub(crate) fn put(&self, out: &mut impl Put) {
        out.put_u64(self.index.0);
        out.put_u64(self.id);
        out.put_u64(self.bytes);
        out.put_u64(self.chunk_bytes);
    }

    /// Reads what [`Base::put`] put.
    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        let (index, id) = (Index(take.u64()?), take.u64()?);
        Some(Self { index, id, bytes: take.u64()?, chunk_bytes: take.u64()? })
    }
}

/// What stands behind the chunks in a file.
pub(super) struct Footer {
    pub(super) bases: Vec<Base>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) digest: u64,
}

/// The lengths that the trailer names.
pub(super) struct Counts {
    pub(super) chunks: u32,
    pub(super) bases: u32,
}

impl Counts {
    /// Size of the footer, bytes.
    pub(super) fn footer_bytes(&self) -> u64 {
        u64::from(self.bases) * Base::BYTES as u64 + u64::from(self.chunks) * Chunk::ENTRY_BYTES
    }

    /// Reads the trailer; the second value is the file's id.
    pub(super) fn take(trailer: &[u8]) -> Option<(Self, u64)> {
        let mut take = Take(trailer);
        let counts = Self { chunks: take.u32()?, bases: take.u32()? };
        let (_digest, id) = (take.u64()?, take.u64()?);
        take.u32()?;
        (take.bytes(8)? == END_MAGIC).then_some((counts, id))
    }
}

impl Footer {
    /// Footer and trailer of a file with this header; gives the digest as well.
    pub(super) fn encode(
        header: &[u8],
        id: u64,
        bases: &[Base],
        chunks: &[Chunk],
    ) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(chunks.len() * Chunk::ENTRY_BYTES as usize + TRAILER);
        for base in bases {
            base.put(&mut out);
        }
        for chunk in chunks {
            chunk.put(&mut out);
        }
        let digest = digest_of(header, &out);
        out.put_u32(u32::try_from(chunks.len()).expect("a snapshot has fewer than 2^32 chunks"));
        out.put_u32(u32::try_from(bases.len()).expect("a snapshot has few bases"));
        out.put_u64(digest);
        out.put_u64(id);
        let crc = checksum(&out);
        out.put_u32(crc);
        out.put(&END_MAGIC);
        (out, digest)
    }

    /// Reads footer and trailer, whose checksum and digest must be right.
    pub(super) fn decode(header: &[u8], counts: &Counts, bytes: &[u8]) -> Option<Self> {
        let (footer, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER)?)?;
        let covered = bytes.len() - 12;
        let digest = Take(&trailer[8..]).u64()?;
        let crc = Take(&trailer[24..]).u32()?;
        if crc != checksum(&bytes[..covered]) || digest != digest_of(header, footer) {
            return None;
        }
        let mut take = Take(footer);
        let bases = (0..counts.bases).map(|_| Base::take(&mut take)).collect::<Option<Vec<_>>>()?;
        let chunks =
            (0..counts.chunks).map(|_| Chunk::take(&mut take)).collect::<Option<Vec<_>>>()?;
        take.is_empty().then_some(Self { bases, chunks, digest })
    }

    /// Whether all chunks lie where chunks can lie: own ones one behind the other, from the end of
    /// the header to the footer.
    pub(super) fn is_possible(&self, header_end: u64, footer_at: u64) -> bool {
        let (mut at, mut number) = (header_end, 0);
        for chunk in &self.chunks {
            if chunk.lengths.1 > chunk.lengths.0 || chunk.lengths.0 > MAX_CHUNK_BYTES as u32 {
                return false;
            }
            if chunk.file > 0 {
                let base = self.bases.get(usize::from(chunk.file) - 1);
                let end = chunk.offset.checked_add(chunk.bytes());
                if end.is_none_or(|end| base.is_none_or(|base| end > base.bytes)) {
                    return false;
                }
                continue;
            }
            if (chunk.offset, chunk.number) != (at, number) {
                return false;
            }
            at += chunk.bytes();
            number += 1;
        }
        at == footer_at
    }
}

fn digest_of(header: &[u8], list: &[u8]) -> u64 {
    let mut digest = crc64();
    digest.update(header);
    digest.update(list);
    digest.finalize()
}
