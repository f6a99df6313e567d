//! Snapshots between nodes: chunk by chunk on a link of their own, a few at a time unanswered.
//!
//! [`Snapshot`]:
//!
//! | field | |
//! |---|---|
//! | shard, from replica, to replica, term | numbers |
//! | index, term of index | numbers |
//! | voters, outgoing, learners | each a count and so many numbers, ascending |
//! | retired, lease | numbers: the highest id that is a member no more; µs |
//! | digest | u64, little-endian: of the whole snapshot file |
//! | chunk number | number, at most 32 bits |
//! | chunk follows | flag; not after the last chunk |
//! | keys follow | flag, if a chunk follows; then first slot, last slot |
//! | chunk | until the end |
//!
//! [`SnapshotReply`]:
//!
//! | field | |
//! |---|---|
//! | shard, to replica, index, chunk number | numbers |
//! | outcome | u8: 1 next, 2 durable, 3 refused |
//!
//! The first chunk goes alone. Its answer names the next one wanted, which is a later one where
//! part of the same file has come before: over a link that broke, or from a leader before this one.

use flotilla_raft::{Configuration, Index, ReplicaId, SnapshotMeta, Term};
use flotilla_shard::{SLOTS, ShardId, Slot};

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
    /// The digest of the whole file.
    pub(crate) digest: u64,
    /// Which chunk, from 0.
    pub(crate) number: u32,
    /// The chunk; `None` says that the one before was the last.
    pub(crate) chunk: Option<ChunkView<'a>>,
}

/// A chunk in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkView<'a> {
    /// The first and the last slot of which it has keys, if it has keys.
    pub(crate) slots: Option<(Slot, Slot)>,
    /// What it holds.
    pub(crate) content: &'a [u8],
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
    /// All chunks below this are in the file, or on their way there.
    pub(crate) number: u32,
    /// What is to become of it.
    pub(crate) outcome: SnapshotOutcome,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotOutcome {
    /// Go on.
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
        out.extend_from_slice(&self.digest.to_le_bytes());
        put_number(out, u64::from(self.number));
        out.push(u8::from(self.chunk.is_some()));
        let Some(ChunkView { slots, content }) = self.chunk else { return };
        out.push(u8::from(slots.is_some()));
        if let Some((first, last)) = slots {
            put_number(out, u64::from(first.0));
            put_number(out, u64::from(last.0));
        }
        out.extend_from_slice(content);
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
            digest: reader.word("digest of a snapshot")?,
            number: reader.small("chunk's number of a snapshot")?,
            chunk: None,
        };
        if reader.flag("chunk of a snapshot")? {
            let has_keys = reader.flag("keys of a chunk")?;
            let slots = has_keys.then(|| slots(&mut reader)).transpose()?;
            snapshot.chunk = Some(ChunkView { slots, content: &body[reader.position()..] });
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

fn slots(reader: &mut Reader<'_>) -> Result<(Slot, Slot), LinkError> {
    let (first, last): (u16, u16) = (reader.small("first slot")?, reader.small("last slot")?);
    if first > last || last >= SLOTS {
        return Err(LinkError::Value { field: "slots of a chunk" });
    }
    Ok((Slot(first), Slot(last)))
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
