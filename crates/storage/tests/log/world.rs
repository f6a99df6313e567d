//! A lane's log alone, on a disk on which everything happens to it, against a dumb twin: turns that
//! append, replace, begin anew at snapshots and forget shards; frames that end in any order; power
//! that goes at any moment, in recoveries too; and, in every other run, rot and lost writes of what
//! was acknowledged, repairs, and a scrubber.
//!
//! What must hold: whatever was reported durable comes back; if one frame went bad it costs
//! payloads at most, each of which is named; what came after is there whole or not at all; and
//! nothing else comes back. What no frame attests must not go bad, but after an idle moment all is
//! attested (P3).
//!
//! The crate's own random test runs it, and the simulator.

use std::collections::VecDeque;

use flotilla_raft::{HardState, Index, ReplicaId, Term, Write, WriteSeq};
use flotilla_shard::ShardId;
use flotilla_storage::{
    BLOCK, Chore, Disk, DiskError, FrameWrite, Log, MemoryDisk, Options, RecoverError,
    RecoveredLane,
};

use super::support::{Random, Twin, begin, compare, entry, meta, small, store_snapshot};

/// Steps of a run.
const STEPS: u64 = 150;
/// The shards of a lane.
const SHARDS: u64 = 4;

/// A disk that stops working after some operations, as if the power failed in the middle.
struct Failing<'a> {
    disk: &'a mut MemoryDisk,
    left: u64,
}

impl Failing<'_> {
    fn step(&mut self) -> Result<&mut MemoryDisk, DiskError> {
        self.left = self.left.checked_sub(1).ok_or(DiskError::Failed("power".into()))?;
        Ok(self.disk)
    }
}

impl Disk for Failing<'_> {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.step()?.list()
    }
    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.step()?.size(name)
    }
    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.step()?.read(name, offset, len)
    }
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.step()?.create(name, bytes)
    }
    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.step()?.write(name, offset, data)
    }
    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.step()?.sync(name)
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.step()?.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.step()?.remove(name)
    }
    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.step()?.sync_directory()
    }
}

/// A frame that was given to the disk and is not known to be durable, or not all before it.
struct Flight {
    write: FrameWrite,
    /// What must be there once it is durable, and all before it.
    after: Twin,
    /// When it was built all frames up to this one were durable.
    attests: u64,
    done: bool,
}

/// A frame that was durable, and what the disk had there.
struct Stored {
    sequence: u64,
    file: String,
    offset: u64,
    bytes: Vec<u8>,
}

/// One run.
pub(crate) struct World {
    random: Random,
    disk: MemoryDisk,
    log: Log,
    options: Options,
    /// The state after the last turn.
    newest: Twin,
    /// The state that is known to be durable.
    acked: Twin,
    in_flight: VecDeque<Flight>,
    chores: Vec<Chore>,
    /// Every frame up to here may go bad: a durable one says that it was whole, or should.
    vouched: u64,
    stored: Vec<Stored>,
    /// Whether anything goes bad in this run.
    rots: bool,
    /// Whether the disk writes several frames at once.
    overtakes: bool,
    /// Whether something went bad since all was last known to be whole.
    is_hurt: bool,
    /// The lane lost promises, as it said: a host would have to begin anew.
    is_over: bool,
    pub(crate) seen: Seen,
}

/// What happened: a test that injects nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) recoveries: u64,
    pub(crate) cuts: u64,
    pub(crate) resets: u64,
    pub(crate) rewrites: u64,
    pub(crate) removals: u64,
    pub(crate) carries: u64,
    pub(crate) failed_recoveries: u64,
    pub(crate) lost_frames: u64,
    pub(crate) segments: u64,
    pub(crate) rotted: u64,
    /// Frames that went bad while they were the last ones with anything in them.
    pub(crate) rotted_last: u64,
    pub(crate) found_alive: u64,
    pub(crate) holes: u64,
    pub(crate) healed: u64,
}

