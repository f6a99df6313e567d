//! Many clients at once, on one key and on many.

use std::collections::BTreeSet;
use std::thread;

use redis::Commands as _;

use crate::support::{Nodes, client};

const CLIENTS: usize = 64;
const ROUNDS: usize = 30;
/// Shared keys, each used by a quarter of the clients in each round.
const KEYS: usize = 16;

#[test]
fn sixty_four_clients_count_on_one_key_and_on_many() {
    let nodes = Nodes::start(3);
    let seen: Vec<Vec<usize>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let port = nodes.port(1 + number % 3);
                scope.spawn(move || count(port, number))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("no client saw an error")).collect()
    });

    let all: BTreeSet<usize> = seen.iter().flatten().copied().collect();
    assert_eq!(all, (1..=CLIENTS * ROUNDS).collect(), "each number was given to one client");
    let rises = |own: &Vec<usize>| own.is_sorted_by(|earlier, later| earlier < later);
    assert!(seen.iter().all(rises), "and to each client in order");
    let shared: Vec<String> = (0..KEYS).map(|key| format!("shared:{key}")).collect();
    for node in 1..=3 {
        let mut connection = client(nodes.port(node));
        let one: usize = connection.get("one").expect("it is there");
        assert_eq!(one, CLIENTS * ROUNDS);
        let many: Vec<usize> = connection.mget(&shared).expect("they are there");
        assert_eq!(many.iter().sum::<usize>(), CLIENTS * ROUNDS);
        let keys: usize = redis::cmd("DBSIZE").query(&mut connection).expect("it counts");
        assert_eq!(keys, 1 + KEYS + CLIENTS);
    }
}

/// One client: what it was given by the key that all share.
fn count(port: u16, number: usize) -> Vec<usize> {
    let mut connection = client(port);
    let own = format!("own:{number}");
    (1..=ROUNDS)
        .map(|round| {
            let shared = format!("shared:{}", (number + round) % KEYS);
            let (one, mine): (usize, usize) = redis::pipe()
                .incr("one", 1)
                .incr(&own, 1)
                .incr(shared, 1)
                .ignore()
                .query(&mut connection)
                .expect("it counts");
            assert_eq!(mine, round, "nobody else uses this key");
            one
        })
        .collect()
}
