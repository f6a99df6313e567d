//! Messages between replicas.
//!
//! The body begins with a number: every frame of the sender's log up to this one is durable (P4).
//! Then comes a row of messages until its end. Each begins with
//! `shard, from, to, term: numbers, tag: u8`, and goes on by its tag:
//!
//! | tag | message | fields |
//! |---|---|---|
//! | 1 | RequestPreVote | last index, last term: numbers |
//! | 2 | PreVoteReply | granted: flag |
//! | 3 | RequestVote | last index, last term: numbers, transfer: flag |
//! | 4 | VoteReply | granted: flag |
//! | 5 | AppendEntries | prev index, prev term, commit, round, count: numbers, then the entries |
//! | 6 | AppendReply, matched | round, index: numbers |
//! | 7 | AppendReply, conflict | round, prev index, hint index, hint term: numbers |
//! | 8 | TimeoutNow | |
//! | 9 | ReadIndex | nonce, number: numbers |
//! | 10 | ReadIndexReply | nonce, number, index: numbers |
//! | 11 | FetchEntries | count, then index and term of each: numbers |
//! | 12 | FetchedEntries | count, then the indexes missing, count: numbers, then index and entry of each |
//! | 13 | FetchSnapshot | least index: number |
//!
//! An entry is `term: number, kind: u8 (0 empty, 1 normal, 2 configuration), payload: bytes`; its
//! index follows from its place. A payload that was received is a view into the packet, which is
//! therefore kept while any of its entries is.

use std::sync::Arc;

use flotilla_raft::{
    AppendOutcome, Body, Entry, EntryKind, Index, Message, Payload, ReplicaId, Term,
};
use flotilla_shard::ShardId;

use super::LinkError;
use super::wire::{Reader, put_bytes, put_number};

const REQUEST_PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const REQUEST_VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const APPEND_ENTRIES: u8 = 5;
const APPEND_MATCHED: u8 = 6;
const APPEND_CONFLICT: u8 = 7;
const TIMEOUT_NOW: u8 = 8;
const READ_INDEX: u8 = 9;
const READ_INDEX_REPLY: u8 = 10;
const FETCH_ENTRIES: u8 = 11;
const FETCHED_ENTRIES: u8 = 12;
const FETCH_SNAPSHOT: u8 = 13;

/// Term, kind and the length of the payload take at least so many bytes.
const MIN_ENTRY: usize = 3;

/// Appends messages to the body of a packet.
#[derive(Debug)]
pub(crate) struct RaftEncoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> RaftEncoder<'a> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends one message. Panics if the entries in it don't follow `prev_index` without gaps.
    pub(crate) fn push(&mut self, shard: ShardId, message: &Message) {
        let out = &mut *self.out;
        let mut begin = |tag: u8, numbers: &[u64]| {
            let head = [u64::from(shard.0), message.from.0, message.to.0, message.term.0];
            for number in head {
                put_number(out, number);
            }
            out.push(tag);
            for &number in numbers {
                put_number(out, number);
            }
        };
        match &message.body {
            Body::RequestPreVote { last_index, last_term } => {
                begin(REQUEST_PRE_VOTE, &[last_index.0, last_term.0]);
            }
            Body::PreVoteReply { granted } => {
                begin(PRE_VOTE_REPLY, &[]);
                out.push(u8::from(*granted));
            }
            Body::RequestVote { last_index, last_term, transfer } => {
                begin(REQUEST_VOTE, &[last_index.0, last_term.0]);
                out.push(u8::from(*transfer));
            }
            Body::VoteReply { granted } => {
                begin(VOTE_REPLY, &[]);
                out.push(u8::from(*granted));
            }
            Body::AppendEntries { prev_index, prev_term, commit, round, entries } => {
                let count = entries.len() as u64;
                begin(APPEND_ENTRIES, &[prev_index.0, prev_term.0, commit.0, *round, count]);
                put_entries(out, *prev_index, entries);
            }
            Body::AppendReply { round, outcome } => match outcome {
                AppendOutcome::Matched { index } => begin(APPEND_MATCHED, &[*round, index.0]),
                AppendOutcome::Conflict { prev_index, hint_index, hint_term } => {
                    begin(APPEND_CONFLICT, &[*round, prev_index.0, hint_index.0, hint_term.0]);
                }
            },
            Body::TimeoutNow => begin(TIMEOUT_NOW, &[]),
            Body::FetchEntries { places } => {
                let places = places.iter().flat_map(|(index, term)| [index.0, term.0]);
                let numbers: Vec<u64> = places.collect();
                begin(FETCH_ENTRIES, &[&[numbers.len() as u64 / 2], numbers.as_slice()].concat());
            }
            Body::FetchedEntries { entries, missing } => {
                let mut numbers = vec![missing.len() as u64];
                numbers.extend(missing.iter().map(|index| index.0));
                numbers.push(entries.len() as u64);
                begin(FETCHED_ENTRIES, &numbers);
                for entry in entries {
                    put_number(out, entry.index.0);
                    put_entry(out, entry);
                }
            }
            Body::FetchSnapshot { at_least } => begin(FETCH_SNAPSHOT, &[at_least.0]),
            Body::ReadIndex { nonce, number } => begin(READ_INDEX, &[*nonce, *number]),
            Body::ReadIndexReply { nonce, number, index } => {
                begin(READ_INDEX_REPLY, &[*nonce, *number, index.0]);
            }
        }
    }
}

