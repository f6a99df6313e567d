//! `INFO`: the node in Redis's `field:value` lines, for people, clients and monitors.
//!
//! Only fields that say something true are there. `# Keyspace` counts the keys of this node's own
//! replicas: on the cluster port of the shards it leads, so that a sum over all leaders is the
//! whole, on the plain port of all it has.

use std::fmt::Write;

use super::connection::REDIS_VERSION;
use super::{Client, View, local};
use crate::{Face, ReplicaStatus, Status};
use flotilla_shard::META;

/// A section's name as it is asked for, its heading, and who writes it.
type Section = (&'static str, &'static str, fn(&Facts<'_>, &mut Lines));

const SECTIONS: [Section; 9] = [
    ("server", "Server", server),
    ("clients", "Clients", clients),
    ("memory", "Memory", memory),
    ("persistence", "Persistence", persistence),
    ("stats", "Stats", stats),
    ("replication", "Replication", replication),
    ("cluster", "Cluster", cluster),
    ("keyspace", "Keyspace", keyspace),
    ("raft", "Raft", raft),
];

/// What the sections are written from.
struct Facts<'a> {
    face: Face,
    view: &'a dyn View,
    status: &'a Status,
}

impl Facts<'_> {
    /// The replicas on this node that hold keys.
    fn data_replicas(&self) -> impl Iterator<Item = &ReplicaStatus> {
        self.status.replicas.iter().filter(|replica| replica.shard != META.0)
    }
}

/// The lines of a reply.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a String takes everything");
    }
}

/// `INFO [section …]`.
pub(super) fn reply(client: &Client, view: &dyn View, out: &mut Vec<u8>) {
    let asked: Vec<Vec<u8>> =
        client.args().iter().skip(1).map(<[u8]>::to_ascii_lowercase).collect();
    let wants_all = asked.is_empty()
        || asked.iter().any(|name| matches!(name.as_slice(), b"all" | b"default" | b"everything"));
    let status = view.status();
    let facts = Facts { face: client.face(), view, status: &status };
    let mut lines = Lines::default();
    for (name, heading, section) in SECTIONS {
        if wants_all || asked.iter().any(|asked| asked == name.as_bytes()) {
            if !lines.0.is_empty() {
                lines.0.push_str("\r\n");
            }
            write!(lines.0, "# {heading}\r\n").expect("a String takes everything");
            section(&facts, &mut lines);
        }
    }
    local::text(out, &lines.0);
}

fn server(facts: &Facts<'_>, lines: &mut Lines) {
    let status = facts.status;
    lines.field("redis_version", REDIS_VERSION);
    lines.field("flotilla_version", env!("CARGO_PKG_VERSION"));
    let mode = if facts.face == Face::Cluster { "cluster" } else { "standalone" };
    lines.field("redis_mode", mode);
    lines.field("arch_bits", usize::BITS);
    lines.field("os", std::env::consts::OS);
    if let Some(node) = status.nodes.iter().find(|node| node.id == status.me) {
        lines.field("node_name", &node.name);
        let port = if facts.face == Face::Cluster { node.cluster_port } else { node.port };
        lines.field("tcp_port", port);
    }
    lines.field("server_time_usec", facts.view.now().wall_ms * 1_000);
    lines.field("uptime_in_seconds", status.uptime_ms / 1_000);
    lines.field("uptime_in_days", status.uptime_ms / 86_400_000);
}

fn clients(facts: &Facts<'_>, lines: &mut Lines) {
    lines.field("connected_clients", facts.status.clients);
}

fn memory(facts: &Facts<'_>, lines: &mut Lines) {
    let bytes: u64 = facts.data_replicas().map(|replica| replica.bytes).sum();
    lines.field("used_memory", bytes);
    lines.field("used_memory_dataset", bytes);
    lines.field("maxmemory", 0);
    lines.field("maxmemory_policy", "noeviction");
}

fn persistence(facts: &Facts<'_>, lines: &mut Lines) {
    let loaded = facts.status.loaded_percent;
    lines.field("loading", u8::from(loaded.is_some()));
    if let Some(percent) = loaded {
        lines.field("loading_loaded_perc", percent);
    }
    lines.field("async_loading", 0);
    lines.field("aof_enabled", 1);
    // What Redis says of its own log when that can't be written: clients and monitors know it.
    lines.field("aof_last_write_status", if facts.status.disk_full { "err" } else { "ok" });
    lines.field("disk_full", if facts.status.disk_full { "yes" } else { "no" });
    lines.field("durable", if facts.view.is_durable() { "yes" } else { "no" });
}

fn stats(facts: &Facts<'_>, lines: &mut Lines) {
    lines.field("total_commands_processed", facts.status.commands);
}

fn replication(facts: &Facts<'_>, lines: &mut Lines) {
    let applied: u64 = facts.data_replicas().map(|replica| replica.applied).sum();
    lines.field("role", "master");
    lines.field("connected_slaves", 0);
    lines.field("master_failover_state", "no-failover");
    lines.field("master_replid", format_args!("{:0<40.40}", facts.status.cluster));
    lines.field("master_repl_offset", applied);
}

fn cluster(facts: &Facts<'_>, lines: &mut Lines) {
    lines.field("cluster_enabled", u8::from(facts.face == Face::Cluster));
}

fn keyspace(facts: &Facts<'_>, lines: &mut Lines) {
    let counted = facts
        .data_replicas()
        .filter(|replica| facts.face == Face::Plain || replica.role == "leader");
    let keys: u64 = counted.map(|replica| replica.keys).sum();
    if keys > 0 {
        lines.field("db0", format_args!("keys={keys}"));
    }
}

/// The node, then a line per shard: the replica on this node, or `role=none`.
fn raft(facts: &Facts<'_>, lines: &mut Lines) {
    let status = facts.status;
    lines.field("cluster_id", &status.cluster);
    lines.field("map_epoch", status.epoch);
    lines.field("node", status.me);
    lines.field("incarnation", status.incarnation);
    lines.field("disk", status.disk);
    lines.field("repaired_entries", status.repaired);
    lines.field("ready", if status.ready { "yes" } else { "no" });
    lines.field("waiting_for", status.waiting_for.join("; "));
    for shard in &status.shards {
        let leader = shard.leader.map_or("unknown".to_owned(), |leader| leader.to_string());
        let replica = status.replicas.iter().find(|replica| replica.shard == shard.id);
        let replica =
            replica.map_or_else(|| format!("role=none,term={}", shard.term), replica_fields);
        lines.field(&format!("shard{}", shard.id), format_args!("{replica},leader={leader}"));
    }
}

fn replica_fields(replica: &ReplicaStatus) -> String {
    let mut fields = format!(
        "id={},role={},term={},commit={},applied={},last={},durable={},snapshot={},damaged={},\
         keys={},bytes={}",
        replica.id,
        replica.role,
        replica.term,
        replica.commit,
        replica.applied,
        replica.last,
        replica.durable,
        replica.snapshot,
        replica.damaged,
        replica.keys,
        replica.bytes,
    );
    for (node, entries) in &replica.lag {
        write!(fields, ",lag{node}={entries}").expect("a String takes everything");
    }
    fields
}
