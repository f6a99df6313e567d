//! The machine of one shard: applies entries, answers reads, and knows its own hash.
//!
//! [`Machine::apply`] is a pure function of the state and the entry. It first moves the clock to
//! the entry's stamp (P9), purges a bounded number of expired keys and frees a bounded number of
//! removed ones; then it takes each chunk's commands in order through their origin's session (P7)
//! and the ownership of their slot, and executes what is left. It can't fail, with one exception:
//! an entry that names another state hash for a checkpoint than the machine recorded tells that the
//! replicas have diverged.
//!
//! Invariants: `applied_index` and `clock_ms` never go back; a command is executed only if its
//! shard owns the slot by the generation that the command names.

use std::collections::VecDeque;
use std::ops::Range;

use flotilla_resp::encode;
use flotilla_shard::{SLOTS, Slot, slot_of};
use thiserror::Error;

use crate::args::Args;
use crate::command::{TABLE_VERSION, find};
use crate::entry::{Chunk, ChunkCommand, EntryView, Origin, WHOLE_SHARD, peek_keys};
use crate::execute;
use crate::keyspace::{Keyspace, of_words};
use crate::scope::{Ownership, Scope, SlotSet};
use crate::session::{Admission, Pending, Position, Sessions, Stream, UNSETTLED_REPLY_BYTES_MAX};
use crate::snapshot::Walk;

/// Most expired keys that one entry purges.
pub const PURGED_PER_ENTRY: usize = 128;

/// Most removed keys that one entry frees.
pub const FREED_PER_ENTRY: usize = 1_024;

/// The state hash is recorded after each entry whose index is a multiple of this.
pub const CHECKPOINT_INTERVAL: u64 = 1_024;

/// Checkpoints that are kept, so that an entry in flight for long still finds the one it names.
const CHECKPOINTS_KEPT: usize = 4;

/// [`Machine::look_ahead`] stops at so many keys: what is read is to be in the cache still.
const PLACES_MAX: usize = 1_024;

/// The replicated state of a shard.
#[derive(Debug)]
pub struct Machine {
    pub(crate) keyspace: Keyspace,
    pub(crate) sessions: Sessions,
    pub(crate) ownership: Ownership,
    pub(crate) clock_ms: u64,
    pub(crate) applied_index: u64,
    pub(crate) checkpoints: VecDeque<(u64, u64)>,
    pub(crate) walk: Option<Walk>,
    /// Where [`Machine::look_ahead`] looks: empty between calls.
    places: Vec<(u16, u64)>,
}

/// This replica's state is not its leader's: one of them is wrong, and this one must halt (P13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("state diverged: at index {index} the hash is {own:016x} here and {theirs:016x} there")]
pub struct Diverged {
    /// The checkpoint's index.
    pub index: u64,
    /// The state hash recorded here.
    pub own: u64,
    /// The state hash that the entry names.
    pub theirs: u64,
}

/// What became of the commands of applied entries.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    answers: Vec<Answer>,
    bytes: Vec<u8>,
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who sent it.
    pub origin: Origin,
    /// The epoch of the attempt.
    pub epoch: u64,
    /// Its position.
    pub seq: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Executed, now or by an earlier attempt; [`Answers::reply`] has the RESP3 bytes.
    Reply(Range<usize>),
    /// Not executed by this attempt, and never will be.
    Void,
    /// Not executed: the slot is not this shard's, or not by the generation named.
    NotOwner,
    /// Not executed: the origin's node must take an incarnation above this one.
    Refused {
        /// The lowest incarnation that is not fenced off.
        min_incarnation: u64,
    },
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The reply was written.
    Done,
    /// Nothing was written: the slot is not this shard's, or not by the generation named.
    NotOwner,
}

impl Machine {
    /// An empty machine that owns these slots (both ends of a range included), each by generation
    /// 0. The seed is the cluster's, from its founding record.
    pub fn new(hash_seed: u64, owned: &[(Slot, Slot)]) -> Self {
        let owned = SlotSet::from_ranges(owned);
        Self {
            keyspace: Keyspace::new(hash_seed),
            sessions: Sessions::default(),
            ownership: Ownership { owned, ..Ownership::default() },
            clock_ms: 0,
            applied_index: 0,
            checkpoints: VecDeque::new(),
            walk: None,
            places: Vec::new(),
        }
    }

