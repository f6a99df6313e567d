//! Snapshots in chunks: over a network that does everything to them, between hosts that die; and
//! each promise of `flotilla_raft::chunks` by itself.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::chunks::{
    ChunkMessage, ChunkNumber, Crc, Cutter, Manifest, NAMED_ABOVE, Outcome, Outline, Receiver,
    ReceiverConfig, ReceiverTask, Sender, SenderConfig, SenderTask, Session, SnapshotName,
};
use flotilla_raft::{Configuration, Index, Payload, ReplicaId, SnapshotMeta, Term, Time};

const MS: u64 = 1000;
const SENDER: SenderConfig = SenderConfig { window: 3, retry: 100 * MS, patience: 1000 * MS };
const RECEIVER: ReceiverConfig = ReceiverConfig { max_chunks: 40, max_open: 2, idle: 300 * MS };
const NOBODY: ReplicaId = ReplicaId(0);

/// xorshift64*: a run is a function of its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

fn meta(index: u64) -> SnapshotMeta {
    let configuration = Configuration::of_voters([ReplicaId(1)]);
    SnapshotMeta { index: Index(index), term: Term(1), configuration }
}

fn outline(index: u64, chunk_bytes: u32, bytes: &[u8]) -> Outline {
    let mut cutter = Cutter::new(chunk_bytes);
    cutter.take(bytes);
    cutter.finish(meta(index))
}

/// A host that offers a file until it is delivered.
struct Source {
    term: Term,
    outline: Outline,
    bytes: Vec<u8>,
    sender: Sender,
    reading: Vec<ChunkNumber>,
    delivered: bool,
}

/// What the receiver's host has: the file, which survives crashes, and what it noted of it.
#[derive(Default)]
struct Disk {
    file: Vec<u8>,
    of: Option<Manifest>,
    noted: Vec<(ChunkNumber, Crc)>,
    /// Asked for and not done.
    storing: Vec<(SnapshotName, ChunkNumber, u64, Payload)>,
    finishing: Option<SnapshotName>,
}

