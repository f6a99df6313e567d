//! A snapshot written while the machine goes on is the machine at the cut, and what is restored
//! from it goes on like the machine itself.

use std::io::Write;
use std::time::{Duration, Instant};

use flotilla_kv::{
    Answers, ArgsBuf, Audit, Audited, ChunkHead, ChunkWriter, EntryWriter, KeySums, Machine,
    Origin, Part, Restorer, Slot, SlotSet, TABLE_VERSION, WHOLE_SHARD, snapshot,
};
use flotilla_shard::slot_of;

mod schedule;

use schedule::Numbers;

const SEED: u64 = 21;

/// Entries of random commands of three origins that now and then reconnect.
struct Load {
    numbers: Numbers,
    /// How many keys there are, and how long their values may be.
    keys: u64,
    value_len: u64,
    index: u64,
    stamp_ms: u64,
    seq: [u64; 3],
    epoch: [u64; 3],
}

impl Load {
    fn new(seed: u64) -> Self {
        let (numbers, keys, value_len) = (Numbers(seed), 40, 300);
        Self { numbers, keys, value_len, index: 0, stamp_ms: 1, seq: [0; 3], epoch: [1; 3] }
    }

    fn entry(&mut self) -> (u64, Vec<u8>) {
        self.index += 1;
        self.stamp_ms += self.numbers.below(3);
        let mut entry = EntryWriter::new(TABLE_VERSION, self.stamp_ms, None);
        for node in 0..3_usize {
            let reconnects = self.numbers.below(10) == 0;
            self.epoch[node] += u64::from(reconnects);
            let acked = self.seq[node].saturating_sub(self.numbers.below(12));
            let unsettled = (acked + 1..=self.seq[node]).collect();
            let origin = Origin { node: node as u32, incarnation: 2, nonce: 3, lane: 1 };
            let mut chunk = ChunkWriter::begin(&ChunkHead {
                origin,
                epoch: self.epoch[node],
                acked,
                floor: acked + 1,
                unsettled: Some(unsettled),
            });
            for _ in 0..self.numbers.below(6) {
                self.seq[node] += 1;
                let (args, slot) = self.command();
                chunk.push(self.seq[node], slot, 0, false, args.as_args());
            }
            entry.push_chunk(&chunk.finish());
        }
        (self.index, entry.finish())
    }

    fn command(&mut self) -> (ArgsBuf, u16) {
        let key = format!("key:{}", self.numbers.below(self.keys));
        let value = "v".repeat(self.numbers.below(self.value_len) as usize);
        let ttl = (self.numbers.below(80) + 1).to_string();
        let line: Vec<&str> = match self.numbers.below(40) {
            0..10 => vec!["SET", &key, &value],
            10..16 => vec!["SET", &key, &value, "PX", &ttl],
            16..24 => vec!["APPEND", &key, &value],
            24..28 => vec!["DEL", &key],
            28..32 => vec!["PEXPIRE", &key, &ttl],
            32..39 => vec!["GETSET", &key, &value],
            _ => vec!["FLUSHALL"],
        };
        let slot = line.get(1).map_or(WHOLE_SHARD, |key| slot_of(key.as_bytes()).0);
        let args: Vec<&[u8]> = line.iter().map(|word| word.as_bytes()).collect();
        (ArgsBuf::from_slices(&args), slot)
    }
}

fn machine() -> Machine {
    Machine::new(SEED, &[(Slot(0), Slot(8_000)), (Slot(9_000), Slot(16383))])
}

/// What each command of an entry gave.
fn apply(machine: &mut Machine, index: u64, entry: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = Answers::default();
    machine.apply(index, entry, &mut answers).expect("no checkpoint is named");
    answers.iter().map(|answer| answers.reply(answer).to_vec()).collect()
}

/// A whole snapshot of a machine at rest, as one chunk per call.
fn snapshot_of(machine: &mut Machine) -> Vec<Vec<u8>> {
    machine.start_snapshot();
    let mut chunks = Vec::new();
    loop {
        let mut out = Vec::new();
        let complete = machine.walk_snapshot(4_096, &mut out).complete;
        chunks.push(out);
        if complete {
            return chunks;
        }
    }
}

