//! A client that works through the chaos: it keeps to living nodes, and writes down what it asked
//! and was answered.

use std::io::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flotilla_resp::Value;
use flotilla_sim::{Answer, Call, Micros, Random};

use super::book::{Book, words};
use crate::support::{Wire, request};

/// No operation may take longer on a node that lives: requests are held through elections.
const OPERATION_MAX: Duration = Duration::from_secs(5);
/// Requests of one pipeline, at most.
const PIPELINE_MAX: u64 = 16;
/// After so many exchanges elsewhere a client looks whether its own node is back.
const EXCHANGES_ELSEWHERE: u32 = 200;

/// A node as clients know it.
#[derive(Debug)]
pub(super) struct Life {
    /// Its plain port.
    pub(super) port: u16,
    /// Counts its beginnings and ends: odd while clients may rely on it.
    pub(super) changes: AtomicU64,
}

impl Life {
    fn now(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// The node begins to serve, or is about to be killed.
    pub(super) fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// What all clients of a round share.
#[derive(Debug)]
pub(super) struct Shared {
    /// When time began.
    pub(super) began: Instant,
    /// The nodes.
    pub(super) nodes: Vec<Life>,
    /// The keys in use.
    pub(super) book: Mutex<Book>,
    /// The round is over, or somebody has failed.
    pub(super) stop: AtomicBool,
}

impl Shared {
    /// Microseconds since the beginning.
    pub(super) fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }
}

/// One operation as a client saw it.
#[derive(Debug)]
pub(super) struct Record {
    /// On which key.
    pub(super) key: String,
    /// What was asked.
    pub(super) call: Call,
    /// When it was sent.
    pub(super) invoked: Micros,
    /// When the answer came and what it was; `None` if the connection ended before.
    pub(super) answer: Option<(Micros, Answer)>,
    /// On which connection.
    pub(super) connection: u64,
}

/// What a counter must show: `INCR`s that were answered, and those whose outcome nobody knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Answered.
    pub(super) acknowledged: i64,
    /// Perhaps done.
    pub(super) unknown: i64,
}

/// One client.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    number: usize,
    /// The place of its own node.
    home: usize,
    random: Random,
    tokens: u64,
    connections: u64,
    exchanges: u32,
    /// All it has asked.
    pub(super) records: Vec<Record>,
    /// Its own counter, over the round.
    pub(super) own: Tally,
    /// What it added to the counter of all.
    pub(super) common: Tally,
    /// Its longest operation.
    pub(super) longest: Duration,
}

/// The counter that all clients of a round raise.
pub(super) fn common_counter(round: u32) -> String {
    format!("common:{round}")
}

/// The counter that one client of a round raises.
pub(super) fn own_counter(round: u32, number: usize) -> String {
    format!("own:{round}:{number}")
}

impl<'a> Worker<'a> {
    /// Client `number` of a round.
    pub(super) fn new(shared: &'a Shared, round: u32, number: usize) -> Self {
        Self {
            shared,
            number,
            home: number % shared.nodes.len(),
            random: Random::new(u64::from(round) << 32 | number as u64),
            tokens: 0,
            connections: 0,
            exchanges: 0,
            records: Vec::new(),
            own: Tally::default(),
            common: Tally::default(),
            longest: Duration::ZERO,
        }
    }

