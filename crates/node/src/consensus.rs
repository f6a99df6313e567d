//! Driving the cores: inputs in, effects carried out, proposals and reads of the turn.

use flotilla_kv::Machine;
use flotilla_kv::entry::Origin;
use flotilla_raft::{Effect, Index, Input, Note, Payload, Refusal, Time};
use flotilla_shard::ShardId;
use smallvec::SmallVec;

use crate::io::{Notice, Now};
use crate::lead::Lead;
use crate::link::RaftEncoder;
use crate::node::Node;
use crate::replica::{Halt, Replica, State};
use crate::room::Shortage;

/// Bytes of entries that are applied in a turn: as they are committed, and as many again that were
/// left by the turns before.
pub(crate) const APPLIED_PER_TURN: usize = 1 << 20;

/// Expiries are ticked for at most this often, microseconds.
const TICK_MICROS: u64 = 5_000;

impl Node {
    /// Gives one input to a core and carries out all that follows.
    pub(crate) fn step(&mut self, shard: ShardId, input: Input, now: Now) {
        let mut effects = Vec::new();
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if replica.is_halted() {
            return;
        }
        if let (Input::Written(_) | Input::Wake, Some(lead)) = (&input, &mut replica.lead) {
            lead.unblock();
        }
        replica.raft.step(now.time, input, &mut effects);
        self.carry_out_all(shard, effects, now);
    }

