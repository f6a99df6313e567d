//! Snapshots that build on former ones: what has not changed is not written again, and stays as
//! long as it is needed.

use std::collections::BTreeMap;

use flotilla_raft::{Index, Write, WriteSeq};
use flotilla_shard::{ShardId, Slot};
use flotilla_storage::{Disk, MemoryDisk, SnapshotCopy, SnapshotReader, StoredSnapshot};

use crate::support::{Lane, Random, files, finish_snapshot, meta, small, write};

const SHARD: ShardId = ShardId(3);
/// Slots that have keys, each with a chunk of its own.
const SLOTS: u16 = 40;

/// What each slot has, and the entry that changed it last.
type State = BTreeMap<u16, (u64, Vec<u8>)>;

fn content(random: &mut Random) -> Vec<u8> {
    (0..100 + random.next() % 100).map(|_| random.next() as u8).collect()
}

/// The slots that have not changed since `index`, as ranges.
fn unchanged(state: &State, index: u64) -> Vec<(Slot, Slot)> {
    let mut ranges: Vec<(Slot, Slot)> = Vec::new();
    for slot in (0..SLOTS).filter(|slot| state.get(slot).is_none_or(|(at, _)| *at <= index)) {
        match ranges.last_mut() {
            Some((_, last)) if last.0 + 1 == slot => last.0 = slot,
            _ => ranges.push((Slot(slot), Slot(slot))),
        }
    }
    ranges
}

/// Writes a snapshot of the state upon the newest one; gives back how many slots it wrote.
fn build(lane: &mut Lane, state: &State, index: u64) -> (StoredSnapshot, usize) {
    let since = lane.log.snapshot_file(SHARD).map_or(Index(0), |file| file.meta.index);
    let unchanged = unchanged(state, since.0);
    let (mut writer, temporary) = lane.log.snapshot_writer(SHARD, meta(index, 1));
    let former = lane.log.snapshot_to_build_on(SHARD, since);
    let kept = former.map_or_else(Vec::new, |former| writer.build_on(former, &unchanged));
    let mut bytes = writer.chunk(b"head", None);
    let mut written = 0;
    for (&slot, (_, content)) in state {
        if !kept.iter().any(|range| range.0.0 <= slot && slot <= range.1.0) {
            bytes.extend(writer.chunk(content, Some((Slot(slot), Slot(slot)))));
            written += 1;
        }
    }
    bytes.extend(writer.chunk(b"end", None));
    let stored = finish_snapshot(&mut lane.disk, writer, &temporary, bytes);
    (stored, written)
}

/// The log begins at this snapshot, and says so durably.
fn begin_at(lane: &mut Lane, stored: StoredSnapshot) {
    let snapshot = Some(Box::new(stored.file.meta.clone()));
    lane.log.snapshot_durable(stored);
    let hard_state = lane.twin.shards[&SHARD].hard_state;
    lane.turn(&[(SHARD, Write { seq: WriteSeq(1), hard_state, snapshot, entries: Vec::new() })]);
    lane.seal();
    lane.chores();
}

fn check(lane: &mut Lane, name: &str, state: &State) {
    let (_, reader) = SnapshotReader::open(&mut lane.disk, name).expect("it is whole");
    reader.verify(&mut lane.disk).expect("it is whole");
    let all = (0..reader.chunks()).map(|n| reader.read(&mut lane.disk, n).expect("it is whole"));
    let found: Vec<Vec<u8>> = all.flatten().collect();
    let middle = state.values().map(|(_, content)| content.clone());
    let wanted: Vec<_> =
        std::iter::once(b"head".to_vec()).chain(middle).chain([b"end".to_vec()]).collect();
    assert_eq!(found, wanted);
}

fn change(state: &mut State, random: &mut Random, index: u64, count: u64) {
    for _ in 0..count {
        let slot = (random.next() % u64::from(SLOTS)) as u16;
        state.insert(slot, (index, content(random)));
    }
}

/// A log with some entries, and a state to be built.
fn with_data(seed: u64) -> (Random, Lane, State) {
    let (mut random, mut lane, mut state) = (Random(seed), Lane::new(small()), State::new());
    lane.turn(&[write(3, 1, 1, 9)]);
    change(&mut state, &mut random, 1, 500);
    (random, lane, state)
}

