//! What nodes have on disk while their keys are overwritten many times, and what goes wrong
//! meanwhile: nothing, a follower that lags or is dead, a shard without its quorum.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use flotilla_shard::{ShardId, plan, slot_of};

use super::load::{self, Client, Keys, PIPELINE};
use super::nodes::{self, Moment, Nodes};
use super::{Options, VALUE_BYTES, program, say};

/// Bounds of a directory: so many times the data and so many bytes; at rest, and meanwhile.
const AT_REST: (u64, u64) = (2, 256 << 20);
const MEANWHILE: (u64, u64) = (3, 512 << 20);
/// The shards of each case, by their nodes.
const ONE_SHARD: &[&[usize]] = &[&[1, 2, 3]];
const TWO_SHARDS: &[&[usize]] = &[&[1, 2, 3], &[1, 4, 5]];

/// What goes wrong while keys are overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Nothing.
    Whole,
    /// A follower stands still for half of the time.
    Lags,
    /// A follower is dead.
    Dead,
    /// Of a shard of node 1 the other two replicas are dead; a tail of its log is not committed,
    /// the other shard is overwritten.
    NoQuorum,
}

impl Case {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Whole, Self::Lags, Self::Dead, Self::NoQuorum];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Lags => "lags",
            Self::Dead => "dead",
            Self::NoQuorum => "no-quorum",
        }
    }
}

/// Measures one case; gives back which nodes had too much.
pub(crate) fn measure(
    case: Case,
    options: &Options,
    directory: &Path,
) -> anyhow::Result<Vec<String>> {
    let data = options.megabytes.get() << 20;
    let shards = if case == Case::NoQuorum { TWO_SHARDS } else { ONE_SHARD };
    let mut nodes = Nodes::start(&program(), directory, shards)?;
    let keys = keys_of_shards(data / VALUE_BYTES, shards.len());
    let mut held: BTreeMap<usize, u64> = BTreeMap::new();
    for (keys, on) in keys.iter().zip(shards) {
        load::fill(&Nodes::addresses(on), keys, 1)?;
        on.iter().for_each(|node| *held.entry(*node).or_default() += keys.bytes());
    }
    let (overwritten, times) = (&keys[0], options.overwrites.get());
    let moments = match case {
        Case::Whole => overwrite(&nodes, &[1, 2, 3], overwritten, times)?,
        Case::Lags => {
            nodes.pause(3)?;
            let before = overwrite(&nodes, &[1, 2], overwritten, times.div_ceil(2))?;
            nodes.go_on(3)?;
            let after = overwrite(&nodes, &[1, 2], overwritten, times.div_ceil(2))?;
            [before, after].concat()
        }
        Case::Dead => {
            nodes.kill(3)?;
            overwrite(&nodes, &[1, 2], overwritten, times)?
        }
        Case::NoQuorum => {
            nodes.kill(4)?;
            nodes.kill(5)?;
            let mut unanswered = Client::connect(&Nodes::addresses(&[1])[0])?;
            unanswered.send(&keys[1].some(PIPELINE))?;
            overwrite(&nodes, &[1, 2, 3], overwritten, times)?
        }
    };
    let mut broken = Vec::new();
    for node in nodes.alive() {
        let data = *held.get(&node).context("every node has a shard")?;
        let bounds = [AT_REST, MEANWHILE].map(|(times, more)| times * data + more);
        let (rest, meanwhile) = nodes::most_on_disk(&moments, node);
        say(&format!(
            "{}: node {node} with {} MB of data had {} MB at rest (bound {}; {} of them its log), \
             {} MB while it wrote a snapshot (bound {}; {})",
            case.name(),
            data >> 20,
            rest.disk >> 20,
            bounds[0] >> 20,
            rest.log >> 20,
            meanwhile.disk >> 20,
            bounds[1] >> 20,
            meanwhile.log >> 20,
        ))?;
        if rest.disk > bounds[0] || meanwhile.disk > bounds[1] {
            broken.push(format!("node {node} ({})", case.name()));
        }
    }
    Ok(broken)
}

fn overwrite(nodes: &Nodes, by: &[usize], keys: &Keys, times: u64) -> anyhow::Result<Vec<Moment>> {
    let moments = nodes.watch_while(|| load::fill(&Nodes::addresses(by), keys, times))?;
    ensure!(moments.iter().any(Moment::writes_any), "no snapshot was written");
    Ok(moments)
}

/// The keys of each shard, together so many.
fn keys_of_shards(count: u64, shards: usize) -> Vec<Keys> {
    let ids: Vec<ShardId> = (1..=shards as u32).map(ShardId).collect();
    let map = plan(&ids.iter().map(|shard| (*shard, 1)).collect::<Vec<_>>(), None);
    let is_of = |key: u64, shard| map.owner(slot_of(load::name(key).as_bytes())) == Some(shard);
    ids.iter().map(|shard| Keys::chosen(count, |key| is_of(key, *shard))).collect()
}
