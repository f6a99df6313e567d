//! The machine against dumb twins: what a client of one connection sees, what many clients of one
//! key see, and what retries, lost answers and late attempts must not change.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_kv::{
    Answers, ArgsBuf, ChunkHead, ChunkWriter, EntryWriter, Machine, Origin, Outcome, ReadOutcome,
    Slot, TABLE_VERSION, WHOLE_SHARD,
};
use flotilla_shard::slot_of;

mod schedule;

use schedule::Numbers;

/// A machine that owns every slot, and a client that has one connection to it.
struct Single {
    machine: Machine,
    seq: u64,
    stamp_ms: u64,
}

impl Single {
    fn new() -> Self {
        Self { machine: Machine::new(11, &[(Slot(0), Slot(16383))]), seq: 0, stamp_ms: 1_000 }
    }

    /// Executes a command in an entry of its own, and gives the reply.
    fn run(&mut self, args: &[&[u8]]) -> String {
        self.seq += 1;
        let chunk = chunk_of(&head(1, 1, self.seq - 1), &[(self.seq, args)]);
        let entry = entry_of(self.stamp_ms, &[chunk]);
        let before = self.machine.state_hash();
        self.machine.look_ahead([&entry[..], b"no entry", &entry].into_iter());
        assert_eq!(self.machine.state_hash(), before, "looking changes nothing");
        let mut answers = Answers::default();
        let index = self.machine.applied_index() + 1;
        self.machine.apply(index, &entry, &mut answers).expect("no checkpoint is named");
        let answer = answers.iter().next().expect("one command, one answer");
        text(answers.reply(answer))
    }

    /// Executes a line of words.
    fn line(&mut self, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run(&args)
    }

    /// Reads a line of words at the applied state.
    fn read(&self, line: &str) -> String {
        read_line(&self.machine, line, 0)
    }

    fn tick(&mut self, stamp_ms: u64) {
        self.stamp_ms = stamp_ms;
        let index = self.machine.applied_index() + 1;
        let entry = entry_of(stamp_ms, &[]);
        self.machine.apply(index, &entry, &mut Answers::default()).expect("a tick");
    }
}

fn head(incarnation: u64, epoch: u64, acked: u64) -> ChunkHead {
    let origin = Origin { node: 1, incarnation, nonce: 5, lane: 0 };
    ChunkHead { origin, epoch, acked, floor: acked + 1, unsettled: Some(Vec::new()) }
}

fn slot(args: &[&[u8]]) -> u16 {
    let whole: [&[u8]; 2] = [b"KEYS", b"SCAN"];
    let key = args.get(1).filter(|_| !whole.contains(&args[0]));
    key.map_or(WHOLE_SHARD, |key| slot_of(key).0)
}

fn chunk_of(head: &ChunkHead, commands: &[(u64, &[&[u8]])]) -> Vec<u8> {
    let mut chunk = ChunkWriter::begin(head);
    for (seq, args) in commands {
        chunk.push(*seq, slot(args), 0, false, ArgsBuf::from_slices(args).as_args());
    }
    chunk.finish()
}

fn entry_of(stamp_ms: u64, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut entry = EntryWriter::new(TABLE_VERSION, stamp_ms, None);
    for chunk in chunks {
        entry.push_chunk(chunk);
    }
    entry.finish()
}

fn read_line(machine: &Machine, line: &str, now_ms: u64) -> String {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    let slot = slot(&args);
    let done = machine.read(ArgsBuf::from_slices(&args).as_args(), slot, 0, now_ms, &mut out);
    assert_eq!(done, ReadOutcome::Done);
    text(&out)
}

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).trim_end().replace("\r\n", " ")
}

