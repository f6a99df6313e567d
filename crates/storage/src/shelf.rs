//! Which snapshot files there are, which of them counts, and which may go.
//!
//! Invariants: the file that a shard's log begins at is on the shelf; a file is removed only
//! when a durable and attested frame names a newer one, and nobody holds it. An older snapshot
//! never replaces a newer one.

use std::collections::BTreeMap;

use flotilla_raft::{Index, SnapshotMeta};
use flotilla_shard::ShardId;

use crate::snapshot::SnapshotFile;

/// The durable snapshot files of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    /// Per shard, in the order of their indexes: the one its log begins at, and newer ones.
    current: BTreeMap<ShardId, Vec<SnapshotFile>>,
    /// Files that no log will need once the frame of that sequence is attested.
    retired: Vec<(u64, SnapshotFile)>,
    holds: BTreeMap<String, u32>,
}

impl Shelf {
    /// Takes a durable file. Gives back a name to remove if it is not needed.
    pub(crate) fn register(&mut self, file: SnapshotFile, begins_at: Index) -> Option<String> {
        let files = self.current.entry(file.shard).or_default();
        let at = files.partition_point(|other| other.meta.index < file.meta.index);
        let known = files.get(at).is_some_and(|other| other.meta.index == file.meta.index);
        if known || file.meta.index <= begins_at {
            let again = files.iter().any(|other| other.name == file.name);
            assert!(!again, "a snapshot file is reported durable once");
            return Some(file.name);
        }
        files.insert(at, file);
        None
    }

    /// Puts the file a recovered log begins at on the shelf.
    pub(crate) fn restore(&mut self, file: SnapshotFile) {
        self.current.insert(file.shard, vec![file]);
    }

    /// The file that stands for `meta`.
    pub(crate) fn find(&self, shard: ShardId, meta: &SnapshotMeta) -> Option<&SnapshotFile> {
        let files = self.current.get(&shard)?;
        files.iter().find(|file| file.meta.index == meta.index && file.meta.term == meta.term)
    }

    /// The newest file of a shard.
    pub(crate) fn newest(&self, shard: ShardId) -> Option<&SnapshotFile> {
        self.current.get(&shard)?.last()
    }

    /// The file at exactly that index, also if it is retired but still there.
    pub(crate) fn at(&self, shard: ShardId, index: Index) -> Option<&SnapshotFile> {
        let current = self.current.get(&shard).into_iter().flatten();
        let all = current.chain(self.retired.iter().map(|(_, file)| file));
        all.filter(|file| file.shard == shard).find(|file| file.meta.index == index)
    }

    /// The log of `shard` begins at `index` from frame `sequence` on: older files are retired.
    pub(crate) fn retire_below(&mut self, shard: ShardId, index: Index, sequence: u64) {
        let files = self.current.entry(shard).or_default();
        let keep = files.partition_point(|file| file.meta.index < index);
        self.retired.extend(files.drain(..keep).map(|file| (sequence, file)));
    }

    /// The shard leaves with frame `sequence`.
    pub(crate) fn retire_all(&mut self, shard: ShardId, sequence: u64) {
        let files = self.current.remove(&shard).unwrap_or_default();
        self.retired.extend(files.into_iter().map(|file| (sequence, file)));
    }

    /// The names of retired files that may be removed now; they leave the shelf.
    pub(crate) fn removable(&mut self, attested_through: u64) -> Vec<String> {
        let holds = &self.holds;
        let due = |(sequence, file): &mut (u64, SnapshotFile)| {
            *sequence <= attested_through && !holds.contains_key(&file.name)
        };
        self.retired.extract_if(.., due).map(|(_, file)| file.name).collect()
    }

    /// Keeps a file until it is released as often as it was held.
    pub(crate) fn hold(&mut self, name: &str) {
        *self.holds.entry(name.to_string()).or_default() += 1;
    }

    /// Ends one hold.
    pub(crate) fn release(&mut self, name: &str) {
        let count = self.holds.get_mut(name).expect("only what is held is released");
        *count -= 1;
        if *count == 0 {
            self.holds.remove(name);
        }
    }

    /// Gives up a file that no log begins at.
    pub(crate) fn discard(&mut self, shard: ShardId, index: Index, begins_at: Index) {
        assert!(index > begins_at, "the snapshot a log begins at is not discarded");
        let files = self.current.entry(shard).or_default();
        let at = files.iter().position(|file| file.meta.index == index);
        self.retired.extend(at.map(|at| (0, files.remove(at))));
    }
}
