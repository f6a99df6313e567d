//! A minute of chaos: every three seconds the leader of some shard is killed (`kill -9`) and comes
//! back a moment later, while clients work on registers, counters and lists of tokens.
//!
//! What must hold: every key's history is linearizable, every write took effect at most once and
//! every acknowledged one exactly once, and a client whose node lives sees neither an error, nor
//! the end of its connection, nor a wait of more than five seconds.
//!
//! [`SECONDS_VARIABLE`] in the environment makes it longer; each minute is a round with keys of its
//! own, checked at its end.

mod book;
mod worker;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flotilla_resp::Value;
use flotilla_sim::check::linearizability::{self, Verdict};
use flotilla_sim::check::once;
use flotilla_sim::{Call, History, KeyState, Outcome, Random};

use crate::support::{Nodes, Wire, request};
use book::Book;
use worker::{Life, Record, Shared, Tally, Worker, answer_of, common_counter, own_counter};

/// How long the test runs, seconds.
const SECONDS_VARIABLE: &str = "FLOTILLA_CHAOS_SECONDS";
/// How long it runs if nobody says otherwise, and a round at most.
const ROUND: Duration = Duration::from_mins(1);
/// From one death to the next.
const KILL_EVERY: Duration = Duration::from_secs(3);
/// How long a node stays dead, milliseconds.
const DEAD_MS: (u64, u64) = (200, 1_500);

const NODES: usize = 3;
const SHARDS: u32 = 3;
const CLIENTS: usize = 6;

/// A minute with less than this proves little: deaths, and operations with an answer.
const KILLS_PER_MINUTE: f64 = 12.0;
const OPERATIONS_PER_MINUTE: f64 = 6_000.0;

#[test]
fn leaders_are_killed_and_clients_of_living_nodes_never_notice() {
    let seconds = std::env::var(SECONDS_VARIABLE).map_or(ROUND.as_secs(), |text| {
        text.parse().unwrap_or_else(|_| panic!("{SECONDS_VARIABLE}={text} is no number of seconds"))
    });
    let mut nodes = Nodes::start_sharing(NODES, SHARDS as usize);
    let mut left = Duration::from_secs(seconds);
    for round in 0.. {
        let length = left.min(ROUND);
        if length.is_zero() {
            break;
        }
        left -= length;
        run_round(&mut nodes, round, length);
    }
}

/// What came of the chaos of a round.
struct Seen<'a> {
    workers: Vec<Worker<'a>>,
    /// How often the leader of each shard was killed.
    kills: BTreeMap<u32, u32>,
}

fn run_round(nodes: &mut Nodes, round: u32, length: Duration) {
    let life = |node| Life { port: nodes.port(node), changes: AtomicU64::new(1) };
    let shared = Shared {
        began: Instant::now(),
        nodes: (1..=NODES).map(life).collect(),
        book: Mutex::new(Book::new(round)),
        stop: AtomicBool::new(false),
    };
    let seen = thread::scope(|scope| {
        let shared = &shared;
        let working: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || Worker::new(shared, round, number).run(round)))
            .collect();
        let kills = kill_leaders(nodes, shared, round, length);
        shared.stop.store(true, Ordering::SeqCst);
        let results: Result<Vec<_>, String> =
            working.into_iter().map(|worker| worker.join().expect("a client ends")).collect();
        Seen { workers: results.unwrap_or_else(|error| panic!("{error}")), kills }
    });
    judge(nodes, &shared, round, length, seen);
}

/// Kills a leader every three seconds, the shards in turn, and starts it again.
fn kill_leaders(
    nodes: &mut Nodes,
    shared: &Shared,
    round: u32,
    length: Duration,
) -> BTreeMap<u32, u32> {
    let mut random = Random::new(u64::from(round));
    let mut kills = BTreeMap::new();
    let mut at = KILL_EVERY;
    for shard in (0..=SHARDS).cycle() {
        if at >= length || !pass_time(shared, at) {
            break;
        }
        let node = nodes.leader(shard);
        let life = &shared.nodes[node - 1];
        life.change();
        nodes.kill(node);
        *kills.entry(shard).or_default() += 1;
        let dead = Duration::from_millis(random.between(DEAD_MS.0, DEAD_MS.1));
        let goes_on = pass_time(shared, shared.began.elapsed() + dead);
        nodes.start_node(node);
        nodes.wait_until_ready();
        life.change();
        if !goes_on {
            break;
        }
        at = (at + KILL_EVERY).max(shared.began.elapsed());
    }
    pass_time(shared, length);
    kills
}

