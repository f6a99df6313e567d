//! A lane with a disk that crashes, and a dumb twin that knows what must be on it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use flotilla_raft::{
    Configuration, Entry, EntryKind, HardState, Index, Payload, Recovered, ReplicaId, SnapshotMeta,
    Term, Write, WriteSeq,
};
use flotilla_shard::ShardId;
use flotilla_storage::{
    Chore, Disk, FrameWrite, Log, MemoryDisk, Options, RecoverError, RecoveredLane, SnapshotWriter,
    StoredSnapshot,
};

/// A small generator, so that a run is its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What must be on disk: the twin of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Twin {
    pub(crate) node_state: Option<Vec<u8>>,
    pub(crate) shards: BTreeMap<ShardId, Recovered>,
}

impl Twin {
    pub(crate) fn of(lane: &RecoveredLane) -> Self {
        Self { node_state: lane.node_state.clone(), shards: lane.shards.clone() }
    }

    pub(crate) fn apply(&mut self, node_state: Option<&[u8]>, writes: &[(ShardId, Write)]) {
        if let Some(state) = node_state {
            self.node_state = Some(state.to_vec());
        }
        for (shard, write) in writes {
            let log = self.shards.entry(*shard).or_default();
            log.hard_state = write.hard_state;
            if let Some(meta) = &write.snapshot {
                let same = |entry: &Entry| entry.index == meta.index && entry.term == meta.term;
                if log.entries.iter().any(same) {
                    log.entries.retain(|entry| entry.index > meta.index);
                } else {
                    log.entries.clear();
                }
                log.snapshot = (**meta).clone();
            }
            if let Some(first) = write.entries.first() {
                log.entries.retain(|entry| entry.index < first.index);
                log.entries.extend(write.entries.iter().cloned());
            }
        }
    }

    pub(crate) fn last(&self, shard: ShardId) -> (Index, Term) {
        let Some(log) = self.shards.get(&shard) else { return (Index(0), Term(0)) };
        let snapshot = (log.snapshot.index, log.snapshot.term);
        log.entries.last().map_or(snapshot, |entry| (entry.index, entry.term))
    }

    pub(crate) fn term_at(&self, shard: ShardId, index: Index) -> Option<Term> {
        let Some(log) = self.shards.get(&shard) else {
            return (index.0 == 0).then_some(Term(0));
        };
        if log.snapshot.index == index {
            return Some(log.snapshot.term);
        }
        log.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term)
    }
}

/// Compares what was found with what must be there: every shard is lost, or has kept every promise
/// and lacks nothing but payloads that it names. Gives back how many it lacks.
pub(crate) fn compare(found: &RecoveredLane, whole: &Twin) -> Result<usize, String> {
    if !found.incomplete && found.node_state != whole.node_state {
        return Err("the node's state is another".into());
    }
    let mut holes = 0;
    for (shard, whole) in &whole.shards {
        let kept = match (found.shards.get(shard), found.lost.get(shard)) {
            (Some(kept), None) => kept,
            (None, Some(left)) => {
                compare_head_start(*shard, left, whole)?;
                continue;
            }
            (None, None) if found.incomplete => continue,
            _ => return Err(format!("shard {shard}: neither lost nor kept")),
        };
        let of = |entry: &Entry| (entry.index, entry.term);
        // Who found a damage while running and could not read its table takes the entries for what
        // they may be at worst.
        let kinds = kept.entries.iter().zip(&whole.entries).all(|(kept, whole)| {
            let at_worst = kept.kind == EntryKind::Configuration;
            kept.kind == whole.kind || at_worst && found.shards[shard].damaged.contains(&kept.index)
        });
        let same = (kept.hard_state, &kept.snapshot) == (whole.hard_state, &whole.snapshot)
            && kept.entries.iter().map(of).eq(whole.entries.iter().map(of))
            && kinds;
        if !same {
            return Err(format!("shard {shard}: {kept:?} instead of {whole:?}"));
        }
        for (kept, whole) in kept.entries.iter().zip(&whole.entries) {
            let damaged = found.shards[shard].damaged.contains(&kept.index);
            holes += usize::from(damaged);
            if !damaged && kept.payload != whole.payload {
                return Err(format!("shard {shard}: entry {} is another", kept.index));
            }
        }
    }
    let unknown = found.shards.keys().any(|shard| !whole.shards.contains_key(shard));
    if unknown { Err("there is a shard that never was".into()) } else { Ok(holes) }
}

