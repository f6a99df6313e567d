//! Disks: frames of the log by one of three drivers, the helper's jobs one after the other, and
//! what a crash leaves of them.

use flotilla_node::WriteBatch;
use flotilla_storage::{Chore, Disk as _, DiskError};

use super::ambush::Moment;
use super::{Happening, World};
use crate::config::{Driver, Mutant};
use crate::helper::{Done, Job};
use crate::machine::{DiskTrouble, Frame, Incoming, Process};
use crate::marks::Mark;
use crate::queue::Micros;

/// A log that was idle for so long attests its last frame (P3).
const SEAL_AFTER: Micros = 2_000;
/// A file for which there was no room is tried again so much later.
const FILE_RETRY: Micros = 100_000;
/// The longest that a disk takes, unless it stalls or hangs.
const DISK_DELAY_MAX: Micros = 1_000_000;
/// So many of the latest writes are remembered, for faults that concern one of them.
const RECENT: usize = 32;

/// What of all that was written goes when a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Any part of what was not synced: the power is gone.
    Unsynced,
    /// Nothing yet: the machine goes on.
    Nothing,
}

impl World {
    /// A node wants a batch in its log.
    pub(crate) fn write(&mut self, at: usize, batch: &WriteBatch) {
        let Some(process) = &mut self.machines[at].process else { return };
        process.open_write = Some((batch.sequence, process.turns));
        process.log.begin_anew(&batch.removed, &batch.renewed);
        let write = process.log.append(batch.node_state.as_deref(), &batch.writes);
        let early = self.config.mutant == Some(Mutant::ReportsBeforeSync);
        if early {
            let durable_through = process.log.durable_through();
            let sequence = batch.sequence;
            process.inbox.push_back(Incoming::Written { sequence, durable_through });
        }
        let replaced = self.counters.marks.count(Mark::EntryReplaced);
        let seen = self.checkers.on_write(at, write.sequence, batch, &mut self.counters);
        let replaces = self.counters.marks.count(Mark::EntryReplaced) > replaced;
        if let Err(broken) = seen {
            self.fail(broken);
        }
        let batch = (!early).then_some(batch.sequence);
        self.submit(at, Frame { write, batch, replaces, done: false, waits: false });
        if early {
            self.stir(at);
        }
    }

    fn submit(&mut self, at: usize, frame: Frame) {
        let machine = &mut self.machines[at];
        let Some(process) = &mut machine.process else { return };
        if frame.write.offset == 0 {
            self.counters.segments += 1;
            if !machine.files.insert(frame.write.file.clone()) {
                self.counters.segments_recycled += 1;
                self.counters.marks.reach(Mark::SegmentRecycled);
            }
        }
        if !process.frames.is_empty() {
            self.counters.marks.reach(Mark::SealUnderWay);
        }
        let follows = process.frames.back().is_some_and(|last| last.waits);
        let begins = frame.write.offset == 0;
        process.frames.push_back(Frame { waits: true, ..frame });
        if !follows {
            let boot = machine.boots;
            self.make_files(at, boot);
        }
        if begins {
            self.moment(at, Moment::SegmentBegun);
        }
    }

    /// The frames that wait are begun, each in its file, as far as there is room for that.
    pub(crate) fn make_files(&mut self, at: usize, boot: u64) {
        loop {
            let machine = &mut self.machines[at];
            let current = machine.boots == boot;
            let Some(process) = machine.process.as_mut().filter(|_| current) else { return };
            let Some(place) = process.frames.iter().position(|frame| frame.waits) else { return };
            let Frame { write, waits, .. } = &mut process.frames[place];
            let sequence = write.sequence;
            match write.create.map_or(Ok(()), |bytes| machine.disk.create(&write.file, bytes)) {
                Ok(()) => *waits = false,
                Err(error) if error.is_no_room() => {
                    self.counters.marks.reach(Mark::FrameWaits);
                    self.tell(|| format!("node {} can't write frame {sequence}: {error}", at + 1));
                    return self.after(FILE_RETRY, Happening::MakeFiles { at, boot });
                }
                Err(error) => {
                    // What has no file is not written, nor torn.
                    return self.die_of_disk(at, &error);
                }
            }
            if place == 0 || self.config.driver == Driver::Asynchronous {
                self.begin_frame(at, sequence);
            }
        }
    }

    /// The moment at which the disk is done with something begun now, a write of the log or not;
    /// `None` if never.
    fn disk_done(&mut self, at: usize, of_log: bool) -> Option<Micros> {
        let spared = !of_log && self.machines[at].only_log_suffers;
        let slowness = if spared { 1 } else { self.machines[at].disk_slowness };
        let delay = self.delay(self.config.disk_latency * slowness).min(DISK_DELAY_MAX);
        let machine = &self.machines[at];
        let hangs = machine.disk_trouble == Some(DiskTrouble::Hangs);
        let stalled_until = if spared { 0 } else { machine.disk_stalled_until };
        (!hangs).then(|| (self.now + delay).max(stalled_until))
    }

