//! When a node makes snapshots of its own.

use std::collections::BTreeMap;

use flotilla_raft::{Index, ReplicaId, SnapshotMeta, Term, Time};
use flotilla_shard::{ShardId, slot_of};

use crate::alone::Host;
use crate::io::ConnId;
use crate::link::Snapshot;
use crate::snapshots::{KEPT_MICROS, Receiving, STILL_MICROS};

const SHARDS: [ShardId; 2] = [ShardId(1), ShardId(2)];

/// A node of two shards, in each of which something was written.
fn host() -> Host {
    let mut host = Host::start(None, BTreeMap::new());
    for number in 0..16 {
        host.ask(&format!("SET key{number} value"));
        assert_eq!(host.take_answer(), "+OK\r\n");
    }
    host
}

/// The shards of which there is a snapshot.
fn made(host: &Host) -> Vec<ShardId> {
    SHARDS.into_iter().filter(|shard| !host.disk[shard].chunks.is_empty()).collect()
}

/// A snapshot of which the first chunk has arrived.
fn arriving(host: &Host, shard: ShardId) -> Receiving {
    let meta = SnapshotMeta { index: Index(1), term: Term(1), ..SnapshotMeta::default() };
    let (from_replica, to_replica) = (ReplicaId(2), ReplicaId(1));
    let (term, digest, number, chunk) = (Term(1), 9, 0, None);
    let first = Snapshot { shard, from_replica, to_replica, term, meta, digest, number, chunk };
    Receiving::new(ConnId(9), &first, host.now.time)
}

#[test]
fn a_log_of_small_writes_counts_with_what_it_takes_on_disk() {
    let mut host = host();
    host.wait(1_000_000);
    assert_eq!(made(&host), [], "sixteen values are little");
    host.node.note_log_on_disk(2 << 20);
    host.wait(1_000_000);
    assert_eq!(made(&host), SHARDS, "but each may take blocks of its own");
}

/// Part of a snapshot has arrived when its connection breaks; then the log brings as much. Nobody
/// will send the rest, and the log grows.
#[test]
fn part_of_a_snapshot_that_the_log_has_overtaken_stands_in_the_way_for_a_moment_only() {
    let mut host = host();
    for shard in SHARDS {
        let mut receiving = arriving(&host, shard);
        receiving.conn = None;
        host.node.snapshots.receiving.insert(shard, receiving);
    }
    host.node.note_log_on_disk(2 << 20);
    host.wait(STILL_MICROS / 2);
    assert_eq!(made(&host), [], "the rest may come yet");
    // The one of shard 0 was due with them, and has been made.
    host.node.note_log_on_disk(4 << 20);
    host.wait(STILL_MICROS);
    assert_eq!(made(&host), SHARDS);
    const { assert!(KEPT_MICROS > 2 * STILL_MICROS, "what is needed is kept for longer") };
}

#[test]
fn a_log_that_is_full_takes_more_only_where_no_snapshot_would_make_room() {
    let mut host = host();
    let full = |host: &Host| SHARDS.map(|shard| host.node.has_full_log(shard));
    host.node.snapshots.not_before = Time::NEVER;
    let value = "v".repeat(1 << 20);
    for _ in 0..3 {
        host.ask(&format!("SET {{key}} {value}"));
        assert_eq!(host.take_answer(), "+OK\r\n");
    }
    assert_eq!(full(&host), [false; 2], "while no snapshot is tried the log has to do");
    host.node.snapshots.not_before = Time(0);
    let mut outputs = Vec::new();
    host.node.end_turn(host.now, &mut outputs);
    let owner = host.node.map.as_ref().and_then(|map| map.owner(slot_of(b"key")));
    assert_eq!(full(&host), SHARDS.map(|shard| Some(shard) == owner), "three times what is due");
    let owner = owner.expect("every slot is somebody's");
    host.node.snapshots.receiving.insert(owner, arriving(&host, owner));
    assert_eq!(full(&host), [false; 2], "what arrives stands in the way");
    host.node.snapshots.receiving.clear();
    for output in outputs {
        host.carry_out(output);
    }
    host.wait(1_000_000);
    assert_eq!((made(&host), full(&host)), (SHARDS.to_vec(), [false; 2]));
}

#[test]
fn before_its_replicas_live_a_node_with_a_long_log_waits_like_any_other() {
    let mut host = host();
    host.node.replicas.clear();
    host.node.note_log_on_disk(64 << 20);
    host.wait(1_000_000);
    assert!(!host.node.has_full_log(SHARDS[0]));
}
