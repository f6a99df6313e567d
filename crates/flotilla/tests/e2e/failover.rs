//! kill -9: of a leader under load, and of everybody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::Commands as _;

use crate::support::{Nodes, client, connect, status, wait_for};

/// What a client may notice of a leader's death, at most.
const RECOVERY_MAX: Duration = Duration::from_secs(2);
/// Clients at work during a test.
const CLIENTS: usize = 4;

/// What the clients of a test have seen.
#[derive(Debug, Default)]
struct Load {
    answered: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    fn wait_for_answers(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait_for("answers to clients", || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }
}

/// Counts up until told to stop; every call must be answered. Gives the longest wait.
fn count_up(load: &Load, port: u16, own: &str) -> (i64, Duration) {
    let mut connection = client(port);
    let mut longest = Duration::ZERO;
    let mut count = 0;
    while !load.stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let own_count: i64 = connection.incr(own, 1).expect("every call is answered");
        count += 1;
        assert_eq!(own_count, count, "a call counts once, and none is forgotten");
        let _: i64 = connection.incr("all", 1).expect("every call is answered");
        longest = longest.max(asked.elapsed());
        load.answered.fetch_add(2, Ordering::Relaxed);
    }
    (count, longest)
}

#[test]
fn kill_leader_under_load() {
    let mut nodes = Nodes::start(3);
    let leader = nodes.leader(1);
    let living: Vec<u16> =
        (1..=3).filter(|&node| node != leader).map(|node| nodes.port(node)).collect();
    let load = Load::default();
    let counts = thread::scope(|scope| {
        let load = &load;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let port = living[number % living.len()];
                scope.spawn(move || count_up(load, port, &format!("own:{number}")))
            })
            .collect();
        load.wait_for_answers(200);
        nodes.kill(leader);
        load.wait_for_answers(400);
        load.stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().expect("no client saw an error"))
            .collect::<Vec<_>>()
    });
    let longest = counts.iter().map(|(_, longest)| *longest).max().expect("there are clients");
    assert!(longest <= RECOVERY_MAX, "a client waited {longest:?}");
    let all: i64 = client(living[0]).get("all").expect("it is there");
    assert_eq!(all, counts.iter().map(|(count, _)| count).sum::<i64>());

    // The one that was killed comes back and catches up.
    nodes.start_node(leader);
    nodes.wait_until_ready();
    let leads_now = nodes.port(nodes.leader(1));
    wait_for("the old leader has everything", || {
        let said = status(leads_now)?;
        let replica = said.replicas.iter().find(|replica| replica.shard == 1)?;
        let lag = replica.lag.iter().find(|(node, _)| *node as usize == leader)?;
        (lag.1 == 0).then_some(())
    });
    let again: i64 = client(nodes.port(leader)).get("all").expect("it is there");
    assert_eq!(again, all);
}

/// Stores keys until the connection breaks. Gives those that were acknowledged.
fn store_until_killed(load: &Load, port: u16, number: usize) -> BTreeMap<String, u64> {
    let mut connection = connect(port).expect("the node answers");
    let mut stored = BTreeMap::new();
    for value in 0_u64.. {
        let key = format!("{number}:{}", value % 100);
        let outcome: redis::RedisResult<()> = connection.set(&key, value);
        if outcome.is_err() {
            break;
        }
        stored.insert(key, value);
        load.answered.fetch_add(1, Ordering::Relaxed);
    }
    stored
}

#[test]
fn kill_all_and_restart_keeps_every_acknowledged_write() {
    let mut nodes = Nodes::start(3);
    let load = Load::default();
    for round in 0..2 {
        let stored = thread::scope(|scope| {
            let load = &load;
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let port = nodes.port(1 + number % 3);
                    let number = round * CLIENTS + number;
                    scope.spawn(move || store_until_killed(load, port, number))
                })
                .collect();
            load.wait_for_answers(500);
            (1..=3).for_each(|node| nodes.kill(node));
            let stored = clients.into_iter().map(|client| client.join().expect("it only stores"));
            stored.collect::<Vec<_>>()
        });
        (1..=3).for_each(|node| nodes.start_node(node));
        nodes.wait_until_ready();
        let mut connection = client(nodes.port(1 + round));
        for (key, acknowledged) in stored.into_iter().flatten() {
            let found: u64 = connection.get(&key).expect("an acknowledged key is there");
            // The write that was under way may have been done.
            assert!(found >= acknowledged, "{key}: {found}, acknowledged {acknowledged}");
        }
    }
}
