//! Snapshot files in chunks, from one host to another [Raft §7].
//!
//! The core says who needs a snapshot ([`Effect::SendSnapshot`](crate::Effect::SendSnapshot)) and
//! wants to hear when it is durable over there. Between the two lies a file that may be larger than
//! memory, a network that loses, repeats and reorders, and hosts that die half way. This module is
//! that in between, as pure as the core: no files, no clock, no sockets.
//!
//! | message | goes | says |
//! |---|---|---|
//! | [`Offer`](ChunkMessage::Offer) | to the receiver | this is the file; repeated until it is answered |
//! | [`Chunk`](ChunkMessage::Chunk) | to the receiver | some bytes of it, with their CRC |
//! | [`Have`](ChunkMessage::Have) | back | which chunks are stored; so the sender goes on there |
//! | [`Durable`](ChunkMessage::Durable) | back | the whole file is on disk |
//! | [`Refused`](ChunkMessage::Refused) | back | not this file, or not now |
//!
//! # How to use it
//!
//! - While a snapshot file is written, let a [`Cutter`] see its bytes; keep the [`Outline`].
//! - For `SendSnapshot` make a [`Sender`]. After everything it is given, and when
//!   [`Sender::deadline`] comes, call [`Sender::poll`] until there is nothing to do. Its
//!   [`Sender::outcome`] ends it: report [`Input::SnapshotSent`](crate::Input::SnapshotSent).
//! - A [`Receiver`] per replica takes what comes, from whomever, and says what to put where. For
//!   [`ReceiverTask::Received`] report
//!   [`Input::SnapshotReceived`](crate::Input::SnapshotReceived).
//!
//! ```
//! use flotilla_raft::chunks::*;
//! use flotilla_raft::*;
//!
//! let file = b"the state after applying entry 7".to_vec();
//! let configuration = Configuration::of_voters([ReplicaId(1), ReplicaId(2)]);
//! let meta = SnapshotMeta { index: Index(7), term: Term(3), configuration };
//! let mut cutter = Cutter::new(10);
//! cutter.take(&file);
//! let outline = cutter.finish(meta);
//!
//! let now = Time(0);
//! let mut sender = Sender::new(SenderConfig::default(), outline, Term(3), now);
//! let mut receiver = Receiver::new(ReceiverConfig::default(), Session(1));
//! let mut arrived = vec![0; file.len()];
//! while sender.outcome().is_none() {
//!     let message = match sender.poll(now).expect("nothing gets lost here") {
//!         SenderTask::Send(message) => Some(message),
//!         SenderTask::Read { number, range } => {
//!             let bytes = file[range.start as usize..range.end as usize].to_vec();
//!             sender.on_read(number, Payload::new(bytes), now)
//!         }
//!     };
//!     let mut tasks = Vec::new();
//!     for message in message {
//!         receiver.on_message(ReplicaId(1), message, Index(0), now, &mut tasks);
//!     }
//!     while !tasks.is_empty() {
//!         match tasks.remove(0) {
//!             ReceiverTask::Send { message, .. } => sender.on_message(&message, now),
//!             ReceiverTask::Begin(_) => {}
//!             ReceiverTask::Store { name, number, offset, bytes } => {
//!                 arrived[offset as usize..][..bytes.len()].copy_from_slice(bytes.bytes());
//!                 receiver.on_stored(name, number, &mut tasks);
//!             }
//!             ReceiverTask::Finish(name) => receiver.on_finished(name, &mut tasks),
//!             ReceiverTask::Received { meta, .. } => assert_eq!(meta.index, Index(7)),
//!         }
//!     }
//! }
//! assert_eq!(sender.outcome(), Some(Outcome::Delivered(Index(7))));
//! assert_eq!(arrived, file);
//! ```
//!
//! # What may go wrong, and does no harm
//!
//! - Chunks come in any order and any number of times: each is stored once, at its own place.
//! - A message is lost: it is sent again. A link breaks, or the sender dies: whoever offers the
//!   *same* file next, the same host or another, sends only what is missing.
//! - The receiver dies: it may go on from what it noted ([`Receiver::resume`]), or begin anew under
//!   a higher [`Session`], which tells the sender that earlier answers are void.
//! - A byte flips under way, or on the sender's disk: the chunk's CRC shows it, and it is sent
//!   again, or the sender ends with [`Outcome::Damaged`]. Chunks of another file are
//!   found out by the digest of the whole, and that attempt ends.
//! - Somebody offers other files: a newer one, of a later term, takes the place of the one that is
//!   on its way; any may, once that one stands still.
//!
//! # Invariants
//!
//! - A file counts as received only once each chunk was stored, the digest over all of them is
//!   right, and the host made it durable.
//! - No chunk's bytes are kept here. A sender has at most [`SenderConfig::window`] chunks under
//!   way, a receiver at most [`ReceiverConfig::max_open`] being stored; beside these, memory is a
//!   few bytes per chunk, of which there are at most [`ReceiverConfig::max_chunks`].

