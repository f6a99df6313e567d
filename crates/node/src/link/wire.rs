//! Reading and writing the parts that packets are made of: numbers, flags, bytes.

use super::LinkError;

/// A cursor over the body of a packet. Every step names the field it reads, for the error.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `length` bytes.
    pub(crate) fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], LinkError> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or(LinkError::Short { field })?;
        self.position += length;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], LinkError> {
        let taken = self.take(N, field)?;
        Ok(*taken.first_chunk().expect("N bytes were taken"))
    }

    /// A byte.
    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, LinkError> {
        self.array(field).map(|[byte]| byte)
    }

    /// Eight bytes, little-endian.
    pub(crate) fn word(&mut self, field: &'static str) -> Result<u64, LinkError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, LinkError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(LinkError::Value { field }),
        }
    }

    /// A LEB128 number. Longer forms than needed are refused, so that an encoding is unique.
    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, LinkError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7F);
            let overflows = bits << shift >> shift != bits;
            let overlong = byte == 0 && shift > 0;
            if overflows || overlong {
                return Err(LinkError::Value { field });
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(LinkError::Value { field })
    }

    /// A number that fits into `T`.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, LinkError> {
        T::try_from(self.number(field)?).map_err(|_| LinkError::Value { field })
    }

    /// A length and so many bytes.
    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], LinkError> {
        let length = self.small(field)?;
        self.take(length, field)
    }

    /// A length of at least `width` bytes an item: how many items there are. The bytes must be
    /// there, so that whoever makes room for the items does so for what was received.
    pub(crate) fn count(&mut self, width: usize, field: &'static str) -> Result<usize, LinkError> {
        let count: usize = self.small(field)?;
        let room = (self.bytes.len() - self.position) / width;
        if count <= room { Ok(count) } else { Err(LinkError::Short { field }) }
    }

    /// Checks that everything was read.
    pub(crate) fn finish(self) -> Result<(), LinkError> {
        if self.is_empty() { Ok(()) } else { Err(LinkError::Long) }
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.position == self.bytes.len()
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }
}

/// Appends a LEB128 number.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length and so many bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, number);
        out
    }

    #[test]
    fn numbers_at_every_width() {
        for bits in 0..64 {
            for number in [1 << bits, (1 << bits) - 1, u64::MAX >> bits] {
                let bytes = encoded(number);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.number("it"), Ok(number));
                assert_eq!(reader.finish(), Ok(()));
            }
        }
        assert_eq!(encoded(300), [0xAC, 0x02]);
    }

    #[test]
    fn a_number_has_one_form_and_64_bits() {
        let wrong = LinkError::Value { field: "it" };
        let read = |bytes: &[u8]| Reader::new(bytes).number("it");
        assert_eq!(read(&[0x80, 0x00]), Err(wrong), "overlong");
        assert_eq!(read(&[0xFF; 10]), Err(wrong), "65 bits and more");
        let mut most = encoded(u64::MAX);
        assert_eq!(read(&most), Ok(u64::MAX));
        *most.last_mut().expect("ten bytes") = 2;
        assert_eq!(read(&most), Err(wrong), "bit 64");
        assert_eq!(read(&[0x80]), Err(LinkError::Short { field: "it" }));
    }

    #[test]
    fn counts_are_not_believed() {
        let bytes = [200, 1, 0, 0];
        assert_eq!(Reader::new(&bytes).count(1, "items"), Err(LinkError::Short { field: "items" }));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1, "items"), Ok(2));
    }
}
