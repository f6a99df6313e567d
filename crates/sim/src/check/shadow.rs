//! Every log as seen from outside: what each node has given out to be written, and what of it is
//! known to be on its disk. The checkers of logs look here; this file judges nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use flotilla_node::WriteBatch;
use flotilla_raft::{Entry, HardState, Recovered, Term, Write, WriteSeq};
use flotilla_shard::ShardId;

use crate::trace::{digest_of, mixed};

/// What tells an entry from all others at its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its term.
    pub(crate) term: u64,
    /// A word for its content.
    pub(crate) digest: u64,
}

impl Identity {
    fn of(entry: &Entry) -> Self {
        Self { term: entry.term.0, digest: digest_of(entry.payload.bytes()) }
    }

    /// A word for a log that ends with this entry, where `before` stands for what precedes it.
    pub(crate) fn chain(self, before: u64) -> u64 {
        mixed(mixed(before ^ self.term) ^ self.digest)
    }
}

/// A log in identities, and the promises beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shadow {
    /// The index of the snapshot that it begins at.
    pub(crate) base: u64,
    /// The term of that.
    pub(crate) base_term: u64,
    entries: VecDeque<Identity>,
    /// Those of them whose content can't be read.
    holes: BTreeSet<u64>,
    /// Term and vote.
    pub(crate) hard_state: HardState,
}

impl Shadow {
    fn recovered(recovered: &Recovered) -> Self {
        Self {
            base: recovered.snapshot.index.0,
            base_term: recovered.snapshot.term.0,
            entries: recovered.entries.iter().map(Identity::of).collect(),
            holes: recovered.damaged.iter().map(|index| index.0).collect(),
            hard_state: recovered.hard_state,
        }
    }

    /// Whether it is the log `expected`, as far as it can be read.
    fn is(&self, expected: &Self) -> bool {
        let places = (self.base, self.base_term, self.entries.len(), self.hard_state);
        let same = |index: u64, one: &Identity, other: &Identity| {
            one.term == other.term && (one.digest == other.digest || self.holes.contains(&index))
        };
        let same_places =
            (expected.base, expected.base_term, expected.entries.len(), expected.hard_state)
                == places;
        let pairs = self.entries.iter().zip(&expected.entries);
        same_places && (self.base + 1..).zip(pairs).all(|(at, (one, other))| same(at, one, other))
    }

    /// What can't be read is what it was.
    fn learn(&mut self, expected: &Self) {
        for index in &self.holes {
            let position = (index - self.base - 1) as usize;
            if let Some(known) = expected.at(*index)
                && self.entries[position].term == known.term
            {
                self.entries[position] = known;
            }
        }
    }

    /// The entries whose content can't be read.
    pub(crate) fn holes(&self) -> &BTreeSet<u64> {
        &self.holes
    }

    /// The content of an entry is there again.
    pub(crate) fn fill(&mut self, entry: &Entry) {
        let index = entry.index.0;
        if self.holes.remove(&index) {
            self.entries[(index - self.base - 1) as usize] = Identity::of(entry);
        }
    }

    /// Whether it has that entry, perhaps without its content.
    pub(crate) fn has(&self, index: u64, entry: Identity) -> bool {
        let same = |own: Identity| own.term == entry.term && self.holes.contains(&index);
        self.at(index).is_some_and(|own| own == entry || same(own))
    }

    /// The index of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// The entry at an index, if it is above the snapshot.
    pub(crate) fn at(&self, index: u64) -> Option<Identity> {
        let position = index.checked_sub(self.base + 1)?;
        self.entries.get(usize::try_from(position).ok()?).copied()
    }

    /// The term of the entry at an index, that of the snapshot too.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base {
            Some(self.base_term)
        } else {
            self.at(index).map(|entry| entry.term)
        }
    }

    pub(crate) fn take(&mut self, write: &ShadowWrite) {
        self.hard_state = write.hard_state;
        if let Some((index, term)) = write.snapshot {
            if self.term_at(index) == Some(term) {
                self.entries.drain(..(index - self.base) as usize);
            } else {
                self.entries.clear();
            }
            (self.base, self.base_term) = (index, term);
            self.holes = self.holes.split_off(&(index + 1));
        }
        if let Some(first) = write.first() {
            // What lies at or below the snapshot is covered by it.
            let skipped = (self.base + 1).saturating_sub(first);
            let keep = (first + skipped).saturating_sub(self.base + 1);
            self.entries.truncate(keep as usize);
            self.holes.split_off(&first);
            self.entries.extend(write.entries.iter().skip(skipped as usize));
        }
    }
}

