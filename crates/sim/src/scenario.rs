//! What kind of run a seed is: its family, and within it its own mix of sizes, times and faults.

use flotilla_shard::Layout;

use crate::config::{Config, Driver, Ending, Workload};
use crate::fault::{Fault, Planned};
use crate::groups;
use crate::lanes;
use crate::packets;
use crate::queue::Micros;
use crate::random::Random;
use crate::swarm::swarm;
use crate::world::address;

pub(crate) const MILLI: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

/// The families. Of each `TURN` seeds one is of each family, and the rest are of the last, but for
/// one in ten that is of groups of cores.
pub const FAMILIES: [&str; 28] = [
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
    "figure 8",
    "failing disks",
    "damage",
    "wires",
    "everything",
    "streams",
    "catching up",
    "expiring parts",
    "full disks",
    "crowded wires",
    "crowded streams",
    "stragglers",
    "torn transfers",
    lanes::FAMILY,
    groups::HURT,
    groups::FAMILY,
    packets::FAMILY,
    "swarm",
];

/// Families of which no seed is without being asked for.
pub(crate) const APART: [&str; 2] = ["speed", "sectors"];
/// A busy run has 50 operations per second; clients aim higher, since there are quiet times too.
const PACE: u64 = 60;
/// Keys of each kind that clients use at a time, unless they are to meet more often.
const KEYS: usize = 3;

/// The longest time to live of a key, milliseconds.
const LIVES_MAX_MS: u64 = 1_500;

/// The families take turns with this period.
const TURN: u64 = 40;

/// What goes wrong, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// Faults begin after this time.
    pub(crate) from: Micros,
    /// The usual time between two faults, microseconds.
    pub(crate) every: Micros,
    /// Which faults, with their weights.
    pub(crate) weights: Vec<(Fault, u64)>,
}

/// The run that a seed stands for.
pub fn scenario(seed: u64) -> Config {
    let last = FAMILIES.len() - 1;
    let at = usize::try_from(seed % TURN).expect("a turn is short").min(last);
    let name = match seed % 10 {
        9 if at == last => groups::FAMILY,
        _ => FAMILIES[at],
    };
    family(name, seed)
}

/// Whether there is a family of this name.
pub fn is_family(name: &str) -> bool {
    FAMILIES.contains(&name) || APART.contains(&name)
}

/// The run of a family with a seed. Panics if there is no such family.
pub fn family(name: &str, seed: u64) -> Config {
    // Another sequence than the world's own.
    let mut random = Random::new(seed ^ 0x5ce0_a810);
    let (mut config, mut mix) = usual(&mut random);
    let random = &mut random;
    match name {
        "founding" => founding(&mut config, &mut mix, random),
        "leaders crash" => mix.add(&[(Fault::CrashLeader, 8), (Fault::Crash, 2)]),
        "power loss" => power_loss(&mut mix),
        "partitions" => partitions(&mut mix),
        "snapshots" => snapshots(&mut config, &mut mix, random),
        "segments" => segments(&mut config, &mut mix),
        "one node" => one_node(&mut config, &mut mix, random),
        "slow" => slow(&mut config, &mut mix, random),
        "clocks" => clocks(&mut config, &mut mix, random),
        "votes" => votes(&mut config, &mut mix, random),
        "figure 8" => figure_8(&mut config, &mut mix, random),
        "failing disks" => failing_disks(&mut config, &mut mix, random),
        "damage" => damage(&mut config, &mut mix, random),
        "wires" => wires(&mut mix, random),
        "everything" => everything(&mut config, &mut mix, random),
        "streams" => streams(&mut config, &mut mix, random),
        // Their runs have worlds of their own, and nothing of this is about them.
        groups::FAMILY | groups::HURT | lanes::FAMILY | packets::FAMILY => mix.weights.clear(),
        "swarm" => swarm(&mut config, &mut mix, random),
        "speed" => speed(&mut config, &mut mix, random),
        "sectors" => sectors(&mut config, &mut mix),
        "catching up" => catching_up(&mut config, &mut mix, random),
        "expiring parts" => expiring_parts(&mut config, &mut mix, random),
        "full disks" => full_disks(&mut config, &mut mix, random),
        "crowded wires" => crowded_wires(&mut config, &mut mix, random),
        "crowded streams" => crowded_streams(&mut config, &mut mix, random),
        "stragglers" => stragglers(&mut config, &mut mix, random),
        "torn transfers" => torn_transfers(&mut config, &mut mix, random),
        other => panic!("there is no family {other}"),
    }
    let known = FAMILIES.iter().chain(&APART).copied().find(|known| *known == name);
    config.family = known.expect("it was found above");
    config.plan = mix.plan(config.faults_until, random);
    config.padding = *random.pick(&[2, 8, 64, 64, 64, 64]);
    config
}

