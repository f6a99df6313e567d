//! Keys on their way from a backup to a cluster, many at a time.

use flotilla_kv::SnapshotKey;
use flotilla_shard::Slot;

/// A batch is closed when it has so many bytes; one large value can make it larger.
const BYTES: usize = 256 << 10;
/// A batch is closed when it has so many keys.
const KEYS: usize = 512;

/// Some keys, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    items: Vec<Place>,
}

/// Where a key is in a batch.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: Slot,
    key: usize,
    value: usize,
    end: usize,
    expires_at_ms: Option<u64>,
}

impl Batch {
    /// Adds a key; says whether the batch is full.
    pub(crate) fn push(&mut self, item: &SnapshotKey<'_>) -> bool {
        let key = self.bytes.len();
        self.bytes.extend_from_slice(item.key);
        let value = self.bytes.len();
        self.bytes.extend_from_slice(item.value);
        let end = self.bytes.len();
        let SnapshotKey { slot, expires_at_ms, .. } = *item;
        self.items.push(Place { slot, key, value, end, expires_at_ms });
        self.bytes.len() >= BYTES || self.items.len() >= KEYS
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// A key, from 0. Panics if there are not so many.
    pub(crate) fn item(&self, at: usize) -> SnapshotKey<'_> {
        let Place { slot, key, value, end, expires_at_ms } = self.items[at];
        let (key, value) = (&self.bytes[key..value], &self.bytes[value..end]);
        SnapshotKey { slot, key, value, expires_at_ms }
    }
}