/// Lets time pass until `at` after the beginning; false if a client has failed meanwhile.
fn pass_time(shared: &Shared, at: Duration) -> bool {
    while shared.began.elapsed() < at {
        if shared.stop.load(Ordering::SeqCst) {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Whether everything that was seen can be explained, and was enough to mean something.
fn judge(nodes: &Nodes, shared: &Shared, round: u32, length: Duration, seen: Seen<'_>) {
    let Seen { mut workers, kills } = seen;
    check_counters(nodes, round, &workers);
    let longest = workers.iter().map(|worker| worker.longest).max().unwrap_or_default();
    let mut records: Vec<Record> =
        workers.iter_mut().flat_map(|worker| worker.records.drain(..)).collect();
    let answered = records.iter().filter(|record| record.answer.is_some()).count();
    let unknown = records.len() - answered;
    let last = read_everywhere(nodes, shared, &mut records);
    let keys = check_keys(history_of(records), &last);
    let killed: u32 = kills.values().sum();
    eprintln!(
        "round {round}: {killed} leaders killed ({kills:?}), {answered} operations on {keys} keys, \
         {unknown} without an outcome, the longest took {longest:?}"
    );
    let minutes = length.as_secs_f64() / 60.0;
    // A short round may be over before the first death.
    let enough = |count: f64, per_minute: f64| count >= (per_minute * minutes).floor();
    assert!(enough(f64::from(killed), KILLS_PER_MINUTE), "too few deaths in {length:?}");
    assert!(enough(answered as f64, OPERATIONS_PER_MINUTE), "too few operations in {length:?}");
    let every = (0..=SHARDS).all(|shard| kills.contains_key(&shard));
    assert!(every || length < ROUND, "not every shard has lost its leader");
}

/// Counters of a whole round stand where the answers say.
fn check_counters(nodes: &Nodes, round: u32, workers: &[Worker<'_>]) {
    let mut wire = Wire::connect(nodes.port(1)).expect("all nodes live");
    let mut check = |key: String, tally: Tally| {
        let stands = match wire.ask(&[b"GET", key.as_bytes()]).expect("all nodes live") {
            Value::Bulk(digits) => std::str::from_utf8(&digits).ok().and_then(|d| d.parse().ok()),
            _ => None,
        };
        let stands: i64 = stands.unwrap_or_else(|| panic!("{key} is there, and a number"));
        let right = tally.acknowledged..=tally.acknowledged + tally.unknown;
        assert!(right.contains(&stands), "{key} stands at {stands}, but {tally:?}");
    };
    let mut all = Tally::default();
    for (number, worker) in workers.iter().enumerate() {
        check(own_counter(round, number), worker.own);
        all.acknowledged += worker.common.acknowledged;
        all.unknown += worker.common.unknown;
    }
    check(common_counter(round), all);
}

/// Reads every key through every node. Gives what each holds in the end.
fn read_everywhere(
    nodes: &Nodes,
    shared: &Shared,
    records: &mut Vec<Record>,
) -> BTreeMap<String, KeyState> {
    let mut last = BTreeMap::new();
    for record in records.iter() {
        last.entry(record.key.clone()).or_insert(None);
    }
    for node in 1..=NODES {
        let mut wire = Wire::connect(nodes.port(node)).expect("all nodes live");
        let connection = u64::MAX - node as u64;
        let invoked = shared.now();
        for key in last.keys() {
            wire.send(&request(&[b"GET", key.as_bytes()])).expect("all nodes live");
        }
        for (key, state) in &mut last {
            let value = wire.reply().expect("all nodes live");
            let answer = answer_of(&Call::Get, value).expect("a value or none");
            if let flotilla_sim::Answer::Value(value) = &answer {
                state.clone_from(value);
            }
            let answer = Some((shared.now(), answer));
            let key = key.clone();
            records.push(Record { key, call: Call::Get, invoked, answer, connection });
        }
    }
    last
}

/// All records in the order they were sent; those of one connection are in order already.
fn history_of(mut records: Vec<Record>) -> History {
    records.sort_by_key(|record| record.invoked);
    let mut history = History::default();
    for Record { key, call, invoked, answer, connection } in records {
        let id = history.invoke(&key, call, invoked, connection);
        if let Some((returned, answer)) = answer {
            history.settle(id, Outcome::Known(answer), returned);
        }
    }
    history
}

/// Every key's history has an order that explains it, and every write counts once. Gives how many
/// keys there were.
fn check_keys(history: History, last: &BTreeMap<String, KeyState>) -> usize {
    let keys: Vec<_> = history.keys().collect();
    let half = keys.len().div_ceil(2).max(1);
    thread::scope(|scope| {
        for half in keys.chunks(half) {
            scope.spawn(move || {
                for (key, operations) in half {
                    match linearizability::check(operations) {
                        Verdict::Linearizable => {}
                        Verdict::Violation(why) => panic!("{key} is not linearizable: {why}"),
                        Verdict::Unknown => panic!("{key} has too long a history to be judged"),
                    }
                    once::check(operations, &last[*key])
                        .unwrap_or_else(|error| panic!("{key}: {error}"));
                }
            });
        }
    });
    keys.len()
}