/// What is left of a lost shard is of its log: each entry is what log matching has it be.
fn compare_head_start(shard: ShardId, left: &Recovered, whole: &Recovered) -> Result<(), String> {
    for found in &left.entries {
        let same_log = whole
            .entries
            .iter()
            .any(|entry| (entry.index, entry.term) == (found.index, found.term));
        let damaged = left.damaged.contains(&found.index);
        let genuine = entry(shard, found.index.0, found.term.0);
        if same_log && !damaged && *found != genuine {
            return Err(format!("shard {shard}: entry {} never was", found.index));
        }
    }
    Ok(())
}

/// An entry whose content is a function of its identity, as log matching has it.
pub(crate) fn entry(shard: ShardId, index: u64, term: u64) -> Entry {
    let mut random = Random(u64::from(shard.0) << 48 ^ index << 16 ^ term);
    let length = match random.below(20) {
        0 => random.below(9000),
        _ => random.below(200),
    };
    let bytes = (0..length).map(|_| random.next() as u8).collect();
    let kind = match random.below(5) {
        0 => EntryKind::Empty,
        1 => EntryKind::Configuration,
        _ => EntryKind::Normal,
    };
    Entry { index: Index(index), term: Term(term), kind, payload: Payload::new(bytes) }
}

pub(crate) fn meta(index: u64, term: u64) -> SnapshotMeta {
    let configuration = Configuration {
        voters: vec![ReplicaId(1), ReplicaId(index)],
        outgoing: if index.is_multiple_of(2) { vec![ReplicaId(4)] } else { Vec::new() },
        learners: vec![ReplicaId(term)],
        retired: ReplicaId(index / 2),
        lease: term,
    };
    SnapshotMeta { index: Index(index), term: Term(term), configuration }
}

/// A write of entries `first..=last`, all of one term.
pub(crate) fn write(shard: u32, term: u64, first: u64, last: u64) -> (ShardId, Write) {
    let shard = ShardId(shard);
    let entries = (first..=last).map(|index| entry(shard, index, term)).collect();
    let hard_state = HardState { term: Term(term), voted_for: Some(ReplicaId(9)) };
    (shard, Write { seq: WriteSeq(1), hard_state, snapshot: None, entries })
}

pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 32 << 10,
        spare_segments: 1,
        max_segments: 3,
        carry_frame_bytes: 600,
        carry_load_bytes: 3000,
    }
}

/// A log on a disk, driven as a driver would.
pub(crate) struct Lane {
    pub(crate) disk: MemoryDisk,
    pub(crate) log: Log,
    pub(crate) options: Options,
    pub(crate) twin: Twin,
    /// Where the last frame went.
    pub(crate) last_offset: u64,
}

impl Lane {
    pub(crate) fn new(options: Options) -> Self {
        Self::open(MemoryDisk::new(), options, 7).expect("a blank disk is fine")
    }

    pub(crate) fn open(
        mut disk: MemoryDisk,
        options: Options,
        seed: u64,
    ) -> Result<Self, RecoverError> {
        let (log, lane) = Log::recover(&mut disk, options.clone(), seed)?;
        let twin = Twin::of(&lane);
        Ok(Self { disk, log, options, twin, last_offset: 0 })
    }

    /// One turn, durable on return.
    pub(crate) fn turn(&mut self, writes: &[(ShardId, Write)]) {
        self.turn_with(None, writes);
    }

    pub(crate) fn turn_with(&mut self, node_state: Option<&[u8]>, writes: &[(ShardId, Write)]) {
        let frame = self.log.append(node_state, writes);
        self.twin.apply(node_state, writes);
        self.store(frame);
    }

    pub(crate) fn seal(&mut self) {
        if let Some(frame) = self.log.seal() {
            self.store(frame);
        }
        assert!(!self.log.needs_seal());
    }