fn restore(chunks: &[Vec<u8>]) -> Machine {
    let mut restorer = Restorer::new(SEED);
    for chunk in chunks {
        restorer.chunk(chunk).expect("written by a machine");
    }
    restorer.finish().expect("written by a machine")
}

#[test]
fn what_is_restored_is_the_machine_at_the_cut_and_goes_on_like_it() {
    for seed in 0..40 {
        let mut load = Load::new(seed);
        let mut original = machine();
        for _ in 0..load.numbers.below(60) {
            let (index, entry) = load.entry();
            apply(&mut original, index, &entry);
        }
        let at_cut = original.state_hash();
        assert_eq!(original.start_snapshot(), original.applied_index());
        let (mut chunks, mut later) = (Vec::new(), Vec::new());
        loop {
            let budget = snapshot::BUDGET_MIN + load.numbers.below(400) as usize;
            let mut out = Vec::new();
            let complete = original.walk_snapshot(budget, &mut out).complete;
            assert!(out.len() <= budget);
            chunks.push(out);
            if complete {
                break;
            }
            if load.numbers.below(3) == 0 {
                let (index, entry) = load.entry();
                let replies = apply(&mut original, index, &entry);
                later.push((index, entry, replies));
            }
        }
        assert!(!original.is_writing_snapshot());
        let mut restored = restore(&chunks);
        assert_eq!(restored.state_hash(), at_cut, "seed {seed}");
        for (index, entry, replies) in later {
            assert_eq!(apply(&mut restored, index, &entry), replies, "seed {seed}");
        }
        assert_eq!(restored.state_hash(), original.state_hash(), "seed {seed}");
        assert_eq!(restored.checkpoint(), original.checkpoint());
        assert_eq!(
            snapshot_of(&mut restored).concat(),
            snapshot_of(&mut original).concat(),
            "seed {seed}: the bytes are of the state alone"
        );
    }
}

/// The parts of a snapshot, each with its bytes.
type Parts = Vec<(Part, Vec<u8>)>;

/// The parts with keys that a snapshot of slots that are `unchanged` may take over: those of which
/// no slot has changed, nor one that they share with a neighbour.
fn keep(parts: &Parts, unchanged: &SlotSet) -> Parts {
    let keys = |part: &&(Part, Vec<u8>)| part.0.slots.is_some();
    let keys: Vec<_> = parts.iter().filter(keys).cloned().collect();
    let slots = |part: &(Part, Vec<u8>)| part.0.slots.expect("it has keys");
    let share_a_slot = |a: &_, b: &_| slots(a).1 == slots(b).0;
    let runs = keys.chunk_by(share_a_slot).filter(|run| {
        let range = slots(&run[0]).0.0..=slots(&run[run.len() - 1]).1.0;
        range.into_iter().all(|slot| unchanged.contains(Slot(slot)))
    });
    runs.flatten().cloned().collect()
}

/// A snapshot that takes over what it may of the `former` one, while entries go on being applied.
fn snapshot_upon(machine: &mut Machine, former: &Parts, since: u64, load: &mut Load) -> Parts {
    machine.start_snapshot();
    let kept = keep(former, &machine.unchanged_since(since));
    let ranges: Vec<_> = kept.iter().filter_map(|(part, _)| part.slots).collect();
    let between = load.numbers.below(3);
    for _ in 0..between {
        let (index, entry) = load.entry();
        apply(machine, index, &entry);
    }
    machine.leave_out(&SlotSet::from_ranges(&ranges));
    let (mut parts, mut bytes) = (Parts::new(), Vec::new());
    loop {
        let walked = machine.walk_snapshot(4_096, &mut bytes);
        parts.extend(walked.part.map(|part| (part, std::mem::take(&mut bytes))));
        if walked.complete {
            break;
        }
        if load.numbers.below(4) == 0 {
            let (index, entry) = load.entry();
            apply(machine, index, &entry);
        }
    }
    let first_keys = parts.iter().position(|(part, _)| part.slots.is_some());
    let at = first_keys.unwrap_or(parts.len() - 1);
    parts.splice(at..at, kept);
    let end = parts.len() - 1;
    parts[at..end].sort_by_key(|(part, _)| part.slots);
    parts
}

