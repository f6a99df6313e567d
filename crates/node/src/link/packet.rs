//! Packets, their kinds, and the claims of leadership.

use std::sync::Arc;

use flotilla_raft::Term;
use flotilla_shard::ShardId;

use super::LinkError;
use super::wire::{Reader, put_number};

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum PacketKind {
    /// A [`super::Hello`].
    Hello = 1,
    /// A [`crate::founding::FoundingMessage`].
    Founding = 2,
    /// [`Claims`].
    Claims = 3,
    /// Messages between replicas.
    Raft = 4,
    /// Forwarded commands.
    Requests = 5,
    /// What became of forwarded commands.
    Replies = 6,
    /// A chunk of a snapshot.
    Snapshot = 7,
    /// The answer to a chunk of a snapshot.
    SnapshotReply = 8,
    /// An [`super::Asking`].
    Asking = 9,
    /// An [`super::Admitted`].
    Admitted = 10,
}

impl PacketKind {
    /// The kind with this number, if there is one.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        let kind = match byte {
            1 => Self::Hello,
            2 => Self::Founding,
            3 => Self::Claims,
            4 => Self::Raft,
            5 => Self::Requests,
            6 => Self::Replies,
            7 => Self::Snapshot,
            8 => Self::SnapshotReply,
            9 => Self::Asking,
            10 => Self::Admitted,
            _ => return None,
        };
        Some(kind)
    }
}

/// A packet as received: whole, and with the right checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// What it is about.
    pub(crate) kind: PacketKind,
    /// The sender's wall clock when it made the packet, milliseconds since 1970.
    pub(crate) wall_ms: u64,
    /// Its content, shared with the log entries that were in it.
    pub(crate) body: Arc<Vec<u8>>,
}

/// Which shards the sender leads: one half of what makes contact with a leader (P10).
///
/// | field | |
/// |---|---|
/// | generation | number |
/// | then until the end: shard | number, at most 32 bits, ascending |
/// | term | number |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Counts the sender's lists in this boot; a later list replaces an earlier one.
    pub(crate) generation: u64,
    /// Each shard led and the term it is led in, ascending by shard.
    pub(crate) leads: Vec<(ShardId, Term)>,
}

impl Claims {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.generation);
        for &(shard, term) in &self.leads {
            put_number(out, u64::from(shard.0));
            put_number(out, term.0);
        }
    }

    /// Reads the body of a packet.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(body);
        let generation = reader.number("claims' generation")?;
        let mut leads: Vec<(ShardId, Term)> = Vec::new();
        while !reader.is_empty() {
            let shard = ShardId(reader.small("claimed shard")?);
            if leads.last().is_some_and(|&(last, _)| last >= shard) {
                return Err(LinkError::Value { field: "order of claimed shards" });
            }
            leads.push((shard, Term(reader.number("claimed term")?)));
        }
        Ok(Self { generation, leads })
    }
}
