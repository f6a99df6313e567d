//! Payloads that were lost come back, and stay: through crashes, carrying and more damage.

use flotilla_raft::{Entry, Index};
use flotilla_shard::ShardId;
use flotilla_storage::{Chore, Damage, Disk, Log, MemoryDisk, Options, RecoveredLane};

use crate::support::{Lane, Random, compare, entry, files, meta, small, write};

const SHARD: ShardId = ShardId(1);

/// Damages the frame that holds the entries of this lane's next turn, and recovers.
fn damaged(mut lane: Lane, turn: &[(ShardId, flotilla_raft::Write)]) -> (Lane, RecoveredLane) {
    let frame = lane.log.append(None, turn);
    lane.twin.apply(None, turn);
    let (file, offset) = (frame.file.to_string(), frame.offset);
    lane.store(frame);
    lane.seal();
    assert!(lane.disk.flip(&file, offset, 0), "its header is unreadable");
    recovered(lane)
}

/// Recovers what may be damaged.
fn recovered(lane: Lane) -> (Lane, RecoveredLane) {
    let Lane { mut disk, options, twin, .. } = lane;
    let seed = disk.counters().writes;
    let recovered = Log::recover(&mut disk, options.clone(), seed);
    let (log, found) = recovered.expect("most is whole");
    (Lane { disk, log, options, twin, last_offset: 0 }, found)
}

fn genuine(shard: ShardId, entries: &[Entry], damaged: &[Index]) -> Vec<Entry> {
    let wanted = entries.iter().filter(|entry| damaged.contains(&entry.index));
    wanted.map(|found| entry(shard, found.index.0, found.term.0)).collect()
}

#[test]
fn a_repaired_entry_is_whole_again_after_the_next_frame() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(1, 1, 1, 2)]);
    let (mut lane, found) = damaged(lane, &[write(1, 2, 3, 6)]);
    assert_eq!(found.shards[&SHARD].damaged, [3, 4, 5, 6].map(Index));
    assert_eq!(lane.log.holes(SHARD), 4);
    // Some come, one of another term is not it, and one is no hole.
    let entries = [(3, 2), (4, 1), (6, 2), (2, 1)].map(|(i, term)| entry(SHARD, i, term));
    lane.log.repair(SHARD, entries.to_vec());
    lane.write_waiting();
    assert_eq!(lane.log.holes(SHARD), 2);
    let (mut lane, found) = recovered(lane);
    assert_eq!(compare(&found, &lane.twin), Ok(2));
    assert_eq!(found.shards[&SHARD].damaged, [4, 5].map(Index));
    lane.log.repair(SHARD, vec![entry(SHARD, 4, 2), entry(SHARD, 5, 2)]);
    lane.write_waiting();
    lane.reopen();
}

#[test]
fn a_crash_in_the_middle_of_a_repair_changes_nothing() {
    let mut outcomes = [0; 2];
    for seed in 0..40 {
        let lane = Lane::new(small());
        let (mut lane, _) = damaged(lane, &[write(1, 2, 1, 6)]);
        let entries: Vec<_> = (1..=6).map(|index| entry(SHARD, index, 2)).collect();
        lane.log.repair(SHARD, entries);
        let frame = lane.log.append(None, &[]);
        crate::support::begin(&mut lane.disk, &frame);
        lane.disk.crash(seed);
        let (lane, found) = recovered(lane);
        let holes = compare(&found, &lane.twin).expect("every promise is kept");
        assert!(holes == 0 || holes == 6, "a frame comes back whole or not at all");
        outcomes[holes / 6] += 1;
    }
    assert!(outcomes.iter().all(|&count| count > 3), "{outcomes:?}");
}

#[test]
fn truncation_and_snapshots_close_holes() {
    let lane = Lane::new(small());
    let (mut lane, _) = damaged(lane, &[write(1, 2, 1, 6)]);
    lane.turn(&[write(1, 3, 5, 5)]);
    assert_eq!(lane.log.holes(SHARD), 4);
    lane.reset(SHARD, &meta(3, 2));
    assert_eq!(lane.log.holes(SHARD), 1);
    lane.reset(SHARD, &meta(4, 2));
    assert_eq!(lane.log.holes(SHARD), 0);
    lane.reopen();
}

#[test]
fn what_waits_for_a_shard_that_leaves_goes_with_it() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(1, 1, 1, 2), write(2, 1, 1, 1)]);
    let (mut lane, _) = damaged(lane, &[write(1, 2, 3, 6)]);
    lane.log.repair(SHARD, (3..=6).map(|index| entry(SHARD, index, 2)).collect());
    lane.log.remove_shard(SHARD);
    lane.turn(&[]);
    assert!(!lane.log.needs_frame());
    lane.twin.shards.remove(&SHARD);
    lane.reopen();
}

