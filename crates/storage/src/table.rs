//! The table of a frame: everything a frame says but the payloads of its entries.
//!
//! Each frame repeats the table of the one before it, so that a damaged frame costs payloads and
//! nothing else: no vote, no term, no truncation, no identity, no snapshot, no state of the node.
//!
//! Invariant: a table that was read names at most as many entries as its segment has room for, so
//! its ranges can be walked.

use flotilla_raft::{Entry, EntryKind, HardState, Index, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use crate::format::{
    ENTRY_HEAD, Put, Take, entry_kind, entry_kind_byte, put_hard_state, put_snapshot,
    snapshot_length, take_hard_state, take_index, take_snapshot,
};
use crate::snapshot::SnapshotFile;

const NODE: u8 = 1;
const STATE: u8 = 2;
const ENTRIES: u8 = 3;
const CARRY: u8 = 4;
const HOLES: u8 = 5;
const RESET: u8 = 6;
const REMOVED: u8 = 7;
const RENEWED: u8 = 8;
const CHECKPOINT: u8 = 9;
const INCOMPLETE: u8 = 10;

/// What a checkpoint says of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardCheckpoint {
    pub(crate) shard: ShardId,
    pub(crate) hard_state: HardState,
    pub(crate) last: (Index, Term),
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) file: Option<SnapshotFile>,
    /// This replica forgot something that it had promised (P4).
    pub(crate) lost: bool,
}

/// What an entry is, without its payload.
pub(crate) type Identity = (Index, Term, EntryKind);

/// Contiguous entries without their payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identities {
    pub(crate) first: Index,
    runs: Vec<Run>,
}

/// Entries of one term and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    term: Term,
    kind: EntryKind,
    last: Index,
}

impl Identities {
    /// Of entries that follow each other; not empty.
    pub(crate) fn of(entries: impl IntoIterator<Item = Identity>) -> Self {
        let mut entries = entries.into_iter();
        let (first, term, kind) = entries.next().expect("there is an entry");
        let mut runs = vec![Run { term, kind, last: first }];
        for (index, term, kind) in entries {
            let run = runs.last_mut().expect("there is a run");
            assert_eq!(index, run.last.next(), "entries follow each other");
            if (run.term, run.kind) == (term, kind) {
                run.last = index;
            } else {
                runs.push(Run { term, kind, last: index });
            }
        }
        Self { first, runs }
    }

    /// The last entry's index.
    pub(crate) fn last(&self) -> Index {
        self.runs.last().expect("there is a run").last
    }

    /// Each entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Identity> {
        let mut first = self.first.0;
        self.runs.iter().flat_map(move |run| {
            let indexes = first..=run.last.0;
            first = run.last.0 + 1;
            indexes.map(|index| (Index(index), run.term, run.kind))
        })
    }

    fn put(&self, out: &mut impl Put) {
        put_runs_head(out, self.first, self.runs.len());
        for run in &self.runs {
            put_run(out, run.term, run.kind, run.last);
        }
    }
}

fn put_runs_head(out: &mut impl Put, first: Index, runs: usize) {
    out.put_u64(first.0);
    out.put_u32(u32::try_from(runs).expect("a write has fewer than 2^32 entries"));
}

fn put_run(out: &mut impl Put, term: Term, kind: EntryKind, last: Index) {
    out.put_u64(term.0);
    out.put_u8(entry_kind_byte(kind));
    out.put_u64(last.0);
}

fn runs(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    entries.chunk_by(|a, b| a.term == b.term && a.kind == b.kind)
}

fn put_entry_runs(out: &mut Vec<u8>, entries: &[Entry]) {
    put_runs_head(out, entries[0].index, runs(entries).count());
    for run in runs(entries) {
        put_run(out, run[0].term, run[0].kind, run[run.len() - 1].index);
    }
}

fn runs_length(runs: usize) -> usize {
    12 + 17 * runs
}

/// Puts the state of the node itself.
pub(crate) fn put_node(out: &mut Vec<u8>, state: &[u8]) {
    out.put_u8(NODE);
    out.put_u32(u32::try_from(state.len()).expect("what a node remembers is small"));
    out.put(state);
}

/// Puts that a newer state of the node, and shards, may have been lost.
pub(crate) fn put_incomplete(out: &mut Vec<u8>) {
    out.put_u8(INCOMPLETE);
}