#[test]
fn a_snapshot_upon_a_former_one_is_the_machine_at_its_cut() {
    let (mut kept, mut written) = (0, 0);
    for seed in 0..20 {
        let mut load = Load { keys: 300, value_len: 9_000, ..Load::new(seed) };
        let mut original = machine();
        let (mut former, mut since) = (Parts::new(), 0);
        for round in 0..8 {
            if round % 2 == 0 {
                load.keys = if round % 4 == 0 { 300 } else { 20 };
                for _ in 0..load.numbers.below(40) {
                    let (index, entry) = load.entry();
                    apply(&mut original, index, &entry);
                }
            }
            let (at_cut, cut) = (original.state_hash(), original.applied_index());
            let parts = snapshot_upon(&mut original, &former, since, &mut load);
            let bytes: Vec<Vec<u8>> = parts.iter().map(|(_, bytes)| bytes.clone()).collect();
            let restored = restore(&bytes);
            assert_eq!(restored.state_hash(), at_cut, "seed {seed}, round {round}");
            for (part, bytes) in &parts {
                let of_former = former.iter().any(|former| former.1 == *bytes);
                *if of_former { &mut kept } else { &mut written } += 1;
                assert!(bytes.len() <= snapshot::PART_MAX + 4_096);
                assert!(part.slots.is_none_or(|(first, last)| first <= last));
            }
            if load.numbers.below(3) == 0 {
                // A node that restarts here goes on upon the same file.
                original = restored;
                load.index = original.applied_index();
                load.stamp_ms = original.clock_ms();
            }
            (former, since) = (parts, cut);
        }
    }
    assert!(kept > 100 && written > 100, "{kept} parts kept, {written} written");
}

#[test]
fn what_was_restored_is_unchanged_only_since_then() {
    let mut load = Load::new(5);
    let mut original = machine();
    for _ in 0..20 {
        let (index, entry) = load.entry();
        apply(&mut original, index, &entry);
    }
    let mut restored = restore(&snapshot_of(&mut original));
    assert!(restored.unchanged_since(19).is_empty());
    assert_eq!(restored.unchanged_since(20).len(), 16384);
    let (index, entry) = load.entry();
    apply(&mut restored, index, &entry);
    let changed = 16384 - restored.unchanged_since(20).len();
    assert!((1..40).contains(&changed), "{changed} slots");
}

#[test]
fn a_machine_takes_over_what_was_restored() {
    let mut load = Load::new(5);
    let (mut ahead, mut behind) = (machine(), machine());
    for n in 0..100 {
        let (index, entry) = load.entry();
        apply(&mut ahead, index, &entry);
        if n < 30 {
            apply(&mut behind, index, &entry);
        }
    }
    behind.start_snapshot();
    behind.replace(restore(&snapshot_of(&mut ahead)));
    assert!(!behind.is_writing_snapshot());
    while !behind.free(100) {}
    let (index, entry) = load.entry();
    assert_eq!(apply(&mut behind, index, &entry), apply(&mut ahead, index, &entry));
    assert_eq!(behind.state_hash(), ahead.state_hash());
}

