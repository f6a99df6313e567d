//! Processes: switched on, one turn after the other as the server's lane takes them, and gone.

use flotilla_node::{Boot, ConnId, Event, Node, Notice, Output};
use flotilla_raft::{Index, Time};
use flotilla_shard::{NodeId, ShardId};
use flotilla_storage::{Log, RecoveredLane};

use super::{CLUSTER_PORT, Happening, World};
use crate::config::Mutant;
use crate::helper::Job;
use crate::machine::{Incoming, Process};
use crate::network::{Party, Piece};
use crate::queue::Micros;

/// A turn follows what stirred it within this time.
const TURN_DELAY_MAX: Micros = 60;
/// The log is asked for chores no more often than this.
const CHORES_EVERY: Micros = 10_000;
/// So many turns in a row without anything that happened or followed are a loop without end.
const IDLE_TURNS_MAX: u32 = 5_000;
/// All of Raft's invariants are checked at changes, and at every such turn.
const INVARIANTS_EVERY: u64 = 64;

impl World {
    /// Starts the process of a machine, if none runs.
    pub(crate) fn switch_on(&mut self, at: usize) {
        let stays_off = self.dead == Some(at) || self.failure.is_some();
        if self.machines[at].process.is_some() || stays_off {
            return;
        }
        self.machines[at].boots += 1;
        self.machines[at].paused_until = 0;
        let Some((log, mut lane)) = self.recover(at) else { return };
        self.spoil_memory(&mut lane);
        self.safety.on_boot(at, &lane.shards);
        let mut storage_id = [0; 16];
        storage_id[..8].copy_from_slice(&self.random.word().to_le_bytes());
        storage_id[8..].copy_from_slice(&self.random.word().to_le_bytes());
        let boot = Boot {
            layout: self.config.layout.clone(),
            me: NodeId::at(at),
            node_state: lane.node_state,
            shards: lane.shards,
            storage_id,
            nonce: self.random.word(),
            seed: self.random.word(),
            cluster_port: CLUSTER_PORT,
            http_port: 0,
            durable: true,
            options: self.config.node.clone(),
        };
        let now = self.machines[at].clocks.read(self.now);
        match Node::new(boot, now) {
            Ok(node) => {
                self.counters.boots += 1;
                let boots = self.machines[at].boots;
                self.tell(|| format!("node {} is up for the {boots}. time", at + 1));
                self.machines[at].process = Some(Process::new(node, log));
                self.reset_ghosts(at);
                self.stir(at);
            }
            Err(reason) => self.fail(format!("node {} does not start: {reason}", at + 1)),
        }
    }

    /// Reads the log; now and then the power goes while that is done, and it is read again.
    fn recover(&mut self, at: usize) -> Option<(Log, RecoveredLane)> {
        let options = self.config.storage.clone();
        let (first, second, crash) = (self.random.word(), self.random.word(), self.random.word());
        let twice = self.troubled && self.random.chance(25);
        let machine = &mut self.machines[at];
        let mut recovered = Log::recover(&mut machine.disk, options.clone(), first);
        if let (true, Ok((_, lane))) = (twice, &recovered) {
            let before = (lane.node_state.clone(), lane.shards.clone());
            machine.disk.crash(crash);
            self.counters.recovery_crashes += 1;
            recovered = Log::recover(&mut machine.disk, options, second);
            if let Ok((_, lane)) = &recovered
                && (&lane.node_state, &lane.shards) != (&before.0, &before.1)
            {
                self.fail(format!("node {}: a recovery repeated finds something else", at + 1));
                return None;
            }
        }
        match recovered {
            Ok(recovered) => Some(recovered),
            Err(error) => {
                self.fail(format!("node {} can't recover its log: {error}", at + 1));
                None
            }
        }
    }

    fn spoil_memory(&self, lane: &mut RecoveredLane) {
        for recovered in lane.shards.values_mut() {
            if self.is_mutant(Mutant::ForgetsLog) {
                recovered.entries.clear();
            }
            if self.is_mutant(Mutant::ForgetsVotes) {
                recovered.hard_state.voted_for = None;
            }
        }
    }

    /// The process will look at what has happened.
    pub(crate) fn stir(&mut self, at: usize) {
        let delay = self.random.between(1, TURN_DELAY_MAX);
        let machine = &mut self.machines[at];
        let (boot, paused_until) = (machine.boots, machine.paused_until);
        let Some(process) = &mut machine.process else { return };
        if !process.stirred {
            process.stirred = true;
            self.queue.push(paused_until.max(self.now + delay), Happening::Turn { at, boot });
        }
    }

