//! What is put under load: a cluster of Flotilla, or a server of another kind that speaks RESP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flotilla_resp::Value;
use flotilla_server::Status;

use super::processes;
use super::wire::{Protocol, resolve};
use crate::client::Client;
use crate::view;

/// The node that is asked for all nodes if none is named.
const DEFAULT_NODE: &str = "127.0.0.1:7001";
/// How long a server may take to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A longer answer over HTTP is not read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A system under load.
#[derive(Clone, Debug)]
pub(crate) struct System {
    /// What it is, with its version.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    /// Where clients connect.
    pub(crate) targets: Vec<SocketAddr>,
    /// The processes of all its servers, also of those no client is connected to; empty if they
    /// are not known.
    pub(crate) pids: Vec<u32>,
    /// Why its numbers are not to be quoted.
    pub(crate) caveats: Vec<String>,
}

impl System {
    /// Asks the servers at these addresses what they are; `pids` are theirs if some are given.
    pub(crate) fn look_at(
        at: &[String],
        pids: &[u32],
        password: Option<&str>,
    ) -> anyhow::Result<Self> {
        if at.iter().any(|address| Protocol::of_address(address).0 == Protocol::Etcd) {
            return Self::look_at_etcd(at, pids);
        }
        let mut targets: Vec<SocketAddr> =
            at.iter().map(|address| resolve(address)).collect::<anyhow::Result<_>>()?;
        let first = at.first().map_or(DEFAULT_NODE, String::as_str);
        let status = flotilla_status(first, password)?;
        let nodes = status.as_ref().map(nodes).transpose()?.unwrap_or_default();
        if targets.is_empty() {
            targets.clone_from(&nodes);
        }
        if targets.is_empty() {
            bail!("{first} is no node of Flotilla: name the servers with --at");
        }
        let mut servers = nodes;
        servers.extend(&targets);
        servers.sort_unstable();
        servers.dedup();
        let mut system = Self { targets, pids: pids.to_vec(), ..Self::unknown(Protocol::Redis) };
        for &server in &servers {
            system.ask(server, password)?;
        }
        if system.pids.is_empty() {
            system.pids = processes::listeners(&servers).unwrap_or_default();
        }
        Ok(system)
    }

    fn unknown(protocol: Protocol) -> Self {
        Self { name: String::new(), protocol, targets: vec![], pids: vec![], caveats: vec![] }
    }

    /// Asks an etcd for its version. What it acknowledges lasts unless it was told otherwise, which
    /// it does not say.
    fn look_at_etcd(at: &[String], pids: &[u32]) -> anyhow::Result<Self> {
        let mut system = Self { pids: pids.to_vec(), ..Self::unknown(Protocol::Etcd) };
        for address in at {
            if Protocol::of_address(address).0 != Protocol::Etcd {
                bail!("{address} is no etcd: the servers of one system speak one protocol");
            }
            let server = resolve(address)?;
            let version = etcd_version(server).with_context(|| address.clone())?;
            system.name = format!("etcd {version}");
            system.targets.push(server);
        }
        if system.pids.is_empty() {
            system.pids = processes::listeners(&system.targets).unwrap_or_default();
        }
        Ok(system)
    }

