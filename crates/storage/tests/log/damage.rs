//! Damage is found and named, costs as little as can be, and is never taken for the end of the log.

use flotilla_raft::{HardState, ReplicaId, Term, Write, WriteSeq};
use flotilla_shard::ShardId;
use flotilla_storage::{
    BLOCK, Disk, Log, MemoryDisk, Options, RecoverError, RecoveredLane, SnapshotWriter,
};

use crate::support::{Lane, Twin, compare, files, meta, small, write};

fn tiny() -> Options {
    Options { segment_bytes: 6 * BLOCK as u64, spare_segments: 0, ..small() }
}

/// A log of three segments with everything in it, sealed; and the state after each turn.
fn sample() -> (Lane, Vec<Twin>) {
    let mut lane = Lane::new(tiny());
    let mut states = vec![lane.twin.clone()];
    let turns = [
        vec![write(1, 1, 1, 3), write(2, 1, 1, 1)],
        vec![write(1, 2, 3, 4)],
        vec![write(3, 5, 1, 2)],
        vec![write(2, 3, 2, 2), write(1, 2, 5, 5)],
        vec![write(3, 6, 3, 3)],
    ];
    for (number, turn) in turns.iter().enumerate() {
        lane.turn_with((number == 2).then_some(&b"node"[..]), turn);
        states.push(lane.twin.clone());
        if number == 3 {
            lane.reset(ShardId(1), &meta(3, 2));
            states.push(lane.twin.clone());
        }
    }
    // The newest segment has a frame that a later one attests.
    for index in 1.. {
        lane.turn(&[write(4, 1, index, index)]);
        states.push(lane.twin.clone());
        let turn = lane.last_offset;
        lane.seal();
        if turn > 0 && lane.last_offset > 0 {
            break;
        }
    }
    (lane, states)
}

fn recover(disk: &mut MemoryDisk) -> Result<RecoveredLane, RecoverError> {
    Log::recover(disk, tiny(), 5).map(|(_, lane)| lane)
}

/// Offsets worth damaging: every byte that is not in a long run of zeros, and some of those.
fn offsets(disk: &mut MemoryDisk, file: &str) -> Vec<u64> {
    let size = disk.size(file).expect("it is there");
    let bytes = disk.read(file, 0, size as usize).expect("it is there");
    let zeros = |at: usize| bytes[at.saturating_sub(24)..=at].iter().all(|&byte| byte == 0);
    (0..bytes.len()).filter(|&at| !zeros(at) || at % 101 == 0).map(|at| at as u64).collect()
}

/// What flipped bits came to.
#[derive(Debug, Default)]
struct Flips {
    tried: u64,
    harmless: u64,
    holes: u64,
    snapshots: u64,
}