    /// Something happens to a process.
    pub(crate) fn tell_node(&mut self, at: usize, boot: u64, what: Incoming) {
        if let Some(process) = self.machines[at].process_of(boot) {
            process.inbox.push_back(what);
            self.stir(at);
        }
    }

    pub(crate) fn wake(&mut self, at: usize, boot: u64, due: Micros) {
        if let Some(process) = self.machines[at].process_of(boot)
            && process.wake_at == Some(due)
        {
            process.wake_at = None;
            self.stir(at);
        }
    }

    pub(crate) fn turn(&mut self, at: usize, boot: u64) {
        let now = self.now;
        let clocks = self.machines[at].clocks;
        let paused_until = self.machines[at].paused_until;
        let Some(process) = self.machines[at].process_of(boot) else { return };
        if paused_until > now {
            self.queue.push(paused_until, Happening::Turn { at, boot });
            return;
        }
        process.stirred = false;
        process.turns += 1;
        let read = clocks.read(now);
        let idle = process.inbox.is_empty();
        let due = process.node.deadline() <= read.time;
        for incoming in std::mem::take(&mut process.inbox) {
            if matches!(incoming, Incoming::Written { .. }) {
                process.open_write = None;
            }
            incoming.deliver(|event| process.node.handle(read, event));
        }
        if due {
            process.node.handle(read, Event::Wake);
        }
        let mut outputs = Vec::new();
        process.node.end_turn(read, &mut outputs);
        process.idle_turns = if idle && outputs.is_empty() { process.idle_turns + 1 } else { 0 };
        let spins = process.idle_turns > IDLE_TURNS_MAX;
        self.counters.turns += 1;
        self.trace.mix(at as u64);
        for output in outputs {
            self.carry_out(at, boot, output);
        }
        if spins {
            self.fail(format!("node {} turns without end and nothing follows", at + 1));
        }
        self.observe(at, boot);
        self.do_chores(at, boot);
        self.schedule_wake(at, boot);
    }

    fn carry_out(&mut self, at: usize, boot: u64, output: Output) {
        match output {
            Output::Send { conn, bytes } => {
                self.trace.mix_bytes(&bytes);
                if let Some((id, side)) = self.connection_of(at, boot, conn) {
                    self.send(id, side, bytes);
                }
            }
            Output::Close { conn } => self.close_of_node(at, boot, conn),
            Output::Pause { conn } => self.pause(at, boot, conn, true),
            Output::Resume { conn } => self.pause(at, boot, conn, false),
            Output::Dial { conn, address } => self.dial_of_node(at, boot, conn, &address),
            Output::Write(batch) => self.write(at, &batch),
            Output::SnapshotBegin { shard, meta } => {
                let Some(process) = self.machines[at].process_of(boot) else { return };
                let (writer, name) = process.log.snapshot_writer(shard, meta);
                self.help(at, Job::Begin { shard, writer: Box::new(writer), name });
            }
            Output::SnapshotAppend { shard, chunk } => self.help(at, Job::Append { shard, chunk }),
            Output::SnapshotFinish { shard } => self.help(at, Job::Finish { shard }),
            Output::SnapshotAbort { shard } => self.help(at, Job::Abort { shard }),
            Output::SnapshotRead { shard, index, number } => {
                self.read_snapshot(at, boot, shard, index, number);
            }
            Output::Notice(notice) => self.on_notice(at, &notice),
        }
    }

    fn read_snapshot(&mut self, at: usize, boot: u64, shard: ShardId, index: Index, number: u32) {
        let Some(process) = self.machines[at].process_of(boot) else { return };
        let file = process.log.snapshot_at(shard, index).map(|file| file.name.clone());
        if let Some(name) = file {
            process.log.hold_snapshot(&name);
            self.help(at, Job::Read { shard, index, number, name });
        } else {
            let reason = format!("there is no snapshot of shard {shard} at index {index} any more");
            let result = Err(reason);
            self.tell_node(at, boot, Incoming::SnapshotChunk { shard, index, number, result });
        }
    }

    fn on_notice(&mut self, at: usize, notice: &Notice) {
        self.tell(|| format!("node {} says {notice:?}", at + 1));
        match notice {
            Notice::Fatal(reason) => self.fail(format!("node {} gives up: {reason}", at + 1)),
            Notice::Halted { shard, index, reason } => self
                .fail(format!("node {} shard {shard} halted at entry {index}: {reason}", at + 1)),
            Notice::Founded { .. } => self.machines[at].founded = true,
            _ => {}
        }
    }

