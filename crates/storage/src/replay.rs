//! Replaying the frames of a chain: what each shard's log is after them.
//!
//! Replay begins at the checkpoint of the oldest segment that is needed. What lies in segments
//! before it is dead by then, so a log may have a gap at its beginning while it is replayed; at
//! the end none may be left. Later checkpoints are compared with what was replayed.
//!
//! Of a damaged frame the table is replayed: its entries are in the log and their payloads are
//! lost. Behind a frame of which nothing is known every shard is in *doubt*, until a checkpoint
//! says what its log was: by log matching [Raft §5.3] what was replayed agrees with that if both
//! have the same last entry, else it is dropped. Whoever is in doubt at the end, or lacks entries
//! since a doubt, is lost (P4).
//!
//! Invariant: a shard's `entries` are of one log, at any moment: behind a doubt they are dropped
//! unless what follows joins them.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::{Entry, HardState, Index, Payload, Recovered, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::entries::{Entries, Spot};
use crate::format::ENTRY_HEAD;
use crate::frame::Payloads;
use crate::live::{Extent, Live, Place, ShardLog};
use crate::snapshot::SnapshotFile;
use crate::table::{Identities, Record, ShardCheckpoint, read_table};

/// One frame as far as it is known.
pub(crate) struct Frame<'a> {
    pub(crate) table: &'a [u8],
    /// `None` if it is damaged.
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) is_checkpoint: bool,
    /// The most entries it can have.
    pub(crate) entries_max: u64,
}

/// The state of a lane while its log is replayed.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) node_state: Option<Vec<u8>>,
    pub(crate) shards: BTreeMap<ShardId, ReplayedShard>,
    /// Frames read.
    pub(crate) frames: u64,
    /// The table of the last frame, if it is known.
    pub(crate) table: Option<Vec<u8>>,
    /// There may be shards that are not known, and a newer state of the node.
    pub(crate) in_doubt: bool,
    /// As above, as an earlier recovery found, and the node has not written its state since.
    pub(crate) incomplete: bool,
}

/// One shard's log while it is replayed.
#[derive(Default)]
pub(crate) struct ReplayedShard {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    pub(crate) file: Option<SnapshotFile>,
    last: (Index, Term),
    entries: Entries,
    in_doubt: bool,
    /// It was in doubt once: what is missing is lost.
    was_in_doubt: bool,
    /// What was carried since the doubt began: entries of the log as it was then, whatever stood
    /// before. All that has happened to them since is known.
    carried: BTreeMap<Index, (Entry, Spot)>,
    pub(crate) lost: bool,
}

/// How the log contradicts itself.
type Contradiction = String;

