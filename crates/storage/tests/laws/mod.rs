//! What must hold whatever the bytes on a disk are: the same laws for tests and for fuzzing.

use std::sync::OnceLock;

use flotilla_raft::{
    Configuration, Entry, EntryKind, HardState, Index, Payload, ReplicaId, SnapshotMeta, Term,
    Write, WriteSeq,
};
use flotilla_shard::ShardId;
use flotilla_storage::{
    BLOCK, Disk, FrameWrite, Log, MemoryDisk, Options, SnapshotReader, SnapshotWriter,
    StoredSnapshot, describe_table, examine, inspect_segment,
};

const SEGMENT_BYTES: usize = 6 * BLOCK;

fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES as u64, spare_segments: 0, ..Options::default() }
}

/// Takes numbers off the front of the bytes; zeros when they have ended.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn entry(index: u64, term: u64) -> Entry {
    let kind = if index.is_multiple_of(5) { EntryKind::Configuration } else { EntryKind::Normal };
    let payload = Payload::new(vec![index as u8; (index * 37 % 200) as usize]);
    Entry { index: Index(index), term: Term(term), kind, payload }
}

fn write(shard: u32, term: u64, first: u64, last: u64) -> (ShardId, Write) {
    let hard_state = HardState { term: Term(term), voted_for: Some(ReplicaId(1)) };
    let entries = (first..=last).map(|index| entry(index, term)).collect();
    (ShardId(shard), Write { seq: WriteSeq(1), hard_state, snapshot: None, entries })
}

fn append(disk: &mut MemoryDisk, log: &mut Log, writes: &[(ShardId, Write)]) {
    let frame = log.append(Some(b"node"), writes);
    store(disk, log, &frame);
}

fn store(disk: &mut MemoryDisk, log: &mut Log, frame: &FrameWrite) {
    if let Some(bytes) = frame.create {
        disk.create(&frame.file, bytes).expect("room");
    }
    disk.write_durable(&frame.file, frame.offset, &frame.data).expect("room");
    log.written(frame.sequence);
}

fn store_snapshot(disk: &mut MemoryDisk, log: &mut Log, index: u64, term: u64) -> StoredSnapshot {
    let configuration = Configuration { voters: vec![ReplicaId(1)], ..Configuration::default() };
    let meta = SnapshotMeta { index: Index(index), term: Term(term), configuration };
    let (mut writer, temporary) = log.snapshot_writer(ShardId(1), meta);
    let mut bytes = writer.chunk(&[3; 500], None);
    bytes.extend(writer.chunk(b"more", None));
    let (footer, stored) = writer.finish();
    bytes.extend(footer);
    disk.write(&temporary, 0, &bytes).expect("room");
    disk.sync(&temporary).expect("a sync");
    disk.rename(&temporary, &stored.file.name).expect("it is there");
    disk.sync_directory().expect("a sync");
    stored
}

/// A disk with some segments and a snapshot, and the files on it.
fn sample() -> &'static (MemoryDisk, Vec<String>) {
    static SAMPLE: OnceLock<(MemoryDisk, Vec<String>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let mut disk = MemoryDisk::new();
        let (mut log, _) = Log::recover(&mut disk, options(), 11).expect("blank");
        append(&mut disk, &mut log, &[write(1, 1, 1, 6), write(2, 1, 1, 3)]);
        append(&mut disk, &mut log, &[write(1, 2, 5, 8)]);
        let stored = store_snapshot(&mut disk, &mut log, 4, 1);
        let meta = stored.file.meta.clone();
        log.snapshot_durable(stored);
        let (shard, mut reset) = write(1, 2, 9, 9);
        reset.snapshot = Some(Box::new(meta));
        append(&mut disk, &mut log, &[(shard, reset)]);
        for term in 3..6 {
            append(&mut disk, &mut log, &[write(2, term, term, term + 1), write(3, term, 1, 2)]);
        }
        if let Some(seal) = log.seal() {
            store(&mut disk, &mut log, &seal);
        }
        let names = disk.list().expect("it lists");
        (disk, names)
    })
}

