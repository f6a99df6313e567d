//! One key with its value, in one allocation.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | when it expires, Unix milliseconds; 0 means never |
//! | 4 | length of the key |
//! | 4 | length of the value |
//! | … | key, value, room for the value to grow |
//!
//! The room is bounded by the value's size and by 1 MiB, so that appending takes amortized time in
//! proportion to what is appended. It is no part of the state: neither digest nor snapshot see it.

use super::digest;

const HEADER: usize = 16;

/// Most bytes that an append leaves as room for the next one.
const ROOM_MAX: usize = 1 << 20;

/// A key with its value and expiry, beside the hash of the key.
#[derive(Debug)]
pub(crate) struct Item {
    hash: u64,
    bytes: Box<[u8]>,
}

impl Item {
    /// An item without room. Panics if key or value have 4 GiB.
    pub(crate) fn new(hash: u64, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> Self {
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len()).expect("keys and values are limited far below 4 GiB (P15)")
        };
        let mut bytes = Vec::with_capacity(HEADER + key.len() + value.len());
        bytes.extend_from_slice(&as_field(expires_at_ms).to_le_bytes());
        bytes.extend_from_slice(&length(key).to_le_bytes());
        bytes.extend_from_slice(&length(value).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Self { hash, bytes: bytes.into_boxed_slice() }
    }

    /// The hash of its key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Its key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[HEADER..self.value_start()]
    }

    /// Its value.
    pub(crate) fn value(&self) -> &[u8] {
        let start = self.value_start();
        &self.bytes[start..start + self.value_len()]
    }

    /// Length of the value in bytes.
    pub(crate) fn value_len(&self) -> usize {
        self.length_at(12)
    }

    /// When it expires, in Unix milliseconds.
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        let field = self.bytes.first_chunk().expect("every item has a header");
        Some(u64::from_le_bytes(*field)).filter(|&at| at != 0)
    }

    /// Whether it counts as absent at `now_ms`.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms().is_some_and(|at| at <= now_ms)
    }

    /// Key and value, one after the other.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEADER..self.value_start() + self.value_len()]
    }

    /// Bytes it stands for, without room.
    pub(crate) fn size(&self) -> usize {
        self.value_start() + self.value_len()
    }

    /// Bytes it occupies.
    pub(crate) fn allocated(&self) -> usize {
        self.bytes.len()
    }

    /// What it adds to the digest of its slot.
    pub(crate) fn digest(&self) -> u64 {
        digest::of_head(self.hash, self.expires_at_ms()).wrapping_add(digest::of_value(
            self.hash,
            self.value(),
            0,
        ))
    }

    /// Changes when it expires.
    pub(crate) fn set_expiry(&mut self, expires_at_ms: Option<u64>) {
        self.bytes[..8].copy_from_slice(&as_field(expires_at_ms).to_le_bytes());
    }

    /// Whether a value of `len` bytes fits in place without wasting most of the allocation.
    pub(crate) fn fits(&self, len: usize) -> bool {
        let needed = self.value_start() + len;
        needed <= self.bytes.len() && needed >= self.bytes.len() / 2
    }

    /// Replaces the value in place. Panics if it does not fit.
    pub(crate) fn replace_value(&mut self, value: &[u8]) {
        let start = self.value_start();
        self.bytes[start..start + value.len()].copy_from_slice(value);
        self.set_value_len(value.len());
    }

    /// Adds `tail` to the end of the value.
    pub(crate) fn append(&mut self, tail: &[u8]) {
        let end = self.size();
        let needed = end + tail.len();
        if needed > self.bytes.len() {
            let room = (self.value_len() + tail.len()).min(ROOM_MAX);
            let mut grown = std::mem::take(&mut self.bytes).into_vec();
            grown.reserve_exact(needed + room - grown.len());
            grown.resize(needed + room, 0);
            self.bytes = grown.into_boxed_slice();
        }
        self.bytes[end..needed].copy_from_slice(tail);
        self.set_value_len(needed - self.value_start());
    }

    /// Cuts the value to its first `len` bytes. Panics if it is shorter.
    pub(crate) fn truncate(&mut self, len: usize) {
        assert!(len <= self.value_len(), "a value is cut, never stretched");
        self.set_value_len(len);
    }

    fn value_start(&self) -> usize {
        HEADER + self.length_at(8)
    }

    fn set_value_len(&mut self, len: usize) {
        let len = u32::try_from(len).expect("values are limited far below 4 GiB (P15)");
        self.bytes[12..HEADER].copy_from_slice(&len.to_le_bytes());
    }

    fn length_at(&self, at: usize) -> usize {
        crate::args::u32_at(&self.bytes, at) as usize
    }
}

/// The field of an expiry: 0 means never, so an expiry at the epoch itself becomes 1, which is as
/// long past.
fn as_field(expires_at_ms: Option<u64>) -> u64 {
    expires_at_ms.map_or(0, |at| at.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_parts_are_what_it_was_made_of() {
        let item = Item::new(9, b"key", b"value", Some(77));
        assert_eq!((item.hash(), item.key(), item.value()), (9, &b"key"[..], &b"value"[..]));
        assert_eq!((item.expires_at_ms(), item.body()), (Some(77), &b"keyvalue"[..]));
        assert!(item.is_expired(77) && !item.is_expired(76));
    }

    #[test]
    fn appended_bytes_follow_and_room_is_no_part_of_it() {
        let mut item = Item::new(9, b"k", b"", None);
        let mut twin = Vec::new();
        for n in 0..200u8 {
            item.append(&[n; 3]);
            twin.extend_from_slice(&[n; 3]);
            assert_eq!(item.value(), twin);
        }
        assert_eq!(item.digest(), Item::new(9, b"k", &twin, None).digest());
        item.truncate(4);
        assert_eq!(item.value(), [0, 0, 0, 1]);
    }

    #[test]
    fn a_value_is_replaced_in_place_where_it_fits() {
        let mut item = Item::new(9, b"k", b"0123456789abcdefghij", Some(5));
        assert!(item.fits(10));
        item.replace_value(b"0123456789");
        assert_eq!((item.key(), item.value()), (&b"k"[..], &b"0123456789"[..]));
        assert!(!item.fits(0), "most of the allocation would be wasted");
        assert!(!item.fits(21), "too long");
    }
}