impl Seen {
    /// Adds what another run has seen.
    pub(crate) fn add(&mut self, other: &Self) {
        self.recoveries += other.recoveries;
        self.cuts += other.cuts;
        self.resets += other.resets;
        self.rewrites += other.rewrites;
        self.removals += other.removals;
        self.carries += other.carries;
        self.failed_recoveries += other.failed_recoveries;
        self.lost_frames += other.lost_frames;
        self.segments += other.segments;
        self.rotted += other.rotted;
        self.rotted_last += other.rotted_last;
        self.found_alive += other.found_alive;
        self.holes += other.holes;
        self.healed += other.healed;
    }
}

/// The run of a seed. Panics if anything is not as it should be.
pub(crate) fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        if world.is_over {
            return world;
        }
        world.step();
    }
    world.come_to_rest();
    assert_eq!(world.acked, world.newest);
    world.crash();
    world
}

impl World {
    fn new(seed: u64) -> Self {
        let mut options = small();
        let mut random = Random(seed);
        options.segment_bytes = (4 + random.below(8)) << 12;
        let mut disk = MemoryDisk::new();
        let (log, _) = Log::recover(&mut disk, options.clone(), seed).expect("blank");
        Self {
            disk,
            log,
            options,
            newest: Twin::default(),
            acked: Twin::default(),
            in_flight: VecDeque::new(),
            chores: Vec::new(),
            vouched: 0,
            stored: Vec::new(),
            rots: seed % 2 == 1,
            overtakes: random.chance(40),
            is_hurt: false,
            is_over: false,
            random,
            seen: Seen::default(),
        }
    }

