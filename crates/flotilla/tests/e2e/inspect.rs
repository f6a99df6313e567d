//! `flotilla inspect` shows what is on a disk, finds what is wrong, and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::SystemTime;

use flotilla_raft::{
    Configuration, Entry, EntryKind, HardState, Index, Payload, ReplicaId, SnapshotMeta, Term,
    Write, WriteSeq,
};
use flotilla_shard::ShardId;
use flotilla_storage::{Disk as _, Log, MemoryDisk, Options};
use serde_json::Value;

use crate::support::flotilla;

const SHARD: ShardId = ShardId(3);

fn write(first: u64, last: u64, snapshot: Option<SnapshotMeta>) -> (ShardId, Write) {
    let entry = |index| Entry {
        index: Index(index),
        term: Term(2),
        kind: EntryKind::Normal,
        payload: Payload::new(vec![index as u8; 100]),
    };
    let hard_state = HardState { term: Term(2), voted_for: Some(ReplicaId(8)) };
    let entries = (first..=last).map(entry).collect();
    (SHARD, Write { seq: WriteSeq(1), hard_state, snapshot: snapshot.map(Box::new), entries })
}

/// Appends a turn; gives back where its frame is.
fn append(disk: &mut MemoryDisk, log: &mut Log, write: (ShardId, Write)) -> (String, u64) {
    let frame = log.append(None, &[write]);
    disk.write(&frame.file, frame.offset, &frame.data).expect("room");
    log.written(frame.sequence);
    (frame.file.to_string(), frame.offset)
}

/// A data directory with a segment and a snapshot; where the last frame with entries is.
fn sample(directory: &Path) -> (PathBuf, PathBuf, u64) {
    let mut disk = MemoryDisk::new();
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    let (mut log, _) = Log::recover(&mut disk, options, 4).expect("blank");
    append(&mut disk, &mut log, write(1, 5, None));
    let configuration = Configuration { voters: vec![ReplicaId(8)], ..Configuration::default() };
    let meta = SnapshotMeta { index: Index(3), term: Term(2), configuration };
    let (mut writer, temporary) = log.snapshot_writer(SHARD, meta.clone());
    let mut bytes = writer.chunk(b"some state, some state, some state", None);
    let (footer, stored) = writer.finish();
    let file = stored.file.clone();
    bytes.extend(footer);
    disk.write(&temporary, 0, &bytes).expect("room");
    disk.rename(&temporary, &file.name).expect("it is there");
    log.snapshot_durable(stored);
    append(&mut disk, &mut log, write(6, 7, Some(meta)));
    let (segment, offset) = append(&mut disk, &mut log, write(8, 9, None));
    let seal = log.seal().expect("something is to be attested");
    disk.write(&seal.file, seal.offset, &seal.data).expect("room");
    for name in disk.list().expect("it lists") {
        let size = disk.size(&name).expect("it is there");
        let bytes = disk.read(&name, 0, size as usize).expect("it is there");
        std::fs::write(directory.join(name), bytes).expect("room");
    }
    (directory.join(segment), directory.join(file.name), offset)
}

fn state(directory: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).expect("it is there");
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        (metadata.modified().expect("it has a time"), std::fs::read(path).expect("it is there"))
    };
    entries.map(|entry| entry.expect("it lists").path()).map(|p| (p.clone(), of(&p))).collect()
}

fn inspect(what: &str, path: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = flotilla();
    let Output { status, stdout, stderr } =
        command.args(["inspect", what]).arg(path).args(more).output().expect("it starts");
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).expect("it prints text"))
}

fn json(what: &str, path: &Path) -> Value {
    let (_, text) = inspect(what, path, &["--json"]);
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn what_is_on_a_disk_is_shown_and_nothing_is_changed() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let (segment, snapshot, _) = sample(directory.path());
    let before = state(directory.path());

    let (code, text) = inspect("log", &segment, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("segment 1") && text.contains("shard 3: entries 6 to 7"), "{text}");
    let log = json("log", &segment);
    assert_eq!(log["frames"].as_array().map(Vec::len), Some(5), "{log}");

    let (code, text) = inspect("snapshot", &snapshot, &[]);
    assert!(code == Some(0) && text.contains("index 3 of term 2"), "{text}");
    assert_eq!(json("snapshot", &snapshot)["chunks"], 1);

    let (code, text) = inspect("dir", directory.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    let dir = json("dir", directory.path());
    let shard = &dir["shards"][0];
    assert_eq!((shard["shard"].as_u64(), shard["last_index"].as_u64()), (Some(3), Some(9)));
    assert_eq!((shard["term"].as_u64(), shard["vote"].as_u64()), (Some(2), Some(8)), "{dir}");
    assert_eq!(state(directory.path()), before);
}

#[test]
fn damage_is_shown_and_nothing_is_changed() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let (segment, snapshot, offset) = sample(directory.path());
    for (file, at) in [(&segment, offset as usize + 300), (&snapshot, 100)] {
        let mut bytes = std::fs::read(file).expect("it is there");
        bytes[at] ^= 1;
        std::fs::write(file, bytes).expect("room");
    }
    let before = state(directory.path());

    for (what, path) in
        [("log", segment.as_path()), ("snapshot", &snapshot), ("dir", directory.path())]
    {
        let (code, text) = inspect(what, path, &[]);
        assert_eq!(code, Some(1), "{what}: {text}");
        assert!(text.contains("! "), "{what}: {text}");
    }
    let dir = json("dir", directory.path());
    assert_eq!(dir["shards"][0]["damaged"], serde_json::json!([8, 9]), "{dir}");
    assert_eq!(dir["damage"][0]["offset"].as_u64(), Some(offset), "{dir}");
    assert_eq!(state(directory.path()), before);

    let (code, text) = inspect("log", &directory.path().join("none"), &[]);
    assert!(code == Some(1) && text.contains("can't look at"), "{text}");
}