    /// Applies the entry at `index` and adds what became of its commands to `answers`. An empty
    /// payload is an entry of Raft's own (a no-op, a configuration): it counts, and does nothing.
    ///
    /// # Errors
    /// [`Diverged`]: nothing was applied, and the machine must not be used further.
    ///
    /// # Panics
    /// If the entry is malformed or of an unknown command table (it was validated when it was
    /// received), if its index was applied, or if its stamp lies before the last one.
    pub fn apply(
        &mut self,
        index: u64,
        entry: &[u8],
        answers: &mut Answers,
    ) -> Result<(), Diverged> {
        assert!(index > self.applied_index, "an entry is applied once, in the log's order");
        if !entry.is_empty() {
            let view = EntryView::parse(entry).expect("an entry is validated when it is received");
            assert!(view.version <= TABLE_VERSION, "the cluster uses versions all its nodes know");
            self.compare(view.check)?;
            self.keyspace.begin_entry(index);
            self.advance(view.stamp_ms);
            for chunk in view.chunks() {
                self.apply_chunk(&chunk, answers);
            }
        }
        self.applied_index = index;
        if index.is_multiple_of(CHECKPOINT_INTERVAL) {
            self.checkpoints.push_back((index, self.state_hash()));
            if self.checkpoints.len() > CHECKPOINTS_KEPT {
                self.checkpoints.pop_front();
            }
        }
        Ok(())
    }

