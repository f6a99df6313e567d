//! Disks: frames one after the other, the helper's jobs one after the other, and what a crash
//! leaves of them.

use flotilla_node::WriteBatch;
use flotilla_storage::Disk as _;

use super::{Happening, World};
use crate::config::Mutant;
use crate::helper::{Done, Job};
use crate::machine::{Frame, Incoming, Process};
use crate::queue::Micros;

/// A log that was idle for so long attests its last frame (P3).
const SEAL_AFTER: Micros = 2_000;

impl World {
    /// A node wants a batch in its log.
    pub(crate) fn write(&mut self, at: usize, batch: &WriteBatch) {
        let shadows = self.safety.on_write(at, batch);
        let Some(process) = &mut self.machines[at].process else { return };
        process.open_write = Some((batch.sequence, process.turns));
        let write = process.log.append(batch.node_state.as_deref(), &batch.writes);
        let early = self.config.mutant == Some(Mutant::ReportsBeforeSync);
        if early {
            process.inbox.push_back(Incoming::Written { sequence: batch.sequence });
        }
        let batch = (!early).then_some(batch.sequence);
        self.submit(at, Frame { write, batch, shadows });
        if early {
            self.stir(at);
        }
    }

    fn submit(&mut self, at: usize, frame: Frame) {
        let machine = &mut self.machines[at];
        let Some(process) = &mut machine.process else { return };
        if frame.write.offset == 0 {
            self.counters.segments += 1;
            let known = !machine.files.insert(frame.write.file.to_string());
            self.counters.segments_recycled += u64::from(known);
        }
        if let Some(bytes) = frame.write.create
            && let Err(error) = machine.disk.create(&frame.write.file, bytes)
        {
            return self.fail(error.to_string());
        }
        process.frames.push_back(frame);
        if process.frames.len() == 1 {
            self.begin_frame(at);
        }
    }

    fn begin_frame(&mut self, at: usize) {
        let usual = self.config.disk_latency * self.machines[at].disk_slowness;
        let delay = self.delay(usual);
        let machine = &self.machines[at];
        let done = (self.now + delay).max(machine.disk_stalled_until);
        self.queue.push(done, Happening::FrameDone { at, boot: machine.boots });
    }

    pub(crate) fn frame_done(&mut self, at: usize, boot: u64) {
        let lying = self.is_mutant(Mutant::LyingSync);
        let now = self.now;
        let machine = &mut self.machines[at];
        let current = machine.boots == boot;
        let Some(process) = machine.process.as_mut().filter(|_| current) else { return };
        let Some(Frame { write, batch, shadows }) = process.frames.pop_front() else { return };
        let result = if lying {
            machine.disk.write(&write.file, write.offset, &write.data)
        } else {
            machine.disk.write_durable(&write.file, write.offset, &write.data)
        };
        process.log.reuse(write.data);
        process.log.written(write.sequence);
        process.last_written = now;
        let more = !process.frames.is_empty();
        self.safety.on_durable(at, &shadows);
        if let Err(error) = result {
            return self.fail(error.to_string());
        }
        if let Some(sequence) = batch {
            self.tell_node(at, boot, Incoming::Written { sequence });
        }
        if more {
            self.begin_frame(at);
        } else {
            self.after(SEAL_AFTER, Happening::Seal { at, boot });
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
            self.submit(at, Frame { write, batch: None, shadows: Vec::new() });
        }
    }

    /// Gives the helper a job.
    pub(crate) fn help(&mut self, at: usize, job: Job) {
        let Some(process) = &mut self.machines[at].process else { return };
        if process.helper.give(job) {
            self.begin_job(at);
        }
    }

    fn begin_job(&mut self, at: usize) {
        let usual = self.config.disk_latency * self.machines[at].disk_slowness;
        let delay = self.delay(usual);
        let machine = &self.machines[at];
        let done = (self.now + delay).max(machine.disk_stalled_until);
        self.queue.push(done, Happening::HelperDone { at, boot: machine.boots });
    }

    pub(crate) fn helper_done(&mut self, at: usize, boot: u64) {
        let machine = &mut self.machines[at];
        let current = machine.boots == boot;
        let Some(process) = machine.process.as_mut().filter(|_| current) else { return };
        let done = process.helper.work(&mut machine.disk);
        let more = process.helper.is_busy();
        let incoming = match done {
            Err(error) => return self.fail(format!("node {}: {error}", at + 1)),
            Ok(Done::Nothing) => None,
            Ok(Done::Chore(chore)) => {
                process.log.chore_done(&chore);
                None
            }
            Ok(Done::Appended(shard)) => Some(Incoming::SnapshotAppended { shard }),
            Ok(Done::Stored(file)) => {
                let (shard, index) = (file.shard, file.meta.index);
                process.log.snapshot_durable(file);
                self.counters.snapshots_made += 1;
                Some(Incoming::SnapshotStored { shard, index })
            }
            Ok(Done::Chunk { shard, index, number, name, result }) => {
                process.log.release_snapshot(&name);
                Some(Incoming::SnapshotChunk { shard, index, number, result })
            }
        };
        if more {
            self.begin_job(at);
        }
        if let Some(incoming) = incoming {
            self.tell_node(at, boot, incoming);
        }
    }

    /// What the power leaves of a disk: of the frame and the file under way, any part.
    pub(crate) fn tear_disk(&mut self, at: usize, process: &mut Process) {
        let (under_way, steps) = (self.random.chance(75), self.random.below(5));
        let seed = self.random.word();
        let disk = &mut self.machines[at].disk;
        if let Some(frame) = process.frames.front().filter(|_| under_way) {
            self.counters.torn_frames += 1;
            let written = disk.write(&frame.write.file, frame.write.offset, &frame.write.data);
            written.expect("the file of a frame is there");
        }
        self.counters.torn_files += u64::from(process.helper.tear(disk, steps as usize));
        disk.crash(seed);
        self.trace.mix(disk.counters().lost_sectors);
    }
}