/// Whatever is on a disk, recovery comes to an end, says the same again, and what it keeps it
/// keeps. Gives back whether it kept anything.
fn recovers(mut disk: MemoryDisk) -> bool {
    for name in disk.list().expect("it lists") {
        if name.starts_with("segment-") {
            inspect_segment(&mut disk, &name).expect("a disk in memory can be read");
        }
    }
    let seen = examine(&mut disk);
    let first = Log::recover(&mut disk, options(), 5);
    let (Ok(seen), Ok((mut log, first))) = (&seen, first) else {
        assert!(seen.is_err(), "what can be examined can be recovered");
        return false;
    };
    assert_eq!((&seen.shards, &seen.lost), (&first.shards, &first.lost));
    // The log goes on with one shard more, and its state stays.
    let is_new =
        |shard: &ShardId| !first.shards.contains_key(shard) && !first.lost.contains_key(shard);
    let new = (7..u32::MAX).map(ShardId).find(is_new).expect("there are few shards");
    let frame = log.append(None, &[write(new.0, 1, 1, 1)]);
    store(&mut disk, &mut log, &frame);
    let (_, mut again) = Log::recover(&mut disk, options(), 6).expect("it was recovered");
    let added = again.shards.remove(&new).expect("what was added is there");
    assert_eq!(added.entries, write(new.0, 1, 1, 1).1.entries);
    assert_eq!((&again.shards, &again.node_state), (&first.shards, &first.node_state));
    assert_eq!(again.incomplete, first.incomplete);
    assert!(again.lost.keys().eq(first.lost.keys()));
    !first.shards.is_empty()
}

/// A disk image with any places overwritten.
pub(crate) fn images(bytes: &[u8]) -> bool {
    let (disk, names) = sample();
    let (mut disk, mut words) = (disk.clone(), Words(bytes));
    while !words.is_empty() {
        let name = &names[usize::from(words.byte()) % names.len()];
        let size = disk.size(name).expect("it is there") as usize;
        let (offset, length) = (words.word() % size, usize::from(words.byte() % 64));
        let patch = words.bytes(length.min(size - offset));
        disk.write_durable(name, offset as u64, patch).expect("room");
    }
    recovers(disk)
}

/// A segment whose checksums are right and whose tables and bodies are anything.
pub(crate) fn segments(bytes: &[u8]) -> bool {
    let mut words = Words(bytes);
    let mut file = segment_head();
    let mut previous: Vec<u8> = Vec::new();
    for sequence in 1..6_u64 {
        let (length, flags) = (words.word() % 600, u32::from(words.byte()));
        let table = words.bytes(length).to_vec();
        let length = words.word() % 600;
        let body = words.bytes(length);
        // Mostly what a log would say: a checkpoint first, and the table before is repeated.
        let flags = u32::from(sequence == 1) ^ (flags & 2);
        let repeated = if flags & 2 == 0 { &previous[..] } else { &[] };
        frame(&mut file, sequence, flags, &table, repeated, body);
        previous = table;
    }
    file.resize(SEGMENT_BYTES, 0);
    let mut disk = MemoryDisk::new();
    disk.write("segment-000001.log", 0, &file).expect("room");
    disk.sync("segment-000001.log").expect("a sync");
    disk.sync_directory().expect("a sync");
    recovers(disk)
}

