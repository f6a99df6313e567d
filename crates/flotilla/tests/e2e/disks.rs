//! Disks that lost something: wiped, put back from an older copy, rotten. Each node is started by
//! its old command line and nothing else is done.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use flotilla_server::Status;
use redis::Commands as _;

use crate::support::{Nodes, client, status, wait_for};

/// Keys written at a time.
const KEYS: usize = 300;
/// Damage of every log, which no replica could repair alone, is over within this time.
const HEALED_WITHIN: Duration = Duration::from_secs(10);

/// Writes keys of their own name, by any node.
fn write(nodes: &Nodes, names: &str) {
    let mut connection = client(nodes.port(nodes.running()[0]));
    for number in 0..KEYS {
        let key = format!("{names}-{number}");
        let _: () = connection.set(&key, &key).expect("a write is answered");
    }
}

/// All of them are there, by any node.
fn check(nodes: &Nodes, names: &[&str]) {
    for node in nodes.running() {
        let mut connection = client(nodes.port(node));
        for name in names {
            for number in (0..KEYS).step_by(7) {
                let key = format!("{name}-{number}");
                let value: Option<String> = connection.get(&key).expect("a read is answered");
                assert_eq!(value.as_ref(), Some(&key), "read at node {node}");
            }
        }
    }
}

/// What a node says of itself once that is so.
fn once(nodes: &Nodes, node: usize, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
    wait_for(what, || status(nodes.port(node)).filter(|status| status.ready && is_so(status)))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory of the test");
    for file in fs::read_dir(from).expect("a data directory") {
        let file = file.expect("a data directory can be read");
        fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
    }
}

/// Spoils the first place where a word stands in each file of a directory: a payload in the middle
/// of the log, which is in no table. Gives back in how many files it was.
fn flip(directory: &Path, word: &str) -> usize {
    let mut flipped = 0;
    for file in fs::read_dir(directory).expect("a data directory") {
        let path = file.expect("a data directory can be read").path();
        let mut bytes = fs::read(&path).expect("a file can be read");
        if let Some(place) = bytes.windows(word.len()).position(|found| found == word.as_bytes()) {
            bytes[place] ^= 4;
            flipped += 1;
            fs::write(&path, bytes).expect("a file can be written");
        }
    }
    flipped
}

#[test]
fn a_wiped_node_comes_back_under_new_replica_ids() {
    let mut nodes = Nodes::start(3);
    write(&nodes, "before");
    let wiped = nodes.leader(1);
    let before = status(nodes.port(wiped)).expect("it runs").replicas;
    nodes.kill(wiped);
    fs::remove_dir_all(nodes.data(wiped)).expect("its disk is wiped");
    write(&nodes, "without");
    nodes.start_node(wiped);
    let after = once(&nodes, wiped, "new replicas", |status| status.disk == 1).replicas;
    assert_eq!(after.len(), before.len());
    for (old, new) in before.iter().zip(&after) {
        assert!(new.shard == old.shard && new.id > old.id, "no id is used twice");
    }
    // Now it counts: the others can't do without it.
    let other = nodes.running().into_iter().find(|node| *node != wiped).expect("three run");
    nodes.kill(other);
    write(&nodes, "after");
    check(&nodes, &["before", "without", "after"]);
    nodes.start_node(other);
    nodes.wait_until_ready();
    check(&nodes, &["before", "without", "after"]);
}

#[test]
fn an_older_image_is_noticed_and_comes_back_as_another_disk() {
    let mut nodes = Nodes::start(3);
    write(&nodes, "old");
    nodes.kill(2);
    let image = nodes.data(2).with_file_name("image");
    copy(&nodes.data(2), &image);
    nodes.start_node(2);
    nodes.wait_until_ready();
    write(&nodes, "new");
    nodes.kill(2);
    fs::remove_dir_all(nodes.data(2)).expect("the present state goes");
    copy(&image, &nodes.data(2));
    nodes.start_node(2);
    let said = once(&nodes, 2, "another disk", |status| status.disk == 1);
    assert!(said.replicas.iter().all(|replica| replica.id > 1 << 32), "{said:?}");
    nodes.kill(3);
    write(&nodes, "more");
    check(&nodes, &["old", "new", "more"]);
}

#[test]
fn rot_is_repaired_from_peers() {
    let mut nodes = Nodes::start(3);
    write(&nodes, "key");
    nodes.kill(1);
    assert_eq!(flip(&nodes.data(1), "key-150"), 1, "the log has the value");
    nodes.start_node(1);
    let said = once(&nodes, 1, "repaired entries", |status| status.repaired > 0);
    assert_eq!(said.disk, 0, "nothing was forgotten");
    assert!(said.replicas.iter().all(|replica| replica.damaged == 0));
    nodes.kill(2);
    write(&nodes, "more");
    check(&nodes, &["key", "more"]);
    // And it is whole on its disk too.
    nodes.kill(1);
    nodes.start_node(2);
    nodes.start_node(1);
    let said = once(&nodes, 1, "a whole log", |_| true);
    assert!(said.replicas.iter().all(|replica| replica.damaged == 0), "{said:?}");
    assert_eq!(said.repaired, 0, "nothing was left to be repaired: {said:?}");
}

/// The keys that are spoiled at a node: ten writes lie between those of two nodes, so that each
/// record is whole somewhere, and no replica has them all.
fn spoiled_at(node: usize) -> impl Iterator<Item = String> {
    (100 + 10 * node..KEYS).step_by(30).map(|number| format!("key-{number}"))
}

#[test]
fn damage_at_different_places_of_every_log_is_healed_and_served_in_time() {
    let mut nodes = Nodes::start(3);
    write(&nodes, "key");
    (1..=3).for_each(|node| nodes.kill(node));
    for node in 1..=3 {
        for key in spoiled_at(node) {
            assert_eq!(flip(&nodes.data(node), &key), 1, "node {node} has {key} in its log");
        }
    }
    let began = Instant::now();
    (1..=3).for_each(|node| nodes.start_node(node));
    for node in 1..=3 {
        let is_whole = |status: &Status| {
            let spoiled = spoiled_at(node).count() as u64;
            let whole = status.replicas.iter().all(|replica| replica.damaged == 0);
            status.repaired >= spoiled && whole
        };
        let said = once(&nodes, node, "every damaged entry is repaired", is_whole);
        assert_eq!(said.disk, 0, "nothing was forgotten");
    }
    for node in 1..=3 {
        let mut connection = client(nodes.port(node));
        for key in (1..=3).flat_map(spoiled_at) {
            let value: Option<String> = connection.get(&key).expect("a read is answered");
            assert_eq!(value.as_ref(), Some(&key), "read at node {node}");
        }
    }
    write(&nodes, "more");
    let took = began.elapsed();
    assert!(took < HEALED_WITHIN, "healed and served after {took:?}");
    check(&nodes, &["key", "more"]);
    // And all are whole on their disks too: any two do without the third.
    (1..=3).for_each(|node| nodes.kill(node));
    (1..=2).for_each(|node| nodes.start_node(node));
    for node in 1..=2 {
        let said = once(&nodes, node, "a whole log", |_| true);
        assert_eq!(said.repaired, 0, "nothing was left to be repaired: {said:?}");
    }
    check(&nodes, &["key", "more"]);
}
