//! The replicated machine of a shard: commands, per-slot tables, values, sessions, expiry.
//!
//! What one shard's replicas agree on is a list of entries, and this crate is what turns that list
//! into state and replies. It is a pure state machine: no IO, no clock, no thread, no randomness.
//! Two machines with the same hash seed that apply the same entries hold the same state and give
//! the same replies, byte for byte; [`Machine::state_hash`] says so in 64 bits.
//!
//! It is the only crate that knows what a command means. It does not know Raft, sockets or files,
//! nor who is connected: an [`entry`] comes in, [`Answers`] go out.
//!
//! ```
//! use flotilla_kv::{Answers, ArgsBuf, ChunkHead, ChunkWriter, EntryWriter, Machine, Origin, Slot};
//! use flotilla_shard::slot_of;
//!
//! let mut machine = Machine::new(7, &[(Slot(0), Slot(16383))]);
//! let origin = Origin { node: 1, incarnation: 1, nonce: 99, lane: 0 };
//! let head = ChunkHead { origin, epoch: 1, acked: 0, floor: 0, unsettled: Some(Vec::new()) };
//!
//! let mut chunk = ChunkWriter::begin(&head);
//! let set = ArgsBuf::from_slices(&[b"SET", b"cart:7", b"x"]);
//! chunk.push(1, slot_of(b"cart:7").0, 0, false, set.as_args());
//! let mut entry = EntryWriter::new(flotilla_kv::TABLE_VERSION, 1_000, None);
//! entry.push_chunk(&chunk.finish());
//!
//! let mut answers = Answers::default();
//! machine.apply(1, &entry.finish(), &mut answers).expect("nothing to diverge from");
//! let answer = answers.iter().next().expect("one command, one answer");
//! assert_eq!(answers.reply(answer), b"+OK\r\n");
//! ```
//!
//! # The parts
//! - [`args`]: one encoding of a command for the wire, the log and apply.
//! - [`mod@entry`]: the payload of a Raft entry, one turn's commands of a shard.
//! - [`command`], [`execute`]: the table of commands, and what they do.
//! - [`keyspace`]: the tables of the slots, with expiry, SCAN and the cut that a snapshot walks.
//! - [`session`]: exactly-once (P7).
//! - [`snapshot`]: a machine as bytes and back (P11).
//! - [`machine`]: all of it together.
//!
//! # Invariants
//! - applied index and stamp never go back.
//! - Replies, purge order and snapshot bytes never depend on the layout of a table (P12).
//! - One call does bounded work: at most [`machine::PURGED_PER_ENTRY`] keys are purged and
//!   [`machine::FREED_PER_ENTRY`] are freed by an entry; a table holds at most 1,000 keys.
//!
//! # Left out
//! Slot moves (P14) are not here yet; generations of slots are kept and checked.

pub mod args;
pub mod command;
pub mod entry;
pub mod execute;
pub mod keyspace;
pub mod machine;
pub mod scope;
pub mod session;
pub mod snapshot;

pub use args::{Args, ArgsBuf, Malformed};
pub use command::TABLE_VERSION;
pub use entry::{
    Chunk, ChunkCommand, ChunkHead, ChunkWriter, EntryView, EntryWriter, Origin, WHOLE_SHARD,
};
pub use flotilla_shard::Slot;
pub use keyspace::{Found, ItemDigest, Keyspace};
pub use machine::{Answer, Answers, Diverged, Machine, Outcome, ReadOutcome};
pub use scope::{Scope, SlotSet};
pub use snapshot::{Audit, Audited, KeySums, Part, Restorer, SnapshotKey, Walked};
