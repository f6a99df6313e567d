//! What is cold is read now and then: damage is found while everything else is still whole.

use flotilla_raft::Index;
use flotilla_shard::ShardId;
use flotilla_storage::{BLOCK, Chore, Damage, Disk, Log, MemoryDisk, Options};

use crate::support::{Lane, compare, entry, files, meta, small, write};

fn tiny() -> Options {
    Options { segment_bytes: 6 * BLOCK as u64, max_segments: 100, ..small() }
}

/// A lane with many segments and a snapshot, and where its frames are.
fn sample() -> (Lane, Vec<(String, u64, u64)>) {
    let mut lane = Lane::new(tiny());
    lane.turn(&[write(2, 1, 1, 9)]);
    lane.reset(ShardId(2), &meta(4, 1));
    let mut frames = Vec::new();
    for index in 1..20 {
        let turn = [write(1, 1, index, index)];
        let frame = lane.log.append(None, &turn);
        lane.twin.apply(None, &turn);
        frames.push((frame.file.to_string(), frame.offset, frame.data.len() as u64));
        lane.store(frame);
    }
    lane.seal();
    (lane, frames)
}

/// The same lane on another disk.
fn on(lane: &Lane, disk: MemoryDisk) -> Lane {
    let Lane { log, options, twin, .. } = lane;
    Lane { disk, log: log.clone(), options: options.clone(), twin: twin.clone(), last_offset: 0 }
}

/// Looks at everything once, a little at a time; gives back how many parts that were.
fn round(lane: &mut Lane) -> usize {
    let rounds = lane.log.scrub_rounds();
    let mut parts = 0;
    while lane.log.scrub_rounds() == rounds {
        if let Some(mut chore) = lane.log.scrub(5000) {
            assert!(lane.log.scrub(5000).is_none(), "one part at a time");
            chore.run(&mut lane.disk).expect("it only reads");
            lane.log.chore_done(&chore);
            parts += 1;
        }
    }
    parts
}

#[test]
fn what_is_whole_is_read_and_nothing_is_said_or_written() {
    let (mut lane, _) = sample();
    let before = lane.disk.counters();
    assert!(round(&mut lane) > 10);
    assert_eq!(lane.log.take_damage(), []);
    assert_eq!(lane.disk.counters(), before);
    lane.reopen();
}

#[test]
fn a_bad_frame_is_found_told_once_and_healed_from_memory() {
    let (mut lane, frames) = sample();
    let (file, offset, _) = frames[3].clone();
    lane.disk.flip(&file, offset + 250, 1);
    round(&mut lane);
    let told = lane.log.take_damage();
    let [Damage::Frame { frame, entries }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&frame.file, frame.offset), (&file, offset));
    assert_eq!(entries[&ShardId(1)], [Index(4)]);
    round(&mut lane);
    assert_eq!(lane.log.take_damage(), []);
    // The core has it in memory still, and has it written again.
    lane.log.repair(ShardId(1), vec![entry(ShardId(1), 4, 1)]);
    lane.write_waiting();
    assert_eq!(lane.log.holes(ShardId(1)), 0);
    let lane = lane.reopen();
    assert_eq!(lane.log.holes(ShardId(1)), 0);
}

#[test]
fn each_bad_frame_of_a_cold_segment_is_found_wherever_it_is_bad() {
    let (lane, frames) = sample();
    let (mut found, mut holes) = (0, 0);
    for (file, offset, length) in &frames[..frames.len() - 4] {
        for within in [0, 60, 100, length - 1 - length / 2] {
            let mut disk = lane.disk.clone();
            disk.flip(file, offset + within, 4);
            let mut lane = on(&lane, disk);
            round(&mut lane);
            for damage in lane.log.take_damage() {
                let Damage::Frame { entries, .. } = damage else { panic!("no snapshot is bad") };
                holes += entries.values().map(Vec::len).sum::<usize>();
                found += 1;
            }
            lane.write_waiting();
            let recovered = Log::recover(&mut lane.disk, tiny(), 5).expect("one place is bad").1;
            compare(&recovered, &lane.twin).expect("every promise is kept");
            assert!(recovered.lost.is_empty());
        }
    }
    assert!(found > 25 && holes > 25, "{found} found, {holes} holes");
}

#[test]
fn a_bad_snapshot_is_found_and_told_once() {
    let (mut lane, _) = sample();
    let name = files(&mut lane.disk, ".snap").remove(0);
    let size = lane.disk.size(&name).expect("it is there");
    for at in 0..size {
        let mut disk = lane.disk.clone();
        disk.flip(&name, at, 2);
        let mut lane = on(&lane, disk);
        round(&mut lane);
        let told = lane.log.take_damage();
        let [Damage::Snapshot { file, .. }] = &told[..] else { panic!("byte {at}: {told:?}") };
        assert_eq!((&file.name, file.shard), (&name, ShardId(2)));
        round(&mut lane);
        assert_eq!(lane.log.take_damage(), []);
    }
}

#[test]
fn what_is_being_read_is_not_used_again_or_removed() {
    let mut lane = Lane::new(small());
    for index in 1..80 {
        lane.turn(&[write(1, 1, index, index)]);
    }
    lane.reset(ShardId(1), &meta(20, 1));
    let mut slow = lane.log.scrub(100).expect("there is something cold");
    for index in 80..200 {
        lane.turn(&[write(1, 1, index, index)]);
        lane.reset(ShardId(1), &meta(index, 1));
        lane.chores();
    }
    slow.run(&mut lane.disk).expect("it only reads");
    lane.log.chore_done(&slow);
    assert_eq!(lane.log.take_damage(), [], "it read what it was to read");
    assert!(matches!(slow, Chore::Scrub(_)));
    lane.reopen();
}
