//! Clusters of real processes for one test each: free ports, a temporary directory, deadlines
//! instead of sleeps, and an end for everything when the test ends.

mod ports;
mod process;
mod wire;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flotilla_server::Status;
use flotilla_shard::Layout;
use tempfile::TempDir;

pub(crate) use ports::PortRange;
pub(crate) use process::{Process, flotilla, flotilla_limited, is_running, output_of};
pub(crate) use wire::{Wire, request};

/// A step that takes longer than this is a failure, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Small segments: a test writes little.
pub(crate) const SEGMENT_BYTES: &str = "4194304";
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` gives something; panics with `what` if that takes too long.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Nodes started one by one.
#[derive(Debug)]
pub(crate) struct Nodes {
    processes: Vec<Option<Process>>,
    cluster: Cluster,
    /// The most descriptors that a node started from now on may have.
    descriptors: Option<u64>,
    ports: PortRange,
    directory: TempDir,
}

/// How a node learns who else there is.
#[derive(Debug)]
enum Cluster {
    /// From the list of lists that `flotilla run` is given.
    Lists(String),
    /// From the file that `flotilla up` gives its nodes: these may share several shards.
    File(PathBuf),
}

impl Nodes {
    /// One partition on `count` nodes, ready to serve.
    pub(crate) fn start(count: usize) -> Self {
        let mut nodes = Self::blank(count);
        for node in 1..=count {
            nodes.start_node(node);
        }
        nodes.wait_until_ready();
        nodes
    }

    /// Nodes that are not started yet.
    pub(crate) fn blank(count: usize) -> Self {
        let ports = PortRange::claim(count);
        let addresses: Vec<_> =
            (0..count).map(|at| format!("'127.0.0.1:{}'", ports.first() + at as u16)).collect();
        Self {
            processes: (0..count).map(|_| None).collect(),
            cluster: Cluster::Lists(format!("[[{}]]", addresses.join(", "))),
            descriptors: None,
            ports,
            directory: tempfile::tempdir().expect("a directory for the test"),
        }
    }

    /// Nodes that share `shards` shards, ready to serve; each has a replica of every shard. They
    /// end with the thread that calls this.
    pub(crate) fn start_sharing(count: usize, shards: usize) -> Self {
        let mut nodes = Self::blank(count);
        let addresses: Vec<_> =
            (1..=count).map(|node| format!("127.0.0.1:{}", nodes.port(node))).collect();
        let layout = Layout::local(&addresses, shards, count).expect("the numbers are right");
        let numbers = serde_json::json!({
            "nodes": count, "shards": shards, "replicas": count, "port": nodes.port(1),
        });
        let file = serde_json::json!({ "format": 1, "numbers": numbers, "layout": layout });
        let path = nodes.directory.path().join("cluster.json");
        std::fs::write(&path, file.to_string()).expect("a file in the test's directory");
        nodes.cluster = Cluster::File(path);
        (1..=count).for_each(|node| nodes.start_node(node));
        nodes.wait_until_ready();
        nodes
    }

    /// Nodes that are started from now on may have so many descriptors.
    pub(crate) fn limit_descriptors(&mut self, most: u64) {
        self.descriptors = Some(most);
    }

    /// Starts (again) a node, counted from 1.
    pub(crate) fn start_node(&mut self, node: usize) {
        let mut command = match self.descriptors {
            None => flotilla(),
            Some(most) => flotilla_limited(most),
        };
        match &self.cluster {
            Cluster::Lists(lists) => {
                command.args(["run", "127.0.0.1", &self.port(node).to_string(), lists, "0"]);
            }
            Cluster::File(file) => {
                command.arg("node-of-up").arg("--cluster").arg(file);
                command.args(["--node", &node.to_string()]);
                command.args(["--parent", &std::process::id().to_string()]);
            }
        }
        command.arg("--data").arg(self.data(node));
        command.args(["--segment-bytes", SEGMENT_BYTES]);
        let log = self.directory.path().join(format!("node-{node}.log"));
        self.processes[node - 1] = Some(Process::start(command, &log));
    }

    /// Ends a node as by kill -9.
    pub(crate) fn kill(&mut self, node: usize) {
        drop(self.processes[node - 1].take());
    }

    /// The process of a node that runs.
    pub(crate) fn process(&mut self, node: usize) -> &mut Process {
        self.processes[node - 1].as_mut().expect("the node was started")
    }

    /// The process id of a node that runs.
    pub(crate) fn process_id(&self, node: usize) -> u32 {
        self.processes[node - 1].as_ref().expect("the node was started").id()
    }

    /// Waits until every node that was started can serve.
    pub(crate) fn wait_until_ready(&self) {
        for node in self.running() {
            wait_until_ready(self.port(node));
        }
    }

    /// The nodes that were started and not killed.
    pub(crate) fn running(&self) -> Vec<usize> {
        (1..=self.processes.len()).filter(|node| self.processes[node - 1].is_some()).collect()
    }

    /// The plain port of a node.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.ports.first() + node as u16 - 1
    }

    /// The data directory of a node.
    pub(crate) fn data(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("node-{node}"))
    }

    /// The node that leads a shard, as a running node says of itself.
    pub(crate) fn leader(&self, shard: u32) -> usize {
        wait_for("a leader", || {
            self.running().into_iter().find(|&node| leads(self.port(node), shard))
        })
    }
}

fn leads(port: u16, shard: u32) -> bool {
    status(port).is_some_and(|status| {
        status.replicas.iter().any(|replica| replica.shard == shard && replica.role == "leader")
    })
}

/// A cluster started with `flotilla up`.
#[derive(Debug)]
pub(crate) struct Up {
    /// The process of `up`.
    pub(crate) process: Process,
    /// Which nodes there are.
    count: usize,
    ports: PortRange,
    directory: TempDir,
}

impl Up {
    /// A cluster of `count` nodes, ready to serve.
    pub(crate) fn start(count: usize) -> Self {
        let ports = PortRange::claim(count);
        let directory = tempfile::tempdir().expect("a directory for the test");
        let process = Self::launch(count, &ports, directory.path());
        let up = Self { process, count, ports, directory };
        up.wait_until_ready(1);
        up
    }

    /// Starts it a second time, with its data; the old process must have ended.
    pub(crate) fn start_again(&mut self) {
        self.process = Self::launch(self.count, &self.ports, self.directory.path());
        self.wait_until_ready(2);
    }

    fn launch(count: usize, ports: &PortRange, directory: &Path) -> Process {
        let mut command = flotilla();
        command.args(["up", "--nodes", &count.to_string()]);
        command.args(["--port", &ports.first().to_string()]);
        command.arg("--data").arg(directory.join("data"));
        command.args(["--segment-bytes", SEGMENT_BYTES]);
        Process::start(command, &directory.join("up.log"))
    }

    /// Waits until it has said so, for the `times`th time.
    fn wait_until_ready(&self, times: usize) {
        wait_for("the cluster is ready", || {
            (self.process.printed().matches("Ctrl-C stops").count() == times).then_some(())
        });
    }

    /// The plain port of a node, counted from 1.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.ports.first() + node as u16 - 1
    }

    /// Where the data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

fn wait_until_ready(port: u16) {
    wait_for(&format!("the node at port {port} is ready"), || status(port)?.ready.then_some(()));
}

/// What the node at a port says of itself; `None` if it does not answer.
pub(crate) fn status(port: u16) -> Option<Status> {
    let json: String = redis::cmd("FLOTILLA").arg("STATUS").query(&mut connect(port)?).ok()?;
    Some(serde_json::from_str(&json).expect("a status is JSON"))
}

/// A client of the node at a port; replies may take long. `None` if it does not answer.
pub(crate) fn connect(port: u16) -> Option<redis::Connection> {
    let client = redis::Client::open(url(port)).expect("the address is right");
    let connection = client.get_connection_with_timeout(PATIENCE).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(connection)
}

/// A client of the node at a port, which must answer.
pub(crate) fn client(port: u16) -> redis::Connection {
    wait_for(&format!("the node at port {port} answers"), || connect(port))
}

/// A bare connection to a port, which must answer.
pub(crate) fn socket(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the node listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is a timeout");
    socket
}

/// The address of a port as the `redis` crate wants it.
pub(crate) fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}