fn put_entries(out: &mut Vec<u8>, prev_index: Index, entries: &[Entry]) {
    let mut index = prev_index;
    for entry in entries {
        index = index.next();
        assert!(entry.index == index, "the entries of an append follow each other");
        put_entry(out, entry);
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_number(out, entry.term.0);
    out.push(match entry.kind {
        EntryKind::Empty => 0,
        EntryKind::Normal => 1,
        EntryKind::Configuration => 2,
    });
    put_bytes(out, entry.payload.bytes());
}

/// Appends the beginning of a packet's body; a row of messages follows.
pub(crate) fn begin_raft(out: &mut Vec<u8>, durable_through: u64) {
    put_number(out, durable_through);
}

/// What a packet between replicas says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RaftPacket {
    /// Every frame of the sender's log up to this one is durable.
    pub(crate) durable_through: u64,
    /// In order.
    pub(crate) messages: Vec<(ShardId, Message)>,
}

/// Reads the body of a packet; the payloads of entries are views into it.
pub(crate) fn decode_raft(body: &Arc<Vec<u8>>) -> Result<RaftPacket, LinkError> {
    let mut decoder = Decoder { reader: Reader::new(body), block: body };
    let durable_through = decoder.reader.number("durable frame")?;
    let mut messages = Vec::new();
    while !decoder.reader.is_empty() {
        messages.push(decoder.message()?);
    }
    Ok(RaftPacket { durable_through, messages })
}

#[derive(Debug)]
struct Decoder<'a> {
    reader: Reader<'a>,
    block: &'a Arc<Vec<u8>>,
}

