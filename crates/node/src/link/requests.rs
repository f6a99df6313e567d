//! Commands forwarded to the leader of their shard, in the order the origin took them (P7, P8).
//!
//! The body is a row of items until its end:
//!
//! | tag | item | fields |
//! |---|---|---|
//! | 1 | writes | shard: number, chunk: bytes |
//! | 2 | read | shard, epoch, read id, slot, generation: numbers |
//! | | | after writes: flag, command: bytes |
//!
//! Chunks and commands are opaque here: what is in them is the key-value machine's business.

use flotilla_kv::WHOLE_SHARD;
use flotilla_shard::{SLOTS, ShardId};

use super::LinkError;
use super::wire::{Reader, put_bytes, put_number};

const WRITES: u8 = 1;
const READ: u8 = 2;

/// One forwarded item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// Numbered writes of the origin's stream to a shard.
    Writes {
        /// To which shard.
        shard: ShardId,
        /// Stream epoch, numbers and commands, as they will stand in the log.
        chunk: &'a [u8],
    },
    /// A read.
    Read {
        /// Of which shard.
        shard: ShardId,
        /// The stream's epoch it belongs to.
        epoch: u64,
        /// The origin's name for it.
        read_id: u64,
        /// The slot read, or [`WHOLE_SHARD`].
        slot: u16,
        /// The ownership generation of that slot that the origin knows.
        generation: u32,
        /// Whether its connection has earlier writes in this stream, which it must see.
        after_writes: bool,
        /// The command.
        command: &'a [u8],
    },
}

/// Appends items to the body of a packet.
#[derive(Debug)]
pub(crate) struct RequestEncoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> RequestEncoder<'a> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends one item.
    pub(crate) fn push(&mut self, request: Request<'_>) {
        let out = &mut *self.out;
        match request {
            Request::Writes { shard, chunk } => {
                out.push(WRITES);
                put_number(out, u64::from(shard.0));
                put_bytes(out, chunk);
            }
            Request::Read { shard, epoch, read_id, slot, generation, after_writes, command } => {
                out.push(READ);
                put_number(out, u64::from(shard.0));
                put_number(out, epoch);
                put_number(out, read_id);
                put_number(out, u64::from(slot));
                put_number(out, u64::from(generation));
                out.push(u8::from(after_writes));
                put_bytes(out, command);
            }
        }
    }
}

/// The items of a packet's body, in order. After an error there are no more.
#[derive(Clone, Debug)]
pub(crate) struct Requests<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> Requests<'a> {
    /// Reads `body`.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body), failed: false }
    }
}

impl<'a> Iterator for Requests<'a> {
    type Item = Result<Request<'a>, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let request = decode(&mut self.reader);
        self.failed = request.is_err();
        Some(request)
    }
}

fn decode<'a>(reader: &mut Reader<'a>) -> Result<Request<'a>, LinkError> {
    let tag = reader.byte("kind of request")?;
    let shard = ShardId(reader.small("shard of a request")?);
    match tag {
        WRITES => Ok(Request::Writes { shard, chunk: reader.bytes("chunk of writes")? }),
        READ => Ok(Request::Read {
            shard,
            epoch: reader.number("epoch of a read")?,
            read_id: reader.number("id of a read")?,
            slot: match reader.small("slot of a read")? {
                slot if slot < SLOTS || slot == WHOLE_SHARD => slot,
                _ => return Err(LinkError::Value { field: "slot of a read" }),
            },
            generation: reader.small("generation of a read")?,
            after_writes: reader.flag("order of a read")?,
            command: reader.bytes("command of a read")?,
        }),
        _ => Err(LinkError::Value { field: "kind of request" }),
    }
}