#[test]
fn only_what_has_changed_is_written_and_the_disk_stays_bounded() {
    let mut random = Random(9);
    let mut lane = Lane::new(small());
    lane.turn(&[write(3, 1, 1, 9)]);
    let mut state = State::new();
    change(&mut state, &mut random, 1, 500);
    let data: usize = state.values().map(|(_, content)| content.len()).sum();
    let (mut written, mut named) = (0, 0);
    for round in 1..120_u64 {
        let index = round * 10;
        let count = 1 + random.next() % 3;
        change(&mut state, &mut random, index, count);
        let (stored, wrote) = build(&mut lane, &state, index);
        let file = stored.file.clone();
        begin_at(&mut lane, stored);
        if round.is_multiple_of(7) {
            lane = lane.reopen();
        }
        check(&mut lane, &file.name, &state);
        written += wrote;
        named = named.max(file.bases.len());
        let on_disk = files(&mut lane.disk, ".snap");
        assert_eq!(on_disk.len(), 1 + file.bases.len(), "round {round}: nothing else is kept");
        let bytes: u64 = on_disk.iter().map(|name| lane.disk.size(name).expect("a size")).sum();
        // Each file has a list of all chunks, which is large beside chunks as small as these.
        let lists = 9 * (400 + 34 * u64::from(SLOTS + 2) + 8 * 32);
        assert!(bytes < data as u64 * 3 / 2 + lists, "round {round}: {bytes} of {data}");
    }
    assert!(written < 120 * 20, "{written} of {} slots were written", 119 * 40);
    assert!(named > 2, "{named} files are the most that one named");
}

#[test]
fn a_base_that_is_missing_or_another_makes_the_snapshot_unusable() {
    let (mut random, mut lane, mut state) = with_data(4);
    let (first, _) = build(&mut lane, &state, 10);
    let base = first.file.name.clone();
    begin_at(&mut lane, first);
    state.insert(5, (20, content(&mut random)));
    let (second, written) = build(&mut lane, &state, 20);
    let name = second.file.name.clone();
    assert_eq!((written, second.file.bases.len()), (1, 1));
    begin_at(&mut lane, second);
    let whole = lane.disk.clone();
    let size = lane.disk.size(&base).expect("a size");
    lane.disk.flip(&base, 200, 1);
    let (_, reader) = SnapshotReader::open(&mut lane.disk, &name).expect("chunks are read later");
    let error = reader.verify(&mut lane.disk).expect_err("a bit is flipped");
    assert!(error.to_string().contains(&base), "{error}");
    lane.disk = whole.clone();
    lane.disk.cut(&base, size - 1);
    SnapshotReader::open(&mut lane.disk, &name).expect_err("the base is shorter");
    lane.disk = whole.clone();
    lane.disk.remove(&base).expect("it is there");
    let mut lane = lane.reopen();
    assert!(lane.log.snapshot_file(SHARD).is_none(), "it is lost, and known to be");
    let (third, written) = build(&mut lane, &state, 30);
    assert_eq!((written, third.file.bases.len()), (state.len(), 0));
    begin_at(&mut lane, third);
    let lane = lane.reopen();
    assert_eq!(lane.log.snapshot_file(SHARD).map(|file| file.meta.index), Some(Index(30)));
}

#[test]
fn a_copy_needs_no_other_file() {
    let (_, mut lane, mut state) = with_data(5);
    let (first, _) = build(&mut lane, &state, 10);
    begin_at(&mut lane, first);
    state.insert(5, (20, vec![7; 500]));
    let (second, _) = build(&mut lane, &state, 20);
    let name = second.file.name.clone();
    assert_eq!(second.file.bases.len(), 1);
    begin_at(&mut lane, second);
    let (_, reader) = SnapshotReader::open(&mut lane.disk, &name).expect("it is whole");
    let mut copy = SnapshotCopy::new(reader);
    let (size, mut bytes) = (copy.size(), Vec::new());
    while let Some(piece) = copy.next(&mut lane.disk).expect("it is whole") {
        bytes.extend(piece);
    }
    assert_eq!(bytes.len() as u64, size);
    lane.disk = MemoryDisk::new();
    lane.disk.write(&name, 0, &bytes).expect("room");
    check(&mut lane, &name, &state);
}

#[test]
fn a_base_stays_while_an_older_snapshot_is_held() {
    let (mut random, mut lane, mut state) = with_data(6);
    let (first, _) = build(&mut lane, &state, 10);
    begin_at(&mut lane, first);
    state.insert(5, (20, content(&mut random)));
    let (second, _) = build(&mut lane, &state, 20);
    let name = second.file.name.clone();
    begin_at(&mut lane, second);
    lane.log.hold_snapshot(&name);
    let held = state.clone();
    change(&mut state, &mut random, 30, 2_000);
    let (third, written) = build(&mut lane, &state, 30);
    assert_eq!((written, third.file.bases.len()), (state.len(), 0));
    begin_at(&mut lane, third);
    check(&mut lane, &name, &held);
    assert_eq!(files(&mut lane.disk, ".snap").len(), 3);
    lane.log.release_snapshot(&name);
    lane.chores();
    assert_eq!(files(&mut lane.disk, ".snap").len(), 1);
}