impl fmt::Display for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, base_term, hard_state, .. } = self;
        let (term, vote) = (hard_state.term.0, hard_state.voted_for.map(|vote| vote.0));
        write!(f, "term {term}, vote {vote:?}, entries {}..={}", base + 1, self.last())?;
        write!(f, " on a snapshot of term {base_term}")
    }
}

/// One write of a core, in digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShadowWrite {
    pub(crate) shard: ShardId,
    /// Its number in this boot.
    seq: WriteSeq,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<(u64, u64)>,
    first: u64,
    pub(crate) entries: Vec<Identity>,
}

impl ShadowWrite {
    fn of(shard: ShardId, write: &Write) -> Self {
        Self {
            shard,
            seq: write.seq,
            hard_state: write.hard_state,
            snapshot: write.snapshot.as_ref().map(|meta| (meta.index.0, meta.term.0)),
            first: write.entries.first().map_or(0, |first| first.index.0),
            entries: write.entries.iter().map(Identity::of).collect(),
        }
    }

    /// A write of one entry.
    #[cfg(test)]
    pub(crate) fn one(shard: ShardId, index: u64, entry: Identity) -> Self {
        let (hard_state, entries) = (HardState::default(), vec![entry]);
        let seq = WriteSeq(0);
        Self { shard, seq, hard_state, snapshot: None, first: index, entries }
    }

    /// The index of the first entry, if it has any.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.entries.is_empty()).then_some(self.first)
    }
}

/// The logs of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeLogs {
    /// As the node has given them out to be written.
    pub(crate) given: BTreeMap<ShardId, Shadow>,
    /// As they are known to be on the disk.
    pub(crate) durable: BTreeMap<ShardId, Shadow>,
    /// The last write of each shard that is known to be on the disk.
    pub(crate) durable_through: BTreeMap<ShardId, WriteSeq>,
    /// As they were on disks of this node that were wiped or lost them since, each at that moment.
    pub(crate) wiped: Vec<BTreeMap<ShardId, Shadow>>,
    /// Frames given to the disk and not known to be there, oldest first.
    pending: VecDeque<Pending>,
    /// The shards whose snapshot could not be read when it came up.
    pub(crate) stateless: BTreeSet<ShardId>,
    /// Whether the next log found is taken as it is.
    trusted: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    frame: u64,
    writes: Vec<ShadowWrite>,
    done: bool,
}

impl NodeLogs {
    /// A node wants a batch in its log.
    pub(crate) fn on_write(batch: &WriteBatch) -> Vec<ShadowWrite> {
        batch.writes.iter().map(|(shard, write)| ShadowWrite::of(*shard, write)).collect()
    }

    /// It goes to the disk as that frame; the caller has added it to `given`.
    pub(crate) fn submit(&mut self, frame: u64, writes: Vec<ShadowWrite>) {
        self.pending.push_back(Pending { frame, writes, done: false });
    }

    /// That frame is on the disk. It counts once all before it are.
    pub(crate) fn done(&mut self, frame: u64) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.frame == frame) {
            pending.done = true;
        }
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.done) {
            for write in &pending.writes {
                self.durable.entry(write.shard).or_default().take(write);
                self.durable_through.insert(write.shard, write.seq);
            }
        }
    }

    /// A node comes up with what its disk had. Gives how many frames more than those known to be
    /// durable it found; the error says in what it differs from all that it may be.
    pub(crate) fn on_boot(
        &mut self,
        found: &BTreeMap<ShardId, Recovered>,
        lost: &BTreeMap<ShardId, Recovered>,
    ) -> Result<usize, String> {
        let mut found: BTreeMap<ShardId, Shadow> =
            found.iter().map(|(shard, log)| (*shard, Shadow::recovered(log))).collect();
        let mut expected = std::mem::take(&mut self.durable);
        // Of what is lost anything may be missing, and what is left is another replica's.
        expected.retain(|shard, _| !lost.contains_key(shard));
        for pending in &mut self.pending {
            pending.writes.retain(|write| !lost.contains_key(&write.shard));
        }
        let pending = std::mem::take(&mut self.pending);
        self.durable_through.clear();
        let wrong = difference(&expected, &found);
        let mut more = wrong.is_none().then_some(0);
        for (number, pending) in pending.iter().enumerate() {
            if more.is_some() {
                break;
            }
            for write in &pending.writes {
                expected.entry(write.shard).or_default().take(write);
            }
            more = difference(&expected, &found).is_none().then_some(number + 1);
        }
        for (shard, log) in &mut found {
            if let Some(known) = expected.get(shard) {
                log.learn(known);
            }
        }
        for (shard, left) in lost {
            let hard_state = HardState::default();
            found.insert(*shard, Shadow { hard_state, ..Shadow::recovered(left) });
        }
        self.given.clone_from(&found);
        self.durable = found;
        if std::mem::take(&mut self.trusted) {
            return Ok(0);
        }
        more.ok_or_else(|| wrong.expect("something differs"))
    }

    /// What is left of a lost shard is of a new replica, which promised nothing.
    pub(crate) fn renew(&mut self, shard: ShardId) {
        for logs in [&mut self.given, &mut self.durable] {
            if let Some(log) = logs.get_mut(&shard) {
                let term = Term(log.term_at(log.last()).unwrap_or(0));
                log.hard_state = HardState { term, voted_for: None };
            }
        }
    }

    /// What was durable of these shards counts on, though this disk has lost it.
    pub(crate) fn remember<V>(&mut self, lost: &BTreeMap<ShardId, V>) {
        let had = self.durable.iter().filter(|(shard, _)| lost.contains_key(shard));
        self.wiped.push(had.map(|(shard, log)| (*shard, log.clone())).collect());
    }

    /// The next log found is taken as it is.
    pub(crate) fn trust(&mut self) {
        self.wiped.push(self.durable.clone());
        self.trusted = true;
    }

    /// Its disk is blank from now on.
    pub(crate) fn forget(&mut self) {
        let mut wiped = std::mem::take(&mut self.wiped);
        wiped.push(std::mem::take(&mut self.durable));
        *self = Self { wiped, ..Self::default() };
    }
}