#[test]
fn holes_are_carried_without_a_payload_while_nobody_repairs_them() {
    let lane = Lane::new(small());
    let (mut lane, _) = damaged(lane, &[write(5, 3, 1, 20)]);
    let mut most = 0;
    for index in 1..400 {
        lane.turn(&[write(1, 1, index, index)]);
        lane.reset(SHARD, &meta(index, 1));
        lane.chores();
        most = most.max(lane.disk.used_bytes());
        if index % 60 == 0 {
            let (again, found) = recovered(lane);
            assert_eq!(compare(&found, &again.twin), Ok(20));
            lane = again;
        }
    }
    assert!(most < 9 * (32 << 10), "{most} bytes");
    lane.log.repair(ShardId(5), (1..=20).map(|index| entry(ShardId(5), index, 3)).collect());
    lane.write_waiting();
    lane.reopen();
}

#[test]
fn damage_met_while_carrying_is_told_and_healed() {
    let mut lane = Lane::new(small());
    let frame = lane.log.append(None, &[write(5, 3, 1, 20)]);
    lane.twin.apply(None, &[write(5, 3, 1, 20)]);
    let (file, offset) = (frame.file.to_string(), frame.offset);
    lane.store(frame);
    let mut told = Vec::new();
    for index in 1..400 {
        lane.turn(&[write(1, 1, index, index)]);
        lane.reset(SHARD, &meta(index, 1));
        for mut chore in lane.log.housekeeping() {
            if matches!(chore, Chore::Load(_)) && told.is_empty() {
                lane.disk.flip(&file, offset + 2000, 1);
            }
            chore.run(&mut lane.disk).expect("it only reads");
            lane.log.chore_done(&chore);
        }
        let news = lane.log.take_damage();
        if !news.is_empty() {
            assert!(told.is_empty(), "damage is told once");
            told = news;
        }
    }
    let [Damage::Frame { frame, entries }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&frame.file, frame.offset), (&file, offset));
    assert_eq!(entries[&ShardId(5)].len(), 20);
    let (mut lane, found) = recovered(lane);
    assert_eq!(compare(&found, &lane.twin), Ok(20));
    lane.log.repair(ShardId(5), (1..=20).map(|index| entry(ShardId(5), index, 3)).collect());
    lane.write_waiting();
    lane.reopen();
}

#[test]
fn what_is_left_of_a_lost_shard_is_a_new_replicas_beginning() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(1, 2, 1, 6)]);
    let mut spoil = Vec::new();
    for term in [3, 4, 5] {
        let frame = lane.log.append(None, &[write(1, term, 6, 6)]);
        spoil.push((frame.file.to_string(), frame.offset));
        lane.twin.apply(None, &[write(1, term, 6, 6)]);
        lane.store(frame);
    }
    // The table of the first of them can't be read any more, neither in it nor behind it.
    for (file, offset) in &spoil[..2] {
        lane.disk.flip(file, *offset, 0);
    }
    lane.seal();
    for _ in 0..2 {
        let (again, found) = recovered(lane);
        assert!(found.shards.is_empty() && found.lost.contains_key(&SHARD));
        compare(&found, &again.twin).expect("what is left is of its log");
        lane = again;
    }
    let last = lane.twin.last(SHARD);
    assert_eq!(last, (Index(6), flotilla_raft::Term(5)));
    lane.log.renew_shard(SHARD);
    lane.turn_with(Some(b"as a wiped node"), &[write(1, 9, 6, 7)]);
    let (lane, found) = recovered(lane);
    assert!(found.check_whole().is_ok(), "{:?}", found.check_whole());
    let shard = &found.shards[&SHARD];
    assert_eq!(shard.entries.last().map(|entry| entry.index), Some(Index(7)));
    assert_eq!(shard.hard_state.term, flotilla_raft::Term(9));
    drop(lane);
}

#[test]
#[should_panic(expected = "makes no other")]
fn nothing_is_written_to_a_lost_shard() {
    let mut lane = Lane::new(small());
    let turns = [write(1, 2, 1, 6), write(1, 3, 6, 6), write(1, 4, 6, 6)];
    for turn in &turns {
        let frame = lane.log.append(None, std::slice::from_ref(turn));
        lane.disk.counters();
        let (file, offset) = (frame.file.to_string(), frame.offset);
        lane.store(frame);
        lane.disk.flip(&file, offset, 0);
    }
    lane.seal();
    let (mut lane, found) = recovered(lane);
    assert!(found.lost.contains_key(&SHARD));
    lane.turn(&[write(1, 9, 1, 1)]);
}

