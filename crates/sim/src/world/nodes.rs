//! Processes: switched on, one turn after the other as the server's lane takes them, and gone.

use flotilla_node::{Boot, ConnId, Event, Inspection, Node, Notice, Output, Unchanged};
use flotilla_raft::{Index, SnapshotMeta, Time};
use flotilla_shard::{NodeId, ShardId};
use flotilla_storage::{Chore, Damage, Log, RecoveredLane};

use super::disks::Loss;
use super::{CLUSTER_PORT, Happening, World};
use crate::check::{Look, bounds};
use crate::config::Mutant;
use crate::helper::{BuildOn, Job};
use crate::machine::{DiskTrouble, Incoming, Process};
use crate::marks::Mark;
use crate::network::{Party, Piece};
use crate::queue::Micros;
use crate::trace::mixed;
use crate::troubled_disk::TroubledDisk;

/// A turn follows what stirred it within this time.
const TURN_DELAY_MAX: Micros = 60;
/// A process that ends to begin anew is back after this time.
const RESTART_DELAY: Micros = 10_000;
/// The log is asked for chores no more often than this.
const CHORES_EVERY: Micros = 10_000;
/// So often a part of what is cold is read, to see whether it still can be.
const SCRUB_EVERY: Micros = 200_000;
/// About so much of it, bytes.
const SCRUB_BYTES: u64 = 32 << 10;
/// So many turns in a row without anything that happened or followed are a loop without end.
const IDLE_TURNS_MAX: u32 = 5_000;
/// Who is early looks again after this time.
const MET_SOON: Micros = 20_000;
/// All of Raft's invariants are checked at changes, and at every such turn.
const INVARIANTS_EVERY: u64 = 64;

impl World {
    /// Whether a machine that was never there had better stay off, since some other has not met the
    /// disk that took the place of a newborn's: it would agree to a record with the former one,
    /// which only an operator could mend (P1).
    fn is_early(&self, at: usize) -> bool {
        self.machines[at].boots == 0
            && self.machines.iter().any(|machine| !machine.unmet_by.is_empty())
    }