impl Mix {
    pub(crate) fn add(&mut self, weights: &[(Fault, u64)]) {
        self.weights.extend_from_slice(weights);
    }

    /// Draws when each fault happens, and its word.
    fn plan(&self, until: Micros, random: &mut Random) -> Vec<Planned> {
        let allowed = self.weights.iter().filter(|(fault, _)| fault.obstacle().is_none());
        let weights: Vec<(Fault, u64)> = allowed.copied().collect();
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut plan = Vec::new();
        let mut at = self.from;
        while total > 0 && at < until {
            let mut drawn = random.below(total);
            let chosen = weights.iter().find(|(_, weight)| {
                let here = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                here
            });
            let (fault, _) = *chosen.expect("it is drawn below the sum of the weights");
            plan.push(Planned { at, fault, word: random.word() });
            at += random.heavy_tailed(self.every);
        }
        plan
    }
}

fn usual(random: &mut Random) -> (Config, Mix) {
    let nodes = *random.pick(&[3, 3, 3, 3, 3, 5]);
    let election_timeout_ms = random.between(150, 400);
    let node = flotilla_node::Options {
        election_timeout_ms,
        heartbeat_ms: election_timeout_ms / 6,
        hold_ms: random.between(500, 3_000),
        snapshot_log_bytes: if random.chance(40) { random.between(16, 128) << 10 } else { 1 << 20 },
        // With few keys, parts of a few slots, so that some are kept.
        snapshot_part_bytes: 200,
        ..flotilla_node::Options::default()
    };
    let storage = flotilla_storage::Options {
        segment_bytes: random.between(64, 256) << 10,
        spare_segments: random.between(1, 2) as usize,
        max_segments: random.between(4, 8) as usize,
        carry_frame_bytes: 8 << 10,
        carry_load_bytes: 32 << 10,
    };
    let config = Config {
        family: "",
        layout: layout(nodes, random),
        node,
        storage,
        padding: 64,
        driver: *random.pick(&Driver::ALL),
        latency: random.between(100, 1_500),
        disk_latency: random.between(50, 1_500),
        skew_ms: random.between(0, 50),
        drift_ppm: 200,
        shred_percent: *random.pick(&[0, 2, 15]),
        latecomer: 0,
        workload: workload(random),
        plan: Vec::new(),
        lasts_max: random.between(300, 1_800) * MILLI,
        faults_until: random.between(5, 11) * SECOND,
        ending: if random.chance(50) { Ending::Quorum(random.word()) } else { Ending::Whole },
        quiet_ending: false,
        mutant: None,
    };
    let mix = Mix {
        from: random.between(300, 1_500) * MILLI,
        every: random.between(250, 900) * MILLI,
        weights: vec![
            (Fault::Crash, 1),
            (Fault::CrashInRecovery, 1),
            (Fault::Reset, 1),
            (Fault::ClientReset, 1),
        ],
    };
    (config, mix)
}

fn workload(random: &mut Random) -> Workload {
    Workload {
        plain_clients: random.between(3, 6) as usize,
        cluster_clients: random.between(0, 2) as usize,
        pipeline_max: random.between(2, 8),
        rest: random.between(15, 50) * MILLI,
        pace: PACE,
        keys: KEYS,
        expiring_percent: *random.pick(&[0, 0, 6]),
        lives_max_ms: LIVES_MAX_MS,
        read_percent: *random.pick(&[20, 40, 70]),
        filler: *random.pick(&[0, 0, 400]),
        ballast: 0,
        impatient_permille: *random.pick(&[0, 10, 30]),
        eager_percent: *random.pick(&[0, 0, 20]),
    }
}