mod crc;
mod outline;
mod receiver;
mod sender;

use core::ops::Range;

pub use crc::Crc;
pub use outline::{Cutter, Outline};
pub use receiver::{Receiver, ReceiverConfig, ReceiverTask};
pub use sender::{Outcome, Sender, SenderConfig, SenderTask};

use crate::{Index, Payload, SnapshotMeta, Term};

/// How many chunks beyond the first missing one a [`ChunkMessage::Have`] can name.
pub const NAMED_ABOVE: u32 = 64;

/// The place of a chunk in its file, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkNumber(pub u32);

/// Counts the times that a replica's host began to receive a file. It never descends, also not
/// over restarts: a boot counter in the upper half does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// Tells snapshot files apart: two of one name have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName {
    /// The last entry that the snapshot covers.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// Over all that is in the file and in its [`Manifest`].
    pub digest: Crc,
}

/// What a snapshot file is, and how it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the snapshot stands for.
    pub meta: SnapshotMeta,
    /// The size of the file.
    pub bytes: u64,
    /// The size of each chunk but the last, bytes; not 0.
    pub chunk_bytes: u32,
    /// CRC of everything above and of the CRCs of all chunks, in order.
    pub digest: Crc,
}

impl Manifest {
    /// What messages call this file.
    pub fn name(&self) -> SnapshotName {
        SnapshotName { index: self.meta.index, term: self.meta.term, digest: self.digest }
    }

    /// How many chunks there are; [`u32::MAX`] if that does not fit.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(u64::from(self.chunk_bytes.max(1)))).unwrap_or(u32::MAX)
    }

    /// Which bytes of the file a chunk is; `None` if there is no such chunk.
    pub fn range(&self, number: ChunkNumber) -> Option<Range<u64>> {
        let start = u64::from(number.0) * u64::from(self.chunk_bytes);
        let end = self.bytes.min(start + u64::from(self.chunk_bytes));
        (start < end).then_some(start..end)
    }

    /// The digest that goes with these chunks.
    fn digest_of(&self, crcs: impl Iterator<Item = Crc>) -> Crc {
        let mut running = crc::Running::default();
        for number in [self.meta.index.0, self.meta.term.0, self.bytes] {
            running.take(&number.to_le_bytes());
        }
        running.take(&self.chunk_bytes.to_le_bytes());
        running.take(&self.meta.configuration.encode());
        for crc in crcs {
            running.take(&crc.0.to_le_bytes());
        }
        running.crc()
    }

    /// Whether somebody may have meant this.
    fn is_sensible(&self, max_chunks: u32) -> bool {
        self.chunk_bytes > 0
            && self.chunks() <= max_chunks
            && self.meta.index > Index(0)
            && self.meta.configuration.is_well_formed()
    }
}

/// What two hosts say to each other about one snapshot of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkMessage {
    /// A file that the receiver needs.
    Offer {
        /// Of [`Effect::SendSnapshot`](crate::Effect::SendSnapshot).
        term: Term,
        /// Which file.
        manifest: Manifest,
    },
    /// A piece of the file.
    Chunk {
        /// Of which file.
        name: SnapshotName,
        /// Which piece.
        number: ChunkNumber,
        /// Of the bytes.
        crc: Crc,
        /// The whole piece.
        bytes: Payload,
    },
    /// What the receiver has of the file.
    Have {
        /// Of which file.
        name: SnapshotName,
        /// Answers of lower sessions are void.
        session: Session,
        /// The first chunk that is missing; their number if none is.
        first_missing: ChunkNumber,
        /// Bit n is set if the chunk n + 1 behind that one is there, for [`NAMED_ABOVE`] bits.
        above: u64,
    },
    /// The receiver has the whole file on its disk, or needs it no more.
    Durable {
        /// Which file.
        name: SnapshotName,
    },
    /// The receiver does not take the file: it makes no sense, or another is on its way.
    Refused {
        /// Which file.
        name: SnapshotName,
    },
}
