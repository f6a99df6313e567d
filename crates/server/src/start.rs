//! Putting a node together: the directory, the ports, the disk, the log, the threads, the lane.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use flotilla_node::{Boot, Face, Node};
use flotilla_storage::{Log, RecoverError, RecoveredLane};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::clock::Clock;
use crate::config::{Config, ServerError};
use crate::console::{Level, say};
use crate::disk::{FileDisk, lock_directory};
use crate::frames::Frames;
use crate::lane::{Lane, Parts};
use crate::network::Network;
use crate::ports::Ports;
use crate::probe::{Probe, WriteMode};
use crate::recovering::ObservedDisk;
use crate::watch::{Watched, start_signals, start_watchdog};
use crate::{admin, backup, guard, helper};

/// Runs a node until it is told to stop. Errors are final; a caller prints them and exits with 1.
///
/// A node whose disk has become another one (P4) begins anew as the same process, by the command
/// line that it was started with.
pub fn run(config: Config) -> Result<(), ServerError> {
    match run_once(config) {
        Err(ServerError::Restart) => Err(start_again()),
        ended => ended,
    }
}

/// Replaces this process by a new one of the same program; comes back with an error only.
fn start_again() -> ServerError {
    // Also where the program was replaced by a newer one since.
    let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    ServerError::system("can't start this program again")(error)
}

fn run_once(config: Config) -> Result<(), ServerError> {
    let address = own_address(&config)?;
    let clients_max = guard::raise_descriptors();
    guard::take_small_pages();
    let mut network =
        Network::new(clients_max).map_err(ServerError::system("can't watch sockets"))?;
    let watched = Arc::new(Watched::default());
    start_signals(&watched, network.waker())?;
    if let Some(parent) = config.parent {
        guard::end_with_parent(parent)?;
    }
    let ports = Ports::open(address, config.cluster_port, config.http_port)?;
    let _lock = lock_directory(&config.data)?;
    let probe = Probe::look_at(&config.data).map_err(|error| ServerError::Directory {
        path: config.data.clone(),
        reason: error.to_string(),
    })?;
    announce(&config, address, &ports, &probe, clients_max);

    let clock = Clock::new();
    let mut disk = FileDisk::new(&config.data, probe.mode);
    let (backups, asking) = backup::ends(disk.another(), network.waker());
    let publishes = ports.http.is_some();
    if let Some(http) = &ports.http {
        // It says how far the start is; clients wait, connected, until there is a node.
        let http = http.try_clone().map_err(ServerError::system("can't share the HTTP port"))?;
        admin::start(http, Arc::clone(&watched), asking)?;
    }
    let seed = random()?;
    let (log, lane) = ObservedDisk::new(&mut disk, &watched)
        .map_err(RecoverError::from)
        .and_then(|mut disk| Log::recover(&mut disk, config.storage.clone(), seed))
        .map_err(|error| ServerError::Recovery {
            path: config.data.clone(),
            reason: error.to_string(),
        })?;
    report_recovery(&lane);
    let node = start_node(&config, &ports, &probe, lane, clock)?;
    let helper = helper::start(disk.another(), network.waker())?;
    let frames = Frames::new(log, disk.another(), probe.sync_micros, network.waker())?;

    let Ports { plain, cluster, .. } = ports;
    for (port, face) in [(Some(plain), Face::Plain), (cluster, Face::Cluster)] {
        if let Some(port) = port {
            network.listen(port, face).map_err(ServerError::system("can't accept connections"))?;
        }
    }
    start_watchdog(&watched)?;
    let late_micros = config.options.election_timeout_ms * 1_000 / 2;
    let parts =
        Parts { node, clock, network, frames, helper, backups, watched, publishes, late_micros };
    Lane::new(parts).run()
}

fn own_address(config: &Config) -> Result<SocketAddr, ServerError> {
    let me = config.me;
    let address = config.layout.address(me).ok_or_else(|| {
        let nodes = config.layout.nodes.len();
        ServerError::Address(format!("node {me} does not exist: the layout has {nodes} nodes"))
    })?;
    address
        .parse()
        .map_err(|_| ServerError::Address(format!("'{address}' is no address: give ip:port")))
}

fn start_node(
    config: &Config,
    ports: &Ports,
    probe: &Probe,
    lane: RecoveredLane,
    clock: Clock,
) -> Result<Node, ServerError> {
    let (high, low) = (random()?.to_le_bytes(), random()?.to_le_bytes());
    let mut storage_id = [0; 16];
    storage_id[..8].copy_from_slice(&high);
    storage_id[8..].copy_from_slice(&low);
    let boot = Boot {
        layout: config.layout.clone(),
        me: config.me,
        node_state: lane.node_state,
        shards: lane.shards,
        lost: lane.lost,
        incomplete: lane.incomplete,
        durable_through: lane.durable_through,
        stateless: lane.lost_snapshots.into_keys().collect(),
        storage_id,
        nonce: random()?,
        seed: random()?,
        cluster_port: Ports::number(ports.cluster.as_ref()),
        http_port: Ports::number(ports.http.as_ref()),
        durable: probe.memory_backed.is_none(),
        options: config.options.clone(),
    };
    Node::new(boot, clock.now()).map_err(ServerError::Node)
}

/// Says what was found on disk, if anything was.
fn report_recovery(lane: &RecoveredLane) {
    if lane.fresh {
        return;
    }
    let report = &lane.report;
    say(
        Level::Info,
        format_args!(
            "recovered shards={} snapshots={} frames={} segments={} last-frame={}",
            lane.shards.len(),
            lane.snapshots.len(),
            report.frames,
            report.segments,
            report.last_sequence
        ),
    );
    for damaged in &report.damage {
        say(Level::Warning, damaged);
    }
    if let Some(cut) = &report.cut {
        say(
            Level::Info,
            format_args!(
                "cut the unfinished, never acknowledged end of the log: {} at offset {} ({})",
                cut.file, cut.offset, cut.reason
            ),
        );
    }
}

/// A random number from the system's source of secrets.
fn random() -> Result<u64, ServerError> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| ServerError::system("can't get random numbers")(error.into()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Says where the node listens, on what it writes, and what an operator should know.
fn announce(config: &Config, address: SocketAddr, ports: &Ports, probe: &Probe, clients: usize) {
    let port = |port| match Ports::number(port) {
        0 => "off".to_owned(),
        number => number.to_string(),
    };
    let durable = match probe.memory_backed {
        None => "yes".to_owned(),
        Some(kind) => format!("no ({kind} keeps everything in memory)"),
    };
    let mode = match probe.mode {
        WriteMode::Direct => "O_DIRECT|O_DSYNC",
        WriteMode::WriteThenSync => "write+fdatasync",
    };
    say(
        Level::Info,
        format_args!(
            "node {} of {} at {address} cluster-port={} http-port={} data={} durable:{durable} \
             sync={}us by {mode} clients-max={clients}",
            config.me,
            config.layout.nodes.len(),
            port(ports.cluster.as_ref()),
            port(ports.http.as_ref()),
            config.data.display(),
            probe.sync_micros,
        ),
    );
    for warning in &ports.warnings {
        say(Level::Warning, warning);
    }
    if !address.ip().is_loopback() {
        say(
            Level::Warning,
            format_args!(
                "{} is not a loopback address and there is no authentication yet: whoever \
                 reaches port {} can read and change everything",
                address.ip(),
                address.port()
            ),
        );
    }
}
