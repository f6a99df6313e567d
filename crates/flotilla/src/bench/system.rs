//! What is put under load: a cluster of Flotilla, or a server of another kind that speaks RESP.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use flotilla_resp::Value;
use flotilla_server::Status;

use super::processes;
use crate::client::Client;
use crate::view;

/// The node that is asked for all nodes if none is named.
const DEFAULT_NODE: &str = "127.0.0.1:7001";
/// How long a server may take to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A system under load.
#[derive(Clone, Debug)]
pub(crate) struct System {
    /// What it is, with its version.
    pub(crate) name: String,
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
    pub(crate) fn look_at(at: &[String], pids: &[u32]) -> anyhow::Result<Self> {
        let mut targets: Vec<SocketAddr> =
            at.iter().map(|address| resolve(address)).collect::<anyhow::Result<_>>()?;
        let first = at.first().map_or(DEFAULT_NODE, String::as_str);
        let status = flotilla_status(first)?;
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
        let mut system =
            Self { name: String::new(), targets, pids: pids.to_vec(), caveats: vec![] };
        for &server in &servers {
            system.ask(server)?;
        }
        if system.pids.is_empty() {
            system.pids = processes::listeners(&servers).unwrap_or_default();
        }
        Ok(system)
    }

    /// Asks one server for its version, and whether what it acknowledges lasts.
    fn ask(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let mut client = match Client::connect(&server.to_string(), ANSWER_TIMEOUT) {
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
            self.name = match (info.get("flotilla_version"), info.get("redis_version")) {
                (Some(version), _) => format!("flotilla {version}"),
                (None, Some(version)) => format!("redis {version}"),
                (None, None) => "unknown".to_owned(),
            };
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

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let found = address.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.with_context(|| format!("'{address}' is no address: give ip:port"))
}

/// What a node says of itself; `None` if it is a server of another kind.
fn flotilla_status(address: &str) -> anyhow::Result<Option<Status>> {
    let mut client = Client::connect(address, ANSWER_TIMEOUT)?;
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