struct World {
    now: Time,
    dice: Dice,
    sources: BTreeMap<ReplicaId, Source>,
    receiver: Receiver,
    disk: Disk,
    applied: Index,
    /// What was stored in this session: the slow twin of the receiver.
    stored: BTreeSet<ChunkNumber>,
    boots: u64,
    network: Vec<(ReplicaId, ReplicaId, ChunkMessage)>,
    loss_percent: u64,
    received: Vec<SnapshotMeta>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let size = dice.below(300);
        let chunk_bytes = 8 + dice.below(60) as u32;
        let one: Vec<u8> = (0..size).map(|_| dice.below(256) as u8).collect();
        let mut sources = BTreeMap::new();
        for id in 1..=1 + dice.below(3) {
            let (mut bytes, mut index) = (one.clone(), 5);
            if dice.percent(30) {
                // Another file of that snapshot, or a newer snapshot.
                index += dice.below(2);
                bytes.push(id as u8);
            }
            let outline = outline(index, chunk_bytes, &bytes);
            let term = Term(dice.below(3));
            let sender = Sender::new(SENDER, outline.clone(), term, Time(0));
            let reading = Vec::new();
            let source = Source { term, outline, bytes, sender, reading, delivered: false };
            sources.insert(ReplicaId(id), source);
        }
        Self {
            now: Time(0),
            sources,
            receiver: Receiver::new(RECEIVER, Session(0)),
            disk: Disk::default(),
            applied: Index(0),
            stored: BTreeSet::new(),
            boots: 0,
            network: Vec::new(),
            loss_percent: dice.below(40),
            dice,
            received: Vec::new(),
        }
    }

    /// What the senders want done.
    fn poll(&mut self) {
        let Self { sources, network, now, .. } = self;
        for (&id, source) in sources {
            while let Some(task) = source.sender.poll(*now) {
                match task {
                    SenderTask::Send(message) => network.push((id, NOBODY, message)),
                    SenderTask::Read { number, range } => {
                        let expected = source.outline.manifest().range(number);
                        assert_eq!(expected, Some(range), "it reads chunks");
                        source.reading.push(number);
                    }
                }
            }
            source.sender.check_invariants();
            match source.sender.outcome() {
                Some(Outcome::Delivered(index)) => {
                    assert_eq!(index, source.outline.manifest().meta.index);
                    source.delivered = true;
                }
                // The core asks again in time.
                Some(_) => {
                    let Source { outline, term, .. } = &*source;
                    source.sender = Sender::new(SENDER, outline.clone(), *term, *now);
                    source.reading.clear();
                }
                None => {}
            }
        }
    }

    fn read(&mut self) {
        let Self { sources, network, now, dice, .. } = self;
        for (&id, source) in sources {
            if source.reading.is_empty() || dice.percent(30) {
                continue;
            }
            let at = dice.below(source.reading.len() as u64) as usize;
            let number = source.reading.remove(at);
            let range = source.outline.manifest().range(number).expect("it is a chunk");
            let bytes = source.bytes[range.start as usize..range.end as usize].to_vec();
            let message = source.sender.on_read(number, Payload::new(bytes), *now);
            network.extend(message.map(|message| (id, NOBODY, message)));
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.dice.below(self.network.len() as u64) as usize;
        let (from, to, mut message) = self.network.swap_remove(at);
        if self.dice.percent(self.loss_percent / 2) {
            self.network.push((from, to, message.clone()));
        }
        if self.dice.percent(self.loss_percent) {
            return;
        }
        if let ChunkMessage::Chunk { bytes, .. } = &mut message
            && self.dice.percent(self.loss_percent)
        {
            let mut flipped = bytes.bytes().to_vec();
            flipped[0] ^= 1 << self.dice.below(8);
            *bytes = Payload::new(flipped);
        }
        if let Some(source) = self.sources.get_mut(&to) {
            return source.sender.on_message(&message, self.now);
        }
        let mut tasks = Vec::new();
        self.receiver.on_message(from, message, self.applied, self.now, &mut tasks);
        self.carry_out(tasks);
    }

    fn carry_out(&mut self, tasks: Vec<ReceiverTask>) {
        for task in tasks {
            match task {
                ReceiverTask::Send { to, message } => self.network.push((NOBODY, to, message)),
                ReceiverTask::Begin(manifest) => {
                    let file = vec![0; manifest.bytes as usize];
                    self.disk = Disk { file, of: Some(manifest), ..Disk::default() };
                    self.stored.clear();
                }
                ReceiverTask::Store { name, number, offset, bytes } => {
                    assert!(!self.stored.contains(&number), "a chunk is stored once");
                    self.disk.storing.push((name, number, offset, bytes));
                    assert!(self.disk.storing.len() <= RECEIVER.max_open);
                }
                ReceiverTask::Finish(name) => self.disk.finishing = Some(name),
                ReceiverTask::Received { term: _, from, meta } => {
                    assert!(self.sources.contains_key(&from));
                    self.applied = self.applied.max(meta.index);
                    self.received.push(meta);
                }
            }
        }
        self.receiver.check_invariants();
        let Some((manifest, have)) = self.receiver.progress() else { return };
        assert_eq!(have as usize, self.stored.len(), "it has what was stored");
        assert!(have <= manifest.chunks());
    }

    /// The disk does one thing that it was asked for.
    fn store(&mut self) {
        let mut tasks = Vec::new();
        if !self.disk.storing.is_empty() {
            let at = self.dice.below(self.disk.storing.len() as u64) as usize;
            let (name, number, offset, bytes) = self.disk.storing.swap_remove(at);
            let start = offset as usize;
            self.disk.file[start..start + bytes.len()].copy_from_slice(bytes.bytes());
            self.disk.noted.push((number, Crc::of(bytes.bytes())));
            self.stored.insert(number);
            self.receiver.on_stored(name, number, &mut tasks);
        } else if let Some(name) = self.disk.finishing.take() {
            let sources = self.sources.values();
            let named = |source: &&Source| source.outline.manifest().name() == name;
            let source = sources.into_iter().find(named).expect("somebody sent it");
            assert_eq!(self.disk.file, source.bytes, "what arrived is what was sent");
            self.receiver.on_finished(name, &mut tasks);
        }
        self.carry_out(tasks);
    }

    fn crash(&mut self) {
        self.boots += 1;
        let session = Session(self.boots << 32);
        self.disk.storing.clear();
        self.disk.finishing = None;
        let noted = self.disk.of.take_if(|_| self.dice.percent(50));
        self.receiver = match noted {
            Some(manifest) => {
                self.disk.of = Some(manifest.clone());
                self.stored = self.disk.noted.iter().map(|(number, _)| *number).collect();
                let noted = self.disk.noted.clone();
                Receiver::resume(RECEIVER, session, manifest, noted, self.now)
            }
            None => Receiver::new(RECEIVER, session),
        };
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.poll();
            match self.dice.below(4) {
                0 => self.read(),
                1 => self.store(),
                _ => self.deliver(),
            }
            let idle = self.network.is_empty() && self.dice.percent(20);
            self.now = self.now + self.dice.below(if idle { 50 * MS } else { MS });
        }
    }
}

