//! One host: a disk whose writes finish when the test says so, and a machine that remembers all it
//! applied.

use std::collections::{BTreeSet, VecDeque};

use flotilla_raft::{
    Config, Entry, HardState, Index, Payload, Raft, Recovered, ReplicaId, SnapshotMeta, Term, Time,
    Write, WriteSeq,
};

use super::transfer::{Chunking, Transfers};

/// A snapshot file: all that was applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) history: Vec<Entry>,
}

/// A log as a disk, or a disk with all its open writes, would show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
    /// Entries whose payload can't be read any more.
    pub(crate) damaged: BTreeSet<Index>,
}

impl Disk {
    pub(crate) fn apply(&mut self, write: &Write) {
        self.hard_state = write.hard_state;
        if let Some(meta) = &write.snapshot {
            if self.term_at(meta.index) == Some(meta.term) {
                self.entries.retain(|entry| entry.index > meta.index);
            } else {
                self.entries.clear();
                self.damaged.clear();
            }
            self.damaged = self.damaged.split_off(&meta.index.next());
            self.snapshot = (**meta).clone();
        }
        if let Some(first) = write.entries.first() {
            assert!(first.index > self.snapshot.index, "a write is above the snapshot");
            assert!(first.index <= self.last_index().next(), "a write leaves no gap");
            self.entries.retain(|entry| entry.index < first.index);
            self.damaged.retain(|index| *index < first.index);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    /// Whether it has that entry, and can read it; a snapshot over it will do.
    pub(crate) fn has_whole(&self, index: Index, term: Term) -> bool {
        index <= self.snapshot.index
            || (self.term_at(index) == Some(term) && !self.damaged.contains(&index))
    }

    /// Whether any payload can't be read.
    pub(crate) fn has_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Damages the payload of an entry.
    pub(crate) fn damage(&mut self, index: Index) {
        self.damaged.insert(index);
    }

    fn repair(&mut self, entry: &Entry) {
        if self.term_at(entry.index) == Some(entry.term) && entry.index > self.snapshot.index {
            self.damaged.remove(&entry.index);
            let offset = entry.index.0 - self.snapshot.index.0 - 1;
            self.entries[offset as usize] = entry.clone();
        }
    }

    /// What can be read of an entry: of a damaged one, index and term.
    fn readable(&self, entry: &Entry) -> Entry {
        if !self.damaged.contains(&entry.index) {
            return entry.clone();
        }
        Entry { payload: Payload::new(b"damaged".to_vec()), ..entry.clone() }
    }

    /// What is found on it after a crash.
    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: self.entries.iter().map(|entry| self.readable(entry)).collect(),
            damaged: self.damaged.iter().copied().collect(),
        }
    }

    pub(crate) fn last_index(&self) -> Index {
        Index(self.snapshot.index.0 + self.entries.len() as u64)
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        let offset = index.0.checked_sub(self.snapshot.index.0 + 1)?;
        self.entries.get(offset as usize).map(|entry| entry.term)
    }
}

/// A host's clock, which need not run as fast as the world's.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) per_mille: u64,
    pub(crate) offset: u64,
}

impl Clock {
    pub(crate) fn local(self, world: Time) -> Time {
        Time(self.offset + world.0 * self.per_mille / 1000)
    }

    /// The first moment of the world at which this clock shows `local`.
    fn world(self, local: Time) -> Time {
        if local == Time::NEVER {
            return local;
        }
        Time((local.0.saturating_sub(self.offset) * 1000).div_ceil(self.per_mille))
    }
}

pub(crate) struct Host {
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) raft: Option<Raft>,
    /// What would survive a crash.
    pub(crate) disk: Disk,
    /// The disk with all open writes.
    pub(crate) asked: Disk,
    open: VecDeque<Write>,
    /// What the core wants from its disk.
    pub(crate) loads: Vec<(Index, usize)>,
    /// The newest snapshot file.
    pub(crate) snapshot: Snapshot,
    /// Every snapshot file ever made or received here, which a log may begin at.
    pub(crate) files: Vec<Snapshot>,
    /// Snapshots on their way, in chunks.
    pub(crate) transfers: Transfers,
    /// Everything applied, from index 1.
    pub(crate) applied: Vec<Entry>,
    pub(crate) to_report: Option<Index>,
    /// Nothing is reported as applied.
    pub(crate) holds_applying: bool,
    /// No write ends by itself.
    pub(crate) disk_hangs: bool,
    /// After a crash it knows what it had received of a snapshot.
    pub(crate) keeps_notes: bool,
    /// Its snapshot is still being read: what is handed out waits behind that, and is void if it
    /// can't be read.
    pub(crate) is_loading: bool,
}

