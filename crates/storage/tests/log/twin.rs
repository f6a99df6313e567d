//! Random turns, crashes and recoveries against a dumb twin: whatever was reported durable comes
//! back, and nothing comes back that was not written.

use std::collections::VecDeque;

use crate::support::{Random, Twin, begin, entry, meta, small, store_snapshot};
use flotilla_raft::{HardState, Index, ReplicaId, Term, Write, WriteSeq};
use flotilla_shard::ShardId;
use flotilla_storage::{
    Chore, Disk, DiskError, FrameWrite, Log, MemoryDisk, Options, RecoverError,
};

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

/// One run.
struct World {
    random: Random,
    disk: MemoryDisk,
    log: Log,
    options: Options,
    /// The state after the last turn.
    newest: Twin,
    /// The state that is known to be durable.
    acked: Twin,
    /// Frames written and not synced, and the state after each (none for a seal).
    in_flight: VecDeque<(FrameWrite, Twin)>,
    chores: Vec<Chore>,
    seen: Seen,
}

/// What happened in all runs together: a test that injects nothing proves nothing.
#[derive(Debug, Default)]
struct Seen {
    recoveries: u64,
    cuts: u64,
    resets: u64,
    rewrites: u64,
    carries: u64,
    failed_recoveries: u64,
    lost_frames: u64,
    segments: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut options = small();
        let mut random = Random(seed);
        options.segment_bytes = (4 + random.below(8)) << 12;
        let mut disk = MemoryDisk::new();
        let (log, _) = Log::recover(&mut disk, options.clone(), seed).expect("blank");
        Self {
            random,
            disk,
            log,
            options,
            newest: Twin::default(),
            acked: Twin::default(),
            in_flight: VecDeque::new(),
            chores: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.random.below(100) {
                0..45 => self.turn(),
                45..80 => self.sync(),
                80..84 => self.seal(),
                84..94 => self.housekeeping(),
                _ => self.crash(),
            }
        }
        while !self.in_flight.is_empty() {
            self.sync();
        }
        assert_eq!(self.acked, self.newest);
        self.crash();
    }

    fn turn(&mut self) {
        let state = self.random.chance(5).then(|| self.random.next().to_le_bytes());
        let state = state.as_ref().map(|state| &state[..]);
        let mut writes = Vec::new();
        let mut after = self.newest.clone();
        for _ in 0..self.random.below(4) {
            let shard = ShardId(self.random.below(4) as u32);
            let write = self.write(shard, &after);
            after.apply(None, &[(shard, write.clone())]);
            writes.push((shard, write));
        }
        let frame = self.log.append(state, &writes);
        self.newest.apply(state, &writes);
        self.seen.segments += u64::from(frame.offset == 0);
        begin(&mut self.disk, &frame);
        self.in_flight.push_back((frame, self.newest.clone()));
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
        let last = twin.last(shard).0.0;
        let index = Index(snapshot + 1 + self.random.below(last - snapshot + 3));
        let known = twin.term_at(shard, index).filter(|_| self.random.chance(80));
        let meta = meta(index.0, known.unwrap_or(term).0);
        let again = self.log.snapshot_at(shard, index).is_some_and(|file| file.meta != meta);
        if again {
            self.log.discard_snapshot(shard, index);
        }
        let file = store_snapshot(&mut self.disk, &mut self.log, shard, &meta, &[b"some", b""]);
        self.log.snapshot_durable(file);
        self.seen.resets += 1;
        (index, meta.term)
    }

    fn sync(&mut self) {
        let Some((frame, twin)) = self.in_flight.pop_front() else { return };
        if self.random.chance(50) {
            let (file, offset) = (&frame.file, frame.offset);
            self.disk.write_durable(file, offset, &frame.data).expect("room");
        } else {
            self.disk.sync(&frame.file).expect("a sync");
        }
        self.log.written(frame.sequence);
        assert_eq!(self.log.durable_through(), frame.sequence);
        self.acked = twin;
        self.log.reuse(frame.data);
    }

    fn seal(&mut self) {
        if let Some(frame) = self.log.seal() {
            begin(&mut self.disk, &frame);
            self.in_flight.push_back((frame, self.newest.clone()));
        }
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
    }

    fn crash(&mut self) {
        // Some frames of those in flight may have been synced by themselves, in any order.
        for (frame, _) in &self.in_flight {
            if self.random.chance(40) {
                let (file, offset) = (&frame.file, frame.offset);
                self.disk.write_durable(file, offset, &frame.data).expect("room");
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
            .unwrap_or_else(|error| panic!("nothing is damaged, but: {error}"));
        lane.check_whole().expect("nothing is damaged");
        assert_eq!(lane.report.damage, [], "a torn tail is no damage");
        let found = Twin::of(&lane);
        let written = self.in_flight.iter().map(|(_, twin)| twin);
        let mut possible = std::iter::once(&self.acked).chain(written);
        assert!(
            possible.any(|twin| *twin == found),
            "found {found:#?}\nacknowledged {:#?}\n{:?}",
            self.acked,
            lane.report
        );
        self.seen.recoveries += 1;
        self.seen.cuts += u64::from(lane.report.cut.is_some());
        self.seen.lost_frames += u64::from(found != self.newest);
        self.in_flight.clear();
        self.log = log;
        self.newest = found.clone();
        self.acked = found;
    }
}

#[test]
fn what_was_reported_durable_comes_back_and_nothing_else() {
    let mut total = Seen::default();
    for seed in 0..120 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(150)));
        assert!(run.is_ok(), "seed {seed}");
        let seen = world.seen;
        total.recoveries += seen.recoveries;
        total.cuts += seen.cuts;
        total.resets += seen.resets;
        total.rewrites += seen.rewrites;
        total.carries += seen.carries;
        total.failed_recoveries += seen.failed_recoveries;
        total.lost_frames += seen.lost_frames;
        total.segments += seen.segments;
    }
    let Seen { recoveries, cuts, resets, rewrites, .. } = total;
    assert!(recoveries > 500 && cuts > 100 && resets > 100 && rewrites > 300, "{total:?}");
    let Seen { carries, failed_recoveries, lost_frames, segments, .. } = total;
    assert!(carries > 20 && failed_recoveries > 100, "{total:?}");
    assert!(lost_frames > 100 && segments > 300, "{total:?}");
}
