//! Every crash of a long run: at each write each prefix of its sectors, and any subset of them.

use flotilla_raft::{HardState, Term, Write, WriteSeq};
use flotilla_shard::ShardId;
use flotilla_storage::{Chore, Disk, FrameWrite, Log, MemoryDisk, Options};

use crate::support::{Lane, Random, Twin, begin, meta, small, store_snapshot, write};

const SECTOR: usize = 512;
const OPERATIONS: u64 = 1_000;
/// All subsets of a frame's sectors are tried for every so many operations.
const SUBSETS_EVERY: u64 = 40;
/// The most sectors of which all subsets are tried.
const SUBSETS_OF: usize = 10;

fn options() -> Options {
    Options { segment_bytes: 20 << 10, ..small() }
}

/// What was tried.
#[derive(Debug, Default)]
struct Tried {
    states: u64,
    kept: u64,
    cut: u64,
    segments: u64,
}

impl Tried {
    /// Recovers what a crash left: it must be one of `possible`, whole.
    fn recover(&mut self, mut disk: MemoryDisk, possible: &[&Twin]) {
        self.states += 1;
        let (_, lane) = Log::recover(&mut disk, options(), self.states).expect("nothing is wrong");
        lane.check_whole().expect("a crash damages nothing");
        assert_eq!(lane.report.damage, [], "a torn write is not taken for damage");
        let found = Twin::of(&lane);
        let which = possible.iter().position(|twin| **twin == found);
        let which = which.unwrap_or_else(|| panic!("found {found:?}: {:?}", lane.report));
        self.kept += u64::from(which + 1 == possible.len());
        self.cut += u64::from(lane.report.cut.is_some());
    }
}

/// Puts some sectors of a frame on the medium, and no others.
fn put(disk: &mut MemoryDisk, frame: &FrameWrite, sectors: impl Fn(usize) -> bool) {
    for (number, bytes) in frame.data.chunks(SECTOR).enumerate().filter(|(n, _)| sectors(*n)) {
        let offset = frame.offset + (number * SECTOR) as u64;
        disk.write_durable(&frame.file, offset, bytes).expect("room");
    }
}

fn created(disk: &MemoryDisk, frame: &FrameWrite) -> MemoryDisk {
    let mut disk = disk.clone();
    if let Some(bytes) = frame.create {
        disk.create(&frame.file, bytes).expect("room");
    }
    disk
}

/// All crashes in the middle of one frame.
fn tear(lane: &Lane, frame: &FrameWrite, before: &Twin, subsets: bool, tried: &mut Tried) {
    let base = created(&lane.disk, frame);
    let sectors = frame.data.len() / SECTOR;
    let mut growing = base.clone();
    tried.recover(base.clone(), &[before, &lane.twin]);
    for number in 0..sectors {
        put(&mut growing, frame, |sector| sector == number);
        tried.recover(growing.clone(), &[before, &lane.twin]);
    }
    if !subsets {
        return;
    }
    // Of a long frame the sectors at its ends, where headers and checksums are.
    let ends = |n: usize| n < SUBSETS_OF / 2 || n + SUBSETS_OF / 2 >= sectors;
    let chosen: Vec<usize> = (0..sectors).filter(|&n| sectors <= SUBSETS_OF || ends(n)).collect();
    let mut without = base;
    put(&mut without, frame, |sector| !chosen.contains(&sector));
    for subset in 0..1_u32 << chosen.len() {
        let mut disk = without.clone();
        let has = |sector| chosen.iter().position(|&c| c == sector);
        put(&mut disk, frame, |sector| has(sector).is_some_and(|at| subset & (1 << at) != 0));
        tried.recover(disk, &[before, &lane.twin]);
    }
}

