//! The deterministic world in which whole nodes are tested: clock, network, disks, faults,
//! checkers.
//!
//! A run is a cluster of real nodes ([`flotilla_node::Node`]) with their real logs
//! ([`flotilla_storage::Log`]) in one thread, its clients, and everything that goes wrong, all of
//! it a function of a seed. Only what the server's drivers are is replaced: sockets by
//! connections that delay, cut and break ([`flotilla_node::Output::Send`] and so on), files by a
//! disk whose crashes lose and tear what was not synced, the clock by one that jumps to the next
//! happening, threads by a queue.
//!
//! ```
//! let report = flotilla_sim::run_seed(6).expect("the run went well");
//! assert!(report.counters.completed > 0);
//! assert_eq!(flotilla_sim::run_seed(6), Ok(report));
//! ```
//!
//! # What is checked
//! - At every turn, from outside of all nodes: what Raft promises ([`check`], one file per claim).
//! - Every key's history is linearizable ([`check::linearizability`]), every write took effect
//!   exactly once ([`check::once`]), and keys with a time to live are gone in the end.
//! - No client whose node lived gets another error than the documentation allows.
//! - A quorum makes progress without the rest. After the repair of everything: all requests are
//!   answered, every shard takes fresh writes through every node without an error, and all
//!   replicas come to the same state.
//! - No node panics, gives up, halts a shard, or finds damage on a disk that was not damaged; and
//!   none goes on with a disk that was.
//!
//! # Invariants
//! The world draws all chance from generators seeded by the run, in the order of happenings; no
//! collection it iterates over has an order of its own; so equal seeds give equal runs, in debug
//! and release builds alike.
//!
//! # Left out
//! What the product can't live through yet: [`NOT_SURVIVED_YET`].
#![forbid(unsafe_code)]

mod chart;
pub mod check;
mod client;
mod clock;
mod config;
mod counters;
mod evidence;
mod fault;
mod groups;
mod helper;
mod history;
mod machine;
mod marks;
mod network;
mod packets;
mod queue;
mod random;
mod run;
mod scenario;
mod script;
mod sectors;
mod shrink;
mod story;
mod swarm;
mod trace;
mod troubled_disk;
mod workload;
mod world;

pub use config::{Config, Driver, Ending, Mutant, Workload};
pub use counters::Counters;
pub use evidence::lacking;
pub use fault::{Fault, NOT_SURVIVED_YET, Planned};
pub use history::{Answer, Call, History, KeyState, Operation, OperationId, Outcome};
pub use marks::{Mark, Marks};
pub use queue::Micros;
pub use random::Random;
pub use run::{Failure, Report, run, run_seed};
pub use scenario::{FAMILIES, family, is_family, scenario};
pub use script::Script;
pub use sectors::{Change, Healing, Scattered, Sector, sectors, try_scattered, try_sector};
pub use shrink::shrink;
pub use story::{Replay, trace_of};
pub use trace::Listener;
pub use world::World;