/// Whatever happens on the way, only whole files arrive; and once it ends, they do.
#[test]
fn whole_files_arrive_whatever_happens() {
    let mut arrived = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..6 {
            world.run(40);
            if world.dice.percent(30) {
                world.crash();
            }
            if world.dice.percent(30) {
                world.sources.values_mut().for_each(|source| source.sender.on_link_restored());
            }
        }
        world.loss_percent = 0;
        for _ in 0..400 {
            world.run(10);
            if world.sources.values().all(|source| source.delivered) {
                break;
            }
        }
        for (id, source) in &world.sources {
            assert!(source.delivered, "seed {seed}: {id} delivers: {:?}", source.sender);
        }
        let newest = world.sources.values().map(|source| source.outline.manifest().meta.index);
        assert_eq!(Some(world.applied), newest.max());
        arrived += world.received.len();
    }
    assert!(arrived >= 150, "a run in which nothing happens proves nothing: {arrived}");
}

/// A sender of ten chunks, and its offer.
fn sender() -> (Sender, Vec<u8>) {
    let bytes: Vec<u8> = (0..100).collect();
    (Sender::new(SENDER, outline(5, 10, &bytes), Term(3), Time(0)), bytes)
}

fn have(sender: &Sender, session: u64, first_missing: u32, above: u64) -> ChunkMessage {
    ChunkMessage::Have {
        name: sender.outline().manifest().name(),
        session: Session(session),
        first_missing: ChunkNumber(first_missing),
        above,
    }
}

/// The chunks read and sent now; an offer is 99.
fn pump(sender: &mut Sender, bytes: &[u8], now: Time) -> Vec<u32> {
    let mut sent = Vec::new();
    while let Some(task) = sender.poll(now) {
        match task {
            SenderTask::Send(ChunkMessage::Offer { term, manifest }) => {
                assert_eq!((term, &manifest), (Term(3), sender.outline().manifest()));
                sent.push(99);
            }
            SenderTask::Send(other) => panic!("only offers are sent without a read: {other:?}"),
            SenderTask::Read { number, range } => {
                let piece = bytes[range.start as usize..range.end as usize].to_vec();
                let message = sender.on_read(number, Payload::new(piece.clone()), now);
                let (name, crc) = (sender.outline().manifest().name(), Crc::of(&piece));
                let bytes = Payload::new(piece);
                assert_eq!(message, Some(ChunkMessage::Chunk { name, number, crc, bytes }));
                sent.push(number.0);
            }
        }
    }
    sender.check_invariants();
    sent
}

#[test]
fn a_sender_fills_its_window_and_goes_on_where_the_receiver_is() {
    let (mut sender, bytes) = sender();
    assert_eq!(pump(&mut sender, &bytes, Time(0)), [99]);
    assert_eq!(pump(&mut sender, &bytes, Time(0)), [], "nothing goes before the first answer");
    sender.on_message(&have(&sender, 1, 2, 0b10), Time(1));
    assert_eq!(pump(&mut sender, &bytes, Time(1)), [2, 3, 5], "4 is there");
    assert_eq!(sender.in_flight(), 3);
    sender.on_message(&have(&sender, 1, 2, 0b110), Time(2));
    assert_eq!(pump(&mut sender, &bytes, Time(2)), [6], "5 was answered");
    sender.on_message(&have(&sender, 1, 7, 0), Time(3));
    assert_eq!(pump(&mut sender, &bytes, Time(3)), [7, 8, 9]);
    // An answer that was overtaken says nothing new.
    sender.on_message(&have(&sender, 1, 3, 0), Time(4));
    assert_eq!(pump(&mut sender, &bytes, Time(4)), []);
    sender.on_message(&have(&sender, 1, 10, 0), Time(5));
    assert_eq!(pump(&mut sender, &bytes, Time(5)), []);
    assert_eq!(sender.in_flight(), 0);
    let name = sender.outline().manifest().name();
    sender.on_message(&ChunkMessage::Durable { name }, Time(6));
    assert_eq!(sender.outcome(), Some(Outcome::Delivered(Index(5))));
    assert_eq!(sender.deadline(), Time::NEVER);
    assert_eq!(sender.poll(Time(u64::MAX)), None);
}

/// Two answers together may say more than each: the first missing chunk is behind both.
#[test]
fn answers_add_up() {
    let (mut sender, bytes) = sender();
    pump(&mut sender, &bytes, Time(0));
    sender.on_message(&have(&sender, 1, 2, 0b110), Time(1));
    sender.on_message(&have(&sender, 1, 4, 0), Time(2));
    assert_eq!(pump(&mut sender, &bytes, Time(2)), [6, 7, 8]);
}