impl Replay {
    /// Takes one frame.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>, place: Place) -> Result<(), Contradiction> {
        let records =
            read_table(frame.table, frame.entries_max).ok_or("the table makes no sense")?;
        let mut payloads = frame.body.map(Payloads::new);
        let begins = self.frames == 0 && !self.in_doubt;
        if frame.is_checkpoint {
            self.incomplete = false;
            self.checkpoint(&records, begins)?;
        }
        for record in records {
            self.record(record, place, &mut payloads, frame.is_checkpoint)?;
        }
        if payloads.is_some_and(|payloads| !payloads.is_empty()) {
            return Err("the body is longer than its table says".into());
        }
        self.frames += 1;
        self.table = Some(frame.table.to_vec());
        Ok(())
    }

    /// Whether it has begun, and is in no doubt.
    pub(crate) fn is_complete(&self) -> bool {
        self.frames > 0 && !self.in_doubt
    }

    /// Here stood frames of which nothing is known.
    pub(crate) fn doubt(&mut self) {
        self.in_doubt = true;
        self.table = None;
        for log in self.shards.values_mut() {
            (log.in_doubt, log.was_in_doubt) = (true, true);
            log.carried.clear();
        }
    }

    fn record(
        &mut self,
        record: Record<'_>,
        place: Place,
        payloads: &mut Option<Payloads<'_>>,
        is_checkpoint: bool,
    ) -> Result<(), Contradiction> {
        match record {
            Record::Incomplete => self.incomplete = true,
            Record::Node(state) => {
                self.incomplete &= is_checkpoint;
                self.node_state = Some(state.to_vec());
            }
            Record::State { .. } | Record::Checkpoint(_) if is_checkpoint => {}
            Record::Checkpoint(_) => return Err("a checkpoint inside a segment".into()),
            Record::State { shard, hard_state } => {
                let in_doubt = self.in_doubt;
                let log = self.shards.entry(shard).or_insert_with(|| ReplayedShard {
                    in_doubt,
                    was_in_doubt: in_doubt,
                    ..ReplayedShard::default()
                });
                log.hard_state = hard_state;
            }
            Record::Removed { shard } => {
                self.shards.remove(&shard);
            }
            Record::Renewed { shard } => self.shard(shard)?.lost = false,
            Record::Entries { shard, previous_term, identities } => {
                let log = self.shard(shard)?;
                log.make_way(shard, previous_term, identities.first)?;
                let spot = Spot { place, whole: payloads.is_some() };
                each(&identities, payloads, |entry| {
                    log.append(entry, spot);
                    Ok(())
                })?;
            }
            Record::Carry { shard, identities } => {
                let spot = Spot { place, whole: payloads.is_some() };
                self.shard(shard)?.carry(shard, &identities, payloads, spot)?;
            }
            Record::Holes { shard, identities } => {
                let spot = Spot { place, whole: false };
                self.shard(shard)?.carry(shard, &identities, &mut None, spot)?;
            }
            Record::Reset { shard, keeps_later, to } => {
                let (meta, file) = *to;
                self.shard(shard)?.reset(shard, keeps_later, meta, file)?;
            }
        }
        Ok(())
    }

    fn shard(&mut self, shard: ShardId) -> Result<&mut ReplayedShard, Contradiction> {
        let found = self.shards.get_mut(&shard);
        found.ok_or_else(|| format!("a record of shard {} behind its removal", shard.0))
    }

    /// A checkpoint begins the replay, ends a doubt, or says what is known already.
    fn checkpoint(&mut self, table: &[Record<'_>], begins: bool) -> Result<(), Contradiction> {
        let mut named = BTreeSet::new();
        for said in table {
            let Record::Checkpoint(said) = said else { continue };
            named.insert(said.shard);
            // Only a recovery finds something lost, and its checkpoint says so; the frames that it
            // found damaged may be gone since.
            let given_up = said.lost && self.shards.get(&said.shard).is_some_and(|log| !log.lost);
            if begins || self.in_doubt || given_up {
                let log = self.shards.entry(said.shard).or_default();
                log.adopt(said, !begins);
            } else {
                let known = self.shards.get(&said.shard).map(|log| log.checkpoint(said.shard));
                if known.as_ref() != Some(&**said) {
                    return Err(format!("a checkpoint: {said:?}, but {known:?}"));
                }
            }
        }
        if self.in_doubt {
            self.shards.retain(|shard, _| named.contains(shard));
            self.in_doubt = false;
        }
        if named.len() != self.shards.len() {
            return Err("a checkpoint names other shards than the log before it".into());
        }
        Ok(())
    }

    /// At the end: what is incomplete although there never was a doubt contradicts itself.
    pub(crate) fn check(&mut self) -> Result<(), Contradiction> {
        for (shard, log) in &mut self.shards {
            log.check_terms().map_err(|what| format!("shard {}: {what}", shard.0))?;
            log.lost |= log.in_doubt;
            if log.lost {
                log.entries.drop_through(log.snapshot.index);
            }
            let Some(gap) = log.first_gap() else { continue };
            if !log.was_in_doubt && !log.lost {
                return Err(format!("shard {} lacks entry {gap}", shard.0));
            }
            log.lost = true;
            log.entries.truncate_from(gap);
        }
        for log in self.shards.values_mut().filter(|log| log.lost) {
            let last = log.entries.last();
            let snapshot = (log.snapshot.index, log.snapshot.term);
            log.last = last.map_or(snapshot, |last| (last.index, last.term));
        }
        Ok(())
    }
}

