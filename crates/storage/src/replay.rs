//! Replaying the frames of a chain: what each shard's log is after them.
//!
//! Replay begins at the checkpoint of the oldest segment that is needed. What lies in segments
//! before it is dead by then, so a log may have a hole at its beginning while it is replayed;
//! at the end no hole may be left. Later checkpoints are compared with what was replayed.

use std::collections::BTreeMap;

use flotilla_raft::{Entry, HardState, Index, Recovered, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::format::{ENTRY_HEAD, FLAG_CHECKPOINT};
use crate::frame::{Frame, ItemKind, Record, ShardCheckpoint, read_records, read_table};
use crate::live::{Extent, Live, Place, ShardLog};
use crate::snapshot::SnapshotFile;

/// The state of a lane while its log is replayed.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) node_state: Option<Vec<u8>>,
    pub(crate) shards: BTreeMap<ShardId, ReplayedShard>,
    pub(crate) frames: u64,
    /// The table of the last frame.
    pub(crate) table: Vec<u8>,
}

/// One shard's log while it is replayed.
#[derive(Default)]
pub(crate) struct ReplayedShard {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    pub(crate) file: Option<SnapshotFile>,
    last: (Index, Term),
    entries: BTreeMap<Index, (Entry, Place)>,
}

/// How the log contradicts itself.
type Contradiction = String;

impl Replay {
    /// Takes one frame.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>, place: Place) -> Result<(), Contradiction> {
        let table = read_table(frame.table).ok_or("the table makes no sense")?;
        let records = read_records(frame.body).ok_or("the records make no sense")?;
        let checkpoint = frame.header.flags & FLAG_CHECKPOINT != 0;
        for entry in table.iter().filter(|_| !checkpoint) {
            let leaves = entry.items.iter().any(|item| item.kind == ItemKind::Removed);
            if !leaves {
                self.shards.entry(entry.shard).or_default().hard_state = entry.hard_state;
            }
        }
        for record in records {
            self.record(record, place)?;
        }
        self.frames += 1;
        self.table = frame.table.to_vec();
        Ok(())
    }

    fn record(&mut self, record: Record<'_>, place: Place) -> Result<(), Contradiction> {
        match record {
            Record::Node(state) => self.node_state = Some(state.to_vec()),
            Record::Removed { shard } => {
                self.shards.remove(&shard);
            }
            Record::Checkpoint(shards) if self.frames == 0 => self.begin(shards),
            Record::Checkpoint(shards) => self.compare(shards)?,
            Record::Entries { shard, previous_term, entries } => {
                self.shard(shard)?.replace(shard, previous_term, entries, place)?;
            }
            Record::Carry { shard, entries } => self.shard(shard)?.carry(shard, entries, place)?,
            Record::Reset { shard, keeps_later, meta, file } => {
                let file = file.map(|file| *file);
                self.shard(shard)?.reset(shard, keeps_later, meta, file)?;
            }
        }
        Ok(())
    }

    fn shard(&mut self, shard: ShardId) -> Result<&mut ReplayedShard, Contradiction> {
        let found = self.shards.get_mut(&shard);
        found.ok_or_else(|| format!("a record of shard {} that the table does not name", shard.0))
    }

    fn begin(&mut self, shards: Vec<ShardCheckpoint>) {
        for said in shards {
            let replayed = ReplayedShard {
                hard_state: said.hard_state,
                snapshot: said.snapshot,
                file: said.file,
                last: said.last,
                entries: BTreeMap::new(),
            };
            self.shards.insert(said.shard, replayed);
        }
    }

    fn compare(&self, shards: Vec<ShardCheckpoint>) -> Result<(), Contradiction> {
        let replayed = self.shards.iter().map(|(&shard, log)| log.checkpoint(shard));
        for (shard, (said, replayed)) in shards.iter().zip(replayed).enumerate() {
            if *said != replayed {
                return Err(format!("checkpoint entry {shard}: {said:?}, but {replayed:?}"));
            }
        }
        if shards.len() != self.shards.len() {
            return Err("a checkpoint names other shards than the log before it".into());
        }
        Ok(())
    }

    /// Fails if a log has a hole.
    pub(crate) fn check_whole(&self) -> Result<(), Contradiction> {
        for (shard, log) in &self.shards {
            let first = log.snapshot.index.next().0;
            let present = log.entries.keys().map(|index| index.0);
            let mut expected = first..=log.last.0.0;
            if let Some((_, hole)) = present.zip(&mut expected).find(|(have, want)| have != want) {
                return Err(format!("shard {} lacks entry {hole}", shard.0));
            }
            if let Some(missing) = expected.next() {
                return Err(format!("shard {} lacks entry {missing}", shard.0));
            }
        }
        Ok(())
    }
}

