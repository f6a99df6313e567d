//! `flotilla up`: a local cluster, ready to use.
//!
//! The nodes are processes of this same binary. They end when this process does, however it ends;
//! a node that ends by itself is reported, and the cluster goes on without it.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flotilla_server::Status;
use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::arguments::Up;
use crate::banner;
use crate::children::Children;
use crate::cluster_file::{CLUSTER_FILE, ClusterFile, Numbers};
use crate::status::ask;

const DEFAULT_NODES: usize = 3;
const DEFAULT_SHARDS: usize = 3;
const DEFAULT_REPLICAS: usize = 3;
const DEFAULT_PORT: u16 = 7001;

/// How often nodes are asked whether they are ready, and whether they still run.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the verb until a signal, or until no node is left.
pub(crate) fn run(up: &Up) -> anyhow::Result<ExitCode> {
    let found = ClusterFile::read(&up.data.join(CLUSTER_FILE))?;
    let file = match &found {
        Some(found) => found.clone().checked_against(up)?,
        None => ClusterFile::new(asked(up))?,
    };
    let locked = found.as_ref().map(|_| lock(&up.data)).transpose()?;
    check_ports(&file)?;
    let _locked = match locked {
        Some(locked) => locked,
        None => create(&up.data, &file)?,
    };

    let stop = stop_signals()?;
    let mut children = Children::start(&up.data, &file, up.sizes)?;
    let Some(nodes) = wait_until_ready(&file, &mut children, &stop)? else {
        children.stop();
        return Ok(ExitCode::SUCCESS);
    };
    let text = banner::text(&file, &up.data, &nodes);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    watch(children, &stop)
}

/// The numbers of a cluster that is new.
fn asked(up: &Up) -> Numbers {
    let nodes = up.nodes.unwrap_or(DEFAULT_NODES);
    Numbers {
        nodes,
        shards: up.shards.unwrap_or(DEFAULT_SHARDS),
        replicas: up.replicas.unwrap_or(DEFAULT_REPLICAS.min(nodes)),
        port: up.port.unwrap_or(DEFAULT_PORT),
    }
}

impl ClusterFile {
    /// Numbers that were given must be those of the data; those that were not are taken from it.
    fn checked_against(self, up: &Up) -> anyhow::Result<Self> {
        let has = self.numbers;
        let same = up.nodes.is_none_or(|nodes| nodes == has.nodes)
            && up.shards.is_none_or(|shards| shards == has.shards)
            && up.replicas.is_none_or(|replicas| replicas == has.replicas)
            && up.port.is_none_or(|port| port == has.port);
        if same {
            return Ok(self);
        }
        let data = up.data.display();
        bail!(
            "{data} holds a cluster of other numbers: --nodes {} --shards {} --replicas {} --port \
             {}; start it with these or with none, name another directory with --data, or remove \
             {data} and everything in it",
            has.nodes,
            has.shards,
            has.replicas,
            has.port
        )
    }
}

/// Fails if a port of the nodes is taken, before anything is created.
fn check_ports(file: &ClusterFile) -> anyhow::Result<()> {
    for node in 0..file.numbers.nodes {
        let port = usize::from(file.numbers.port) + node;
        let port = u16::try_from(port).context("the cluster's ports end at 65535")?;
        flotilla_server::listen(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
            .with_context(|| format!("node {} needs a port; --port names the first", node + 1))?;
    }
    Ok(())
}

fn create(directory: &Path, file: &ClusterFile) -> anyhow::Result<File> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    let locked = lock(directory)?;
    file.write(directory)?;
    Ok(locked)
}

/// Keeps another `up` out of the directory.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let handle = File::open(directory).with_context(|| directory.display().to_string())?;
    if flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another `flotilla up` works in {}: stop it, or name another directory with --data",
            directory.display()
        );
    }
    Ok(handle)
}

/// Says when this process was asked to end.
fn stop_signals() -> anyhow::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("can't listen to signals")?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}

/// Whether it is time to stop; waits a moment to find out.
fn is_asked_to_stop(stop: &Receiver<()>) -> bool {
    !matches!(stop.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout))
}

/// What the nodes say once all are ready; `None` if it is time to stop.
fn wait_until_ready(
    file: &ClusterFile,
    children: &mut Children,
    stop: &Receiver<()>,
) -> anyhow::Result<Option<Vec<Status>>> {
    let mut ready = Vec::new();
    while ready.len() < file.layout.nodes.len() {
        if is_asked_to_stop(stop) {
            return Ok(None);
        }
        if let Some((number, status)) = children.take_ended().first() {
            bail!("node {number} has ended before the cluster was ready ({status}): see above why");
        }
        match ask(&file.layout.nodes[ready.len()]) {
            Ok(status) if status.ready => ready.push(status),
            _ => {}
        }
    }
    Ok(Some(ready))
}

fn watch(mut children: Children, stop: &Receiver<()>) -> anyhow::Result<ExitCode> {
    while !is_asked_to_stop(stop) {
        for (number, status) in children.take_ended() {
            let text = format!("node {number} | has ended by itself ({status})\n");
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
        if children.is_empty() {
            bail!("no node is left: see above why");
        }
    }
    children.stop();
    Ok(ExitCode::SUCCESS)
}
