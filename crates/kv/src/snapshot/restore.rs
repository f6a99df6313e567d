//! Building a machine from the pieces of a snapshot, a chunk of them at a time.

use flotilla_shard::{SLOTS, Slot, slot_of};

use super::{BODY, CHECKPOINT, END, FORMAT, GENERATION, HEAD, KEY, NODE, OWNED, RECORD, STREAM};
use crate::args::{Malformed, Reader};
use crate::entry::WHOLE_SHARD;
use crate::machine::Machine;
use crate::session::{NodeSession, Stream};

/// A machine being restored. The work for a chunk is in proportion to its length.
#[derive(Debug)]
pub struct Restorer {
    machine: Machine,
    has_head: bool,
    /// The node and the lane whose sessions are being restored.
    node: Option<u32>,
    lane: Option<u16>,
    open: Option<Open>,
    /// Number of keys and hash, as the end says.
    end: Option<(u64, u64)>,
}

/// A record or key whose body has not arrived whole.
#[derive(Debug)]
struct Open {
    of: Of,
    len: u64,
    body: Vec<u8>,
}

/// What a body is of.
#[derive(Clone, Copy, Debug)]
enum Of {
    Record { seq: u64, slot: u16 },
    Key { slot: Slot, expires_at_ms: Option<u64>, key_len: usize },
}

impl Restorer {
    /// Nothing restored yet. The seed is the cluster's.
    pub fn new(hash_seed: u64) -> Self {
        Self {
            machine: Machine::new(hash_seed, &[]),
            has_head: false,
            node: None,
            lane: None,
            open: None,
            end: None,
        }
    }