#[test]
fn commands_of_one_client_agree_with_a_dumb_twin() {
    let mut numbers = Numbers(4);
    let mut single = Single::new();
    let mut twin: BTreeMap<String, (String, Option<u64>)> = BTreeMap::new();
    for step in 0..6_000 {
        single.stamp_ms += numbers.below(4);
        let now = single.stamp_ms;
        twin.retain(|_, (_, at)| at.is_none_or(|at| at > now));
        let key = format!("key:{}", numbers.below(30));
        let value = "v".repeat(numbers.below(40) as usize + 1);
        match numbers.below(8) {
            0 => {
                assert_eq!(single.line(&format!("SET {key} {value}")), "+OK");
                twin.insert(key, (value, None));
            }
            1 => {
                let ttl = numbers.below(60) + 1;
                assert_eq!(single.line(&format!("SET {key} {value} PX {ttl}")), "+OK");
                twin.insert(key, (value, Some(now + ttl)));
            }
            2 => {
                let entry = twin.entry(key.clone()).or_default();
                entry.0.push_str(&value);
                let expected = format!(":{}", entry.0.len());
                assert_eq!(single.line(&format!("APPEND {key} {value}")), expected);
            }
            3 => {
                let expected = format!(":{}", u8::from(twin.remove(&key).is_some()));
                assert_eq!(single.line(&format!("DEL {key}")), expected);
            }
            4 => {
                let ttl = numbers.below(60) + 1;
                let entry = twin.get_mut(&key);
                let expected = format!(":{}", u8::from(entry.is_some()));
                if let Some(entry) = entry {
                    entry.1 = Some(now + ttl);
                }
                assert_eq!(single.line(&format!("PEXPIRE {key} {ttl}")), expected);
            }
            5 => {
                let entry = twin.get_mut(&key).filter(|entry| entry.1.is_some());
                let expected = format!(":{}", u8::from(entry.is_some()));
                if let Some(entry) = entry {
                    entry.1 = None;
                }
                assert_eq!(single.line(&format!("PERSIST {key}")), expected);
            }
            6 if step % 50 == 0 => {
                assert_eq!(single.line("FLUSHALL"), "+OK");
                twin.clear();
            }
            _ => {
                single.tick(now);
                let expected = twin
                    .get(&key)
                    .map_or("_".to_owned(), |(value, _)| format!("${} {value}", value.len()));
                assert_eq!(single.read(&format!("GET {key}")), expected);
            }
        }
    }
    single.tick(single.stamp_ms);
    assert_eq!(single.read("DBSIZE"), format!(":{}", twin.len()), "purging kept up");
}

#[test]
fn sixty_four_clients_increment_one_key_and_none_sees_a_number_twice() {
    let mut machine = Machine::new(11, &[(Slot(0), Slot(16383))]);
    let mut seen = BTreeSet::new();
    for turn in 0..20_u64 {
        let chunks: Vec<Vec<u8>> = (0..4_u32)
            .map(|node| {
                let origin = Origin { node, incarnation: 1, nonce: 5, lane: 0 };
                let head = ChunkHead { origin, ..head(1, 1, turn * 16) };
                let incr: &[&[u8]] = &[b"INCR", b"counter"];
                let commands: Vec<_> = (1..=16).map(|n| (turn * 16 + n, incr)).collect();
                chunk_of(&head, &commands)
            })
            .collect();
        let mut answers = Answers::default();
        machine.apply(turn + 1, &entry_of(turn, &chunks), &mut answers).expect("no checkpoint");
        assert_eq!(answers.len(), 64);
        let replies = answers.iter().map(|answer| text(answers.reply(answer)));
        replies.for_each(|reply| assert!(seen.insert(reply), "each INCR is its own"));
    }
    assert_eq!(read_line(&machine, "GET counter", 0), "$4 1280");
}

