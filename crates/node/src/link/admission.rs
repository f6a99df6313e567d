//! Asking for new replicas in the place of those that are dead (P4), and the answer.

use flotilla_raft::ReplicaId;
use flotilla_shard::ShardId;

use super::LinkError;
use super::wire::{Reader, put_number};

/// What a node has in the place of replicas that died: nothing, or replicas that are not yet
/// members as they should be. Sent again and again until they are.
///
/// | field | |
/// |---|---|
/// | until the end: shard | number, at most 32 bits, ascending |
/// | replica | number; 0 for none |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asking {
    /// Each shard and the living replica of it there, ascending by shard.
    pub(crate) shards: Vec<(ShardId, Option<ReplicaId>)>,
}

/// A leader's answer: a replica id that was never used, for the disk at the other end of this very
/// connection and no other.
///
/// | field | |
/// |---|---|
/// | shard | number, at most 32 bits |
/// | replica | number, at least 1 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Of which shard.
    pub(crate) shard: ShardId,
    /// The new replica.
    pub(crate) replica: ReplicaId,
}

impl Asking {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for &(shard, replica) in &self.shards {
            put_number(out, u64::from(shard.0));
            put_number(out, replica.map_or(0, |replica| replica.0));
        }
    }

    /// Reads the body of a packet.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(body);
        let mut shards: Vec<(ShardId, Option<ReplicaId>)> = Vec::new();
        while !reader.is_empty() {
            let shard = ShardId(reader.small("shard asked for")?);
            if shards.last().is_some_and(|&(last, _)| last >= shard) {
                return Err(LinkError::Value { field: "order of shards asked for" });
            }
            let replica = match reader.number("living replica")? {
                0 => None,
                id => Some(ReplicaId(id)),
            };
            shards.push((shard, replica));
        }
        Ok(Self { shards })
    }
}

impl Admitted {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(self.shard.0));
        put_number(out, self.replica.0);
    }

    /// Reads the body of a packet.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(body);
        let shard = ShardId(reader.small("shard admitted to")?);
        let replica = match reader.number("admitted replica")? {
            0 => return Err(LinkError::Value { field: "admitted replica" }),
            id => ReplicaId(id),
        };
        reader.finish()?;
        Ok(Self { shard, replica })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let asking =
            Asking { shards: vec![(ShardId(0), None), (ShardId(3), Some(ReplicaId(1 << 40)))] };
        let mut bytes = Vec::new();
        asking.encode(&mut bytes);
        assert_eq!(Asking::decode(&bytes), Ok(asking));
        assert!(Asking::decode(&[3, 0, 3, 0]).is_err(), "a shard is asked for once");
        let admitted = Admitted { shard: ShardId(2), replica: ReplicaId(77) };
        let mut bytes = Vec::new();
        admitted.encode(&mut bytes);
        assert_eq!(Admitted::decode(&bytes), Ok(admitted));
        assert!(Admitted::decode(&[2, 0]).is_err() && Admitted::decode(&[2, 1, 1]).is_err());
    }
}