/// Gives each of these entries, with its payload, or without if there are none.
fn each(
    identities: &Identities,
    payloads: &mut Option<Payloads<'_>>,
    mut give: impl FnMut(Entry) -> Result<(), Contradiction>,
) -> Result<(), Contradiction> {
    let Some(payloads) = payloads else {
        let empty = || Payload::new(Vec::new());
        let mut all = identities.iter();
        return all.try_for_each(|(index, term, kind)| {
            give(Entry { index, term, kind, payload: empty() })
        });
    };
    let mut entries = payloads.take(identities).ok_or("the body is shorter than its table says")?;
    entries.try_for_each(give)
}

impl ReplayedShard {
    /// Entries from `first` on take the place of what is there.
    fn make_way(
        &mut self,
        shard: ShardId,
        previous_term: Term,
        first: Index,
    ) -> Result<(), Contradiction> {
        let joins = self.term_at(first.previous());
        if self.in_doubt {
            if joins != Some(previous_term) {
                self.entries.clear();
            }
            self.carried.split_off(&first);
        } else if first <= self.snapshot.index || first > self.last.0.next() {
            let (snapshot, last) = (self.snapshot.index, self.last.0);
            let log = format!("a log with snapshot {snapshot} and last {last}");
            return Err(format!("shard {}: entries from {first} on in {log}", shard.0));
        } else if joins.is_some_and(|term| term != previous_term) {
            return Err(format!("shard {}: entry {first} follows another term", shard.0));
        }
        self.entries.truncate_from(first);
        Ok(())
    }

    fn append(&mut self, entry: Entry, spot: Spot) {
        self.last = (entry.index, entry.term);
        self.entries.push(entry, spot);
    }

    /// Entries of the log stand elsewhere now. A copy without its payload replaces none with it.
    fn carry(
        &mut self,
        shard: ShardId,
        identities: &Identities,
        payloads: &mut Option<Payloads<'_>>,
        spot: Spot,
    ) -> Result<(), Contradiction> {
        let mut missing = Vec::new();
        each(identities, payloads, |mut entry| {
            let (index, term) = (entry.index, entry.term);
            let known = self.term_at(index);
            let inside = index > self.snapshot.index && index <= self.last.0;
            if self.in_doubt && (!inside || known != Some(term)) {
                if spot.whole || !self.carried.contains_key(&index) {
                    self.carried.insert(index, (entry, spot));
                }
                return Ok(());
            }
            if !inside || known.is_some_and(|known| known != term) {
                return Err(format!("shard {}: {index} is carried but not in the log", shard.0));
            }
            match self.entries.get(index) {
                None => missing.push((entry, spot)),
                Some((_, old)) if old.whole && !spot.whole => {}
                Some((old, _)) => {
                    if !spot.whole {
                        // A table knows better than who found the damage and could read none.
                        entry.kind = old.kind;
                    }
                    self.entries.replace(entry, spot);
                }
            }
            Ok(())
        })?;
        self.entries.fill(missing);
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
        if !self.in_doubt && (index <= self.snapshot.index || file.is_none() || !fits) {
            return Err(format!("shard {}: a reset to {index} does not fit its log", shard.0));
        }
        if keeps_later {
            self.entries.drop_through(index);
            self.carried = self.carried.split_off(&index.next());
        } else {
            self.entries.clear();
            self.carried.clear();
            self.last = (index, meta.term);
        }
        self.snapshot = meta;
        self.file = file;
        Ok(())
    }

    /// What was replayed counts as far as it is of the log that the checkpoint speaks of.
    fn adopt(&mut self, said: &ShardCheckpoint, after_doubt: bool) {
        let (last, term) = said.last;
        if self.term_at(last) == Some(term) {
            self.entries.truncate_from(last.next());
            self.entries.drop_through(said.snapshot.index);
        } else {
            self.entries.clear();
        }
        let mut carried = std::mem::take(&mut self.carried);
        let inside = said.snapshot.index.next()..=last;
        carried.retain(|index, _| inside.contains(index) && self.entries.get(*index).is_none());
        self.entries.fill(carried.into_values().collect());
        self.hard_state = said.hard_state;
        self.snapshot = said.snapshot.clone();
        self.file.clone_from(&said.file);
        self.last = said.last;
        self.lost = said.lost;
        self.in_doubt = false;
        self.was_in_doubt = after_doubt;
    }

