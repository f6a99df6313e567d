//! Clusters of real processes on this machine, for what measures them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::target;

/// How long a cluster may take to be ready.
const START_TIMEOUT: Duration = Duration::from_mins(5);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a cluster is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) nodes: u16,
    pub(crate) shards: u32,
    /// Of its first node.
    pub(crate) port: u16,
    /// Its data, which may be there already.
    pub(crate) data: &'a Path,
    /// Further options of `flotilla up`.
    pub(crate) more: &'a [&'a str],
}

/// A cluster of `flotilla up`. Dropped, it is ended.
pub(crate) struct Cluster {
    up: Child,
    first: String,
}

impl Cluster {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(shape: &Shape<'_>) -> anyhow::Result<Self> {
        let mut cluster = Self::launch(shape)?;
        let until = Instant::now() + START_TIMEOUT;
        while !cluster.status().is_ok_and(|status| is_ready(&status)) {
            cluster.check_alive()?;
            if Instant::now() > until {
                bail!("the cluster at {} is not ready in {START_TIMEOUT:?}", cluster.first);
            }
            thread::sleep(LOOK_EVERY);
        }
        cluster.wait_for_banner()?;
        Ok(cluster)
    }

    /// Waits until `up` has seen for itself that all is ready: until then it ends with its first
    /// node that does.
    fn wait_for_banner(&mut self) -> anyhow::Result<()> {
        let stdout = self.up.stdout.as_mut().context("it was started with a pipe")?;
        stdout.read_exact(&mut [0]).context("flotilla up says nothing: see above why")
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch(shape: &Shape<'_>) -> anyhow::Result<Self> {
        let Shape { nodes, shards, port, data, more } = shape;
        let mut up = flotilla();
        up.args(["up", "--nodes", &nodes.to_string(), "--shards", &shards.to_string()]);
        up.args(["--port", &port.to_string(), "--data"]).arg(data).args(*more);
        let up = up.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("flotilla up")?;
        Ok(Self { up, first: format!("127.0.0.1:{port}") })
    }

    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.up.try_wait()? {
            Some(status) => bail!("flotilla up has ended ({status}): see above why"),
            None => Ok(()),
        }
    }

    /// The address of its first node.
    pub(crate) fn first(&self) -> &str {
        &self.first
    }

    /// The process of `flotilla up`, whose children the nodes are.
    pub(crate) fn process(&self) -> u32 {
        self.up.id()
    }

    /// What `flotilla status` says.
    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        let mut status = flotilla();
        status.args(["status", "--json", "--at", &self.first]).stderr(Stdio::null());
        parsed(status)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its nodes end with it.
        let _ = self.up.kill();
        let _ = self.up.wait();
        thread::sleep(Duration::from_secs(1));
    }
}

fn is_ready(status: &Value) -> bool {
    let all = |list: &Value, is: fn(&Value) -> bool| {
        list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is))
    };
    all(&status["nodes"], |node| node["ready"] == true)
        && all(&status["shards"], |shard| shard["leader"].is_u64())
}

/// What is run instead of the binary that was built.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Has [`flotilla`] run another binary from now on.
pub(crate) fn use_program(program: &Path) {
    let first = PROGRAM.set(program.to_owned()).is_ok();
    assert!(first, "one run of a verb measures one binary");
}

/// The binary that was built, or the one that is to be run instead.
pub(crate) fn flotilla() -> Command {
    match PROGRAM.get() {
        Some(program) => Command::new(program),
        None => Command::new(target().join("release").join("flotilla")),
    }
}

/// What a command prints.
pub(crate) fn json_of(mut command: Command) -> anyhow::Result<Value> {
    command.stderr(Stdio::inherit());
    parsed(command)
}

fn parsed(mut command: Command) -> anyhow::Result<Value> {
    let output = command.output().context("can't be run")?;
    if !output.status.success() {
        bail!("it has failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout).context("it prints no JSON")
}
