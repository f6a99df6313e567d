//! What a leader holds for its clients: chunks that wait to be proposed, reads that wait to be
//! served.
//!
//! All of a turn's chunks become one Raft entry (P8). A read waits for its round (Raft's
//! `ReadReady`), and for the entries of its own connection that were proposed before it.
//!
//! Reads are served in the order they were asked: of two of one connection the first may have to
//! wait for an entry while the second would not, and the second must not see an older state.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use flotilla_kv::args::Args;
use flotilla_kv::command::TABLE_VERSION;
use flotilla_kv::entry::{EntryWriter, Origin};
use flotilla_kv::machine::{Machine, ReadOutcome};
use flotilla_raft::{Index, RequestId, Term, Time};
use flotilla_shard::ShardId;

use crate::intake::Intake;
use crate::link::RefusalReason;
use crate::replies::{Answer, Replies};
use crate::room::Shortage;
use crate::stream::CutChunk;

/// Reads are served until the replies of the round have so many bytes.
const SERVED_BYTES: usize = 4 << 20;
/// Stands for the index of a tick that is not proposed yet.
const TICK: Index = Index(u64::MAX);

/// A chunk that waits for the turn's entry.
#[derive(Debug)]
struct Staged {
    origin: Origin,
    epoch: u64,
    first_seq: u64,
    bytes: Vec<u8>,
}

/// A read that somebody waits for.
#[derive(Debug)]
pub(crate) struct LeaderRead {
    /// Whose stream.
    pub(crate) origin: Origin,
    /// The stream's epoch.
    pub(crate) epoch: u64,
    /// Its number there.
    pub(crate) id: u64,
    /// Its slot, or the whole shard.
    pub(crate) slot: u16,
    /// The slot's ownership generation it was routed by.
    pub(crate) generation: u32,
    /// Whether writes of its connection go before it.
    pub(crate) after_writes: bool,
    /// The command, encoded.
    pub(crate) args: Vec<u8>,
}

impl LeaderRead {
    fn args(&self) -> Args<'_> {
        Args::parse(&self.args).expect("a read was validated when it came")
    }
}

/// Reads that wait for the same thing.
#[derive(Debug)]
struct Group {
    reads: Vec<LeaderRead>,
    index: Index,
    /// Whether it has waited for a tick: then what it reads is what that entry left.
    ticked: bool,
}

/// What a leader holds.
#[derive(Debug)]
pub(crate) struct Lead {
    /// Its term.
    pub(crate) term: Term,
    /// Whether the first entry of its term is applied.
    pub(crate) open: bool,
    /// The stamp of the last entry it proposed, milliseconds.
    pub(crate) stamp_ms: u64,
    /// When it last proposed an entry for the clock's sake.
    pub(crate) ticked_at: Time,
    /// What it does about a disk without room.
    pub(crate) shortage: Shortage,
    /// An entry takes no further chunk from this size on, bytes.
    entry_bytes: usize,
    intake: Intake,
    /// The core had no room for the last proposal: what waits is proposed when it has.
    blocked: bool,
    staged: Vec<Staged>,
    /// How many of `staged` are in the entry made last.
    in_entry: usize,
    asked: Vec<LeaderRead>,
    rounds: BTreeMap<RequestId, Group>,
    /// Those whose round is over, in the order they were asked.
    ready: VecDeque<Group>,
    next_request: u64,
    /// How many replicas it has given an id to.
    pub(crate) admitted: u64,
}

impl Lead {
    /// The beginning of a term; an entry takes no further chunk from so many bytes on.
    pub(crate) fn new(term: Term, entry_bytes: usize) -> Self {
        Self {
            term,
            entry_bytes,
            open: false,
            stamp_ms: 0,
            ticked_at: Time(0),
            shortage: Shortage::None,
            blocked: false,
            intake: Intake::default(),
            staged: Vec::new(),
            in_entry: 0,
            asked: Vec::new(),
            rounds: BTreeMap::new(),
            ready: VecDeque::new(),
            next_request: 1,
            admitted: 0,
        }
    }

    /// Takes a chunk, or answers that it is refused.
    pub(crate) fn take_chunk(
        &mut self,
        shard: ShardId,
        origin: Origin,
        chunk: CutChunk,
        replies: &mut Replies,
    ) {
        let CutChunk { epoch, begins, first_seq, bytes } = chunk;
        if self.shortage == Shortage::Refuses {
            self.intake.refuse(origin, epoch);
            let reason = RefusalReason::NoRoom;
            replies.push(shard, origin, Answer::Refused { epoch, from_seq: first_seq, reason });
        } else if self.intake.admits(origin, epoch, begins) {
            // What an older epoch has waiting here is in this one again.
            self.staged.retain(|staged| staged.origin != origin || staged.epoch >= epoch);
            self.asked.retain(|read| read.origin != origin || read.epoch >= epoch);
            self.staged.push(Staged { origin, epoch, first_seq, bytes });
        } else {
            refuse(shard, origin, epoch, first_seq, replies);
        }
    }