/// Puts term and vote of a shard; what follows is about this shard.
pub(crate) fn put_state(out: &mut Vec<u8>, shard: ShardId, hard_state: &HardState) {
    out.put_u8(STATE);
    out.put_u32(shard.0);
    put_hard_state(out, hard_state);
}

/// Puts what the entries are that replace everything from the first of them on.
pub(crate) fn put_entries(out: &mut Vec<u8>, previous_term: Term, entries: &[Entry]) {
    out.put_u8(ENTRIES);
    out.put_u64(previous_term.0);
    put_entry_runs(out, entries);
}

/// Puts what the entries are that stand here from now on.
pub(crate) fn put_carry(out: &mut Vec<u8>, entries: &[Entry]) {
    out.put_u8(CARRY);
    put_entry_runs(out, entries);
}

/// Puts what the entries are whose payloads are lost.
pub(crate) fn put_holes(out: &mut Vec<u8>, identities: &Identities) {
    out.put_u8(HOLES);
    identities.put(out);
}

/// Puts the snapshot that the shard's log begins at.
pub(crate) fn put_reset(out: &mut Vec<u8>, keeps_later: bool, file: &SnapshotFile) {
    out.put_u8(RESET);
    out.put_u8(u8::from(keeps_later));
    put_snapshot(out, &file.meta, Some(file));
}

/// Puts that the shard has left this node.
pub(crate) fn put_removed(out: &mut Vec<u8>) {
    out.put_u8(REMOVED);
}

/// Puts that what is left of a lost shard is a new replica's.
pub(crate) fn put_renewed(out: &mut Vec<u8>) {
    out.put_u8(RENEWED);
}

/// Puts all that is known of a shard.
pub(crate) fn put_checkpoint(out: &mut Vec<u8>, said: &ShardCheckpoint) {
    put_state(out, said.shard, &said.hard_state);
    out.put_u8(CHECKPOINT);
    out.put_u8(u8::from(said.lost));
    out.put_u64(said.last.0.0);
    out.put_u64(said.last.1.0);
    put_snapshot(out, &said.snapshot, said.file.as_ref());
}

/// The size of a frame to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measure {
    pub(crate) table: usize,
    pub(crate) body: usize,
}

impl Measure {
    pub(crate) fn node(&mut self, state: &[u8]) {
        self.table += 5 + state.len();
    }

    pub(crate) fn incomplete(&mut self) {
        self.table += 1;
    }

    pub(crate) fn state(&mut self) {
        self.table += 22;
    }

    pub(crate) fn entries(&mut self, entries: &[Entry]) {
        self.table += 8;
        self.carry(entries);
    }

    pub(crate) fn carry(&mut self, entries: &[Entry]) {
        self.table += 1 + runs_length(runs(entries).count());
        let payloads: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        self.body += ENTRY_HEAD * entries.len() + payloads;
    }

    pub(crate) fn holes(&mut self, identities: &Identities) {
        self.table += 1 + runs_length(identities.runs.len());
    }

    pub(crate) fn reset(&mut self, file: &SnapshotFile) {
        self.table += 2 + snapshot_length(&file.meta, Some(file));
    }

    pub(crate) fn removed(&mut self) {
        self.table += 1;
    }

    pub(crate) fn renewed(&mut self) {
        self.table += 1;
    }

    pub(crate) fn checkpoint(&mut self, said: &ShardCheckpoint) {
        self.state();
        self.table += 18 + snapshot_length(&said.snapshot, said.file.as_ref());
    }
}

/// One record of a table.
///
/// What is seldom there and large is boxed, so that the records of a table take little memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Node(&'a [u8]),
    Incomplete,
    State { shard: ShardId, hard_state: HardState },
    Entries { shard: ShardId, previous_term: Term, identities: Identities },
    Carry { shard: ShardId, identities: Identities },
    Holes { shard: ShardId, identities: Identities },
    Reset { shard: ShardId, keeps_later: bool, to: Box<(SnapshotMeta, Option<SnapshotFile>)> },
    Removed { shard: ShardId },
    Renewed { shard: ShardId },
    Checkpoint(Box<ShardCheckpoint>),
}

