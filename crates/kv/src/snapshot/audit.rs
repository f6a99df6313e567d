//! Reading a snapshot through without building its table: is it whole, and what is in it?

use flotilla_shard::Slot;

use super::SnapshotKey;
use super::pieces::{Decoder, Piece};
use super::restore::Building;
use crate::args::Malformed;
use crate::keyspace::ItemDigest;

/// A snapshot being read through. Memory is bounded by its sessions and its largest key and value,
/// however many keys there are; everything that [`super::Restorer`] checks is checked.
#[derive(Debug)]
pub struct Audit {
    decoder: Decoder,
    contents: Contents,
}

/// What a snapshot that was read through has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The seed of its cluster.
    pub hash_seed: u64,
    /// The index of the last entry in it.
    pub applied_index: u64,
    /// The shard's clock at that entry, in Unix milliseconds.
    pub clock_ms: u64,
    /// The slots owned: ranges, both ends included, ascending.
    pub slots: Vec<(Slot, Slot)>,
    /// The keys whose expiry has not come by that clock.
    pub live: KeySums,
    /// How many keys more there are, which had expired and were not yet purged.
    pub expired_keys: u64,
}

/// Sums over keys, which depend on no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySums {
    /// How many.
    pub keys: u64,
    /// The lengths of keys and values, in bytes.
    pub bytes: u64,
    /// The sum of [`ItemDigest::of`] over them, modulo 2^64.
    pub digest: u64,
}

impl KeySums {
    /// Adds a key.
    pub fn add(&mut self, item: &SnapshotKey<'_>, digest: ItemDigest) {
        self.keys += 1;
        self.bytes += (item.key.len() + item.value.len()) as u64;
        let word = digest.of(item.key, item.value, item.expires_at_ms);
        self.digest = self.digest.wrapping_add(word);
    }

    /// The sums over these keys and over others.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self {
            keys: self.keys + others.keys,
            bytes: self.bytes + others.bytes,
            digest: self.digest.wrapping_add(others.digest),
        }
    }
}

#[derive(Debug)]
struct Contents {
    building: Building,
    digest: ItemDigest,
    live: KeySums,
    expired: KeySums,
}

impl Default for Audit {
    fn default() -> Self {
        Self::new()
    }
}

impl Audit {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self { decoder: Decoder::default(), contents: Contents::new(0) }
    }

    /// Takes the next whole pieces, and gives each key that had not expired to `on_key`.
    ///
    /// # Errors
    /// As [`super::Restorer::chunk`], but any cluster's hash seed will do.
    pub fn chunk(
        &mut self,
        bytes: &[u8],
        on_key: &mut dyn FnMut(&SnapshotKey<'_>),
    ) -> Result<(), Malformed> {
        let contents = &mut self.contents;
        self.decoder.chunk(bytes, &mut |piece| contents.take(piece, on_key))
    }

    /// The clock of the shard in Unix milliseconds, once the first chunk has been taken.
    pub fn clock_ms(&self) -> u64 {
        self.contents.building.machine.clock_ms()
    }

    /// What is in the snapshot.
    ///
    /// # Errors
    /// It has not ended, or it is not what was written.
    pub fn finish(self) -> Result<Audited, Malformed> {
        let Contents { building, live, expired, .. } = self.contents;
        let all = live.with(expired);
        building.check_end(all.digest, all.keys)?;
        let machine = building.machine;
        Ok(Audited {
            hash_seed: machine.keyspace.hash_seed(),
            applied_index: machine.applied_index(),
            clock_ms: machine.clock_ms(),
            slots: machine.ownership.owned.ranges(),
            live,
            expired_keys: expired.keys,
        })
    }
}

impl Contents {
    fn new(hash_seed: u64) -> Self {
        Self {
            building: Building::new(hash_seed),
            digest: ItemDigest::new(hash_seed),
            live: KeySums::default(),
            expired: KeySums::default(),
        }
    }

    fn take(
        &mut self,
        piece: Piece<'_>,
        on_key: &mut dyn FnMut(&SnapshotKey<'_>),
    ) -> Result<(), Malformed> {
        match piece {
            Piece::Key(item) => {
                let machine = &self.building.machine;
                if !machine.ownership.owned.contains(item.slot) {
                    return Err(Malformed::new("snapshot: a key in a slot that is not owned"));
                }
                if item.expires_at_ms.is_some_and(|at| at <= machine.clock_ms) {
                    self.expired.add(&item, self.digest);
                } else {
                    self.live.add(&item, self.digest);
                    on_key(&item);
                }
                Ok(())
            }
            Piece::Head { hash_seed, .. } => {
                *self = Self::new(hash_seed);
                self.building.take(piece)
            }
            piece => self.building.take(piece),
        }
    }
}
