//! What crosses the border of a node: events in, outputs out.
//!
//! A driver owns sockets, files, clocks and threads, and nothing else. One turn of it is: give
//! every event that is at hand to [`crate::Node::handle`], then call [`crate::Node::end_turn`] and
//! carry out the outputs in their order.

use flotilla_raft::{Entry, Index, SnapshotMeta, Time, Write};
use flotilla_shard::{NodeId, ShardId, Slot};

/// The two clocks, read by the driver once a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, microseconds.
    pub time: Time,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
}

/// A connection. The driver numbers accepted ones upwards from 1; the node numbers those it dials
/// from [`ConnId::FIRST_DIALED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The first number of a connection that the node dials.
    pub const FIRST_DIALED: Self = Self(1 << 63);
}

/// Which port a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// The one required port: the whole keyspace, and, by a preface, links between nodes.
    Plain,
    /// The port that `CLUSTER SLOTS` advertises: keyless commands are shard-local.
    Cluster,
}

/// What happens to a node.
#[derive(Debug)]
pub enum Event<'a> {
    /// Somebody connected.
    Accepted {
        /// The driver's number for it.
        conn: ConnId,
        /// By which port.
        face: Face,
        /// Where from, `ip:port`.
        remote: String,
        /// The address that was dialled, `ip:port`.
        local: String,
    },
    /// An [`Output::Dial`] succeeded or failed. After a failure `conn` is gone.
    Dialed {
        /// The node's number for it.
        conn: ConnId,
        /// Whether it is connected.
        connected: bool,
    },
    /// Bytes arrived.
    Received {
        /// On which connection.
        conn: ConnId,
        /// In order, of any length.
        bytes: &'a [u8],
    },
    /// A connection ended, by the other side or by an error (not told after [`Output::Close`]).
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// A client has asked something, sends no more, and may still listen: it is to be closed once
    /// it has its replies.
    Ended {
        /// Which.
        conn: ConnId,
    },
    /// A client does not take its replies as fast as they come, or does again: while it does not,
    /// no command of it is begun.
    Congested {
        /// Which.
        conn: ConnId,
        /// Whether much is waiting to leave.
        congested: bool,
    },
    /// The deadline has come. Early or late does no harm.
    Wake,
    /// The [`WriteBatch`] of this sequence, and so all before it, is durable.
    Written {
        /// Which.
        sequence: u64,
        /// Every frame of the log up to this one is durable; only compared with what recovery
        /// found, and what peers saw.
        durable_through: u64,
    },
    /// After [`Output::SnapshotBegin`] upon an earlier snapshot: what is kept of that.
    SnapshotKept {
        /// Of which shard.
        shard: ShardId,
        /// The index that the new snapshot stands for.
        index: Index,
        /// The slots that are to be left out, as ranges, ascending, both ends included.
        slots: Vec<(Slot, Slot)>,
    },
    /// Payloads of these entries of a running shard can't be read on disk any more: what is still
    /// in memory comes back as [`Output::Repair`].
    Damaged {
        /// Of which shard.
        shard: ShardId,
        /// Which entries.
        indexes: Vec<Index>,
    },
    /// The newest snapshot of a running shard can't be read on disk any more: another is made.
    SnapshotDamaged {
        /// Of which shard.
        shard: ShardId,
        /// The index it stands for.
        index: Index,
    },
    /// One [`Output::SnapshotAppend`] is in the file (perhaps not yet durable).
    SnapshotAppended {
        /// Of which shard.
        shard: ShardId,
    },
    /// After [`Output::SnapshotFinish`]: the file is complete, durable and has its final name.
    SnapshotStored {
        /// Of which shard.
        shard: ShardId,
        /// The index it stands for.
        index: Index,
    },
    /// In the place of [`Event::SnapshotAppended`] or [`Event::SnapshotStored`]: there was no room
    /// for it, and nothing is left of the file.
    SnapshotFailed {
        /// Of which shard.
        shard: ShardId,
    },
    /// The log can't grow, since the disk is full, or can again.
    Room {
        /// Whether there is no room.
        lacks: bool,
    },
    /// The answer to [`Output::SnapshotRead`]; these come in the order of the reads.
    SnapshotChunk {
        /// Of which shard.
        shard: ShardId,
        /// Of the snapshot at this index.
        index: Index,
        /// Which chunk, from 0.
        number: u32,
        /// The chunk, none after the last; an error names the file and what is wrong.
        result: Result<ReadChunk, String>,
    },
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The first and the last slot of which it has keys, if it has keys.
    pub slots: Option<(Slot, Slot)>,
    /// What it holds.
    pub content: Vec<u8>,
}

