//! Swarm testing: each seed leaves out most kinds of faults and takes extreme values of the rest,
//! since what is mixed evenly every time never gets far in any direction [Groce et al., 2012].

use crate::config::Config;
use crate::fault::Fault;
use crate::random::Random;
use crate::scenario::{MILLI, Mix, SECOND, local};

/// Topologies with their weights: small ones are quicker, and find as much.
const NODES: [(usize, u64); 7] = [(1, 3), (2, 3), (3, 60), (4, 5), (5, 20), (6, 4), (7, 5)];
const SHARDS: [(usize, u64); 8] =
    [(1, 60), (2, 15), (3, 8), (4, 6), (5, 3), (6, 3), (7, 2), (8, 3)];

/// What is drawn behind all else, so that a seed goes on standing for its faults and sizes.
const LATER: [Fault; 2] = [Fault::CrashAtMoment, Fault::TornTransfer];

/// Makes a run its very own.
pub(crate) fn swarm(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    let nodes = weighted(&NODES, random);
    let shards = weighted(&SHARDS, random);
    let replicas = random.between((nodes as u64).min(3), nodes as u64) as usize;
    config.layout = local(nodes, shards, replicas);
    let percent = *random.pick(&[10, 25, 50, 90]);
    mix.weights.clear();
    for fault in Fault::ALL.into_iter().filter(|fault| !LATER.contains(fault)) {
        if random.chance(percent) {
            mix.weights.push((fault, 1 << random.below(4)));
        }
    }
    mix.every = *random.pick(&[60, 200, 500, 1_500, 4_000]) * MILLI;
    config.lasts_max = *random.pick(&[100, 400, 1_000, 2_500]) * MILLI;
    config.faults_until = random.between(5, 23) * SECOND;
    times(config, random);
    sizes(config, random);
    // What came later is drawn behind all else, so that a seed goes on standing for its sizes.
    if random.chance(percent) {
        mix.weights.push((Fault::CrashAtMoment, 1 << random.below(4)));
    }
    config.workload.keys = *random.pick(&[1, 3, 3, 3]);
    if random.chance(percent) {
        mix.weights.push((Fault::TornTransfer, 1 << random.below(3)));
    }
}

fn times(config: &mut Config, random: &mut Random) {
    config.latency = *random.pick(&[50, 300, 1_000, 4_000]);
    config.disk_latency = *random.pick(&[30, 150, 1_000, 5_000]);
    config.skew_ms = *random.pick(&[0, 20, 500]);
    config.drift_ppm = *random.pick(&[0, 200, 200, 200_000]);
    config.node.election_timeout_ms = *random.pick(&[120, 250, 400, 400]);
    config.node.heartbeat_ms = config.node.election_timeout_ms / *random.pick(&[5, 6, 10]);
    config.node.hold_ms = *random.pick(&[300, 1_000, 3_000]);
}

fn sizes(config: &mut Config, random: &mut Random) {
    config.node.max_append_bytes = *random.pick(&[64, 2 << 10, 128 << 10, 128 << 10]);
    config.node.snapshot_log_bytes = *random.pick(&[12 << 10, 64 << 10, 256 << 10, 1 << 30]);
    config.storage.segment_bytes = *random.pick(&[48 << 10, 128 << 10, 1 << 20]);
    config.storage.max_segments = *random.pick(&[3, 6, 12]);
    config.workload.filler = *random.pick(&[0, 0, 0, 300, 2_000]);
    config.workload.expiring_percent = *random.pick(&[0, 0, 10, 40]);
    config.workload.read_percent = *random.pick(&[5, 40, 90]);
    config.workload.eager_percent = *random.pick(&[0, 0, 0, 30]);
    config.workload.pipeline_max = *random.pick(&[2, 4, 8]);
    config.workload.rest = *random.pick(&[25, 50, 75]) * MILLI;
}

fn weighted(items: &[(usize, u64)], random: &mut Random) -> usize {
    let total = items.iter().map(|(_, weight)| weight).sum();
    let mut drawn = random.below(total);
    for (item, weight) in items {
        if drawn < *weight {
            return *item;
        }
        drawn -= weight;
    }
    items[0].0
}
