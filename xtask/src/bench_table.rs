//! `cargo xtask bench-table`: the README's table of throughput and latency.
//!
//! Clusters are started one after the other on this machine, each is measured by `flotilla bench`
//! in turns with a `redis-server` that syncs every write, and the rows come out as Markdown, with
//! the machine and the date. What speaks against quoting them stands below them, and makes the
//! command fail. Nothing else should run meanwhile.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cluster::{Cluster, Shape, flotilla, json_of};
use crate::{cargo, shown};

/// Nodes of each cluster.
const NODES: u16 = 3;
/// The first node's port; every cluster takes others, since the one before may still be closing.
const FIRST_PORT: u16 = 7301;
const PORTS_PER_CLUSTER: u16 = 10;

/// Connections, and requests at once on each.
const LOADS: [(u32, u32); 3] = [(1, 1), (50, 1), (50, 16)];
/// What is done, as `flotilla bench` calls it.
const WORKLOADS: [&str; 2] = ["set", "get"];

/// How to measure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    seconds: String,
    rounds: String,
    data: PathBuf,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options =
            Self { seconds: "5".to_owned(), rounds: "3".to_owned(), data: PathBuf::from(".") };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--seconds" => options.seconds.clone_from(value),
                "--rounds" => options.rounds.clone_from(value),
                "--data" => options.data = PathBuf::from(value),
                _ => bail!("'{name}' is no option of bench-table"),
            }
        }
        Ok(options)
    }
}

/// A cluster to measure, and to which of its nodes clients connect.
struct Setup {
    name: &'static str,
    shards: u32,
    clients: Clients,
}

#[derive(Clone, Copy)]
enum Clients {
    AllNodes,
    Leader,
    Follower,
}

const SETUPS: [Setup; 3] = [
    Setup { name: "one leader", shards: 1, clients: Clients::Leader },
    Setup { name: "one leader, clients on a follower", shards: 1, clients: Clients::Follower },
    Setup { name: "three leaders, clients on all nodes", shards: 3, clients: Clients::AllNodes },
];

/// Measures everything and prints the table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut build = cargo("build --release --package flotilla");
    if !build.status()?.success() {
        bail!("{} has failed", shown(&build));
    }
    let directory = options.data.join(format!("flotilla-bench-table-{}", std::process::id()));
    fs::create_dir_all(&directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    let measured = measure_all(options, &directory);
    let removed = fs::remove_dir_all(&directory);
    let reports = measured?;
    removed.with_context(|| format!("can't remove {}", directory.display()))?;
    eprintln!();
    print(&reports)
}

/// The reports of each setup, in the order of the loads.
fn measure_all(options: &Options, directory: &Path) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut reports = Vec::new();
    for (at, setup) in SETUPS.iter().enumerate() {
        let port = FIRST_PORT + PORTS_PER_CLUSTER * at as u16;
        let data = &directory.join(at.to_string());
        let shape = Shape { nodes: NODES, shards: setup.shards, port, data, more: &[] };
        let cluster = Cluster::start(&shape)?;
        let targets = targets(&cluster, setup.clients)?;
        let mut of_setup = Vec::new();
        for (connections, pipeline) in LOADS {
            eprintln!("{}: {connections} connections, pipeline {pipeline}", setup.name);
            let mut bench = flotilla();
            bench.args(["bench", "--json", "--vs-redis", "--at", &targets]);
            bench.args(["--connections", &connections.to_string()]);
            bench.args(["--pipeline", &pipeline.to_string()]);
            bench.args(["--workload", &WORKLOADS.join(",")]);
            bench.args(["--seconds", &options.seconds, "--rounds", &options.rounds]);
            bench.arg("--redis-data").arg(directory);
            of_setup.push(json_of(bench).context("flotilla bench")?);
        }
        reports.push(of_setup);
    }
    Ok(reports)
}

/// The addresses for `--at`.
fn targets(cluster: &Cluster, clients: Clients) -> anyhow::Result<String> {
    let status = cluster.status()?;
    let nodes = status["nodes"].as_array().context("a status names nodes")?;
    let shards = status["shards"].as_array().context("a status names shards")?;
    let leader = shards.iter().find(|shard| shard["id"] == 1).map(|shard| &shard["leader"]);
    let leader = leader.context("shard 1 has a leader")?;
    let chosen = nodes.iter().filter(|node| match clients {
        Clients::AllNodes => true,
        Clients::Leader => node["id"] == *leader,
        Clients::Follower => node["id"] != *leader,
    });
    let count = if matches!(clients, Clients::AllNodes) { nodes.len() } else { 1 };
    let addresses: Option<Vec<&str>> =
        chosen.take(count).map(|node| node["address"].as_str()).collect();
    Ok(addresses.context("a node has an address")?.join(","))
}

