//! Building a machine from the pieces of a snapshot, a chunk of them at a time.

use super::pieces::{Decoder, Piece};
use crate::args::Malformed;
use crate::machine::Machine;
use crate::session::{NodeSession, Stream};

/// A machine being restored. The work for a chunk is in proportion to its length.
#[derive(Debug)]
pub struct Restorer {
    decoder: Decoder,
    building: Building,
}

impl Restorer {
    /// Nothing restored yet. The seed is the cluster's.
    pub fn new(hash_seed: u64) -> Self {
        Self { decoder: Decoder::default(), building: Building::new(hash_seed) }
    }

    /// Takes the next whole pieces.
    ///
    /// # Errors
    /// The bytes are no pieces, or these can't follow what came before. The restorer must be given
    /// up then.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.decoder.chunk(bytes, &mut |piece| match piece {
            Piece::Key(item) => {
                let keyspace = &mut self.building.machine.keyspace;
                keyspace.set(item.slot, item.key, item.value, item.expires_at_ms);
                Ok(())
            }
            piece => self.building.take(piece),
        })
    }

    /// The restored machine.
    ///
    /// # Errors
    /// The snapshot has not ended, or what was restored is not what was written.
    pub fn finish(self) -> Result<Machine, Malformed> {
        let machine = &self.building.machine;
        self.building.check_end(machine.keyspace.digest(), machine.key_count())?;
        Ok(self.building.machine)
    }
}

/// All of a machine but its keys.
#[derive(Debug)]
pub(super) struct Building {
    pub(super) machine: Machine,
    /// The node and the lane whose sessions are being restored.
    node: Option<u32>,
    lane: Option<u16>,
    /// Number of keys and hash, as the end says.
    end: Option<(u64, u64)>,
}

impl Building {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self { machine: Machine::new(hash_seed, &[]), node: None, lane: None, end: None }
    }

    /// Takes a piece that is not a key.
    pub(super) fn take(&mut self, piece: Piece<'_>) -> Result<(), Malformed> {
        match piece {
            Piece::Head { hash_seed, applied_index, clock_ms } => {
                if hash_seed != self.machine.keyspace.hash_seed() {
                    return Err(Malformed::new("snapshot: the hash seed is another cluster's"));
                }
                self.machine.applied_index = applied_index;
                self.machine.keyspace.begin_at(applied_index);
                self.machine.clock_ms = clock_ms;
            }
            Piece::Owned { first, last } => {
                let slots = (first.0..=last.0).map(crate::Slot);
                slots.for_each(|slot| self.machine.ownership.owned.insert(slot));
            }
            Piece::Generation { slot, generation } => {
                self.machine.ownership.generations.insert(slot.0, generation);
            }
            Piece::Checkpoint { index, hash } => self.machine.checkpoints.push_back((index, hash)),
            Piece::Node { id, min_incarnation, incarnation, nonce } => {
                let streams = std::collections::BTreeMap::new();
                let node = NodeSession { min_incarnation, incarnation, nonce, streams };
                if !self.machine.sessions.restore_node(id, node) {
                    return Err(Malformed::new("snapshot: a node twice"));
                }
                (self.node, self.lane) = (Some(id), None);
            }
            Piece::Stream { lane, epoch, acked, floor } => {
                return self.stream(lane, Stream::new(epoch, acked, floor));
            }
            Piece::Record { seq, slot, reply } => return self.record(seq, slot, reply),
            Piece::Key(_) => unreachable!("keys are for whoever has a place for them"),
            Piece::End { keys, hash } => self.end = Some((keys, hash)),
        }
        Ok(())
    }

    /// Compares the end with everything taken, and with the keys: their digest and number.
    pub(super) fn check_end(&self, keys_digest: u64, keys: u64) -> Result<(), Malformed> {
        let end = self.end.ok_or(Malformed::new("snapshot: it has no end"))?;
        if end != (keys, self.machine.snapshot_hash(keys_digest, keys)) {
            return Err(Malformed::new("snapshot: its hash is another"));
        }
        Ok(())
    }

    fn stream(&mut self, lane: u16, stream: Stream) -> Result<(), Malformed> {
        let node = self.node.and_then(|id| self.machine.sessions.node_mut(id));
        let node = node.ok_or(Malformed::new("snapshot: a stream without its node"))?;
        if node.streams.insert(lane, stream).is_some() {
            return Err(Malformed::new("snapshot: a stream twice"));
        }
        self.lane = Some(lane);
        Ok(())
    }

    fn record(&mut self, seq: u64, slot: u16, reply: &[u8]) -> Result<(), Malformed> {
        let node = self.node.and_then(|id| self.machine.sessions.node_mut(id));
        let stream = self.lane.and_then(|lane| node?.streams.get_mut(&lane));
        let stream = stream.ok_or(Malformed::new("snapshot: a record without a stream"))?;
        if seq <= stream.acked || stream.has_record(seq) {
            return Err(Malformed::new("snapshot: a record acked or twice"));
        }
        stream.record(seq, slot, reply);
        Ok(())
    }
}
