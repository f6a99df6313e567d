//! Which snapshot files there are, which of them counts, and which may go.
//!
//! Invariants: the file that a shard's log begins at is on the shelf; a snapshot goes only when a
//! durable and attested frame names a newer one, and nobody holds it; its file is removed when no
//! snapshot on the shelf has chunks in it. An older snapshot never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::{Index, SnapshotMeta};
use flotilla_shard::ShardId;

use crate::snapshot::{SnapshotFile, StoredSnapshot};

/// The durable snapshot files of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    /// Per shard, in the order of their indexes: the one its log begins at, and newer ones.
    current: BTreeMap<ShardId, Vec<StoredSnapshot>>,
    /// Files that no log will need once the frame of that sequence is attested.
    retired: Vec<(u64, StoredSnapshot)>,
    holds: BTreeMap<String, u32>,
}

impl Shelf {
    /// Takes a durable file. Gives back a name to remove if it is not needed.
    pub(crate) fn register(&mut self, new: StoredSnapshot, begins_at: Index) -> Option<String> {
        let file = &new.file;
        let needed = self.needed();
        let has_bases = file.names().skip(1).all(|base| needed.contains(&base));
        let files = self.current.entry(file.shard).or_default();
        let at = files.partition_point(|other| other.file.meta.index < file.meta.index);
        let known = files.get(at).is_some_and(|other| other.file.meta.index == file.meta.index);
        if known || file.meta.index <= begins_at {
            let again = files.iter().any(|other| other.file.name == file.name);
            assert!(!again, "a snapshot file is reported durable once");
            return Some(new.file.name);
        }
        assert!(has_bases, "what a snapshot was built on is there until it is durable");
        files.insert(at, new);
        None
    }

    /// Puts the file a recovered log begins at on the shelf.
    pub(crate) fn restore(&mut self, found: StoredSnapshot) {
        self.current.insert(found.file.shard, vec![found]);
    }

    /// The file that stands for `meta`.
    pub(crate) fn find(&self, shard: ShardId, meta: &SnapshotMeta) -> Option<&SnapshotFile> {
        let mut files = self.current.get(&shard)?.iter().map(|stored| &stored.file);
        files.find(|file| file.meta.index == meta.index && file.meta.term == meta.term)
    }

    /// The newest snapshot of a shard.
    pub(crate) fn newest(&self, shard: ShardId) -> Option<&StoredSnapshot> {
        self.current.get(&shard)?.last()
    }

    /// The file at exactly that index, also if it is retired but still there.
    pub(crate) fn at(&self, shard: ShardId, index: Index) -> Option<&SnapshotFile> {
        let current = self.current.get(&shard).into_iter().flatten();
        let all = current.chain(self.retired.iter().map(|(_, stored)| stored));
        all.map(|stored| &stored.file)
            .filter(|file| file.shard == shard)
            .find(|file| file.meta.index == index)
    }

    /// The log of `shard` begins at `index` from frame `sequence` on: older files are retired.
    pub(crate) fn retire_below(&mut self, shard: ShardId, index: Index, sequence: u64) {
        let files = self.current.entry(shard).or_default();
        let keep = files.partition_point(|stored| stored.file.meta.index < index);
        self.retired.extend(files.drain(..keep).map(|stored| (sequence, stored)));
    }

    /// The shard leaves with frame `sequence`.
    pub(crate) fn retire_all(&mut self, shard: ShardId, sequence: u64) {
        let files = self.current.remove(&shard).unwrap_or_default();
        self.retired.extend(files.into_iter().map(|stored| (sequence, stored)));
    }

    /// The names of files that may be removed now, since the last snapshot with chunks in them
    /// leaves the shelf.
    pub(crate) fn removable(&mut self, attested_through: u64) -> Vec<String> {
        let holds = &self.holds;
        let due = |(sequence, stored): &mut (u64, StoredSnapshot)| {
            *sequence <= attested_through && !holds.contains_key(&stored.file.name)
        };
        let gone: Vec<_> = self.retired.extract_if(.., due).map(|(_, stored)| stored).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let needed = self.needed();
        let names: BTreeSet<_> = gone.iter().flat_map(|stored| stored.file.names()).collect();
        names.difference(&needed).cloned().collect()
    }

    /// The names of all files that have chunks of a snapshot on the shelf.
    fn needed(&self) -> BTreeSet<String> {
        let current = self.current.values().flatten();
        let all = current.chain(self.retired.iter().map(|(_, stored)| stored));
        all.flat_map(|stored| stored.file.names()).collect()
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
        let at = files.iter().position(|stored| stored.file.meta.index == index);
        self.retired.extend(at.map(|at| (0, files.remove(at))));
    }
}