    pub(crate) fn store(&mut self, frame: FrameWrite) {
        begin(&mut self.disk, &frame);
        self.disk.sync(&frame.file).expect("a sync");
        self.log.written(frame.sequence);
        assert_eq!(self.log.durable_through(), self.log.sequence());
        self.last_offset = frame.offset;
        self.log.reuse(frame.data);
    }

    /// A durable snapshot file of these chunks; the log does not begin at it yet.
    pub(crate) fn snapshot(&mut self, shard: ShardId, meta: &SnapshotMeta, chunks: &[&[u8]]) {
        let file = store_snapshot(&mut self.disk, &mut self.log, shard, meta, chunks);
        self.log.snapshot_durable(file);
    }

    /// A turn in which the shard's log begins at a snapshot.
    pub(crate) fn reset(&mut self, shard: ShardId, meta: &SnapshotMeta) {
        self.snapshot(shard, meta, &[b"state"]);
        let hard_state = self.twin.shards[&shard].hard_state;
        let snapshot = Some(Box::new(meta.clone()));
        self.turn(&[(
            shard,
            Write { seq: WriteSeq(1), hard_state, snapshot, entries: Vec::new() },
        )]);
    }

    /// Writes what waits for a frame that no turn asks for.
    pub(crate) fn write_waiting(&mut self) {
        while self.log.needs_frame() {
            let frame = self.log.append(None, &[]);
            self.store(frame);
        }
    }

    pub(crate) fn chores(&mut self) {
        for mut chore in self.log.housekeeping() {
            chore.run(&mut self.disk).expect("a chore");
            self.log.chore_done(&chore);
        }
    }

    /// Opens the same disk again.
    pub(crate) fn reopen(self) -> Self {
        let twin = self.twin;
        let lane = Self::open(self.disk, self.options, 8).expect("nothing is damaged");
        assert_eq!(lane.twin, twin);
        lane
    }
}

pub(crate) fn store_snapshot(
    disk: &mut MemoryDisk,
    log: &mut Log,
    shard: ShardId,
    meta: &SnapshotMeta,
    chunks: &[&[u8]],
) -> StoredSnapshot {
    let (mut writer, temporary) = log.snapshot_writer(shard, meta.clone());
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| writer.chunk(chunk, None)).collect();
    finish_snapshot(disk, writer, &temporary, bytes)
}

/// Completes the file of which these are the first bytes.
pub(crate) fn finish_snapshot(
    disk: &mut MemoryDisk,
    writer: SnapshotWriter,
    temporary: &str,
    mut bytes: Vec<u8>,
) -> StoredSnapshot {
    let (footer, stored) = writer.finish();
    let file = &stored.file;
    bytes.extend(footer);
    assert_eq!(bytes.len() as u64, file.bytes);
    assert_eq!(file.temporary_name(), temporary);
    disk.write(temporary, 0, &bytes).expect("room");
    disk.sync(temporary).expect("a sync");
    disk.rename(temporary, &file.name).expect("it is there");
    disk.sync_directory().expect("a sync");
    stored
}

/// Creates the file if that is asked for, and writes without a sync.
pub(crate) fn begin(disk: &mut MemoryDisk, frame: &FrameWrite) {
    if let Some(bytes) = frame.create {
        disk.create(&frame.file, bytes).expect("room");
    }
    assert!(frame.data.len().is_multiple_of(4096) && frame.offset.is_multiple_of(4096));
    assert_eq!(frame.data.as_ptr().align_offset(4096), 0);
    disk.write(&frame.file, frame.offset, &frame.data).expect("room");
}

/// The files of a disk with one of these endings.
pub(crate) fn files(disk: &mut MemoryDisk, ending: &str) -> Vec<String> {
    let names = disk.list().expect("a list");
    names.into_iter().filter(|name| name.ends_with(ending)).collect()
}

pub(crate) fn run_all(disk: &mut MemoryDisk, log: &mut Log, chores: Vec<Chore>) {
    for mut chore in chores {
        chore.run(disk).expect("a chore");
        log.chore_done(&chore);
    }
}