    /// Has the memory at hand that entries will need which are applied next, up to a bound. Changes
    /// nothing; it pays where there are several commands and more keys than a cache holds.
    pub fn look_ahead<'a>(&mut self, entries: impl Iterator<Item = &'a [u8]>) {
        let mut places = std::mem::take(&mut self.places);
        for entry in entries {
            // Most commands have one key, and have it there. What is wrong with an entry is told
            // when it is applied.
            let _ = peek_keys(entry, |slot, key| {
                if slot < SLOTS {
                    places.push(self.keyspace.place(slot, key));
                }
            });
            if places.len() >= PLACES_MAX {
                break;
            }
        }
        self.keyspace.touch(&places);
        places.clear();
        places.shrink_to(PLACES_MAX);
        self.places = places;
    }

    /// Answers a read at the applied state, as RESP3 bytes added to `out`. `now_ms` is the leader's
    /// clock and only counts for how long keys have yet to live (P9); what has expired is decided
    /// by the applied clock.
    pub fn read(
        &self,
        args: Args<'_>,
        slot: u16,
        generation: u32,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> ReadOutcome {
        let Some(scope) = scope_of(&self.ownership, slot, generation, self.clock_ms) else {
            return ReadOutcome::NotOwner;
        };
        let scope = Scope { ttl_clock_ms: now_ms.max(self.clock_ms), ..scope };
        execute::read(&self.keyspace, &scope, args, out);
        ReadOutcome::Done
    }

    /// Whether some key of a read expires after the applied clock and not after `clock_ms`: the
    /// leader must then commit a tick before it answers (P9). For a command without keys this asks
    /// for any key of the shard.
    pub fn touches_expiry_between(&self, args: Args<'_>, clock_ms: u64) -> bool {
        let due = self.keyspace.next_expiry_ms().is_some_and(|at| at <= clock_ms);
        let Some(spec) = args.get(0).and_then(find).filter(|_| due) else { return false };
        if !spec.has_keys() {
            return self.keyspace.expires_between(self.clock_ms, clock_ms);
        }
        let Ok(mut keys) = spec.keys(args) else { return false };
        keys.any(|(_, key)| {
            let found = self.keyspace.get(slot_of(key), key, self.clock_ms);
            found.and_then(|found| found.expires_at_ms).is_some_and(|at| at <= clock_ms)
        })
    }

    /// Takes over a restored state. The old one is freed by the entries to come and by
    /// [`Machine::free`]; a snapshot being walked is cancelled.
    ///
    /// # Panics
    /// If the restored state is older than the present one.
    pub fn replace(&mut self, restored: Machine) {
        assert!(restored.applied_index >= self.applied_index, "a restored state is never older");
        self.cancel_snapshot();
        let Machine { keyspace, sessions, ownership, clock_ms, applied_index, checkpoints, .. } =
            restored;
        self.keyspace.replace(keyspace);
        self.sessions = sessions;
        self.ownership = ownership;
        self.clock_ms = clock_ms;
        self.applied_index = applied_index;
        self.checkpoints = checkpoints;
    }

    /// Frees about `at_most` keys that are no longer part of the state; says whether all are. To
    /// be called in turns with nothing else to do.
    pub fn free(&mut self, at_most: usize) -> bool {
        self.keyspace.free(at_most)
    }

    /// The stamp of the last applied entry, in Unix milliseconds.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// When the next key expires, in Unix milliseconds; in the past if keys wait to be purged. The
    /// leader commits a tick then.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.keyspace.next_expiry_ms()
    }

    /// Number of keys, expired ones that were not purged yet included.
    pub fn key_count(&self) -> u64 {
        self.keyspace.len()
    }

    /// Number of keys of a slot, expired ones that were not purged yet included.
    pub fn slot_key_count(&self, slot: Slot) -> u64 {
        self.keyspace.slot_len(slot)
    }

    /// Bytes of keys and values, with what a table needs for each.
    pub fn bytes(&self) -> u64 {
        self.keyspace.bytes()
    }

    /// Whether the slot is this shard's.
    pub fn owns(&self, slot: Slot) -> bool {
        self.ownership.owned.contains(slot)
    }

    /// The slots of this shard.
    pub fn owned(&self) -> &SlotSet {
        &self.ownership.owned
    }

    /// The ownership generation of a slot (P7): how often it has moved.
    pub fn generation(&self, slot: Slot) -> u32 {
        self.ownership.generation(slot)
    }

    /// Index of the last applied entry, 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// What is kept for an origin. The leader holds its next commands back at
    /// [`crate::session::UNSETTLED_COMMANDS_MAX`] and
    /// [`crate::session::UNSETTLED_REPLY_BYTES_MAX`].
    pub fn pending(&self, origin: &Origin) -> Pending {
        self.sessions.pending(origin)
    }

    /// The lowest incarnation of a node that may still write, if the shard knows the node.
    pub fn min_incarnation(&self, node: u32) -> Option<u64> {
        self.sessions.min_incarnation(node)
    }

    /// A word that stands for the whole replicated state: equal on replicas at the same index.
    /// Takes time in proportion to the number of streams, not of keys.
    pub fn state_hash(&self) -> u64 {
        self.state_hash_with(self.keyspace.digest(), self.keyspace.len())
    }

    /// The same, had it these keys: their digest and number.
    pub(crate) fn state_hash_with(&self, keys_digest: u64, keys: u64) -> u64 {
        let owned = self.ownership.digest();
        let keys = of_words(keys_digest, keys, self.sessions.digest());
        of_words(self.clock_ms, keys, owned)
    }

    /// Index and state hash of the latest checkpoint, for the entries that this leader proposes.
    pub fn checkpoint(&self) -> Option<(u64, u64)> {
        self.checkpoints.back().copied()
    }

    /// Compares a checkpoint of the leader's with the own one of that index, if it is kept.
    fn compare(&self, check: Option<(u64, u64)>) -> Result<(), Diverged> {
        let Some((index, theirs)) = check else { return Ok(()) };
        match self.checkpoints.iter().find(|&&(at, _)| at == index) {
            Some(&(_, own)) if own != theirs => Err(Diverged { index, own, theirs }),
            _ => Ok(()),
        }
    }

    /// Moves the clock, and lets go of what is due.
    fn advance(&mut self, stamp_ms: u64) {
        assert!(stamp_ms >= self.clock_ms, "stamps never go back");
        self.clock_ms = stamp_ms;
        self.keyspace.purge(stamp_ms, PURGED_PER_ENTRY);
        self.keyspace.free(FREED_PER_ENTRY);
    }

    fn apply_chunk(&mut self, chunk: &Chunk<'_>, answers: &mut Answers) {
        let head = chunk.head();
        let answer = |seq, outcome| Answer { origin: head.origin, epoch: head.epoch, seq, outcome };
        let refused = match self.sessions.admit(&head) {
            Admission::Void => Outcome::Void,
            Admission::Refused { min_incarnation } => Outcome::Refused { min_incarnation },
            Admission::Stream(stream) => {
                let mut at = Execution {
                    keyspace: &mut self.keyspace,
                    ownership: &self.ownership,
                    clock_ms: self.clock_ms,
                    stream,
                };
                for command in chunk.commands() {
                    let outcome = at.execute(&command, &mut answers.bytes);
                    answers.answers.push(answer(command.seq, outcome));
                }
                return;
            }
        };
        for command in chunk.commands() {
            answers.answers.push(answer(command.seq, refused.clone()));
        }
    }
}

