//! One encoding of a command: on the wire, in the log, and when it is applied.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | number of arguments, the name included |
//! | per argument: 4 | its length |
//! | … | its bytes |
//!
//! All integers are little-endian. Bytes are validated once, by [`Args::parse`]; after that,
//! looking at an argument can't fail.

use thiserror::Error;

/// Bytes from outside that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What was expected there.
    pub what: &'static str,
}

impl Malformed {
    /// The error that says what was expected.
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// A command: its name and arguments, as a view of encoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args<'a> {
    bytes: &'a [u8],
}

impl<'a> Args<'a> {
    /// Checks that `bytes` is exactly one encoded command of at least one argument.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.u32("argument count")?;
        if count == 0 {
            return Err(Malformed::new("argument count: a command has a name"));
        }
        for _ in 0..count {
            let len = reader.u32("argument length")?;
            reader.take(len as usize, "argument")?;
        }
        reader.end("command: bytes after the last argument")?;
        Ok(Self { bytes })
    }

    /// Bytes that were checked, or will be before anybody looks at an argument.
    pub(crate) fn unchecked(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Number of arguments, the name included.
    pub fn len(&self) -> usize {
        u32_at(self.bytes, 0) as usize
    }

    /// Whether there is not even a name; only an unfilled [`ArgsBuf`] gives such a view.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Argument `index`, the name being 0. Takes time in proportion to `index`.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.len() {
            return None;
        }
        let mut rest = &self.bytes[4..];
        for _ in 0..index {
            rest = &rest[4 + u32_at(rest, 0) as usize..];
        }
        let len = u32_at(rest, 0) as usize;
        Some(&rest[4..4 + len])
    }

    /// The arguments in order, the name first.
    pub fn iter(&self) -> ArgsIter<'a> {
        ArgsIter { rest: &self.bytes[4..], left: self.len() }
    }

    /// The encoding, as [`Args::parse`] takes it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Args<'a> {
    type Item = &'a [u8];
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

/// The arguments of a command, in order.
#[derive(Clone, Debug)]
pub struct ArgsIter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for ArgsIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let len = u32_at(self.rest, 0) as usize;
        let (arg, rest) = self.rest[4..].split_at(len);
        self.rest = rest;
        self.left -= 1;
        Some(arg)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ArgsIter<'_> {}

/// A command being built, in the encoding of [`Args`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsBuf {
    bytes: Vec<u8>,
}

impl Default for ArgsBuf {
    fn default() -> Self {
        Self { bytes: vec![0; 4] }
    }
}

impl From<Args<'_>> for ArgsBuf {
    fn from(args: Args<'_>) -> Self {
        Self { bytes: args.bytes.to_vec() }
    }
}

impl ArgsBuf {
    /// A command without a name yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A command of these arguments, the name first.
    pub fn from_slices(args: &[&[u8]]) -> Self {
        let mut buf = Self::new();
        for arg in args {
            buf.push(arg);
        }
        buf
    }

    /// Adds an argument. Panics if it is 4 GiB or longer.
    pub fn push(&mut self, arg: &[u8]) {
        let len = u32::try_from(arg.len()).expect("requests are limited far below 4 GiB (P15)");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(arg);
        let count = u32_at(&self.bytes, 0) + 1;
        self.bytes[..4].copy_from_slice(&count.to_le_bytes());
    }

    /// Removes all arguments and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(4);
        self.bytes.fill(0);
    }

    /// Becomes a copy of `args`, in the same memory if there is enough.
    pub fn copy_from(&mut self, args: Args<'_>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(args.bytes);
    }

    /// Bytes of memory that it has, used or not.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The command as a view.
    pub fn as_args(&self) -> Args<'_> {
        Args { bytes: &self.bytes }
    }

    /// The encoded bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes fixed-width integers and byte strings off the front of bytes from outside.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Number of bytes not yet taken.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::new(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::new(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// The next two bytes.
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// The next four bytes.
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Refuses bytes that were not taken.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::new(what)) }
    }
}

/// The integer at `at`. Panics if the bytes end before it does.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes[at..].first_chunk().expect("validated bytes hold the whole field");
    u32::from_le_bytes(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_is_parsed() {
        let buf = ArgsBuf::from_slices(&[b"SET", b"", b"value"]);
        let args = Args::parse(buf.as_args().bytes()).expect("built by ArgsBuf");
        assert_eq!(args.len(), 3);
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"SET"[..], b"", b"value"]);
        assert_eq!(args.get(2), Some(&b"value"[..]));
        assert_eq!(args.get(3), None);
        assert_eq!(args.iter().len(), 3);
    }

    #[test]
    fn a_cleared_buffer_is_empty() {
        let mut buf = ArgsBuf::from_slices(&[b"GET", b"k"]);
        buf.clear();
        assert!(buf.as_args().is_empty());
        buf.push(b"PING");
        assert_eq!(buf, ArgsBuf::from_slices(&[b"PING"]));
    }

    #[test]
    fn every_cut_and_every_excess_is_refused() {
        let bytes = ArgsBuf::from_slices(&[b"SET", b"key", b"value"]).into_bytes();
        for end in 0..bytes.len() {
            assert!(Args::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Args::parse(&longer).is_err());
        assert!(Args::parse(&[0; 4]).is_err(), "a command without a name");
        let mut declared = bytes;
        declared[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Args::parse(&declared).is_err());
    }
}