/// One run of turns, crashes, damage of random blocks, and repair.
fn run(seed: u64, seen: &mut [u64; 4]) {
    let mut random = Random(seed);
    let options = Options { segment_bytes: (4 + random.below(8)) << 12, ..small() };
    let mut lane = Lane::open(MemoryDisk::new(), options, seed).expect("blank");
    let rots_at = random.below(5);
    for round in 0..7 {
        for _ in 0..random.below(12) {
            turn(&mut lane, &mut random);
        }
        lane.seal();
        if round == rots_at {
            // Rot in one block, after everything is attested. A second one may cost the second copy
            // of a table, long after.
            let names = files(&mut lane.disk, ".log");
            let file = &names[random.below(names.len() as u64) as usize];
            let size = lane.disk.size(file).expect("it is there");
            let written = (0..50)
                .map(|_| random.below(size))
                .find(|&at| lane.disk.read(file, at, 1).expect("it is there") != [0]);
            lane.disk.flip(file, written.unwrap_or(0), 2);
        }
        lane.disk.crash(random.next());
        let (mut again, found) = recovered(lane);
        let holes = compare(&found, &again.twin);
        let holes = holes.unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        assert!(found.lost.is_empty(), "seed {seed}, round {round}: one block costs no promise");
        seen[0] += 1;
        seen[1] += u64::from(holes > 0);
        seen[2] += u64::from(!found.report.damage.is_empty());
        for (shard, found) in &found.shards {
            if random.chance(60) {
                let entries = genuine(*shard, &found.entries, &found.damaged);
                seen[3] += entries.len() as u64;
                again.log.repair(*shard, entries);
            }
        }
        again.write_waiting();
        lane = again;
    }
}

fn turn(lane: &mut Lane, random: &mut Random) {
    let shard = 1 + random.below(3) as u32;
    let (last, term) = lane.twin.last(ShardId(shard));
    let snapshot = lane.twin.shards.get(&ShardId(shard)).map_or(Index(0), |s| s.snapshot.index);
    match random.below(10) {
        0 if last > snapshot => {
            let index = Index(snapshot.0 + 1 + random.below(last.0 - snapshot.0));
            let term = lane.twin.term_at(ShardId(shard), index).expect("it is in the log");
            lane.reset(ShardId(shard), &meta(index.0, term.0));
        }
        1 if last > snapshot => {
            let hard_state = lane.twin.shards[&ShardId(shard)].hard_state;
            let first = snapshot.0 + 1 + random.below(last.0 - snapshot.0);
            lane.turn(&[write(shard, hard_state.term.0 + 1, first, first + random.below(3))]);
        }
        2 => lane.chores(),
        _ => {
            let known = lane.twin.shards.get(&ShardId(shard));
            let term = known.map_or(1, |log| log.hard_state.term.0).max(term.0);
            let first = last.0 + 1;
            lane.turn(&[write(shard, term, first, first + random.below(4))]);
        }
    }
}

#[test]
fn rot_crashes_and_repairs_in_any_order_cost_no_promise() {
    let mut seen = [0; 4];
    for seed in 0..150 {
        run(seed, &mut seen);
    }
    let [recoveries, with_holes, with_damage, repaired] = seen;
    assert!(recoveries >= 1000 && with_damage > 100, "{seen:?}");
    assert!(with_holes > 60 && repaired > 100, "{seen:?}");
}

/// One run of turns and crashes after damage of neighbouring blocks, that is of frames and of the
/// copies of their tables. Says whether nothing was lost by that at the next start; then a later
/// one, with older segments gone, must not lose anything either.
fn run_after_doubt(seed: u64) -> bool {
    let mut random = Random(seed);
    let options = Options { segment_bytes: (4 + random.below(8)) << 12, ..small() };
    let mut lane = Lane::open(MemoryDisk::new(), options, seed).expect("blank");
    let rots_at = 1 + random.below(3);
    for round in 0..9 {
        for _ in 0..random.below(20) {
            turn(&mut lane, &mut random);
        }
        lane.seal();
        if round == rots_at {
            let names = files(&mut lane.disk, ".log");
            let file = &names[random.below(names.len() as u64) as usize];
            let blocks = lane.disk.size(file).expect("it is there") >> 12;
            let first = 1 + random.below(blocks - 1);
            for block in first..(first + 2 + random.below(3)).min(blocks) {
                lane.disk.flip(file, (block << 12) + random.below(64), 2);
            }
        }
        let Lane { mut disk, options, twin, .. } = lane;
        disk.crash(random.next());
        let Ok((log, found)) = Log::recover(&mut disk, options.clone(), random.next()) else {
            assert_eq!(round, rots_at, "seed {seed}: what could be read once can be read");
            return false;
        };
        let lost = !found.lost.is_empty() || found.incomplete;
        let whole = compare(&found, &twin).map(|_| ());
        // What the end of a log has lost is not known from the log alone.
        if round == rots_at && (lost || whole.is_err()) {
            return false;
        }
        assert_eq!((whole, lost), (Ok(()), false), "seed {seed}, round {round}: {:?}", found.lost);
        lane = Lane { disk, log, options, twin, last_offset: 0 };
        lane.write_waiting();
    }
    true
}

#[test]
fn what_survived_damage_is_lost_at_no_later_start() {
    // Found among the first 3,000: what had been carried behind the damage was not believed, and in
    // the last of these what stood before it was dropped.
    let once_lost = [791, 1287, 1292, 2569, 2923, 2971];
    let survived = (0..100).chain(once_lost).filter(|&seed| run_after_doubt(seed)).count();
    assert!(survived > 60, "{survived}");
}
