//! What a node of this driver is started with, and how it can fail.

use std::net::IpAddr;
use std::path::PathBuf;

use flotilla_shard::{Layout, NodeId};

/// Whether an optional port is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWish {
    /// The usual distance above the plain port; if that can't be had, a warning and no port.
    Default,
    /// This one; if it can't be had, the start fails.
    Asked(u16),
    /// None.
    Off,
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes and shards asked for.
    pub layout: Layout,
    /// Which of the layout's nodes this is; it listens on that node's address.
    pub me: NodeId,
    /// The port that `CLUSTER SLOTS` advertises.
    pub cluster_port: PortWish,
    /// The port of the health checks.
    pub http_port: PortWish,
    /// The directory of this node's data; created if missing.
    pub data: PathBuf,
    /// Limits and times of the node.
    pub options: flotilla_node::Options,
    /// Sizes of the log.
    pub storage: flotilla_storage::Options,
    /// The process that this one must not outlive.
    pub parent: Option<u32>,
}

/// Why a node did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The layout has no such node, or its address is no `ip:port`.
    #[error("{0}")]
    Address(String),
    /// Somebody listens there already.
    #[error("port {port} on {ip} is in use: stop the program that listens there, or take another")]
    PortInUse {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
    },
    /// The port can't be had for another reason.
    #[error("can't listen on port {port} of {ip}: {reason}")]
    Port {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u32,
        /// What the system says.
        reason: String,
    },
    /// Another process works in the data directory.
    #[error("the data directory {} is in use by another process: stop that one, or name \
             another directory with --data", .0.display())]
    Locked(PathBuf),
    /// The data directory can't be used.
    #[error("the data directory {}: {reason}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A write or a sync failed, which is final: what the disk holds now is not known.
    #[error(
        "{0}: the node stops, since nobody knows what the disk holds after a failed write; \
             start it again once the cause is gone"
    )]
    Disk(String),
    /// The node has to begin anew with what is on its disk; [`crate::run`] sees to it.
    #[error("the node has to be started again")]
    Restart,
    /// What is on disk can't be started with.
    #[error("the data in {} can't be started with: {reason}", .path.display())]
    Recovery {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The node itself refuses to run.
    #[error("{0}")]
    Node(String),
    /// The operating system refused something that a node can't do without.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

impl ServerError {
    /// Turns an error of the operating system into one that says what was tried.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
