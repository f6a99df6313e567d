//! The hash that places a key: the same on all replicas of a cluster.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Hashes keys by the seed of a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHasher {
    secrets: RapidSecrets,
    #[cfg(test)]
    mask: u64,
}

impl KeyHasher {
    /// The hasher of a cluster, by its seed.
    pub(crate) fn new(hash_seed: u64) -> Self {
        Self {
            secrets: RapidSecrets::seed(hash_seed),
            #[cfg(test)]
            mask: u64::MAX,
        }
    }

    /// The hasher that leaves only these bits of a hash, so that keys share it.
    #[cfg(test)]
    pub(crate) fn masked(self, mask: u64) -> Self {
        Self { mask, ..self }
    }

    /// The hash of a key.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let hash = rapidhash_v3_seeded(key, &self.secrets);
        #[cfg(test)]
        let hash = hash & self.mask;
        hash
    }
}
