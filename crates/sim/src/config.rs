//! What a run is made of: the cluster, its limits, its clients and what goes wrong.

use flotilla_shard::Layout;

use crate::queue::Micros;

/// Everything a run is a function of, besides its seed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the family of scenarios.
    pub family: &'static str,
    /// The nodes and shards.
    pub layout: Layout,
    /// Limits and times of the nodes.
    pub node: flotilla_node::Options,
    /// How the logs use their disks.
    pub storage: flotilla_storage::Options,
    /// A byte usually takes so long between two nodes, microseconds.
    pub latency: Micros,
    /// A durable write usually takes so long, microseconds.
    pub disk_latency: Micros,
    /// The most by which a wall clock is wrong, milliseconds.
    pub skew_ms: u64,
    /// The most by which a monotonic clock is too fast or too slow, parts per million.
    pub drift_ppm: u64,
    /// The clients.
    pub workload: Workload,
    /// What goes wrong until [`Config::faults_until`].
    pub faults: Faults,
    /// When everything is repaired.
    pub faults_until: Micros,
    /// What is made wrong on purpose.
    pub mutant: Option<Mutant>,
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Clients of plain ports.
    pub plain_clients: usize,
    /// Clients of cluster ports.
    pub cluster_clients: usize,
    /// The most requests sent before an answer is awaited.
    pub pipeline_max: u64,
    /// A client usually rests so long between its requests, microseconds.
    pub rest: Micros,
    /// Out of 100 keys so many get a time to live.
    pub expiring_percent: u64,
    /// Bytes added to some values, so that logs and snapshots grow.
    pub filler: usize,
    /// Out of 1000 batches of requests, so many are not waited for.
    pub impatient_permille: u64,
}

/// What goes wrong, and how often.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Faults begin after this time.
    pub from: Micros,
    /// The usual time between two faults, microseconds.
    pub every: Micros,
    /// Which faults, with their weights.
    pub weights: Vec<(Fault, u64)>,
    /// How long a fault lasts at most, microseconds.
    pub lasts_max: Micros,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node loses its power.
    Crash,
    /// A node that leads a shard loses its power.
    CrashLeader,
    /// A node that is writing to its log loses its power, and is soon back.
    CrashWriter,
    /// A node loses its power several times while it starts.
    CrashLoop,
    /// All nodes lose their power.
    PowerLoss,
    /// The network falls into two parts.
    Halves,
    /// A node is cut off.
    Isolate,
    /// A node that leads a shard is cut off.
    IsolateLeader,
    /// Two parts that only one node reaches both of.
    Bridge,
    /// Bytes pass between two nodes in one direction only.
    OneWay,
    /// A connection between nodes breaks.
    Reset,
    /// A client's connection breaks.
    ClientReset,
    /// Messages between two nodes take long.
    SlowLink,
    /// A disk becomes slow.
    SlowDisk,
    /// A disk does not answer for a while.
    DiskStall,
    /// A process stands still.
    Pause,
    /// A wall clock jumps.
    ClockJump,
}

/// A known mistake, made by the world around the nodes, which the checkers must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A write is reported durable before it is on the disk.
    ReportsBeforeSync,
    /// A sync does nothing.
    LyingSync,
    /// A node comes up without the entries of its log, but with its votes and its name.
    ForgetsLog,
    /// A node comes up without its last votes.
    ForgetsVotes,
    /// What was not answered is sent once more, as if it were new.
    RepeatsRequests,
    /// A read is answered with what was read before.
    StaleReads,
    /// What a client wrote is answered although it was not sent.
    LosesWrites,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ReportsBeforeSync,
        Self::LyingSync,
        Self::ForgetsLog,
        Self::ForgetsVotes,
        Self::RepeatsRequests,
        Self::StaleReads,
        Self::LosesWrites,
    ];
}
