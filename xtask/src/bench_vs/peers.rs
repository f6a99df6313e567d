//! Servers of others, started as their makers would have them for durable writes.
//!
//! | server | settings beside its defaults |
//! |---|---|
//! | `redis-server` | `appendonly yes`, `appendfsync always`; `save ""` and no rewriting of the log, which would cost it, but for the rows with snapshots, where it saves every second |
//! | `etcd`, three of them | room for 8 GiB, the most its makers advise, since a run writes more than the 2 GiB it has else; for the rows with snapshots one after every thousand entries |

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// How long servers may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether they do, and how long a question may take.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ETCD_NODES: usize = 3;

/// Whom to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One `redis-server` that syncs every write.
    Redis,
    /// A cluster of three `etcd`.
    Etcd,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Redis, Self::Etcd];

    pub(super) fn of_name(name: &str) -> anyhow::Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.with_context(|| format!("'{name}' is no peer: there are redis and etcd"))
    }

    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Etcd => "etcd",
        }
    }

    /// As in tables.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Redis => "redis-server, one disk",
            Self::Etcd => "etcd, three nodes",
        }
    }

    /// The program and the package of Debian that brings it.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Redis => ("redis-server", "redis-server"),
            Self::Etcd => ("etcd", "etcd-server"),
        }
    }
}

/// Fails if something that is needed is not installed, and says all that is missing.
pub(super) fn check_installed(peers: &[Kind]) -> anyhow::Result<()> {
    let programs = peers.iter().map(|kind| kind.program()).chain([("strace", "strace")]);
    let missing: Vec<&str> = programs
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| package)
        .collect();
    ensure!(
        missing.is_empty(),
        "not installed: `apt-get install {}` on Debian and its kin brings it (or leave a peer out \
         with --peers)",
        missing.join(" ")
    );
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Running servers of one kind. Dropped, they are ended.
pub(super) struct Peer {
    kind: Kind,
    /// With the ports of clients.
    servers: Vec<(u16, Child)>,
}

impl Peer {
    /// Starts them with data in this directory, and waits until they serve.
    pub(super) fn start(kind: Kind, data: &Path, snapshots: bool) -> anyhow::Result<Self> {
        let data = data.join(kind.name());
        fs::create_dir_all(&data).with_context(|| format!("can't create {}", data.display()))?;
        let mut peer = Self { kind, servers: Vec::new() };
        match kind {
            Kind::Redis => peer.start_redis(&data, snapshots)?,
            Kind::Etcd => peer.start_etcd(&data, snapshots)?,
        }
        let until = Instant::now() + START_TIMEOUT;
        while !peer.serves() {
            for (port, server) in &mut peer.servers {
                if let Some(status) = server.try_wait()? {
                    let log = data.join(format!("{port}.log"));
                    bail!("{} has ended ({status}): {}", kind.name(), last_line(&log));
                }
            }
            ensure!(Instant::now() < until, "{} does not serve in {START_TIMEOUT:?}", kind.name());
            thread::sleep(LOOK_EVERY);
        }
        Ok(peer)
    }

    fn start_redis(&mut self, data: &Path, snapshots: bool) -> anyhow::Result<()> {
        let [port] = free_ports()?;
        let mut redis = Command::new("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(data);
        redis.args(["--appendonly", "yes", "--appendfsync", "always"]);
        redis.args(["--save", if snapshots { "1 1" } else { "" }]);
        redis.args(["--auto-aof-rewrite-percentage", "0", "--daemonize", "no"]);
        self.spawn(port, redis, data)
    }

    fn start_etcd(&mut self, data: &Path, snapshots: bool) -> anyhow::Result<()> {
        let ports: [u16; 2 * ETCD_NODES] = free_ports()?;
        let (clients, links) = ports.split_at(ETCD_NODES);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let names = (1..).map(|node| format!("node{node}"));
        let members: Vec<String> =
            names.zip(links).map(|(name, link)| format!("{name}={}", url(link))).collect();
        for (node, (client, link)) in clients.iter().zip(links).enumerate() {
            let name = format!("node{}", node + 1);
            let mut etcd = Command::new("etcd");
            etcd.args(["--name", &name, "--data-dir"]).arg(data.join(&name));
            etcd.args(["--listen-client-urls", &url(client)]);
            etcd.args(["--advertise-client-urls", &url(client)]);
            etcd.args(["--listen-peer-urls", &url(link)]);
            etcd.args(["--initial-advertise-peer-urls", &url(link)]);
            etcd.args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"]);
            etcd.args(["--quota-backend-bytes", "8589934592"]);
            if snapshots {
                etcd.args(["--snapshot-count", "1000"]);
            }
            self.spawn(*client, etcd, data)?;
        }
        Ok(())
    }

    fn spawn(&mut self, port: u16, mut command: Command, data: &Path) -> anyhow::Result<()> {
        let log = File::create(data.join(format!("{port}.log"))).context("the log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = command.spawn().with_context(|| self.kind.name())?;
        self.servers.push((port, server));
        Ok(())
    }

    /// Whether all of them serve.
    fn serves(&self) -> bool {
        self.servers.iter().all(|&(port, _)| match self.kind {
            Kind::Redis => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
            Kind::Etcd => {
                http_get(port, "/health").is_ok_and(|body| body.contains("\"health\":\"true\""))
            }
        })
    }

    /// Their addresses as `flotilla bench` wants them.
    pub(super) fn addresses(&self) -> String {
        let scheme = if self.kind == Kind::Etcd { "etcd://" } else { "" };
        let addresses = self.servers.iter().map(|(port, _)| format!("{scheme}127.0.0.1:{port}"));
        addresses.collect::<Vec<_>>().join(",")
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(|(_, server)| server.id()).collect()
    }

    /// Whether there is a leader that can be lost.
    pub(super) fn is_cluster(&self) -> bool {
        self.servers.len() > 1
    }

    /// Kills the leader, or a server that is none, at once.
    pub(super) fn kill(&mut self, is_leader: bool) -> anyhow::Result<()> {
        let leads = |port: u16| {
            http_get(port, "/metrics")
                .is_ok_and(|body| body.lines().any(|line| line == "etcd_server_is_leader 1"))
        };
        let found = self.servers.iter().position(|&(port, _)| leads(port) == is_leader);
        let (_, mut server) = self.servers.remove(found.context("no server is of that kind")?);
        server.kill()?;
        server.wait()?;
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Ports that nobody listens at.
fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    // All are held until all are known, so that none comes twice.
    let mut held = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// What an HTTP server answers, head and body.
fn http_get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different() {
        let mut ports = free_ports::<6>().expect("there are some").to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn programs_are_looked_for_where_the_shell_does() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-of-anybody"));
    }
}