    /// The terms rise along the log, up to the replica's own.
    fn check_terms(&self) -> Result<(), Contradiction> {
        let mut term = self.snapshot.term;
        for entry in self.entries.iter() {
            if entry.term < term && !self.in_doubt {
                return Err(format!(
                    "entry {} is of an older term than the one before",
                    entry.index
                ));
            }
            term = entry.term;
        }
        let last = self.entries.get(self.last.0).map_or(self.last.1, |(last, _)| last.term);
        let right = last == self.last.1 && last <= self.hard_state.term;
        if right || self.in_doubt || self.lost {
            Ok(())
        } else {
            Err(format!("the last entry is of term {last}"))
        }
    }

    /// The first index that should be there and is not.
    fn first_gap(&self) -> Option<Index> {
        let mut expected = self.snapshot.index.next();
        for entry in self.entries.iter() {
            if entry.index != expected {
                return Some(expected);
            }
            expected = entry.index.next();
        }
        (expected <= self.last.0).then_some(expected)
    }

    /// The term at an index, where it is known.
    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        if index == self.last.0 {
            return Some(self.last.1);
        }
        self.entries.get(index).map(|(entry, _)| entry.term)
    }

    fn checkpoint(&self, shard: ShardId) -> ShardCheckpoint {
        ShardCheckpoint {
            shard,
            hard_state: self.hard_state,
            last: self.last,
            snapshot: self.snapshot.clone(),
            file: self.file.clone(),
            lost: self.lost,
        }
    }

    /// What the core gets and what the log remembers.
    pub(crate) fn finish(self, live: &mut Live) -> (Recovered, ShardLog) {
        let (hard_state, snapshot) = (self.hard_state, self.snapshot);
        let mut log = ShardLog::begin(hard_state, snapshot.clone(), self.file);
        log.lost = self.lost;
        let (entries, spots) = self.entries.into_parts();
        let mut damaged = Vec::new();
        let mut at = 0;
        while let Some(&spot) = spots.get(at) {
            let same = spots[at..].iter().take_while(|other| **other == spot).count();
            let run = &entries[at..at + same];
            let bytes = run.iter().map(|entry| (ENTRY_HEAD + entry.payload.len()) as u64).sum();
            let (first, last) = (run[0].index, run[same - 1].index);
            let extent = Extent { first, last, place: spot.place, bytes, whole: spot.whole };
            log.restore(extent, run, live);
            if !spot.whole {
                damaged.extend(run.iter().map(|entry| entry.index));
            }
            at += same;
        }
        (Recovered { hard_state, snapshot, entries, damaged }, log)
    }
}

#[cfg(test)]
mod tests {
    use flotilla_raft::EntryKind;

    use super::*;

    /// An older segment, in which the last entry stood, is gone: the checkpoint behind a doubt is
    /// of the same log all the same, and what was carried before the doubt counts.
    #[test]
    fn what_was_carried_before_a_doubt_counts_though_the_last_entry_is_not_there_yet() {
        let said = ShardCheckpoint {
            shard: ShardId(1),
            hard_state: HardState { term: Term(2), voted_for: None },
            last: (Index(5), Term(2)),
            snapshot: SnapshotMeta { index: Index(2), ..SnapshotMeta::default() },
            file: None,
            lost: false,
        };
        let spot = Spot { place: Place { segment: 3, offset: 8192 }, whole: false };
        let carry = |log: &mut ReplayedShard, index| {
            let identity = (Index(index), Term(2), EntryKind::Normal);
            let carried = log.carry(said.shard, &Identities::of([identity]), &mut None, spot);
            carried.expect("it is in the log");
        };
        let mut log = ReplayedShard::default();
        log.adopt(&said, false);
        carry(&mut log, 3);
        log.in_doubt = true;
        log.adopt(&said, true);
        carry(&mut log, 4);
        carry(&mut log, 5);
        assert_eq!(log.first_gap(), None);
    }
}
