//! A disk that does other things than it says: lost, misdirected and repeated writes, blocks that
//! can't be read, want of space, files that are not where they were, older images.

use std::collections::BTreeSet;

use flotilla_raft::Index;
use flotilla_shard::ShardId;
use flotilla_storage::{
    BLOCK, Chore, Disk, DiskError, FrameWrite, Log, MemoryDisk, Options, ReadFilter, RecoverError,
    RecoveredLane,
};

use crate::support::{Lane, Random, Twin, begin, compare, files, meta, small, write};

fn tiny() -> Options {
    Options { segment_bytes: 6 * BLOCK as u64, spare_segments: 1, ..small() }
}

/// A disk some of whose blocks can't be read.
struct BadBlocks<'a> {
    disk: &'a mut MemoryDisk,
    bad: BTreeSet<(String, u64)>,
}

impl ReadFilter for BadBlocks<'_> {
    fn beneath(&mut self) -> &mut dyn Disk {
        self.disk
    }

    fn filtered_read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let blocks = offset / BLOCK as u64..(offset + len as u64).div_ceil(BLOCK as u64);
        for block in blocks {
            if self.bad.contains(&(name.to_string(), block)) {
                return Err(DiskError::Failed(format!("{name}: input/output error")));
            }
        }
        self.disk.read(name, offset, len)
    }
}

fn recover(disk: &mut dyn Disk) -> Result<RecoveredLane, RecoverError> {
    Log::recover(disk, tiny(), 5).map(|(_, lane)| lane)
}

/// A lane after `turns` turns, sealed; `on_frame` is told of each turn's frame when it is written.
fn run(turns: u64, mut on_frame: impl FnMut(&mut MemoryDisk, &FrameWrite)) -> Lane {
    let mut lane = Lane::new(tiny());
    for index in 1..=turns {
        let turn = [write(1, 1, index, index), write(2, 1, index, index)];
        let frame = lane.log.append(None, &turn);
        lane.twin.apply(None, &turn);
        begin(&mut lane.disk, &frame);
        lane.disk.sync(&frame.file).expect("a sync");
        on_frame(&mut lane.disk, &frame);
        lane.log.written(frame.sequence);
        if index % 5 == 0 {
            lane.reset(ShardId(2), &meta(index, 1));
        }
    }
    lane.seal();
    lane
}

#[test]
fn a_write_that_was_lost_is_found() {
    let count = 24;
    let (mut holes, mut lost) = (0, 0);
    for victim in 1..count {
        let mut number = 0;
        let mut lane = run(count, |disk, frame| {
            number += 1;
            if number == victim {
                // It said that it was written. The medium has what was there: nothing.
                let nothing = vec![0; frame.data.len()];
                disk.write_durable(&frame.file, frame.offset, &nothing).expect("room");
            }
        });
        let found = recover(&mut lane.disk).expect("others are there");
        let missing = compare(&found, &lane.twin);
        let missing = missing.unwrap_or_else(|error| panic!("frame {victim}: {error}"));
        assert!(!found.report.damage.is_empty(), "frame {victim} is gone and nobody says so");
        holes += missing;
        lost += found.lost.len();
    }
    assert!(holes > 10, "{holes} holes");
    // Only the loss of a segment's whole head, checkpoint and first frame, is more than one frame.
    assert!(lost < 20, "{lost} lost");
}

#[test]
fn a_write_that_went_elsewhere_is_found_at_both_places() {
    let mut random = Random(3);
    let mut named = 0;
    for _ in 0..60 {
        let mut frames: Vec<(String, u64, Vec<u8>)> = Vec::new();
        let mut lane = run(16, |_, frame| {
            frames.push((frame.file.to_string(), frame.offset, frame.data.to_vec()));
        });
        let whole = lane.twin.clone();
        let last = frames.len() as u64 - 1;
        let (from, to) = (random.below(last) as usize, random.below(last) as usize);
        if from == to || frames[to].1 == 0 || frames[from].1 == 0 {
            continue;
        }
        let length = frames[from].2.len().min(frames[to].2.len());
        let data = frames[from].2[..length].to_vec();
        lane.disk.write_durable(&frames[to].0, frames[to].1, &data).expect("room");
        lane.disk.write_durable(&frames[from].0, frames[from].1, &vec![0; length]).expect("room");
        let found = recover(&mut lane.disk).expect("others are there");
        compare(&found, &whole).expect("what is there is right");
        named += usize::from(!found.report.damage.is_empty());
    }
    assert!(named > 20, "{named}");
}