    /// Refuses all that waits here, and with it the epochs that it is of: the table is being
    /// loaded. What waits was never proposed.
    pub(crate) fn refuse_waiting(&mut self, shard: ShardId, replies: &mut Replies) {
        if self.staged.is_empty() && self.asked.is_empty() && self.ready.is_empty() {
            return;
        }
        self.intake.refuse_all();
        let mut refuse = |origin, epoch, from_seq| {
            let reason = RefusalReason::Loading;
            replies.push(shard, origin, Answer::Refused { epoch, from_seq, reason });
        };
        for staged in self.staged.drain(..) {
            refuse(staged.origin, staged.epoch, staged.first_seq);
        }
        let groups = self.ready.drain(..).flat_map(|group| group.reads);
        for read in self.asked.drain(..).chain(groups) {
            refuse(read.origin, read.epoch, u64::MAX);
        }
    }

    /// Takes a read, or answers that it is refused.
    pub(crate) fn take_read(&mut self, shard: ShardId, read: LeaderRead, replies: &mut Replies) {
        if self.intake.admits_read(read.origin, read.epoch, read.after_writes) {
            let (origin, epoch) = (read.origin, read.epoch);
            self.asked.retain(|read| read.origin != origin || read.epoch >= epoch);
            self.asked.push(read);
        } else {
            refuse(shard, read.origin, read.epoch, u64::MAX, replies);
        }
    }

    /// Whether chunks wait that can be proposed now.
    pub(crate) fn has_staged(&self) -> bool {
        !self.blocked && !self.staged.is_empty()
    }

    /// Whether a round can begin for reads that wait: not while a write that may go before one of
    /// them still waits itself.
    pub(crate) fn has_asked(&self) -> bool {
        self.staged.is_empty() && !self.asked.is_empty()
    }

    /// The core may have room again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// The payload of one entry with the chunks that wait, all of them unless they are very long;
    /// they wait on until [`Lead::on_proposed`] or [`Lead::on_busy`].
    pub(crate) fn entry(&mut self, clock_ms: Option<u64>, machine: &Machine) -> Vec<u8> {
        let mut entry =
            EntryWriter::new(TABLE_VERSION, self.stamp(clock_ms, machine), machine.checkpoint());
        self.in_entry = 0;
        for staged in &self.staged {
            entry.push_chunk(&staged.bytes);
            self.in_entry += 1;
            if entry.len_bytes() >= self.entry_bytes {
                break;
            }
        }
        entry.finish()
    }

    /// The stamp of the next entry: the clock, and never below the last one's (P9).
    fn stamp(&mut self, clock_ms: Option<u64>, machine: &Machine) -> u64 {
        self.stamp_ms = self.stamp_ms.max(machine.clock_ms()).max(clock_ms.unwrap_or(0));
        self.stamp_ms
    }

    /// The entry is in the log.
    pub(crate) fn on_proposed(&mut self) {
        self.staged.drain(..self.in_entry);
    }

    /// The entry was refused for want of room: its chunks wait on. They are bounded by what their
    /// origins may have unsettled.
    pub(crate) fn on_busy(&mut self) {
        self.blocked = true;
    }

    /// Begins a round for all reads asked since the last one; `last` is the log's last index.
    pub(crate) fn begin_round(&mut self, last: Index) -> RequestId {
        let reads = mem::take(&mut self.asked);
        let after_writes = reads.iter().any(|read| read.after_writes);
        let index = if after_writes { last } else { Index(0) };
        let id = self.next_id();
        self.rounds.insert(id, Group { reads, index, ticked: false });
        id
    }

    /// A request id that this term has not used.
    pub(crate) fn next_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// The round of these reads is over: they may be served once `index` is applied.
    pub(crate) fn on_read_ready(&mut self, id: RequestId, index: Index) {
        if let Some(mut group) = self.rounds.remove(&id) {
            group.index = group.index.max(index);
            self.ready.push_back(group);
        }
    }

    /// Serves the reads whose index is applied, in order, all of them unless the replies get very
    /// long. A group with a read of a key that expires between the applied clock and the leader's
    /// waits for a `Tick` first, once (P9).
    pub(crate) fn serve(
        &mut self,
        shard: ShardId,
        applied: Index,
        machine: &Machine,
        clock_ms: Option<u64>,
        replies: &mut Replies,
    ) {
        let due = |read: &LeaderRead| {
            clock_ms.is_some_and(|clock| machine.touches_expiry_between(read.args(), clock))
        };
        let now_ms = machine.clock_ms().max(clock_ms.unwrap_or(0));
        while let Some(group) = self.ready.front_mut() {
            if group.index > applied || replies.bytes.len() >= SERVED_BYTES {
                return;
            }
            if !group.ticked && group.reads.iter().any(due) {
                group.index = TICK;
                return;
            }
            let mut served = 0;
            while served < group.reads.len() && replies.bytes.len() < SERVED_BYTES {
                serve_one(shard, &group.reads[served], machine, now_ms, replies);
                served += 1;
            }
            group.reads.drain(..served);
            if group.reads.is_empty() {
                self.ready.pop_front();
            }
        }
    }

