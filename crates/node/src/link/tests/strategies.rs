//! Random packets of every kind.

use flotilla_raft::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, Index, Message, Payload, ReplicaId,
    SnapshotMeta, Term,
};
use flotilla_shard::{ClusterId, NodeId, SLOTS, ShardId, Slot, StorageId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::link::{
    ChunkView, Claims, FORMAT, Hello, KnownDisk, Purpose, ReadOutcome, RefusalReason, Reply,
    Request, Sighting, Snapshot, SnapshotOutcome, SnapshotReply, WriteOutcome,
};

/// Of every width, small ones more often.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
}

fn shard() -> impl Strategy<Value = ShardId> {
    (any::<u32>(), 0..32_u32).prop_map(|(number, shift)| ShardId(number >> shift))
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u32::MAX).prop_map(NodeId)
}

fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term)
}

fn index() -> impl Strategy<Value = Index> {
    number().prop_map(Index)
}

fn replica() -> impl Strategy<Value = ReplicaId> {
    number().prop_map(ReplicaId)
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    select(vec![&b""[..], b"x", b"*1\r\n$4\r\nPING\r\n", &[0x80; 200]])
}

pub(super) fn hello() -> impl Strategy<Value = Hello> {
    let names = (any::<[u8; 32]>(), node(), node(), any::<[u8; 16]>());
    let boot = (number(), any::<u64>(), any::<u16>(), any::<Option<[u8; 16]>>());
    let sighting = proptest::option::of(any::<[u64; 4]>());
    let number = || 0..=(1_u64 << 24);
    let known = proptest::option::of((number(), any::<[u8; 16]>(), any::<bool>(), sighting));
    let disk = (number(), known);
    let purpose = select(vec![Purpose::Turns, Purpose::Snapshots]);
    let rest = (any::<u16>(), any::<u16>(), purpose, disk);
    (names, boot, rest).prop_map(|(names, boot, rest)| Hello {
        format: FORMAT,
        purpose: rest.2,
        layout_digest: names.0,
        from: names.1,
        to: names.2,
        storage_id: StorageId(names.3),
        incarnation: boot.0,
        nonce: boot.1,
        lane: boot.2,
        cluster: boot.3.map(ClusterId),
        cluster_port: rest.0,
        http_port: rest.1,
        disk: rest.3.0,
        known: rest.3.1.map(|(number, id, alive, seen)| KnownDisk {
            number,
            storage_id: StorageId(id),
            alive,
            seen: seen.map(|[incarnation, nonce, durable_through, earlier]| Sighting {
                incarnation,
                nonce,
                durable_through,
                earlier,
            }),
        }),
    })
}

pub(super) fn claims() -> impl Strategy<Value = Claims> {
    let leads = proptest::collection::btree_map(shard(), term(), 0..5);
    (number(), leads)
        .prop_map(|(generation, leads)| Claims { generation, leads: leads.into_iter().collect() })
}

fn append() -> impl Strategy<Value = Body> {
    let kind = select(vec![EntryKind::Empty, EntryKind::Normal, EntryKind::Configuration]);
    let head = (0..u64::MAX - 9, term(), index(), number());
    (head, vec((term(), kind, bytes()), 0..5)).prop_map(|(head, entries)| {
        let entry = |(at, (term, kind, bytes)): (u64, (Term, EntryKind, &[u8]))| Entry {
            index: Index(head.0 + at),
            term,
            kind,
            payload: Payload::new(bytes.to_vec()),
        };
        Body::AppendEntries {
            prev_index: Index(head.0),
            prev_term: head.1,
            commit: head.2,
            round: head.3,
            entries: (1..).zip(entries).map(entry).collect(),
        }
    })
}

fn append_reply() -> impl Strategy<Value = Body> {
    let outcome = prop_oneof![
        index().prop_map(|index| AppendOutcome::Matched { index }),
        (index(), index(), term()).prop_map(|(prev_index, hint_index, hint_term)| {
            AppendOutcome::Conflict { prev_index, hint_index, hint_term }
        }),
    ];
    (number(), outcome).prop_map(|(round, outcome)| Body::AppendReply { round, outcome })
}

