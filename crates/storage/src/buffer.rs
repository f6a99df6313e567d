//! A byte buffer whose content starts at a block boundary in memory, as `O_DIRECT` wants it.
//!
//! Invariant: `start + capacity left ≥ what was asked for`, so it never reallocates while it has
//! content, and the content never moves off its boundary.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::format::{BLOCK, Put};

/// Bytes that start at a multiple of [`BLOCK`] in memory.
#[derive(Default)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// An empty buffer that can take `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + BLOCK);
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// Empties it and makes room for `capacity` bytes, with the old memory if that is enough.
    pub(crate) fn reset(&mut self, capacity: usize) {
        if self.bytes.capacity() < capacity + self.start {
            *self = Self::with_capacity(capacity);
        } else {
            self.bytes.truncate(self.start);
        }
    }

    /// Appends zeros up to a length of `length`.
    pub(crate) fn pad_to(&mut self, length: usize) {
        assert!(length >= self.len(), "padding only adds");
        assert!(self.start + length <= self.bytes.capacity(), "a frame was measured before");
        self.bytes.resize(self.start + length, 0);
    }
}

impl Put for AlignedBuffer {
    fn put(&mut self, bytes: &[u8]) {
        assert!(
            self.bytes.len() + bytes.len() <= self.bytes.capacity(),
            "a frame was measured before"
        );
        self.bytes.extend_from_slice(bytes);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len());
        copy.put(self);
        copy
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_starts_at_a_block_also_when_reused_or_cloned() {
        let mut buffer = AlignedBuffer::with_capacity(10);
        for size in [1, 5000, 100, 100_000] {
            buffer.reset(size);
            buffer.put(&vec![7; size]);
            assert_eq!(buffer.as_ptr().align_offset(BLOCK), 0);
            assert_eq!(buffer.clone().as_ptr().align_offset(BLOCK), 0);
            assert_eq!(buffer.len(), size);
        }
    }
}
