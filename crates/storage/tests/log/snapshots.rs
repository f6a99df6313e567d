//! Snapshot files: what is written comes back by number, damage is found, the newest one counts.

use flotilla_raft::Index;
use flotilla_shard::ShardId;
use flotilla_storage::{Disk, MemoryDisk, SnapshotReader, SnapshotWriter};

use crate::support::{Lane, Random, files, meta, small, store_snapshot, write};

const SHARD: ShardId = ShardId(3);

/// A file of three chunks: compressible, empty, and random.
fn sample() -> (MemoryDisk, String, Vec<Vec<u8>>) {
    let mut random = Random(1);
    let noise: Vec<u8> = (0..500).map(|_| random.next() as u8).collect();
    let chunks = vec![vec![7; 3000], Vec::new(), noise];
    let (mut writer, name) = SnapshotWriter::new(SHARD, meta(4, 2), 99);
    let mut bytes = Vec::new();
    for chunk in &chunks {
        bytes.extend(writer.chunk(chunk, None));
    }
    let (footer, _) = writer.finish();
    bytes.extend(footer);
    assert!(bytes.len() < 1200, "the first chunk is compressed");
    let mut disk = MemoryDisk::new();
    disk.write(&name, 0, &bytes).expect("room");
    (disk, name, chunks)
}

#[test]
fn chunks_come_back_by_number() {
    let (mut disk, name, chunks) = sample();
    let (found, reader) = SnapshotReader::open(&mut disk, &name).expect("it is whole");
    assert_eq!((found, reader.chunks(), reader.shard()), (meta(4, 2), 3, SHARD));
    for number in [2, 0, 1] {
        let chunk = reader.read(&mut disk, number).expect("it is whole");
        assert_eq!(chunk.as_ref(), Some(&chunks[number as usize]));
    }
    assert_eq!(reader.read(&mut disk, 3), Ok(None));
    assert_eq!(reader.read(&mut disk, u32::MAX), Ok(None));
    reader.verify(&mut disk).expect("it is whole");
}

#[test]
fn a_snapshot_without_chunks_is_whole() {
    let (writer, name) = SnapshotWriter::new(SHARD, meta(1, 1), 5);
    let (bytes, stored) = writer.finish();
    let mut disk = MemoryDisk::new();
    disk.write(&name, 0, &bytes).expect("room");
    let (_, reader) = SnapshotReader::open(&mut disk, &name).expect("it is whole");
    assert_eq!((reader.read(&mut disk, 0), stored.file.bytes), (Ok(None), bytes.len() as u64));
    reader.verify(&mut disk).expect("it is whole");
}

#[test]
fn a_flipped_bit_or_a_cut_anywhere_is_found() {
    let (disk, name, chunks) = sample();
    let size = disk.used_bytes();
    let opens = |disk: &mut MemoryDisk| {
        let (found, reader) = SnapshotReader::open(disk, &name)?;
        assert_eq!(found, meta(4, 2));
        let mut damaged = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            match reader.read(disk, number as u32) {
                Ok(found) => assert_eq!(found.as_ref(), Some(chunk)),
                Err(_) => damaged += 1,
            }
        }
        assert_eq!(damaged, 1, "damage in one place is damage of one chunk");
        reader.verify(disk)
    };
    for offset in 0..size {
        let mut flipped = disk.clone();
        flipped.flip(&name, offset, (offset % 8) as u8);
        let error = opens(&mut flipped).expect_err("a bit is flipped");
        assert!(error.to_string().contains(&name));
        let mut cut = disk.clone();
        cut.cut(&name, offset);
        SnapshotReader::open(&mut cut, &name).expect_err("the end is missing");
    }
}

#[test]
fn an_older_snapshot_never_replaces_a_newer_one() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(3, 1, 1, 9)]);
    let late = store_snapshot(&mut lane.disk, &mut lane.log, SHARD, &meta(4, 1), &[b"old"]);
    lane.reset(SHARD, &meta(8, 1));
    lane.log.snapshot_durable(late.clone());
    assert_eq!(lane.log.snapshot_file(SHARD).map(|file| file.meta.index), Some(Index(8)));
    lane.chores();
    assert!(!files(&mut lane.disk, ".snap").contains(&late.file.name));
    let lane = lane.reopen();
    assert_eq!(lane.log.snapshot_file(SHARD).map(|file| file.meta.index), Some(Index(8)));
}

#[test]
fn a_replaced_file_goes_when_that_is_attested_and_nobody_holds_it() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(3, 1, 1, 9)]);
    lane.reset(SHARD, &meta(4, 1));
    let old = lane.log.snapshot_file(SHARD).expect("one").name.clone();
    lane.log.hold_snapshot(&old);
    lane.reset(SHARD, &meta(6, 1));
    lane.chores();
    assert!(files(&mut lane.disk, ".snap").contains(&old), "not attested yet");
    lane.seal();
    lane.chores();
    assert!(files(&mut lane.disk, ".snap").contains(&old), "held");
    assert!(lane.log.snapshot_at(SHARD, Index(4)).is_some());
    lane.log.release_snapshot(&old);
    lane.chores();
    assert_eq!(files(&mut lane.disk, ".snap").len(), 1);
    assert!(lane.log.snapshot_at(SHARD, Index(4)).is_none());
}

#[test]
fn unfinished_and_unnamed_files_go_at_recovery() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(3, 1, 1, 9)]);
    lane.reset(SHARD, &meta(4, 1));
    lane.snapshot(SHARD, &meta(8, 1), &[b"never used"]);
    lane.disk.write("shard-3-x.snap.tmp", 0, b"torn").expect("room");
    let mut lane = lane.reopen();
    assert_eq!(files(&mut lane.disk, ".tmp").len(), 0);
    assert_eq!(files(&mut lane.disk, ".snap").len(), 1);
    assert_eq!(lane.log.snapshot_file(SHARD).map(|file| file.meta.index), Some(Index(4)));
}

#[test]
#[should_panic(expected = "a snapshot is durable before a log begins at it")]
fn a_log_never_begins_at_a_snapshot_that_is_not_durable() {
    let mut lane = Lane::new(small());
    lane.turn(&[write(3, 1, 1, 9)]);
    let (shard, mut turn) = write(3, 1, 10, 10);
    turn.snapshot = Some(Box::new(meta(4, 1)));
    lane.turn(&[(shard, turn)]);
}
