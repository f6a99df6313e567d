//! The cluster as its nodes see it: what each says of itself, put together.

use std::collections::BTreeMap;

use flotilla_server::{NodeStatus, ReplicaStatus, ShardStatus, Status};
use flotilla_shard::{ShardId, Slot, SlotMap, SlotMapError};
use serde::Serialize;

/// The whole cluster.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterView {
    /// Its id in hex; empty before the founding.
    pub(crate) cluster: String,
    /// The highest epoch of the map that a node knows.
    pub(crate) epoch: u64,
    /// The nodes, ascending.
    pub(crate) nodes: Vec<NodeView>,
    /// The shards, meta (0) first.
    pub(crate) shards: Vec<ShardView>,
}

/// One node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeView {
    /// Its number, from 1.
    pub(crate) id: u32,
    /// 40 hex digits.
    pub(crate) name: String,
    /// `ip:port`.
    pub(crate) address: String,
    /// 0 if off.
    pub(crate) cluster_port: u16,
    /// 0 if off.
    pub(crate) http_port: u16,
    /// Whether it answered.
    pub(crate) up: bool,
    /// Whether it can serve.
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) waiting_for: Vec<String>,
    /// How often it was started.
    pub(crate) incarnation: u64,
    /// Milliseconds since its start.
    pub(crate) uptime_ms: u64,
    /// Connected clients.
    pub(crate) clients: u64,
    /// Commands processed since its start.
    pub(crate) commands: u64,
    /// The shards it leads.
    pub(crate) leads: Vec<u32>,
}

/// One shard.
#[derive(Debug, Serialize)]
pub(crate) struct ShardView {
    /// Its number; 0 is meta.
    pub(crate) id: u32,
    /// How many slots it owns.
    pub(crate) slots: u32,
    /// Which, both ends inclusive.
    pub(crate) ranges: Vec<(u16, u16)>,
    /// The node of its leader, if any node that answered leads it or knows who does.
    pub(crate) leader: Option<u32>,
    /// The term of that leader.
    pub(crate) term: u64,
    /// The highest commit index that a replica knows.
    pub(crate) commit: u64,
    /// Keys in the table of the replica that has applied most.
    pub(crate) keys: u64,
    /// Its replicas, by node.
    pub(crate) replicas: Vec<ReplicaView>,
}

/// One replica.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaView {
    /// Its node.
    pub(crate) node: u32,
    /// Whether it votes.
    pub(crate) voter: bool,
    /// What it says of itself; `unknown` if its node did not answer.
    pub(crate) role: String,
    /// Its term.
    pub(crate) term: u64,
    /// Its commit index.
    pub(crate) commit: u64,
    /// Its applied index.
    pub(crate) applied: u64,
    /// Its last durable index.
    pub(crate) durable: u64,
    /// How many entries it lags behind the leader, which knows.
    pub(crate) lag: Option<u64>,
}

impl ClusterView {
    /// Puts together what the nodes said; at least one did.
    pub(crate) fn merge(said: &BTreeMap<u32, Status>) -> Self {
        let newest = said.values().max_by_key(|status| (status.epoch, status.nodes.len()));
        let (nodes, cluster) =
            newest.map(|status| (status.nodes.clone(), status.cluster.clone())).unwrap_or_default();
        let shards: Vec<_> = shard_ids(said).map(|shard| ShardView::merge(shard, said)).collect();
        Self {
            cluster,
            epoch: newest.map_or(0, |status| status.epoch),
            nodes: nodes.iter().map(|node| NodeView::merge(node, said, &shards)).collect(),
            shards,
        }
    }

    /// The map that the shards' ranges make up.
    pub(crate) fn slot_map(&self) -> Result<SlotMap, SlotMapError> {
        let range = |shard: &ShardView, &(first, last): &(u16, u16)| {
            (Slot(first), Slot(last), ShardId(shard.id))
        };
        let mut ranges: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| shard.ranges.iter().map(move |ends| range(shard, ends)))
            .collect();
        ranges.sort_unstable();
        SlotMap::new(self.epoch, ranges)
    }

    /// The `ip:port` of a node; empty if it is not known.
    pub(crate) fn address(&self, node: u32) -> String {
        let known = self.nodes.iter().find(|known| known.id == node);
        known.map(|known| known.address.clone()).unwrap_or_default()
    }
}

fn shard_ids(said: &BTreeMap<u32, Status>) -> impl Iterator<Item = u32> {
    let ids = said.values().flat_map(|status| status.shards.iter().map(|shard| shard.id));
    ids.collect::<std::collections::BTreeSet<_>>().into_iter()
}

impl NodeView {
    fn merge(node: &NodeStatus, said: &BTreeMap<u32, Status>, shards: &[ShardView]) -> Self {
        let own = said.get(&node.id);
        // A node knows best which optional ports it has.
        let known = own
            .and_then(|status| status.nodes.iter().find(|other| other.id == node.id))
            .unwrap_or(node);
        let leads = shards.iter().filter(|shard| shard.leader == Some(node.id));
        Self {
            id: node.id,
            name: node.name.clone(),
            address: address(node),
            cluster_port: known.cluster_port,
            http_port: known.http_port,
            up: own.is_some(),
            ready: own.is_some_and(|status| status.ready),
            waiting_for: own.map(|status| status.waiting_for.clone()).unwrap_or_default(),
            incarnation: own.map_or(0, |status| status.incarnation),
            uptime_ms: own.map_or(0, |status| status.uptime_ms),
            clients: own.map_or(0, |status| status.clients),
            commands: own.map_or(0, |status| status.commands),
            leads: leads.map(|shard| shard.id).collect(),
        }
    }
}