/// The reply of a command that was not executed for want of room.
const UNSETTLED_TEXT: &str = "ERR the command was not executed: replies of 64 MiB to this node's \
     earlier commands are not taken yet; send fewer at once";

/// What the commands of one chunk are executed on.
struct Execution<'a> {
    keyspace: &'a mut Keyspace,
    ownership: &'a Ownership,
    clock_ms: u64,
    stream: &'a mut Stream,
}

impl Execution<'_> {
    /// Executes a command once, and writes its reply to the end of `out`.
    fn execute(&mut self, command: &ChunkCommand<'_>, out: &mut Vec<u8>) -> Outcome {
        let start = out.len();
        match self.stream.position(command.seq) {
            Position::Void => return Outcome::Void,
            Position::Recorded(reply) => out.extend_from_slice(reply),
            Position::New => {
                let (slot, generation) = (command.slot, command.generation);
                let scope = scope_of(self.ownership, slot, generation, self.clock_ms);
                let Some(scope) = scope else { return Outcome::NotOwner };
                if self.stream.reply_bytes() >= UNSETTLED_REPLY_BYTES_MAX {
                    // Long replies of short commands must not fill the memory of every replica.
                    encode::error(out, UNSETTLED_TEXT);
                    self.stream.record(command.seq, command.slot, &out[start..]);
                    return Outcome::Reply(start..out.len());
                }
                execute::write(self.keyspace, &scope, command.args, out);
                self.stream.record(command.seq, command.slot, &out[start..]);
            }
        }
        Outcome::Reply(start..out.len())
    }
}

/// Where and when a command is executed, if the shard owns its slot by the generation it names.
fn scope_of(ownership: &Ownership, slot: u16, generation: u32, now_ms: u64) -> Option<Scope<'_>> {
    let whole = slot == WHOLE_SHARD;
    if !whole && !ownership.admits(Slot(slot), generation) {
        return None;
    }
    let slot = (!whole).then_some(Slot(slot));
    Some(Scope { slot, now_ms, ttl_clock_ms: now_ms, owned: &ownership.owned })
}

impl Answers {
    /// The answers, in the order of the commands.
    pub fn iter(&self) -> std::slice::Iter<'_, Answer> {
        self.answers.iter()
    }

    /// The reply of one of these answers, as RESP3 bytes; empty if its command has none.
    pub fn reply(&self, answer: &Answer) -> &[u8] {
        match &answer.outcome {
            Outcome::Reply(range) => &self.bytes[range.clone()],
            Outcome::Void | Outcome::NotOwner | Outcome::Refused { .. } => &[],
        }
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Forgets all of them and keeps the memory, up to a bound.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 1 << 20;
        self.answers.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }
}

impl<'a> IntoIterator for &'a Answers {
    type Item = &'a Answer;
    type IntoIter = std::slice::Iter<'a, Answer>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
