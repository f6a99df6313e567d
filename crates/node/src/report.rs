//! The node's view of itself and the cluster, and its clients' local commands.

use flotilla_kv::command::Spec;
use flotilla_raft::RoleName;
use flotilla_shard::{META, NodeId, Slot};

use crate::client::{Client, View, answer_local};
use crate::io::{ConnId, Now};
use crate::node::Node;
use crate::options::Options;
use crate::replica::{Replica, State};
use crate::{NodeStatus, ReplicaStatus, ShardStatus, Status};

/// The cluster port and the HTTP port of a node that has not said otherwise, above its plain port.
const CLUSTER_PORT_OFFSET: u16 = 1_000;

impl Node {
    /// A command that the node answers by itself.
    pub(crate) fn execute_local(&mut self, conn: ConnId, spec: &'static Spec, now: Now) {
        let Some(caller) = self.conns.client(conn) else { return };
        let mut reply = Vec::new();
        let change = answer_local(&caller.client, spec, &NodeView { node: self, now }, &mut reply);
        if let Some(caller) = self.conns.client_mut(conn) {
            caller.client.conclude(change, &reply);
        }
    }

    /// What `FLOTILLA STATUS` says.
    pub(crate) fn report(&self, now: Now) -> Status {
        let waiting_for = self.unready();
        Status {
            cluster: self
                .record
                .as_ref()
                .map(|record| record.cluster_id().to_string())
                .unwrap_or_default(),
            epoch: self.map.as_ref().map_or(0, flotilla_shard::SlotMap::epoch),
            me: self.me.0,
            incarnation: self.origin.incarnation,
            ready: waiting_for.is_empty(),
            waiting_for,
            loaded_percent: self.loaded_percent(),
            disk_full: self.lacks_room,
            uptime_ms: now.time.since(self.started.time) / 1_000,
            disk: self.founding.own_disk().0,
            repaired: self.repaired,
            clients: self.conns.client_count(),
            commands: self.commands,
            nodes: self.node_statuses(),
            shards: self.shard_statuses(),
            replicas: self.replicas.values().map(replica_status).collect(),
        }
    }

    /// Why this node is not ready, a line each; empty if it is.
    fn unready(&self) -> Vec<String> {
        if self.map.is_none() {
            let nodes = self.founding.waiting_for();
            let addresses: Vec<&str> =
                nodes.iter().filter_map(|node| self.layout.address(*node)).collect();
            return vec![format!("the founding: no answer of {}", addresses.join(", "))];
        }
        let mut reasons = Vec::new();
        if let Some(percent) = self.loaded_percent() {
            reasons.push(format!("loading: {percent} %"));
        }
        if self.revived_at.is_none() {
            reasons
                .push("what the other nodes have seen of this disk is not known yet".to_string());
        }
        for (shard, living) in self.unsettled() {
            reasons.push(match living {
                None => {
                    format!("shard {shard}: the replica here is dead, and a new one is asked for")
                }
                Some(id) => format!("shard {shard}: the new replica {id} is not a member yet"),
            });
        }
        for replica in self.replicas.values() {
            match &replica.state {
                State::Serving(_) => {
                    if let Some(percent) = replica.loaded_percent() {
                        let shard = replica.shard;
                        reasons
                            .push(format!("shard {shard}: its log is being applied, {percent} %"));
                    }
                }
                State::Loading { .. } if replica.raft.lacks_state() => reasons.push(format!(
                    "shard {}: its snapshot is damaged here, another one is fetched",
                    replica.shard
                )),
                State::Loading { .. } => {
                    let (shard, percent) = (replica.shard, replica.loaded_percent().unwrap_or(0));
                    reasons
                        .push(format!("shard {shard}: its snapshot is being loaded, {percent} %"));
                }
                State::Halted => reasons.push(format!("shard {}: halted here", replica.shard)),
            }
        }
        for shard in std::iter::once(META).chain(self.data_shards.iter().copied()) {
            if self.leaders.get(shard).1.is_none() {
                reasons.push(format!("shard {shard}: no leader is known"));
            }
        }
        reasons
    }

