//! What became of forwarded commands, in the order the leader settled them (P7, P8).
//!
//! The body is a row of items until its end:
//!
//! | tag | item | fields |
//! |---|---|---|
//! | 1 | written | shard, epoch, seq: numbers, reply: bytes |
//! | 2 | not written, not owner | shard, epoch, seq: numbers |
//! | 3 | not written, fenced | shard, epoch, seq, min incarnation: numbers |
//! | 4 | read | shard, epoch, read id: numbers, reply: bytes |
//! | 5 | not read | shard, epoch, read id: numbers |
//! | 6 | refused | shard, epoch, from seq: numbers, reason: u8, leader: number or 0, term: number |

use flotilla_raft::Term;
use flotilla_shard::{NodeId, ShardId};

use super::LinkError;
use super::wire::{Reader, put_bytes, put_number};

const WRITTEN: u8 = 1;
const NOT_OWNER: u8 = 2;
const FENCED: u8 = 3;
const READ: u8 = 4;
const NOT_READ: u8 = 5;
const REFUSED: u8 = 6;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// A write is settled.
    Written {
        /// By which shard.
        shard: ShardId,
        /// The stream's epoch in which it was sent.
        epoch: u64,
        /// Its number in the stream.
        seq: u64,
        /// How it ended.
        outcome: WriteOutcome<'a>,
    },
    /// A read is settled.
    Read {
        /// By which shard.
        shard: ShardId,
        /// The stream's epoch in which it was sent.
        epoch: u64,
        /// The origin's name for it.
        read_id: u64,
        /// How it ended.
        outcome: ReadOutcome<'a>,
    },
    /// Every write of this stream's epoch from `from_seq` on, and all its unanswered reads, were
    /// not and will not be taken.
    Refused {
        /// By which shard's replica.
        shard: ShardId,
        /// The stream's epoch.
        epoch: u64,
        /// The first number refused.
        from_seq: u64,
        /// Why.
        reason: RefusalReason,
        /// The leader, as far as the refusing node knows.
        leader: Option<NodeId>,
        /// The term of that knowledge.
        term: Term,
    },
}

/// How a write that was taken ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome<'a> {
    /// Applied, now or by an earlier attempt: its reply.
    Reply(&'a [u8]),
    /// Void: the shard does not own the slot in that generation.
    NotOwner,
    /// Void: the origin's boot is fenced.
    Fenced {
        /// The lowest incarnation of that node that the shard still takes.
        min_incarnation: u64,
    },
}

/// How a read that was taken ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome<'a> {
    /// Its reply.
    Reply(&'a [u8]),
    /// Not served: ask again.
    Refused,
}

/// Why a stream's epoch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// The node does not lead the shard.
    NotLeader,
    /// The leader has too much in flight; try again later.
    Busy,
    /// The leader misses something earlier of the stream: begin a new epoch.
    Behind,
    /// The leader's disk is full: no write is taken before there is room.
    NoRoom,
    /// The leader's table is being loaded, which takes longer; nothing of it waits there.
    Loading,
}

/// Appends items to the body of a packet.
#[derive(Debug)]
pub(crate) struct ReplyEncoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> ReplyEncoder<'a> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends one item.
    pub(crate) fn push(&mut self, reply: Reply<'_>) {
        match reply {
            Reply::Written { shard, epoch, seq, outcome } => match outcome {
                WriteOutcome::Reply(bytes) => {
                    self.begin(WRITTEN, shard, epoch, seq);
                    put_bytes(self.out, bytes);
                }
                WriteOutcome::NotOwner => self.begin(NOT_OWNER, shard, epoch, seq),
                WriteOutcome::Fenced { min_incarnation } => {
                    self.begin(FENCED, shard, epoch, seq);
                    put_number(self.out, min_incarnation);
                }
            },
            Reply::Read { shard, epoch, read_id, outcome } => match outcome {
                ReadOutcome::Reply(bytes) => {
                    self.begin(READ, shard, epoch, read_id);
                    put_bytes(self.out, bytes);
                }
                ReadOutcome::Refused => self.begin(NOT_READ, shard, epoch, read_id),
            },
            Reply::Refused { shard, epoch, from_seq, reason, leader, term } => {
                assert!(leader != Some(NodeId(0)), "node 0 does not exist");
                self.begin(REFUSED, shard, epoch, from_seq);
                self.out.push(reason_byte(reason));
                put_number(self.out, leader.map_or(0, |node| u64::from(node.0)));
                put_number(self.out, term.0);
            }
        }
    }

    fn begin(&mut self, tag: u8, shard: ShardId, epoch: u64, number: u64) {
        self.out.push(tag);
        put_number(self.out, u64::from(shard.0));
        put_number(self.out, epoch);
        put_number(self.out, number);
    }
}

/// The items of a packet's body, in order. After an error there are no more.
#[derive(Clone, Debug)]
pub(crate) struct Replies<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> Replies<'a> {
    /// Reads `body`.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body), failed: false }
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Reply<'a>, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let reply = decode(&mut self.reader);
        self.failed = reply.is_err();
        Some(reply)
    }
}

fn decode<'a>(reader: &mut Reader<'a>) -> Result<Reply<'a>, LinkError> {
    let tag = reader.byte("kind of reply")?;
    let shard = ShardId(reader.small("shard of a reply")?);
    let epoch = reader.number("epoch of a reply")?;
    let number = reader.number("number of a reply")?;
    let written = |outcome| Reply::Written { shard, epoch, seq: number, outcome };
    let read = |outcome| Reply::Read { shard, epoch, read_id: number, outcome };
    Ok(match tag {
        WRITTEN => written(WriteOutcome::Reply(reader.bytes("reply of a write")?)),
        NOT_OWNER => written(WriteOutcome::NotOwner),
        FENCED => {
            let min_incarnation = reader.number("lowest incarnation")?;
            written(WriteOutcome::Fenced { min_incarnation })
        }
        READ => read(ReadOutcome::Reply(reader.bytes("reply of a read")?)),
        NOT_READ => read(ReadOutcome::Refused),
        REFUSED => Reply::Refused {
            shard,
            epoch,
            from_seq: number,
            reason: reason(reader.byte("reason of a refusal")?)?,
            leader: match reader.small("leader in a refusal")? {
                0 => None,
                node => Some(NodeId(node)),
            },
            term: Term(reader.number("term of a refusal")?),
        },
        _ => return Err(LinkError::Value { field: "kind of reply" }),
    })
}

fn reason_byte(reason: RefusalReason) -> u8 {
    match reason {
        RefusalReason::NotLeader => 1,
        RefusalReason::Busy => 2,
        RefusalReason::Behind => 3,
        RefusalReason::NoRoom => 4,
        RefusalReason::Loading => 5,
    }
}

fn reason(byte: u8) -> Result<RefusalReason, LinkError> {
    match byte {
        1 => Ok(RefusalReason::NotLeader),
        2 => Ok(RefusalReason::Busy),
        3 => Ok(RefusalReason::Behind),
        4 => Ok(RefusalReason::NoRoom),
        5 => Ok(RefusalReason::Loading),
        _ => Err(LinkError::Value { field: "reason of a refusal" }),
    }
}