impl Decoder<'_> {
    fn message(&mut self) -> Result<(ShardId, Message), LinkError> {
        let shard = ShardId(self.reader.small("shard of a message")?);
        let from = ReplicaId(self.reader.number("sender of a message")?);
        let to = ReplicaId(self.reader.number("receiver of a message")?);
        let term = self.term("term of a message")?;
        let body = match self.reader.byte("kind of message")? {
            REQUEST_PRE_VOTE => Body::RequestPreVote {
                last_index: self.index("candidate's last index")?,
                last_term: self.term("candidate's last term")?,
            },
            PRE_VOTE_REPLY => Body::PreVoteReply { granted: self.reader.flag("pre-vote")? },
            REQUEST_VOTE => Body::RequestVote {
                last_index: self.index("candidate's last index")?,
                last_term: self.term("candidate's last term")?,
                transfer: self.reader.flag("transfer of leadership")?,
            },
            VOTE_REPLY => Body::VoteReply { granted: self.reader.flag("vote")? },
            APPEND_ENTRIES => self.append_entries()?,
            APPEND_MATCHED => {
                let round = self.reader.number("round of an answer")?;
                let index = self.index("matched index")?;
                Body::AppendReply { round, outcome: AppendOutcome::Matched { index } }
            }
            APPEND_CONFLICT => Body::AppendReply {
                round: self.reader.number("round of an answer")?,
                outcome: AppendOutcome::Conflict {
                    prev_index: self.index("refused index")?,
                    hint_index: self.index("hinted index")?,
                    hint_term: self.term("hinted term")?,
                },
            },
            TIMEOUT_NOW => Body::TimeoutNow,
            FETCH_ENTRIES => self.fetch_entries()?,
            FETCHED_ENTRIES => self.fetched_entries()?,
            FETCH_SNAPSHOT => Body::FetchSnapshot { at_least: self.index("snapshot asked for")? },
            READ_INDEX => Body::ReadIndex {
                nonce: self.reader.number("nonce of a read")?,
                number: self.reader.number("number of a read")?,
            },
            READ_INDEX_REPLY => Body::ReadIndexReply {
                nonce: self.reader.number("nonce of a read")?,
                number: self.reader.number("number of a read")?,
                index: self.index("read index")?,
            },
            _ => return Err(LinkError::Value { field: "kind of message" }),
        };
        Ok((shard, Message { from, to, term, body }))
    }

    fn append_entries(&mut self) -> Result<Body, LinkError> {
        let prev_index = self.index("previous index")?;
        let prev_term = self.term("previous term")?;
        let commit = self.index("commit index")?;
        let round = self.reader.number("round of a request")?;
        let count = self.reader.count(MIN_ENTRY, "entries")?;
        let last = prev_index.0.checked_add(count as u64);
        last.ok_or(LinkError::Value { field: "previous index" })?;
        let mut entries = Vec::with_capacity(count);
        let mut index = prev_index;
        for _ in 0..count {
            index = index.next();
            entries.push(self.entry(index)?);
        }
        Ok(Body::AppendEntries { prev_index, prev_term, commit, round, entries })
    }

    fn fetch_entries(&mut self) -> Result<Body, LinkError> {
        let count = self.reader.count(2, "entries asked for")?;
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push((self.index("entry asked for")?, self.term("term of an entry asked for")?));
        }
        Ok(Body::FetchEntries { places })
    }

    fn fetched_entries(&mut self) -> Result<Body, LinkError> {
        let count = self.reader.count(1, "missing entries")?;
        let mut missing = Vec::with_capacity(count);
        for _ in 0..count {
            missing.push(self.index("missing entry")?);
        }
        let count = self.reader.count(1 + MIN_ENTRY, "fetched entries")?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let index = self.index("fetched entry")?;
            entries.push(self.entry(index)?);
        }
        Ok(Body::FetchedEntries { entries, missing })
    }

    fn entry(&mut self, index: Index) -> Result<Entry, LinkError> {
        let term = self.term("term of an entry")?;
        let kind = match self.reader.byte("kind of entry")? {
            0 => EntryKind::Empty,
            1 => EntryKind::Normal,
            2 => EntryKind::Configuration,
            _ => return Err(LinkError::Value { field: "kind of entry" }),
        };
        let length = self.reader.bytes("payload of an entry")?.len();
        let end = self.reader.position();
        // A view of nothing would keep the packet for nothing.
        let payload = match length {
            0 => Payload::default(),
            _ => Payload::view(self.block, end - length..end),
        };
        Ok(Entry { index, term, kind, payload })
    }

    fn index(&mut self, field: &'static str) -> Result<Index, LinkError> {
        self.reader.number(field).map(Index)
    }

    fn term(&mut self, field: &'static str) -> Result<Term, LinkError> {
        self.reader.number(field).map(Term)
    }
}
