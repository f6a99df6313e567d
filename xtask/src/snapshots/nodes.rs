//! Real nodes, and what their directories and their memory have from moment to moment.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::load::Client;

/// The port of node 0; that of node n is n higher.
const PORT: u16 = 27_400;
/// The directories are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest time until the nodes serve, or rest.
const PATIENCE: Duration = Duration::from_mins(2);
/// A node at rest writes no snapshot for so long.
const REST: Duration = Duration::from_secs(2);

/// Processes, by their numbers from 1. Dropped, they are ended.
pub(crate) struct Nodes {
    directory: PathBuf,
    children: BTreeMap<usize, Child>,
}

/// What was seen of all nodes at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// When.
    pub(crate) at: Instant,
    /// Of each node.
    pub(crate) nodes: BTreeMap<usize, View>,
}

/// What was seen of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    /// What its directory takes, bytes.
    pub(crate) disk: u64,
    /// What of that are segments of the log, bytes.
    pub(crate) log: u64,
    /// Whether it writes a snapshot.
    pub(crate) writes: bool,
    /// Its resident memory, bytes.
    pub(crate) memory: u64,
}

impl Moment {
    /// Whether some node writes a snapshot.
    pub(crate) fn writes_any(&self) -> bool {
        self.nodes.values().any(|view| view.writes)
    }
}

/// Memory that came while a snapshot was written, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    /// All of it.
    pub(crate) total: u64,
    /// What the log has grown by, whose entries are in memory as well.
    pub(crate) log: u64,
}

impl Nodes {
    /// Starts the nodes of these shards, each named by its nodes, and waits until they serve.
    pub(crate) fn start(
        program: &Path,
        directory: &Path,
        shards: &[&[usize]],
    ) -> anyhow::Result<Self> {
        let count = shards.iter().flat_map(|nodes| *nodes).max().copied().unwrap_or(0);
        let file = directory.join("cluster.json");
        std::fs::write(&file, cluster_file(count, shards)).context("the cluster's file")?;
        let mut nodes = Self { directory: directory.to_owned(), children: BTreeMap::new() };
        for node in 1..=count {
            let mut run = Command::new(program);
            run.arg("node-of-up").arg("--cluster").arg(&file).args(["--node", &node.to_string()]);
            run.args(["--parent", &std::process::id().to_string(), "--data"]).arg(nodes.data(node));
            let run = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            nodes.children.insert(node, run.spawn().context("flotilla node-of-up")?);
        }
        let until = Instant::now() + PATIENCE;
        for &node in nodes.children.keys() {
            while Client::connect(&address(node))
                .and_then(|mut client| client.set(b"{}", b""))
                .is_err()
            {
                if Instant::now() > until {
                    bail!("node {node} does not serve in {PATIENCE:?}");
                }
                thread::sleep(LOOK_EVERY);
            }
        }
        Ok(nodes)
    }

