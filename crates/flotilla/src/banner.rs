//! What `up` says once its cluster is ready: where the nodes are and what to try.

use std::fmt::Write as _;
use std::path::Path;

use flotilla_server::Status;

use crate::cluster_file::ClusterFile;

/// The text, given what the nodes say of themselves.
pub(crate) fn text(file: &ClusterFile, directory: &Path, nodes: &[Status]) -> String {
    let numbers = file.numbers;
    let mut out = format!(
        "\n{}, {}, {} of each: ready. Data in {}.\n\n",
        count(numbers.nodes, "node"),
        count(numbers.shards, "shard"),
        count(numbers.replicas, "replica"),
        directory.display()
    );
    for (at, address) in file.layout.nodes.iter().enumerate() {
        let http = nodes.get(at).and_then(|status| {
            status.nodes.iter().find(|node| node.id == status.me).map(|node| node.http_port)
        });
        let health = match http {
            Some(0) | None => String::new(),
            Some(port) => format!("   http://127.0.0.1:{port}/readyz"),
        };
        writeln!(out, "  node {}   {address}{health}", at + 1).expect("a string takes everything");
    }
    let at = |node: usize| &file.layout.nodes[node.min(numbers.nodes - 1)];
    let port = |node: usize| usize::from(numbers.port) + node.min(numbers.nodes - 1);
    let program = program();
    let flag = if numbers.port == 7001 { String::new() } else { format!(" --at {}", at(0)) };
    let _ = write!(
        out,
        "\nTry, in another terminal, any node for any key:\n\
         \n  {program} shell{flag} SET greeting hello\
         \n  redis-cli -p {} GET greeting\
         \n  printf 'GET greeting\\r\\n' | nc -q 1 127.0.0.1 {}\
         \n  {program} status{flag}\n\
         \nCtrl-C stops the cluster; the same command starts it again with its data.\n",
        port(1),
        port(2)
    );
    out
}

/// The way this program was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "flotilla".to_owned())
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