/// Either a local layout or the static list form: one shard per list.
fn layout(nodes: usize, random: &mut Random) -> Layout {
    if random.chance(20) {
        let addresses: Vec<String> = (0..nodes).map(address).collect();
        let cut = if nodes > 3 && random.chance(50) { 3 } else { nodes };
        let (first, second) = addresses.split_at(cut);
        let lists: Vec<Vec<String>> =
            [first, second].iter().filter(|l| !l.is_empty()).map(|l| l.to_vec()).collect();
        return Layout::from_lists(&lists).expect("the numbers fit");
    }
    let shards = *random.pick(&[1, 1, 1, 2, 3]);
    let replicas = if nodes >= 3 { *random.pick(&[3, 3, nodes]) } else { nodes };
    local(nodes, shards, replicas)
}

/// So many nodes, shards, and replicas of each shard.
pub(crate) fn local(nodes: usize, shards: usize, replicas: usize) -> Layout {
    let addresses: Vec<String> = (0..nodes).map(address).collect();
    Layout::local(&addresses, shards, replicas).expect("the numbers fit")
}

fn founding(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    mix.from = random.below(100) * MILLI;
    mix.every = random.between(20, 120) * MILLI;
    config.lasts_max = random.between(20, 150) * MILLI;
    config.faults_until = random.between(2, 4) * SECOND;
    // Before all nodes were there, each may still come back with another disk.
    if random.chance(40) {
        config.latecomer = random.between(200, 1_500) * MILLI;
        mix.add(&[(Fault::WipedDisk, 8)]);
    }
    mix.add(&[
        (Fault::Crash, 5),
        (Fault::Kill, 2),
        (Fault::PowerLoss, 1),
        (Fault::Reset, 5),
        (Fault::CrashLoop, 2),
        (Fault::Halves, 2),
        (Fault::Clog, 1),
    ]);
}

fn power_loss(mix: &mut Mix) {
    mix.add(&[
        (Fault::PowerLoss, 6),
        (Fault::Crash, 4),
        (Fault::CrashWriter, 3),
        (Fault::CrashAtMoment, 3),
        (Fault::Kill, 6),
    ]);
}

fn partitions(mix: &mut Mix) {
    mix.add(&[
        (Fault::Halves, 4),
        (Fault::Isolate, 3),
        (Fault::IsolateLeader, 5),
        (Fault::PairOff, 3),
        (Fault::Bridge, 3),
        (Fault::Ring, 2),
        (Fault::OneWay, 3),
        (Fault::Flapping, 2),
        (Fault::Reset, 3),
    ]);
}

fn snapshots(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.node.snapshot_log_bytes = random.between(2, 12) << 10;
    config.workload.filler = 600;
    config.workload.rest = 10 * MILLI;
    config.lasts_max = random.between(1_000, 2_500) * MILLI;
    mix.add(&[
        (Fault::Crash, 4),
        (Fault::CrashLeader, 3),
        (Fault::CrashWriter, 6),
        (Fault::CrashAtMoment, 12),
        (Fault::Kill, 2),
        (Fault::Isolate, 4),
        (Fault::SlowDisk, 4),
        (Fault::DiskStall, 1),
        (Fault::Clog, 1),
        (Fault::Vanish, 4),
    ]);
}

fn segments(config: &mut Config, mix: &mut Mix) {
    config.storage.segment_bytes = 48 << 10;
    config.storage.max_segments = 3;
    config.storage.spare_segments = 1;
    config.node.snapshot_log_bytes = 6 << 10;
    config.workload.filler = 800;
    config.workload.rest = 12 * MILLI;
    mix.add(&[
        (Fault::Crash, 4),
        (Fault::CrashWriter, 8),
        (Fault::CrashAtMoment, 8),
        (Fault::Kill, 3),
        (Fault::SlowDisk, 4),
        (Fault::PowerLoss, 2),
        (Fault::Isolate, 1),
        (Fault::CrashLoop, 1),
        (Fault::NoSpace, 1),
    ]);
}

fn one_node(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.layout = local(1, random.between(1, 3) as usize, 1);
    mix.every = random.between(150, 600) * MILLI;
    config.lasts_max = random.between(50, 400) * MILLI;
    config.node.snapshot_log_bytes = random.between(3, 24) << 10;
    config.workload.filler = 300;
    mix.add(&[
        (Fault::Crash, 6),
        (Fault::CrashWriter, 3),
        (Fault::Kill, 4),
        (Fault::CrashLoop, 2),
        (Fault::DiskStall, 1),
        (Fault::WriteError, 1),
    ]);
}