    /// What the frames of the run come to: equal for equal runs.
    pub(crate) fn digest(&self) -> u64 {
        let counters = self.disk.counters();
        self.log.sequence() ^ counters.written_bytes << 16 ^ counters.lost_sectors << 48
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..44 => self.turn(),
            44..76 => self.sync(),
            76..80 => self.seal(),
            80..83 => self.come_to_rest(),
            83..90 => self.housekeeping(),
            90..93 => self.scrub(),
            93..96 if self.rots => self.go_bad(),
            _ => self.crash(),
        }
    }

    fn turn(&mut self) {
        let state = self.random.chance(5).then(|| self.random.next().to_le_bytes());
        let state = state.as_ref().map(|state| &state[..]);
        let mut writes = Vec::new();
        let mut after = self.newest.clone();
        let leaving = ShardId(self.random.below(SHARDS) as u32);
        let leaves = self.random.chance(3) && after.shards.remove(&leaving).is_some();
        if leaves {
            self.log.remove_shard(leaving);
            self.seen.removals += 1;
        }
        for _ in 0..self.random.below(4) {
            let shard = ShardId(self.random.below(SHARDS) as u32);
            if leaves && shard == leaving {
                continue;
            }
            let write = self.write(shard, &after);
            after.apply(None, &[(shard, write.clone())]);
            writes.push((shard, write));
        }
        after.apply(state, &[]);
        let frame = self.log.append(state, &writes);
        self.newest = after;
        self.seen.segments += u64::from(frame.offset == 0);
        self.launch(frame);
    }

    fn launch(&mut self, write: FrameWrite) {
        begin(&mut self.disk, &write);
        let attests = self.log.durable_through();
        self.in_flight.push_back(Flight {
            write,
            after: self.newest.clone(),
            attests,
            done: false,
        });
    }

    fn write(&mut self, shard: ShardId, twin: &Twin) -> Write {
        let random = &mut self.random;
        let mut hard_state = twin.shards.get(&shard).map_or(HardState::default(), |l| l.hard_state);
        let snapshot = twin.shards.get(&shard).map_or(0, |log| log.snapshot.index.0);
        let last = twin.last(shard);
        let first = if random.chance(20) && last.0.0 > snapshot {
            snapshot + 1 + random.below(last.0.0 - snapshot)
        } else {
            last.0.0 + 1
        };
        let rewrites = first <= last.0.0;
        if rewrites || random.chance(20) || hard_state.term < last.1 || hard_state.term.0 == 0 {
            hard_state = HardState { term: hard_state.term.max(last.1).next(), voted_for: None };
            self.seen.rewrites += u64::from(rewrites);
        }
        if hard_state.voted_for.is_none() && random.chance(30) {
            hard_state.voted_for = Some(ReplicaId(random.below(5)));
        }
        let mut write = Write { seq: WriteSeq(1), hard_state, snapshot: None, entries: Vec::new() };
        let mut previous = twin.term_at(shard, Index(first - 1)).expect("it joins").0;
        if !rewrites && random.chance(12) {
            let reset = self.snapshot(shard, twin, hard_state.term);
            let kept = twin.term_at(shard, reset.0) == Some(reset.1) && reset.0 <= last.0;
            let (next, term) = if kept { (last.0, last.1) } else { reset };
            write.snapshot = Some(Box::new(meta(reset.0.0, reset.1.0)));
            if reset.1 > hard_state.term {
                write.hard_state = HardState { term: reset.1, voted_for: None };
            }
            self.fill(&mut write, shard, next.0 + 1, term.0);
            return write;
        }
        if rewrites {
            previous = hard_state.term.0;
        }
        self.fill(&mut write, shard, first, previous);
        write
    }

    fn fill(&mut self, write: &mut Write, shard: ShardId, first: u64, mut term: u64) {
        for index in first..first + self.random.below(4) {
            if self.random.chance(30) {
                term = write.hard_state.term.0;
            }
            write.entries.push(entry(shard, index, term.max(1)));
        }
    }

    /// Makes a snapshot file durable for an index above the present snapshot.
    fn snapshot(&mut self, shard: ShardId, twin: &Twin, term: Term) -> (Index, Term) {
        let snapshot = twin.shards.get(&shard).map_or(0, |log| log.snapshot.index.0);
        let (Index(last), last_term) = twin.last(shard);
        let index = Index(snapshot + 1 + self.random.below(last - snapshot + 3));
        let known = twin.term_at(shard, index).filter(|_| self.random.chance(80));
        // What takes the place of entries is of a later term than all of them: by log matching
        // nothing of the log that goes is in the one that comes.
        let other = if index.0 <= last { term.max(last_term.next()) } else { term };
        let meta = meta(index.0, known.unwrap_or(other).0);
        let again = self.log.snapshot_at(shard, index).is_some_and(|file| file.meta != meta);
        if again {
            self.log.discard_snapshot(shard, index);
        }
        let file = store_snapshot(&mut self.disk, &mut self.log, shard, &meta, &[b"some", b""]);
        self.log.snapshot_durable(file);
        self.seen.resets += 1;
        (index, meta.term)
    }

    /// A frame is durable: the oldest one, unless the disk writes several at once.
    fn sync(&mut self) {
        let waiting = self.in_flight.iter().filter(|flight| !flight.done).count() as u64;
        if waiting == 0 {
            return;
        }
        let skipped = if self.overtakes { self.random.below(waiting) as usize } else { 0 };
        let mut waiting = self.in_flight.iter_mut().filter(|flight| !flight.done);
        let flight = waiting.nth(skipped).expect("it was counted");
        flight.done = true;
        let FrameWrite { sequence, file, offset, data, .. } = &flight.write;
        if self.overtakes || self.random.chance(50) {
            self.disk.write_durable(file, *offset, data).expect("room");
        } else {
            self.disk.sync(file).expect("a sync");
        }
        if *offset == 0 {
            self.stored.retain(|stored| *stored.file != **file);
        }
        let (sequence, offset, file) = (*sequence, *offset, file.to_string());
        self.stored.push(Stored { sequence, file, offset, bytes: data.to_vec() });
        self.log.written(sequence);
        while let Some(flight) = self.in_flight.pop_front_if(|flight| flight.done) {
            assert!(self.log.durable_through() >= flight.write.sequence);
            self.acked = flight.after;
            self.vouched = self.vouched.max(flight.attests);
            self.log.reuse(flight.write.data);
        }
    }

    fn seal(&mut self) {
        if let Some(frame) = self.log.seal() {
            self.launch(frame);
        }
    }

    /// Nothing happens for a while: whatever was written is durable and attested, or should be.
    fn come_to_rest(&mut self) {
        while !self.in_flight.is_empty() {
            self.sync();
        }
        while self.log.needs_frame() {
            let frame = self.log.append(None, &[]);
            self.launch(frame);
            self.sync();
        }
        // The witness has none itself, and needs none: there is nothing in it.
        let witness = u64::from(!self.log.needs_seal());
        let durable = self.log.durable_through();
        self.seal();
        self.sync();
        assert!(self.in_flight.is_empty() && !self.log.needs_seal());
        self.vouched = self.vouched.max(durable.saturating_sub(witness));
    }

    fn housekeeping(&mut self) {
        self.chores.extend(self.log.housekeeping());
        for _ in 0..self.random.below(3).min(self.chores.len() as u64) {
            let at = self.random.below(self.chores.len() as u64) as usize;
            let mut chore = self.chores.swap_remove(at);
            chore.run(&mut self.disk).expect("a chore");
            self.seen.carries += u64::from(matches!(chore, Chore::Load(_)));
            self.log.chore_done(&chore);
        }
        self.take_damage();
    }

    /// Looks at some of what is cold.
    fn scrub(&mut self) {
        for _ in 0..=self.random.below(8) {
            if let Some(mut chore) = self.log.scrub(20_000) {
                chore.run(&mut self.disk).expect("it only reads");
                self.log.chore_done(&chore);
            }
        }
        self.take_damage();
    }

    /// What is found damaged while the lane runs comes back from memory, at once or not.
    fn take_damage(&mut self) {
        let told = self.log.take_damage();
        assert!(told.is_empty() || self.rots, "nothing is damaged");
        self.seen.found_alive += told.len() as u64;
        if !told.is_empty() && self.random.chance(70) {
            self.repair();
        }
    }

    /// Whatever is damaged has been found elsewhere.
    fn repair(&mut self) {
        for (shard, log) in &self.newest.shards {
            self.log.repair(*shard, log.entries.clone());
        }
    }

    /// One frame of those that are attested goes bad: some bits of it, or all.
    fn go_bad(&mut self) {
        if self.random.chance(50) {
            self.come_to_rest();
        }
        if self.is_hurt {
            return;
        }
        let (disk, vouched) = (&mut self.disk, self.vouched);
        self.stored.retain(|stored| {
            let read = disk.read(&stored.file, stored.offset, stored.bytes.len());
            stored.sequence > vouched || read.is_ok_and(|bytes| bytes == stored.bytes)
        });
        let mine: Vec<&Stored> =
            self.stored.iter().filter(|stored| stored.sequence <= vouched).collect();
        let Some(newest) = mine.iter().map(|stored| stored.sequence).max() else { return };
        let last = self.random.chance(40);
        let at = self.random.below(mine.len() as u64) as usize;
        let victim = if last { mine.iter().find(|it| it.sequence == newest) } else { mine.get(at) };
        let victim = victim.expect("there are some");
        let length = victim.bytes.len() as u64;
        self.seen.rotted_last += u64::from(victim.sequence == newest);
        if victim.offset > 0 && self.random.chance(20) {
            // What stood at the beginning of a segment is more than one frame.
            let nothing = vec![0; victim.bytes.len()];
            self.disk.write_durable(&victim.file, victim.offset, &nothing).expect("room");
        } else {
            let block = victim.offset + self.random.below(length / BLOCK as u64) * BLOCK as u64;
            // Most of a block may be padding; what stands in it stands at its beginning.
            let within = [64, 400, BLOCK as u64 - 3][self.random.below(3) as usize];
            let first = block + self.random.below(within);
            for bit in 0..=self.random.below(24) {
                self.disk.flip(&victim.file, first + bit / 8, (bit % 8) as u8);
            }
        }
        self.seen.rotted += 1;
        self.is_hurt = true;
        if self.random.chance(60) {
            self.crash();
        }
    }

    /// The power goes, and comes back.
    fn crash(&mut self) {
        // Some frames of those in flight may have been synced by themselves, in any order.
        for flight in self.in_flight.iter().filter(|flight| !flight.done) {
            if self.random.chance(40) {
                let FrameWrite { file, offset, data, .. } = &flight.write;
                self.disk.write_durable(file, *offset, data).expect("room");
            }
        }
        if !self.random.chance(15) {
            self.disk.crash(self.random.next());
        }
        self.chores.clear();
        while self.random.chance(40) {
            let left = self.random.below(40);
            let mut failing = Failing { disk: &mut self.disk, left };
            let outcome = Log::recover(&mut failing, self.options.clone(), self.random.next());
            self.seen.failed_recoveries += 1;
            match outcome {
                Ok(_) | Err(RecoverError::Disk(_)) => {}
                Err(error) => panic!("a recovery that fails in the middle: {error}"),
            }
            self.disk.crash(self.random.next());
        }
        let seed = self.random.next();
        let (log, lane) = Log::recover(&mut self.disk, self.options.clone(), seed)
            .unwrap_or_else(|error| panic!("what is there can be read, but: {error}"));
        self.log = log;
        self.recovered(&lane);
    }

    /// Compares what came back with what may have been there.
    fn recovered(&mut self, lane: &RecoveredLane) {
        let Seen { rotted, .. } = self.seen;
        if rotted == 0 {
            lane.check_whole().expect("nothing is damaged");
            assert_eq!(lane.report.damage, [], "a torn tail is no damage");
        }
        assert!(lane.lost_snapshots.is_empty(), "no snapshot is damaged");
        let flights = std::mem::take(&mut self.in_flight);
        let written = flights.iter().map(|flight| &flight.after);
        let possible: Vec<&Twin> = std::iter::once(&self.acked).chain(written).collect();
        let outcomes = possible.iter().map(|twin| (*twin, compare(lane, twin)));
        let matching = outcomes.clone().find_map(|(twin, outcome)| Some((twin, outcome.ok()?)));
        let Some((twin, holes)) = matching else {
            let first = outcomes.map(|outcome| outcome.1).next();
            panic!("what came back is not what was there: {first:?}; {:?}", lane.report);
        };
        let twin = twin.clone();
        assert!(rotted > 0 || Twin::of(lane) == twin, "what came back is what was there");
        if !lane.lost.is_empty() || lane.incomplete {
            // The second frame that goes bad may have had the last copy of a table. Both stay on
            // disk when their payloads are back.
            assert!(rotted > 1, "one frame costs no promise");
            self.is_over = true;
        }
        assert!(holes == 0 || self.is_hurt, "what was healed is whole");
        self.seen.recoveries += 1;
        self.seen.cuts += u64::from(lane.report.cut.is_some());
        self.seen.holes += holes as u64;
        self.seen.lost_frames += u64::from(twin != self.newest);
        (self.acked, self.newest) = (twin.clone(), twin);
        self.vouched = self.vouched.min(lane.durable_through);
        self.stored.retain(|stored| stored.sequence <= lane.durable_through);
        if self.is_over {
            return;
        }
        if self.is_hurt && (holes == 0 || self.random.chance(70)) {
            self.repair();
            self.come_to_rest();
            self.is_hurt = false;
            self.seen.healed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no frame attests looks like a torn end, so nobody but the twin can miss it.
    #[test]
    #[should_panic(expected = "what came back is not what was there")]
    fn a_durable_frame_that_is_gone_is_missed() {
        let mut world = World::new(3);
        loop {
            let before = world.acked.clone();
            world.turn();
            world.sync();
            let newest = world.stored.last().expect("a frame is durable");
            if world.acked != before && newest.offset > 0 {
                break;
            }
        }
        let newest = world.stored.last().expect("a frame is durable");
        let nothing = vec![0; newest.bytes.len()];
        world.disk.write_durable(&newest.file, newest.offset, &nothing).expect("room");
        (world.seen.rotted, world.is_hurt) = (1, true);
        world.crash();
    }
}
