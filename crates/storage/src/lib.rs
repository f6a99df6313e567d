//! The log that all shards of one lane share, and snapshot files: format, appending, recovery.
//!
//! Nothing here touches a file. [`Log::append`] turns one turn's writes into the bytes of one
//! frame and says where they go; the driver writes them and reports [`Log::written`]. What is
//! cold (recovery, housekeeping, snapshots) goes through the [`Disk`] trait, which the server
//! implements over files and the simulator by [`MemoryDisk`], with sectors that crashes tear.
//!
//! # How to drive it
//!
//! ```
//! use flotilla_raft::{HardState, Term, Write, WriteSeq};
//! use flotilla_shard::ShardId;
//! use flotilla_storage::{Disk, Log, MemoryDisk, Options};
//!
//! let mut disk = MemoryDisk::new();
//! let options = Options { segment_bytes: 1 << 20, ..Options::default() };
//! let recovered = Log::recover(&mut disk, options.clone(), 42);
//! let (mut log, lane) = recovered.expect("a blank disk is fine");
//! assert!(lane.fresh);
//!
//! let hard_state = HardState { term: Term(3), voted_for: None };
//! let write = Write { seq: WriteSeq(1), hard_state, snapshot: None, entries: Vec::new() };
//! let frame = log.append(Some(b"who I am"), &[(ShardId(7), write)]);
//! if let Some(bytes) = frame.create {
//!     disk.create(&frame.file, bytes).expect("room");
//! }
//! disk.write(&frame.file, frame.offset, &frame.data).expect("room");
//! disk.sync(&frame.file).expect("durable");
//! log.written(frame.sequence); // only now may anything that depends on it leave the node
//! if let Some(seal) = log.seal() { // after 2 ms without work, and at a clean stop
//!     disk.write(&seal.file, seal.offset, &seal.data).expect("room");
//!     disk.sync(&seal.file).expect("durable");
//!     log.written(seal.sequence);
//! }
//!
//! disk.crash(1);
//! let (_, lane) = Log::recover(&mut disk, options, 43).expect("all is whole");
//! assert_eq!(lane.node_state.as_deref(), Some(&b"who I am"[..]));
//! assert_eq!(lane.shards[&ShardId(7)].hard_state, hard_state);
//! ```
//!
//! # The contract of the driver
//!
//! - Frames are written in the order given out. A [`FrameWrite`] with `create` needs that file
//!   made first. A failed write or sync is final: the process ends, nothing is tried again.
//! - [`Log::written`] only after a successful sync of those bytes. What depends on a frame may
//!   leave once [`Log::durable_through`] has reached its sequence.
//! - [`Log::housekeeping`] now and then; each [`Chore`] is `run` on some thread and given back to
//!   [`Log::chore_done`] (or [`Log::chore_failed`]).
//! - [`Log::take_damage`] now and then; [`Log::append`] without writes where [`Log::needs_frame`].
//! - [`Log::scrub`] at a bounded rate; its chores are run like the others.
//! - While [`Log::lacks_room`], clients' writes are refused; reads, votes and terms go on.
//! - A snapshot file is synced, renamed and its directory synced before [`Log::snapshot_durable`].
//!
//! # Invariants
//!
//! - `attested_through ≤ durable_through ≤ sequence`.
//! - `floor ≤ segment of every live entry`, and a segment is overwritten only when a durable and
//!   attested frame has said `floor > segment`.
//! - A block that holds an acknowledged frame is not written again while its segment is live.
//! - `snapshot.index ≤ last.index` of each shard, and every index between is in one live segment.
//! - Recovery gives back all that was reported durable, or names what of it is damaged or lost; it
//!   never gives back part of a frame, or anything behind a frame of which nothing is known unless
//!   a later checkpoint restates it.
//!
//! # When the disk goes bad
//!
//! | damaged | what recovery, or the log while it runs, says |
//! |---|---|
//! | payloads of entries | their identity is known: [`flotilla_raft::Recovered::damaged`], [`Damage::Frame`] |
//! | one copy of a table | nothing is lost: the next frame repeats it |
//! | both, and no later checkpoint | the shard is in [`RecoveredLane::lost`] (P4) |
//! | a snapshot | [`RecoveredLane::lost_snapshots`], [`Damage::Snapshot`] |
//! | everything, or it is of another log | a [`RecoverError`] |
//!
//! Payloads that were found elsewhere come back by [`Log::repair`].

#![forbid(unsafe_code)]

mod attentive;
mod buffer;
mod carry;
mod chain;
mod chore;
mod disk;
mod entries;
mod error;
mod format;
mod frame;
mod image;
mod inspect;
mod live;
mod load;
mod log;
mod memory_disk;
mod recovery;
mod replay;
mod scan;
mod scrub;
mod segment;
mod shelf;
mod snapshot;
mod table;

pub use buffer::AlignedBuffer;
pub use chore::Chore;
pub use disk::{Disk, DiskError, ReadFilter};
pub use error::{DamagedFrame, RecoverError};
pub use format::BLOCK;
pub use inspect::{
    FrameView, HeaderView, SegmentView, describe_table, format_version, inspect_segment,
};
pub use load::CarryLoad;
pub use log::{Damage, FrameWrite, Log, Options, SEGMENT_BYTES};
pub use memory_disk::{Counters, MemoryDisk};
pub use recovery::{Cut, RecoveredLane, RecoveryReport, examine};
pub use scrub::Scrub;
pub use snapshot::{
    Base, MAX_CHUNK_BYTES, SnapshotCopy, SnapshotError, SnapshotFile, SnapshotReader,
    SnapshotWriter, StoredSnapshot,
};
