//! `flotilla status`: asks a node, then every node it names, and shows the whole.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use flotilla_server::Status as NodeSays;

use crate::arguments::Status;
use crate::client::Client;
use crate::view::{ClusterView, ShardView, address};

/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the verb. It exits with 1 if a shard has no leader or a node did not answer.
pub(crate) fn run(status: &Status) -> anyhow::Result<ExitCode> {
    let view = look(&status.at)?;
    let mut out = std::io::stdout().lock();
    if status.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?;
    } else {
        write!(out, "{}", tables(&view))?;
    }
    let whole = view.nodes.iter().all(|node| node.up)
        && view.shards.iter().all(|shard| shard.leader.is_some());
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the node at `first`, and then all others at once.
fn look(first: &str) -> anyhow::Result<ClusterView> {
    let status = ask(first)?;
    let others: Vec<_> = status
        .nodes
        .iter()
        .filter(|node| node.id != status.me)
        .map(|node| (node.id, address(node)))
        .collect();
    let asked: Vec<_> = others
        .into_iter()
        .map(|(id, address)| (id, thread::spawn(move || ask(&address))))
        .collect();
    let mut said = BTreeMap::from([(status.me, status)]);
    for (id, answer) in asked {
        // Another cluster's node at that address says nothing about this one.
        if let Ok(Ok(answer)) = answer.join()
            && answer.me == id
        {
            said.insert(id, answer);
        }
    }
    Ok(ClusterView::merge(&said))
}

/// The same, of a cluster that has a map.
pub(crate) fn look_at_founded(first: &str) -> anyhow::Result<ClusterView> {
    let view = look(first)?;
    if view.cluster.is_empty() {
        bail!(
            "the cluster of {first} is not founded yet, and has no map; `flotilla status` says why"
        );
    }
    Ok(view)
}

/// What the node at `address` says of itself.
pub(crate) fn ask(address: &str) -> anyhow::Result<NodeSays> {
    let reply = Client::connect(address, ANSWER_TIMEOUT)?.command(&[b"FLOTILLA", b"STATUS"])?;
    let Some(json) = reply.as_bytes() else {
        let text = reply.as_error().unwrap_or("a reply of another kind");
        bail!("{address} is no node of Flotilla: it answers FLOTILLA STATUS with '{text}'");
    };
    serde_json::from_slice(json)
        .with_context(|| format!("{address} answers FLOTILLA STATUS with what is no status"))
}

fn tables(view: &ClusterView) -> String {
    let mut out = if view.cluster.is_empty() {
        "cluster not founded yet\n".to_owned()
    } else {
        format!("cluster {}, epoch {}\n", view.cluster, view.epoch)
    };
    let _ = write!(out, "\n{}\n\n{}\n", nodes(view), shards(view));
    for node in view.nodes.iter().filter(|node| !node.waiting_for.is_empty()) {
        let reasons = node.waiting_for.join("; ");
        let _ = write!(out, "\nnode {} waits for: {reasons}\n", node.id);
    }
    out
}

fn nodes(view: &ClusterView) -> Table {
    let mut table = table([
        "node",
        "address",
        "cluster port",
        "http port",
        "state",
        "leads",
        "clients",
        "boots",
    ]);
    for node in &view.nodes {
        let state = match (node.up, node.ready) {
            (false, _) => "no answer",
            (true, false) => "not ready",
            (true, true) => "up",
        };
        table.add_row([
            node.id.to_string(),
            node.address.clone(),
            port(node.cluster_port),
            port(node.http_port),
            state.to_owned(),
            joined(node.leads.iter().map(|&shard| shard_name(shard))),
            known(node.up, node.clients),
            known(node.up, node.incarnation),
        ]);
    }
    table
}

fn shards(view: &ClusterView) -> Table {
    let mut table = table(["shard", "slots", "keys", "leader", "term", "commit", "replicas (lag)"]);
    for shard in &view.shards {
        table.add_row([
            shard_name(shard.id),
            shard.slots.to_string(),
            shard.keys.to_string(),
            shard.leader.map_or_else(|| "none".to_owned(), |node| format!("node {node}")),
            shard.term.to_string(),
            shard.commit.to_string(),
            replicas(shard),
        ]);
    }
    table
}

fn replicas(shard: &ShardView) -> String {
    joined(shard.replicas.iter().map(|replica| {
        let lag = replica.lag.map_or_else(|| "?".to_owned(), |lag| lag.to_string());
        let note = match replica.role.as_str() {
            "leader" | "follower" | "learner" => "",
            role => role,
        };
        let kind = if replica.voter { "" } else { "learner " };
        format!("{kind}{} ({lag}){}{note}", replica.node, if note.is_empty() { "" } else { " " })
    }))
}

/// A table without lines.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// Items with commas between them, `-` if there is none.
pub(crate) fn joined(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

fn shard_name(shard: u32) -> String {
    if shard == 0 { "meta".to_owned() } else { shard.to_string() }
}

fn port(port: u16) -> String {
    if port == 0 { "off".to_owned() } else { port.to_string() }
}

fn known(up: bool, number: u64) -> String {
    if up { number.to_string() } else { "?".to_owned() }
}
