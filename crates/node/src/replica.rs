//! One shard on this node: its Raft, its machine, and what waits on them while it leads.
//!
//! Invariants: a replica that does not lead holds no request of anybody; reads are served only at
//! an index that is applied; while the machine is being loaded from a snapshot, committed entries
//! wait and nothing is served, but Raft goes on voting and acknowledging (P11); a halted machine
//! stops its Raft too (P13).

use std::collections::VecDeque;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_kv::entry::Origin;
use flotilla_kv::machine::{Answers, Machine, Outcome};
use flotilla_kv::snapshot::Restorer;
use flotilla_raft::{Entry, EntryKind, Index, Raft, ReplicaId, SnapshotMeta, Term, Time};
use flotilla_shard::{NodeId, ShardId};

use crate::lead::Lead;
use crate::repair::Attempt;
use crate::replies::{Answer, Replies};

/// What an entry costs besides its payload, in bytes of payload.
const ENTRY_COST_BYTES: usize = 64;
/// So many entries are looked at together before they are applied,
const LOOK_AHEAD: usize = 16;
/// if they have so many bytes: more than one short command.
const LOOK_AHEAD_BYTES_MIN: usize = 256;

/// One replica of the shard and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) replica: ReplicaId,
    /// Its node.
    pub(crate) node: NodeId,
    /// Whether it votes.
    pub(crate) voter: bool,
}

/// The node that a replica was made for after the founding: its id says so ([`later_id`]).
pub(crate) fn node_in(replica: ReplicaId) -> Option<NodeId> {
    let is_later = replica.0 >> TERM_SHIFT > 0;
    let node = NodeId((replica.0 & NODE_MASK) as u32);
    (is_later && node.position().is_some()).then_some(node)
}

/// The `serial`th id that the leader of `term` gives to a replica on `node`. No other leader gives
/// it, nor did the founding, and it is above all that were given in earlier terms. `None` beyond
/// 2^32 terms or 2^16 nodes or replicas.
pub(crate) fn later_id(term: Term, serial: u64, node: NodeId) -> Option<ReplicaId> {
    let fits = term.0 > 0 && u32::try_from(term.0).is_ok() && serial <= NODE_MASK;
    let fits = fits && u64::from(node.0) <= NODE_MASK;
    let id = term.0 << TERM_SHIFT | serial << SERIAL_SHIFT | u64::from(node.0);
    fits.then_some(ReplicaId(id))
}

const TERM_SHIFT: u32 = 32;
const SERIAL_SHIFT: u32 = 16;
const NODE_MASK: u64 = 0xffff;

/// What a replica's table is up to.
#[derive(Debug)]
pub(crate) enum State {
    /// It applies and serves.
    Serving(Box<Machine>),
    /// It is being read from the snapshot at `meta`; `next` is the chunk to be loaded next.
    Loading {
        /// The table before it, to be freed in slices when the new one is there.
        old: Option<Box<Machine>>,
        /// The table in the making.
        restorer: Box<Restorer>,
        /// What it will stand for.
        meta: SnapshotMeta,
        /// The chunk to be loaded next.
        next: u32,
        /// How many there are; 0 if that is not known yet.
        chunks: u32,
        /// How many are asked for.
        asked: u32,
    },
    /// An entry could not be applied (P13).
    Halted,
}

/// Why a replica halted.
#[derive(Debug)]
pub(crate) struct Halt {
    /// At which entry.
    pub(crate) index: Index,
    /// In words.
    pub(crate) reason: String,
}

/// One shard on this node.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Which shard.
    pub(crate) shard: ShardId,
    /// This replica.
    pub(crate) id: ReplicaId,
    /// The replicas that the shard was founded with.
    pub(crate) members: Vec<Member>,
    /// Its consensus.
    pub(crate) raft: Raft,
    /// Its table.
    pub(crate) state: State,
    /// What it holds while it leads.
    pub(crate) lead: Option<Lead>,
    /// The newest durable snapshot here.
    pub(crate) snapshot: SnapshotMeta,
    /// That snapshot can't be read on disk any more.
    pub(crate) snapshot_damaged: bool,
    /// When a lost state is looked for on this disk again.
    pub(crate) next_attempt: Attempt,
    /// The last entry applied.
    pub(crate) applied: Index,
    /// The end of the log that was found at the start: until it is applied, the table is older than
    /// it was.
    found_until: Index,
    /// Committed entries that are not applied yet.
    queue: VecDeque<Entry>,
    answers: Answers,
    hash_seed: u64,
}

