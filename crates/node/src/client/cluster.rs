//! The `CLUSTER` commands: the flotilla as Redis Cluster's clients expect to see one.
//!
//! A flotilla's node may lead several shards and follow in others; Redis knows only masters and
//! their replicas. So a node that leads a shard is a master in every answer and never a replica:
//! clients keep the first role they see, and would otherwise leave its shard out of `SCAN`,
//! `DBSIZE` and `FLUSHALL`. A shard without a known leader shows its first voter in the leader's
//! place, so that every slot always has a master, and no answer waits for an election.
//!
//! All ports named here are cluster ports. On the plain port the answers are the same, so that a
//! cluster client may be pointed at either.
//!
//! Source: the shapes of Redis 7's replies, and what its clients read of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use flotilla_resp::encode;
use flotilla_shard::{META, SLOTS, Slot, slot_of};

use super::local::{integer, one_line, text};
use super::{Client, View};
use crate::{NodeStatus, ShardStatus, Status};

/// A cluster port that is not known is taken to be this much above the plain one, as by default.
const CLUSTER_PORT_OFFSET: u16 = 1_000;

/// `CLUSTER` and its subcommands, but `HELP`.
pub(super) fn reply(client: &Client, verb: &str, view: &dyn View, out: &mut Vec<u8>) {
    match verb {
        "keyslot" => {
            let key = client.args().get(2).unwrap_or_default();
            return encode::integer(out, slot_of(key).0.into());
        }
        "countkeysinslot" => return count_keys_in_slot(client, view, out),
        _ => {}
    }
    let status = view.status();
    let topology = Topology::new(&status, &client.connected.local);
    match verb {
        "slots" => topology.slots(out),
        "shards" => topology.shards(out),
        "nodes" => text(out, &topology.nodes()),
        "info" => text(out, &topology.info()),
        "myid" => encode::bulk(out, topology.my_name()),
        "myshardid" => encode::bulk(out, topology.my_shard_name()),
        "links" => topology.links(out),
        "replicas" | "slaves" => topology.replicas(client.args().get(2).unwrap_or_default(), out),
        _ => unreachable!("a test asks every subcommand of CLUSTER: {verb} has an answer"),
    }
}

/// `CLUSTER COUNTKEYSINSLOT slot`: of this node's own replica, like Redis; 0 where it has none.
fn count_keys_in_slot(client: &Client, view: &dyn View, out: &mut Vec<u8>) {
    let Some(slot) = client.args().get(2).and_then(integer) else {
        return encode::error(out, b"ERR value is not an integer or out of range");
    };
    match u16::try_from(slot) {
        Ok(slot) if slot < SLOTS => {
            let keys = view.keys_in_slot(Slot(slot)).unwrap_or(0);
            encode::integer(out, keys as i64);
        }
        _ => encode::error(out, b"ERR Invalid slot"),
    }
}

/// A status in the words of Redis Cluster.
struct Topology<'a> {
    status: &'a Status,
    /// The IP that the asking client dialled.
    dialled_ip: &'a str,
    nodes: BTreeMap<u32, &'a NodeStatus>,
    /// The node shown in the leader's place, by shard.
    masters: BTreeMap<u32, u32>,
    /// All nodes shown in some leader's place.
    leading: BTreeSet<u32>,
}

impl<'a> Topology<'a> {
    fn new(status: &'a Status, dialled: &'a str) -> Self {
        let nodes: BTreeMap<_, _> = status.nodes.iter().map(|node| (node.id, node)).collect();
        let known = |node: &u32| nodes.contains_key(node);
        let master = |shard: &ShardStatus| {
            let stand_in = || shard.voters.iter().chain(&shard.learners).copied().find(known);
            shard.leader.filter(known).or_else(stand_in)
        };
        let masters: BTreeMap<_, _> = data_shards(status)
            .filter_map(|shard| master(shard).map(|node| (shard.id, node)))
            .collect();
        let leading = masters.values().copied().collect();
        let dialled_ip = dialled.rsplit_once(':').map_or(dialled, |(ip, _)| ip);
        Self { status, dialled_ip: unbracketed(dialled_ip), nodes, masters, leading }
    }

