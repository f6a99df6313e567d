//! Our own cluster, as the measurements want it: addresses by role, processes, and an end for some
//! of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::points::{Clients, Setup};
use crate::cluster::{Cluster, Shape};

/// The directory of its data.
pub(super) const OURS: &str = "flotilla";
/// Nodes of a cluster.
const NODES: u16 = 3;
/// The first node's port; every cluster takes others, since the one before may still be closing.
const FIRST_PORT: u16 = 7301;
const PORTS_PER_CLUSTER: u16 = 10;
/// After so many clusters the first ports come again.
const CLUSTERS: u16 = 60;
/// With so small logs before a snapshot there is always one that is written.
const SNAPSHOTS: [&str; 4] = ["--segment-bytes", "4194304", "--snapshot-log-bytes", "8388608"];
/// How long a killed process may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster of ours. Dropped, it is ended.
pub(super) struct Ours {
    cluster: Cluster,
    /// Its nodes' ports and processes.
    nodes: Vec<(u16, u32)>,
}

impl Ours {
    /// Starts one with data in this directory. `number` tells the clusters of a run apart.
    pub(super) fn start(setup: Setup, data: &Path, number: u16) -> anyhow::Result<Self> {
        let port = FIRST_PORT + PORTS_PER_CLUSTER * (number % CLUSTERS);
        let more: &[&str] = if setup.snapshots { &SNAPSHOTS } else { &[] };
        let data = &data.join(OURS);
        let shape = Shape { nodes: NODES, shards: setup.shards, port, data, more };
        let cluster = Cluster::start(&shape)?;
        let nodes = nodes(cluster.process(), port)?;
        ensure!(nodes.len() == usize::from(NODES), "not all nodes' processes can be seen");
        Ok(Self { cluster, nodes })
    }

    /// Where clients connect.
    pub(super) fn addresses(&self, clients: Clients) -> anyhow::Result<String> {
        let leader = match clients {
            Clients::AllNodes => None,
            Clients::Leader | Clients::Followers => Some(self.leader()?),
        };
        let ports = self.nodes.iter().map(|&(port, _)| port);
        let chosen = ports.filter(|port| match clients {
            Clients::AllNodes => true,
            Clients::Leader => Some(*port) == leader,
            Clients::Followers => Some(*port) != leader,
        });
        Ok(chosen.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(","))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|&(_, pid)| pid).collect()
    }

    /// Kills the node that leads shard 1, or one that does not, at once.
    pub(super) fn kill(&mut self, is_leader: bool) -> anyhow::Result<()> {
        let leader = self.leader()?;
        let found = self.nodes.iter().position(|&(port, _)| (port == leader) == is_leader);
        let (_, process) = self.nodes.remove(found.context("no node is of that kind")?);
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::KILL).context("it can be killed")?;
        let until = Instant::now() + END_TIMEOUT;
        while Path::new(&format!("/proc/{process}/exe")).read_link().is_ok() {
            ensure!(Instant::now() < until, "a killed node is still there");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The port of the node that leads shard 1.
    fn leader(&self) -> anyhow::Result<u16> {
        let status = self.cluster.status()?;
        let list = |name: &str| status[name].as_array().map_or(&[][..], Vec::as_slice);
        let leader = list("shards").iter().find(|shard| shard["id"] == 1);
        let leader = leader.map(|shard| &shard["leader"]).context("shard 1 has no leader")?;
        let node = list("nodes").iter().find(|node| node["id"] == *leader);
        let address = node.and_then(|node| node["address"].as_str());
        port_of(address.context("the leader has no address")?)
    }
}

fn port_of(address: &str) -> anyhow::Result<u16> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.with_context(|| format!("'{address}' is no address"))
}

/// The ports and processes of the nodes that this process has started.
fn nodes(up: u32, first_port: u16) -> anyhow::Result<Vec<(u16, u32)>> {
    let children = fs::read_to_string(format!("/proc/{up}/task/{up}/children"));
    let mut nodes = Vec::new();
    for process in children.context("the processes of the nodes")?.split_whitespace() {
        let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let words: Vec<&str> = words.split('\0').collect();
        let number = words
            .iter()
            .position(|word| *word == "--node")
            .and_then(|at| words.get(at + 1).and_then(|number| number.parse::<u16>().ok()));
        if let Some((number, process)) = number.zip(process.parse().ok()) {
            nodes.push((first_port + number - 1, process));
        }
    }
    nodes.sort_unstable();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_addresses() {
        assert_eq!(port_of("127.0.0.1:7301").expect("an address"), 7301);
        assert!(port_of("localhost").is_err());
    }
}