#[test]
fn a_value_larger_than_a_chunk_is_written_in_parts_while_it_changes() {
    let mut original = machine();
    let big = vec![b'x'; 1 << 20];
    let mut entry = EntryWriter::new(TABLE_VERSION, 1, None);
    let origin = Origin { node: 1, incarnation: 1, nonce: 1, lane: 0 };
    let head = ChunkHead { origin, epoch: 1, acked: 0, floor: 0, unsettled: Some(Vec::new()) };
    let mut chunk = ChunkWriter::begin(&head);
    let set = ArgsBuf::from_slices(&[b"SET", b"big", &big]);
    chunk.push(1, slot_of(b"big").0, 0, false, set.as_args());
    entry.push_chunk(&chunk.finish());
    apply(&mut original, 1, &entry.finish());
    let at_cut = original.state_hash();
    original.start_snapshot();
    let (mut chunks, mut seq) = (Vec::new(), 1);
    loop {
        let mut out = Vec::new();
        let complete = original.walk_snapshot(64 << 10, &mut out).complete;
        chunks.push(out);
        if complete {
            break;
        }
        seq += 1;
        let words: [&[u8]; 3] = match seq {
            5 => [b"PEXPIRE", b"big", b"100"],
            12 => [b"SET", b"big", b"small"],
            _ => [b"APPEND", b"big", b"tail"],
        };
        let mut entry = EntryWriter::new(TABLE_VERSION, seq, None);
        let mut chunk = ChunkWriter::begin(&head);
        chunk.push(seq, slot_of(b"big").0, 0, false, ArgsBuf::from_slices(&words).as_args());
        entry.push_chunk(&chunk.finish());
        apply(&mut original, seq, &entry.finish());
    }
    assert!(chunks.len() > 16, "{} chunks", chunks.len());
    assert_eq!(restore(&chunks).state_hash(), at_cut);
}