/// Prints the table, and fails if something speaks against quoting it.
fn print(reports: &[Vec<Value>]) -> anyhow::Result<()> {
    let machine = &reports[0][0]["machine"];
    let text = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
    let date = Command::new("date").args(["-u", "+%F"]).output().context("date")?;
    let place = format!(
        "{} × {}, Linux {}, {}; three nodes, their clients and redis-server share it and one disk.",
        machine["processors"],
        text("processor"),
        text("kernel"),
        String::from_utf8_lossy(&date.stdout).trim(),
    );
    write!(std::io::stdout(), "{}\n{place}\n", table(reports))?;
    let caveats = reports.iter().flatten().filter_map(|report| report["caveats"].as_array());
    let mut caveats: Vec<_> = caveats.flatten().filter_map(Value::as_str).collect();
    caveats.sort_unstable();
    caveats.dedup();
    if !caveats.is_empty() {
        bail!("not to be quoted:\n- {}", caveats.join("\n- "));
    }
    Ok(())
}

fn table(reports: &[Vec<Value>]) -> String {
    let mut lines = vec![
        "| | per second | p50 | p99 | p99.9 | servers' CPU each | × redis |".to_owned(),
        "|---|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for (load, (connections, pipeline)) in LOADS.into_iter().enumerate() {
        for workload in WORKLOADS {
            let plural = if connections == 1 { "" } else { "s" };
            let at_once = if pipeline == 1 {
                String::new()
            } else {
                format!(", {pipeline} requests at once")
            };
            let name = workload.to_uppercase();
            lines.push(format!("| **{name}, {connections} connection{plural}{at_once}** |||||||"));
            for (setup, reports) in SETUPS.iter().zip(reports) {
                let rows = rows_of(&reports[load], workload);
                lines.extend(rows.first().map(|row| line(setup.name, row)));
            }
            lines.extend(
                median_redis(reports, load, workload)
                    .map(|row| line("redis-server, one disk", row)),
            );
        }
    }
    lines.join("\n") + "\n"
}

/// The rows of a workload: the cluster's and redis-server's.
fn rows_of<'a>(report: &'a Value, workload: &str) -> Vec<&'a Value> {
    let rows = report["results"].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter().filter(|row| row["workload"] == workload).collect()
}

/// The yardstick was measured beside every setup: its row of median throughput.
fn median_redis<'a>(reports: &'a [Vec<Value>], load: usize, workload: &str) -> Option<&'a Value> {
    let mut rows: Vec<&Value> = reports
        .iter()
        .filter_map(|reports| rows_of(&reports[load], workload).get(1).copied())
        .collect();
    let throughput = |row: &Value| row["operations_per_second"].as_f64().unwrap_or_default();
    rows.sort_by(|a, b| throughput(a).total_cmp(&throughput(b)));
    rows.get(rows.len() / 2).copied()
}

fn line(name: &str, row: &Value) -> String {
    let latency = &row["latency_micros"];
    let ratio =
        row["ratio_to_redis"].as_f64().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    format!(
        "| {name} | {} | {} | {} | {} | {} | {ratio} |",
        thousands(row["operations_per_second"].as_f64().unwrap_or_default()),
        micros(&latency["p50"]),
        micros(&latency["p99"]),
        micros(&latency["p999"]),
        micros(&row["cpu_micros_per_operation"]["servers"]),
    )
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn micros(value: &Value) -> String {
    match value.as_f64() {
        None => "?".to_owned(),
        Some(micros) if micros < 9.95 => format!("{micros:.1} µs"),
        Some(micros) if micros < 999.5 => format!("{micros:.0} µs"),
        Some(micros) => format!("{:.1} ms", micros / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(workload: &str, throughput: f64, ratio: Option<f64>) -> Value {
        json!({
            "workload": workload,
            "operations_per_second": throughput,
            "latency_micros": { "p50": 8.04, "p99": 123.4, "p999": 1_234.0 },
            "cpu_micros_per_operation": { "servers": null },
            "ratio_to_redis": ratio,
        })
    }

    fn report(throughput: f64) -> Value {
        let rows = WORKLOADS.map(|workload| {
            [row(workload, throughput, Some(1.5)), row(workload, throughput / 1.5, None)]
        });
        json!({ "results": rows.concat() })
    }

    #[test]
    fn the_table_has_a_row_per_setup_and_one_for_redis() {
        let reports: Vec<Vec<Value>> = [3_000.0, 1_234_567.0, 2_000.0]
            .map(|throughput| LOADS.map(|_| report(throughput)).to_vec())
            .to_vec();
        let table = table(&reports);
        assert_eq!(table.lines().count(), 2 + LOADS.len() * WORKLOADS.len() * 5);
        let follower = "| one leader, clients on a follower | 1,234,567 | 8.0 µs | 123 µs | 1.2 ms \
                        | ? | 1.50 |";
        assert!(table.lines().any(|line| line == follower), "{table}");
        let redis = "| redis-server, one disk | 2,000 | 8.0 µs | 123 µs | 1.2 ms | ? |  |";
        assert!(table.lines().any(|line| line == redis), "{table}");
    }

    #[test]
    fn options_have_defaults() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let options = Options::parse(&words("--rounds 7 --data /d")).expect("they are right");
        assert_eq!((&*options.seconds, &*options.rounds), ("5", "7"));
        assert!(Options::parse(&words("--rounds")).is_err());
        assert!(Options::parse(&words("--speed 1")).is_err());
    }
}
