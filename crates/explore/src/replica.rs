//! One replica: the shipped core, and the host's half of its contract: a disk that takes writes in
//! order, reports them when it likes, and after a crash has any number of them more than it said.

use std::collections::VecDeque;
use std::hash::{Hash as _, Hasher as _};

use flotilla_raft::{
    AppendOutcome, Body, Config, Configuration, Effect, Entry, HardState, Index, Input, Message,
    Raft, Recovered, ReplicaId, SnapshotMeta, Term, Time, Write,
};

use crate::scope::HostFault;
use crate::{Parcel, fingerprint, witness::Witness};

/// Time is counted in units of a heartbeat interval; an election timeout is two of them.
const ELECTION_TIMEOUT: u64 = 2;
/// A moment so late that everything that can be late is.
const VERY_LATE: u64 = 1_000;

/// A log with term and vote, as a disk has it, or as memory does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
}

impl Image {
    /// The index of the last entry.
    pub(crate) fn last(&self) -> Index {
        Index(self.snapshot.index.0 + self.entries.len() as u64)
    }

    /// The entry at `index`, if it is above the snapshot.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.snapshot.index.0 + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The term of the entry at `index`, that of the snapshot too.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Makes a write, as [`Write`] says.
    fn take(&mut self, write: &Write) {
        self.hard_state = write.hard_state;
        if let Some(meta) = &write.snapshot {
            if self.term_at(meta.index) == Some(meta.term) {
                self.entries.retain(|entry| entry.index > meta.index);
            } else {
                self.entries.clear();
            }
            self.snapshot = (**meta).clone();
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            let above = write.entries.iter().filter(|entry| entry.index > self.snapshot.index);
            self.entries.extend(above.cloned());
        }
    }
}

/// One replica and its disk.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) raft: Raft,
    now: Time,
    /// The log as the core has it: everything it asked to be written.
    pub(crate) memory: Image,
    /// The log as far as the core was told that it is durable.
    pub(crate) disk: Image,
    pub(crate) pending: VecDeque<Write>,
    /// The newest snapshot whose file is durable, named by a write or not.
    pub(crate) file: SnapshotMeta,
    boots: u64,
    /// Stands for all of this.
    pub(crate) word: u64,
}

impl Replica {
    /// A blank one, that knows the founding configuration.
    pub(crate) fn founded(id: ReplicaId, founding: &Configuration) -> Self {
        let snapshot = SnapshotMeta { configuration: founding.clone(), ..SnapshotMeta::default() };
        let disk = Image { snapshot: snapshot.clone(), ..Image::default() };
        let raft = boot(id, 0, &disk);
        let memory = disk.clone();
        let pending = VecDeque::new();
        let (now, boots, word) = (Time(0), 0, 0);
        let mut replica = Self { raft, now, memory, disk, pending, file: snapshot, boots, word };
        replica.seal();
        replica
    }

    /// Computes the word that stands for this replica.
    pub(crate) fn seal(&mut self) {
        let Self { raft, now: _, memory, disk, pending, file, boots, word: _ } = self;
        let mut hasher = fingerprint();
        raft.digest(&mut hasher);
        (memory, disk, file, boots, pending.len()).hash(&mut hasher);
        // Its number is left out: it only counts.
        for Write { seq: _, hard_state, snapshot, entries } in pending {
            (hard_state, snapshot, entries).hash(&mut hasher);
        }
        self.word = hasher.finish();
    }

    /// Lets its next deadline come.
    pub(crate) fn wake(
        &mut self,
        witness: &mut Witness,
        out: &mut Vec<Parcel>,
    ) -> Result<(), String> {
        self.now = self.now.max(self.raft.deadline());
        self.step(Input::Wake, witness, out)
    }

    /// Nothing happens to it for very long.
    pub(crate) fn sleep(&mut self) {
        self.now = self.now + VERY_LATE;
        // The core learns the time with its next input; this one changes nothing else.
        let mut effects = Vec::new();
        self.raft.step(self.now, Input::PeerGone(ReplicaId(u64::MAX)), &mut effects);
        assert!(effects.is_empty(), "a stranger's link means nothing");
    }

    /// Reports the oldest write.
    pub(crate) fn report(
        &mut self,
        witness: &mut Witness,
        out: &mut Vec<Parcel>,
    ) -> Result<(), String> {
        let write = self.pending.pop_front().expect("only a write that is open is reported");
        self.disk.take(&write);
        self.step(Input::Written(write.seq), witness, out)
    }

