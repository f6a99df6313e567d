//! Hash slots: the unit of placement.
//!
//! A key belongs to the slot `CRC16(key) mod 16384`, or `CRC16(tag) mod 16384` when it has a
//! `{tag}`, exactly as in Redis Cluster, so that cluster clients compute the same slot.
//!
//! Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".

use core::fmt;

use serde::{Deserialize, Serialize};

/// How many slots there are. Slots are numbered from 0 to `SLOTS - 1`.
pub const SLOTS: u16 = 16384;

/// A hash slot: every key is in exactly one, and slots, not keys, are owned and moved.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Slot(pub u16);

impl Slot {
    /// Every slot, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SLOTS).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slot of `key`.
///
/// ```
/// use flotilla_shard::{Slot, slot_of};
///
/// assert_eq!(slot_of(b"foo"), Slot(12182));
/// assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
/// ```
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hashed_part(key)) % SLOTS)
}

/// What of `key` is hashed: the bytes between the first `{` and the first `}` after it, if there
/// are any, and otherwise the whole key.
fn hashed_part(key: &[u8]) -> &[u8] {
    if !has_brace(key) {
        return key;
    }
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let tail = &key[open + 1..];
    match tail.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &tail[..close],
    }
}

/// Whether there is a `{`, which most keys lack: eight bytes at a time, one of which is zero
/// then, but for the pattern [Hacker's Delight §6-1].
fn has_brace(key: &[u8]) -> bool {
    let (eights, rest) = key.as_chunks::<8>();
    let found = eights.iter().fold(0, |found, &eight| {
        let word = u64::from_le_bytes(eight) ^ 0x7B7B_7B7B_7B7B_7B7B;
        found | word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
    });
    found != 0 || rest.contains(&b'{')
}

/// CRC-16/XMODEM: polynomial 0x1021, start value 0, not reflected. Four bytes at a time: the tables
/// know what each of them is worth by how many follow it [Kounavis and Berry, 2005].
fn crc16(bytes: &[u8]) -> u16 {
    let (fours, rest) = bytes.as_chunks::<4>();
    let crc = fours.iter().fold(0_u16, |crc, &[a, b, c, d]| {
        let [high, low] = crc.to_be_bytes();
        let worth = |followers: usize, byte: u8| CRC16_TABLES[followers][usize::from(byte)];
        worth(3, a ^ high) ^ worth(2, b ^ low) ^ worth(1, c) ^ worth(0, d)
    });
    rest.iter().fold(crc, |crc, &byte| {
        let [high, low] = crc.to_be_bytes();
        u16::from(low) << 8 ^ CRC16_TABLES[0][usize::from(high ^ byte)]
    })
}

/// The remainder of every byte value with none to three zero bytes behind it, computed at compile
/// time.
static CRC16_TABLES: [[u16; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 32 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
            if bit % 8 == 0 {
                tables[bit / 8 - 1][byte] = crc;
            }
        }
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_has_the_check_value_of_the_catalogue() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn a_brace_is_seen_wherever_it_is() {
        for len in 0..40 {
            for other in [0, b'z', b'|', b'}', 0x7C, 0xFB, 0xFF] {
                let mut key = vec![other; len];
                assert!(!has_brace(&key), "{len} times {other}");
                for at in 0..len {
                    key[at] = b'{';
                    assert!(has_brace(&key), "{len} times {other}, but at {at}");
                    key[at] = other;
                }
            }
        }
    }

    #[test]
    fn four_bytes_at_a_time_are_bit_by_bit() {
        let bytes: Vec<u8> = (0..40_u8).map(|n| n.wrapping_mul(151).wrapping_add(77)).collect();
        for len in 0..bytes.len() {
            let one_by_one = bytes[..len].iter().fold(0_u16, |crc, &byte| {
                (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
                    if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
                })
            });
            assert_eq!(crc16(&bytes[..len]), one_by_one, "of {len} bytes");
        }
    }

    #[test]
    fn slots_are_those_of_redis() {
        let known: [(&[u8], u16); 6] = [
            (b"", 0),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"hello", 866),
            (b"somekey", 11058),
            (b"123456789", 0x31C3 % SLOTS),
        ];
        for (key, slot) in known {
            assert_eq!(slot_of(key), Slot(slot), "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn only_a_first_tag_that_is_not_empty_counts() {
        assert_eq!(hashed_part(b"{user1000}.following"), b"user1000");
        assert_eq!(hashed_part(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hashed_part(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hashed_part(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hashed_part(b"foo{bar"), b"foo{bar");
        assert_eq!(hashed_part(b"foo}bar{"), b"foo}bar{");
        assert_eq!(hashed_part(b"{a}"), b"a");
    }
}
