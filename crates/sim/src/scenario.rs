//! What kind of run a seed is: its family, and within it its own mix of sizes, times and faults.

use flotilla_shard::Layout;

use crate::config::{Config, Fault, Faults, Workload};
use crate::queue::Micros;
use crate::random::Random;
use crate::world::address;

const MILLI: Micros = 1_000;
const SECOND: Micros = 1_000_000;

/// The families, in turn by seed.
pub const FAMILIES: [&str; 11] = [
    "founding",
    "leaders crash",
    "power loss",
    "partitions",
    "snapshots",
    "segments",
    "one node",
    "slow",
    "clocks",
    "votes",
    "everything",
];

/// The run that a seed stands for.
pub fn scenario(seed: u64) -> Config {
    let at = usize::try_from(seed % FAMILIES.len() as u64).expect("a family has a small number");
    family(FAMILIES[at], seed)
}

/// The run of a family with a seed. Panics if there is no such family.
pub fn family(name: &str, seed: u64) -> Config {
    // Another sequence than the world's own.
    let mut random = Random::new(seed ^ 0x5ce0_a810);
    let mut config = usual(&mut random);
    match name {
        "founding" => founding(&mut config, &mut random),
        "leaders crash" => weigh(&mut config, &[(Fault::CrashLeader, 8), (Fault::Crash, 2)]),
        "power loss" => weigh(&mut config, &[(Fault::PowerLoss, 6), (Fault::Crash, 4)]),
        "partitions" => weigh(
            &mut config,
            &[
                (Fault::Halves, 4),
                (Fault::Isolate, 3),
                (Fault::IsolateLeader, 5),
                (Fault::Bridge, 3),
                (Fault::OneWay, 3),
                (Fault::Reset, 3),
            ],
        ),
        "snapshots" => snapshots(&mut config, &mut random),
        "segments" => segments(&mut config),
        "one node" => one_node(&mut config, &mut random),
        "slow" => slow(&mut config, &mut random),
        "clocks" => clocks(&mut config, &mut random),
        "votes" => votes(&mut config, &mut random),
        "everything" => everything(&mut config, &mut random),
        other => panic!("there is no family {other}"),
    }
    config.family = FAMILIES.iter().find(|known| **known == name).expect("it was found above");
    config
}

fn usual(random: &mut Random) -> Config {
    let nodes = *random.pick(&[3, 3, 3, 5]);
    let election_timeout_ms = random.between(120, 300);
    let node = flotilla_node::Options {
        election_timeout_ms,
        heartbeat_ms: election_timeout_ms / 6,
        hold_ms: random.between(500, 3_000),
        snapshot_log_bytes: if random.chance(40) { random.between(4, 64) << 10 } else { 1 << 20 },
        ..flotilla_node::Options::default()
    };
    let storage = flotilla_storage::Options {
        segment_bytes: random.between(64, 256) << 10,
        spare_segments: random.between(1, 2) as usize,
        max_segments: random.between(4, 8) as usize,
        carry_frame_bytes: 8 << 10,
        carry_load_bytes: 32 << 10,
    };
    Config {
        family: "",
        layout: layout(nodes, random),
        node,
        storage,
        latency: random.between(100, 1_500),
        disk_latency: random.between(50, 1_500),
        skew_ms: random.between(0, 50),
        drift_ppm: 200,
        workload: Workload {
            plain_clients: random.between(3, 6) as usize,
            cluster_clients: random.between(0, 2) as usize,
            pipeline_max: random.between(1, 6),
            rest: random.between(15, 60) * MILLI,
            expiring_percent: *random.pick(&[0, 0, 6]),
            filler: *random.pick(&[0, 0, 400]),
            impatient_permille: *random.pick(&[0, 10, 30]),
        },
        faults: Faults {
            from: random.between(300, 1_500) * MILLI,
            every: random.between(250, 900) * MILLI,
            weights: vec![(Fault::Crash, 1), (Fault::Reset, 1), (Fault::ClientReset, 1)],
            lasts_max: random.between(300, 1_800) * MILLI,
        },
        faults_until: random.between(6, 9) * SECOND,
        mutant: None,
    }
}

/// Either a local layout or the static list form: one shard per list.
fn layout(nodes: usize, random: &mut Random) -> Layout {
    let addresses: Vec<String> = (0..nodes).map(address).collect();
    let layout = if random.chance(35) {
        let cut = if nodes > 3 && random.chance(50) { 3 } else { nodes };
        let (first, second) = addresses.split_at(cut);
        let lists: Vec<Vec<String>> =
            [first, second].iter().filter(|l| !l.is_empty()).map(|l| l.to_vec()).collect();
        Layout::from_lists(&lists)
    } else {
        let shards = random.between(1, 4) as usize;
        let replicas = if nodes >= 3 { *random.pick(&[3, 3, nodes]) } else { nodes };
        Layout::local(&addresses, shards, replicas)
    };
    layout.expect("the numbers fit")
}