#[test]
fn no_damaged_snapshot_is_restored_and_none_panics() {
    let mut load = Load::new(8);
    let mut original = machine();
    for _ in 0..12 {
        let (index, entry) = load.entry();
        apply(&mut original, index, &entry);
    }
    let bytes = snapshot_of(&mut original).concat();
    restore(std::slice::from_ref(&bytes));
    for end in 0..bytes.len() {
        let mut restorer = Restorer::new(SEED);
        let taken = restorer.chunk(&bytes[..end]);
        assert!(taken.is_err() || restorer.finish().is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let mut restorer = Restorer::new(SEED);
        let taken = restorer.chunk(&flipped);
        assert!(taken.is_err() || restorer.finish().is_err(), "flip at {at}");
        let mut audit = Audit::new();
        let taken = audit.chunk(&flipped, &mut |_| ());
        assert!(taken.is_err() || audit.finish().is_err(), "audited flip at {at}");
    }
    assert!(Restorer::new(SEED + 1).chunk(&bytes).is_err(), "another cluster's");
}

fn audit(chunks: &[Vec<u8>]) -> (Audited, Vec<Vec<u8>>) {
    let (mut audit, mut keys) = (Audit::new(), Vec::new());
    for chunk in chunks {
        audit.chunk(chunk, &mut |item| keys.push(item.key.to_vec())).expect("it was written");
    }
    (audit.finish().expect("it was written"), keys)
}

#[test]
fn an_audit_finds_what_a_restored_machine_has() {
    for seed in 0..40 {
        let mut load = Load::new(seed);
        let mut original = machine();
        for _ in 0..60 {
            let (index, entry) = load.entry();
            apply(&mut original, index, &entry);
        }
        let chunks = snapshot_of(&mut original);
        let (audited, keys) = audit(&chunks);
        assert_eq!(audited.hash_seed, SEED);
        assert_eq!(audited.applied_index, original.applied_index());
        assert_eq!(audited.clock_ms, original.clock_ms());
        assert_eq!(audited.slots, [(Slot(0), Slot(8_000)), (Slot(9_000), Slot(16383))]);
        assert_eq!(audited.live.keys, keys.len() as u64);
        assert_eq!(audited.live.keys + audited.expired_keys, original.key_count());
        let chunks = snapshot_of(&mut restore(&chunks));
        assert_eq!(audit(&chunks), (audited, keys), "seed {seed}");
    }
    let nothing = snapshot_of(&mut machine());
    assert_eq!(audit(&nothing).0.live, KeySums::default());
}

#[test]
fn an_audit_leaves_out_what_has_expired_and_is_not_purged() {
    let mut machine = machine();
    let origin = Origin { node: 1, incarnation: 1, nonce: 1, lane: 0 };
    let count = 2 * flotilla_kv::machine::PURGED_PER_ENTRY as u64;
    let head = ChunkHead { origin, epoch: 1, acked: 0, floor: 0, unsettled: Some(Vec::new()) };
    let mut chunk = ChunkWriter::begin(&head);
    for seq in 1..=count {
        let key = format!("key:{seq}");
        let args = ArgsBuf::from_slices(&[b"SET", key.as_bytes(), b"v", b"PXAT", b"50"]);
        chunk.push(seq, slot_of(key.as_bytes()).0, 0, false, args.as_args());
    }
    let args = ArgsBuf::from_slices(&[b"SET", b"lasting", b"v"]);
    chunk.push(count + 1, slot_of(b"lasting").0, 0, false, args.as_args());
    let mut entry = EntryWriter::new(TABLE_VERSION, 1, None);
    entry.push_chunk(&chunk.finish());
    apply(&mut machine, 1, &entry.finish());
    apply(&mut machine, 2, &EntryWriter::new(TABLE_VERSION, 50, None).finish());
    let (audited, keys) = audit(&snapshot_of(&mut machine));
    assert_eq!(keys, [b"lasting"]);
    assert_eq!((audited.live.keys, audited.live.bytes), (1, 8));
    assert_eq!(audited.expired_keys, machine.key_count() - 1);
    assert!(audited.expired_keys > 0, "not all were purged at once");
}

#[test]
fn a_cancelled_snapshot_leaves_no_trace() {
    let mut load = Load::new(3);
    let (mut one, mut two) = (machine(), machine());
    for n in 0..60 {
        let (index, entry) = load.entry();
        apply(&mut one, index, &entry);
        apply(&mut two, index, &entry);
        match n {
            20 => drop(one.start_snapshot()),
            25 => assert!(!one.walk_snapshot(300, &mut Vec::new()).complete),
            40 => one.cancel_snapshot(),
            _ => {}
        }
    }
    assert_eq!(one.state_hash(), two.state_hash());
    assert_eq!(snapshot_of(&mut one).concat(), snapshot_of(&mut two).concat());
}

/// Run it in the release profile: `cargo test --release -p flotilla-kv -- --ignored`.
#[test]
#[ignore = "measures time: 100 MB of data, as the bound on a turn is stated"]
fn no_call_takes_longer_than_a_turn_may() {
    let mut machine = machine();
    let value = [b'v'; 100];
    let origin = Origin { node: 1, incarnation: 1, nonce: 1, lane: 0 };
    for index in 1..=1_200_u64 {
        let acked = (index - 1) * 1_000;
        let unsettled = Some(Vec::new());
        let head = ChunkHead { origin, epoch: 1, acked, floor: acked, unsettled };
        let mut chunk = ChunkWriter::begin(&head);
        for seq in acked + 1..=acked + 1_000 {
            let key = format!("key:{seq:08}");
            let args = ArgsBuf::from_slices(&[b"SET", key.as_bytes(), &value]);
            chunk.push(seq, slot_of(key.as_bytes()).0, 0, false, args.as_args());
        }
        let mut entry = EntryWriter::new(TABLE_VERSION, index, None);
        entry.push_chunk(&chunk.finish());
        apply(&mut machine, index, &entry.finish());
    }
    assert!(machine.bytes() > 100 << 20);
    let mut times = walk_times(&mut machine);
    // The work of a call is the same each time; what a busy computer adds to it is not.
    for _ in 0..2 {
        let again = walk_times(&mut machine);
        times.iter_mut().zip(again).for_each(|(time, again)| *time = again.min(*time));
    }
    times.sort_unstable();
    let (calls, median, most) = (times.len(), times[times.len() / 2], times[times.len() - 1]);
    writeln!(std::io::stderr(), "{calls} calls, median {median:?}, most {most:?}").expect("stderr");
    assert!(most.as_millis() < 5, "{most:?}");
}

/// How long each call of a whole snapshot takes.
#[expect(clippy::disallowed_methods, reason = "it measures, and decides nothing")]
fn walk_times(machine: &mut Machine) -> Vec<Duration> {
    machine.start_snapshot();
    let (mut times, mut out) = (Vec::new(), Vec::with_capacity(256 << 10));
    let mut complete = false;
    while !complete {
        out.clear();
        let start = Instant::now();
        complete = machine.walk_snapshot(256 << 10, &mut out).complete;
        times.push(start.elapsed());
    }
    times
}