#[test]
fn what_is_not_answered_in_time_is_sent_again() {
    let (mut sender, bytes) = sender();
    assert_eq!(sender.deadline(), Time(0));
    pump(&mut sender, &bytes, Time(0));
    assert_eq!(sender.deadline(), Time(SENDER.retry));
    assert_eq!(pump(&mut sender, &bytes, Time(SENDER.retry - 1)), []);
    assert_eq!(pump(&mut sender, &bytes, Time(SENDER.retry)), [99]);
    let began = Time(SENDER.retry + 1);
    sender.on_message(&have(&sender, 1, 0, 0), began);
    assert_eq!(pump(&mut sender, &bytes, began), [0, 1, 2]);
    sender.on_message(&have(&sender, 1, 1, 0), began + 10);
    assert_eq!(pump(&mut sender, &bytes, began + 10), [3]);
    assert_eq!(sender.deadline(), began + SENDER.retry);
    assert_eq!(pump(&mut sender, &bytes, began + (SENDER.retry - 1)), []);
    assert_eq!(pump(&mut sender, &bytes, began + SENDER.retry), [1, 2]);
    // Silence for so long may mean that the receiver has forgotten all.
    assert_eq!(pump(&mut sender, &bytes, began + (SENDER.retry + 10)), [99, 3]);
}

#[test]
fn a_silent_receiver_is_given_up() {
    let (mut sender, bytes) = sender();
    pump(&mut sender, &bytes, Time(0));
    sender.on_message(&have(&sender, 1, 0, 0), Time(5));
    let end = Time(5) + SENDER.patience;
    pump(&mut sender, &bytes, Time(end.0 - 1));
    assert_eq!(sender.outcome(), None);
    assert_eq!(sender.deadline(), end);
    assert_eq!(sender.poll(end), None);
    assert_eq!(sender.outcome(), Some(Outcome::GaveUp));
    let name = sender.outline().manifest().name();
    sender.on_message(&ChunkMessage::Durable { name }, end);
    assert_eq!(sender.outcome(), Some(Outcome::GaveUp), "it ends once");
}

#[test]
fn a_higher_session_begins_anew_and_a_lower_one_is_void() {
    let (mut sender, bytes) = sender();
    pump(&mut sender, &bytes, Time(0));
    sender.on_message(&have(&sender, 7, 4, 0), Time(1));
    assert_eq!(pump(&mut sender, &bytes, Time(1)), [4, 5, 6]);
    sender.on_message(&have(&sender, 8, 1, 0), Time(2));
    assert_eq!(pump(&mut sender, &bytes, Time(2)), [1, 2, 3], "what was under way is lost");
    sender.on_message(&have(&sender, 7, 9, 0), Time(3));
    sender.on_message(&have(&sender, 8, 11, 0), Time(3));
    assert_eq!(pump(&mut sender, &bytes, Time(3)), []);
    // A read of before, that ends late, is as good as one of now.
    sender.on_message(&have(&sender, 8, 2, 0), Time(4));
    let read = sender.poll(Time(4));
    assert!(matches!(read, Some(SenderTask::Read { number: ChunkNumber(4), .. })));
    sender.on_message(&have(&sender, 9, 0, 0), Time(5));
    assert_eq!(pump(&mut sender, &bytes, Time(5)), [0, 1]);
    let piece = Payload::new(bytes[40..50].to_vec());
    assert!(sender.on_read(ChunkNumber(4), piece.clone(), Time(6)).is_some());
    assert!(sender.on_read(ChunkNumber(4), piece.clone(), Time(6)).is_none(), "once");
    assert!(sender.on_read(ChunkNumber(8), piece, Time(6)).is_none(), "nobody asked for it");
}

#[test]
fn a_new_link_gets_an_offer_and_what_was_under_way() {
    let (mut sender, bytes) = sender();
    pump(&mut sender, &bytes, Time(0));
    sender.on_message(&have(&sender, 1, 0, 0), Time(1));
    assert_eq!(pump(&mut sender, &bytes, Time(1)), [0, 1, 2]);
    sender.on_link_restored();
    assert_eq!(pump(&mut sender, &bytes, Time(2)), [99, 0, 1, 2]);
}