pub(super) fn message() -> impl Strategy<Value = (ShardId, Message)> {
    let vote = (index(), term(), any::<bool>());
    let body = prop_oneof![
        (index(), term())
            .prop_map(|(last_index, last_term)| Body::RequestPreVote { last_index, last_term }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        vote.prop_map(|(last_index, last_term, transfer)| Body::RequestVote {
            last_index,
            last_term,
            transfer
        }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        append(),
        append_reply(),
        Just(Body::TimeoutNow),
        vec((index(), term()), 0..5).prop_map(|places| Body::FetchEntries { places }),
        (vec((index(), term(), bytes()), 0..4), vec(index(), 0..4)).prop_map(
            |(entries, missing)| {
                let entry = |(index, term, bytes): (Index, Term, &[u8])| {
                    let payload = Payload::new(bytes.to_vec());
                    Entry { index, term, kind: EntryKind::Normal, payload }
                };
                let entries = entries.into_iter().map(entry).collect();
                Body::FetchedEntries { entries, missing }
            }
        ),
        index().prop_map(|at_least| Body::FetchSnapshot { at_least }),
        (any::<u64>(), any::<u64>()).prop_map(|(nonce, number)| Body::ReadIndex { nonce, number }),
        (any::<u64>(), any::<u64>(), index())
            .prop_map(|(nonce, number, index)| Body::ReadIndexReply { nonce, number, index }),
    ];
    let head = (shard(), replica(), replica(), term());
    (head, body)
        .prop_map(|((shard, from, to, term), body)| (shard, Message { from, to, term, body }))
}

pub(super) fn request() -> impl Strategy<Value = Request<'static>> {
    let read = (shard(), number(), number(), 0..SLOTS, any::<u32>(), any::<bool>(), bytes());
    prop_oneof![
        (shard(), bytes()).prop_map(|(shard, chunk)| Request::Writes { shard, chunk }),
        read.prop_map(|(shard, epoch, read_id, slot, generation, after_writes, command)| {
            Request::Read { shard, epoch, read_id, slot, generation, after_writes, command }
        }),
    ]
}

pub(super) fn reply() -> impl Strategy<Value = Reply<'static>> {
    let written = prop_oneof![
        bytes().prop_map(WriteOutcome::Reply),
        Just(WriteOutcome::NotOwner),
        number().prop_map(|min_incarnation| WriteOutcome::Fenced { min_incarnation }),
    ];
    let read = prop_oneof![bytes().prop_map(ReadOutcome::Reply), Just(ReadOutcome::Refused)];
    let reasons = vec![
        RefusalReason::NotLeader,
        RefusalReason::Busy,
        RefusalReason::Behind,
        RefusalReason::NoRoom,
        RefusalReason::Loading,
    ];
    let refused = (number(), select(reasons), proptest::option::of(node()), term());
    prop_oneof![
        (shard(), number(), number(), written).prop_map(|(shard, epoch, seq, outcome)| {
            Reply::Written { shard, epoch, seq, outcome }
        }),
        (shard(), number(), number(), read).prop_map(|(shard, epoch, read_id, outcome)| {
            Reply::Read { shard, epoch, read_id, outcome }
        }),
        (shard(), number(), refused).prop_map(|(shard, epoch, refused)| {
            let (from_seq, reason, leader, term) = refused;
            Reply::Refused { shard, epoch, from_seq, reason, leader, term }
        }),
    ]
}

fn replicas() -> impl Strategy<Value = Vec<ReplicaId>> {
    btree_set(number(), 0..6).prop_map(|ids| ids.into_iter().map(ReplicaId).collect())
}

pub(super) fn snapshot() -> impl Strategy<Value = Snapshot<'static>> {
    let ends = (shard(), replica(), replica(), term());
    let meta = (index(), term(), replicas(), replicas(), replicas());
    let slots = proptest::option::of((0..SLOTS, 0..SLOTS));
    let slots = slots.prop_map(|ends| ends.map(|(a, b)| (Slot(a.min(b)), Slot(a.max(b)))));
    let content = (slots, bytes()).prop_map(|(slots, content)| ChunkView { slots, content });
    let chunk = (any::<u64>(), any::<u32>(), proptest::option::of(content));
    (ends, meta, chunk).prop_map(|(ends, meta, chunk)| Snapshot {
        shard: ends.0,
        from_replica: ends.1,
        to_replica: ends.2,
        term: ends.3,
        meta: SnapshotMeta {
            index: meta.0,
            term: meta.1,
            configuration: Configuration {
                voters: meta.2,
                outgoing: meta.3,
                learners: meta.4,
                retired: ReplicaId(meta.0.0),
                lease: meta.1.0,
            },
        },
        digest: chunk.0,
        number: chunk.1,
        chunk: chunk.2,
    })
}

pub(super) fn snapshot_reply() -> impl Strategy<Value = SnapshotReply> {
    let outcomes = vec![SnapshotOutcome::Next, SnapshotOutcome::Durable, SnapshotOutcome::Refused];
    (shard(), replica(), index(), any::<u32>(), select(outcomes)).prop_map(
        |(shard, to_replica, index, number, outcome)| SnapshotReply {
            shard,
            to_replica,
            index,
            number,
            outcome,
        },
    )
}