    fn begin_frame(&mut self, at: usize, frame: u64) {
        let done = self.disk_done(at, true);
        let inline = self.config.driver == Driver::Inline;
        let machine = &mut self.machines[at];
        if inline {
            // Whoever writes inline does nothing else meanwhile, for ever if need be.
            machine.paused_until = machine.paused_until.max(done.unwrap_or(Micros::MAX));
        }
        let boot = machine.boots;
        if let Some(done) = done {
            self.queue.push(done, Happening::FrameDone { at, boot, frame });
        }
    }

    pub(crate) fn frame_done(&mut self, at: usize, boot: u64, frame: u64) {
        let (lying, now) = (self.is_mutant(Mutant::LyingSync), self.now);
        let machine = &mut self.machines[at];
        let current = machine.boots == boot;
        let Some(process) = machine.process.as_mut().filter(|_| current) else { return };
        let place = process.frames.iter().position(|one| one.write.sequence == frame);
        let Some(place) = place else { return };
        let trouble = machine.disk_trouble;
        if matches!(trouble, Some(DiskTrouble::FailsWrite | DiskTrouble::Repeats)) {
            machine.disk_trouble = None;
        }
        if trouble == Some(DiskTrouble::FailsWrite) {
            let error = DiskError::Failed(format!(
                "{}: input/output error",
                process.frames[place].write.file
            ));
            return self.die_of_disk(at, &error);
        }
        let Frame { write, done, replaces, .. } = &mut process.frames[place];
        let replaces = *replaces;
        let times = 1 + usize::from(trouble == Some(DiskTrouble::Repeats));
        for _ in 0..times {
            let result = if lying || machine.lying {
                machine.disk.write(&write.file, write.offset, &write.data)
            } else {
                machine.disk.write_durable(&write.file, write.offset, &write.data)
            };
            if let Err(error) = result {
                // What disks do wrong was done above: this is a file that is not as the log has it.
                return self.fail(format!("node {}: a frame has no place: {error}", at + 1));
            }
        }
        *done = true;
        if machine.recent.len() == RECENT {
            machine.recent.pop_front();
        }
        machine.recent.push_back((write.file.clone(), write.offset, write.data.len()));
        process.log.written(frame);
        process.last_written = now;
        machine.untold_since.get_or_insert(now);
        let durable = process.log.durable_through();
        self.tell(|| format!("node {} has frame {frame} on disk, all to {durable}", at + 1));
        if place > 0 {
            self.counters.frames_overtaken += 1;
            self.counters.marks.reach(Mark::FramesOutOfOrder);
        }
        self.checkers.on_durable(at, frame);
        if replaces {
            self.moment(at, Moment::EntriesReplaced);
        }
        if self.trace.is_told() {
            self.tell_disk(at, boot);
        }
        self.report_frames(at, boot);
    }

    /// Tells the node of every batch that is durable, and all before it; then the next may begin.
    fn report_frames(&mut self, at: usize, boot: u64) {
        while let Some(process) = self.machines[at].process_of(boot) {
            let Some(frame) = process.frames.pop_front_if(|frame| frame.done) else { break };
            process.log.reuse(frame.write.data);
            let durable_through = process.log.durable_through();
            if let Some(sequence) = frame.batch {
                self.tell_node(at, boot, Incoming::Written { sequence, durable_through });
            }
        }
        let Some(process) = self.machines[at].process_of(boot) else { return };
        match process.frames.front() {
            Some(frame) if self.config.driver != Driver::Asynchronous && !frame.waits => {
                let sequence = frame.write.sequence;
                self.begin_frame(at, sequence);
            }
            Some(_) => {}
            None => self.after(SEAL_AFTER, Happening::Seal { at, boot }),
        }
    }

    pub(crate) fn seal(&mut self, at: usize, boot: u64) {
        let now = self.now;
        let paused = self.machines[at].paused_until > now;
        let Some(process) = self.machines[at].process_of(boot) else { return };
        let idle = process.frames.is_empty() && process.last_written + SEAL_AFTER <= now;
        if !idle || paused {
            return;
        }
        if let Some(write) = process.log.seal() {
            self.checkers.on_seal(at, write.sequence);
            self.submit(
                at,
                Frame { write, batch: None, replaces: false, done: false, waits: false },
            );
        }
    }

    /// What waits for a frame although no turn asks for one: what is carried or repaired.
    pub(crate) fn write_waiting(&mut self, at: usize) {
        let Some(process) = &mut self.machines[at].process else { return };
        if process.frames.is_empty() && process.log.needs_frame() {
            let write = process.log.append(None, &[]);
            self.checkers.on_seal(at, write.sequence);
            self.submit(
                at,
                Frame { write, batch: None, replaces: false, done: false, waits: false },
            );
        }
    }

    /// Gives the helper a job.
    pub(crate) fn help(&mut self, at: usize, job: Job) {
        let Some(process) = &mut self.machines[at].process else { return };
        if matches!(&job, Job::Chore(Chore::Load(_))) {
            self.counters.marks.reach(Mark::EntriesCarried);
        }
        if process.helper.give(job) {
            self.begin_job(at);
        }
    }

    fn begin_job(&mut self, at: usize) {
        let boot = self.machines[at].boots;
        if let Some(done) = self.disk_done(at, false) {
            self.queue.push(done, Happening::HelperDone { at, boot });
        }
    }

