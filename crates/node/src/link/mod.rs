//! The codec of connections between nodes: what their bytes mean, not when they are sent.
//!
//! A node that dials another sends the [`PREFACE`], so that one port serves clients and links
//! ([`sniff`]). After it both directions are a row of *frames*, which make up *packets*
//! ([`FrameWriter`], [`FrameReader`]). The first packet of either side is its [`Hello`].
//!
//! | kind | packet | body | says |
//! |---|---|---|---|
//! | 1 | [`Hello`] | one struct | who is there, of which cluster, with which disk and boot |
//! | 2 | Founding | [`crate::founding::FoundingMessage`] | how far the founding is (P1) |
//! | 3 | [`Claims`] | one struct | which shards the sender leads, in which term (P10) |
//! | 4 | Raft | [`RaftEncoder`], [`decode_raft`] | messages between replicas |
//! | 5 | Requests | [`Request`]s | commands forwarded to a leader (P7, P8) |
//! | 6 | Replies | [`Reply`]s | what became of them |
//! | 7 | [`Snapshot`] | one struct | a chunk of a snapshot, on a connection of its own (P15) |
//! | 8 | [`SnapshotReply`] | one struct | go on, durable, or refused |
//! | 9 | [`Asking`] | one struct | for which shards a node asks to be given a new replica (P4) |
//! | 10 | [`Admitted`] | one struct | which replica it is given |
//!
//! In the byte tables `number` is an unsigned LEB128 number of at most 64 bits, `flag` a byte that
//! is 0 or 1, and `bytes` a number (the length) and so many bytes; every other integer is
//! little-endian and of the width named. Lists at the end of a packet have no count: they end where
//! the packet ends, so that they can be written item by item straight into the frame.
//!
//! Invariants:
//! - Nothing received makes this code panic: it is an error, after which the connection is of no
//!   more use.
//! - Buffers grow with the bytes received, never with a length that was declared (P15).
//! - What is read was checked as a whole by the frame's CRC-32C first, and comes in the order in
//!   which it was sent on this connection: each frame has a number, which is checked too.

mod admission;
mod describe;
mod frame;
mod hello;
mod packet;
mod raft_codec;
mod replies;
mod requests;
mod snapshot;
mod wire;

#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
#[cfg(test)]
mod tests;

pub(crate) use admission::{Admitted, Asking};
pub use describe::describe_link;
pub(crate) use frame::{FrameNumber, FrameReader, FrameWriter, MAX_BODY, MAX_PACKET};
pub(crate) use hello::{FORMAT, Hello, KnownDisk, Purpose, Sighting};
pub(crate) use packet::{Claims, Packet, PacketKind};
#[cfg(test)]
pub(crate) use raft_codec::RaftPacket;
pub(crate) use raft_codec::{RaftEncoder, begin_raft, decode_raft};
pub(crate) use replies::{ReadOutcome, RefusalReason, Replies, Reply, ReplyEncoder, WriteOutcome};
pub(crate) use requests::{Request, RequestEncoder, Requests};
pub(crate) use snapshot::{ChunkView, Snapshot, SnapshotOutcome, SnapshotReply};

/// The first bytes that the dialling node sends. No request of a client begins with byte 0xF1.
pub(crate) const PREFACE: [u8; 8] = *b"\xF1flotlnk";

/// Who is on the other end of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniff {
    /// A client: every byte received is its own.
    Client,
    /// A node: the frames begin after the [`PREFACE`].
    Link,
    /// The bytes so far may become a [`PREFACE`].
    NeedMore,
}

/// Tells a node from a client by the first bytes received, `prefix`.
pub(crate) fn sniff(prefix: &[u8]) -> Sniff {
    let known = prefix.len().min(PREFACE.len());
    if prefix[..known] != PREFACE[..known] {
        Sniff::Client
    } else if known == PREFACE.len() {
        Sniff::Link
    } else {
        Sniff::NeedMore
    }
}

/// Why bytes of a link are of no use. The connection is closed after any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// A frame does not begin with the magic number.
    #[error("a frame of a link does not begin as frames do")]
    Magic,
    /// The checksum of a frame is wrong.
    #[error("the checksum of a frame of a link is wrong")]
    Checksum,
    /// Frames were lost, repeated, or changed places.
    #[error("frame {number} of a link came in the place of frame {due}")]
    Turn {
        /// Which frame it is.
        number: u32,
        /// Which one should have come.
        due: u32,
    },
    /// A frame declares a longer body than frames have.
    #[error("a frame of a link declares {length} bytes, the most is {MAX_BODY}")]
    FrameLength {
        /// What it declares.
        length: u32,
    },
    /// Frames add up to a longer packet than there are.
    #[error("a packet of a link is longer than {MAX_PACKET} bytes")]
    PacketLength,
    /// A frame has a flag that is not known, or says of a body that isn't full that it goes on.
    #[error("a frame of a link has the wrong flags {flags:#04x}")]
    Flags {
        /// The flags.
        flags: u8,
    },
    /// The kind of packet is not known, or changes between a packet's frames.
    #[error("a frame of a link has the wrong kind {kind}")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The other node speaks another version of all this.
    #[error("the other node speaks format {found} of the link, this program speaks {FORMAT}")]
    Format {
        /// Its version.
        found: u16,
    },
    /// The body ends where more was to come.
    #[error("a packet of a link ends before its {field}")]
    Short {
        /// What was to come.
        field: &'static str,
    },
    /// A value that its field can't have.
    #[error("a packet of a link has a wrong {field}")]
    Value {
        /// Which field.
        field: &'static str,
    },
    /// Bytes after the end.
    #[error("a packet of a link goes on after its end")]
    Long,
}
