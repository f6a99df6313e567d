//! A key with its value, and its form as one allocation of its own.
//!
//! Items that are not small ([`Arena`](super::arena::Arena)) have this form in the tables, and
//! those that a cut keeps.
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

const HEADER: usize = 16;

/// Most bytes that an append leaves as room for the next one.
const ROOM_MAX: usize = 1 << 20;

/// A key with its value and expiry, wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ItemView<'a> {
    /// When it expires, in Unix milliseconds.
    pub(super) expires_at_ms: Option<u64>,
    /// How many bytes of `body` are the key; the rest is the value.
    pub(super) key_len: usize,
    /// Key and value, one after the other.
    pub(super) body: &'a [u8],
}

impl<'a> ItemView<'a> {
    /// Its key.
    pub(crate) fn key(&self) -> &'a [u8] {
        &self.body[..self.key_len]
    }

    /// Its value.
    pub(crate) fn value(&self) -> &'a [u8] {
        &self.body[self.key_len..]
    }

    /// When it expires, in Unix milliseconds.
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }

    /// Whether it counts as absent at `now_ms`.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }
}

/// A key with its value and expiry, in one allocation.
#[derive(Debug)]
pub(crate) struct Item {
    bytes: Box<[u8]>,
}

impl Item {
    /// An item without room. Panics if key or value have 4 GiB.
    pub(crate) fn new(key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> Self {
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len()).expect("keys and values are limited far below 4 GiB (P15)")
        };
        let mut bytes = Vec::with_capacity(HEADER + key.len() + value.len());
        bytes.extend_from_slice(&as_field(expires_at_ms).to_le_bytes());
        bytes.extend_from_slice(&length(key).to_le_bytes());
        bytes.extend_from_slice(&length(value).to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Self { bytes: bytes.into_boxed_slice() }
    }

    /// What it is.
    pub(crate) fn view(&self) -> ItemView<'_> {
        ItemView {
            expires_at_ms: self.expires_at_ms(),
            key_len: self.length_at(8),
            body: &self.bytes[HEADER..self.end()],
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[HEADER..self.value_start()]
    }

    /// Bytes it occupies.
    pub(crate) fn allocated(&self) -> usize {
        self.bytes.len()
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
        let end = self.end();
        let needed = end + tail.len();
        if needed > self.bytes.len() {
            let room = (self.length_at(12) + tail.len()).min(ROOM_MAX);
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
        assert!(len <= self.length_at(12), "a value is cut, never stretched");
        self.set_value_len(len);
    }

    fn expires_at_ms(&self) -> Option<u64> {
        from_field(*self.bytes.first_chunk().expect("every item has a header"))
    }

    fn value_start(&self) -> usize {
        HEADER + self.length_at(8)
    }

    /// Where the value ends and the room begins.
    fn end(&self) -> usize {
        self.value_start() + self.length_at(12)
    }

    fn set_value_len(&mut self, len: usize) {
        let len = u32::try_from(len).expect("values are limited far below 4 GiB (P15)");
        self.bytes[12..HEADER].copy_from_slice(&len.to_le_bytes());
    }

    fn length_at(&self, at: usize) -> usize {
        crate::args::u32_at(&self.bytes, at) as usize
    }
}

/// The field of an expiry: 0 means never, and is none.
pub(super) fn as_field(expires_at_ms: Option<u64>) -> u64 {
    expires_at_ms.unwrap_or(0)
}

/// The expiry that a field names.
pub(super) fn from_field(field: [u8; 8]) -> Option<u64> {
    Some(u64::from_le_bytes(field)).filter(|&at| at != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_parts_are_what_it_was_made_of() {
        let item = Item::new(b"key", b"value", Some(77));
        let view = item.view();
        assert_eq!(
            (item.key(), view.key(), view.value()),
            (&b"key"[..], &b"key"[..], &b"value"[..])
        );
        assert_eq!((view.expires_at_ms(), view.body), (Some(77), &b"keyvalue"[..]));
        assert!(view.is_expired(77) && !view.is_expired(76));
    }

    #[test]
    fn appended_bytes_follow_and_room_is_no_part_of_it() {
        let mut item = Item::new(b"k", b"", None);
        let mut twin = Vec::new();
        for n in 0..200u8 {
            item.append(&[n; 3]);
            twin.extend_from_slice(&[n; 3]);
            assert_eq!(item.view().value(), twin);
        }
        assert!(item.allocated() > 600);
        assert_eq!(item.view(), Item::new(b"k", &twin, None).view());
        item.truncate(4);
        assert_eq!(item.view().value(), [0, 0, 0, 1]);
    }

    #[test]
    fn a_value_is_replaced_in_place_where_it_fits() {
        let mut item = Item::new(b"k", b"0123456789abcdefghij", Some(5));
        assert!(item.fits(10));
        item.replace_value(b"0123456789");
        assert_eq!((item.key(), item.view().value()), (&b"k"[..], &b"0123456789"[..]));
        assert!(!item.fits(0), "most of the allocation would be wasted");
        assert!(!item.fits(21), "too long");
    }
}