impl ReplayedShard {
    fn replace(
        &mut self,
        shard: ShardId,
        previous_term: Term,
        entries: Vec<Entry>,
        place: Place,
    ) -> Result<(), Contradiction> {
        let first = entries[0].index;
        if first <= self.snapshot.index || first > self.last.0.next() {
            let (snapshot, last) = (self.snapshot.index, self.last.0);
            let log = format!("a log with snapshot {snapshot} and last {last}");
            return Err(format!("shard {}: entries from {first} on in {log}", shard.0));
        }
        if self.term_at(first.previous()).is_some_and(|term| term != previous_term) {
            return Err(format!("shard {}: entry {first} follows another term", shard.0));
        }
        self.entries.split_off(&first);
        for entry in entries {
            self.last = (entry.index, entry.term);
            self.entries.insert(entry.index, (entry, place));
        }
        Ok(())
    }

    fn carry(
        &mut self,
        shard: ShardId,
        entries: Vec<Entry>,
        place: Place,
    ) -> Result<(), Contradiction> {
        for entry in entries {
            let index = entry.index;
            let inside = index > self.snapshot.index && index <= self.last.0;
            if !inside || self.term_at(index).is_some_and(|term| term != entry.term) {
                return Err(format!("shard {}: {index} is carried but not in the log", shard.0));
            }
            self.entries.insert(index, (entry, place));
        }
        Ok(())
    }

    fn reset(
        &mut self,
        shard: ShardId,
        keeps_later: bool,
        meta: SnapshotMeta,
        file: Option<SnapshotFile>,
    ) -> Result<(), Contradiction> {
        let index = meta.index;
        let known = self.term_at(index);
        let fits = !keeps_later || (index <= self.last.0 && known.is_none_or(|t| t == meta.term));
        if index <= self.snapshot.index || file.is_none() || !fits {
            return Err(format!("shard {}: a reset to {index} does not fit its log", shard.0));
        }
        if keeps_later {
            self.entries = self.entries.split_off(&index.next());
        } else {
            self.entries.clear();
            self.last = (index, meta.term);
        }
        self.snapshot = meta;
        self.file = file;
        Ok(())
    }

    /// The term at an index, where it is known.
    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        if index == self.last.0 {
            return Some(self.last.1);
        }
        self.entries.get(&index).map(|(entry, _)| entry.term)
    }

    fn checkpoint(&self, shard: ShardId) -> ShardCheckpoint {
        ShardCheckpoint {
            shard,
            hard_state: self.hard_state,
            last: self.last,
            snapshot: self.snapshot.clone(),
            file: self.file.clone(),
        }
    }

    /// What the core gets and what the log remembers.
    pub(crate) fn finish(self, live: &mut Live) -> (Recovered, ShardLog) {
        let (hard_state, snapshot) = (self.hard_state, self.snapshot);
        let mut log = ShardLog::begin(hard_state, snapshot.clone(), self.file);
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut open: Option<(Extent, Vec<(Index, Term)>)> = None;
        for (index, (entry, place)) in self.entries {
            let bytes = (ENTRY_HEAD + entry.payload.len()) as u64;
            match &mut open {
                Some((extent, terms)) if extent.place == place => {
                    extent.last = index;
                    extent.bytes += bytes;
                    terms.push((index, entry.term));
                }
                _ => {
                    if let Some((extent, terms)) = open.take() {
                        log.restore(extent, &terms, live);
                    }
                    let extent = Extent { first: index, last: index, place, bytes };
                    open = Some((extent, vec![(index, entry.term)]));
                }
            }
            entries.push(entry);
        }
        if let Some((extent, terms)) = open {
            log.restore(extent, &terms, live);
        }
        (Recovered { hard_state, snapshot, entries, damaged: Vec::new() }, log)
    }
}
