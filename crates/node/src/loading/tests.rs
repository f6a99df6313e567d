//! A node of its own with a disk in memory is started again, and the test hands out the chunks of
//! its snapshots.

use std::collections::BTreeMap;

use flotilla_shard::{META, ShardId};

use super::{READ_AHEAD, TELL_AFTER_MICROS};
use crate::alone::Host;

const VALUE_BYTES: usize = 200 << 10;
/// Values, each of which fills most of a chunk.
const VALUES: u32 = 60;

/// A node that was started again after it had filled two shards, with snapshots of them.
fn restarted() -> Host {
    let mut host = Host::start(None, BTreeMap::new());
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    for number in 0..VALUES {
        host.ask(&format!("SET key{number} {}", "x".repeat(VALUE_BYTES)));
        assert_eq!(host.take_answer(), "+OK\r\n");
        // Snapshots are written at a bounded rate.
        host.wait(20_000);
    }
    host.wait(1_000_000);
    for shard in [ShardId(1), ShardId(2)] {
        let chunks = host.disk[&shard].chunks.len();
        assert!(chunks > READ_AHEAD as usize, "{chunks} chunks of shard {shard}");
    }
    host.restart()
}

#[test]
fn one_shard_after_the_other_is_read_ahead_and_all_comes_back() {
    let mut host = restarted();
    let mut order = Vec::new();
    while let Some(&(shard, ..)) = host.reads.front() {
        assert!(host.reads.len() <= READ_AHEAD as usize, "{:?}", host.reads);
        assert!(host.reads.iter().all(|read| read.0 == shard), "{:?}", host.reads);
        order.push(shard);
        let before = host.status().loaded_percent;
        host.read();
        assert!(host.status().loaded_percent.is_none_or(|now| Some(now) >= before));
    }
    order.dedup();
    assert!(order.ends_with(&[ShardId(1), ShardId(2)]), "{order:?}");
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    assert_eq!(host.status().loaded_percent, None);
    for number in 0..VALUES {
        host.ask(&format!("STRLEN key{number}"));
        assert_eq!(host.take_answer(), format!(":{VALUE_BYTES}\r\n"));
    }
    assert!(host.told.is_empty(), "that was no time at all");
}

#[test]
fn who_asks_is_held_for_a_moment_and_then_told() {
    let mut host = restarted();
    host.ask("STRLEN key0");
    host.wait(TELL_AFTER_MICROS / 2);
    assert_eq!(host.take_answer(), "", "it may be there any moment");
    host.ask("INCR counter");
    host.wait(TELL_AFTER_MICROS / 2 + 20_000);
    let told = host.take_answer();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines.iter().all(|line| line.starts_with("-LOADING shard ")), "{told}");
    host.ask("STRLEN key0");
    host.wait(20_000);
    assert!(host.take_answer().starts_with("-LOADING shard "), "nobody waits any more");
    let status = host.status();
    assert!(!status.ready && status.waiting_for[0].starts_with("loading: "), "{status:?}");
    assert!(!host.told.is_empty(), "the operator is told");

    while !host.reads.is_empty() {
        host.read();
    }
    host.wait(50_000);
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    host.ask("INCR counter");
    host.wait(50_000);
    assert_eq!(host.take_answer(), ":1\r\n", "what was answered LOADING was not applied");
}

#[test]
fn who_waits_when_it_is_there_in_time_is_served() {
    let mut host = restarted();
    host.ask("INCR counter");
    host.ask("STRLEN key1");
    host.wait(TELL_AFTER_MICROS / 2);
    while !host.reads.is_empty() {
        host.read();
    }
    assert_eq!(host.take_answer(), format!(":1\r\n:{VALUE_BYTES}\r\n"));
}

#[test]
fn a_log_being_applied_is_loading_too() {
    let mut host = Host::start(None, BTreeMap::new());
    for number in 0..6 {
        host.ask(&format!("SET key{number} {}", "x".repeat(100_000)));
        assert_eq!(host.take_answer(), "+OK\r\n");
    }
    let kept = host.disk.values().any(|kept| kept.entries.len() > 1);
    assert!(kept && host.disk.keys().any(|shard| *shard != META));
    let mut host = host.restart();
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    host.ask("STRLEN key5");
    assert_eq!(host.take_answer(), ":100000\r\n");
}