    /// Its power goes when it has made so many writes more than it reported, and it comes back.
    pub(crate) fn crash(&mut self, kept: usize, fault: Option<HostFault>) {
        for write in self.pending.drain(..).take(kept) {
            self.disk.take(&write);
        }
        self.pending.clear();
        match fault {
            Some(HostFault::ForgetsVote) => self.disk.hard_state.voted_for = None,
            Some(HostFault::ForgetsEntry) => {
                self.disk.entries.pop();
            }
            None => {}
        }
        self.memory = self.disk.clone();
        self.boots += 1;
        self.now = Time(0);
        self.raft = boot(self.raft.id(), self.boots, &self.disk);
    }

    /// Steps the core, and carries out what it wants.
    pub(crate) fn step(
        &mut self,
        input: Input,
        witness: &mut Witness,
        out: &mut Vec<Parcel>,
    ) -> Result<(), String> {
        let mut effects = Vec::new();
        self.raft.step(self.now, input, &mut effects);
        let mut applied = None;
        for effect in effects {
            if let Effect::Apply { entries } = &effect {
                applied = entries.last().map(|entry| entry.index);
            }
            self.carry_out(effect, witness, out)?;
        }
        self.raft.check_invariants();
        match applied {
            Some(index) => self.step(Input::Applied(index), witness, out),
            None => Ok(()),
        }
    }

    fn carry_out(
        &mut self,
        effect: Effect,
        witness: &mut Witness,
        out: &mut Vec<Parcel>,
    ) -> Result<(), String> {
        match effect {
            Effect::Write(write) => {
                self.memory.take(&write);
                self.pending.push_back(write);
            }
            Effect::Send(message) => {
                self.check_promise(&message)?;
                out.push(Parcel::Message(message));
            }
            Effect::Apply { entries } => {
                let configuration = self.raft.configuration();
                for entry in &entries {
                    witness.on_applied(self.raft.id(), self.raft.term(), entry, configuration)?;
                }
            }
            Effect::Restore(meta) => witness.on_restored(&meta)?,
            Effect::ReadReady { id, index, .. } => witness.on_read(id, index)?,
            Effect::SendSnapshot { to, at_least, term } => {
                let from = self.raft.id();
                let meta = self.file.clone();
                if meta.index < at_least {
                    return Err(format!("no snapshot reaches {at_least}"));
                }
                out.push(Parcel::Snapshot { from, to, term, meta });
            }
            Effect::Load { from, .. } => return Err(format!("{from} never left memory")),
            Effect::Repair { .. } => return Err("nothing is damaged".to_string()),
            Effect::Proposed { .. }
            | Effect::Completed { .. }
            | Effect::Refuse { .. }
            | Effect::Note(_) => {}
        }
        Ok(())
    }

    /// Whether the disk has what memory has there. Below a snapshot that is on its way to the disk
    /// memory has nothing, and the disk what was committed before.
    fn is_same_at(&self, index: Index) -> bool {
        let known = self.memory.term_at(index);
        known.map_or(index < self.memory.snapshot.index, |term| {
            self.disk.term_at(index) == Some(term)
        })
    }

    /// What a message says of its sender's disk must be on that disk, as far as it has reported.
    fn check_promise(&self, message: &Message) -> Result<(), String> {
        let disk = &self.disk;
        let voted = |voted_for| HardState { term: message.term, voted_for: Some(voted_for) };
        let kept = match &message.body {
            Body::RequestVote { .. } => disk.hard_state == voted(message.from),
            Body::VoteReply { granted: true } => disk.hard_state == voted(message.to),
            Body::AppendReply { outcome: AppendOutcome::Matched { index }, .. } => {
                disk.hard_state.term == message.term
                    && (*index <= disk.snapshot.index
                        || *index <= disk.last() && self.is_same_at(*index))
            }
            Body::FetchedEntries { missing, .. } => {
                missing.is_empty() || disk.hard_state.term == message.term
            }
            _ => true,
        };
        if kept { Ok(()) } else { Err(format!("what {message:?} says is not on disk")) }
    }
}

fn boot(id: ReplicaId, boots: u64, disk: &Image) -> Raft {
    let config = Config {
        election_timeout: ELECTION_TIMEOUT,
        heartbeat_interval: 1,
        // Nothing trails: whoever lags behind a snapshot needs one.
        max_trailing_bytes: 0,
        max_held_bytes: 0,
        // A host that waits is a matter of availability, which is not looked at.
        stall_timeout: u64::MAX,
        ..Config::new(id, boots)
    };
    let Image { hard_state, snapshot, entries } = disk.clone();
    Raft::new(config, Recovered { hard_state, snapshot, entries, damaged: Vec::new() }, Time(0))
}