fn weigh(config: &mut Config, weights: &[(Fault, u64)]) {
    config.faults.weights.extend_from_slice(weights);
}

fn founding(config: &mut Config, random: &mut Random) {
    config.faults.from = random.below(100) * MILLI;
    config.faults.every = random.between(20, 120) * MILLI;
    config.faults.lasts_max = random.between(20, 150) * MILLI;
    config.faults_until = random.between(2, 4) * SECOND;
    weigh(
        config,
        &[
            (Fault::Crash, 5),
            (Fault::PowerLoss, 1),
            (Fault::Reset, 5),
            (Fault::CrashLoop, 2),
            (Fault::Halves, 2),
        ],
    );
}

fn snapshots(config: &mut Config, random: &mut Random) {
    config.node.snapshot_log_bytes = random.between(2, 12) << 10;
    config.workload.filler = 600;
    config.workload.rest = 10 * MILLI;
    config.faults.lasts_max = random.between(1_000, 2_500) * MILLI;
    weigh(
        config,
        &[(Fault::Crash, 4), (Fault::CrashLeader, 3), (Fault::Isolate, 4), (Fault::DiskStall, 1)],
    );
}

fn segments(config: &mut Config) {
    config.storage.segment_bytes = 48 << 10;
    config.storage.max_segments = 3;
    config.storage.spare_segments = 1;
    config.node.snapshot_log_bytes = 6 << 10;
    config.workload.filler = 800;
    config.workload.rest = 12 * MILLI;
    weigh(
        config,
        &[(Fault::Crash, 4), (Fault::PowerLoss, 2), (Fault::Isolate, 1), (Fault::CrashLoop, 1)],
    );
}

fn one_node(config: &mut Config, random: &mut Random) {
    let shards = random.between(1, 3) as usize;
    config.layout = Layout::local(&[address(0)], shards, 1).expect("the numbers fit");
    config.faults.every = random.between(150, 600) * MILLI;
    config.faults.lasts_max = random.between(50, 400) * MILLI;
    config.node.snapshot_log_bytes = random.between(3, 24) << 10;
    config.workload.filler = 300;
    weigh(config, &[(Fault::Crash, 8), (Fault::CrashLoop, 2), (Fault::DiskStall, 1)]);
}

fn slow(config: &mut Config, random: &mut Random) {
    config.latency = random.between(500, 8_000);
    config.disk_latency = random.between(500, 10_000);
    weigh(
        config,
        &[
            (Fault::SlowLink, 4),
            (Fault::SlowDisk, 4),
            (Fault::DiskStall, 3),
            (Fault::Pause, 5),
            (Fault::CrashLeader, 2),
        ],
    );
}

/// No promise may rest on clocks: here some run at twice the pace of others.
fn clocks(config: &mut Config, random: &mut Random) {
    config.skew_ms = random.between(200, 2_000);
    config.drift_ppm = *random.pick(&[200, 350_000, 350_000]);
    config.workload.expiring_percent = 20;
    weigh(
        config,
        &[
            (Fault::ClockJump, 6),
            (Fault::CrashLeader, 3),
            (Fault::IsolateLeader, 10),
            (Fault::OneWay, 2),
        ],
    );
}

/// Elections in a row, on slow disks that lose what was promised.
fn votes(config: &mut Config, random: &mut Random) {
    config.latency = random.between(50, 500);
    config.disk_latency = random.between(2_000, 15_000);
    config.node.election_timeout_ms = random.between(100, 160);
    config.node.heartbeat_ms = 20;
    config.faults.every = random.between(40, 250) * MILLI;
    config.faults.lasts_max = random.between(50, 500) * MILLI;
    config.faults_until = random.between(4, 6) * SECOND;
    weigh(
        config,
        &[
            (Fault::CrashWriter, 12),
            (Fault::CrashLeader, 4),
            (Fault::Reset, 3),
            (Fault::IsolateLeader, 3),
            (Fault::Halves, 1),
        ],
    );
}

fn everything(config: &mut Config, random: &mut Random) {
    let nodes = *random.pick(&[3, 5, 5]);
    config.layout = layout(nodes, random);
    config.skew_ms = random.between(0, 1_000);
    config.workload.expiring_percent = 6;
    config.faults.every = random.between(150, 500) * MILLI;
    weigh(
        config,
        &[
            (Fault::Crash, 2),
            (Fault::CrashWriter, 2),
            (Fault::CrashLeader, 3),
            (Fault::CrashLoop, 1),
            (Fault::PowerLoss, 1),
            (Fault::Halves, 2),
            (Fault::Isolate, 2),
            (Fault::IsolateLeader, 2),
            (Fault::Bridge, 2),
            (Fault::OneWay, 2),
            (Fault::Reset, 3),
            (Fault::ClientReset, 2),
            (Fault::SlowLink, 2),
            (Fault::SlowDisk, 2),
            (Fault::DiskStall, 1),
            (Fault::Pause, 2),
            (Fault::ClockJump, 2),
        ],
    );
}
