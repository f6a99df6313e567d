//! `flotilla where`: in which slot and shard keys are, and on which nodes.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use anyhow::Context as _;
use flotilla_resp::Value;
use flotilla_shard::slot_of;
use serde::Serialize;

use crate::arguments::Where;
use crate::print;
use crate::status::{self, joined, table};
use crate::view::ClusterView;

/// Runs the verb. It exits with 1 if a key's shard has no leader.
pub(crate) fn run(asked: &Where) -> anyhow::Result<ExitCode> {
    let view = status::look_at_founded(&asked.at)?;
    let places: Vec<Place> =
        asked.keys.iter().map(|key| Place::of(key, &view)).collect::<anyhow::Result<_>>()?;
    let mut out = std::io::stdout().lock();
    if asked.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&places)?)?;
    } else {
        let mut table = table(["key", "slot", "shard", "leader", "replicas"]);
        for place in &places {
            table.add_row(place.row());
        }
        writeln!(out, "{table}")?;
    }
    let led = places.iter().all(|place| place.leader.is_some());
    Ok(if led { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a key is.
#[derive(Debug, Serialize)]
struct Place {
    /// The key; bytes that are no text are replaced.
    key: String,
    #[serde(skip)]
    bytes: Vec<u8>,
    slot: u16,
    shard: u32,
    /// The node that leads the shard, if any is known to.
    leader: Option<Home>,
    /// All nodes with a replica of the shard.
    replicas: Vec<Home>,
}

/// A node with a replica.
#[derive(Debug, Serialize)]
struct Home {
    node: u32,
    address: String,
}

impl Place {
    fn of(key: &OsString, view: &ClusterView) -> anyhow::Result<Self> {
        let bytes = key.as_bytes().to_vec();
        let slot = slot_of(&bytes).0;
        let owns = |ranges: &[(u16, u16)]| {
            ranges.iter().any(|&(first, last)| (first..=last).contains(&slot))
        };
        let shard = view.shards.iter().find(|shard| owns(&shard.ranges));
        let shard = shard.with_context(|| format!("no shard is known to own slot {slot}"))?;
        let home = |node| Home { node, address: view.address(node) };
        Ok(Self {
            key: key.to_string_lossy().into_owned(),
            bytes,
            slot,
            shard: shard.id,
            leader: shard.leader.map(home),
            replicas: shard.replicas.iter().map(|replica| home(replica.node)).collect(),
        })
    }

    fn row(&self) -> [String; 5] {
        let named = |home: &Home| format!("{} ({})", home.node, home.address);
        [
            print::for_people(&Value::Bulk(self.bytes.clone())),
            self.slot.to_string(),
            self.shard.to_string(),
            self.leader.as_ref().map_or_else(|| "none".to_owned(), named),
            joined(self.replicas.iter().map(named)),
        ]
    }
}