    /// Whether reads wait for a tick that is not in the log yet, and can be.
    pub(crate) fn wants_tick(&self) -> bool {
        !self.blocked && self.ready.iter().any(|group| group.index == TICK)
    }

    /// Whether reads can be served now.
    pub(crate) fn has_servable(&self, applied: Index) -> bool {
        self.ready.front().is_some_and(|group| group.index <= applied)
    }

    /// The tick that reads wait for is in the log at `index`.
    pub(crate) fn on_tick(&mut self, index: Index) {
        for group in &mut self.ready {
            if group.index == TICK {
                group.index = index;
                group.ticked = true;
            }
        }
    }

    /// The lead is lost: nothing that waits here will be done, except perhaps what is in the log.
    pub(crate) fn give_up(self, shard: ShardId, replies: &mut Replies) {
        for staged in self.staged {
            let Staged { origin, epoch, first_seq, .. } = staged;
            refuse(shard, origin, epoch, first_seq, replies);
        }
        let groups = self.rounds.into_values().chain(self.ready);
        for read in self.asked.into_iter().chain(groups.flat_map(|group| group.reads)) {
            refuse(shard, read.origin, read.epoch, u64::MAX, replies);
        }
    }
}

/// Serves a read; `now_ms` counts for how long keys have yet to live.
fn serve_one(
    shard: ShardId,
    read: &LeaderRead,
    machine: &Machine,
    now_ms: u64,
    replies: &mut Replies,
) {
    let start = replies.bytes.len();
    let (slot, generation) = (read.slot, read.generation);
    let outcome = machine.read(read.args(), slot, generation, now_ms, &mut replies.bytes);
    let reply = match outcome {
        ReadOutcome::Done => Some(start..replies.bytes.len()),
        ReadOutcome::NotOwner => None,
    };
    replies.push(shard, read.origin, Answer::Read { id: read.id, epoch: read.epoch, reply });
}

/// Tells an origin that its epoch is refused from `from_seq` on.
pub(crate) fn refuse(
    shard: ShardId,
    origin: Origin,
    epoch: u64,
    from_seq: u64,
    replies: &mut Replies,
) {
    let reason = RefusalReason::NotLeader;
    replies.push(shard, origin, Answer::Refused { epoch, from_seq, reason });
}

#[cfg(test)]
mod tests {
    use flotilla_kv::ArgsBuf;
    use flotilla_shard::{Slot, slot_of};

    use super::*;

    const SHARD: ShardId = ShardId(1);

    const ORIGIN: Origin = Origin { node: 1, incarnation: 1, nonce: 1, lane: 0 };

    fn read(id: u64) -> LeaderRead {
        let (origin, args) = (ORIGIN, ["GET", "k"]);
        let args = ArgsBuf::from_slices(&args.map(str::as_bytes)).as_args().bytes().to_vec();
        let slot = slot_of(b"k").0;
        LeaderRead { origin, epoch: 1, id, slot, generation: 0, after_writes: false, args }
    }

    #[test]
    fn what_the_core_has_no_room_for_waits_and_is_not_sent_again() {
        let machine = Machine::new(1, &[(Slot(0), Slot(16_383))]);
        let mut lead = Lead::new(Term(1), usize::MAX);
        let mut replies = Replies::default();
        let bytes = b"a chunk".to_vec();
        let chunk = CutChunk { epoch: 1, begins: true, first_seq: 1, bytes };
        lead.take_chunk(SHARD, ORIGIN, chunk, &mut replies);
        let entry = lead.entry(None, &machine);
        lead.on_busy();
        assert!(replies.items.is_empty(), "its origin would send everything again");
        assert!(!lead.has_staged(), "there is no room yet");
        lead.unblock();
        assert!(lead.has_staged());
        assert_eq!(lead.entry(None, &machine), entry);
    }

    /// The first of two pipelined reads waits for a write before it. The second was sent when that
    /// write was answered, and would be served at an earlier index than the first.
    #[test]
    fn a_later_read_waits_with_an_earlier_one() {
        let machine = Machine::new(1, &[(Slot(0), Slot(16_383))]);
        let mut lead = Lead::new(Term(1), usize::MAX);
        let mut replies = Replies::default();
        for (id, index) in [(1, Index(7)), (2, Index(6))] {
            lead.take_read(SHARD, read(id), &mut replies);
            let round = lead.begin_round(Index(0));
            lead.on_read_ready(round, index);
        }
        assert!(!lead.has_servable(Index(6)));
        lead.serve(SHARD, Index(6), &machine, None, &mut replies);
        assert!(replies.items.is_empty(), "the second must not overtake the first");
        assert!(lead.has_servable(Index(7)));
        lead.serve(SHARD, Index(7), &machine, None, &mut replies);
        let order = replies.items.iter().map(|(.., answer)| match answer {
            Answer::Read { id, .. } => *id,
            other => panic!("{other:?}"),
        });
        assert_eq!(order.collect::<Vec<_>>(), [1, 2]);
    }
}