/// What was read of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadChunk {
    /// The digest of the whole: two files of one digest have the same chunks.
    pub digest: u64,
    /// How many chunks there are.
    pub chunks: u32,
    /// The chunk.
    pub chunk: Option<SnapshotChunk>,
}

/// What a node wants done. Carried out in order.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes after all sent before on this connection.
    Send {
        /// Where.
        conn: ConnId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close once everything sent before has left (or at once if it cannot leave).
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Stop reading from a connection: its queues are full.
    Pause {
        /// Which.
        conn: ConnId,
    },
    /// Read from it again.
    Resume {
        /// Which.
        conn: ConnId,
    },
    /// Connect; answered by [`Event::Dialed`].
    Dial {
        /// The number for it.
        conn: ConnId,
        /// `ip:port`.
        address: String,
    },
    /// Make this durable as one frame of the log; answered by [`Event::Written`]. Never more than
    /// one is open.
    Write(WriteBatch),
    /// Put these payloads in the place of damaged ones, in any later frame of the log; no answer.
    Repair {
        /// Of which shard.
        shard: ShardId,
        /// Whole entries that the log on disk has, perhaps not all of them damaged.
        entries: Vec<Entry>,
    },
    /// Begin a snapshot file for this shard. At most one file per shard is being written.
    SnapshotBegin {
        /// Of which shard.
        shard: ShardId,
        /// What it will stand for.
        meta: SnapshotMeta,
        /// What need not be written again, if the former snapshot is there; answered by
        /// [`Event::SnapshotKept`].
        upon: Option<Unchanged>,
    },
    /// Append a chunk to the file begun; answered by [`Event::SnapshotAppended`], or by
    /// [`Event::SnapshotFailed`] for want of room.
    SnapshotAppend {
        /// Of which shard.
        shard: ShardId,
        /// At most 1 MiB.
        chunk: SnapshotChunk,
    },
    /// Complete the file: sync, rename, sync the directory; answered by [`Event::SnapshotStored`],
    /// or by [`Event::SnapshotFailed`] for want of room.
    SnapshotFinish {
        /// Of which shard.
        shard: ShardId,
    },
    /// Forget the file begun; no answer.
    SnapshotAbort {
        /// Of which shard.
        shard: ShardId,
    },
    /// Read a chunk of the newest durable snapshot; answered by [`Event::SnapshotChunk`].
    SnapshotRead {
        /// Of which shard.
        shard: ShardId,
        /// The index the snapshot must stand for.
        index: Index,
        /// Which chunk, from 0.
        number: u32,
    },
    /// Something for the console and the log.
    Notice(Notice),
}

/// What has not changed since an earlier snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchanged {
    /// The index of that snapshot.
    pub since: Index,
    /// Slots, as ranges, ascending, both ends included.
    pub slots: Vec<(Slot, Slot)>,
}

/// Everything a turn wants on disk: one frame of the lane's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBatch {
    /// Numbered from 1 without gaps in this boot.
    pub sequence: u64,
    /// What the node itself remembers (storage id, founding record, incarnation); opaque; replaces
    /// what was stored before.
    pub node_state: Option<Vec<u8>>,
    /// Shards of which nothing is to be known any more, before anything else of this batch.
    pub removed: Vec<ShardId>,
    /// Lost shards, what is left of which belongs to a new replica from this batch on.
    pub renewed: Vec<ShardId>,
    /// The writes of the shards' cores, in order within a shard.
    pub writes: Vec<(ShardId, Write)>,
}

/// Something an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Not founded yet: these nodes have not answered.
    WaitingFor {
        /// Their addresses.
        addresses: Vec<String>,
    },
    /// The cluster is founded, or this node has joined it.
    Founded {
        /// The cluster's id in hex.
        cluster: String,
    },
    /// This node began or stopped to lead a shard.
    Leading {
        /// Which.
        shard: ShardId,
        /// In which term.
        term: u64,
        /// Whether it leads now.
        leads: bool,
    },
    /// Tables are being loaded, which goes on; told about once a second.
    Loading {
        /// How far all of them together are.
        percent: u8,
    },
    /// A warning in words.
    Warning(String),
    /// The shard's state machine is halted on this node (P13).
    Halted {
        /// Which.
        shard: ShardId,
        /// At which entry.
        index: Index,
        /// What went wrong.
        reason: String,
    },
    /// The node's disk is durably another one now (P4): the driver ends this node and starts it
    /// again from its disk.
    Restart(String),
    /// The node must not run (P4, a lost disk, another cluster's data): the driver prints this and
    /// exits with an error.
    Fatal(String),
    /// The link to a node came up or broke.
    Link {
        /// Which.
        node: NodeId,
        /// Whether it is up.
        up: bool,
    },
}