    /// Asks one server for its version, and whether what it acknowledges lasts.
    fn ask(&mut self, server: SocketAddr, password: Option<&str>) -> anyhow::Result<()> {
        let mut client = match connect(&server.to_string(), password) {
            Ok(client) => client,
            Err(_) if !self.targets.contains(&server) => {
                self.caveats.push(format!("the node at {server} does not answer"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let info = client.command(&[b"INFO"]).with_context(|| server.to_string())?;
        let info = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
        let info = fields(&info);
        let is_flotilla = info.contains_key("flotilla_version");
        if self.name.is_empty() {
            self.name = name(&info);
        }
        let caveat = if is_flotilla {
            (info.get("durable") != Some(&"yes"))
                .then(|| "says durable:no: its data directory is in memory".to_owned())
        } else if info.get("aof_enabled") == Some(&"1") {
            let policy = appendfsync(&mut client).with_context(|| server.to_string())?;
            (policy.as_deref() != Some("always")).then(|| {
                let policy = policy.unwrap_or_else(|| "unknown".to_owned());
                format!("acknowledges before the disk has it: appendfsync is {policy}")
            })
        } else {
            Some("keeps no log of what it acknowledges".to_owned())
        };
        self.caveats.extend(caveat.map(|caveat| format!("{server} {caveat}")));
        Ok(())
    }
}

/// Gives systems of one name their addresses as a surname.
pub(crate) fn tell_apart(systems: &mut [System]) {
    let [ours, theirs] = systems else { return };
    if ours.name == theirs.name {
        for system in [ours, theirs] {
            let first = system.targets.first().map(ToString::to_string).unwrap_or_default();
            system.name = format!("{} at {first}", system.name);
        }
    }
}

/// A connection on which commands are accepted.
fn connect(address: &str, password: Option<&str>) -> anyhow::Result<Client> {
    let mut client = Client::connect(address, ANSWER_TIMEOUT)?;
    if let Some(password) = password {
        client.authenticate(password).with_context(|| address.to_owned())?;
    }
    Ok(client)
}

/// What a server says it is. Most servers of other makers say that they are a Redis too, so that is
/// asked last.
fn name(info: &BTreeMap<&str, &str>) -> String {
    ["flotilla", "valkey", "dragonfly", "keydb", "kvrocks", "garnet", "redis"]
        .into_iter()
        .find_map(|kind| {
            let version = info.get(&*format!("{kind}_version"))?;
            Some(format!("{kind} {version}"))
        })
        .unwrap_or_else(|| "unknown".to_owned())
}

/// What an etcd says at `/version`.
fn etcd_version(server: SocketAddr) -> anyhow::Result<String> {
    let mut stream = crate::client::connect(&server.to_string(), ANSWER_TIMEOUT)?;
    stream.write_all(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let version = serde_json::from_str::<serde_json::Value>(body).ok();
    let version = version.and_then(|said| said["etcdserver"].as_str().map(str::to_owned));
    version.context("it does not answer as an etcd does")
}

/// What a node says of itself; `None` if it is a server of another kind.
fn flotilla_status(address: &str, password: Option<&str>) -> anyhow::Result<Option<Status>> {
    let mut client = connect(address, password)?;
    let reply = client.command(&[b"FLOTILLA", b"STATUS"]).with_context(|| address.to_owned())?;
    match reply.as_bytes() {
        Some(json) => serde_json::from_slice(json)
            .map(Some)
            .with_context(|| format!("{address} answers FLOTILLA STATUS with what is no status")),
        None => Ok(None),
    }
}

fn nodes(status: &Status) -> anyhow::Result<Vec<SocketAddr>> {
    status.nodes.iter().map(|node| resolve(&view::address(node))).collect()
}

fn appendfsync(client: &mut Client) -> anyhow::Result<Option<String>> {
    let text =
        |value: &Value| value.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok(match client.command(&[b"CONFIG", b"GET", b"appendfsync"])? {
        Value::Array(pair) => pair.get(1).and_then(text),
        _ => None,
    })
}

/// The lines `name:value` of INFO.
fn fields(info: &str) -> BTreeMap<&str, &str> {
    info.lines().filter_map(|line| line.split_once(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_called_by_their_own_name() {
        let named = |info: &str| name(&fields(info));
        assert_eq!(named("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n"), "valkey 8.0.1");
        assert_eq!(named("# Server\r\nredis_version:7.0.15\r\n"), "redis 7.0.15");
        assert_eq!(named(""), "unknown");
    }

    #[test]
    fn two_of_one_name_are_told_apart() {
        let system = |port| System {
            name: "redis 7".to_owned(),
            targets: vec![SocketAddr::from(([127, 0, 0, 1], port))],
            ..System::unknown(Protocol::Redis)
        };
        let mut systems = [system(1), system(2)];
        tell_apart(&mut systems);
        let names = systems.each_ref().map(|system| system.name.as_str());
        assert_eq!(names, ["redis 7 at 127.0.0.1:1", "redis 7 at 127.0.0.1:2"]);
        systems[0].name = "flotilla".to_owned();
        tell_apart(&mut systems);
        assert_eq!(systems[0].name, "flotilla");
    }
}