fn slow(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.latency = random.between(500, 8_000);
    config.disk_latency = random.between(500, 10_000);
    mix.add(&[
        (Fault::SlowLink, 4),
        (Fault::PacketLoss, 4),
        (Fault::SlowDisk, 4),
        (Fault::SlowNode, 3),
        (Fault::DiskStall, 3),
        (Fault::Pause, 3),
        (Fault::LongPause, 4),
        (Fault::SlowReader, 4),
        (Fault::CrashLeader, 2),
    ]);
}

/// No promise may rest on clocks: here some run at twice the pace of others.
fn clocks(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.skew_ms = random.between(200, 2_000);
    config.drift_ppm = *random.pick(&[200, 350_000, 350_000]);
    config.workload.expiring_percent = 20;
    mix.add(&[
        (Fault::ClockJump, 6),
        (Fault::FrozenClock, 4),
        (Fault::CrashLeader, 3),
        (Fault::IsolateLeader, 8),
        (Fault::LongPause, 3),
        (Fault::OneWay, 2),
    ]);
}

/// Elections in a row, on slow disks that lose what was promised.
fn votes(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.latency = random.between(50, 500);
    config.disk_latency = random.between(2_000, 15_000);
    config.node.election_timeout_ms = random.between(100, 160);
    config.node.heartbeat_ms = 20;
    mix.every = random.between(40, 250) * MILLI;
    config.lasts_max = random.between(50, 500) * MILLI;
    config.faults_until = random.between(4, 6) * SECOND;
    mix.add(&[
        (Fault::CrashWriter, 12),
        (Fault::Kill, 3),
        (Fault::CrashLeader, 4),
        (Fault::Reset, 3),
        (Fault::IsolateLeader, 3),
        (Fault::Halves, 1),
    ]);
}

/// Leaders that reach one other node only, die, and come back: entries of old terms come to stand
/// on majorities without being committed, and are replaced [Raft §5.4.2, Figure 8].
fn figure_8(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.layout = local(5, 1, 5);
    config.latency = random.between(300, 3_000);
    config.disk_latency = random.between(50, 2_000);
    config.node.election_timeout_ms = random.between(100, 200);
    config.node.heartbeat_ms = 20;
    // Old entries and those of the new term travel one by one: only so can the old ones come to
    // stand on a majority before the others do.
    config.node.max_append_bytes = 64;
    config.shred_percent = 100;
    config.workload.pipeline_max = 2;
    config.workload.rest = 12 * MILLI;
    config.node.snapshot_log_bytes = 1 << 20;
    mix.every = random.between(300, 900) * MILLI;
    config.lasts_max = random.between(150, 600) * MILLI;
    config.faults_until = random.between(5, 11) * SECOND;
    mix.weights.clear();
    mix.add(&[
        (Fault::Figure8, 10),
        (Fault::PairOff, 2),
        (Fault::CrashLeader, 1),
        (Fault::CrashAtMoment, 6),
    ]);
}

fn failing_disks(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.node.snapshot_log_bytes = random.between(3, 24) << 10;
    config.storage.segment_bytes = random.between(48, 96) << 10;
    config.workload.filler = 500;
    mix.add(&[
        (Fault::WriteError, 4),
        (Fault::ReadError, 4),
        (Fault::NoSpace, 4),
        (Fault::RepeatedWrite, 3),
        (Fault::DiskHang, 3),
        (Fault::DiskStall, 2),
        (Fault::SlowDisk, 2),
        (Fault::CrashWriter, 2),
    ]);
}

/// Several disks are full at a time, and slow: leaders go, or their links do, while they hold
/// writes that are answered to nobody, and whoever is asked again has no room for them.
fn full_disks(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    config.node.snapshot_log_bytes = random.between(3, 24) << 10;
    config.workload.filler = 500;
    config.storage.segment_bytes = 48 << 10;
    config.storage.max_segments = *random.pick(&[3, 4]);
    config.storage.spare_segments = 1;
    config.disk_latency = *random.pick(&[500, 3_000, 12_000]);
    config.workload.rest = 12 * MILLI;
    config.workload.eager_percent = random.between(20, 60);
    config.lasts_max = random.between(500, 2_500) * MILLI;
    mix.every = random.between(80, 300) * MILLI;
    mix.weights.clear();
    mix.add(&[
        (Fault::NoSpace, 10),
        (Fault::Reset, 8),
        (Fault::CrashLeader, 2),
        (Fault::IsolateLeader, 3),
        (Fault::LongPause, 2),
        (Fault::SlowDisk, 3),
        (Fault::DiskStall, 2),
    ]);
}