    /// The checkers look at all replicas of a node.
    fn observe(&mut self, at: usize, boot: u64) {
        let current = self.machines[at].boots == boot;
        let Some(process) = self.machines[at].process.as_mut().filter(|_| current) else { return };
        let mut posture = 0;
        let mut broken = None;
        let all_given = process.has_given_all();
        for replica in process.node.inspect() {
            posture += replica.term.0 * 2 + u64::from(replica.leads);
            if replica.readable {
                process.loading.remove(&replica.shard);
            } else if process.loading.insert(replica.shard) && process.turns > 1 {
                self.counters.snapshots_installed += 1;
            }
            self.trace.mix(replica.commit.0 ^ replica.applied.0 << 32);
            let hash = || process.node.state_hash(replica.shard);
            let seen = self.safety.observe(at, &replica, hash, all_given, &mut self.counters);
            broken = broken.or(seen.err());
        }
        let changed = std::mem::replace(&mut process.posture, posture) != posture;
        if changed || process.turns.is_multiple_of(INVARIANTS_EVERY) {
            process.node.check_invariants();
        }
        if let Some(broken) = broken {
            self.fail(broken);
        }
    }

    fn do_chores(&mut self, at: usize, boot: u64) {
        let now = self.now;
        let Some(process) = self.machines[at].process_of(boot) else { return };
        if now < process.chores_asked + CHORES_EVERY {
            return;
        }
        process.chores_asked = now;
        for chore in process.log.housekeeping() {
            self.help(at, Job::Chore(chore));
        }
    }

    fn schedule_wake(&mut self, at: usize, boot: u64) {
        let now = self.now;
        let clocks = self.machines[at].clocks;
        let Some(process) = self.machines[at].process_of(boot) else { return };
        let deadline = process.node.deadline();
        if deadline == Time::NEVER {
            return;
        }
        let due = clocks.moment(deadline);
        if due <= now {
            self.stir(at);
        } else if process.wake_at.is_none_or(|at| due < at) {
            process.wake_at = Some(due);
            self.queue.push(due, Happening::Wake { at, boot, due });
        }
    }

    /// A machine loses its power: the process is gone, and of what was not synced, some is.
    pub(crate) fn power_goes(&mut self, at: usize) {
        let Some(mut process) = self.machines[at].process.take() else { return };
        let boot = self.machines[at].boots;
        self.counters.crashes += 1;
        self.counters.founding_crashes += u64::from(!self.machines[at].founded);
        let leads = process.node.inspect().any(|replica| replica.leads);
        self.counters.leader_crashes += u64::from(leads);
        self.tell(|| format!("node {} loses its power, leading: {leads}", at + 1));
        self.tear_disk(at, &mut process);
        let silent = self.random.chance(50);
        let mine = |party: Party| match party {
            Party::Node { at: a, boot: b, .. } => (a, b) == (at, boot),
            Party::Client { .. } => false,
        };
        for id in self.network.select(|connection| connection.parties.iter().any(|p| mine(*p))) {
            let Some(connection) = self.network.connection(id) else { continue };
            let side = usize::from(mine(connection.parties[1]));
            if !connection.open[side] {
                continue;
            }
            let under_way = self.network.under_way(id, side) as u64;
            let kept = self.random.between(0, under_way) as usize;
            self.network.lose(id, side, kept);
            if silent {
                // Nobody tells the other side before the machine is there again.
                self.machines[at].ghosts.push((id, side));
            } else {
                self.send_piece(id, side, Piece::End);
            }
            self.network.leave(id, side);
        }
    }

    fn reset_ghosts(&mut self, at: usize) {
        for (id, side) in std::mem::take(&mut self.machines[at].ghosts) {
            self.disown(id, side);
        }
    }

    fn connection_of(&mut self, at: usize, boot: u64, conn: ConnId) -> Option<(u64, usize)> {
        self.machines[at].process_of(boot)?.connections.get(&conn).copied()
    }

    fn close_of_node(&mut self, at: usize, boot: u64, conn: ConnId) {
        let Some(process) = self.machines[at].process_of(boot) else { return };
        process.dialing.remove(&conn);
        if let Some((id, side)) = process.connections.remove(&conn) {
            self.tell(|| format!("node {} closes {conn:?}", at + 1));
            self.send_piece(id, side, Piece::End);
            self.network.leave(id, side);
        }
    }

    fn pause(&mut self, at: usize, boot: u64, conn: ConnId, paused: bool) {
        if let Some((id, side)) = self.connection_of(at, boot, conn) {
            self.network.pause(id, side, paused);
            if !paused {
                self.after(1, Happening::Arrive { id, side: 1 - side });
            }
        }
    }
}