    /// Carries out effects, and those that follow from them.
    pub(crate) fn carry_out_all(&mut self, shard: ShardId, mut effects: Vec<Effect>, now: Now) {
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                self.carry_out(shard, effect, &mut effects, now);
            }
        }
    }

    fn carry_out(&mut self, shard: ShardId, effect: Effect, more: &mut Vec<Effect>, now: Now) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if replica.is_halted() {
            return;
        }
        match effect {
            Effect::Write(write) => self.log_write(shard, write),
            Effect::Send(message) => {
                if let Some(node) = replica.node_of(message.to)
                    && let Some(outbox) = self.peers.outbox(node)
                {
                    RaftEncoder::new(&mut outbox.raft).push(shard, &message);
                    outbox.close_long_rows();
                }
            }
            Effect::Apply { entries } => {
                let behind = replica.has_backlog();
                replica.on_committed(entries);
                // What did not fit into the turn is first to be applied in the next one.
                if !behind {
                    let mut room = self.apply_room;
                    self.apply_some(shard, &mut room, more, now);
                    self.apply_room = room;
                }
            }
            Effect::Proposed { .. } => {
                if let Some(lead) = &mut replica.lead {
                    lead.on_proposed();
                }
            }
            Effect::ReadReady { id, index, .. } => {
                if let Some(lead) = &mut replica.lead {
                    lead.on_read_ready(id, index);
                }
            }
            Effect::Refuse { reason: Refusal::Busy, .. } => {
                if let Some(lead) = &mut replica.lead {
                    lead.on_busy();
                }
            }
            Effect::SendSnapshot { to, at_least, term } => {
                if replica.snapshot.index >= at_least {
                    self.send_snapshot(shard, to, term, now);
                } else {
                    self.make_snapshot_for(shard, to, now);
                }
            }
            Effect::Repair { entries } => self.repair(shard, entries),
            // Where this replica does not lead, the lead has ended with a note of its own, which
            // gives up everything; all other refusals answer transfers, and changes of membership,
            // which are asked for again.
            Effect::Refuse { id, .. } => self.on_request_refused(shard, id),
            Effect::Completed { .. } => {}
            // This node sets no limit to the window, so nothing ever left it.
            Effect::Load { from, .. } => {
                let entries = Vec::new();
                replica.raft.step(now.time, Input::Loaded { from, entries }, more);
            }
            Effect::Restore(meta) => {
                replica.restore(*meta);
                self.load_next();
            }
            Effect::Note(note) => self.on_note(shard, note, now),
        }
    }

    /// Applies a slice of what earlier turns have left, of one shard after the other: what does not
    /// get its turn now is first the next time.
    pub(crate) fn apply_backlog(&mut self, now: Now) {
        let behind = self.replicas.values().filter(|replica| replica.has_backlog());
        let mut shards: SmallVec<[ShardId; 16]> = behind.map(|replica| replica.shard).collect();
        let first = shards.partition_point(|shard| *shard < self.next_backlog);
        shards.rotate_left(first);
        let mut room = APPLIED_PER_TURN;
        for shard in shards {
            self.next_backlog = shard;
            if room == 0 {
                return;
            }
            let mut effects = Vec::new();
            self.apply_some(shard, &mut room, &mut effects, now);
            self.carry_out_all(shard, effects, now);
        }
    }

    fn apply_some(&mut self, shard: ShardId, room: &mut usize, more: &mut Vec<Effect>, now: Now) {
        let (own, peers) = (self.origin, &self.peers);
        let is_there = |origin: Origin| origin == own || peers.is_present(origin);
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let applied = replica.apply_some(self.me, room, is_there, &mut self.replies);
        self.on_applied(shard, applied, more, now);
    }

    /// Reports what was applied, or halts the shard here (P13).
    fn on_applied(
        &mut self,
        shard: ShardId,
        applied: Result<Option<Index>, Halt>,
        more: &mut Vec<Effect>,
        now: Now,
    ) {
        match applied {
            Ok(Some(index)) => {
                if let Some(replica) = self.replicas.get_mut(&shard) {
                    if let Some(lead) = &mut replica.lead {
                        lead.unblock();
                    }
                    replica.raft.step(now.time, Input::Applied(index), more);
                }
            }
            Ok(None) => {}
            Err(Halt { index, reason }) => {
                if let Some(replica) = self.replicas.get_mut(&shard)
                    && let Some(lead) = replica.lead.take()
                {
                    lead.give_up(shard, &mut self.replies);
                }
                self.leaders.forget(shard, self.me);
                self.notice(Notice::Halted { shard, index, reason });
            }
        }
    }

    fn on_note(&mut self, shard: ShardId, note: Note, now: Now) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        match note {
            Note::BecameLeader { term } => {
                let mut lead = Lead::new(term, self.options.max_entry_bytes);
                if self.lacks_room {
                    lead.shortage = Shortage::Refuses;
                }
                replica.lead = Some(lead);
                self.leaders.learn(shard, term.0, self.me);
                self.notice(Notice::Leading { shard, term: term.0, leads: true });
            }
            Note::SteppedDown { term } => {
                if let Some(lead) = replica.lead.take() {
                    lead.give_up(shard, &mut self.replies);
                }
                self.leaders.forget(shard, self.me);
                self.notice(Notice::Leading { shard, term: term.0, leads: false });
            }
            // It is followed by a transfer, which ends with a note of its own.
            Note::Stalled { .. } => {}
            Note::LeaderChanged { term, leader } => {
                let leader = leader.and_then(|id| replica.node_of(id));
                if let Some(node) = leader.filter(|node| *node != self.me) {
                    self.leaders.learn(shard, term.0, node);
                }
            }
        }
        let _ = now;
    }

    /// The clock of a shard, if enough of its voters' clocks are known (P9).
    pub(crate) fn shard_clock(&self, shard: ShardId, now: Now) -> Option<u64> {
        let voters = self.replicas.get(&shard)?.voters();
        self.clock.median_ms(voters, self.me, now)
    }

    /// Proposes one entry for all chunks of a shard, or a tick where one is due; then asks for the
    /// reads of this turn.
    pub(crate) fn propose(&mut self, now: Now) {
        for shard in self.led_and_open() {
            if self.may_propose(shard) {
                self.propose_entry(shard, now);
            }
            self.ask_for_reads(shard, now);
        }
    }

    /// Whether an entry of a shard is due, or might be if the time has come.
    fn may_propose(&self, shard: ShardId) -> bool {
        let Some(replica) = self.replicas.get(&shard) else { return false };
        let expires = replica.machine().and_then(Machine::next_expiry_ms).is_some();
        let wanted = |lead: &Lead| lead.has_staged() || lead.wants_tick();
        expires || replica.lead.as_ref().is_some_and(wanted)
    }

    fn propose_entry(&mut self, shard: ShardId, now: Now) {
        let clock_ms = self.shard_clock(shard, now);
        let tick = self.tick_is_due(shard, clock_ms, now);
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let Some(lead) = &mut replica.lead else { return };
        let State::Serving(machine) = &replica.state else { return };
        if lead.has_staged() || tick {
            let payload = Payload::new(lead.entry(clock_ms, machine));
            let id = lead.next_id();
            let before = replica.raft.last_index();
            self.step(shard, Input::Propose { id, payload }, now);
            self.after_propose(shard, before);
        }
    }

    fn after_propose(&mut self, shard: ShardId, before: Index) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let last = replica.raft.last_index();
        if last > before
            && let Some(lead) = &mut replica.lead
        {
            lead.on_tick(last);
        }
    }

    fn ask_for_reads(&mut self, shard: ShardId, now: Now) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        let last = replica.raft.last_index();
        let Some(lead) = replica.lead.as_mut().filter(|lead| lead.has_asked()) else { return };
        let id = lead.begin_round(last);
        self.step(shard, Input::Read { id }, now);
    }

    fn led_and_open(&self) -> SmallVec<[ShardId; 16]> {
        let open = self.replicas.values().filter(|replica| replica.is_open());
        open.map(|replica| replica.shard).collect()
    }

    /// Whether a shard led here needs an entry only for its clock: a read waits for an expiry, or
    /// the earliest expiry has come and nothing else is on its way (P9).
    fn tick_is_due(&mut self, shard: ShardId, clock_ms: Option<u64>, now: Now) -> bool {
        let Some(replica) = self.replicas.get_mut(&shard) else { return false };
        let quiet = replica.applied == replica.raft.last_index();
        let expiry_ms = replica.machine().and_then(Machine::next_expiry_ms);
        let Some(lead) = &mut replica.lead else { return false };
        let expired = expiry_ms.zip(clock_ms).is_some_and(|(expiry, clock)| expiry <= clock);
        // Nobody waits for it: a full disk is spared it.
        let due = quiet
            && expired
            && lead.shortage == Shortage::None
            && now.time.since(lead.ticked_at) >= TICK_MICROS;
        if due {
            lead.ticked_at = now.time;
        }
        due || lead.wants_tick()
    }

    /// When the next expiry may want a tick.
    pub(crate) fn next_tick_at(&self) -> Time {
        let now = self.last_now;
        let at = |replica: &Replica| {
            let lead = replica.lead.as_ref().filter(|_| replica.is_open())?;
            let expiry_ms = replica.machine()?.next_expiry_ms()?;
            let clock_ms = self.shard_clock(replica.shard, now)?;
            let quiet =
                replica.applied == replica.raft.last_index() && lead.shortage == Shortage::None;
            let ahead_ms = expiry_ms.saturating_sub(clock_ms).max(1);
            let at = now.time + ahead_ms.saturating_mul(1_000);
            quiet.then_some(at.max(lead.ticked_at + TICK_MICROS))
        };
        self.replicas.values().filter_map(at).min().unwrap_or(Time::NEVER)
    }

    /// Serves the reads whose index is applied.
    pub(crate) fn serve_reads(&mut self, now: Now) {
        for shard in self.led_and_open() {
            let servable = |replica: &Replica| {
                replica.lead.as_ref().is_some_and(|lead| lead.has_servable(replica.applied))
            };
            if !self.replicas.get(&shard).is_some_and(servable) {
                continue;
            }
            let clock_ms = self.shard_clock(shard, now);
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            let State::Serving(machine) = &replica.state else { continue };
            if let Some(lead) = &mut replica.lead {
                lead.serve(shard, replica.applied, machine, clock_ms, &mut self.replies);
            }
        }
    }
}
