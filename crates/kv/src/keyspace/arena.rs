//! The small items of a sub-table, one after the other in one allocation.
//!
//! An allocation per item would take more than its bytes: its own header, what the allocator
//! rounds up, and a pointer of 16 bytes in the table instead of an offset of 4.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | length of the key; its top bit says whether the next field but one is there |
//! | 1 | length of the value |
//! | 0 or 8 | when it expires, Unix milliseconds; 0 means never |
//! | … | key, value |
//!
//! An item that has left, or was replaced by a longer one, leaves a hole. When the holes are more
//! than a quarter, or most of the allocation is not used, what is left is packed anew. A sub-table
//! has at most 1,000 items, so that this is bounded work [P11], and as many bytes must have become
//! holes before it comes again.
//!
//! Invariants: `holes` is the length without that of the items; an item's bytes never change their
//! place but by [`Arena::pack`], which tells.

use super::item::{ItemView, as_field, from_field};

/// Most bytes of a small item's key.
const KEY_MAX: usize = 0x7F;

/// Most bytes of a small item's value.
const VALUE_MAX: usize = 0xFF;

/// The bit beside the key's length that says that there is a field for the expiry.
const EXPIRY: u8 = 0x80;

/// The lengths' bytes, and those of an expiry.
const HEADER: usize = 2;
const EXPIRY_BYTES: usize = 8;

/// An arena does not grow beyond this. Thousands of keys of one hash would have to come for that:
/// a sub-table can't be split between them.
const BYTES_MAX: usize = 1 << 20;

/// So many bytes more than a quarter may be holes: a few items are not worth packing.
const HOLES_MIN: usize = 128;

/// Small items and the holes between them.
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    holes: usize,
}

impl Arena {
    /// Whether an item with a key and a value of these lengths is small.
    pub(super) fn is_small(key_len: usize, value_len: usize) -> bool {
        key_len <= KEY_MAX && value_len <= VALUE_MAX
    }

    /// An arena with room for so many bytes of items.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity_for(bytes.min(BYTES_MAX))), holes: 0 }
    }

    /// Adds an item and gives its offset; `None` if it is not small, or the arena is full.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Option<u32> {
        if !Self::is_small(key.len(), value.len()) {
            return None;
        }
        let flag = if expires_at_ms.is_some() { EXPIRY } else { 0 };
        let header = [key.len() as u8 | flag, value.len() as u8];
        let offset = self.bytes.len();
        let end = offset + record_len(header);
        if end > BYTES_MAX {
            return None;
        }
        if end > self.bytes.capacity() {
            self.bytes.reserve_exact(capacity_for(end) - offset);
        }
        self.bytes.extend_from_slice(&header);
        if expires_at_ms.is_some() {
            self.bytes.extend_from_slice(&as_field(expires_at_ms).to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        Some(offset as u32)
    }

    /// Gives the item at `offset` another value and expiry where it stands; says whether it has
    /// the room.
    pub(super) fn overwrite(
        &mut self,
        offset: u32,
        value: &[u8],
        expires_at_ms: Option<u64>,
    ) -> bool {
        let [key, value_len] = self.header(offset);
        if value.len() > usize::from(value_len) || !self.set_expiry(offset, expires_at_ms) {
            return false;
        }
        let start = offset as usize + record_len([key, 0]);
        self.bytes[start..start + value.len()].copy_from_slice(value);
        self.bytes[offset as usize + 1] = value.len() as u8;
        self.holes += usize::from(value_len) - value.len();
        true
    }

    /// Changes when the item at `offset` expires; says whether it has a field for that, or needs
    /// none.
    pub(super) fn set_expiry(&mut self, offset: u32, expires_at_ms: Option<u64>) -> bool {
        if self.header(offset)[0] & EXPIRY == 0 {
            return expires_at_ms.is_none();
        }
        let start = offset as usize + HEADER;
        let field = as_field(expires_at_ms).to_le_bytes();
        self.bytes[start..start + EXPIRY_BYTES].copy_from_slice(&field);
        true
    }

    /// Makes a hole of the item at `offset`.
    pub(super) fn remove(&mut self, offset: u32) {
        let (start, len) = (offset as usize, record_len(self.header(offset)));
        if start + len == self.bytes.len() {
            self.bytes.truncate(start);
        } else {
            self.holes += len;
        }
    }

    /// Whether it is time for [`Arena::pack`].
    pub(super) fn is_sparse(&self) -> bool {
        self.holes > self.bytes.len() / 4 + HOLES_MIN
            || self.bytes.capacity() > 2 * (self.used() + HOLES_MIN)
    }

    /// Leaves the holes out and corrects the offsets, which must be those of all items.
    pub(super) fn pack<'a>(&mut self, offsets: impl Iterator<Item = &'a mut u32>) {
        let mut packed = Self::with_room(self.used());
        for offset in offsets {
            let start = *offset as usize;
            *offset = packed.bytes.len() as u32;
            let record = &self.bytes[start..start + record_len(self.header(start as u32))];
            packed.bytes.extend_from_slice(record);
        }
        assert_eq!(packed.bytes.len(), self.used(), "what is no item is a hole");
        *self = packed;
    }

    /// The item at `offset`.
    pub(super) fn view(&self, offset: u32) -> ItemView<'_> {
        let [key, value_len] = self.header(offset);
        let key_len = usize::from(key & !EXPIRY);
        let body = &self.bytes[offset as usize + HEADER..];
        let (expires_at_ms, body) = match body.split_first_chunk() {
            Some((field, body)) if key & EXPIRY != 0 => (from_field(*field), body),
            _ => (None, body),
        };
        ItemView { expires_at_ms, key_len, body: &body[..key_len + usize::from(value_len)] }
    }

    /// Bytes of items.
    pub(super) fn used(&self) -> usize {
        self.bytes.len() - self.holes
    }

    /// Bytes that are allocated.
    pub(super) fn allocated(&self) -> usize {
        self.bytes.capacity()
    }

    fn header(&self, offset: u32) -> [u8; HEADER] {
        let at = offset as usize;
        [self.bytes[at], self.bytes[at + 1]]
    }
}

/// How long an item with this header is.
fn record_len(header: [u8; HEADER]) -> usize {
    let expiry = if header[0] & EXPIRY == 0 { 0 } else { EXPIRY_BYTES };
    HEADER + expiry + usize::from(header[0] & !EXPIRY) + usize::from(header[1])
}

/// What is allocated for `len` bytes: four sizes to each doubling, as allocators round it up.
fn capacity_for(len: usize) -> usize {
    let step = (len.next_power_of_two() / 8).max(64);
    len.next_multiple_of(step)
}

#[cfg(test)]
mod tests;
