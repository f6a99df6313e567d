//! What waits to stand in a frame although no replica wrote it now.
//!
//! *Carrying* frees an old segment in which a few entries are still live because their shard
//! can't be snapshotted (no quorum, or simply idle): they are read from it and stand again in new
//! frames. A carried entry changes nothing but where it is. A hole is carried as what it is; a
//! repaired entry is carried into its hole.

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::{Entry, Index};
use flotilla_shard::ShardId;

use crate::live::ShardLog;
use crate::load::{CarryLoad, CarryPiece};
use crate::table::Identities;

/// The most holes that one record names.
const HOLES_MAX: usize = 512;

/// Something that waits for a frame.
#[derive(Clone, Debug)]
enum Waiting {
    /// Entries that were read from an old segment.
    Loaded(CarryPiece),
    /// Holes in this range are to be stated anew.
    Holes { shard: ShardId, first: Index, last: Index },
    /// Payloads of holes.
    Repaired { shard: ShardId, entries: Vec<Entry> },
}

/// Contiguous entries of one shard for one frame.
#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Holes(Identities),
    Entries(Vec<Entry>),
}

/// What waits for a frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carry {
    queue: VecDeque<Waiting>,
    /// The segment that is being read.
    pub(crate) loading: Option<u64>,
}

impl Carry {
    /// Takes what a chore has read.
    pub(crate) fn loaded(&mut self, load: &CarryLoad) {
        assert_eq!(self.loading, Some(load.id.number), "a load was asked for");
        self.loading = None;
        self.queue.extend(load.wanted.iter().cloned().map(Waiting::Loaded));
    }

    /// The holes in that range must be stated anew.
    pub(crate) fn state_holes(&mut self, shard: ShardId, first: Index, last: Index) {
        self.queue.push_back(Waiting::Holes { shard, first, last });
    }

    /// Payloads of holes have come.
    pub(crate) fn repaired(&mut self, shard: ShardId, entries: Vec<Entry>) {
        self.queue.push_back(Waiting::Repaired { shard, entries });
    }

    /// Whether nothing waits for a frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether nothing is read or being read.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.loading.is_none()
    }

    /// What to carry in one frame: at least one piece, about `limit` bytes; holes first, since a
    /// repair may be among them.
    pub(crate) fn take(
        &mut self,
        limit: usize,
        shards: &BTreeMap<ShardId, ShardLog>,
    ) -> Vec<(ShardId, Carried)> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < limit {
            let Some(waiting) = self.queue.pop_front() else { break };
            match waiting {
                Waiting::Loaded(piece) => bytes += take_loaded(&piece, shards, &mut taken),
                Waiting::Holes { shard, first, last } => {
                    let Some(log) = shards.get(&shard) else { continue };
                    let mut runs = log.holes_within(first, last, HOLES_MAX).into_iter();
                    let Some(run) = runs.next() else { continue };
                    if runs.next().is_some() {
                        let first = run.last().next();
                        self.queue.push_front(Waiting::Holes { shard, first, last });
                    }
                    bytes += run.iter().count();
                    taken.push((shard, Carried::Holes(run)));
                }
                Waiting::Repaired { shard, entries } => {
                    let Some(log) = shards.get(&shard) else { continue };
                    for run in fitting(log, entries) {
                        bytes += run.iter().map(|entry| entry.payload.len()).sum::<usize>();
                        taken.push((shard, Carried::Entries(run)));
                    }
                }
            }
        }
        taken.sort_by_key(|(_, carried)| matches!(carried, Carried::Entries(_)));
        taken
    }
}

/// The entries of a piece that are still live where they were read; gives back their size.
fn take_loaded(
    piece: &CarryPiece,
    shards: &BTreeMap<ShardId, ShardLog>,
    taken: &mut Vec<(ShardId, Carried)>,
) -> usize {
    let Some(log) = shards.get(&piece.shard) else { return 0 };
    let mut bytes = 0;
    for extent in log.extents_at(piece.place, piece.first, piece.last).filter(|e| e.whole) {
        let (first, last) = (extent.first.max(piece.first), extent.last.min(piece.last));
        let (from, to) = (first.0 - piece.first.0, last.0 - piece.first.0);
        let entries = piece.entries[from as usize..=to as usize].to_vec();
        for entry in &entries {
            let same = log.term_at(entry.index) == Some(entry.term);
            assert!(same, "what is carried is what the log has");
        }
        bytes += extent.bytes as usize;
        taken.push((piece.shard, Carried::Entries(entries)));
    }
    bytes
}

/// The entries for which there is a hole of their index and term, in runs without a gap.
fn fitting(log: &ShardLog, mut entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    entries
        .retain(|entry| log.is_hole(entry.index) && log.term_at(entry.index) == Some(entry.term));
    let runs = entries.chunk_by(|a, b| a.index.next() == b.index);
    runs.map(<[Entry]>::to_vec).collect()
}
