//! The flags of `flotilla bench`.

use std::path::PathBuf;

use clap::Args;

use super::arrivals::Rate;
use super::commands::KEYS_MAX;
use super::keys::Distribution;
use super::sizes::Sizes;
use super::workload::{Mix, Workload};

/// Rounds of a comparison, unless others are asked for: enough for an interval.
const ROUNDS_OF_COMPARISON: usize = 7;

/// `flotilla bench`
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// The servers to load, connections spread evenly; etcd://IP:PORT for an etcd
    /// [default: all nodes of the cluster of 127.0.0.1:7001]
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', help_heading = SERVERS)]
    pub(crate) at: Vec<String>,
    /// Other servers to compare those of --at with, turn by turn in the same run
    #[arg(
        long,
        value_name = "IP:PORT",
        value_delimiter = ',',
        conflicts_with = "vs_redis",
        help_heading = SERVERS
    )]
    pub(crate) vs: Vec<String>,
    /// Compare with a redis-server that syncs every write, started for this run
    #[arg(long, help_heading = SERVERS)]
    pub(crate) vs_redis: bool,
    /// Where that redis-server keeps its log, and where --gate probes the disk; to be fair, on the
    /// servers' disk
    #[arg(long, value_name = "DIRECTORY", default_value = ".", help_heading = SERVERS)]
    pub(crate) redis_data: PathBuf,
    /// The servers' process ids [default: the processes on this machine that listen there]
    #[arg(long, value_delimiter = ',', help_heading = SERVERS)]
    pub(crate) pids: Vec<u32>,
    /// The same of those that --vs names
    #[arg(long, value_delimiter = ',', requires = "vs", help_heading = SERVERS)]
    pub(crate) vs_pids: Vec<u32>,
    /// How many connections
    #[arg(long, default_value_t = 50, value_parser = at_least_one, help_heading = LOAD)]
    pub(crate) connections: usize,
    /// How many requests a connection may have open at once; in a closed loop it sends so many, and
    /// again once it has all replies
    #[arg(long, default_value_t = 1, value_parser = at_least_one, help_heading = LOAD)]
    pub(crate) pipeline: usize,
    /// Open loop: so many operations a second in all, or as in 50% this share of what each system
    /// does in a closed loop before, at random moments (Poisson), whether or not the servers keep
    /// up; a latency counts from when an operation was due [default: closed loop, each connection
    /// sends again once it has its replies]
    #[arg(long, value_name = "PER-SECOND|PERCENT%", help_heading = LOAD)]
    pub(crate) rate: Option<Rate>,
    /// What to measure, one after the other; mixed is GET and SET by --read-share
    #[arg(long, value_delimiter = ',', default_value = "set,get", help_heading = LOAD)]
    pub(crate) workload: Vec<Workload>,
    /// Measure the mixed workload with this share of GETs, from 0 to 1 [default of mixed: 0.5]
    #[arg(
        long,
        value_name = "SHARE",
        conflicts_with = "workload",
        value_parser = share,
        help_heading = LOAD
    )]
    pub(crate) read_share: Option<f64>,
    /// How keys are chosen [default: zipfian for the workloads of YCSB, else uniform]
    #[arg(long, help_heading = LOAD)]
    pub(crate) distribution: Option<Distribution>,
    /// Size of a value, or two sizes between which it is drawn, as in 16..1024
    #[arg(long, value_name = "BYTES", default_value = "64", help_heading = LOAD)]
    pub(crate) value_bytes: Sizes,
    /// How many keys, of 16 bytes: key:000000000000 and so on; all are set before anything is
    /// measured
    #[arg(
        long,
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX),
        help_heading = LOAD
    )]
    pub(crate) keys: u64,
    /// How long to measure
    #[arg(
        long,
        default_value_t = 5.0,
        value_parser = seconds,
        conflicts_with = "requests",
        help_heading = TIME
    )]
    pub(crate) seconds: f64,
    /// Measure so many operations instead
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), help_heading = TIME)]
    pub(crate) requests: Option<u64>,
    /// Seconds of the same load before
    #[arg(long, default_value_t = 1.0, value_parser = seconds, help_heading = TIME)]
    pub(crate) warmup: f64,
    /// Measure each workload so often, and show the median run [default: 1, or 7 to compare]
    #[arg(long, value_parser = at_least_one, help_heading = TIME)]
    pub(crate) rounds: Option<usize>,
    /// Probe the machine before and after each run, and measure again what was disturbed, as often
    /// again as there are rounds at most
    #[arg(long, help_heading = TIME)]
    pub(crate) gate: bool,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
    /// Write every run as a line of comma-separated values
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) csv: Option<PathBuf>,
    /// Draw the latencies by percentile
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) svg: Option<PathBuf>,
    /// Write the whole distributions of latencies, a file for each system and workload, as
    /// HdrHistogram's tools read them
    #[arg(long, value_name = "DIRECTORY", help_heading = OUTPUT)]
    pub(crate) hgrm: Option<PathBuf>,
}

const SERVERS: &str = "Servers";
const LOAD: &str = "Load";
const TIME: &str = "Time and noise";
const OUTPUT: &str = "Output";

const EXAMPLES: &str = "\
Examples:
  flotilla bench                                    the cluster of `flotilla up`: SET, then GET
  flotilla bench --vs-redis --svg latency.svg       beside a redis-server that syncs every write
  flotilla bench --at 10.0.0.1:6379 --vs 10.0.0.2:6379 --workload ycsb-a,ycsb-b --keys 1000000
                                                    any two servers that speak the Redis protocol
  flotilla bench --rate 20000 --workload set        how long requests take at 20,000 a second
  flotilla bench --rate 50% --vs etcd://10.0.0.3:2379
                                                    and at half of what each system can do
  REDISCLI_AUTH=secret flotilla bench --at ...      servers that want a password

Servers are loaded with the keys and values of the test: don't point it at data you need.";

impl Bench {
    /// What to measure.
    pub(crate) fn mixes(&self) -> Vec<Mix> {
        let mut mixes: Vec<Mix> = match self.read_share {
            Some(share) => vec![Mix::of_share(share)],
            None => self.workload.iter().map(|workload| workload.mix()).collect(),
        };
        for mix in &mut mixes {
            mix.distribution = self.distribution.unwrap_or(mix.distribution);
        }
        mixes
    }

    /// Whether there are two systems.
    pub(crate) fn is_comparison(&self) -> bool {
        self.vs_redis || !self.vs.is_empty()
    }

    /// How often each workload is measured.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.is_comparison() { ROUNDS_OF_COMPARISON } else { 1 })
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("it is no number".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it must be from 0 to 1".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    // A day is more than anybody measures, and no duration overflows by it.
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "it must be seconds, a day at most".to_owned())
}