#[test]
fn an_answer_can_name_all_that_is_under_way() {
    let bytes = vec![0; 200];
    let config = SenderConfig { window: NAMED_ABOVE, ..SENDER };
    let mut sender = Sender::new(config, outline(5, 1, &bytes), Term(3), Time(0));
    pump(&mut sender, &bytes, Time(0));
    sender.on_message(&have(&sender, 1, 0, 0), Time(1));
    assert_eq!(pump(&mut sender, &bytes, Time(1)).len(), 64);
    // All but the first arrived: one more can be named.
    sender.on_message(&have(&sender, 1, 0, u64::MAX >> 1), Time(2));
    assert_eq!(pump(&mut sender, &bytes, Time(2)), [64]);
    sender.on_message(&have(&sender, 1, 0, u64::MAX), Time(3));
    assert_eq!(pump(&mut sender, &bytes, Time(3)), []);
    sender.on_message(&have(&sender, 1, 65, 0), Time(4));
    assert_eq!(pump(&mut sender, &bytes, Time(4)).len(), 64);
    // Bits beyond the end name nothing.
    sender.on_message(&have(&sender, 1, 190, u64::MAX), Time(5));
    assert_eq!(pump(&mut sender, &bytes, Time(5)), [190]);
}

#[test]
fn a_file_that_is_not_what_it_was_is_not_sent() {
    for damaged in [vec![0; 10], vec![], (0..11).collect()] {
        let (mut sender, bytes) = sender();
        pump(&mut sender, &bytes, Time(0));
        sender.on_message(&have(&sender, 1, 0, 0), Time(1));
        assert!(matches!(sender.poll(Time(1)), Some(SenderTask::Read { .. })));
        assert_eq!(sender.on_read(ChunkNumber(0), Payload::new(damaged), Time(1)), None);
        assert_eq!(sender.outcome(), Some(Outcome::Damaged(ChunkNumber(0))));
        assert_eq!(sender.poll(Time(2)), None);
    }
}

#[test]
fn answers_about_other_files_do_not_count() {
    let (mut sender, bytes) = sender();
    pump(&mut sender, &bytes, Time(0));
    let other = Sender::new(SENDER, outline(5, 10, &bytes[1..]), Term(3), Time(0));
    let name = other.outline().manifest().name();
    sender.on_message(&have(&other, 1, 0, 0), Time(1));
    sender.on_message(&ChunkMessage::Durable { name }, Time(1));
    sender.on_message(&ChunkMessage::Refused { name }, Time(1));
    assert_eq!((sender.outcome(), sender.poll(Time(1))), (None, None));
    let name = sender.outline().manifest().name();
    sender.on_message(&ChunkMessage::Refused { name }, Time(1));
    assert_eq!(sender.outcome(), Some(Outcome::Refused));
}

/// A receiver, driven by hand.
struct Alone {
    receiver: Receiver,
    now: Time,
    applied: Index,
}

impl Alone {
    fn new() -> Self {
        let receiver = Receiver::new(RECEIVER, Session(10));
        Self { receiver, now: Time(0), applied: Index(0) }
    }

    fn hear(&mut self, from: u64, message: ChunkMessage) -> Vec<ReceiverTask> {
        let mut tasks = Vec::new();
        let from = ReplicaId(from);
        self.receiver.on_message(from, message, self.applied, self.now, &mut tasks);
        self.receiver.check_invariants();
        tasks
    }

    fn offer(&mut self, from: u64, term: u64, of: &Outline) -> Vec<ReceiverTask> {
        let manifest = of.manifest().clone();
        self.hear(from, ChunkMessage::Offer { term: Term(term), manifest })
    }

    fn chunk(&mut self, of: &Outline, bytes: &[u8], number: u32) -> Vec<ReceiverTask> {
        self.hear(1, chunk(of, bytes, number))
    }

    fn stored(&mut self, of: &Outline, number: u32) -> Vec<ReceiverTask> {
        let mut tasks = Vec::new();
        self.receiver.on_stored(of.manifest().name(), ChunkNumber(number), &mut tasks);
        self.receiver.check_invariants();
        tasks
    }

    fn finished(&mut self, of: &Outline) -> Vec<ReceiverTask> {
        let mut tasks = Vec::new();
        self.receiver.on_finished(of.manifest().name(), &mut tasks);
        tasks
    }
}

fn chunk(of: &Outline, bytes: &[u8], number: u32) -> ChunkMessage {
    let number = ChunkNumber(number);
    let range = of.manifest().range(number).expect("it is a chunk");
    let piece = bytes[range.start as usize..range.end as usize].to_vec();
    let (name, crc) = (of.manifest().name(), Crc::of(&piece));
    ChunkMessage::Chunk { name, number, crc, bytes: Payload::new(piece) }
}

fn to(to: u64, message: ChunkMessage) -> ReceiverTask {
    ReceiverTask::Send { to: ReplicaId(to), message }
}

