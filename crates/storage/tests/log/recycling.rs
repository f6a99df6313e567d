//! Disk use is bounded: under overwrites with snapshots, and when a shard can't be snapshotted.

use flotilla_raft::{Index, Term};
use flotilla_shard::ShardId;
use flotilla_storage::{Chore, Options};

use crate::support::{Lane, entry, meta, small, write};

#[test]
fn endless_overwrites_with_snapshots_stay_within_a_few_segments() {
    let mut lane = Lane::new(small());
    let mut most = 0;
    for index in 1..1500 {
        lane.turn(&[write(1, 1, index, index), write(2, 1, index, index)]);
        for shard in lane.log.oldest_live_shards() {
            lane.reset(shard, &meta(index, 1));
        }
        lane.chores();
        most = most.max(lane.disk.used_bytes());
    }
    assert!(most < 8 * (32 << 10), "{most} bytes were used");
    assert!(lane.log.disk_bytes() <= most && lane.log.live_bytes() < 3 * (32 << 10));
    assert!(lane.log.bytes_since_snapshot() < 64 << 10);
    lane.reopen();
}

#[test]
fn without_snapshots_the_log_grows_and_names_who_keeps_it() {
    let mut lane = Lane::new(Options { max_segments: 1000, ..small() });
    for index in 1..40 {
        lane.turn(&[write(1, 1, index, index)]);
        lane.chores();
    }
    assert_eq!(lane.log.oldest_live_shards(), [ShardId(1)]);
    let before = lane.log.live_bytes();
    assert!(before > 4 * (32 << 10));
    assert!(lane.log.shard_bytes_since_snapshot(ShardId(1)) > 0);
    lane.reset(ShardId(1), &meta(39, 1));
    assert_eq!(lane.log.shard_bytes_since_snapshot(ShardId(1)), 0);
    // One frame makes it durable, the next says so, the third attests that.
    for term in 2..6 {
        lane.turn(&[write(2, term, 1, 1)]);
    }
    lane.chores();
    assert!(lane.log.live_bytes() < 3 * (32 << 10), "{}", lane.log.live_bytes());
    lane.reopen();
}

#[test]
fn an_idle_shard_is_carried_and_keeps_vote_and_entries() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(5, 3, 1, 20)]);
    let (mut most, mut carried) = (0, 0);
    for index in 1..600 {
        lane.turn(&[write(1, 1, index, index)]);
        if index % 5 == 0 {
            lane.reset(ShardId(1), &meta(index, 1));
        }
        let chores = lane.log.housekeeping();
        carried += chores.iter().filter(|chore| matches!(chore, Chore::Load(_))).count();
        crate::support::run_all(&mut lane.disk, &mut lane.log, chores);
        most = most.max(lane.disk.used_bytes());
        if index % 50 == 0 {
            lane = lane.reopen();
        }
    }
    assert!(carried > 20 && most < 9 * (32 << 10), "{carried} loads, {most} bytes");
    let shard = &lane.twin.shards[&ShardId(5)];
    assert_eq!((shard.hard_state.term, shard.entries.len()), (Term(3), 20));
    assert_eq!(shard.entries[19], entry(ShardId(5), 20, 3));
}

#[test]
fn a_segment_that_is_being_read_is_not_used_again() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(5, 3, 1, 20)]);
    let mut open = None;
    for index in 1..200 {
        lane.turn(&[write(1, 1, index, index)]);
        lane.reset(ShardId(1), &meta(index, 1));
        for mut chore in lane.log.housekeeping() {
            if matches!(chore, Chore::Load(_)) {
                // It is slow, and what it reads dies meanwhile.
                lane.reset(ShardId(5), &meta(20, 3));
                open = Some(chore);
            } else {
                chore.run(&mut lane.disk).expect("a chore");
                lane.log.chore_done(&chore);
            }
        }
    }
    let mut load = open.expect("something was to be carried");
    let held = lane.log.disk_bytes();
    load.run(&mut lane.disk).expect("it is still there");
    lane.log.chore_done(&load);
    lane.chores();
    assert!(lane.log.disk_bytes() < held / 4);
    lane.reopen();
}

#[test]
fn what_is_mostly_live_is_not_carried() {
    let mut lane = Lane::new(Options { max_segments: 2, segment_bytes: 256 << 10, ..small() });
    for index in 0..150 {
        // About a block of entries in each frame.
        lane.turn(&[write(1, 1, index * 40 + 1, index * 40 + 40)]);
        let loads = lane.log.housekeeping().into_iter();
        assert!(lane.log.bytes_since_snapshot() > 0);
        assert_eq!(loads.filter(|chore| matches!(chore, Chore::Load(_))).count(), 0);
    }
    assert!(lane.log.live_bytes() > 4 * (256 << 10));
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_own() {
    let mut lane = Lane::new(small());
    for index in 1..4 {
        let (shard, mut turn) = write(1, 1, index, index);
        turn.entries[0].payload = flotilla_raft::Payload::new(vec![index as u8; 100 << 10]);
        lane.turn(&[(shard, turn), write(2, 1, index, index)]);
    }
    let mut lane = lane.reopen();
    lane.reset(ShardId(1), &meta(3, 1));
    lane.reset(ShardId(2), &meta(3, 1));
    for term in 2..6 {
        lane.turn(&[write(2, term, 4, 4)]);
        lane.chores();
    }
    assert!(lane.disk.used_bytes() < 5 * (32 << 10), "{}", lane.disk.used_bytes());
    lane.reopen();
}

#[test]
fn a_removed_shard_is_gone_after_the_next_frame() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(1, 1, 1, 3), write(2, 1, 1, 3)]);
    lane.reset(ShardId(1), &meta(2, 1));
    lane.log.remove_shard(ShardId(1));
    lane.turn(&[write(2, 1, 4, 4)]);
    lane.twin.shards.remove(&ShardId(1));
    lane.seal();
    lane.chores();
    assert_eq!(lane.log.snapshot_file(ShardId(1)), None);
    assert!(crate::support::files(&mut lane.disk, ".snap").is_empty());
    let mut lane = lane.reopen();
    lane.turn(&[write(1, 9, 1, 1)]);
    let lane = lane.reopen();
    assert_eq!(lane.twin.last(ShardId(1)), (Index(1), Term(9)));
}

#[test]
fn a_chore_that_fails_is_given_out_again() {
    let mut lane = Lane::new(small());
    let chores = lane.log.housekeeping();
    assert!(matches!(&chores[..], [Chore::Prepare { .. }]), "{chores:?}");
    assert!(lane.log.housekeeping().is_empty());
    lane.log.chore_failed(&chores[0]);
    let again = lane.log.housekeeping();
    assert!(matches!(&again[..], [Chore::Prepare { .. }]));
    let ready = lane.log.ready_bytes();
    crate::support::run_all(&mut lane.disk, &mut lane.log, again);
    assert_eq!(lane.log.ready_bytes(), ready + (32 << 10));
}