/// Of what was acknowledged something is not there any more, or is something else.
fn damage(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    let nodes = *random.pick(&[3, 5]);
    config.layout = local(nodes, 1, nodes);
    config.node.snapshot_log_bytes = random.between(3, 48) << 10;
    mix.every = random.between(300, 900) * MILLI;
    mix.from += SECOND;
    config.faults_until = random.between(5, 10) * SECOND;
    mix.add(&[
        (Fault::Rot, 8),
        (Fault::LostWrite, 6),
        (Fault::MisdirectedWrite, 6),
        (Fault::WipedDisk, 3),
        (Fault::OlderDisk, 8),
        (Fault::LyingSync, 5),
        (Fault::Crash, 2),
        (Fault::CrashLeader, 2),
    ]);
    // Some nodes only learn what the cluster is: they are members, and no voters.
    if random.chance(25) {
        config.layout = local(*random.pick(&[6, 7]), 1, 3);
        mix.add(&[(Fault::WipedDisk, 20)]);
    }
}

/// Links that do what TCP should not let through.
fn wires(mix: &mut Mix, random: &mut Random) {
    mix.every = random.between(30, 200) * MILLI;
    mix.add(&[
        (Fault::WireFlip, 8),
        (Fault::Duplicate, 8),
        (Fault::Overtake, 8),
        (Fault::PacketLoss, 2),
        (Fault::CrashLeader, 1),
        (Fault::IsolateLeader, 1),
    ]);
}

fn everything(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    let nodes = *random.pick(&[3, 5, 5]);
    config.layout = layout(nodes, random);
    config.skew_ms = random.between(0, 1_000);
    config.workload.expiring_percent = 6;
    mix.every = random.between(150, 500) * MILLI;
    let weights: Vec<(Fault, u64)> = Fault::ALL.map(|fault| (fault, 2)).to_vec();
    mix.add(&weights);
}

/// Nodes ask for much at once of shards that they have no replica of, and leaders go, forget and
/// refuse while it is under way.
fn streams(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    let (nodes, shards) = (*random.pick(&[4, 5]), random.between(1, 3) as usize);
    config.layout = local(nodes, shards, 3);
    // Much is asked before what was asked first is durable.
    config.latency = *random.pick(&[100, 500, 2_000]);
    config.disk_latency = *random.pick(&[500, 3_000, 12_000]);
    config.node.hold_ms = random.between(250, 900);
    config.workload.plain_clients = random.between(4, 7) as usize;
    config.workload.pipeline_max = 8;
    config.workload.eager_percent = random.between(30, 80);
    config.workload.rest = random.between(40, 90) * MILLI;
    config.workload.read_percent = *random.pick(&[20, 40]);
    config.workload.expiring_percent = *random.pick(&[0, 20, 30]);
    mix.every = random.between(100, 500) * MILLI;
    config.lasts_max = random.between(100, 900) * MILLI;
    mix.add(&[
        (Fault::CrashLeader, 6),
        (Fault::IsolateLeader, 4),
        (Fault::Reset, 8),
        (Fault::LongPause, 4),
        (Fault::Pause, 2),
        (Fault::Clog, 2),
        (Fault::SlowLink, 2),
        (Fault::PairOff, 2),
        (Fault::NoSpace, 3),
        (Fault::DiskStall, 2),
    ]);
}

/// What one message has of a connection's requests is overtaken by the next, which has more.
fn crowded_wires(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    wires(mix, random);
    crowd(config, random);
    mix.add(&[(Fault::Overtake, 16)]);
}

/// Reads that wait for an expiry, or for their leader, meet others of the same connection that do
/// not.
fn crowded_streams(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    streams(config, mix, random);
    crowd(config, random);
    config.workload.expiring_percent = 30;
    config.workload.lives_max_ms = random.between(100, 400);
}

/// Clients ask for more of the few keys that all of them use before they are answered, so that what
/// one connection has asked for one key is under way in several messages.
fn crowd(config: &mut Config, random: &mut Random) {
    config.workload.keys = *random.pick(&[1, 1, 2]);
    config.workload.eager_percent = random.between(40, 90);
    config.workload.pipeline_max = random.between(2, 8);
    config.workload.read_percent = *random.pick(&[20, 40]);
    config.workload.rest = random.between(20, 60) * MILLI;
}