fn has(of: &Outline, session: u64, first_missing: u32, above: u64) -> ChunkMessage {
    let (name, session) = (of.manifest().name(), Session(session));
    ChunkMessage::Have { name, session, first_missing: ChunkNumber(first_missing), above }
}

fn durable(of: &Outline) -> ChunkMessage {
    ChunkMessage::Durable { name: of.manifest().name() }
}

fn refused(of: &Outline) -> ChunkMessage {
    ChunkMessage::Refused { name: of.manifest().name() }
}

fn received(from: u64, term: u64, of: &Outline) -> ReceiverTask {
    let (from, term) = (ReplicaId(from), Term(term));
    ReceiverTask::Received { from, term, meta: of.manifest().meta.clone() }
}

#[test]
fn a_receiver_puts_chunks_in_their_places_and_tells_everybody() {
    let bytes: Vec<u8> = (0..30).collect();
    let file = outline(5, 10, &bytes);
    let name = file.manifest().name();
    let mut host = Alone::new();
    let begins = ReceiverTask::Begin(file.manifest().clone());
    assert_eq!(host.offer(1, 3, &file), [begins, to(1, has(&file, 11, 0, 0))]);
    assert_eq!(host.offer(2, 2, &file), [to(2, has(&file, 11, 0, 0))], "the same from another");
    let store = |number: u32| ReceiverTask::Store {
        name,
        number: ChunkNumber(number),
        offset: u64::from(number) * 10,
        bytes: Payload::new(bytes[number as usize * 10..][..10].to_vec()),
    };
    assert_eq!(host.chunk(&file, &bytes, 2), [store(2)]);
    assert_eq!(host.chunk(&file, &bytes, 2), [], "it is being stored");
    assert_eq!(host.chunk(&file, &bytes, 1), [store(1)]);
    assert_eq!(host.chunk(&file, &bytes, 0), [], "two are being stored already");
    assert_eq!(host.stored(&file, 2), [to(1, has(&file, 11, 0, 0b10))]);
    assert_eq!(host.stored(&file, 2), [], "once");
    assert_eq!(host.stored(&file, 1), [to(1, has(&file, 11, 0, 0b11))]);
    assert_eq!(host.chunk(&file, &bytes, 1), [to(1, has(&file, 11, 0, 0b11))], "once more");
    assert_eq!(host.finished(&file), [], "it is not whole");
    assert_eq!(host.chunk(&file, &bytes, 0), [store(0)]);
    let whole = [to(1, has(&file, 11, 3, 0)), ReceiverTask::Finish(name)];
    assert_eq!(host.stored(&file, 0), whole);
    assert_eq!(host.receiver.progress(), Some((file.manifest(), 3)));
    let told = [received(1, 3, &file), to(2, durable(&file)), to(1, durable(&file))];
    assert_eq!(host.finished(&file), told, "from the one of the latest term");
    assert_eq!(host.finished(&file), []);
    // Offered once more, by a later leader.
    assert_eq!(host.offer(4, 9, &file), [received(4, 9, &file), to(4, durable(&file))]);
}

#[test]
fn a_receiver_takes_nothing_that_makes_no_sense() {
    let bytes: Vec<u8> = (0..30).collect();
    let file = outline(5, 10, &bytes);
    let mut host = Alone::new();
    assert_eq!(host.chunk(&file, &bytes, 0), [], "nothing was offered");
    for broken in [
        Manifest { chunk_bytes: 0, ..file.manifest().clone() },
        Manifest { bytes: 401, ..file.manifest().clone() },
        Manifest { bytes: u64::MAX, chunk_bytes: 1, ..file.manifest().clone() },
        Manifest { meta: SnapshotMeta::default(), ..file.manifest().clone() },
        Manifest { meta: SnapshotMeta { index: Index(0), ..meta(5) }, ..file.manifest().clone() },
    ] {
        let message = ChunkMessage::Refused { name: broken.name() };
        let offer = ChunkMessage::Offer { term: Term(1), manifest: broken };
        assert_eq!(host.hear(1, offer), [to(1, message)]);
    }
    host.offer(1, 1, &file);
    let (name, number) = (file.manifest().name(), ChunkNumber(0));
    let whole = Payload::new(bytes[..10].to_vec());
    let crc = Crc::of(whole.bytes());
    let short = Payload::new(bytes[..9].to_vec());
    let short_crc = Crc::of(short.bytes());
    for message in [
        ChunkMessage::Chunk { name, number: ChunkNumber(3), crc, bytes: whole.clone() },
        ChunkMessage::Chunk { name, number, crc: Crc(crc.0 ^ 1), bytes: whole.clone() },
        ChunkMessage::Chunk { name, number, crc: short_crc, bytes: short },
        ChunkMessage::Chunk {
            name: SnapshotName { digest: Crc(0), ..name },
            number,
            crc,
            bytes: whole,
        },
        has(&file, 99, 3, 0),
        durable(&file),
        refused(&file),
    ] {
        assert_eq!(host.hear(1, message), []);
    }
    assert_eq!(host.receiver.progress(), Some((file.manifest(), 0)));
    // Somebody else's chunk by that name: right by itself, and found out at the end.
    for number in 0..3 {
        host.chunk(&file, &[7; 30], number);
        let tasks = host.stored(&file, number);
        assert_eq!(tasks.contains(&to(1, refused(&file))), number == 2);
        assert!(!tasks.contains(&ReceiverTask::Finish(name)));
    }
    assert_eq!(host.receiver.progress(), None);
}

