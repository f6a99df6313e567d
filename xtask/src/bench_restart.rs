//! `cargo xtask bench-restart`: how long until nodes that were killed serve all their keys again.
//!
//! A cluster is filled, its processes are killed at once, and it is started again. Measured is the
//! time until the last node says that it is ready, by its own `/readyz`, and the CPU time that the
//! nodes have used by then: on a machine where something else runs, only the latter means much.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, Shape, flotilla, json_of};
use crate::{cargo, shown};

const FIRST_PORT: u16 = 7541;
/// How far the port for health checks is above a node's own.
const HTTP_OFFSET: u16 = 20_000;
/// How often nodes are asked whether they are ready, and how far they are if not.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a restart may take before it counts as failed.
const RESTART_TIMEOUT: Duration = Duration::from_mins(5);
/// A log never grows so long.
const NO_SNAPSHOT_BYTES: &str = "1099511627776";
/// How long one load runs that is to add entries to the log.
const LOAD_SECONDS: &str = "5";
/// Clock ticks of a second, as Linux counts processes' CPU time on every architecture of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// How to measure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    nodes: u16,
    shards: u32,
    keys: u64,
    entries: u64,
    rounds: u32,
    data: PathBuf,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let data = PathBuf::from(".");
        let mut options =
            Self { nodes: 1, shards: 3, keys: 10_000_000, entries: 0, rounds: 1, data };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            let wrong = || format!("{name} needs a number");
            match name.as_str() {
                "--nodes" => options.nodes = value.parse().with_context(wrong)?,
                "--shards" => options.shards = value.parse().with_context(wrong)?,
                "--keys" => options.keys = value.parse().with_context(wrong)?,
                "--entries" => options.entries = value.parse().with_context(wrong)?,
                "--rounds" => options.rounds = value.parse().with_context(wrong)?,
                "--data" => options.data = PathBuf::from(value),
                _ => bail!("'{name}' is no option of bench-restart"),
            }
        }
        Ok(options)
    }
}

/// Measures and prints a line per restart.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut build = cargo("build --release --package flotilla");
    if !build.status()?.success() {
        bail!("{} has failed", shown(&build));
    }
    let directory = options.data.join(format!("flotilla-bench-restart-{}", std::process::id()));
    fs::create_dir_all(&directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    let measured = measure(options, &directory);
    let removed = fs::remove_dir_all(&directory);
    measured?;
    removed.with_context(|| format!("can't remove {}", directory.display()))
}

fn measure(options: &Options, directory: &Path) -> anyhow::Result<()> {
    let Options { nodes, shards, keys, .. } = *options;
    // Whoever asks for entries wants them in the log, and not in a snapshot.
    let more: &[&str] =
        if options.entries > 0 { &["--snapshot-log-bytes", NO_SNAPSHOT_BYTES] } else { &[] };
    let shape = Shape { nodes, shards, port: FIRST_PORT, data: directory, more };
    let before = {
        let cluster = Cluster::start(&shape)?;
        fill(&cluster, options)?;
        let replicas = replicas(nodes)?;
        let held = shell(&cluster, "DBSIZE")?;
        ensure!(held == keys, "{held} keys are in the cluster, not {keys}");
        replicas
    };
    let (entries, bytes) =
        (before.iter().map(|replica| replica.entries).sum::<u64>(), size(directory)?);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{nodes} nodes, {shards} shards, {keys} keys of 16 bytes with values of 32; behind \
         snapshots {entries} entries in all logs; {} MiB on disk",
        bytes >> 20
    )?;
    for round in 1..=options.rounds {
        let restart = restart(options, &shape)?;
        let seconds = restart.wall.as_secs_f64();
        writeln!(
            out,
            "restart {round}: ready after {seconds:.2} s, with {:.2} s of CPU time of all nodes; \
             in the latter {:.0} keys or {:.0} entries a second and node",
            restart.cpu_seconds,
            keys as f64 * f64::from(nodes) / restart.cpu_seconds,
            entries as f64 / restart.cpu_seconds,
        )?;
    }
    Ok(())
}

