//! Raft consensus for one group, as a pure state machine.
//!
//! A [`Raft`] is one replica. It does no IO, reads no clock and draws no randomness but from its
//! seed: a host gives it one [`Input`] at a time and carries out the [`Effect`]s. The same inputs
//! give the same effects. It knows nothing of what the entries mean, of addresses, or of files.
//!
//! # How to drive it
//!
//! ```
//! use flotilla_raft::*;
//!
//! let id = ReplicaId(1);
//! let founding = SnapshotMeta {
//!     configuration: Configuration::of_voters([id]),
//!     ..SnapshotMeta::default()
//! };
//! let recovered = Recovered { snapshot: founding, ..Recovered::default() };
//! let mut raft = Raft::new(Config::new(id, 42), recovered, Time(0));
//!
//! let mut inputs = vec![Input::Wake];
//! let mut applied = Vec::new();
//! while let Some(input) = inputs.pop() {
//!     let mut effects = Vec::new();
//!     raft.step(raft.deadline(), input, &mut effects);
//!     for effect in effects {
//!         match effect {
//!             // A real host puts the write on disk first, and answers when it is durable.
//!             Effect::Write(write) => inputs.push(Input::Written(write.seq)),
//!             Effect::Note(Note::BecameLeader { .. }) => {
//!                 let payload = Payload::new(b"hello".to_vec());
//!                 inputs.insert(0, Input::Propose { id: RequestId(7), payload });
//!             }
//!             Effect::Apply { entries } => applied.extend(entries),
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(applied.last().expect("it was committed").payload.bytes(), b"hello");
//! ```
//!
//! The [`guide`] tells the whole story in the order in which a host meets it; `examples/` has a
//! driver with threads and one in virtual time.
//!
//! # The host's contract
//!
//! - Time never goes back. [`Input::Wake`] comes at or after [`Raft::deadline`], which is read
//!   again after every step; being late costs availability, never safety.
//! - Three streams keep their order: the writes; `Apply`, `Restore`, `ReadReady` and `Proposed`;
//!   the messages (which may be lost, repeated, delayed and reordered none the less).
//! - A [`Write`] is made whole or not at all as far as a recovery can see, in order, and
//!   [`Input::Written`] comes only once it is durable. Messages go out at once: what depends on a
//!   write is held back *here*, so a leader's disk and its followers' work in parallel.
//! - The commit index is not persisted: after a restart it is the snapshot's until a leader tells.
//! - A replica that lost what was reported as written must not come back under its id.
//! - The snapshot that [`Effect::SendSnapshot`] asks for travels beside the core ([`chunks`] is a
//!   way to do that), and is durable at the receiver before [`Input::SnapshotReceived`].
//! - A snapshot may be ahead of the log: the log begins at the one that a [`Write`] named last, and
//!   that file stays until another is named.
//!
//! # Invariants
//!
//! ```text
//! snapshot ≤ commit_index ≤ last_index    applied ≤ handed out = commit_index, or a hole is next
//! base ≤ snapshot, or base ≤ applied and base ≤ durable_index
//! durable_index ≤ last covered by each write in flight ≤ last_index
//! term of the last entry ≤ current_term        matched < next ≤ last_index + 1
//! ```
//!
//! with `base` the place before the first entry in memory. Terms and the commit index never
//! descend. One vote per term, durable before it counts anywhere. Broken invariants panic, in
//! release builds too: a wrong replica must stop. Bytes that no replica would send are ignored.
//!
//! # Changing the group
//!
//! [`Input::ChangeMembership`] names the voters and learners wanted, whatever they are now. A host
//! starts the newcomers first: blank, with the group's founding configuration as their snapshot
//! of index 0, each under an id above all that were ever used. The leader answers with
//! [`Effect::Completed`] once the new configuration is committed. A replica that was removed may
//! be told so, or not; its host learns it from who asked for the change.
//!
//! [`Input::TransferLeadership`] hands the leadership on without a pause for an election timeout.
//! A leader whose own disk or machine stalls does the same unasked.
//!
//! # The messages
//!
//! | message | answer | held back for durability |
//! |---|---|---|
//! | `RequestPreVote` | `PreVoteReply` | no: it promises nothing |
//! | `RequestVote` | `VoteReply` | the request for the own vote, the answer for the vote given |
//! | `AppendEntries` | `AppendReply` | `Matched` names durable entries of a durable term only |
//! | `ReadIndex` | `ReadIndexReply` | no |
//! | `FetchEntries` | `FetchedEntries` | "missing" is said in a durable term only |
//! | `FetchSnapshot` | a snapshot ([`Effect::SendSnapshot`]) | no |
//! | `TimeoutNow` | a `RequestVote` that breaks stickiness | as any campaign |
//!
//! # Reads
//!
//! [`Input::Read`] gives the host an index; once that is applied, the state answers linearizably.
//! By default a quorum confirms each round of reads, whatever clocks say. A group whose
//! configuration has a lease ([`Input::SetLease`]) lets its leader read alone; the host then looks
//! at [`Raft::lease_until`] *after* it has read the value.
//!
//! # Where to find the paper
//!
//! `election` [Raft §5.2, §5.4.1], `replication` and `sending` [Raft §5.3], `commit` [Raft §5.4.2],
//! `configuration`, `quorum` and `membership` [Raft §6, Thesis §4], `snapshot` [Raft §7], `read`
//! and `lease` [Raft §8, Thesis §6.4], `transfer` [Thesis §3.10], `repair` [PAR FAST'18];
//! `log`, `writes` and `progress` are the state that Figure 2 lists, with what pipelining and
//! slow disks add to it. `force`, `claim`, [`host`] and [`chunks`] are in no paper.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod chunks;
mod claim;
mod commit;
mod config;
mod configuration;
mod digest;
mod election;
mod force;
#[doc = include_str!("guide.md")]
pub mod guide {}
pub mod host;
mod invariants;
mod io;
mod lease;
mod log;
mod lost_state;
mod membership;
mod message;
mod progress;
mod quorum;
mod raft;
mod read;
mod repair;
mod replication;
mod role;
mod sending;
mod snapshot;
mod status;
mod transfer;
#[cfg(test)]
mod twins;
mod types;
mod writes;

pub use config::Config;
pub use force::ForcedRecovery;
pub use io::*;
pub use message::*;
pub use raft::Raft;
pub use status::{FollowerState, FollowerStatus, RoleName, Status};
pub use types::*;
