//! `flotilla run`, and the nodes of `flotilla up`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use flotilla_server::{Config, NodeOptions, PortWish, StorageOptions};
use flotilla_shard::{Layout, NodeId, partitions};

use crate::arguments::{NodeOfUp, Run, Sizes};
use crate::cluster_file::ClusterFile;

/// Runs one node of a list of partitions until it is told to stop.
pub(crate) fn run_listed(run: Run) -> anyhow::Result<ExitCode> {
    let lists = partitions::parse(&run.partitions).context("<partitions>")?;
    let list = partitions::place(&lists, &run.ip_address, run.port, run.partition_index)?;
    let layout = Layout::from_lists(&lists)?;
    let ip: std::net::IpAddr = run.ip_address.parse().context("<ip_address>")?;
    let address = std::net::SocketAddr::new(ip, run.port).to_string();
    let me =
        layout.node_at(&address).with_context(|| format!("{address} is not in list {list}"))?;
    let data = run.data.unwrap_or_else(|| default_directory(&run.ip_address, run.port));
    start(Config {
        layout,
        me,
        cluster_port: wish(run.cluster_port),
        http_port: wish(run.http_port),
        data,
        options: node_options(run.sizes),
        storage: storage_options(run.sizes),
        parent: None,
    })
}

/// Runs one node of `up` until it is told to stop or `up` ends.
pub(crate) fn run_of_up(node: &NodeOfUp) -> anyhow::Result<ExitCode> {
    let file = ClusterFile::read(&node.cluster)?
        .with_context(|| format!("there is no {}", node.cluster.display()))?;
    start(Config {
        layout: file.layout,
        me: NodeId(node.node),
        cluster_port: PortWish::Default,
        http_port: PortWish::Default,
        data: node.data.clone(),
        options: node_options(node.sizes),
        storage: storage_options(node.sizes),
        parent: Some(node.parent),
    })
}

fn start(config: Config) -> anyhow::Result<ExitCode> {
    flotilla_server::run(config)?;
    Ok(ExitCode::SUCCESS)
}

fn wish(asked: Option<u16>) -> PortWish {
    match asked {
        None => PortWish::Default,
        Some(0) => PortWish::Off,
        Some(port) => PortWish::Asked(port),
    }
}

fn node_options(sizes: Sizes) -> NodeOptions {
    let mut options = NodeOptions::default();
    options.snapshot_log_bytes = sizes.snapshot_log_bytes.unwrap_or(options.snapshot_log_bytes);
    options
}

fn storage_options(sizes: Sizes) -> StorageOptions {
    let mut options = StorageOptions::default();
    options.segment_bytes = sizes.segment_bytes.unwrap_or(options.segment_bytes);
    options
}

/// Colons of IPv6 addresses stay out of names of directories.
fn default_directory(ip: &str, port: u16) -> PathBuf {
    PathBuf::from("flotilla-data").join(format!("{}-{port}", ip.replace(':', "_")))
}