    /// Ends a node at once.
    pub(crate) fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        let mut child = self.children.remove(&node).context("it was started")?;
        child.kill().context("it can be killed")?;
        child.wait().context("it ends").map(drop)
    }

    /// Has a node stand still.
    pub(crate) fn pause(&self, node: usize) -> anyhow::Result<()> {
        self.signal(node, Signal::STOP)
    }

    /// Has a node that stands still go on.
    pub(crate) fn go_on(&self, node: usize) -> anyhow::Result<()> {
        self.signal(node, Signal::CONT)
    }

    fn signal(&self, node: usize, signal: Signal) -> anyhow::Result<()> {
        let child = self.children.get(&node).context("it was started")?;
        let process = Pid::from_child(child);
        kill_process(process, signal).with_context(|| format!("{signal:?} to node {node}"))
    }

    /// The nodes that were not killed.
    pub(crate) fn alive(&self) -> Vec<usize> {
        self.children.keys().copied().collect()
    }

    /// Where these nodes take commands.
    pub(crate) fn addresses(nodes: &[usize]) -> Vec<String> {
        nodes.iter().map(|&node| address(node)).collect()
    }

    /// Waits until no node has written a snapshot for a while.
    pub(crate) fn wait_for_rest(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        while since.elapsed() < REST {
            if self.look().writes_any() {
                since = Instant::now();
            }
            if Instant::now() > until {
                bail!("snapshots are written all the time");
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Looks at the nodes again and again while something is done.
    pub(crate) fn watch_while(
        &self,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Moment>> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut moments = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    moments.push(self.look());
                    thread::sleep(LOOK_EVERY);
                }
                moments
            });
            let outcome = work();
            over.store(true, Ordering::Relaxed);
            let moments = watcher.join();
            outcome?;
            moments.ok().context("the watcher panicked")
        })
    }

    /// Looks at all nodes.
    pub(crate) fn look(&self) -> Moment {
        let views = self.children.iter().map(|(&node, child)| {
            let mut view = view_of(&self.data(node));
            view.memory = memory_of(child.id());
            (node, view)
        });
        Moment { at: Instant::now(), nodes: views.collect() }
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.join(node.to_string())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn port(node: usize) -> u16 {
    PORT + node as u16
}

/// What `flotilla up` would write for these shards.
fn cluster_file(count: usize, shards: &[&[usize]]) -> String {
    let addresses: Vec<String> = (1..=count).map(address).collect();
    let numbers = serde_json::json!({
        "nodes": count, "shards": shards.len(), "replicas": shards[0].len(), "port": port(1),
    });
    let layout = serde_json::json!({ "nodes": addresses, "shards": shards });
    serde_json::json!({ "format": 1, "numbers": numbers, "layout": layout }).to_string()
}

fn address(node: usize) -> String {
    format!("127.0.0.1:{}", port(node))
}

/// What a directory has. Files come and go meanwhile.
fn view_of(directory: &Path) -> View {
    let mut view = View::default();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let (name, bytes) = (entry.file_name(), metadata.blocks() * 512);
        let name = name.to_string_lossy();
        view.disk += bytes;
        view.writes |= name.ends_with(".snap.tmp");
        if name.ends_with(".log") {
            view.log += bytes;
        }
    }
    view
}

/// Resident memory of a process, bytes; 0 if it is gone.
pub(crate) fn memory_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Whether some node wrote a snapshot then.
pub(crate) fn is_writing_at(moments: &[Moment], at: Instant) -> bool {
    let before = moments.partition_point(|moment| moment.at <= at);
    let around = moments.get(before.saturating_sub(1)..moments.len().min(before + 1));
    around.unwrap_or_default().iter().any(Moment::writes_any)
}

/// What a node had on disk when it had the most: at rest, and while it wrote a snapshot.
pub(crate) fn most_on_disk(moments: &[Moment], node: usize) -> (View, View) {
    let views = moments.iter().filter_map(|moment| moment.nodes.get(&node));
    let most = |writes: bool| {
        let chosen = views.clone().filter(move |view| view.writes == writes);
        chosen.max_by_key(|view| view.disk).copied().unwrap_or_default()
    };
    (most(false), most(true))
}

/// The most that a node's memory has grown by while it wrote one snapshot.
pub(crate) fn memory_growth(moments: &[Moment]) -> Growth {
    let mut most = Growth::default();
    let Some(first) = moments.first() else { return most };
    for node in first.nodes.keys() {
        let views: Vec<View> =
            moments.iter().filter_map(|moment| moment.nodes.get(node)).copied().collect();
        for run in views.chunk_by(|a, b| a.writes == b.writes).filter(|run| run[0].writes) {
            let peak = run.iter().max_by_key(|view| view.memory).copied().unwrap_or_default();
            let total = peak.memory.saturating_sub(run[0].memory);
            if total > most.total {
                most = Growth { total, log: peak.log.saturating_sub(run[0].log) };
            }
        }
    }
    most
}
