//! The driver of a real node: sockets, threads, clocks and the disk around `flotilla-node`.
//!
//! [`run`] starts one node and returns when it was told to stop (SIGINT, SIGTERM, the end of its
//! parent) or had to. It decides nothing: what to send, write and answer is the node's to say,
//! and the simulator drives the same node.
//!
//! # Threads
//!
//! | thread | does |
//! |---|---|
//! | the caller's | the lane: sockets, the node, frames of the log while the disk is quick |
//! | log writer | frames of the log while the disk is slow |
//! | helper | segments, snapshot files: whatever may take long and no client waits for |
//! | admin | `/healthz`, `/readyz`, `/status.json`; copies of shards for backups |
//! | signals, watchdog | a clean stop; the end of a process whose lane is stuck |
//!
//! # Invariants
//!
//! - What a turn sends leaves before the turn's frame is written; the node holds back what must
//!   not leave before the frame is durable.
//! - A failed write or sync ends the process, and is never tried again.
//! - A frame is reported as written only when the system said that it is durable.
//!
//! # What is left out
//!
//! TLS, metrics and the `io_uring` driver. One process has one lane.

mod admin;
mod backup;
mod blocks;
mod clock;
mod config;
mod connection;
mod console;
mod disk;
mod frames;
mod guard;
mod helper;
mod lane;
mod network;
mod outbox;
mod ports;
mod probe;
mod recovering;
mod start;
mod sync;
mod watch;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(all(test, feature = "threads"))]
mod threads;

pub use config::{Config, PortWish, ServerError};
pub use flotilla_node::{NodeStatus, Options as NodeOptions, ReplicaStatus, ShardStatus, Status};
pub use flotilla_storage::Options as StorageOptions;
pub use ports::{CLUSTER_PORT_DISTANCE, HTTP_PORT_DISTANCE, listen};
pub use start::run;