impl Record<'_> {
    /// Which shard it is about; `None` for what is the node's own.
    pub(crate) fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Node(_) | Self::Incomplete => None,
            Self::State { shard, .. }
            | Self::Entries { shard, .. }
            | Self::Carry { shard, .. }
            | Self::Holes { shard, .. }
            | Self::Reset { shard, .. }
            | Self::Removed { shard }
            | Self::Renewed { shard } => Some(*shard),
            Self::Checkpoint(said) => Some(said.shard),
        }
    }

    /// In words, without the shard; nothing for what every turn says.
    pub(crate) fn describe(&self) -> Option<String> {
        let entries = |identities: &Identities| {
            format!("entries {} to {}", identities.first, identities.last())
        };
        match self {
            Self::State { .. } | Self::Incomplete => None,
            Self::Node(_) => Some("the state of the node".into()),
            Self::Entries { identities, .. } => Some(entries(identities)),
            Self::Carry { identities, .. } => Some(format!("{} again", entries(identities))),
            Self::Holes { identities, .. } => Some(format!("{} as lost", entries(identities))),
            Self::Reset { to, .. } => Some(format!("the reset to snapshot {}", to.0.index)),
            Self::Removed { .. } => Some("its removal".into()),
            Self::Renewed { .. } => Some("its new beginning".into()),
            Self::Checkpoint(_) => Some("its checkpoint".into()),
        }
    }
}

/// About the length of a record, bytes, of those that most tables consist of.
const RECORD_LENGTH: usize = 32;

/// Reads a table; `None` if it makes no sense or names more than `entries_max` entries.
pub(crate) fn read_table(table: &[u8], entries_max: u64) -> Option<Vec<Record<'_>>> {
    let mut reader = Reader { take: Take(table), entries_left: entries_max, state: None };
    let mut records = Vec::with_capacity(table.len() / RECORD_LENGTH);
    while !reader.take.is_empty() {
        records.push(reader.record()?);
    }
    Some(records)
}

struct Reader<'a> {
    take: Take<'a>,
    entries_left: u64,
    /// The shard that records are about.
    state: Option<(ShardId, HardState)>,
}

impl<'a> Reader<'a> {
    fn record(&mut self) -> Option<Record<'a>> {
        let kind = self.take.u8()?;
        if kind == NODE {
            let length = self.take.u32()? as usize;
            return self.take.bytes(length).map(Record::Node);
        }
        if kind == INCOMPLETE {
            return Some(Record::Incomplete);
        }
        if kind == STATE {
            let (shard, hard_state) = (ShardId(self.take.u32()?), take_hard_state(&mut self.take)?);
            self.state = Some((shard, hard_state));
            return Some(Record::State { shard, hard_state });
        }
        let (shard, hard_state) = self.state?;
        Some(match kind {
            ENTRIES => {
                let previous_term = Term(self.take.u64()?);
                Record::Entries { shard, previous_term, identities: self.identities()? }
            }
            CARRY => Record::Carry { shard, identities: self.identities()? },
            HOLES => Record::Holes { shard, identities: self.identities()? },
            RESET => {
                let keeps_later = self.take.u8()? == 1;
                let to = Box::new(take_snapshot(&mut self.take, shard)?);
                Record::Reset { shard, keeps_later, to }
            }
            REMOVED => Record::Removed { shard },
            RENEWED => Record::Renewed { shard },
            CHECKPOINT => {
                let lost = self.take.u8()? == 1;
                let last = (take_index(&mut self.take)?, Term(self.take.u64()?));
                let (snapshot, file) = take_snapshot(&mut self.take, shard)?;
                if last < (snapshot.index, snapshot.term) {
                    return None;
                }
                let said = ShardCheckpoint { shard, hard_state, last, snapshot, file, lost };
                Record::Checkpoint(Box::new(said))
            }
            _ => return None,
        })
    }

    fn identities(&mut self) -> Option<Identities> {
        let first = take_index(&mut self.take)?;
        let count = self.take.u32()?;
        let (mut runs, mut next, mut term_before) = (Vec::new(), first.0, Term(0));
        for _ in 0..count {
            let term = Term(self.take.u64()?);
            let kind = entry_kind(self.take.u8()?)?;
            let last = take_index(&mut self.take)?;
            let entries = last.next().0.checked_sub(next).filter(|&count| count > 0)?;
            self.entries_left = self.entries_left.checked_sub(entries)?;
            if term < term_before {
                return None;
            }
            runs.push(Run { term, kind, last });
            (next, term_before) = (last.next().0, term);
        }
        (first.0 > 0 && !runs.is_empty()).then_some(Identities { first, runs })
    }
}