/// One turn of random writes.
fn turn(lane: &mut Lane, random: &mut Random) -> Vec<(ShardId, Write)> {
    let shard = 1 + random.below(3) as u32;
    let (last, _) = lane.twin.last(ShardId(shard));
    let known = lane.twin.shards.get(&ShardId(shard));
    let hard_state = known.map_or(HardState::default(), |log| log.hard_state);
    let snapshot = known.map_or(0, |log| log.snapshot.index.0);
    match random.below(12) {
        0 if last.0 > snapshot => {
            let first = snapshot + 1 + random.below(last.0 - snapshot);
            vec![write(shard, hard_state.term.0 + 1, first, first + random.below(3))]
        }
        1 | 2 if last.0 > snapshot => {
            let index = flotilla_raft::Index(last.0 - random.below((last.0 - snapshot).min(3)));
            let term = lane.twin.term_at(ShardId(shard), index).expect("it is in the log");
            let meta = meta(index.0, term.0);
            let shard = ShardId(shard);
            let file = store_snapshot(&mut lane.disk, &mut lane.log, shard, &meta, &[b"state"]);
            lane.log.snapshot_durable(file);
            let (snapshot, entries) = (Some(Box::new(meta)), Vec::new());
            vec![(shard, Write { seq: WriteSeq(1), hard_state, snapshot, entries })]
        }
        3 => {
            let hard_state = HardState { term: Term(hard_state.term.0 + 1), voted_for: None };
            let write = Write { seq: WriteSeq(1), hard_state, snapshot: None, entries: Vec::new() };
            vec![(ShardId(shard), write)]
        }
        _ => {
            let term = hard_state.term.0.max(1);
            vec![write(shard, term, last.0 + 1, last.0 + 1 + random.below(2))]
        }
    }
}

fn housekeeping(lane: &mut Lane, random: &mut Random, tried: &mut Tried) {
    for mut chore in lane.log.housekeeping() {
        chore.run(&mut lane.disk).expect("room");
        if !matches!(chore, Chore::Load(_)) {
            let mut disk = lane.disk.clone();
            disk.crash(random.next());
            tried.recover(disk, &[&lane.twin]);
        }
        lane.log.chore_done(&chore);
    }
}

#[test]
fn a_crash_at_any_write_of_a_long_run_leaves_all_or_nothing_of_it() {
    let mut tried = Tried::default();
    let mut random = Random(6);
    let mut lane = Lane::new(options());
    for operation in 0..OPERATIONS {
        let before = lane.twin.clone();
        let writes = turn(&mut lane, &mut random);
        let frame = lane.log.append(None, &writes);
        lane.twin.apply(None, &writes);
        tried.segments += u64::from(frame.offset == 0);
        tear(&lane, &frame, &before, operation % SUBSETS_EVERY == 0, &mut tried);
        lane.store(frame);
        if random.chance(20) {
            lane.seal();
        }
        if random.chance(30) {
            housekeeping(&mut lane, &mut random, &mut tried);
        }
    }
    let Tried { states, kept, cut, segments } = tried;
    assert!(states > 12_000 && segments > 100, "{states} states, {segments} segments");
    assert!(kept > 900 && cut > 3_000, "{kept} kept, {cut} cut");
}

#[test]
fn of_two_frames_in_flight_any_subset_of_sectors_is_a_prefix() {
    let mut tried = Tried::default();
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut lane = Lane::new(options());
        for _ in 0..random.below(8) {
            let writes = turn(&mut lane, &mut random);
            lane.turn(&writes);
        }
        let before = lane.twin.clone();
        let first = turn(&mut lane, &mut random);
        let one = lane.log.append(None, &first);
        lane.twin.apply(None, &first);
        let between = lane.twin.clone();
        let second = turn(&mut lane, &mut random);
        let two = lane.log.append(None, &second);
        lane.twin.apply(None, &second);
        let base = created(&created(&lane.disk, &one), &two);
        for _ in 0..40 {
            let (lost, mut disk) = (random.next(), base.clone());
            let keep = |shift: u32| {
                move |sector: usize| {
                    lost.rotate_left(shift) >> (sector % 64) & 1 == 1
                        || lost % 5 == u64::from(shift)
                }
            };
            put(&mut disk, &one, keep(0));
            put(&mut disk, &two, keep(1));
            tried.recover(disk, &[&before, &between, &lane.twin]);
        }
        // The driver goes on with both.
        for frame in [one, two] {
            begin(&mut lane.disk, &frame);
            lane.disk.sync(&frame.file).expect("a sync");
            lane.log.written(frame.sequence);
        }
        tried.recover(lane.disk, &[&lane.twin]);
    }
    assert!(tried.cut > 500 && tried.kept > 40, "{tried:?}");
}
