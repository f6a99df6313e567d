//! What a run is made of: the cluster, its limits, its clients and what goes wrong.

use flotilla_shard::Layout;

use crate::fault::{Fault, Planned};
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
    /// A node is told that its log takes one byte on disk for so many: a frame takes whole blocks,
    /// and those of a run hold little.
    pub padding: u64,
    /// How frames of the log are written.
    pub driver: Driver,
    /// A byte usually takes so long between two nodes, microseconds.
    pub latency: Micros,
    /// A durable write usually takes so long, microseconds.
    pub disk_latency: Micros,
    /// The most by which a wall clock is wrong, milliseconds.
    pub skew_ms: u64,
    /// The most by which a monotonic clock is too fast or too slow, parts per million.
    pub drift_ppm: u64,
    /// Out of 100 sends so many arrive in several pieces.
    pub shred_percent: u64,
    /// The last machine is switched on so much later than the others, microseconds.
    pub latecomer: Micros,
    /// The clients.
    pub workload: Workload,
    /// What goes wrong, by time.
    pub plan: Vec<Planned>,
    /// How long what goes wrong lasts at most, microseconds.
    pub lasts_max: Micros,
    /// When everything is repaired, since the beginning of the run.
    pub faults_until: Micros,
    /// What comes before that.
    pub ending: Ending,
    /// Whether clients ask for nothing new from then on.
    pub quiet_ending: bool,
    /// What is made wrong on purpose.
    pub mutant: Option<Mutant>,
}

impl Config {
    /// The most by which a wall clock is ever wrong, milliseconds: one that stands still falls
    /// behind.
    pub(crate) fn wall_error_ms(&self) -> u64 {
        let freezes = self.plan.iter().any(|planned| planned.fault == Fault::FrozenClock);
        self.skew_ms + if freezes { self.lasts_max / 1_000 + 1 } else { 0 }
    }
}

/// How frames of the log get to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The node's own thread writes, and does nothing else meanwhile.
    Inline,
    /// Another thread writes, one frame after the other.
    Threaded,
    /// The system writes several frames at once, and they are done in any order.
    Asynchronous,
}

impl Driver {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inline, Self::Threaded, Self::Asynchronous];

    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Threaded => "threaded",
            Self::Asynchronous => "asynchronous",
        }
    }
}

/// What happens when the time of faults is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is repaired.
    Whole,
    /// First a quorum of every shard is repaired, and the rest is gone for ever: every shard must
    /// make progress. Then the rest comes back all the same. The word says who and how.
    Quorum(u64),
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
    /// While fewer operations per second than this were answered since the beginning, clients rest
    /// less: what a fault has cost is caught up with.
    pub pace: u64,
    /// Out of 100 commands so many are about keys with a time to live.
    pub expiring_percent: u64,
    /// The longest of those times, milliseconds.
    pub lives_max_ms: u64,
    /// Keys of each kind that are in use at a time.
    pub keys: usize,
    /// Out of 100 commands so many are reads.
    pub read_percent: u64,
    /// Bytes added to some values, so that logs and snapshots grow.
    pub filler: usize,
    /// Keys that are written at the beginning and never again.
    pub ballast: u64,
    /// Out of 1000 batches of requests, so many are not waited for.
    pub impatient_permille: u64,
    /// Out of 100 batches of requests, so many are followed by another one on the same connection
    /// before they are answered.
    pub eager_percent: u64,
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
    /// A node comes up without the last entry of its log.
    ForgetsLastEntry,
    /// What was not answered is sent once more, as if it were new.
    RepeatsRequests,
    /// A read is answered with what was read before.
    StaleReads,
    /// What a client wrote is answered although it was not sent.
    LosesWrites,
    /// Two answers to one client are swapped.
    SwapsReplies,
    /// A key with a time to live is answered with its value long after.
    UndeadKeys,
    /// A key with a time to live gets half of it.
    HastyExpiry,
    /// All wall clocks are far ahead of what they may be in this run.
    HastyClocks,
    /// Of a write to several keys of one slot, a read sees only a part.
    TornWrites,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ReportsBeforeSync,
        Self::LyingSync,
        Self::ForgetsLog,
        Self::ForgetsVotes,
        Self::ForgetsLastEntry,
        Self::RepeatsRequests,
        Self::StaleReads,
        Self::LosesWrites,
        Self::SwapsReplies,
        Self::UndeadKeys,
        Self::HastyExpiry,
        Self::HastyClocks,
        Self::TornWrites,
    ];
}