/// Little data in many places, and nothing goes wrong.
fn sectors(config: &mut Config, mix: &mut Mix) {
    config.layout = local(3, 2, 3);
    config.node.election_timeout_ms = 200;
    config.node.heartbeat_ms = 30;
    config.node.hold_ms = 3_000;
    config.node.snapshot_log_bytes = 12 << 10;
    config.storage.segment_bytes = 32 << 10;
    config.storage.max_segments = 4;
    config.storage.spare_segments = 1;
    config.workload = Workload {
        plain_clients: 4,
        cluster_clients: 1,
        pipeline_max: 4,
        pace: PACE,
        keys: KEYS,
        rest: 25 * MILLI,
        expiring_percent: 0,
        lives_max_ms: LIVES_MAX_MS,
        read_percent: 20,
        filler: 500,
        ballast: 0,
        impatient_permille: 0,
        eager_percent: 0,
    };
    mix.weights.clear();
}

/// Snapshots take longer to arrive than the log takes to grow by what makes the next one due, and
/// connections break while they are on their way.
fn catching_up(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    snapshots(config, mix, random);
    config.layout = local(3, 1, 3);
    config.node.snapshot_bytes_per_second = random.between(96, 256) << 10;
    config.workload.filler = random.between(600, 2_000) as usize;
    config.workload.read_percent = 10;
    mix.every = random.between(300, 900) * MILLI;
    mix.add(&[(Fault::Reset, 8), (Fault::IsolateLeader, 3), (Fault::Flapping, 2)]);
}

/// Two of five nodes lag, and whoever has caught up may have to send to the other what it has just
/// received: snapshots are rare, so that no newer one soon takes the place of one that travels.
fn stragglers(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    catching_up(config, mix, random);
    config.layout = local(5, 1, 5);
    config.node.snapshot_log_bytes = random.between(12, 96) << 10;
    config.node.snapshot_bytes_per_second = random.between(16, 128) << 10;
    config.workload.ballast = random.between(50, 150);
    mix.add(&[(Fault::Halves, 8), (Fault::PairOff, 4)]);
}

/// Who lags gets a snapshot that is torn on its way: it goes on where it was, or comes from another
/// leader. Nodes make snapshots at the same places, of other parts, and nothing newer comes soon.
fn torn_transfers(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    let nodes = *random.pick(&[3, 3, 4, 5]);
    config.layout = local(nodes, 1, nodes);
    config.node.snapshot_log_bytes = random.between(6, 24) << 10;
    config.node.snapshot_bytes_per_second = random.between(96, 400) << 10;
    config.latency = random.between(50, 600);
    config.disk_latency = random.between(50, 600);
    config.workload.plain_clients = random.between(2, 4) as usize;
    config.workload.cluster_clients = 0;
    config.workload.pipeline_max = 2;
    config.workload.eager_percent = 0;
    config.workload.rest = random.between(4, 15) * MILLI;
    // Several keys to a part, so that which ones are together depends on what was there before.
    config.node.snapshot_part_bytes = *random.pick(&[200, 500, 1_500]);
    config.workload.filler = random.between(100, 600) as usize;
    config.workload.ballast = random.between(40, 120);
    config.workload.expiring_percent = 0;
    config.workload.read_percent = 10;
    config.quiet_ending = random.chance(60);
    config.ending = Ending::Whole;
    config.faults_until = random.between(4, 8) * SECOND;
    mix.every = random.between(300, 1_200) * MILLI;
    mix.weights.clear();
    mix.add(&[
        (Fault::TornTransfer, 10),
        (Fault::Isolate, 1),
        (Fault::Crash, 1),
        (Fault::CrashLeader, 1),
    ]);
}

/// Snapshots keep parts of those before, while keys go by themselves.
fn expiring_parts(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    snapshots(config, mix, random);
    config.workload.expiring_percent = 40;
    config.workload.filler = random.between(0, 300) as usize;
    // A snapshot is built on the one before if most of that is as it was.
    config.workload.ballast = random.between(50, 150);
}

/// What speed is measured with: three nodes with one shard, and all else as the swarm draws it; its
/// clients ask little more than what makes a run a busy one.
fn speed(config: &mut Config, mix: &mut Mix, random: &mut Random) {
    swarm(config, mix, random);
    config.layout = local(3, 1, 3);
    let clients = config.workload.plain_clients + config.workload.cluster_clients;
    config.workload.rest = clients as Micros * 40 * MILLI;
}