    /// Takes the next whole pieces.
    ///
    /// # Errors
    /// The bytes are no pieces, or these can't follow what came before. The restorer must be given
    /// up then.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let kind = reader.u8("kind of a piece")?;
            if self.end.is_some() {
                return Err(Malformed::new("snapshot: a piece after the end"));
            }
            if self.has_head == (kind == HEAD) {
                return Err(Malformed::new("snapshot: it begins with its one head"));
            }
            if self.open.is_some() != (kind == BODY) {
                return Err(Malformed::new("snapshot: bodies follow what they are of"));
            }
            self.piece(kind, &mut reader)?;
        }
        Ok(())
    }

    /// The restored machine.
    ///
    /// # Errors
    /// The snapshot has not ended, or what was restored is not what was written.
    pub fn finish(self) -> Result<Machine, Malformed> {
        let end = self.end.ok_or(Malformed::new("snapshot: it has no end"))?;
        if end != (self.machine.key_count(), self.machine.snapshot_hash()) {
            return Err(Malformed::new("snapshot: its hash is another"));
        }
        Ok(self.machine)
    }

    fn piece(&mut self, kind: u8, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match kind {
            HEAD => self.head(reader),
            OWNED => self.owned(reader),
            GENERATION => {
                let slot = slot(reader)?;
                let generation = reader.u32("generation of a slot")?;
                self.machine.ownership.generations.insert(slot.0, generation);
                Ok(())
            }
            CHECKPOINT => {
                let checkpoint = (reader.u64("checkpoint index")?, reader.u64("checkpoint hash")?);
                self.machine.checkpoints.push_back(checkpoint);
                Ok(())
            }
            NODE => self.node(reader),
            STREAM => self.stream(reader),
            RECORD => self.record(reader),
            KEY => self.key(reader),
            BODY => self.body(reader),
            END => {
                self.end = Some((reader.u64("number of keys")?, reader.u64("hash of a snapshot")?));
                Ok(())
            }
            _ => Err(Malformed::new("kind of a piece")),
        }
    }

    fn head(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        if reader.u8("format of a snapshot")? != FORMAT {
            return Err(Malformed::new("format of a snapshot"));
        }
        if reader.u64("hash seed")? != self.machine.keyspace.hash_seed() {
            return Err(Malformed::new("snapshot: the hash seed is another cluster's"));
        }
        self.machine.applied_index = reader.u64("applied index")?;
        self.machine.keyspace.begin_at(self.machine.applied_index);
        self.machine.clock_ms = reader.u64("clock")?;
        self.has_head = true;
        Ok(())
    }

    fn owned(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let (first, last) = (slot(reader)?, slot(reader)?);
        for slot in first.0..=last.0 {
            self.machine.ownership.owned.insert(Slot(slot));
        }
        Ok(())
    }

    fn node(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let id = reader.u32("node")?;
        let node = NodeSession {
            min_incarnation: reader.u64("lowest incarnation")?,
            incarnation: reader.u64("incarnation")?,
            nonce: reader.u64("boot nonce")?,
            streams: std::collections::BTreeMap::new(),
        };
        if !self.machine.sessions.restore_node(id, node) {
            return Err(Malformed::new("snapshot: a node twice"));
        }
        (self.node, self.lane) = (Some(id), None);
        Ok(())
    }

    fn stream(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let lane = reader.u16("lane")?;
        let (epoch, acked) = (reader.u64("epoch")?, reader.u64("acked position")?);
        let stream = Stream::new(epoch, acked, reader.u64("floor")?);
        let node = self.node.and_then(|id| self.machine.sessions.node_mut(id));
        let node = node.ok_or(Malformed::new("snapshot: a stream without its node"))?;
        if node.streams.insert(lane, stream).is_some() {
            return Err(Malformed::new("snapshot: a stream twice"));
        }
        self.lane = Some(lane);
        Ok(())
    }

    fn record(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let (seq, slot) = (reader.u64("position")?, reader.u16("slot of a record")?);
        if slot >= SLOTS && slot != WHOLE_SHARD {
            return Err(Malformed::new("slot of a record"));
        }
        let len = reader.u32("length of a reply")?;
        self.open(Of::Record { seq, slot }, len.into())
    }

    fn key(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let slot = slot(reader)?;
        let expires_at_ms = Some(reader.u64("expiry")?).filter(|&at| at != 0);
        let (key_len, value_len) = (reader.u32("key length")?, reader.u32("value length")?);
        let of = Of::Key { slot, expires_at_ms, key_len: key_len as usize };
        self.open(of, u64::from(key_len) + u64::from(value_len))
    }

    /// Waits for the body of a record or key.
    fn open(&mut self, of: Of, len: u64) -> Result<(), Malformed> {
        if len == 0 {
            return self.close(of, &[]);
        }
        self.open = Some(Open { of, len, body: Vec::new() });
        Ok(())
    }

    fn body(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let len = reader.u32("length of a body")?;
        let part = reader.take(len as usize, "body")?;
        let mut open = self.open.take().ok_or(Malformed::new("snapshot: a body of nothing"))?;
        let so_far = (open.body.len() + part.len()) as u64;
        if part.is_empty() || so_far > open.len {
            return Err(Malformed::new("length of a body"));
        }
        if so_far < open.len {
            open.body.extend_from_slice(part);
            self.open = Some(open);
            return Ok(());
        }
        if open.body.is_empty() {
            return self.close(open.of, part);
        }
        open.body.extend_from_slice(part);
        self.close(open.of, &open.body)
    }

    /// Puts a record or key in, whose body is whole.
    fn close(&mut self, of: Of, body: &[u8]) -> Result<(), Malformed> {
        match of {
            Of::Key { slot, expires_at_ms, key_len } => {
                let (key, value) = body.split_at(key_len);
                if slot_of(key) != slot {
                    return Err(Malformed::new("snapshot: a key in another key's slot"));
                }
                self.machine.keyspace.set(slot, key, value, expires_at_ms);
            }
            Of::Record { seq, slot } => {
                let node = self.node.and_then(|id| self.machine.sessions.node_mut(id));
                let stream = self.lane.and_then(|lane| node?.streams.get_mut(&lane));
                let stream = stream.ok_or(Malformed::new("snapshot: a record without a stream"))?;
                if seq <= stream.acked || stream.records().contains_key(&seq) {
                    return Err(Malformed::new("snapshot: a record acked or twice"));
                }
                stream.record(seq, slot, body);
            }
        }
        Ok(())
    }
}

fn slot(reader: &mut Reader<'_>) -> Result<Slot, Malformed> {
    let slot = reader.u16("slot")?;
    if slot < SLOTS { Ok(Slot(slot)) } else { Err(Malformed::new("slot")) }
}
