//! What replicas on this node answer, gathered until it is handed to streams or peers.

use std::ops::Range;

use flotilla_kv::entry::Origin;
use flotilla_shard::ShardId;

use crate::link::RefusalReason;

/// One answer; bytes are in [`Replies::bytes`].
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The reply of a write.
    Written {
        /// The stream's epoch it was applied in.
        epoch: u64,
        /// Which.
        seq: u64,
        /// Its RESP3 bytes.
        reply: Range<usize>,
    },
    /// The shard does not own the write's slot: it was not applied.
    NotOwner {
        /// The stream's epoch.
        epoch: u64,
        /// Which.
        seq: u64,
    },
    /// The origin's incarnation is below this: nothing of it is taken any more.
    Fenced {
        /// The stream's epoch.
        epoch: u64,
        /// A write that was refused.
        seq: u64,
        /// The lowest that is taken.
        min_incarnation: u64,
    },
    /// The reply of a read.
    Read {
        /// Which.
        id: u64,
        /// The epoch it was asked in.
        epoch: u64,
        /// Its RESP3 bytes; `None` where the shard does not own the slot.
        reply: Option<Range<usize>>,
    },
    /// The replica does not lead, or not this stream, or has no room: nothing of this epoch from
    /// `from_seq` on was or will be taken, and none of its open reads is answered.
    Refused {
        /// The epoch.
        epoch: u64,
        /// The first write that was not taken.
        from_seq: u64,
        /// Why.
        reason: RefusalReason,
    },
}

/// Answers in the order they were given.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The bytes of all replies.
    pub(crate) bytes: Vec<u8>,
    /// Who gets what: a boot of a node, never a later one, whose numbers begin anew.
    pub(crate) items: Vec<(ShardId, Origin, Answer)>,
}

impl Replies {
    /// Adds an answer of `shard` to `origin`.
    pub(crate) fn push(&mut self, shard: ShardId, origin: Origin, answer: Answer) {
        self.items.push((shard, origin, answer));
    }

    /// Appends `reply` to the bytes and gives its place.
    pub(crate) fn store(&mut self, reply: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(reply);
        start..self.bytes.len()
    }

    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }
}