#[test]
fn a_file_as_large_as_the_limit_is_taken() {
    let bytes = vec![0; 400];
    let mut host = Alone::new();
    let tasks = host.offer(1, 1, &outline(5, 10, &bytes));
    assert!(matches!(tasks[0], ReceiverTask::Begin(_)));
}

#[test]
fn an_empty_file_is_whole_at_once() {
    let file = outline(5, 10, &[]);
    let mut host = Alone::new();
    let tasks = host.offer(1, 1, &file);
    assert_eq!(tasks[1..], [ReceiverTask::Finish(file.manifest().name())]);
    assert_eq!(host.finished(&file), [received(1, 1, &file), to(1, durable(&file))]);
    let wrong = Manifest { digest: Crc(1), ..file.manifest().clone() };
    let name = wrong.name();
    let tasks = Alone::new().hear(1, ChunkMessage::Offer { term: Term(1), manifest: wrong });
    assert_eq!(tasks[1..], [to(1, ChunkMessage::Refused { name })]);
}

#[test]
fn what_is_applied_needs_no_file() {
    let file = outline(5, 10, &[1; 30]);
    let mut host = Alone::new();
    host.applied = Index(5);
    assert_eq!(host.offer(1, 4, &file), [received(1, 4, &file), to(1, durable(&file))]);
    host.applied = Index(4);
    assert!(matches!(host.offer(1, 4, &file)[0], ReceiverTask::Begin(_)));
}

#[test]
fn one_file_at_a_time_and_the_newest_of_the_latest_term() {
    let begins = |tasks: &[ReceiverTask]| matches!(tasks.first(), Some(ReceiverTask::Begin(_)));
    let files = [4, 5, 6].map(|index| outline(index, 10, &[index as u8; 30]));
    let [older, file, newer] = &files;
    let another = outline(5, 10, &[9; 30]);
    let mut host = Alone::new();
    host.offer(1, 3, file);
    assert_eq!(host.offer(2, 3, older), [to(2, refused(older))]);
    assert_eq!(host.offer(2, 3, &another), [to(2, refused(&another))]);
    assert_eq!(host.offer(2, 2, newer), [to(2, refused(newer))], "of an older leader");
    assert!(begins(&host.offer(2, 3, newer)));
    assert!(begins(&host.offer(2, 4, older)), "a later leader has only that");
    // Of a file that gave way nothing is taken any more.
    assert_eq!(host.chunk(file, &[5; 30], 0), []);
    assert_eq!(host.stored(file, 0), []);

    // Any file takes the place of one that stands still.
    host.now = Time(RECEIVER.idle - 1);
    assert_eq!(host.offer(1, 3, file), [to(1, refused(file))]);
    host.now = Time(RECEIVER.idle);
    assert!(begins(&host.offer(1, 3, file)));
    host.now = Time(2 * RECEIVER.idle - 1);
    host.chunk(file, &[5; 30], 0);
    host.now = Time(2 * RECEIVER.idle);
    assert_eq!(host.offer(2, 3, older), [to(2, refused(older))], "a chunk came");
    host.now = Time(3 * RECEIVER.idle - 2);
    host.offer(1, 3, file);
    host.now = Time(4 * RECEIVER.idle - 3);
    assert_eq!(host.offer(2, 3, older), [to(2, refused(older))], "it was offered again");

    // Once it is whole it is waited for, and then there is room.
    host.stored(file, 0);
    for number in 1..3 {
        host.chunk(file, &[5; 30], number);
        host.stored(file, number);
    }
    host.now = Time(9 * RECEIVER.idle);
    assert_eq!(host.offer(2, 9, newer), [to(2, refused(newer))]);
    assert_eq!(host.offer(1, 3, file), [to(1, has(file, 14, 3, 0))]);
    assert_eq!(host.chunk(file, &[5; 30], 1), [to(1, has(file, 14, 3, 0))]);
    host.finished(file);
    assert!(begins(&host.offer(2, 1, older)));
    host.receiver.abandon();
    assert_eq!(host.receiver.progress(), None);
    assert!(begins(&host.offer(2, 1, older)), "abandoned, and offered again");
}

