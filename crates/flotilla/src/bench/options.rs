//! The flags of `flotilla bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::generator::Until;
use super::requests::KEYS_MAX;

/// `flotilla bench`
#[derive(Clone, Debug, Args)]
pub(crate) struct Bench {
    /// The servers to load, connections spread evenly [default: all nodes of the cluster of
    /// 127.0.0.1:7001]
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',')]
    pub(crate) at: Vec<String>,
    /// How many connections; each sends again once it has all its replies
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub(crate) connections: usize,
    /// How many requests a connection sends at once
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) pipeline: usize,
    /// What to measure, one after the other; mixed is GET and SET by --read-share
    #[arg(long, value_delimiter = ',', default_value = "set,get")]
    pub(crate) workload: Vec<Workload>,
    /// Measure the mixed workload with this share of GETs, from 0 to 1 [default of mixed: 0.5]
    #[arg(long, value_name = "SHARE", conflicts_with = "workload", value_parser = share)]
    pub(crate) read_share: Option<f64>,
    /// Size of a value
    #[arg(long, default_value_t = 64)]
    pub(crate) value_bytes: usize,
    /// How many keys, of 16 bytes; all are set before anything is measured
    #[arg(
        long,
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX)
    )]
    pub(crate) keys: u64,
    /// How long to measure
    #[arg(long, default_value_t = 5.0, value_parser = seconds, conflicts_with = "requests")]
    pub(crate) seconds: f64,
    /// Measure so many requests instead
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Seconds of the same load before
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) warmup: f64,
    /// Measure each workload so often, and show the median run
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// The servers' process ids [default: the processes on this machine that listen there]
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Measure a redis-server that syncs every write in the same run, turn by turn
    #[arg(long)]
    pub(crate) vs_redis: bool,
    /// Where that redis-server keeps its log; to be fair, on the nodes' disk
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) redis_data: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// SET only
    Set,
    /// GET only
    Get,
    /// Both
    Mixed,
}

impl Bench {
    /// What to measure, each with its share of reads.
    pub(crate) fn read_shares(&self) -> Vec<f64> {
        if let Some(share) = self.read_share {
            return vec![share];
        }
        let share = |workload: &Workload| match workload {
            Workload::Set => 0.0,
            Workload::Get => 1.0,
            Workload::Mixed => 0.5,
        };
        self.workload.iter().map(share).collect()
    }

    /// When a measurement ends.
    pub(crate) fn until(&self) -> Until {
        match self.requests {
            Some(requests) => Until::Replies(requests),
            None => Until::Elapsed(Duration::from_secs_f64(self.seconds)),
        }
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