#[test]
fn sixty_four_clients_of_many_keys_see_each_key_rise_by_one() {
    const CLIENTS: u64 = 64;
    let mut machine = Machine::new(11, &[(Slot(0), Slot(16383))]);
    let mut numbers = Numbers(8);
    let mut twin: BTreeMap<String, u64> = BTreeMap::new();
    let mut expected: BTreeMap<(u32, u64), String> = BTreeMap::new();
    for turn in 1..=100 {
        // Each client is a node of its own, and some pause.
        let mut chunks = Vec::new();
        for client in 1..=CLIENTS {
            if numbers.below(4) == 0 {
                continue;
            }
            let node = client as u32;
            let origin = Origin { node, incarnation: 1, nonce: client, lane: 0 };
            // Its own key, or one of a hundred that belong to all.
            let key = match numbers.below(5) {
                0 => format!("own:{client}"),
                _ => format!("key:{}", numbers.below(100)),
            };
            let value = twin.entry(key.clone()).or_default();
            *value += 1;
            expected.insert((node, turn), format!(":{value}"));
            let head = ChunkHead { origin, ..head(1, 1, turn - 1) };
            chunks.push(chunk_of(&head, &[(turn, &[b"INCR", key.as_bytes()])]));
        }
        let mut answers = Answers::default();
        machine.apply(turn, &entry_of(turn, &chunks), &mut answers).expect("no checkpoint");
        for answer in &answers {
            let due = expected.remove(&(answer.origin.node, answer.seq));
            assert_eq!(Some(text(answers.reply(answer))), due);
        }
    }
    assert!(expected.is_empty(), "every client got every answer");
    for (key, value) in &twin {
        let value = value.to_string();
        let expected = format!("${} {value}", value.len());
        assert_eq!(read_line(&machine, &format!("GET {key}"), 0), expected);
    }
    assert_eq!(read_line(&machine, "DBSIZE", 0), format!(":{}", twin.len()));
}

/// A node that numbers its commands, loses answers, and sends again.
struct Client {
    origin: Origin,
    epoch: u64,
    next_seq: u64,
    acked: u64,
    /// Sent and not answered.
    unsettled: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    replies: BTreeMap<u64, String>,
    begun: bool,
}

impl Client {
    fn new(node: u32) -> Self {
        Self {
            origin: Origin { node, incarnation: 1, nonce: 9, lane: 0 },
            epoch: 1,
            next_seq: 1,
            acked: 0,
            unsettled: BTreeSet::new(),
            settled: BTreeSet::new(),
            replies: BTreeMap::new(),
            begun: false,
        }
    }

    /// A chunk of new commands, or, after `reconnect`, of all unsettled ones in a new epoch.
    fn chunk(&mut self, reconnect: bool, fresh: u64) -> Vec<u8> {
        let before = self.next_seq;
        self.next_seq += fresh;
        let mut seqs: Vec<u64> = (before..self.next_seq).collect();
        let mut listed = None;
        if reconnect || !self.begun {
            self.epoch += u64::from(self.begun);
            self.begun = true;
            listed = Some(self.unsettled.iter().copied().collect::<Vec<u64>>());
            seqs.splice(0..0, self.unsettled.iter().copied());
        }
        self.unsettled.extend(before..self.next_seq);
        while self.settled.remove(&(self.acked + 1)) {
            self.acked += 1;
        }
        let floor = self.unsettled.first().copied().unwrap_or(self.next_seq);
        let (origin, epoch, acked) = (self.origin, self.epoch, self.acked);
        let mut chunk =
            ChunkWriter::begin(&ChunkHead { origin, epoch, acked, floor, unsettled: listed });
        for seq in seqs {
            let args = ArgsBuf::from_slices(&[b"INCR", b"counter"]);
            chunk.push(seq, slot_of(b"counter").0, 0, false, args.as_args());
        }
        chunk.finish()
    }

    fn settle(&mut self, seq: u64, reply: String) {
        if let Some(before) = self.replies.insert(seq, reply.clone()) {
            assert_eq!(before, reply, "an attempt again gets the same reply");
        }
        if self.unsettled.remove(&seq) {
            self.settled.insert(seq);
        }
    }
}