#[test]
fn a_restarted_receiver_goes_on_from_what_was_noted() {
    let bytes: Vec<u8> = (0..30).collect();
    let file = outline(5, 10, &bytes);
    let crc = |number| (ChunkNumber(number), file.crc(ChunkNumber(number)).expect("it has three"));
    let resume = |manifest: &Manifest, noted: Vec<_>| {
        let receiver = Receiver::resume(RECEIVER, Session(20), manifest.clone(), noted, Time(0));
        receiver.check_invariants();
        Alone { receiver, now: Time(0), applied: Index(0) }
    };
    let beyond = (ChunkNumber(3), Crc(0));
    let mut host = resume(file.manifest(), vec![crc(0), crc(2), crc(2), beyond]);
    assert_eq!(host.offer(1, 1, &file), [to(1, has(&file, 20, 1, 0b1))]);
    host.chunk(&file, &bytes, 1);
    assert_eq!(host.stored(&file, 1)[1], ReceiverTask::Finish(file.manifest().name()));

    let mut whole = resume(file.manifest(), vec![crc(0), crc(1), crc(2)]);
    assert_eq!(whole.offer(1, 1, &file), [ReceiverTask::Finish(file.manifest().name())]);
    assert_eq!(whole.finished(&file), [received(1, 1, &file), to(1, durable(&file))]);

    // Notes that rotted are no harm: what they vouch for is not that file.
    let mut rotten = resume(file.manifest(), vec![crc(0), crc(1), (ChunkNumber(2), Crc(0))]);
    assert_eq!(rotten.offer(1, 1, &file), [to(1, refused(&file))]);
    let nonsense = Manifest { chunk_bytes: 0, ..file.manifest().clone() };
    assert_eq!(resume(&nonsense, vec![]).receiver.progress(), None);
}

#[test]
fn so_many_senders_are_remembered_and_no_more() {
    let file = outline(5, 10, &[1; 10]);
    let mut host = Alone::new();
    for id in 1..=9 {
        host.offer(id, id, &file);
    }
    host.chunk(&file, &[1; 10], 0);
    host.stored(&file, 0);
    let told = host.finished(&file);
    assert_eq!(told[0], received(9, 9, &file));
    assert_eq!(told.len(), 9, "the one of the first term is forgotten");
    assert!(!told.contains(&to(1, durable(&file))));
}

#[test]
fn the_defaults_make_sense() {
    let whole = outline(5, 10, &[1; 10]);
    let sender = Sender::new(SenderConfig::default(), whole.clone(), Term(1), Time(0));
    assert_eq!(sender.outline(), &whole);
    assert!(SenderConfig::default().retry < ReceiverConfig::default().idle);
    assert!(ReceiverConfig::default().idle < SenderConfig::default().patience);
}

#[test]
#[should_panic(expected = "a window is what an answer can name")]
fn a_window_is_not_wider_than_an_answer() {
    let config = SenderConfig { window: NAMED_ABOVE + 1, ..SENDER };
    Sender::new(config, outline(5, 10, &[1; 10]), Term(1), Time(0));
}

#[test]
#[should_panic(expected = "a retry takes time")]
fn a_retry_is_not_at_once() {
    Sender::new(SenderConfig { retry: 0, ..SENDER }, outline(5, 10, &[1; 10]), Term(1), Time(0));
}

#[test]
#[should_panic(expected = "a chunk has bytes")]
fn a_chunk_is_not_empty() {
    Cutter::new(0);
}

/// What belongs to a file that gave way is no news of the one that took its place.
#[test]
fn what_ends_late_is_of_another_file() {
    let (file, newer) = (outline(5, 10, &[5; 10]), outline(6, 10, &[6; 10]));
    let mut host = Alone::new();
    host.offer(1, 1, &file);
    host.offer(1, 1, &newer);
    host.chunk(&newer, &[6; 10], 0);
    assert_eq!(host.stored(&file, 0), []);
    host.stored(&newer, 0);
    assert_eq!(host.finished(&file), []);
    assert_eq!(host.finished(&newer)[0], received(1, 1, &newer));
}
