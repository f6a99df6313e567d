//! `CONFIG GET`: what is fixed, and the limits of this node, under the names that Redis's clients
//! and tools look for.

use flotilla_kv::execute::glob_matches;
use flotilla_resp::encode;

use super::{Client, View};
use crate::{Face, Options};

/// `CONFIG GET pattern [pattern …]`: a map of the parameters that match one of the patterns.
pub(super) fn get(client: &Client, view: &dyn View, out: &mut Vec<u8>) {
    let table = parameters(client.face(), view.options());
    let wanted = |name: &str| {
        let mut patterns = client.args().iter().skip(2);
        patterns.any(|pattern| glob_matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let found: Vec<_> = table.iter().filter(|(name, _)| wanted(name)).collect();
    encode::map_header(out, found.len());
    for (name, value) in found {
        encode::bulk(out, name);
        encode::bulk(out, value);
    }
}

/// Every parameter and its value, by name.
fn parameters(face: Face, options: &Options) -> Vec<(&'static str, String)> {
    let cluster = if face == Face::Cluster { "yes" } else { "no" };
    let fixed = [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("cluster-enabled", cluster),
        ("cluster-require-full-coverage", "no"),
        ("databases", "1"),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("notify-keyspace-events", ""),
        ("save", ""),
        ("timeout", "0"),
    ];
    let limits = [
        ("cluster-node-timeout", options.election_timeout_ms),
        ("election-timeout-ms", options.election_timeout_ms),
        ("heartbeat-ms", options.heartbeat_ms),
        ("hold-ms", options.hold_ms),
        ("max-client-pipeline", options.max_client_pipeline as u64),
        ("max-request-bytes", options.max_request_bytes as u64),
        ("max-unsettled-bytes", options.max_unsettled_bytes as u64),
        ("max-unsettled-commands", options.max_unsettled_commands as u64),
        ("max-value-bytes", options.max_value_bytes as u64),
        ("proto-max-bulk-len", options.max_value_bytes as u64),
        ("snapshot-log-bytes", options.snapshot_log_bytes),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    let limits = limits.into_iter().map(|(name, value)| (name, value.to_string()));
    let mut table: Vec<_> = fixed.chain(limits).collect();
    table.sort_unstable();
    table
}