    /// Starts the process of a machine, if none runs.
    pub(crate) fn switch_on(&mut self, at: usize) {
        let machine = &self.machines[at];
        let stays_off = self.dead.contains(&at) || machine.refused.is_some();
        if machine.process.is_some() || stays_off || self.failure.is_some() {
            return;
        }
        if self.is_early(at) {
            return self.after(MET_SOON, Happening::SwitchOn { at });
        }
        self.machines[at].boots += 1;
        self.machines[at].paused_until = 0;
        if self.machines[at].disk_trouble == Some(DiskTrouble::Hangs) {
            self.machines[at].disk_trouble = None;
        }
        let Some((log, mut lane)) = self.recover(at) else { return };
        for damage in &lane.report.damage {
            self.tell(|| format!("node {}: {damage}", at + 1));
        }
        if let Some(cut) = &lane.report.cut {
            self.tell(|| format!("node {} cuts its log: {cut:?}", at + 1));
        }
        if lane.report.cut.is_some() {
            self.counters.marks.reach(Mark::CutTail);
        }
        if lane.shards.values().any(|found| !found.damaged.is_empty()) {
            self.counters.marks.reach(Mark::CameUpDamaged);
        }
        if !lane.lost_snapshots.is_empty() {
            self.counters.marks.reach(Mark::CameUpStateless);
        }
        self.checkers.on_stateless(at, lane.lost_snapshots.keys().copied());
        self.spoil_memory(&mut lane);
        self.tell_boot(at, &lane.shards);
        let lacks_frame = std::mem::take(&mut self.machines[at].lacks_frame);
        let one_frame = lacks_frame && !self.machines[at].misread;
        if let Err(broken) = self.checkers.on_boot(at, &lane, one_frame, &mut self.counters) {
            return self.fail(broken);
        }
        let mut storage_id = [0; 16];
        storage_id[..8].copy_from_slice(&self.random.word().to_le_bytes());
        storage_id[8..].copy_from_slice(&self.random.word().to_le_bytes());
        let boot = Boot {
            layout: self.config.layout.clone(),
            me: NodeId::at(at),
            node_state: lane.node_state,
            shards: lane.shards,
            lost: lane.lost,
            incomplete: lane.incomplete,
            durable_through: lane.durable_through,
            stateless: lane.lost_snapshots.into_keys().collect(),
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
                self.crash_again(at);
            }
            Err(reason) if self.machines[at].misread && self.troubled => {
                // The only replica of a shard has nobody to repair it: it is read again later.
                self.tell(|| format!("node {} can't start: {reason}", at + 1));
                let delay = self.lasting();
                self.after(delay, Happening::SwitchOn { at });
            }
            Err(reason) if self.machines[at].spoiled => self.refuse(at, reason),
            Err(reason) => self.fail(format!("node {} does not start: {reason}", at + 1)),
        }
    }

    /// A node refuses a disk that had been spoiled, as it must: it stays out (P4).
    fn refuse(&mut self, at: usize, reason: String) {
        self.tell(|| format!("node {} refuses its disk: {reason}", at + 1));
        if self.machines[at].was_wiped {
            return self.fail(format!("node {} refuses a disk that was blank: {reason}", at + 1));
        }
        self.counters.disks_refused += 1;
        self.machines[at].refused = Some(reason);
        // Whoever still has a connection to it learns that it is gone.
        self.reset_ghosts(at);
    }

    /// Reads the log; now and then the power goes while that is done, and it is read again.
    fn recover(&mut self, at: usize) -> Option<(Log, RecoveredLane)> {
        let options = self.config.storage.clone();
        let (first, second, crash) = (self.random.word(), self.random.word(), self.random.word());
        let machine = &mut self.machines[at];
        let twice = std::mem::take(&mut machine.crashes_in_recovery);
        let mut disk = TroubledDisk { disk: &mut machine.disk, reads_left: None };
        if let Some(DiskTrouble::FailsRead(after)) = machine.disk_trouble {
            disk.reads_left = Some(after);
            machine.disk_trouble = None;
        }
        let mut recovered = Log::recover(&mut disk, options.clone(), first);
        let failed_read = disk.reads_left == Some(0);
        machine.ever_spoiled |= failed_read;
        if let (true, Ok((_, lane))) = (twice, &recovered) {
            let before = (lane.node_state.clone(), lane.shards.clone());
            machine.disk.crash(crash);
            recovered = Log::recover(&mut machine.disk, options, second);
            if let Ok((_, lane)) = &recovered
                && (&lane.node_state, &lane.shards) != (&before.0, &before.1)
            {
                self.fail(format!("node {}: a recovery repeated finds something else", at + 1));
                return None;
            }
        }
        machine.misread = failed_read;
        let machine = &self.machines[at];
        let error = match recovered.map_err(|error| error.to_string()) {
            Ok((log, lane)) => {
                if let Err(damage) = lane.check_whole()
                    && !machine.ever_spoiled
                {
                    let node = at + 1;
                    self.fail(format!("node {node} came up with another log: damaged: {damage}"));
                    return None;
                }
                return Some((log, lane));
            }
            Err(error) => error,
        };
        let transient = failed_read || machine.disk.is_limited();
        let spoiled = machine.spoiled;
        if transient && self.troubled {
            self.tell(|| format!("node {} can't start: {error}", at + 1));
            let delay = self.lasting();
            self.after(delay, Happening::SwitchOn { at });
        } else if spoiled {
            self.counters.marks.reach(Mark::RefusedDisk);
            self.refuse(at, error);
        } else {
            self.fail(format!("node {} can't recover its log: {error}", at + 1));
        }
        None
    }

    fn spoil_memory(&self, lane: &mut RecoveredLane) {
        for recovered in lane.shards.values_mut() {
            if self.is_mutant(Mutant::ForgetsLog) {
                recovered.entries.clear();
            }
            if self.is_mutant(Mutant::ForgetsLastEntry) {
                recovered.entries.pop();
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
        let due = process.deadline <= read.time;
        let mut inbox = std::mem::take(&mut process.inbox);
        for incoming in inbox.drain(..) {
            if matches!(incoming, Incoming::Written { .. }) {
                process.open_write = None;
            }
            incoming.deliver(|event| process.node.handle(read, event));
        }
        process.inbox = inbox;
        if due {
            process.node.handle(read, Event::Wake);
        }
        let mut outputs = std::mem::take(&mut process.outputs);
        process.node.end_turn(read, &mut outputs);
        if self.trace.is_told() {
            self.tell_writes(at, boot, &outputs);
        }
        let Some(process) = self.machines[at].process_of(boot) else { return };
        process.idle_turns = if idle && outputs.is_empty() { process.idle_turns + 1 } else { 0 };
        let spins = process.idle_turns > IDLE_TURNS_MAX;
        self.counters.turns += 1;
        self.trace.mix(at as u64);
        for output in outputs.drain(..) {
            self.carry_out(at, boot, output);
        }
        if let Some(process) = self.machines[at].process_of(boot) {
            process.outputs = outputs;
        }
        if spins {
            self.fail(format!("node {} turns without end and nothing follows", at + 1));
        }
        self.observe(at, boot);
        self.direct_figure_8();
        self.direct_torn_transfer();
        self.do_chores(at, boot);
        self.schedule_wake(at, boot);
        self.take_time(at);
    }

    /// A slow machine is busy with its turn for a while.
    fn take_time(&mut self, at: usize) {
        let most = self.machines[at].turn_micros;
        if most > 0 {
            let busy = self.now + self.random.between(1, most);
            let machine = &mut self.machines[at];
            machine.paused_until = machine.paused_until.max(busy);
        }
    }

    fn carry_out(&mut self, at: usize, boot: u64, output: Output) {
        match output {
            Output::Send { conn, bytes } => {
                self.trace.mix_bytes(&bytes);
                if let Some((id, side)) = self.connection_of(at, boot, conn) {
                    self.send_of_node(id, side, bytes);
                    self.tell_congestion(id, side, (at, boot, conn));
                }
            }
            Output::Close { conn } => self.close_of_node(at, boot, conn),
            Output::Pause { conn } => {
                self.counters.marks.reach(Mark::ReaderPaused);
                self.pause(at, boot, conn, true);
            }
            Output::Resume { conn } => self.pause(at, boot, conn, false),
            Output::Dial { conn, address } => self.dial_of_node(at, boot, conn, &address),
            Output::Write(batch) => self.write(at, &batch),
            Output::Repair { shard, entries } => {
                let Some(process) = self.machines[at].process_of(boot) else { return };
                self.counters.entries_repaired += entries.len() as u64;
                self.counters.marks.reach(Mark::EntriesRepaired);
                self.checkers.on_repair(at, shard, &entries);
                process.log.repair(shard, entries);
            }
            Output::SnapshotBegin { shard, meta, upon } => {
                self.transfers.on_begin(at, shard);
                self.begin_snapshot(at, boot, shard, meta, upon);
            }
            Output::SnapshotAppend { shard, chunk } => {
                self.transfers.on_append(at, shard, &chunk);
                self.help(at, Job::Append { shard, chunk });
            }
            Output::SnapshotFinish { shard } => self.help(at, Job::Finish { shard }),
            Output::SnapshotAbort { shard } => self.help(at, Job::Abort { shard }),
            Output::SnapshotRead { shard, index, number } => {
                self.read_snapshot(at, boot, shard, index, number);
            }
            Output::Notice(notice) => self.on_notice(at, &notice),
        }
    }

    fn begin_snapshot(
        &mut self,
        at: usize,
        boot: u64,
        shard: ShardId,
        meta: SnapshotMeta,
        upon: Option<Unchanged>,
    ) {
        let Some(process) = self.machines[at].process_of(boot) else { return };
        let upon = upon.map(|Unchanged { since, slots }| {
            let former = process.log.snapshot_to_build_on(shard, since).cloned();
            BuildOn { index: meta.index, former, unchanged: slots }
        });
        let (writer, name) = process.log.snapshot_writer(shard, meta);
        self.help(at, Job::Begin { shard, writer: Box::new(writer), name, upon });
    }

    fn read_snapshot(&mut self, at: usize, boot: u64, shard: ShardId, index: Index, number: u32) {
        let Some(process) = self.machines[at].process_of(boot) else { return };
        if let Some(file) = process.log.snapshot_at(shard, index).cloned() {
            process.log.hold_snapshot(&file.name);
            self.help(at, Job::Read { file: Box::new(file), number });
        } else {
            let reason = format!("there is no snapshot of shard {shard} at index {index} any more");
            let result = Err(reason);
            self.tell_node(at, boot, Incoming::SnapshotChunk { shard, index, number, result });
        }
    }

    fn on_notice(&mut self, at: usize, notice: &Notice) {
        self.tell(|| format!("node {} says {notice:?}", at + 1));
        match notice {
            Notice::Link { node, up: true } => {
                let met = &mut self.machines[node.0 as usize - 1];
                if met.process.is_some() {
                    met.unmet_by.remove(&at);
                }
            }
            Notice::Restart(_) => {
                self.counters.disks_renewed += 1;
                self.counters.marks.reach(Mark::DiskRenewed);
                self.power_goes(at);
                self.after(RESTART_DELAY, Happening::SwitchOn { at });
            }
            Notice::Fatal(reason) if self.machines[at].spoiled => {
                self.counters.marks.reach(Mark::RefusedNewborn);
                self.power_goes(at);
                self.refuse(at, reason.clone());
            }
            Notice::Fatal(reason) => self.fail(format!("node {} gives up: {reason}", at + 1)),
            Notice::Halted { shard, index, reason } => self
                .fail(format!("node {} shard {shard} halted at entry {index}: {reason}", at + 1)),
            Notice::Founded { .. } => {
                self.machines[at].founded = true;
                self.learn_owners(at);
            }
            Notice::Warning(text) if text.contains("a frame of a link") => {
                self.counters.marks.reach(Mark::LinkRefused);
            }
            Notice::Warning(text) if text.contains("of a link came in the place of frame") => {
                self.counters.marks.reach(Mark::FrameOutOfTurn);
            }
            _ => {}
        }
    }

    /// The checkers look at all replicas of a node.
    fn observe(&mut self, at: usize, boot: u64) {
        let current = self.machines[at].boots == boot;
        let Some(process) = self.machines[at].process.as_mut().filter(|_| current) else { return };
        if let Some(settled) = process.node.is_settled() {
            self.machines[at].unsettled = !settled;
            if !settled && let Some(lasts) = self.machines[at].asks_in_vain.take() {
                self.pair_off(at, lasts);
            }
        }
        let Some(process) = self.machines[at].process.as_mut() else { return };
        let mut posture = 0;
        let mut broken = None;
        let all_given = process.has_given_all();
        let told = self.trace.is_told();
        let (mut news, mut clocks) = (Vec::new(), Vec::new());
        for (place, replica) in process.node.inspect().enumerate() {
            if self.shard_clocks.is_news(replica.shard, replica.clock_ms) {
                clocks.push((replica.shard, replica.clock_ms));
            }
            let words = replica.term.0 * 2 + u64::from(replica.leads);
            posture = mixed(posture ^ words);
            if replica.readable {
                process.loading.remove(&replica.shard);
            } else if process.loading.insert(replica.shard) && process.turns > 1 {
                self.counters.snapshots_installed += 1;
                self.counters.marks.reach(Mark::SnapshotInstalled);
            }
            if replica.has_full_log {
                self.counters.marks.reach(Mark::LogFull);
            }
            self.trace.mix(replica.commit.0 ^ replica.applied.0 << 32);
            if told && process.told.get(place) != Some(&replica) {
                news.push(replica);
            }
            let state_hash = || process.node.state_hash(replica.shard);
            let look = Look { replica: &replica, state_hash, all_given };
            let seen = self.checkers.observe(at, look, &mut self.counters);
            broken = broken.or(seen.err());
        }
        if !news.is_empty() {
            process.told = process.node.inspect().collect();
        }
        let changed = std::mem::replace(&mut process.posture, posture) != posture;
        if changed || process.turns.is_multiple_of(INVARIANTS_EVERY) {
            process.node.check_invariants();
        }
        for (shard, clock_ms) in clocks {
            self.see_clock(at, shard, clock_ms);
        }
        for replica in news {
            self.tell(|| state_line(at, &replica));
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
        let damage = process.log.take_damage();
        self.tell_damage(at, boot, damage);
        self.write_waiting(at);
        let Some(process) = self.machines[at].process_of(boot) else { return };
        for chore in std::mem::take(&mut process.failed_chores) {
            process.log.chore_failed(&chore);
            process.lacks_files |= matches!(chore, Chore::Prepare { .. });
        }
        let mut chores = process.log.housekeeping();
        process.node.note_log_on_disk(process.log.live_bytes() / self.config.padding);
        if now >= process.scrubbed + SCRUB_EVERY {
            process.scrubbed = now;
            chores.extend(process.log.scrub(SCRUB_BYTES));
        }
        let lacks = process.log.lacks_room() || process.frames.iter().any(|frame| frame.waits);
        let news = std::mem::replace(&mut process.lacks_room, lacks) != lacks;
        let reserve = bounds::check_reserve(process, self.config.storage.segment_bytes);
        for chore in chores {
            self.help(at, Job::Chore(chore));
        }
        if let Err(broken) = reserve {
            self.fail(format!("node {}: {broken}", at + 1));
        }
        if news {
            self.counters.marks.reach(if lacks { Mark::LacksRoom } else { Mark::RoomAgain });
            self.tell_node(at, boot, Incoming::Room { lacks });
        }
    }

    /// The node hears of what was found damaged while it runs.
    fn tell_damage(&mut self, at: usize, boot: u64, damage: Vec<Damage>) {
        for damage in damage {
            self.counters.rot_found += 1;
            self.tell(|| format!("node {}: {damage}", at + 1));
            match damage {
                Damage::Frame { entries, .. } => {
                    for (shard, indexes) in entries {
                        self.tell_node(at, boot, Incoming::Damaged { shard, indexes });
                    }
                }
                Damage::Snapshot { file, .. } => {
                    let (shard, index) = (file.shard, file.meta.index);
                    self.tell_node(at, boot, Incoming::SnapshotDamaged { shard, index });
                }
            }
        }
    }

    fn schedule_wake(&mut self, at: usize, boot: u64) {
        let now = self.now;
        let clocks = self.machines[at].clocks;
        let Some(process) = self.machines[at].process_of(boot) else { return };
        let deadline = process.node.deadline();
        process.deadline = deadline;
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

    /// A machine loses its power: the process is gone, and of what was not synced, some is. True
    /// if it was on.
    pub(crate) fn power_goes(&mut self, at: usize) -> bool {
        self.process_ends(at, Loss::Unsynced)
    }

    /// The process of a machine is gone, and so much of what it wrote. True if it ran.
    pub(crate) fn process_ends(&mut self, at: usize, loss: Loss) -> bool {
        // Only the lie that comes out loses what was said to be synced.
        self.keep_the_word(at);
        let Some(mut process) = self.machines[at].process.take() else { return false };
        let boot = self.machines[at].boots;
        let killed = loss == Loss::Nothing;
        self.counters.power_cuts += u64::from(!killed);
        if !self.machines[at].founded {
            self.counters.marks.reach(Mark::CrashBeforeFounding);
        }
        if !process.loading.is_empty() {
            self.counters.marks.reach(Mark::CrashWhileLoading);
        }
        let leads = process.node.inspect().any(|replica| replica.leads);
        self.counters.leaders_lost += u64::from(leads);
        let how = if killed { "is killed" } else { "loses its power" };
        self.tell(|| format!("node {} {how}, leading: {leads}", at + 1));
        self.checkers.on_end(at);
        self.tear_disk(at, &mut process, loss);
        // The system closes what a process has left open.
        let silent = !killed && self.random.chance(50);
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
        true
    }

    pub(crate) fn reset_ghosts(&mut self, at: usize) {
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

/// A replica after a change, as a line of the story.
fn state_line(at: usize, replica: &Inspection) -> String {
    let Inspection { shard, term, leads, commit, last, applied, readable, halted, .. } = replica;
    let role = match (leads, halted, readable) {
        (_, true, _) => "halted",
        (true, ..) => "leads",
        (_, _, false) => "loads",
        _ => "follows",
    };
    let node = at + 1;
    format!("state {node} {shard} {role} term={term} last={last} commit={commit} applied={applied}")
}