impl Replica {
    /// A replica with the state found on disk; loading if it begins with a snapshot.
    pub(crate) fn new(
        shard: ShardId,
        id: ReplicaId,
        members: Vec<Member>,
        raft: Raft,
        snapshot: SnapshotMeta,
        empty: Machine,
        hash_seed: u64,
    ) -> Self {
        let found_until = raft.last_index();
        let state = if snapshot.index == Index(0) {
            State::Serving(Box::new(empty))
        } else {
            loading(hash_seed, None, snapshot.clone())
        };
        Self {
            shard,
            id,
            members,
            raft,
            state,
            lead: None,
            applied: snapshot.index,
            found_until,
            snapshot,
            snapshot_damaged: false,
            next_attempt: Attempt::default(),
            queue: VecDeque::new(),
            answers: Answers::default(),
            hash_seed,
        }
    }

    /// The table, if it can be read.
    pub(crate) fn machine(&self) -> Option<&Machine> {
        match &self.state {
            State::Serving(machine) => Some(machine),
            State::Loading { .. } | State::Halted => None,
        }
    }

    /// The table, if it can be changed.
    pub(crate) fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.state {
            State::Serving(machine) => Some(machine),
            State::Loading { .. } | State::Halted => None,
        }
    }

    /// Whether it takes no part any more.
    pub(crate) fn is_halted(&self) -> bool {
        matches!(self.state, State::Halted)
    }

    /// The node of a replica of this shard.
    pub(crate) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let founder = self.members.iter().find(|member| member.replica == replica);
        founder.map(|member| member.node).or_else(|| node_in(replica))
    }

    /// The members of this shard on `node`: one, or more while one takes the place of another.
    pub(crate) fn on_node(&self, node: NodeId) -> Vec<ReplicaId> {
        let members = self.raft.configuration().members().into_iter();
        members.filter(|id| self.node_of(*id) == Some(node)).collect()
    }

    /// The nodes whose replicas vote.
    pub(crate) fn voters(&self) -> impl Iterator<Item = NodeId> {
        let voters = self.raft.configuration().voters.iter();
        voters.filter_map(|id| self.node_of(*id))
    }

    /// Bytes of its table; of the former one while another is loaded.
    pub(crate) fn known_bytes(&self) -> Option<u64> {
        match &self.state {
            State::Serving(machine) | State::Loading { old: Some(machine), .. } => {
                Some(machine.bytes())
            }
            State::Loading { old: None, .. } | State::Halted => None,
        }
    }

    /// Whether it leads and may propose: its term's first entry is applied, so the stamp of the
    /// last entry is known (P9) and every earlier record of a session too.
    pub(crate) fn is_open(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.open) && self.machine().is_some()
    }

    /// Takes committed entries; [`Replica::apply_some`] applies them.
    pub(crate) fn on_committed(&mut self, entries: Vec<Entry>) {
        self.queue.extend(entries);
    }

    /// Applies what is committed as far as `room` goes, bytes of payload, so that a long log does
    /// not hold up the turn; nothing while the table is being loaded. Gives the index applied
    /// last, to be reported to Raft. `is_there` says whether somebody is there to be answered.
    pub(crate) fn apply_some(
        &mut self,
        me: NodeId,
        room: &mut usize,
        is_there: impl Fn(Origin) -> bool,
        replies: &mut Replies,
    ) -> Result<Option<Index>, Halt> {
        let mut ahead = 0;
        let mut applied = None;
        while *room > 0 && self.machine().is_some() {
            if ahead == 0 {
                self.look_ahead();
                ahead = LOOK_AHEAD;
            }
            let Some(entry) = self.queue.pop_front() else { break };
            self.apply(&entry)?;
            self.hand_out(me, &is_there, replies);
            ahead -= 1;
            *room = room.saturating_sub(entry.payload.len() + ENTRY_COST_BYTES);
            applied = Some(entry.index);
        }
        Ok(applied)
    }

    /// Has the machine look at the next entries, where one alone would gain nothing.
    fn look_ahead(&mut self) {
        let State::Serving(machine) = &mut self.state else { return };
        let entries = || self.queue.iter().take(LOOK_AHEAD);
        let bytes: usize = entries().map(|entry| entry.payload.len()).sum();
        if bytes >= LOOK_AHEAD_BYTES_MIN {
            let normal = entries().filter(|entry| entry.kind == EntryKind::Normal);
            let payloads = || normal.clone().map(|entry| entry.payload.bytes());
            // The payloads themselves first: what is read of one does not wait for another.
            let ends = |bytes: &[u8]| bytes.first().copied().zip(bytes.last().copied());
            black_box(payloads().filter_map(ends).fold(0, |sum, (a, b)| sum ^ a ^ b));
            machine.look_ahead(payloads());
        }
    }

    /// Whether its table has everything up to `index`: a snapshot of that says nothing new.
    pub(crate) fn has_state_at(&self, index: Index) -> bool {
        index <= self.applied && !self.raft.lacks_state()
    }

    /// Whether committed entries wait that could be applied now.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.queue.is_empty() && self.machine().is_some()
    }

    /// One entry, behind an unwind boundary (P13).
    fn apply(&mut self, entry: &Entry) -> Result<(), Halt> {
        assert_eq!(entry.index, self.applied.next(), "entries are applied in order, without gaps");
        self.applied = entry.index;
        // A core's own entries carry nothing for the machine, which counts them all the same.
        let payload = match entry.kind {
            EntryKind::Normal => entry.payload.bytes(),
            EntryKind::Empty | EntryKind::Configuration => &[],
        };
        if entry.kind == EntryKind::Empty
            && let Some(lead) = &mut self.lead
        {
            lead.open |= lead.term == entry.term;
        }
        let answers = &mut self.answers;
        answers.clear();
        let State::Serving(machine) = &mut self.state else { return Ok(()) };
        let applied =
            catch_unwind(AssertUnwindSafe(|| machine.apply(entry.index.0, payload, answers)));
        let failure = match applied {
            Ok(Ok(())) => None,
            Ok(Err(diverged)) => Some(diverged.to_string()),
            Err(panic) => Some(panic_text(panic.as_ref())),
        };
        if let Some(reason) = failure {
            self.state = State::Halted;
            return Err(Halt { index: entry.index, reason });
        }
        Ok(())
    }

    /// The answers of an entry go to their origins: from the leader, and from the origin's own
    /// replica to itself. To boots that are over, as in a log that is replayed, goes nothing.
    fn hand_out(&self, me: NodeId, is_there: &impl Fn(Origin) -> bool, replies: &mut Replies) {
        // The answers of one chunk have one origin.
        let mut last: Option<(Origin, bool)> = None;
        for answer in &self.answers {
            if self.lead.is_none() && answer.origin.node != me.0 {
                continue;
            }
            let there = match last {
                Some((origin, there)) if origin == answer.origin => there,
                _ => is_there(answer.origin),
            };
            last = Some((answer.origin, there));
            if !there {
                continue;
            }
            let (epoch, seq) = (answer.epoch, answer.seq);
            let what = match &answer.outcome {
                Outcome::Reply(_) => {
                    let reply = replies.store(self.answers.reply(answer));
                    Answer::Written { epoch, seq, reply }
                }
                Outcome::NotOwner => Answer::NotOwner { epoch, seq },
                Outcome::Refused { min_incarnation } => {
                    Answer::Fenced { epoch, seq, min_incarnation: *min_incarnation }
                }
                Outcome::Void => continue,
            };
            replies.push(self.shard, answer.origin, what);
        }
    }

    /// The table is to be replaced by the snapshot `meta`, which is durable here.
    pub(crate) fn restore(&mut self, meta: SnapshotMeta) {
        self.queue.clear();
        // A leader may be given the state that it lost; the first entry of its term is in there.
        if let Some(lead) = &mut self.lead {
            lead.open |= meta.term >= lead.term;
        }
        self.applied = meta.index;
        self.snapshot = meta.clone();
        self.snapshot_damaged = false;
        self.next_attempt = Attempt::default();
        let old = match std::mem::replace(&mut self.state, State::Halted) {
            State::Serving(machine) => Some(machine),
            State::Loading { old, .. } => old,
            State::Halted => None,
        };
        self.state = loading(self.hash_seed, old, meta);
    }

    /// What was being loaded can't be read: nothing is loaded until another snapshot comes, or
    /// until the next attempt.
    pub(crate) fn lose_state(&mut self, now: Time) {
        self.next_attempt.put_off(now);
        self.queue.clear();
        self.applied = self.snapshot.index;
        if let State::Loading { restorer, next, asked, .. } = &mut self.state {
            **restorer = Restorer::new(self.hash_seed);
            (*next, *asked) = (u32::MAX, 0);
        }
    }

    /// What could not be read is to be read again.
    pub(crate) fn attempt_again(&mut self) {
        self.next_attempt.at = Time::NEVER;
        if let State::Loading { next, asked, .. } = &mut self.state {
            (*next, *asked) = (0, 0);
        }
    }

    /// Whether its snapshot is to be loaded and nothing was asked for.
    pub(crate) fn must_read(&self) -> bool {
        matches!(self.state, State::Loading { next: 0, asked: 0, .. })
    }

    /// Whether chunks of its snapshot are on their way.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.state, State::Loading { asked: 1.., .. })
    }

    /// The next chunk to ask for, with the index of its snapshot: at first only the first one,
    /// which says how many there are; then so many ahead of the one to be loaded next, and what is
    /// right behind the last one, which is nothing and says so.
    pub(crate) fn ask_chunk(&mut self, ahead: u32) -> Option<(Index, u32)> {
        let State::Loading { meta, next, chunks, asked, .. } = &mut self.state else { return None };
        let number = *asked;
        let wanted = number <= *chunks && number < next.saturating_add(ahead);
        *asked += u32::from(wanted);
        wanted.then_some((meta.index, number))
    }

    /// Whether what it had is being brought back, so that it will serve without help of others.
    pub(crate) fn is_loading(&self) -> bool {
        match &self.state {
            State::Loading { .. } => !self.raft.lacks_state(),
            State::Serving(_) => self.applied < self.found_until() && self.has_backlog(),
            State::Halted => false,
        }
    }

    /// The end of what was found at the start; its last entries may have been replaced by fewer.
    fn found_until(&self) -> Index {
        self.found_until.min(self.raft.last_index())
    }

    /// How much of what was found on disk is in the table, if not all.
    pub(crate) fn loaded_percent(&self) -> Option<u8> {
        let (done, of) = match &self.state {
            State::Loading { .. } if self.raft.lacks_state() => return None,
            State::Loading { next, chunks, .. } => (u64::from(*next), u64::from(*chunks)),
            State::Serving(_) => {
                let until = self.found_until().0;
                let from = self.snapshot.index.0.min(until);
                (self.applied.0.saturating_sub(from), until - from)
            }
            State::Halted => return None,
        };
        let loading = matches!(self.state, State::Loading { .. });
        let percent = u8::try_from((done.min(of) * 100).checked_div(of).unwrap_or(0));
        (loading || done < of).then(|| percent.expect("a part of a whole is at most 100 %"))
    }

    /// A chunk of the snapshot being loaded, which has so many. Gives the next one to be loaded, or
    /// `None` when the table is complete.
    pub(crate) fn load(
        &mut self,
        index: Index,
        number: u32,
        of: u32,
        chunk: Option<&[u8]>,
    ) -> Result<Option<u32>, String> {
        let State::Loading { old, restorer, meta, next, chunks, .. } = &mut self.state else {
            return Ok(None);
        };
        if meta.index != index || *next != number {
            return Ok(Some(*next));
        }
        *chunks = of;
        if let Some(chunk) = chunk {
            restorer.chunk(chunk).map_err(|error| error.to_string())?;
            *next += 1;
            return Ok(Some(*next));
        }
        let restorer = std::mem::replace(restorer, Box::new(Restorer::new(self.hash_seed)));
        let restored = restorer.finish().map_err(|error| error.to_string())?;
        let machine = match old.take() {
            Some(mut machine) => {
                machine.replace(restored);
                machine
            }
            None => Box::new(restored),
        };
        self.state = State::Serving(machine);
        Ok(None)
    }

    /// Whether it is loading the snapshot at `index` and waits for chunk `number`.
    pub(crate) fn awaits_chunk(&self, index: Index, number: u32) -> bool {
        matches!(&self.state, State::Loading { meta, next, .. }
            if meta.index == index && *next == number)
    }
}

fn loading(hash_seed: u64, old: Option<Box<Machine>>, meta: SnapshotMeta) -> State {
    let restorer = Box::new(Restorer::new(hash_seed));
    State::Loading { old, restorer, meta, next: 0, chunks: 0, asked: 0 }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without words".to_string())
}
