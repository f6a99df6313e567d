//! CRC-32C, the checksum of chunks [Castagnoli 1993, RFC 3720 §12.1].
//!
//! Eight tables take eight bytes at a time. It finds what rots and what a network flips; it is no
//! protection against who means harm.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]`: what the byte b does to the CRC once k more bytes have followed.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// A CRC-32C.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Crc(pub u32);

impl Crc {
    /// The CRC-32C of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut running = Running::default();
        running.take(bytes);
        running.crc()
    }
}

/// A CRC of bytes that come piece by piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running(u32);

impl Default for Running {
    fn default() -> Self {
        Self(!0)
    }
}

impl Running {
    /// The next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let mixed = (u64::from_le_bytes(*eight) ^ u64::from(self.0)).to_le_bytes();
            let through = |at: usize| TABLES[7 - at][mixed[at] as usize];
            self.0 = (0..8).fold(0, |crc, at| crc ^ through(at));
        }
        for &byte in rest {
            self.0 = (self.0 >> 8) ^ TABLES[0][(self.0 as u8 ^ byte) as usize];
        }
    }

    /// The CRC of all bytes taken.
    pub(super) fn crc(self) -> Crc {
        Crc(!self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The examples of [RFC 3720 §B.4], and the usual check value.
    #[test]
    fn gives_the_known_values() {
        assert_eq!(Crc::of(b""), Crc(0));
        assert_eq!(Crc::of(b"123456789"), Crc(0xe306_9283));
        assert_eq!(Crc::of(&[0; 32]), Crc(0x8a91_36aa));
        assert_eq!(Crc::of(&[0xff; 32]), Crc(0x62a8_ab43));
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(Crc::of(&ascending), Crc(0x46dd_794e));
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let bytes: Vec<u8> = (0..=255).cycle().take(600).collect();
        for cut in 0..40 {
            let mut running = Running::default();
            running.take(&bytes[..cut]);
            running.take(&bytes[cut..cut + 3]);
            running.take(&bytes[cut + 3..]);
            assert_eq!(running.crc(), Crc::of(&bytes));
        }
    }
}