    /// Works until the round is over. The error says what a client must not see.
    pub(super) fn run(mut self, round: u32) -> std::result::Result<Self, String> {
        while !self.stopped() {
            let Some(place) = self.living() else {
                std::thread::yield_now();
                continue;
            };
            let life = self.shared.nodes[place].now();
            if let Err(error) = self.stay_with(place, round)
                && self.shared.nodes[place].now() == life
            {
                self.shared.stop.store(true, Ordering::SeqCst);
                return Err(format!(
                    "client {} of node {}, which lives, sees: {error}",
                    self.number,
                    place + 1
                ));
            }
        }
        Ok(self)
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    /// Its own node if that lives, else any that does.
    fn living(&mut self) -> Option<usize> {
        let count = self.shared.nodes.len();
        let elsewhere = self.random.position(count);
        let places =
            [self.home].into_iter().chain((0..count).map(|step| (elsewhere + step) % count));
        places.into_iter().find(|&place| self.shared.nodes[place].now() % 2 == 1)
    }

    /// Works with one node until the round is over, the connection ends, or its own node is back.
    fn stay_with(&mut self, place: usize, round: u32) -> Result<()> {
        let mut wire = Wire::connect(self.shared.nodes[place].port)?;
        self.connections += 1;
        self.exchanges = 0;
        while !self.stopped() {
            if self.random.chance(20) {
                self.count(&mut wire, round)?;
            } else {
                self.exchange(&mut wire)?;
            }
            self.exchanges += 1;
            let back = self.shared.nodes[self.home].now() % 2 == 1;
            if place != self.home && back && self.exchanges >= EXCHANGES_ELSEWHERE {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One pipeline, often of a single request. What was sent and not answered has no outcome.
    fn exchange(&mut self, wire: &mut Wire) -> Result<()> {
        let count = if self.random.chance(70) { 1 } else { self.random.between(2, PIPELINE_MAX) };
        let connection = (self.number as u64) << 32 | self.connections;
        let first = self.records.len();
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.tokens += 1;
            let token = format!("{}-{};", self.number, self.tokens).into_bytes();
            let mut book = self.shared.book.lock().expect("no client panics with the book");
            let (key, call) = book.next(&mut self.random, token);
            drop(book);
            bytes.extend(request(&words(&key, &call)));
            let invoked = self.shared.now();
            self.records.push(Record { key, call, invoked, answer: None, connection });
        }
        let sent = Instant::now();
        wire.send(&bytes)?;
        for at in first..self.records.len() {
            let value = wire.reply()?;
            let record = &mut self.records[at];
            let answer = answer_of(&record.call, value).map_err(std::io::Error::other)?;
            record.answer = Some((self.shared.now(), answer));
        }
        self.took(sent.elapsed())
    }

    /// Raises its own counter, which must follow, and the one of all.
    fn count(&mut self, wire: &mut Wire, round: u32) -> Result<()> {
        let own = own_counter(round, self.number);
        let sent = Instant::now();
        self.own.unknown += 1;
        let value = wire.ask(&[b"INCR", own.as_bytes()])?;
        let Value::Integer(number) = value else {
            return Err(std::io::Error::other(format!("INCR is answered {value:?}")));
        };
        self.own.acknowledged += 1;
        self.own.unknown -= 1;
        let (least, most) = (self.own.acknowledged, self.own.acknowledged + self.own.unknown);
        if !(least..=most).contains(&number) {
            let text = format!("its own counter says {number}, it has counted {:?}", self.own);
            return Err(std::io::Error::other(text));
        }
        self.common.unknown += 1;
        let value = wire.ask(&[b"INCR", common_counter(round).as_bytes()])?;
        if !matches!(value, Value::Integer(_)) {
            return Err(std::io::Error::other(format!("INCR is answered {value:?}")));
        }
        self.common.acknowledged += 1;
        self.common.unknown -= 1;
        self.took(sent.elapsed())
    }

    fn took(&mut self, time: Duration) -> Result<()> {
        self.longest = self.longest.max(time);
        if time <= OPERATION_MAX {
            return Ok(());
        }
        Err(std::io::Error::other(format!("an answer took {time:?}, {OPERATION_MAX:?} at most")))
    }
}

/// What a reply says of a call. The error is a reply that no client should get.
pub(super) fn answer_of(call: &Call, value: Value) -> std::result::Result<Answer, String> {
    let answer = match (call, value) {
        (Call::Set(_), Value::Simple(text)) if text == "OK" => Answer::Done,
        (Call::SetIfAbsent(_), Value::Simple(text)) if text == "OK" => Answer::Number(1),
        (Call::SetIfAbsent(_), Value::Null) => Answer::Number(0),
        (Call::Get | Call::GetSet(_), Value::Null) => Answer::Value(None),
        (Call::Get | Call::GetSet(_), Value::Bulk(bytes)) => Answer::Value(Some(bytes)),
        (Call::Del | Call::Incr | Call::Append(_), Value::Integer(number)) => {
            Answer::Number(number)
        }
        (call, value) => return Err(format!("{call:?} is answered {value:?}")),
    };
    Ok(answer)
}