    /// The node in the leader's place first, then those with another replica that lead nothing.
    fn members(&self, shard: &ShardStatus) -> Vec<&'a NodeStatus> {
        let master = self.masters.get(&shard.id).copied();
        let replicas: BTreeSet<u32> = shard.voters.iter().chain(&shard.learners).copied().collect();
        let replicas = replicas.into_iter().filter(|node| !self.leading.contains(node));
        let members = master.into_iter().chain(replicas);
        members.filter_map(|node| self.nodes.get(&node).copied()).collect()
    }

    /// Where clients reach a node: its IP, or the one the client dialled if it listens on all.
    fn ip(&self, node: &'a NodeStatus) -> &'a str {
        match unbracketed(&node.ip) {
            "" | "0.0.0.0" | "::" => self.dialled_ip,
            ip => ip,
        }
    }

    /// `CLUSTER SLOTS`.
    fn slots(&self, out: &mut Vec<u8>) {
        let mut ranges: Vec<_> = data_shards(self.status)
            .flat_map(|shard| shard.ranges.iter().map(move |range| (*range, shard)))
            .collect();
        ranges.sort_unstable_by_key(|(range, _)| *range);
        encode::array_header(out, ranges.len());
        for ((first, last), shard) in ranges {
            let members = self.members(shard);
            encode::array_header(out, 2 + members.len());
            encode::integer(out, first.into());
            encode::integer(out, last.into());
            for node in members {
                encode::array_header(out, 4);
                encode::bulk(out, self.ip(node));
                encode::integer(out, cluster_port(node).into());
                encode::bulk(out, &node.name);
                encode::map_header(out, 0);
            }
        }
    }

    /// `CLUSTER SHARDS`.
    fn shards(&self, out: &mut Vec<u8>) {
        encode::array_header(out, data_shards(self.status).count());
        for shard in data_shards(self.status) {
            encode::map_header(out, 2);
            encode::bulk(out, b"slots");
            encode::array_header(out, 2 * shard.ranges.len());
            for (first, last) in &shard.ranges {
                encode::integer(out, (*first).into());
                encode::integer(out, (*last).into());
            }
            encode::bulk(out, b"nodes");
            let members = self.members(shard);
            encode::array_header(out, members.len());
            for node in members {
                self.shard_member(shard, node, out);
            }
        }
    }

    fn shard_member(&self, shard: &ShardStatus, node: &'a NodeStatus, out: &mut Vec<u8>) {
        let is_master = self.masters.get(&shard.id) == Some(&node.id);
        let mine = self.status.replicas.iter().find(|replica| replica.shard == shard.id);
        let offset = match mine {
            Some(replica) if node.id == self.status.me => replica.applied,
            _ => 0,
        };
        encode::map_header(out, 7);
        text_field(out, "id", &node.name);
        integer_field(out, "port", cluster_port(node).into());
        text_field(out, "ip", self.ip(node));
        text_field(out, "endpoint", self.ip(node));
        text_field(out, "role", if is_master { "master" } else { "replica" });
        integer_field(out, "replication-offset", offset as i64);
        text_field(out, "health", if node.linked { "online" } else { "fail" });
    }

    /// `CLUSTER NODES`, a line per node.
    fn nodes(&self) -> String {
        let mut lines = String::new();
        for node in self.nodes.values() {
            lines.push_str(&self.line(node));
            lines.push('\n');
        }
        lines
    }

    /// A node's line, without its end.
    fn line(&self, node: &'a NodeStatus) -> String {
        let master = self.master_of(node.id);
        let mut flags = String::new();
        if node.id == self.status.me {
            flags.push_str("myself,");
        }
        flags.push_str(if master.is_some() { "slave" } else { "master" });
        if !node.linked {
            flags.push_str(",fail?");
        }
        let mut line = format!(
            "{} {}:{}@{} {flags} {} 0 0 {} {}",
            node.name,
            self.ip(node),
            cluster_port(node),
            node.port,
            master.map_or("-", |master| master.name.as_str()),
            self.status.epoch,
            if node.linked { "connected" } else { "disconnected" },
        );
        for (first, last) in self.slots_of(node.id) {
            let written = if first == last {
                write!(line, " {first}")
            } else {
                write!(line, " {first}-{last}")
            };
            written.expect("a String takes everything");
        }
        line
    }

    /// Whose replica a node is shown as: of the first shard it has, unless it leads one itself.
    fn master_of(&self, node: u32) -> Option<&'a NodeStatus> {
        if self.leading.contains(&node) {
            return None;
        }
        let mut shards = data_shards(self.status);
        let shard = shards.find(|s| s.voters.contains(&node) || s.learners.contains(&node))?;
        self.nodes.get(self.masters.get(&shard.id)?).copied()
    }

    /// The slots of all shards in which the node has the leader's place, ascending.
    fn slots_of(&self, node: u32) -> Vec<(u16, u16)> {
        let led = data_shards(self.status).filter(|s| self.masters.get(&s.id) == Some(&node));
        let mut ranges: Vec<_> = led.flat_map(|shard| shard.ranges.iter().copied()).collect();
        ranges.sort_unstable();
        ranges
    }

    /// `CLUSTER INFO`. The state is `ok` while every slot has an owner with a known leader.
    fn info(&self) -> String {
        let slots = |shard: &ShardStatus| -> u32 {
            shard.ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
        };
        let assigned: u32 = data_shards(self.status).map(slots).sum();
        let served: u32 =
            data_shards(self.status).filter(|shard| shard.leader.is_some()).map(slots).sum();
        let state = if served == u32::from(SLOTS) { "ok" } else { "fail" };
        let masters = self.leading.iter().filter(|node| !self.slots_of(**node).is_empty()).count();
        let epoch = self.status.epoch;
        format!(
            "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
             cluster_slots_ok:{served}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\n\
             cluster_known_nodes:{}\r\ncluster_size:{masters}\r\ncluster_current_epoch:{epoch}\r\n\
             cluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\n\
             cluster_stats_messages_received:0\r\n",
            assigned - served,
            self.nodes.len(),
        )
    }

    /// `CLUSTER LINKS`: the links to the other nodes that are up.
    fn links(&self, out: &mut Vec<u8>) {
        let others = self.nodes.values().filter(|node| node.linked && node.id != self.status.me);
        encode::array_header(out, others.clone().count());
        for node in others {
            encode::map_header(out, 6);
            text_field(out, "direction", "to");
            text_field(out, "node", &node.name);
            integer_field(out, "create-time", 0);
            text_field(out, "events", "rw");
            integer_field(out, "send-buffer-allocated", 0);
            integer_field(out, "send-buffer-used", 0);
        }
    }

    /// `CLUSTER REPLICAS node`: the lines of the nodes shown as its replicas.
    fn replicas(&self, name: &[u8], out: &mut Vec<u8>) {
        let Some(master) = self.nodes.values().find(|node| node.name.as_bytes() == name) else {
            return encode::error(out, format!("ERR Unknown node {}", one_line(name)));
        };
        if self.master_of(master.id).is_some() {
            return encode::error(out, b"ERR The specified node is not a master");
        }
        let of_master =
            |node: &&&NodeStatus| self.master_of(node.id).map(|m| m.id) == Some(master.id);
        let replicas: Vec<_> = self.nodes.values().filter(of_master).collect();
        encode::array_header(out, replicas.len());
        for node in replicas {
            encode::bulk(out, self.line(node));
        }
    }

    /// The 40 digits of the node that answers; before the founding there are none yet.
    fn my_name(&self) -> &str {
        self.nodes.get(&self.status.me).map_or("", |node| node.name.as_str())
    }

    /// 40 hex digits for the shard this node leads, else follows: the cluster's id and the shard's
    /// number, so that all nodes call it the same.
    fn my_shard_name(&self) -> String {
        let me = self.status.me;
        let led = self.masters.iter().find(|(_, node)| **node == me).map(|(shard, _)| *shard);
        let holds = |s: &&ShardStatus| s.voters.contains(&me) || s.learners.contains(&me);
        let followed = || data_shards(self.status).find(holds).map(|shard| shard.id);
        let shard = led.or_else(followed).unwrap_or(META.0);
        format!("{:0<32.32}{shard:08x}", self.status.cluster)
    }
}

/// The shards that own slots or may; meta owns none.
fn data_shards(status: &Status) -> impl Iterator<Item = &ShardStatus> + Clone {
    status.shards.iter().filter(|shard| shard.id != META.0)
}

/// A node's cluster port, by its default place if the node has not said.
fn cluster_port(node: &NodeStatus) -> u16 {
    match node.cluster_port {
        0 => node.port.checked_add(CLUSTER_PORT_OFFSET).unwrap_or(node.port),
        port => port,
    }
}

fn text_field(out: &mut Vec<u8>, name: &str, value: &str) {
    encode::bulk(out, name);
    encode::bulk(out, value);
}

fn integer_field(out: &mut Vec<u8>, name: &str, value: i64) {
    encode::bulk(out, name);
    encode::integer(out, value);
}

/// An IPv6 address as Redis's replies name it.
fn unbracketed(ip: &str) -> &str {
    ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)
}