    pub(crate) fn helper_done(&mut self, at: usize, boot: u64) {
        let machine = &mut self.machines[at];
        let current = machine.boots == boot;
        let Some(process) = machine.process.as_mut().filter(|_| current) else { return };
        let done = process.helper.work(&mut machine.disk);
        let more = process.helper.is_busy();
        let moment = match &done {
            Ok(Done::Chore(Chore::Remove { .. })) if !process.frames.is_empty() => {
                Some(Moment::FileGone)
            }
            Ok(Done::Stored(_)) => Some(Moment::SnapshotStored),
            Ok(Done::Chunk { .. }) => Some(Moment::ChunkRead),
            _ => None,
        };
        let mut arrived = Ok(());
        let incoming = match done {
            Err(error) => return self.die_of_disk(at, &error),
            Ok(Done::Nothing) => None,
            Ok(Done::Chore(chore)) => {
                process.log.chore_done(&chore);
                process.lacks_files &= !matches!(chore, Chore::Prepare { .. });
                None
            }
            Ok(Done::ChoreFailed(chore)) => {
                process.failed_chores.push(chore);
                None
            }
            Ok(Done::NoRoom(shard)) => {
                self.counters.marks.reach(Mark::SnapshotWithoutRoom);
                Some(Incoming::SnapshotFailed { shard })
            }
            Ok(Done::Begun { shard, index, kept }) => {
                if !kept.is_empty() {
                    self.counters.marks.reach(Mark::SnapshotBuiltOn);
                }
                Some(Incoming::SnapshotKept { shard, index, slots: kept })
            }
            Ok(Done::Appended(shard)) => Some(Incoming::SnapshotAppended { shard }),
            Ok(Done::Stored(stored)) => {
                let (shard, index) = (stored.file.shard, stored.file.meta.index);
                // Who has not applied as much has not made it itself.
                let mut replicas = process.node.inspect().filter(|it| it.shard == shard);
                if replicas.any(|it| it.applied < index) {
                    self.counters.transfers_checked += 1;
                    arrived = self.transfers.check(at, shard, index);
                }
                process.log.snapshot_durable(stored);
                self.counters.snapshots_made += 1;
                Some(Incoming::SnapshotStored { shard, index })
            }
            Ok(Done::Chunk { shard, index, number, name, result }) => {
                process.log.release_snapshot(&name);
                if let Ok(read) = &result {
                    self.transfers.on_read(shard, index, number, read);
                }
                if result.is_err() {
                    process.log.snapshot_unreadable(&name);
                    self.counters.marks.reach(Mark::UnreadableChunk);
                }
                Some(Incoming::SnapshotChunk { shard, index, number, result })
            }
        };
        if let Err(broken) = arrived {
            self.fail(broken);
        }
        if more {
            self.begin_job(at);
        }
        if let Some(moment) = moment {
            self.moment(at, moment);
        }
        if let Some(incoming) = incoming {
            self.tell_node(at, boot, incoming);
        }
    }

    /// A process ends, since its disk has failed: an error of a write or a sync is final. Somebody
    /// starts it again.
    fn die_of_disk(&mut self, at: usize, error: &DiskError) {
        self.tell(|| format!("node {} ends: {error}", at + 1));
        if !self.troubled {
            return self.fail(format!("node {}: {error}", at + 1));
        }
        self.counters.marks.reach(Mark::DiskDeath);
        self.power_goes(at);
        let delay = self.lasting();
        self.after(delay, Happening::SwitchOn { at });
    }

    /// What a process leaves of a disk: of the frames and the file under way, any part.
    pub(crate) fn tear_disk(&mut self, at: usize, process: &mut Process, loss: Loss) {
        let all = self.config.driver == Driver::Asynchronous;
        let machine = &mut self.machines[at];
        let count = if all { process.frames.len() } else { process.frames.len().min(1) };
        // What has no file is not torn either.
        let under_way = |frame: &&Frame| !frame.done && !frame.waits;
        for frame in process.frames.iter().take(count).filter(under_way) {
            if self.random.chance(75) {
                self.counters.torn_frames += 1;
                self.counters.marks.reach(Mark::TornFrame);
                let (sequence, file) = (frame.write.sequence, &frame.write.file);
                self.trace.tell(|| format!("  of frame {sequence} in {file} a part is kept"));
                let write = &frame.write;
                let kept = machine.disk.write(&write.file, write.offset, &write.data);
                kept.expect("the file is as long as it will be");
            }
        }
        let (steps, seed) = (self.random.below(5), self.random.word());
        if process.helper.tear(&mut machine.disk, steps as usize) {
            self.counters.torn_files += 1;
            self.counters.marks.reach(Mark::TornFile);
        }
        if loss == Loss::Nothing {
            return;
        }
        let names = machine.disk.counters().lost_names;
        machine.disk.crash(seed);
        if machine.disk.counters().lost_names > names {
            self.counters.marks.reach(Mark::LostName);
        }
        let lost = machine.disk.counters().lost_sectors;
        self.trace.mix(lost);
    }
}