#[test]
fn a_write_done_again_long_after_is_no_frame_of_the_files_new_life() {
    let mut frames: Vec<(String, u64, Vec<u8>)> = Vec::new();
    let mut lane = Lane::new(tiny());
    for index in 1..60 {
        let turn = [write(1, 1, index, index)];
        let frame = lane.log.append(None, &turn);
        lane.twin.apply(None, &turn);
        frames.push((frame.file.to_string(), frame.offset, frame.data.to_vec()));
        lane.store(frame);
        lane.reset(ShardId(1), &meta(index, 1));
        lane.chores();
    }
    lane.seal();
    let mut again = 0;
    for (file, offset, data) in &frames[..frames.len() - 8] {
        let mut disk = lane.disk.clone();
        if *offset == 0 || disk.size(file).is_err() {
            continue;
        }
        disk.write_durable(file, *offset, data).expect("room");
        let found = recover(&mut disk).expect("others are there");
        compare(&found, &lane.twin).expect("nothing old is taken for new");
        again += 1;
    }
    assert!(again > 10, "{again}");
}

#[test]
fn a_block_that_cant_be_read_counts_as_damaged_there() {
    let mut lane = run(24, |_, _| {});
    let names = files(&mut lane.disk, ".log");
    let (mut holes, mut harmless, mut unsure) = (0, 0, 0);
    for name in &names {
        let size = lane.disk.size(name).expect("it is there");
        for block in 0..size / BLOCK as u64 {
            let mut disk = lane.disk.clone();
            let bad = BTreeSet::from([(name.clone(), block)]);
            let found = match recover(&mut BadBlocks { disk: &mut disk, bad }) {
                Ok(found) => found,
                Err(error) => {
                    // Where the log seems to end there may have been a frame: the one that attests
                    // the last, and the one after. No promise is given up for what may be read
                    // another time: nothing was written, and when it can be read all is there.
                    assert!(matches!(error, RecoverError::Disk(_)), "{error}");
                    let found = recover(&mut disk).expect("all can be read");
                    assert_eq!(Twin::of(&found), lane.twin);
                    unsure += 1;
                    continue;
                }
            };
            let missing = compare(&found, &lane.twin).expect("what is there is right");
            assert!(found.lost.is_empty(), "{name} block {block}");
            holes += missing;
            harmless += usize::from(missing == 0);
        }
    }
    assert!(holes > 5 && harmless > 10 && unsure <= 2, "{holes} {harmless} {unsure}");
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_a_failed_disk() {
    let mut lane = run(6, |_, _| {});
    for name in files(&mut lane.disk, ".log") {
        let mut disk = lane.disk.clone();
        let blocks = disk.size(&name).expect("it is there") / BLOCK as u64;
        let bad = (0..blocks).map(|block| (name.clone(), block)).collect();
        let error = recover(&mut BadBlocks { disk: &mut disk, bad }).expect_err("it has failed");
        assert!(matches!(error, RecoverError::Disk(_)), "{error}");
        // It wrote nothing: when the disk is well again all is there.
        let found = recover(&mut disk).expect("all can be read");
        assert_eq!(Twin::of(&found), lane.twin);
    }
}

#[test]
fn the_names_of_segment_files_mean_nothing() {
    let mut lane = run(12, |_, _| {});
    let names = files(&mut lane.disk, ".log");
    let (one, other) = (&names[0], &names[1]);
    lane.disk.rename(one, "between").expect("it is there");
    lane.disk.rename(other, one).expect("it is there");
    lane.disk.rename("between", other).expect("it is there");
    lane.disk.sync_directory().expect("a sync");
    let found = recover(&mut lane.disk).expect("all is there");
    assert_eq!(Twin::of(&found), lane.twin);
}

#[test]
fn a_segment_of_another_node_is_refused() {
    let mut lane = run(12, |_, _| {});
    let mut other = Lane::open(MemoryDisk::new(), tiny(), 99).expect("blank");
    for index in 1..30 {
        other.turn(&[write(1, 1, index, index)]);
    }
    let names = files(&mut lane.disk, ".log");
    for name in files(&mut other.disk, ".log") {
        let size = other.disk.size(&name).expect("it is there");
        let bytes = other.disk.read(&name, 0, size as usize).expect("it is there");
        // In the place of one of ours, or beside them.
        for target in [names[0].as_str(), "segment-000099.log"] {
            let mut disk = lane.disk.clone();
            disk.write(target, 0, &bytes).expect("room");
            disk.sync(target).expect("a sync");
            disk.sync_directory().expect("a sync");
            let error = recover(&mut disk).expect_err("it is of another log");
            assert!(error.to_string().contains("another log"), "{error}");
        }
    }
}

#[test]
fn an_older_image_is_told_by_how_far_it_was_durable() {
    let mut lane = Lane::new(tiny());
    lane.turn_with(Some(b"node 1"), &[write(1, 1, 1, 1)]);
    let mut image = lane.disk.clone();
    lane.turn(&[write(1, 1, 2, 2)]);
    lane.seal();
    // What peers were told before the crash.
    let told = lane.log.durable_through();
    let newest = recover(&mut lane.disk).expect("all is there");
    assert_eq!(newest.durable_through, told);
    let older = recover(&mut image).expect("all is there");
    assert!(older.durable_through < told, "the image ends before what peers know");
    // A directory copied from another node says whose it is.
    assert_eq!(older.node_state.as_deref(), Some(&b"node 1"[..]));
    let again = recover(&mut image).expect("all is there");
    assert!(again.durable_through > told, "later sequences are above all earlier ones");
}

#[test]
fn without_room_the_reserve_is_used_and_the_log_says_that_writes_must_stop() {
    let options = Options { segment_bytes: 64 << 10, spare_segments: 2, ..small() };
    let mut lane = Lane::open(MemoryDisk::new(), options, 7).expect("blank");
    lane.chores();
    let room = lane.disk.used_bytes();
    lane.disk.set_capacity(Some(room));
    let mut written = 0;
    for index in 1.. {
        lane.turn(&[write(1, 1, index, index)]);
        written = index;
        for mut chore in lane.log.housekeeping() {
            match chore.run(&mut lane.disk) {
                Ok(()) => lane.log.chore_done(&chore),
                Err(_) => lane.log.chore_failed(&chore),
            }
        }
        if lane.log.lacks_room() {
            break;
        }
    }
    assert!(written > 5, "the segments that were ready are used");
    assert!(lane.log.ready_bytes() > 32 << 10, "a reserve is kept for what can't be refused");
    // A start finds a segment in the reserve.
    let mut disk = lane.disk.clone();
    let found = Log::recover(&mut disk, lane.options.clone(), 9).expect("one is ready").1;
    assert_eq!(Twin::of(&found), lane.twin);
    // Terms and votes go on, and so do reads; then there is room again.
    lane.turn(&[write(2, 9, 1, 1)]);
    lane.disk.set_capacity(None);
    lane.chores();
    assert!(!lane.log.lacks_room());
    let lane = lane.reopen();
    assert_eq!(lane.twin.last(ShardId(1)).0, Index(written));
}

/// Who tries again later reports the failure then; writes have to stop now.
#[test]
fn want_of_room_is_known_before_the_next_attempt() {
    let mut lane = Lane::new(tiny());
    let chores = lane.log.housekeeping();
    assert!(!chores.is_empty() && !lane.log.lacks_room());
    chores.iter().for_each(|chore| lane.log.chore_fails(chore));
    assert!(lane.log.lacks_room());
    chores.iter().for_each(|chore| lane.log.chore_failed(chore));
    assert!(lane.log.lacks_room());
    lane.chores();
    assert!(!lane.log.lacks_room(), "there is room after all");
}

/// A segment that was used up may be the one that waits; it does not show whether there is room.
#[test]
fn room_is_looked_for_although_the_one_spare_segment_is_there() {
    let mut lane = Lane::new(tiny());
    for index in 1.. {
        lane.turn(&[write(1, 1, index, index)]);
        lane.reset(ShardId(1), &meta(index, 1));
        for mut chore in lane.log.housekeeping() {
            if matches!(chore, Chore::Prepare { .. }) {
                lane.log.chore_failed(&chore);
            } else {
                chore.run(&mut lane.disk).expect("a chore");
                lane.log.chore_done(&chore);
            }
        }
        if lane.log.ready_bytes() >= tiny().segment_bytes {
            break;
        }
        assert!(index < 100, "a segment is used up some time");
    }
    assert!(lane.log.lacks_room());
    lane.chores();
    assert!(!lane.log.lacks_room());
}

#[test]
fn a_recovery_without_room_refuses_and_changes_nothing() {
    let mut lane = run(12, |_, _| {});
    let room = lane.disk.used_bytes();
    lane.disk.set_capacity(Some(room));
    match recover(&mut lane.disk) {
        Err(RecoverError::Disk(error)) => assert!(error.is_no_room(), "{error}"),
        Err(error) => panic!("{error}"),
        // A file that waited to be used was used.
        Ok(found) => assert_eq!(Twin::of(&found), lane.twin),
    }
    lane.disk.set_capacity(None);
    let found = recover(&mut lane.disk).expect("there is room");
    assert_eq!(Twin::of(&found), lane.twin);
}

#[test]
fn segments_turn_over_without_a_file_being_made() {
    let mut lane = Lane::new(tiny());
    lane.chores();
    let mut begun = 0;
    for index in 1..200 {
        let turn = [write(1, 1, index, index)];
        let frame = lane.log.append(None, &turn);
        lane.twin.apply(None, &turn);
        assert_eq!(frame.create, None, "a blank file is always ready");
        begun += u64::from(frame.offset == 0);
        let syncs = lane.disk.counters().syncs;
        lane.disk.write_durable(&frame.file, frame.offset, &frame.data).expect("room");
        assert_eq!(lane.disk.counters().syncs, syncs + 1, "also when a segment is begun");
        lane.log.written(frame.sequence);
        if index % 10 == 0 {
            lane.reset(ShardId(1), &meta(index, 1));
        }
        lane.chores();
    }
    assert!(begun > 30, "{begun} segments");
}