/// Bytes for [`segments`] that make a log which contradicts itself nowhere.
pub(crate) fn plausible() -> Vec<u8> {
    fn le(out: &mut Vec<u8>, numbers: &[u64]) {
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    fn state(shard: u8, term: u64) -> Vec<u8> {
        let mut out = vec![2, shard, 0, 0, 0, 0];
        le(&mut out, &[term, 0]);
        out
    }
    fn run(out: &mut Vec<u8>, first: u64, term: u64, last: u64) {
        le(out, &[first]);
        out.extend([1, 0, 0, 0]);
        le(out, &[term]);
        out.push(1);
        le(out, &[last]);
    }
    let mut checkpoint = vec![1, 4, 0, 0, 0, b'n', b'o', b'd', b'e'];
    checkpoint.extend(state(1, 1));
    checkpoint.extend([9, 0]);
    le(&mut checkpoint, &[0, 0, 0, 0]);
    checkpoint.extend([0; 12]);
    le(&mut checkpoint, &[0, 0]);
    checkpoint.push(0);
    let mut entries = state(1, 1);
    entries.push(3);
    le(&mut entries, &[0]);
    run(&mut entries, 1, 1, 2);
    let mut more = state(1, 2);
    more.push(3);
    le(&mut more, &[1]);
    run(&mut more, 2, 2, 2);
    more.push(5);
    run(&mut more, 1, 1, 1);
    let mut out = Vec::new();
    for (table, body) in
        [(checkpoint, &b""[..]), (entries, b"\x02\0\0\0ab\0\0\0\0"), (more, b"\x01\0\0\0x")]
    {
        out.extend((table.len() as u16).to_le_bytes());
        out.push(0);
        out.extend(table);
        out.extend((body.len() as u16).to_le_bytes());
        out.extend(body);
    }
    out
}

const NONCE: u64 = 0x1234;

fn segment_head() -> Vec<u8> {
    let mut block = b"FLOTSEG\0".to_vec();
    block.extend(3_u32.to_le_bytes());
    block.extend([0; 4]);
    for field in [NONCE, 9, 1, SEGMENT_BYTES as u64, 1, 0, 0, 0, 0] {
        block.extend(field.to_le_bytes());
    }
    block.resize(BLOCK, 0);
    let crc = crc_fast::crc32_iscsi(&block[..128]);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    [block.clone(), block].concat()
}

fn frame(file: &mut Vec<u8>, sequence: u64, flags: u32, table: &[u8], again: &[u8], body: &[u8]) {
    let tables = [table, again].concat();
    let mut head = Vec::new();
    for field in [NONCE, 1, file.len() as u64, sequence, sequence - 1, 0, body.len() as u64] {
        head.extend(field.to_le_bytes());
    }
    let crcs = [crc_fast::crc32_iscsi(&tables), crc_fast::crc32_iscsi(body)];
    for field in [table.len() as u32, again.len() as u32, crcs[0], crcs[1], flags, 0] {
        head.extend(field.to_le_bytes());
    }
    file.extend(b"FRME");
    file.extend(crc_fast::crc32_iscsi(&head).to_le_bytes());
    file.extend(head);
    file.extend(tables);
    file.extend(body);
    file.resize(file.len().next_multiple_of(BLOCK), 0);
}

/// A snapshot file with any places overwritten: what comes back is what was written.
pub(crate) fn snapshots(bytes: &[u8]) {
    const CHUNKS: [&[u8]; 3] = [&[7; 900], b"", b"the last chunk"];
    let meta = SnapshotMeta { index: Index(4), term: Term(2), ..SnapshotMeta::default() };
    let (mut writer, _) = SnapshotWriter::new(ShardId(1), meta, 99);
    let mut content: Vec<u8> = CHUNKS.iter().flat_map(|chunk| writer.chunk(chunk, None)).collect();
    let (footer, stored) = writer.finish();
    let file = stored.file;
    content.extend(footer);
    let mut words = Words(bytes);
    if words.byte() % 8 == 1 {
        // Or a file of anything.
        content = words.bytes(usize::MAX).to_vec();
    }
    while !words.is_empty() {
        let offset = words.word() % content.len();
        let length = usize::from(words.byte() % 16).min(content.len() - offset);
        let patch = words.bytes(length);
        content[offset..offset + patch.len()].copy_from_slice(patch);
    }
    let mut disk = MemoryDisk::new();
    disk.write(&file.name, 0, &content).expect("room");
    let Ok((_, reader)) = SnapshotReader::open(&mut disk, &file.name) else { return };
    let whole = reader.verify(&mut disk).is_ok();
    for number in 0..reader.chunks() {
        match reader.read(&mut disk, number) {
            Ok(chunk) if reader.file() == file => {
                assert_eq!(chunk.as_deref(), CHUNKS.get(number as usize).copied());
            }
            Ok(_) => {}
            Err(_) => assert!(!whole, "what was verified can be read"),
        }
    }
}

/// Any bytes as a table.
pub(crate) fn tables(bytes: &[u8]) {
    if let Some(records) = describe_table(bytes) {
        assert!(records.len() <= bytes.len(), "a record takes room");
    }
}