impl Flips {
    /// One bit; whatever it was in, no promise is lost and nothing false comes back.
    fn flip(&mut self, lane: &Lane, whole: &Twin, file: &str, offset: u64, bit: u8) {
        let mut disk = lane.disk.clone();
        assert!(disk.flip(file, offset, bit));
        let at = || format!("{file} at {offset}, bit {bit}");
        let found = recover(&mut disk).unwrap_or_else(|error| panic!("{}: {error}", at()));
        let holes = compare(&found, whole).unwrap_or_else(|error| panic!("{}: {error}", at()));
        assert!(found.lost.is_empty() && !found.incomplete, "{}", at());
        assert!(found.report.damage.len() <= 1, "{}", at());
        self.tried += 1;
        self.harmless += u64::from(found.check_whole().is_ok());
        self.holes += u64::from(holes > 0);
        self.snapshots += found.lost_snapshots.len() as u64;
        if holes > 0 && offset.is_multiple_of(16) {
            // What was lost once is known to be lost from then on, and nothing else is.
            let again = recover(&mut disk).expect("it was repaired as far as it can be");
            assert_eq!(again.shards, found.shards, "{}", at());
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_payloads_at_most_and_never_a_promise() {
    let (mut lane, states) = sample();
    let whole = states.last().expect("some");
    let mut flips = Flips::default();
    for file in files(&mut lane.disk, "") {
        for offset in offsets(&mut lane.disk, &file) {
            flips.flip(&lane, whole, &file, offset, (offset % 8) as u8);
        }
    }
    let Flips { harmless, holes, snapshots, .. } = flips;
    assert!(harmless > 900 && holes > 1000 && snapshots > 50, "{flips:?}");
}

#[test]
#[ignore = "needs a release build"]
fn every_bit_flipped_costs_payloads_at_most_and_never_a_promise() {
    let (mut lane, states) = sample();
    let whole = states.last().expect("some");
    let mut flips = Flips::default();
    for file in files(&mut lane.disk, "") {
        for offset in 0..lane.disk.size(&file).expect("it is there") {
            (0..8).for_each(|bit| flips.flip(&lane, whole, &file, offset, bit));
        }
    }
    assert!(flips.tried > 700_000 && flips.holes > 10_000, "{flips:?}");
}

#[test]
fn a_log_torn_at_any_byte_is_a_prefix() {
    // Not sealed, and what follows was never acknowledged: everything behind the cut is zero.
    let mut lane = Lane::new(Options { segment_bytes: 64 << 10, ..tiny() });
    let mut states = vec![(0, lane.twin.clone())];
    let mut end = 0;
    for turn in [write(1, 1, 1, 3), write(2, 1, 1, 1), write(1, 2, 3, 4)] {
        let frame = lane.log.append(None, std::slice::from_ref(&turn));
        lane.twin.apply(None, std::slice::from_ref(&turn));
        end = frame.offset + frame.data.len() as u64;
        states.push((end, lane.twin.clone()));
        lane.store(frame);
    }
    let file = &files(&mut lane.disk, ".log")[0];
    let (mut shortest, mut lost) = (usize::MAX, 0);
    for at in (2 * BLOCK as u64..end).step_by(13) {
        let mut disk = lane.disk.clone();
        let bytes = disk.size(file).expect("it is there");
        disk.cut(file, at);
        disk.write(file, bytes - 1, &[0]).expect("room");
        disk.sync(file).expect("a sync");
        let whole = states.iter().filter(|(end, _)| *end <= at).count();
        match Log::recover(&mut disk, lane.options.clone(), 5) {
            Ok((_, found)) => {
                let found = Twin::of(&found);
                let kept = states.iter().position(|(_, twin)| *twin == found);
                let kept = kept.unwrap_or_else(|| panic!("cut at {at}: not a prefix"));
                assert!(kept + 1 >= whole, "cut at {at}: a whole frame is lost");
                shortest = shortest.min(kept);
                lost += usize::from(kept + 1 < states.len());
            }
            Err(error) => panic!("cut at {at}: {error}"),
        }
    }
    assert!(shortest == 0 && lost > 50);
}

#[test]
fn a_file_that_lost_its_end_is_damaged() {
    let (mut lane, states) = sample();
    let whole = states.last().expect("some");
    let (mut lost, mut kept) = (0, 0);
    for file in files(&mut lane.disk, ".log") {
        let size = lane.disk.size(&file).expect("it is there");
        for at in (0..size).step_by(509) {
            let mut disk = lane.disk.clone();
            disk.cut(&file, at);
            match recover(&mut disk) {
                Err(error) => panic!("{file} cut to {at} bytes: {error}"),
                // Of the newest segment nothing may be left, not even a sign that it was there:
                // then it is as if the file were missing, which only peers can tell.
                Ok(found) if at == 0 && found.report.damage.is_empty() => {}
                Ok(found) => {
                    let holes = compare(&found, whole);
                    let holes = holes.unwrap_or_else(|e| panic!("{file} cut to {at}: {e}"));
                    let cost = holes + found.lost.len();
                    assert!(cost == 0 || !found.report.damage.is_empty(), "{file} cut to {at}");
                    lost += found.lost.len();
                    kept += found.shards.len();
                }
            }
        }
    }
    assert!(lost > 20 && kept > 20, "{lost} lost, {kept} kept");
}

/// Flips a bit within a frame and recovers.
fn damage(lane: &Lane, place: &(String, u64), within: u64) -> RecoveredLane {
    let mut disk = lane.disk.clone();
    assert!(disk.flip(&place.0, place.1 + within, 3));
    recover(&mut disk).expect("one place is damaged")
}

#[test]
fn damage_names_file_offset_shards_and_entries_from_either_copy_of_the_table() {
    let mut lane = Lane::new(tiny());
    lane.turn(&[write(1, 1, 1, 1)]);
    let frame = lane.log.append(None, &[write(7, 1, 1, 2), write(9, 4, 1, 1)]);
    let place = (frame.file.to_string(), frame.offset);
    let body = frame.data.len() as u64;
    lane.twin.apply(None, &[write(7, 1, 1, 2), write(9, 4, 1, 1)]);
    lane.store(frame);
    lane.seal();
    assert!(body >= BLOCK as u64);
    // The header, the table, and the body: 88 bytes, then tables, then payloads.
    for within in [40, 100, 88 + 250] {
        let found = damage(&lane, &place, within);
        let frame = &found.report.damage[0];
        assert_eq!((&frame.file, frame.offset), (&place.0, place.1));
        assert_eq!(frame.shards, Some(vec![ShardId(7), ShardId(9)]));
        let words = frame.to_string();
        assert!(words.contains("shard 7: entries 1 to 2"), "{words}");
        assert_eq!(compare(&found, &lane.twin), Ok(3));
        assert_eq!(found.shards[&ShardId(1)].damaged, []);
    }
}

#[test]
fn an_unattested_last_frame_that_decays_is_cut_and_an_attested_one_is_not() {
    for sealed in [false, true] {
        let mut lane = Lane::new(tiny());
        lane.turn(&[write(1, 1, 1, 1)]);
        let before = lane.twin.clone();
        let frame = lane.log.append(None, &[write(1, 1, 2, 2)]);
        let (file, offset) = (frame.file.to_string(), frame.offset);
        lane.twin.apply(None, &[write(1, 1, 2, 2)]);
        lane.store(frame);
        if sealed {
            lane.seal();
        }
        lane.disk.flip(&file, offset + 300, 1);
        let found = recover(&mut lane.disk).expect("one place is damaged");
        if sealed {
            assert_eq!(compare(&found, &lane.twin), Ok(1));
            assert_eq!(found.report.cut, None);
        } else {
            assert_eq!(Twin::of(&found), before);
            let cut = found.report.cut.expect("it is reported");
            assert_eq!((cut.file, cut.offset), (file, offset));
        }
    }
}

#[test]
fn a_recovery_attests_what_it_keeps() {
    let mut lane = Lane::new(tiny());
    let frame = lane.log.append(None, &[write(1, 1, 1, 1)]);
    let (file, offset) = (frame.file.to_string(), frame.offset);
    lane.twin.apply(None, &[write(1, 1, 1, 1)]);
    lane.store(frame);
    let last = lane.log.sequence();
    let mut lane = lane.reopen();
    assert!(lane.log.sequence() > last + (1 << 20), "no sequence comes twice");
    lane.disk.flip(&file, offset + 100, 1);
    let found = recover(&mut lane.disk).expect("one place is damaged");
    assert_eq!(compare(&found, &lane.twin), Ok(1));
}

#[test]
fn a_value_that_looks_like_a_frame_attests_nothing() {
    // Two logs take the same turns. A block of the second's log is the value of an entry in the
    // first: right in everything but the nonce, at the very place where it says it is.
    let options = Options { segment_bytes: 64 << 10, ..tiny() };
    let mut lane = Lane::open(MemoryDisk::new(), options.clone(), 1).expect("blank");
    let mut other = Lane::open(MemoryDisk::new(), options.clone(), 2).expect("blank");
    lane.turn(&[write(1, 1, 1, 1)]);
    let acked = lane.twin.clone();
    for index in 1..6 {
        other.turn(&[write(1, 1, index, index)]);
    }
    let (offset, file) = (other.last_offset, files(&mut other.disk, ".log").remove(0));
    let forged = other.disk.read(&file, offset, BLOCK).expect("a frame");
    let (shard, mut turn) = write(1, 1, 2, 2);
    let value = |padding: usize| {
        let bytes = [vec![0xaa; padding], forged.clone(), vec![0; 6 * BLOCK]].concat();
        flotilla_raft::Payload::new(bytes)
    };
    turn.entries[0].payload = value(0);
    let probe = lane.log.clone().append(None, &[(shard, turn.clone())]);
    let at = probe.data.windows(BLOCK).position(|bytes| bytes == forged).expect("it is in there");
    turn.entries[0].payload = value((offset - probe.offset) as usize - at);
    let frame = lane.log.append(None, &[(shard, turn)]);
    lane.disk.write(&frame.file, frame.offset, &frame.data).expect("room");
    assert_eq!(lane.disk.read(&frame.file, offset, BLOCK).expect("the value"), forged);
    // All of the frame but its first sector made it to the disk.
    lane.disk.write(&frame.file, frame.offset, &[0; 512]).expect("room");
    let (_, found) = Log::recover(&mut lane.disk, options, 5).expect("a torn tail, no damage");
    assert_eq!(Twin::of(&found), acked);
}

#[test]
fn without_a_segment_what_it_held_is_lost_and_the_rest_is_not() {
    let (mut lane, states) = sample();
    let whole = states.last().expect("some");
    let names = files(&mut lane.disk, ".log");
    assert!(names.len() >= 3);
    for name in &names[..names.len() - 1] {
        let mut disk = lane.disk.clone();
        disk.remove(name).expect("it is there");
        let found = recover(&mut disk).expect("others are there");
        compare(&found, whole).expect("what is there is right");
        assert!(!found.lost.is_empty(), "{name}: its entries are nowhere else");
        let words = found.check_whole().expect_err("something is lost");
        assert!(words.contains("is missing"), "{words}");
    }
}

#[test]
fn both_headers_gone_is_a_missing_segment_also_if_it_is_the_newest() {
    let (mut lane, states) = sample();
    let whole = states.last().expect("some");
    for name in files(&mut lane.disk, ".log") {
        for blank in [false, true] {
            let mut disk = lane.disk.clone();
            if blank {
                disk.write(&name, 0, &[0; 2 * BLOCK]).expect("room");
            } else {
                disk.flip(&name, 20, 1);
                disk.flip(&name, 20 + BLOCK as u64, 1);
            }
            let found = recover(&mut disk).expect("others are there");
            compare(&found, whole).expect("what is there is right");
            let words = found.check_whole().expect_err("no header can be read");
            assert!(words.contains(&name), "{name}: {words}");
            assert!(!found.lost.is_empty());
        }
    }
}

#[test]
fn an_old_life_of_a_recycled_file_is_never_read() {
    let mut lane = Lane::new(Options { spare_segments: 4, ..tiny() });
    for round in 1..40 {
        lane.turn(&[write(1, 1, round, round)]);
        if round % 3 == 0 {
            lane.reset(ShardId(1), &meta(round, 1));
        }
        lane.chores();
        lane = lane.reopen();
    }
    assert!(lane.disk.used_bytes() < 500_000);
}

#[test]
fn another_format_version_is_refused() {
    for version in [1, 2, 4, 1 << 20] {
        refuses_segments_of(version);
    }
}

fn refuses_segments_of(version: u32) {
    let mut lane = Lane::new(tiny());
    lane.turn(&[write(1, 1, 1, 1)]);
    let name = files(&mut lane.disk, ".log").remove(0);
    let mut fields = lane.disk.read(&name, 0, 128).expect("a header");
    fields[8..12].copy_from_slice(&version.to_le_bytes());
    fields[12..16].fill(0);
    // Version 1 covered less.
    let covered = if version == 1 { &fields[..72] } else { &fields[..] };
    let crc = crc_fast::crc32_iscsi(covered);
    fields[12..16].copy_from_slice(&crc.to_le_bytes());
    lane.disk.write(&name, 0, &fields).expect("room");
    let error = recover(&mut lane.disk).expect_err("another version");
    assert_eq!(error, RecoverError::Version { file: name, found: version });
}

#[test]
fn an_empty_frame_that_was_begun_too_early_attests_nothing() {
    let mut lane = Lane::new(tiny());
    let early = [lane.log.append(None, &[write(1, 1, 1, 1)]), lane.log.append(None, &[])];
    for frame in &early {
        crate::support::begin(&mut lane.disk, frame);
        lane.disk.sync(&frame.file).expect("a sync");
        lane.log.written(frame.sequence);
    }
    assert!(lane.log.needs_seal(), "no frame says that the first one was whole");
    lane.seal();
    lane.disk.flip(&early[0].file, early[0].offset, 0);
    let found = recover(&mut lane.disk).expect("most is whole");
    assert!(found.report.cut.is_none() && found.report.damage.len() == 1, "{:?}", found.report);
}

#[test]
fn a_lost_log_beside_snapshots_is_refused() {
    let (mut lane, _) = sample();
    for name in files(&mut lane.disk, ".log") {
        lane.disk.remove(&name).expect("it is there");
    }
    assert!(matches!(recover(&mut lane.disk), Err(RecoverError::MissingLog { .. })));
}

/// The state of a sample whose snapshot was made unusable, which is all that is lost.
fn check_only_the_snapshot_is_lost(found: &RecoveredLane, whole: &Twin) {
    assert_eq!(compare(found, whole), Ok(0));
    assert!(found.lost.is_empty() && !found.snapshots.contains_key(&ShardId(1)));
    assert_eq!(found.lost_snapshots.keys().collect::<Vec<_>>(), [&ShardId(1)]);
}

#[test]
fn without_its_snapshot_a_shard_knows_its_log() {
    let (mut lane, states) = sample();
    let whole = states.last().expect("some");
    for name in files(&mut lane.disk, ".snap") {
        lane.disk.remove(&name).expect("it is there");
    }
    for _ in 0..2 {
        let found = recover(&mut lane.disk).expect("the log is there");
        check_only_the_snapshot_is_lost(&found, whole);
    }
    // Installing a newer one is all it takes.
    let mut lane = Lane::open(lane.disk, tiny(), 6).expect("the log is there");
    lane.reset(ShardId(1), &meta(9, 2));
    lane.chores();
    let lane = lane.reopen();
    assert!(lane.log.snapshot_file(ShardId(1)).is_some());
}

#[test]
fn another_snapshot_under_the_right_name_is_not_taken_for_it() {
    let (mut lane, states) = sample();
    let file = lane.log.snapshot_file(ShardId(1)).expect("one").clone();
    let id = file.name.rsplit('-').next().and_then(|end| end.strip_suffix(".snap"));
    let id = u64::from_str_radix(id.expect("a name ends in the id"), 16).expect("in hex");
    let (mut writer, _) = SnapshotWriter::new(file.shard, file.meta.clone(), id);
    let mut bytes = writer.chunk(b"other", None);
    let (footer, other) = writer.finish();
    let other = other.file;
    assert_eq!((&other.name, other.bytes), (&file.name, file.bytes));
    bytes.extend(footer);
    lane.disk.write(&file.name, 0, &bytes).expect("room");
    let found = recover(&mut lane.disk).expect("the log is there");
    check_only_the_snapshot_is_lost(&found, states.last().expect("some"));
}

#[test]
#[should_panic(expected = "a vote is given once a term")]
fn a_second_vote_in_a_term_is_a_broken_invariant() {
    let mut lane = Lane::new(tiny());
    for replica in [1, 2] {
        let hard_state = HardState { term: Term(1), voted_for: Some(ReplicaId(replica)) };
        let write = Write { seq: WriteSeq(1), hard_state, snapshot: None, entries: Vec::new() };
        lane.turn(&[(ShardId(1), write)]);
    }
}