impl Host {
    pub(crate) fn new(config: Config, recovered: Recovered, now: Time) -> Self {
        let disk = Disk {
            hard_state: recovered.hard_state,
            snapshot: recovered.snapshot.clone(),
            entries: recovered.entries.clone(),
            damaged: BTreeSet::new(),
        };
        let snapshot = Snapshot { meta: recovered.snapshot.clone(), history: Vec::new() };
        Self {
            clock: Clock { per_mille: 1000, offset: 0 },
            raft: Some(Raft::new(config.clone(), recovered, now)),
            config,
            asked: disk.clone(),
            disk,
            open: VecDeque::new(),
            loads: Vec::new(),
            files: vec![snapshot.clone()],
            snapshot,
            transfers: Transfers::new(Chunking::default()),
            applied: Vec::new(),
            to_report: None,
            holds_applying: false,
            disk_hangs: false,
            keeps_notes: true,
            is_loading: false,
        }
    }

    /// When its core wants to be woken, in the world's time; never if it is down.
    pub(crate) fn deadline(&self) -> Time {
        self.raft.as_ref().map_or(Time::NEVER, |raft| self.clock.world(raft.deadline()))
    }

    pub(crate) fn id(&self) -> ReplicaId {
        self.config.id
    }

    pub(crate) fn applied_index(&self) -> Index {
        Index(self.applied.len() as u64)
    }

    pub(crate) fn has_open_write(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn ask(&mut self, write: Write) {
        self.asked.apply(&write);
        self.open.push_back(write);
    }

    pub(crate) fn repair(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.disk.repair(entry);
            self.asked.repair(entry);
        }
    }

    pub(crate) fn load(&self, from: Index, bytes: usize) -> Vec<Entry> {
        let mut budget = bytes;
        let entries = self.disk.entries.iter().filter(|entry| entry.index >= from);
        let entries = entries.take_while(|entry| !self.disk.damaged.contains(&entry.index));
        let fits = |entry: &&Entry| {
            let fits = budget > 0;
            budget = budget.saturating_sub(entry.payload.len() + 32);
            fits
        };
        let known = from > self.disk.snapshot.index;
        entries.take_while(fits).filter(|_| known).cloned().collect()
    }

    pub(crate) fn finish_write(&mut self) -> Option<WriteSeq> {
        let write = self.open.pop_front()?;
        self.disk.apply(&write);
        self.raft.is_some().then_some(write.seq)
    }

    pub(crate) fn apply(&mut self, entries: Vec<Entry>) {
        assert_eq!(entries[0].index, self.applied_index().next(), "entries are applied in order");
        self.applied.extend(entries);
    }

    pub(crate) fn restore(&mut self, meta: &SnapshotMeta) {
        self.snapshot = self.file(meta);
        self.is_loading = false;
        self.applied = self.snapshot.history.clone();
    }

    /// The snapshot can't be read: what was handed out since is void.
    pub(crate) fn lose_state(&mut self) {
        self.is_loading = false;
        self.applied = self.snapshot.history.clone();
        self.to_report = None;
    }

    /// Begins with that log and that snapshot instead.
    pub(crate) fn begin_with(&mut self, disk: Disk, snapshot: Snapshot) {
        (self.asked, self.disk) = (disk.clone(), disk);
        self.files.push(snapshot);
        self.restart(Time(0));
    }

    fn file(&self, meta: &SnapshotMeta) -> Snapshot {
        let file = self.files.iter().find(|file| file.meta == *meta);
        file.expect("a log begins at a snapshot that is there").clone()
    }

    pub(crate) fn crash(&mut self, kept: usize) {
        for _ in 0..kept.min(self.open.len()) {
            let write = self.open.pop_front().expect("it was counted");
            self.disk.apply(&write);
        }
        self.open.clear();
        self.loads.clear();
        self.asked = self.disk.clone();
        self.raft = None;
        self.to_report = None;
        self.is_loading = false;
        self.transfers.sending.clear();
    }

    pub(crate) fn restart(&mut self, now: Time) {
        self.snapshot = self.file(&self.disk.snapshot);
        self.applied = self.snapshot.history.clone();
        let recovered = self.disk.recovered();
        self.transfers.restart(self.keeps_notes, now);
        let now = self.clock.local(now);
        self.raft = Some(Raft::new(self.config.clone(), recovered, now));
    }

    /// Gives a fresh replica another clock.
    pub(crate) fn set_clock(&mut self, clock: Clock, now: Time) {
        self.clock = clock;
        self.restart(now);
    }
}