impl NodeView {
    /// `ip:port` of its HTTP port.
    pub(crate) fn http_address(&self) -> String {
        let ip = self.address.rsplit_once(':').map_or(self.address.as_str(), |(ip, _)| ip);
        format!("{ip}:{}", self.http_port)
    }
}

/// `ip:port` of a node.
pub(crate) fn address(node: &NodeStatus) -> String {
    match node.ip.parse() {
        Ok(ip) => std::net::SocketAddr::new(ip, node.port).to_string(),
        Err(_) => format!("{}:{}", node.ip, node.port),
    }
}

impl ShardView {
    fn merge(shard: u32, said: &BTreeMap<u32, Status>) -> Self {
        let views: Vec<&ShardStatus> = said
            .values()
            .flat_map(|status| status.shards.iter().filter(|known| known.id == shard))
            .collect();
        let replicas: Vec<(u32, &ReplicaStatus)> = said
            .iter()
            .flat_map(|(&node, status)| status.replicas.iter().map(move |replica| (node, replica)))
            .filter(|(_, replica)| replica.shard == shard)
            .collect();
        let (leader, term) = leader(&views, &replicas);
        let newest = replicas.iter().max_by_key(|(_, replica)| replica.applied);
        let widest = views.iter().max_by_key(|view| view.voters.len() + view.learners.len());
        let mut members: Vec<(u32, bool)> = widest
            .map(|view| {
                let voters = view.voters.iter().map(|&node| (node, true));
                voters.chain(view.learners.iter().map(|&node| (node, false))).collect()
            })
            .unwrap_or_default();
        members.sort_unstable();
        let ranges = views.iter().map(|view| view.ranges.clone()).max().unwrap_or_default();
        let lead = replicas.iter().find(|(node, _)| Some(*node) == leader);
        Self {
            id: shard,
            slots: ranges.iter().map(|&(first, last)| u32::from(last - first) + 1).sum(),
            ranges,
            leader,
            term,
            commit: replicas.iter().map(|(_, replica)| replica.commit).max().unwrap_or(0),
            keys: newest.map_or(0, |(_, replica)| replica.keys),
            replicas: members
                .into_iter()
                .map(|(node, voter)| {
                    let own = replicas.iter().find(|(of, _)| *of == node);
                    ReplicaView::merge(node, voter, own.map(|own| own.1), lead.map(|lead| lead.1))
                })
                .collect(),
        }
    }
}

/// Who leads, and in which term: a replica that says so of itself counts more than hearsay.
fn leader(views: &[&ShardStatus], replicas: &[(u32, &ReplicaStatus)]) -> (Option<u32>, u64) {
    let itself = replicas
        .iter()
        .filter(|(_, replica)| replica.role == "leader")
        .map(|&(node, replica)| (replica.term, Some(node)));
    let hearsay = views.iter().map(|view| (view.term, view.leader));
    let known = itself.max().or_else(|| hearsay.max());
    known.map_or((None, 0), |(term, leader)| (leader, term))
}

impl ReplicaView {
    fn merge(
        node: u32,
        voter: bool,
        own: Option<&ReplicaStatus>,
        leader: Option<&ReplicaStatus>,
    ) -> Self {
        let unknown = ReplicaStatus { role: "unknown".to_owned(), ..ReplicaStatus::default() };
        let own = own.unwrap_or(&unknown);
        let lag = leader
            .and_then(|leader| leader.lag.iter().find(|(of, _)| *of == node))
            .map(|&(_, lag)| lag);
        Self {
            node,
            voter,
            role: own.role.clone(),
            term: own.term,
            commit: own.commit,
            applied: own.applied,
            durable: own.durable,
            lag: if own.role == "leader" { Some(0) } else { lag },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(me: u32, role: &str, term: u64) -> Status {
        let node = |id| NodeStatus {
            id,
            ip: "127.0.0.1".into(),
            port: 7000 + id as u16,
            ..NodeStatus::default()
        };
        let shard = ShardStatus {
            id: 1,
            ranges: vec![(0, 9), (20, 20)],
            voters: vec![1, 2, 3],
            leader: Some(3),
            term: 1,
            ..ShardStatus::default()
        };
        let replica = ReplicaStatus {
            shard: 1,
            role: role.into(),
            term,
            commit: 10 + u64::from(me),
            lag: if role == "leader" { vec![(1, 4), (3, 9)] } else { vec![] },
            ..ReplicaStatus::default()
        };
        Status {
            me,
            ready: true,
            nodes: (1..=3).map(node).collect(),
            shards: vec![shard],
            replicas: vec![replica],
            ..Status::default()
        }
    }

    #[test]
    fn a_leader_that_says_so_counts_more_than_hearsay() {
        let said = BTreeMap::from([(1, status(1, "follower", 2)), (2, status(2, "leader", 2))]);
        let view = ClusterView::merge(&said);
        let shard = &view.shards[0];
        assert_eq!((shard.leader, shard.term, shard.commit, shard.slots), (Some(2), 2, 12, 11));
        let lags: Vec<_> = shard.replicas.iter().map(|replica| replica.lag).collect();
        assert_eq!(lags, [Some(4), Some(0), Some(9)]);
        assert_eq!(view.nodes[1].leads, [1]);
        assert!(view.nodes[1].up && !view.nodes[2].up);
        assert_eq!(shard.replicas[2].role, "unknown");
    }
}
