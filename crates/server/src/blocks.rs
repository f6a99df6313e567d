//! Memory at a block boundary, as `O_DIRECT` wants it, without `unsafe`: a longer vector, used
//! from its first boundary on. It never grows, so the boundary stays where it is.

use std::ops::{Deref, DerefMut};

use flotilla_storage::BLOCK;

/// Bytes that start at a multiple of [`BLOCK`] in memory.
#[derive(Debug)]
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Blocks {
    /// So many zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        assert!(start <= BLOCK, "bytes can be aligned to any boundary");
        Self { bytes, start, length }
    }
}

impl Blocks {
    /// A part of it, without another allocation. Panics if it has not so many bytes.
    pub(crate) fn into_part(mut self, from: usize, length: usize) -> Vec<u8> {
        assert!(from + length <= self.length, "a part is within the whole");
        let first = self.start + from;
        self.bytes.truncate(first + length);
        self.bytes.drain(..first);
        self.bytes
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_a_block_and_has_the_length_asked_for() {
        for length in [0, 1, 511, BLOCK, 100_000] {
            let blocks = Blocks::zeroed(length);
            assert_eq!(blocks.as_ptr().align_offset(BLOCK), 0);
            assert_eq!(blocks.len(), length);
            assert_eq!(blocks.into_part(length / 2, length / 4), vec![0; length / 4]);
        }
    }
}
