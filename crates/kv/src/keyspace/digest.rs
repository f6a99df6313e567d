//! The digest of the data: a sum over the items, so that it is kept up to date by each change and
//! does not depend on any order.
//!
//! An item adds one word for (key, expiry) and one for each block of its value. A change of the
//! expiry or an append therefore costs no more than what it changes, however long the value is.
//! The sum finds replicas that differ by a fault; it does not withstand someone who wants two
//! states to look alike.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::hasher::KeyHasher;

/// Bytes of a value that add one word to the digest.
pub(super) const BLOCK: usize = 16 << 10;

const SECRETS: RapidSecrets = RapidSecrets::seed(0x666c_6f74_696c_6c61);

/// The digest of keys one by one, by the hash seed of their cluster.
#[derive(Clone, Copy, Debug)]
pub struct ItemDigest {
    hasher: KeyHasher,
}

impl ItemDigest {
    /// The digest of a cluster's keys.
    pub fn new(hash_seed: u64) -> Self {
        Self { hasher: KeyHasher::new(hash_seed) }
    }

    /// The word that a key with its value and expiry (Unix milliseconds) adds to the sum.
    pub fn of(&self, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> u64 {
        of_item(self.hasher.hash(key), value, expires_at_ms)
    }
}

/// The word of an item, by the hash of its key.
pub(super) fn of_item(key_hash: u64, value: &[u8], expires_at_ms: Option<u64>) -> u64 {
    of_head(key_hash, expires_at_ms).wrapping_add(of_value(key_hash, value, 0))
}

/// The word of key and expiry.
pub(crate) fn of_head(key_hash: u64, expires_at_ms: Option<u64>) -> u64 {
    of_words(key_hash, expires_at_ms.unwrap_or(0), 0)
}

/// The words of the blocks of `value` from block `first` on.
pub(crate) fn of_value(key_hash: u64, value: &[u8], first: usize) -> u64 {
    let blocks = value.chunks(BLOCK).enumerate().skip(first);
    blocks.fold(0, |sum, (number, block)| {
        let word = of_words(key_hash, of_bytes(block), number as u64 + 1);
        sum.wrapping_add(word)
    })
}

/// A word that stands for some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    rapidhash_v3_seeded(bytes, &SECRETS)
}

/// A word that stands for three words in this order.
pub(crate) const fn of_words(a: u64, b: u64, c: u64) -> u64 {
    fold(fold(a ^ ROOTS[0], b ^ ROOTS[1]) ^ ROOTS[2], c ^ ROOTS[3])
}

/// Numbers without a pattern: what stands behind the point in the square roots of 2, 3, 5 and 7.
const ROOTS: [u64; 4] =
    [0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// Both halves of the product as one word, to which every bit of both factors counts.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    product as u64 ^ (product >> 64) as u64
}
