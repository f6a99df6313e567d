//! Reading from a medium that may be going bad: what can't be read is zeros, and known.

use std::collections::BTreeSet;

use crate::disk::{Disk, DiskError};
use crate::format::BLOCK;

/// A part of a file as far as it can be read. Zeros are no frame and no header, so that a block
/// that can't be read counts as a damaged one.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    /// Blocks of it that can't be read, by number.
    pub(crate) unreadable: BTreeSet<usize>,
}

impl Image {
    /// Reads `length` bytes of a file from `offset` on, block by block if the disk has trouble.
    /// An error if no block can be read: that is no damage of a place.
    pub(crate) fn read(
        disk: &mut dyn Disk,
        file: &str,
        offset: u64,
        length: usize,
    ) -> Result<Self, DiskError> {
        let error = match disk.read(file, offset, length) {
            Ok(bytes) => return Ok(Self { bytes, unreadable: BTreeSet::new() }),
            Err(error) => error,
        };
        let mut image = Self { bytes: vec![0; length], unreadable: BTreeSet::new() };
        for (number, block) in image.bytes.chunks_mut(BLOCK).enumerate() {
            match disk.read(file, offset + (number * BLOCK) as u64, block.len()) {
                Ok(bytes) => block.copy_from_slice(&bytes),
                Err(_) => {
                    image.unreadable.insert(number);
                }
            }
        }
        if image.unreadable.len() == length.div_ceil(BLOCK) { Err(error) } else { Ok(image) }
    }

    /// Whether everything could be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.unreadable.is_empty()
    }
}
