//! The verbs and flags of the binary.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::Bench;

/// A distributed hash table on Raft that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a local cluster, ready to use; Ctrl-C stops it
    Up(Up),
    /// Start one node of a list of partitions
    Run(Run),
    /// Send a command, or, without one, type commands
    Shell(Shell),
    /// Show nodes, shards, leaders and lag
    Status(Status),
    /// Show who owns what, and what more or fewer shards would move
    Plan(Plan),
    /// Show in which slot and shard keys are, and on which nodes
    Where(Where),
    /// Copy a cluster into a directory while it serves, or check such a copy
    Backup(Backup),
    /// Fill a new, empty cluster from a backup
    Restore(Restore),
    /// Measure throughput, latency and CPU time per operation
    Bench(Box<Bench>),
    /// Show what is on a node's disk; nothing is changed
    Inspect(Inspect),
    /// One node of `up`; not for people
    #[command(hide = true)]
    NodeOfUp(NodeOfUp),
}

/// `flotilla up`
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// How many nodes, each a process [default: 3]
    #[arg(long)]
    pub(crate) nodes: Option<usize>,
    /// How many shards [default: 3]
    #[arg(long)]
    pub(crate) shards: Option<usize>,
    /// On how many nodes each shard is [default: 3, or all nodes if there are fewer]
    #[arg(long)]
    pub(crate) replicas: Option<usize>,
    /// The first node's port; the others take the next ones [default: 7001]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Where the nodes keep their data; what is found there is started again
    #[arg(long, default_value = "./flotilla-data")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) sizes: Sizes,
}

/// `flotilla run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The IP address of this node
    pub(crate) ip_address: String,
    /// The port of this node
    pub(crate) port: u16,
    /// A list of lists of 'ip:port' in Python's or JSON's quoting: each inner list is one
    /// partition, which is a shard and its replicas
    pub(crate) partitions: String,
    /// Which of the lists this node is in, from 0; only checked
    pub(crate) partition_index: Option<usize>,
    /// Where this node keeps its data [default: ./flotilla-data/IP-PORT]
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// The port for cluster clients, 0 for none [default: the port + 1000 if that can be had]
    #[arg(long)]
    pub(crate) cluster_port: Option<u16>,
    /// The port for health checks, 0 for none [default: the port + 20000 if that can be had]
    #[arg(long)]
    pub(crate) http_port: Option<u16>,
    #[command(flatten)]
    pub(crate) sizes: Sizes,
}

/// `flotilla node-of-up`
#[derive(Debug, Args)]
pub(crate) struct NodeOfUp {
    /// The file `up` wrote
    #[arg(long)]
    pub(crate) cluster: PathBuf,
    /// Which of its nodes, from 1
    #[arg(long)]
    pub(crate) node: u32,
    /// Where this node keeps its data
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The process of `up`, which this one must not outlive
    #[arg(long)]
    pub(crate) parent: u32,
    #[command(flatten)]
    pub(crate) sizes: Sizes,
}

/// Sizes of a node's files, for tests
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Sizes {
    /// Size of a segment of the log, for tests
    #[arg(long, hide = true)]
    pub(crate) segment_bytes: Option<u64>,
    /// Bytes of the log after which snapshots are made, for tests
    #[arg(long, hide = true)]
    pub(crate) snapshot_log_bytes: Option<u64>,
}

/// `flotilla shell`
#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// The node to talk to
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "IP:PORT")]
    pub(crate) at: String,
    /// The command and its arguments; none to type commands
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// `flotilla status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The node to ask first; it names the others
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "IP:PORT")]
    pub(crate) at: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flotilla plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The node to ask first; it names the others
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "IP:PORT")]
    pub(crate) at: String,
    /// Ask nobody: plan for a new cluster with so many shards
    #[arg(long, value_name = "K", conflicts_with = "at")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shards: Option<u32>,
    /// What would so many more shards move?
    #[arg(long, value_name = "N", conflicts_with = "remove")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) add: Option<u32>,
    /// What would move if this shard were removed?
    #[arg(long, value_name = "SHARD")]
    pub(crate) remove: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flotilla where`
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// The keys, there or not
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<OsString>,
    /// The node to ask first; it names the others
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "IP:PORT")]
    pub(crate) at: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flotilla backup`
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The node to ask first; it names the others
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "IP:PORT")]
    pub(crate) at: String,
    /// A new or empty directory, or that of a backup that was not finished, which is begun anew
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    pub(crate) to: Option<PathBuf>,
    /// Take none, but check the backup in this directory; no cluster is asked
    #[arg(long, value_name = "DIR", conflicts_with_all = ["at", "to", "mib_per_second"])]
    pub(crate) verify: Option<PathBuf>,
    /// How fast a node is asked to send, MiB per second
    #[arg(long, default_value_t = 64, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) mib_per_second: u64,
}

/// `flotilla restore`
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The directory of the backup
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// A node of the new cluster; it names the others
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "IP:PORT")]
    pub(crate) at: String,
    /// Repeat a restore of this backup that was interrupted and does not run any more
    #[arg(long)]
    pub(crate) again: bool,
    /// How many connections write at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,
}

/// `flotilla inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// What to look at
    pub(crate) what: Thing,
    /// Where it is
    pub(crate) path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `inspect` can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thing {
    /// A segment of a log, frame by frame
    Log,
    /// A snapshot, all of it
    Snapshot,
    /// A node's data directory: what it would find there at its next start
    Dir,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_command_of_the_shell_may_look_like_flags() {
        let line = ["flotilla", "shell", "--at", "127.0.0.1:1", "INCRBY", "k", "-1", "--at"];
        let Verb::Shell(shell) = Arguments::parse_from(line).verb else { panic!("it is shell") };
        assert_eq!(shell.at, "127.0.0.1:1");
        assert_eq!(shell.command, ["INCRBY", "k", "-1", "--at"]);
    }
}