fn difference(
    expected: &BTreeMap<ShardId, Shadow>,
    found: &BTreeMap<ShardId, Shadow>,
) -> Option<String> {
    let blank = Shadow::default();
    let shards = expected.keys().chain(found.keys());
    shards.into_iter().find_map(|shard| {
        let mine = expected.get(shard).unwrap_or(&blank);
        let theirs = found.get(shard).unwrap_or(&blank);
        (!theirs.is(mine))
            .then(|| format!("shard {shard}: it had {mine}, it came up with {theirs}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(snapshot: Option<(u64, u64)>, first: u64, terms: &[u64]) -> ShadowWrite {
        let entries = terms.iter().map(|&term| Identity { term, digest: 0 }).collect();
        let hard_state = HardState::default();
        let seq = WriteSeq(0);
        ShadowWrite { shard: ShardId(1), seq, hard_state, snapshot, first, entries }
    }

    #[test]
    fn a_shadow_truncates_and_begins_anew_as_the_log_does() {
        let mut log = Shadow::default();
        let term = |log: &Shadow, index| log.at(index).map(|entry| entry.term);
        log.take(&write(None, 1, &[1, 1, 1]));
        log.take(&write(None, 2, &[2]));
        assert_eq!((log.last(), term(&log, 2), term(&log, 3)), (2, Some(2), None));
        log.take(&write(Some((1, 1)), 3, &[2, 2]));
        assert_eq!((log.base, log.last(), term(&log, 2)), (1, 4, Some(2)));
        log.take(&write(Some((9, 3)), 0, &[]));
        assert_eq!((log.base, log.last(), term(&log, 9)), (9, 9, None));
    }

    #[test]
    fn what_comes_up_is_what_was_durable_and_perhaps_some_frames_more() {
        let mut logs = NodeLogs::default();
        for (frame, first) in [(1, 1), (2, 2), (3, 3)] {
            logs.submit(frame, vec![write(None, first, &[1])]);
        }
        logs.done(2);
        assert_eq!(logs.durable.len(), 0, "a frame counts only after those before it");
        logs.done(1);
        let entry = |index| Entry {
            index: flotilla_raft::Index(index),
            term: flotilla_raft::Term(1),
            kind: flotilla_raft::EntryKind::Normal,
            payload: flotilla_raft::Payload::default(),
        };
        let digest = Identity::of(&entry(1)).digest;
        for shadow in logs.durable.values_mut() {
            shadow.entries.iter_mut().for_each(|one| one.digest = digest);
        }
        for pending in &mut logs.pending {
            pending.writes[0].entries[0].digest = digest;
        }
        let found = |last: u64| {
            let entries = (1..=last).map(entry).collect();
            BTreeMap::from([(ShardId(1), Recovered { entries, ..Recovered::default() })])
        };
        let none = BTreeMap::new();
        assert_eq!(logs.clone().on_boot(&found(2), &none), Ok(0));
        assert_eq!(logs.clone().on_boot(&found(3), &none), Ok(1));
        assert!(logs.clone().on_boot(&found(1), &none).is_err());
        assert!(logs.on_boot(&found(4), &none).is_err());
    }
}