#[test]
fn every_increment_counts_once_through_lost_chunks_lost_answers_and_late_attempts() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let mut machine = Machine::new(11, &[(Slot(0), Slot(16383))]);
        let mut clients: Vec<Client> = (0..3).map(Client::new).collect();
        let mut late: Vec<Vec<u8>> = Vec::new();
        let mut index = 0;
        for round in 0..200 {
            let ending = round >= 180;
            let mut chunks = Vec::new();
            for client in &mut clients {
                let reconnect = ending || numbers.below(4) == 0;
                let fresh = if ending { 0 } else { numbers.below(4) };
                let chunk = client.chunk(reconnect, fresh);
                if ending || numbers.below(5) != 0 {
                    chunks.push(chunk.clone());
                } else {
                    // What a leader lost, it loses from there on: the stream begins anew.
                    chunks.push(client.chunk(true, 0));
                }
                if numbers.below(3) == 0 {
                    late.push(chunk);
                }
            }
            while !late.is_empty() && numbers.below(2) == 0 {
                let at = numbers.below(late.len() as u64) as usize;
                chunks.push(late.swap_remove(at));
            }
            index += 1;
            let mut answers = Answers::default();
            machine.apply(index, &entry_of(index, &chunks), &mut answers).expect("no checkpoint");
            for answer in &answers {
                let delivered = ending || numbers.below(3) != 0;
                if answer.outcome == Outcome::Void || !delivered {
                    continue;
                }
                let client = &mut clients[answer.origin.node as usize];
                client.settle(answer.seq, text(answers.reply(answer)));
            }
        }
        let sent: u64 = clients.iter().map(|client| client.next_seq - 1).sum();
        let replies: BTreeSet<&String> =
            clients.iter().flat_map(|client| client.replies.values()).collect();
        assert_eq!(replies.len() as u64, sent, "seed {seed}: each has a number of its own");
        let count = read_line(&machine, "GET counter", 0);
        assert!(count.ends_with(&format!(" {sent}")), "seed {seed}: {count} of {sent}");
        assert!(clients.iter().all(|client| client.unsettled.is_empty()));
    }
}

#[test]
fn a_command_is_executed_only_by_the_owner_of_its_slot() {
    let mut machine = Machine::new(11, &[(Slot(0), Slot(99))]);
    let foreign = ArgsBuf::from_slices(&[b"SET", b"foo", b"x"]);
    let mut chunk = ChunkWriter::begin(&head(1, 1, 0));
    chunk.push(1, slot_of(b"foo").0, 0, false, foreign.as_args());
    let entry = entry_of(1, &[chunk.finish()]);
    let mut answers = Answers::default();
    machine.apply(1, &entry, &mut answers).expect("no checkpoint");
    assert_eq!(answers.iter().next().map(|a| a.outcome.clone()), Some(Outcome::NotOwner));
    assert_eq!(machine.key_count(), 0);
    assert_eq!(machine.pending(&head(1, 1, 0).origin).commands, 0, "it has no record");
    let mut out = Vec::new();
    let get = ArgsBuf::from_slices(&[b"GET", b"foo"]);
    let read = machine.read(get.as_args(), slot_of(b"foo").0, 0, 0, &mut out);
    assert_eq!((read, out.len()), (ReadOutcome::NotOwner, 0));
}

#[test]
fn another_generation_of_the_slot_is_another_owner() {
    let mut single = Single::new();
    let set = ArgsBuf::from_slices(&[b"SET", b"foo", b"x"]);
    let mut chunk = ChunkWriter::begin(&head(1, 1, 0));
    chunk.push(1, slot_of(b"foo").0, 1, false, set.as_args());
    let mut answers = Answers::default();
    let entry = entry_of(1, &[chunk.finish()]);
    single.machine.apply(1, &entry, &mut answers).expect("no checkpoint");
    assert_eq!(answers.iter().next().map(|a| a.outcome.clone()), Some(Outcome::NotOwner));
}

#[test]
fn an_older_boot_of_a_node_is_refused_with_what_it_must_exceed() {
    let mut machine = Machine::new(11, &[(Slot(0), Slot(16383))]);
    let set: &[&[u8]] = &[b"SET", b"foo", b"new"];
    let old: &[&[u8]] = &[b"SET", b"foo", b"old"];
    let chunks = [chunk_of(&head(7, 1, 0), &[(1, set)]), chunk_of(&head(6, 9, 0), &[(50, old)])];
    let mut answers = Answers::default();
    machine.apply(1, &entry_of(1, &chunks), &mut answers).expect("no checkpoint");
    let outcomes: Vec<Outcome> = answers.iter().map(|a| a.outcome.clone()).collect();
    assert_eq!(outcomes[1], Outcome::Refused { min_incarnation: 7 });
    assert_eq!(read_line(&machine, "GET foo", 0), "$3 new");
}

