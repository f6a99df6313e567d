//! Snapshots between nodes: chunk by chunk, each answered before the next, on a link of their own.
//!
//! [`Snapshot`]:
//!
//! | field | |
//! |---|---|
//! | shard, from replica, to replica, term | numbers |
//! | index, term of index | numbers |
//! | voters, outgoing, learners | each a count and so many numbers, ascending |
//! | retired, lease | numbers: the highest id that is a member no more; µs |
//! | chunk number | number, at most 32 bits |
//! | chunk follows | flag; not after the last chunk |
//! | chunk | until the end |
//!
//! [`SnapshotReply`]:
//!
//! | field | |
//! |---|---|
//! | shard, to replica, index, chunk number | numbers |
//! | outcome | u8: 1 next, 2 durable, 3 refused |

use flotilla_raft::{Configuration, Index, ReplicaId, SnapshotMeta, Term};
use flotilla_shard::ShardId;

use super::LinkError;
use super::wire::{Reader, put_number};

/// One chunk of a leader's snapshot, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot<'a> {
    /// Of which shard.
    pub(crate) shard: ShardId,
    /// The leader's replica.
    pub(crate) from_replica: ReplicaId,
    /// Whom it is for.
    pub(crate) to_replica: ReplicaId,
    /// The leader's term.
    pub(crate) term: Term,
    /// What the snapshot stands for.
    pub(crate) meta: SnapshotMeta,
    /// Which chunk, from 0.
    pub(crate) number: u32,
    /// The chunk; `None` says that the one before was the last.
    pub(crate) chunk: Option<&'a [u8]>,
}

/// The answer to a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotReply {
    /// Of which shard.
    pub(crate) shard: ShardId,
    /// The replica that answers.
    pub(crate) to_replica: ReplicaId,
    /// The index the snapshot stands for.
    pub(crate) index: Index,
    /// The number of the chunk answered.
    pub(crate) number: u32,
    /// What became of it.
    pub(crate) outcome: SnapshotOutcome,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotOutcome {
    /// It is in the file: send the next.
    Next,
    /// The whole snapshot is durable.
    Durable,
    /// The snapshot is not wanted, or a chunk is missing.
    Refused,
}

impl<'a> Snapshot<'a> {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(self.shard.0));
        put_number(out, self.from_replica.0);
        put_number(out, self.to_replica.0);
        put_number(out, self.term.0);
        put_number(out, self.meta.index.0);
        put_number(out, self.meta.term.0);
        let configuration = &self.meta.configuration;
        put_replicas(out, &configuration.voters);
        put_replicas(out, &configuration.outgoing);
        put_replicas(out, &configuration.learners);
        put_number(out, configuration.retired.0);
        put_number(out, configuration.lease);
        put_number(out, u64::from(self.number));
        out.push(u8::from(self.chunk.is_some()));
        out.extend_from_slice(self.chunk.unwrap_or_default());
    }

    /// Reads the body of a packet.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(body);
        let mut snapshot = Self {
            shard: ShardId(reader.small("shard of a snapshot")?),
            from_replica: ReplicaId(reader.number("sender of a snapshot")?),
            to_replica: ReplicaId(reader.number("receiver of a snapshot")?),
            term: Term(reader.number("leader's term of a snapshot")?),
            meta: meta(&mut reader)?,
            number: reader.small("chunk's number of a snapshot")?,
            chunk: None,
        };
        if reader.flag("chunk of a snapshot")? {
            snapshot.chunk = Some(&body[reader.position()..]);
        } else {
            reader.finish()?;
        }
        Ok(snapshot)
    }
}

impl SnapshotReply {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(self.shard.0));
        put_number(out, self.to_replica.0);
        put_number(out, self.index.0);
        put_number(out, u64::from(self.number));
        out.push(match self.outcome {
            SnapshotOutcome::Next => 1,
            SnapshotOutcome::Durable => 2,
            SnapshotOutcome::Refused => 3,
        });
    }

    /// Reads the body of a packet.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(body);
        let reply = Self {
            shard: ShardId(reader.small("shard of a snapshot's answer")?),
            to_replica: ReplicaId(reader.number("replica of a snapshot's answer")?),
            index: Index(reader.number("index of a snapshot's answer")?),
            number: reader.small("chunk's number of a snapshot's answer")?,
            outcome: match reader.byte("outcome of a snapshot's answer")? {
                1 => SnapshotOutcome::Next,
                2 => SnapshotOutcome::Durable,
                3 => SnapshotOutcome::Refused,
                _ => return Err(LinkError::Value { field: "outcome of a snapshot's answer" }),
            },
        };
        reader.finish()?;
        Ok(reply)
    }
}

fn meta(reader: &mut Reader<'_>) -> Result<SnapshotMeta, LinkError> {
    Ok(SnapshotMeta {
        index: Index(reader.number("index of a snapshot")?),
        term: Term(reader.number("term of a snapshot")?),
        configuration: Configuration {
            voters: replicas(reader, "voters of a snapshot")?,
            outgoing: replicas(reader, "outgoing voters of a snapshot")?,
            learners: replicas(reader, "learners of a snapshot")?,
            retired: ReplicaId(reader.number("highest retired id of a snapshot")?),
            lease: reader.number("lease of a snapshot")?,
        },
    })
}

fn put_replicas(out: &mut Vec<u8>, replicas: &[ReplicaId]) {
    put_number(out, replicas.len() as u64);
    for replica in replicas {
        put_number(out, replica.0);
    }
}

/// The list must ascend strictly, as a configuration's lists do.
fn replicas(reader: &mut Reader<'_>, field: &'static str) -> Result<Vec<ReplicaId>, LinkError> {
    let count = reader.count(1, field)?;
    let mut replicas: Vec<ReplicaId> = Vec::with_capacity(count);
    for _ in 0..count {
        let replica = ReplicaId(reader.number(field)?);
        if replicas.last().is_some_and(|&last| last >= replica) {
            return Err(LinkError::Value { field });
        }
        replicas.push(replica);
    }
    Ok(replicas)
}