    fn node_statuses(&self) -> Vec<NodeStatus> {
        let layout = self.record.as_ref().map_or(&self.layout, |record| &record.layout);
        let status = |node: NodeId| {
            let address = layout.address(node).unwrap_or_default();
            let (ip, port) = address.rsplit_once(':').unwrap_or((address, "0"));
            let port: u16 = port.parse().unwrap_or(0);
            let hello = self.peers.map.get(&node).and_then(|peer| peer.hello.as_ref());
            let (cluster_port, http_port) = match hello {
                _ if node == self.me => self.ports,
                Some(hello) => (hello.cluster_port, hello.http_port),
                None => (port.checked_add(CLUSTER_PORT_OFFSET).unwrap_or(0), 0),
            };
            NodeStatus {
                id: node.0,
                name: self.node_name(node, address),
                ip: ip.trim_start_matches('[').trim_end_matches(']').to_string(),
                port,
                cluster_port,
                http_port,
                linked: node == self.me || self.peers.is_linked(node),
            }
        };
        layout.node_ids().map(status).collect()
    }

    /// 40 hex digits: from the storage id in the record; before the founding, from the address.
    fn node_name(&self, node: NodeId, address: &str) -> String {
        if let Some(id) = self.record.as_ref().and_then(|record| record.storage_id(node)) {
            return id.node_name();
        }
        // Any name will do that is the same everywhere: the address's bytes in hex, cut to length.
        let digits = address.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
        let hex = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
        format!("{:0>40}", hex.take(40).collect::<String>())
    }

    fn shard_statuses(&self) -> Vec<ShardStatus> {
        let Some(record) = &self.record else { return Vec::new() };
        record
            .shard_ids()
            .map(|shard| {
                let members = record.replicas_of(shard);
                let nodes = |voter: bool| {
                    members.iter().filter(|m| m.voter == voter).map(|m| m.node.0).collect()
                };
                let ranges = self.map.as_ref().map(|map| map.ranges_of(shard)).unwrap_or_default();
                let (term, leader) = self.leaders.get(shard);
                ShardStatus {
                    id: shard.0,
                    ranges: ranges.into_iter().map(|(first, last)| (first.0, last.0)).collect(),
                    voters: nodes(true),
                    learners: nodes(false),
                    leader: leader.map(|node| node.0),
                    term,
                }
            })
            .collect()
    }

    /// Where cluster clients reach a node; `None` if its cluster port is off.
    pub(crate) fn cluster_address(&self, node: NodeId) -> Option<(String, u16)> {
        let status = self.node_statuses().into_iter().find(|status| status.id == node.0)?;
        (status.cluster_port > 0).then_some((status.ip, status.cluster_port))
    }
}

fn replica_status(replica: &Replica) -> ReplicaStatus {
    let raft = replica.raft.status();
    let role = match raft.role {
        _ if replica.is_halted() => "halted",
        RoleName::Leader => "leader",
        RoleName::Candidate => "candidate",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Follower if raft.voter => "follower",
        RoleName::Follower => "learner",
    };
    let lag = raft.followers.iter().filter_map(|follower| {
        let behind = raft.last_index.0.saturating_sub(follower.matched.0);
        Some((replica.node_of(follower.id)?.0, behind))
    });
    ReplicaStatus {
        shard: replica.shard.0,
        id: replica.id.0,
        damaged: replica.raft.damaged() as u64,
        role: role.to_string(),
        term: raft.term.0,
        commit: raft.commit.0,
        applied: replica.applied.0,
        last: raft.last_index.0,
        durable: raft.durable_index.0,
        snapshot: replica.snapshot.index.0,
        keys: replica.machine().map_or(0, flotilla_kv::Machine::key_count),
        bytes: replica.machine().map_or(0, flotilla_kv::Machine::bytes),
        lag: lag.collect(),
    }
}

/// The node as its clients' local commands see it.
struct NodeView<'a> {
    node: &'a Node,
    now: Now,
}

impl View for NodeView<'_> {
    fn now(&self) -> Now {
        self.now
    }

    fn options(&self) -> &Options {
        &self.node.options
    }

    fn status(&self) -> Status {
        self.node.report(self.now)
    }

    fn each_client(&self, visit: &mut dyn FnMut(&Client)) {
        for caller in self.node.conns.clients() {
            visit(&caller.client);
        }
    }

    fn keys_in_slot(&self, slot: Slot) -> Option<u64> {
        let shard = self.node.map.as_ref()?.owner(slot)?;
        Some(self.node.replicas.get(&shard)?.machine()?.slot_key_count(slot))
    }

    fn is_durable(&self) -> bool {
        self.node.durable_disk
    }
}