#[test]
fn a_key_expires_by_stamps_alone() {
    let mut single = Single::new();
    single.line("SET k v PX 100");
    assert_eq!(single.machine.next_expiry_ms(), Some(1_100));
    assert_eq!(read_line(&single.machine, "GET k", 99_999), "$1 v", "not by the leader's clock");
    assert_eq!(read_line(&single.machine, "PTTL k", 1_030), ":70", "but TTL counts from it");
    let get = ArgsBuf::from_slices(&[b"GET", b"k"]);
    let other = ArgsBuf::from_slices(&[b"GET", b"other"]);
    let size = ArgsBuf::from_slices(&[b"DBSIZE"]);
    for (args, clock, expected) in
        [(&get, 1_099, false), (&get, 1_100, true), (&other, 1_100, false), (&size, 1_100, true)]
    {
        assert_eq!(single.machine.touches_expiry_between(args.as_args(), clock), expected);
    }
    single.tick(1_100);
    assert_eq!(single.read("GET k"), "_");
    assert_eq!((single.machine.key_count(), single.machine.next_expiry_ms()), (0, None));
}

#[test]
fn a_mass_expiry_is_purged_over_several_entries_and_never_shows() {
    let mut single = Single::new();
    for n in 0..1_000 {
        single.line(&format!("SET key:{n} v PXAT 5000"));
    }
    single.tick(5_000);
    assert_eq!(single.read("KEYS *"), "*0");
    assert!(single.machine.key_count() > 500, "an entry purges a bounded number");
    let size = ArgsBuf::from_slices(&[b"DBSIZE"]);
    assert!(!single.machine.touches_expiry_between(size.as_args(), 5_010), "no endless ticks");
    (0..8).for_each(|n| single.tick(5_001 + n));
    assert_eq!(single.machine.key_count(), 0);
}

#[test]
fn a_leader_with_another_state_is_found_out_at_the_next_checkpoint() {
    let mut machines = [1, 2].map(|_| Machine::new(11, &[(Slot(0), Slot(16383))]));
    for index in 1..=2_048_u64 {
        for (n, machine) in machines.iter_mut().enumerate() {
            let value: &[u8] = if index == 1_500 && n == 1 { b"rotten" } else { b"v" };
            let key = index.to_string();
            let args: &[&[u8]] = &[b"SET", key.as_bytes(), value];
            let chunk = chunk_of(&head(1, 1, index - 1), &[(index, args)]);
            let entry = entry_of(index, &[chunk]);
            machine.apply(index, &entry, &mut Answers::default()).expect("no checkpoint named");
        }
        if index == 1_499 {
            assert_eq!(machines[0].checkpoint(), machines[1].checkpoint());
            assert_eq!(machines[0].checkpoint().map(|at| at.0), Some(1_024));
        }
    }
    let check = machines[0].checkpoint();
    let entry = EntryWriter::new(TABLE_VERSION, 3_000, check).finish();
    let [good, rotten] = &mut machines;
    good.apply(2_049, &entry, &mut Answers::default()).expect("its own checkpoint");
    let diverged = rotten.apply(2_049, &entry, &mut Answers::default()).expect_err("differs");
    assert_eq!((diverged.index, Some((2_048, diverged.theirs))), (2_048, check));
    assert_eq!(rotten.applied_index(), 2_048, "nothing was applied");
}

#[test]
#[should_panic(expected = "stamps never go back")]
fn a_stamp_that_goes_back_stops_the_machine() {
    let mut single = Single::new();
    single.tick(10);
    single.tick(9);
}

#[test]
fn an_entry_of_rafts_own_counts_and_does_nothing() {
    let mut machine = Machine::new(11, &[]);
    let before = machine.state_hash();
    for index in [1, 2, 1_024] {
        machine.apply(index, &[], &mut Answers::default()).expect("no checkpoint");
    }
    assert_eq!((machine.applied_index(), machine.state_hash()), (1_024, before));
    assert_eq!(machine.checkpoint(), Some((1_024, before)));
}
