//! The log and snapshots on a real directory, written inline and by the writer thread.

mod injected;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_node::{ReadChunk, SnapshotChunk, WriteBatch};
use flotilla_raft::{
    Configuration, Entry, EntryKind, HardState, Index, Payload, ReplicaId, SnapshotMeta, Term,
    Write, WriteSeq,
};
use flotilla_shard::ShardId;
use flotilla_storage::{Log, Options, RecoveredLane, SnapshotFile};
use mio::{Poll, Token, Waker};

use crate::disk::FileDisk;
use crate::frames::Frames;
use crate::helper::{self, Answer, Job};
use crate::probe::{Probe, WriteMode};

const SHARD: ShardId = ShardId(1);

fn recover(directory: &Path, mode: WriteMode, seed: u64) -> (Log, RecoveredLane) {
    recover_with(directory, mode, seed, 64 << 10)
}

fn recover_with(
    directory: &Path,
    mode: WriteMode,
    seed: u64,
    segment_bytes: u64,
) -> (Log, RecoveredLane) {
    let mut disk = FileDisk::new(directory, mode);
    let options = Options { segment_bytes, ..Options::default() };
    Log::recover(&mut disk, options, seed).expect("the log is whole")
}

/// A batch with one entry.
pub(crate) fn batch(sequence: u64) -> WriteBatch {
    let entry = Entry {
        index: Index(sequence),
        term: Term(1),
        kind: EntryKind::Normal,
        payload: Payload::new(vec![sequence as u8; 3_000]),
    };
    let write = Write {
        seq: WriteSeq(sequence),
        hard_state: HardState { term: Term(1), voted_for: Some(ReplicaId(1)) },
        snapshot: None,
        entries: vec![entry],
    };
    let (removed, renewed) = (Vec::new(), Vec::new());
    WriteBatch { sequence, node_state: None, removed, renewed, writes: vec![(SHARD, write)] }
}

/// Looks until `look` gives something; panics if that takes too long.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain");
        std::thread::yield_now();
    }
}

fn waker(poll: &Poll) -> Arc<Waker> {
    Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"))
}

#[test]
fn frames_come_back_however_they_were_written() {
    let poll = Poll::new().expect("readiness is known here");
    let waker = waker(&poll);
    let directory = tempfile::tempdir().expect("a directory for the test");
    let probe = Probe::look_at(directory.path()).expect("it is writable");
    let slow_disk_micros = 1_000;
    for (name, mode, sync_micros) in [
        ("inline", probe.mode, 0),
        ("thread", probe.mode, slow_disk_micros),
        ("synced", WriteMode::WriteThenSync, 0),
        ("synced by the thread", WriteMode::WriteThenSync, slow_disk_micros),
    ] {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).expect("there is room");
        let (log, lane) = recover(&path, mode, 7);
        assert!(lane.fresh);
        let disk = FileDisk::new(&path, mode);
        let mut frames = Frames::new(log, disk, sync_micros, waker.clone()).expect("a thread");
        let count = 60;
        for sequence in 1..=count {
            frames.append(&batch(sequence)).expect("there is room");
            let written = wait_for(|| {
                frames.collect().expect("there is room");
                frames.next_written()
            });
            assert_eq!(written, sequence);
        }
        assert!(frames.seal_due().is_some(), "the last frame is not attested");
        frames.finish().expect("there is room");
        let (_, lane) = recover(&path, mode, 8);
        assert_eq!(lane.shards[&SHARD].entries.len() as u64, count, "{name}");
        assert_eq!(lane.report.cut, None);
    }
}

fn chunk(content: &[u8]) -> SnapshotChunk {
    SnapshotChunk { slots: None, content: content.to_vec() }
}

#[test]
fn a_snapshot_is_written_completed_and_read_by_the_helper() {
    let poll = Poll::new().expect("readiness is known here");
    let directory = tempfile::tempdir().expect("a directory for the test");
    let mode = Probe::look_at(directory.path()).expect("it is writable").mode;
    let (mut log, _) = recover(directory.path(), mode, 7);
    let helper = helper::start(FileDisk::new(directory.path(), mode), waker(&poll));
    let helper = helper.expect("a thread");
    let give = |job| helper.give(job).expect("the thread runs");
    let answer = || wait_for(|| helper.take().expect("the thread runs"));

    let configuration = Configuration { voters: vec![ReplicaId(1)], ..Configuration::default() };
    let meta = SnapshotMeta { index: Index(5), term: Term(1), configuration };
    for complete in [false, true] {
        let (writer, name) = log.snapshot_writer(SHARD, meta.clone());
        give(Job::Begin { shard: SHARD, writer: Box::new(writer), name, upon: None });
        give(Job::Append { shard: SHARD, chunk: chunk(&[1; 10_000]) });
        assert!(matches!(answer(), Answer::Appended { .. }));
        if !complete {
            give(Job::Abort { shard: SHARD });
        }
    }
    give(Job::Append { shard: SHARD, chunk: chunk(b"second") });
    assert!(matches!(answer(), Answer::Appended { .. }));
    give(Job::Finish { shard: SHARD });
    let Answer::Stored(stored) = answer() else { panic!("it is complete") };
    let file = stored.file;
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("it is there")
        .map(|entry| entry.expect("it is there").file_name().into_string().expect("plain"))
        .filter(|name| name.contains("snap"))
        .collect();
    assert_eq!(names, std::slice::from_ref(&file.name), "what was dropped is gone");

    let expected = [Some(chunk(&[1; 10_000])), Some(chunk(b"second")), None];
    for (number, expected) in (0..).zip(expected) {
        give(Job::Read { file: Box::new(file.clone()), number });
        let Answer::Chunk { result, .. } = answer() else { panic!("it was read") };
        let digest = file.digest;
        assert_eq!(result, Ok(ReadChunk { digest, chunks: 2, chunk: expected }));
    }
    let gone = SnapshotFile { name: "gone.snap".to_owned(), ..file };
    give(Job::Read { file: Box::new(gone), number: 0 });
    let Answer::Chunk { result, .. } = answer() else { panic!("the lane is told") };
    assert!(result.expect_err("there is no such file").contains("gone.snap"));
}