/// Sets the keys, then overwrites some until the logs are long enough.
fn fill(cluster: &Cluster, options: &Options) -> anyhow::Result<()> {
    eprintln!("setting {} keys", options.keys);
    load(cluster, options.keys, &["--pipeline", "256", "--workload", "get", "--seconds", "1"])?;
    loop {
        let entries: u64 = replicas(options.nodes)?.iter().map(|replica| replica.entries).sum();
        if entries >= options.entries {
            return Ok(());
        }
        eprintln!("{entries} entries");
        load(cluster, options.keys, &["--workload", "set", "--seconds", LOAD_SECONDS])?;
    }
}

fn load(cluster: &Cluster, keys: u64, more: &[&str]) -> anyhow::Result<()> {
    let mut bench = flotilla();
    let status = cluster.status()?;
    let nodes = status["nodes"].as_array().context("a status names nodes")?;
    let addresses: Vec<&str> = nodes.iter().filter_map(|node| node["address"].as_str()).collect();
    bench.args(["bench", "--rounds", "1", "--value-bytes", "32", "--connections", "64"]);
    bench.args(["--at", &addresses.join(","), "--keys", &keys.to_string()]).args(more);
    ensure!(bench.stdout(Stdio::null()).status()?.success(), "flotilla bench has failed");
    Ok(())
}

/// What a restart has taken.
struct Restart {
    wall: Duration,
    cpu_seconds: f64,
}

fn restart(options: &Options, shape: &Shape<'_>) -> anyhow::Result<Restart> {
    let began = Instant::now();
    let mut cluster = Cluster::launch(shape)?;
    let mut told = String::new();
    loop {
        let says: Vec<String> = (0..options.nodes).map(readiness).collect();
        if says.iter().all(|says| says == "ready") {
            break;
        }
        let line = says.join(" | ");
        if line != told {
            eprintln!("{:6.2} s  {line}", began.elapsed().as_secs_f64());
            told = line;
        }
        cluster.check_alive()?;
        ensure!(began.elapsed() < RESTART_TIMEOUT, "not ready in {RESTART_TIMEOUT:?}: {told}");
        thread::sleep(LOOK_EVERY);
    }
    let restart = Restart { wall: began.elapsed(), cpu_seconds: cpu_seconds(cluster.process())? };
    let held = shell(&cluster, "DBSIZE")?;
    ensure!(held == options.keys, "{held} keys came back, not {}", options.keys);
    Ok(restart)
}

/// What a node answers to `/readyz`, in one line.
fn readiness(node: u16) -> String {
    let asked = http(node, "/readyz").unwrap_or_else(|_| "not there".to_owned());
    asked.trim().replace('\n', "; ")
}

/// The body of what a node's HTTP port answers.
fn http(node: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", FIRST_PORT + HTTP_OFFSET + node))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
    Ok(body.to_owned())
}

/// A replica as its node tells of it.
struct Replica {
    /// Entries behind its snapshot.
    entries: u64,
}

fn replicas(nodes: u16) -> anyhow::Result<Vec<Replica>> {
    let mut all = Vec::new();
    for node in 0..nodes {
        let status: Value = serde_json::from_str(&http(node, "/status.json")?)?;
        for replica in status["replicas"].as_array().context("a status names replicas")? {
            let number = |name: &str| replica[name].as_u64().context("indexes are numbers");
            all.push(Replica { entries: number("last")? - number("snapshot")? });
        }
    }
    Ok(all)
}

fn shell(cluster: &Cluster, command: &str) -> anyhow::Result<u64> {
    let mut shell = flotilla();
    shell.args(["shell", "--at", cluster.first(), command]);
    let count = json_of(shell).with_context(|| format!("flotilla shell {command}"))?;
    count.as_u64().context("DBSIZE is a number")
}

/// The CPU time, user's and system's, that the children of a process have used so far.
fn cpu_seconds(parent: u32) -> anyhow::Result<f64> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let mut ticks = 0;
    for child in children.split_whitespace() {
        let stat = fs::read_to_string(format!("/proc/{child}/stat"))?;
        // The name of the process, in parentheses, may have spaces in it.
        let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        for at in [11, 12] {
            ticks += fields.get(at).context("user and system time")?.parse::<u64>()?;
        }
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The bytes of all files below a directory.
fn size(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
