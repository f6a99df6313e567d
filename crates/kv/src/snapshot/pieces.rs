//! The pieces of a snapshot, decoded one by one and in a possible order; what they mean together
//! is for whoever takes them.

use flotilla_shard::{SLOTS, Slot, slot_of};

use super::{BODY, CHECKPOINT, END, FORMAT, GENERATION, HEAD, KEY, NODE, OWNED, RECORD, STREAM};
use crate::args::{Malformed, Reader};
use crate::entry::WHOLE_SHARD;

/// One piece, with the whole body that follows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    Head { hash_seed: u64, applied_index: u64, clock_ms: u64 },
    Owned { first: Slot, last: Slot },
    Generation { slot: Slot, generation: u32 },
    Checkpoint { index: u64, hash: u64 },
    Node { id: u32, min_incarnation: u64, incarnation: u64, nonce: u64 },
    Stream { lane: u16, epoch: u64, acked: u64, floor: u64 },
    Record { seq: u64, slot: u16, reply: &'a [u8] },
    Key(SnapshotKey<'a>),
    End { keys: u64, hash: u64 },
}

/// A key in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotKey<'a> {
    /// The key's slot.
    pub slot: Slot,
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// When it expires, in Unix milliseconds; `None` if never.
    pub expires_at_ms: Option<u64>,
}

/// Takes chunks and gives out pieces: one head first, one end last, each body after what it is of.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    has_head: bool,
    has_end: bool,
    open: Option<Open>,
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

impl Decoder {
    /// Gives the pieces of the next chunk to `take`. The work is in proportion to its length.
    ///
    /// # Errors
    /// The bytes are no pieces, or these can't follow what came before, or `take` refused one.
    pub(super) fn chunk(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(Piece<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let kind = reader.u8("kind of a piece")?;
            if self.has_end {
                return Err(Malformed::new("snapshot: a piece after the end"));
            }
            if self.has_head == (kind == HEAD) {
                return Err(Malformed::new("snapshot: it begins with its one head"));
            }
            if self.open.is_some() != (kind == BODY) {
                return Err(Malformed::new("snapshot: bodies follow what they are of"));
            }
            match kind {
                RECORD => self.record(&mut reader, take)?,
                KEY => self.key(&mut reader, take)?,
                BODY => self.body(&mut reader, take)?,
                _ => take(plain(kind, &mut reader)?)?,
            }
            self.has_head = true;
            self.has_end = kind == END;
        }
        Ok(())
    }

    fn record(
        &mut self,
        reader: &mut Reader<'_>,
        take: &mut impl FnMut(Piece<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let (seq, slot) = (reader.u64("position")?, reader.u16("slot of a record")?);
        if slot >= SLOTS && slot != WHOLE_SHARD {
            return Err(Malformed::new("slot of a record"));
        }
        let len = reader.u32("length of a reply")?;
        self.open(Of::Record { seq, slot }, len.into(), take)
    }

    fn key(
        &mut self,
        reader: &mut Reader<'_>,
        take: &mut impl FnMut(Piece<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let slot = slot(reader)?;
        let expires_at_ms = Some(reader.u64("expiry")?).filter(|&at| at != 0);
        let (key_len, value_len) = (reader.u32("key length")?, reader.u32("value length")?);
        let of = Of::Key { slot, expires_at_ms, key_len: key_len as usize };
        self.open(of, u64::from(key_len) + u64::from(value_len), take)
    }

    /// Waits for the body of a record or key.
    fn open(
        &mut self,
        of: Of,
        len: u64,
        take: &mut impl FnMut(Piece<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if len == 0 {
            return take(whole(of, &[])?);
        }
        self.open = Some(Open { of, len, body: Vec::new() });
        Ok(())
    }

    fn body(
        &mut self,
        reader: &mut Reader<'_>,
        take: &mut impl FnMut(Piece<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
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
            return take(whole(open.of, part)?);
        }
        open.body.extend_from_slice(part);
        take(whole(open.of, &open.body)?)
    }
}

/// A piece that no body follows.
fn plain(kind: u8, reader: &mut Reader<'_>) -> Result<Piece<'static>, Malformed> {
    Ok(match kind {
        HEAD => {
            if reader.u8("format of a snapshot")? != FORMAT {
                return Err(Malformed::new("format of a snapshot"));
            }
            let hash_seed = reader.u64("hash seed")?;
            let applied_index = reader.u64("applied index")?;
            Piece::Head { hash_seed, applied_index, clock_ms: reader.u64("clock")? }
        }
        OWNED => Piece::Owned { first: slot(reader)?, last: slot(reader)? },
        GENERATION => {
            let slot = slot(reader)?;
            Piece::Generation { slot, generation: reader.u32("generation of a slot")? }
        }
        CHECKPOINT => {
            let index = reader.u64("checkpoint index")?;
            Piece::Checkpoint { index, hash: reader.u64("checkpoint hash")? }
        }
        NODE => Piece::Node {
            id: reader.u32("node")?,
            min_incarnation: reader.u64("lowest incarnation")?,
            incarnation: reader.u64("incarnation")?,
            nonce: reader.u64("boot nonce")?,
        },
        STREAM => Piece::Stream {
            lane: reader.u16("lane")?,
            epoch: reader.u64("epoch")?,
            acked: reader.u64("acked position")?,
            floor: reader.u64("floor")?,
        },
        END => {
            let keys = reader.u64("number of keys")?;
            Piece::End { keys, hash: reader.u64("hash of a snapshot")? }
        }
        _ => return Err(Malformed::new("kind of a piece")),
    })
}

/// A record or key with its body.
fn whole(of: Of, body: &[u8]) -> Result<Piece<'_>, Malformed> {
    match of {
        Of::Record { seq, slot } => Ok(Piece::Record { seq, slot, reply: body }),
        Of::Key { slot, expires_at_ms, key_len } => {
            let (key, value) = body.split_at(key_len);
            if slot_of(key) != slot {
                return Err(Malformed::new("snapshot: a key in another key's slot"));
            }
            Ok(Piece::Key(SnapshotKey { slot, key, value, expires_at_ms }))
        }
    }
}

fn slot(reader: &mut Reader<'_>) -> Result<Slot, Malformed> {
    let slot = reader.u16("slot")?;
    if slot < SLOTS { Ok(Slot(slot)) } else { Err(Malformed::new("slot")) }
}
