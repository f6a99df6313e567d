//! What one run of one system gave, and the one run that stands for several.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::processes::Sample;
use super::ratio::Ratios;
use super::requests::Kind;
use super::system::System;
use super::tally::Tally;
use super::workload::Mix;

/// Steal above this share of the time, in percent, is noise.
pub(crate) const STEAL_PERCENT_MAX: f64 = 1.0;

/// A system under one workload: in a closed loop the run of median throughput, in an open one that
/// of the median p99.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The system, with its version.
    pub(crate) system: String,
    /// Where the connections went.
    pub(crate) targets: Vec<String>,
    /// As on the command line.
    pub(crate) workload: &'static str,
    /// As in the table.
    #[serde(skip)]
    pub(crate) label: String,
    /// From 0 to 1.
    pub(crate) read_share: f64,
    /// How keys were chosen.
    pub(crate) distribution: &'static str,
    /// Operations per second that were asked for in an open loop; `None` in a closed one.
    pub(crate) offered_per_second: Option<f64>,
    /// Operations that are done, without an error.
    pub(crate) operations: u64,
    /// Reads that found no value.
    pub(crate) nulls: u64,
    /// Operations that ended with an error.
    pub(crate) errors: u64,
    /// Operations without a reply at the end.
    pub(crate) unanswered: u64,
    /// Connections that broke.
    pub(crate) broken_connections: u64,
    /// What the first error or broken connection was.
    pub(crate) first_trouble: Option<String>,
    /// How long it was measured.
    pub(crate) seconds: f64,
    /// Operations per second.
    pub(crate) operations_per_second: f64,
    /// From when an operation was due, microseconds.
    pub(crate) latency_micros: Latency,
    /// From when it was sent, in an open loop.
    pub(crate) service_micros: Option<Latency>,
    /// The latencies of each kind, if there is more than one.
    pub(crate) latency_micros_of: BTreeMap<&'static str, Latency>,
    /// The longest time in which nothing was done.
    pub(crate) longest_gap_millis: f64,
    /// Microseconds of CPU time.
    pub(crate) cpu_micros_per_operation: Cpu,
    /// Time that the machine's host did not give, in percent of all.
    pub(crate) steal_percent: f64,
    /// Time that other processes took, in percent of all; `None` if that can't be told.
    pub(crate) foreign_percent: Option<f64>,
    /// What disturbed the run, or the first one of several that was.
    pub(crate) disturbed_by: Option<String>,
    /// How many runs, among those that this one stands for, were disturbed.
    pub(crate) disturbed_rounds: usize,
    /// Operations per second of all rounds, this one too, in the order measured.
    pub(crate) rounds: Vec<f64>,
    /// Operations per second relative to `redis-server` in the same round, the median of rounds.
    pub(crate) ratio_to_redis: Option<f64>,
    /// This system relative to the other one.
    pub(crate) ratios: Option<Ratios>,
    /// The latencies of all rounds.
    #[serde(skip)]
    pub(crate) histogram: Histogram,
}

/// Microseconds: shares of the operations did not take longer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    /// Of how many operations: all but those that were under way at the start.
    pub(crate) requests: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) p9999: f64,
    pub(crate) max: f64,
}

/// Microseconds of CPU time per operation; `None` where it can't be known.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cpu {
    /// Of all servers together.
    pub(crate) servers: Option<f64>,
    /// Of this process.
    pub(crate) generator: Option<f64>,
    /// Of the whole machine but this process: the servers, the kernel's threads, and whatever else
    /// ran.
    pub(crate) machine_without_generator: Option<f64>,
}

impl Latency {
    /// What a histogram says.
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let quantile = |share| micros(histogram.quantile(share));
        Self {
            requests: histogram.count(),
            mean: micros(histogram.mean()),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            p9999: quantile(0.9999),
            max: micros(histogram.max()),
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

impl Row {
    /// Puts together what one run gave; `rate` is that of an open loop.
    pub(crate) fn new(
        system: &System,
        mix: &Mix,
        rate: Option<f64>,
        tally: &Tally,
        (before, after): (Sample, Sample),
    ) -> Self {
        let seconds = tally.elapsed.as_secs_f64();
        let spent = |time: fn(&Sample) -> Option<Duration>| {
            time(&after).zip(time(&before)).map(|(after, before)| after.saturating_sub(before))
        };
        let each = |time: Duration| micros(time) / tally.answered.max(1) as f64;
        let generator = spent(|sample| sample.generator);
        let machine = spent(|sample| sample.machine).zip(generator);
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let percent = |time: Duration| 100.0 * time.as_secs_f64() / (seconds * processors);
        let throughput = tally.answered as f64 / seconds;
        let histogram = tally.latencies();
        let kinds = Kind::ALL.map(|kind| (kind.name(), tally.latencies_of(kind)));
        let latency_micros_of: BTreeMap<_, _> = (kinds.into_iter())
            .filter(|(_, one)| one.count() > 0 && one.count() < histogram.count())
            .map(|(name, one)| (name, Latency::of(one)))
            .collect();
        Self {
            system: system.name.clone(),
            targets: system.targets.iter().map(ToString::to_string).collect(),
            workload: mix.name,
            label: mix.label(),
            read_share: mix.reads,
            distribution: mix.distribution.name(),
            offered_per_second: rate,
            operations: tally.answered,
            nulls: tally.nulls,
            errors: tally.errors,
            unanswered: tally.unanswered,
            broken_connections: tally.broken,
            first_trouble: tally.first_trouble.clone(),
            seconds,
            operations_per_second: throughput,
            latency_micros: Latency::of(&histogram),
            service_micros: tally.service.as_ref().map(Latency::of),
            latency_micros_of,
            longest_gap_millis: micros(tally.longest_gap) / 1_000.0,
            cpu_micros_per_operation: Cpu {
                servers: spent(|sample| sample.servers).map(each),
                generator: generator.map(each),
                machine_without_generator: machine
                    .map(|(machine, generator)| each(machine.saturating_sub(generator))),
            },
            steal_percent: spent(|sample| sample.stolen).map_or(0.0, percent),
            foreign_percent: spent(|sample| sample.foreign).map(percent),
            disturbed_by: None,
            disturbed_rounds: 0,
            rounds: vec![throughput],
            ratio_to_redis: None,
            ratios: None,
            histogram,
        }
    }

    /// The row that stands for all of these, which remembers the throughput and the latencies of
    /// all; there is at least one.
    pub(crate) fn median(rows: &[Self]) -> Self {
        let rank = |row: &Self| match row.offered_per_second {
            None => row.operations_per_second,
            Some(_) => row.latency_micros.p99,
        };
        let mut sorted: Vec<&Self> = rows.iter().collect();
        sorted.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        let mut row = sorted[(sorted.len() - 1) / 2].clone();
        row.rounds = rows.iter().map(|row| row.operations_per_second).collect();
        row.disturbed_by = rows.iter().find_map(|row| row.disturbed_by.clone());
        row.disturbed_rounds = rows.iter().filter(|row| row.disturbed_by.is_some()).count();
        row.histogram = Histogram::default();
        for one in rows {
            row.histogram.add(&one.histogram);
        }
        row
    }

    /// Why the row is not to be quoted.
    pub(crate) fn caveats(&self) -> impl Iterator<Item = String> {
        let of = format!("{}, {}", self.system, self.label);
        let trouble = self.first_trouble.clone().unwrap_or_default();
        let errors = (self.errors + self.broken_connections > 0).then(|| {
            let (errors, broken) = (self.errors, self.broken_connections);
            format!("{of}: {errors} errors, {broken} broken connections; the first: {trouble}")
        });
        let nothing = (self.operations == 0).then(|| format!("{of}: nothing was answered"));
        let nulls = (self.nulls > 0).then(|| format!("{of}: {} values were not there", self.nulls));
        let behind = (self.unanswered > 0 && self.broken_connections == 0).then(|| {
            format!("{of}: it does not keep up, {} operations were not answered", self.unanswered)
        });
        let stolen = (self.steal_percent > STEAL_PERCENT_MAX).then(|| {
            format!("{of}: the host gave {:.1} % of the time to others", self.steal_percent)
        });
        let disturbed = self.disturbed_by.as_ref().map(|what| {
            let (disturbed, rounds) = (self.disturbed_rounds, self.rounds.len());
            format!("{of}: {disturbed} of {rounds} rounds were disturbed; the first: {what}")
        });
        [errors, nothing, nulls, behind, stolen, disturbed].into_iter().flatten()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::wire::Protocol;
    use std::time::Instant;

    fn system() -> System {
        let targets = vec![std::net::SocketAddr::from(([127, 0, 0, 1], 7001))];
        let (name, protocol) = ("flotilla 0".to_owned(), Protocol::Redis);
        System { name, protocol, targets, pids: vec![1], caveats: vec![] }
    }

    fn sample(millis: u64) -> Sample {
        let time = |millis| Some(Duration::from_millis(millis));
        Sample {
            servers: time(millis),
            generator: time(millis / 2),
            machine: time(millis * 2),
            stolen: time(0),
            foreign: None,
        }
    }

    /// A run of two seconds, each operation 100 µs.
    pub(crate) fn row(answered: u64, errors: u64) -> Row {
        let start = Instant::now();
        let mut tally = Tally::new(start, false);
        for _ in 0..answered {
            let now = start + Duration::from_micros(100);
            tally.count_answer(Kind::Write, start, start, now);
        }
        tally.errors = errors;
        tally.elapsed = Duration::from_secs(2);
        Row::new(&system(), &Mix::of_share(0.0), None, &tally, (sample(1_000), sample(2_000)))
    }

    #[test]
    fn costs_are_per_operation() {
        let row = row(10_000, 0);
        let cpu = row.cpu_micros_per_operation;
        assert_eq!(cpu.servers, Some(100.0));
        assert_eq!(cpu.generator, Some(50.0));
        assert_eq!(cpu.machine_without_generator, Some(150.0));
        assert!((row.operations_per_second - 5_000.0).abs() < 1e-9);
        assert!((row.latency_micros.p99 - 100.0).abs() < 1e-9);
        assert!(row.latency_micros_of.is_empty(), "there is one kind only");
        assert_eq!(row.caveats().count(), 0);
    }

    #[test]
    fn the_median_row_is_whole_and_remembers_the_others() {
        let mut rows = [row(30, 0), row(10, 0), row(20, 0)];
        rows[1].disturbed_by = Some("a build".to_owned());
        let median = Row::median(&rows);
        assert_eq!((median.operations, median.rounds.clone()), (20, vec![15.0, 5.0, 10.0]));
        assert_eq!(median.histogram.count(), 60);
        let caveats: Vec<_> = median.caveats().collect();
        let expected = "flotilla 0, set: 1 of 3 rounds were disturbed; the first: a build";
        assert_eq!(caveats, [expected]);
    }

    #[test]
    fn in_an_open_loop_the_median_is_that_of_the_tail() {
        let mut rows = [row(3, 0), row(1, 0), row(2, 0)];
        for (row, p99) in rows.iter_mut().zip([1.0, 2.0, 3.0]) {
            row.offered_per_second = Some(1.0);
            row.latency_micros.p99 = p99;
        }
        assert_eq!(Row::median(&rows).operations, 1);
    }

    #[test]
    fn trouble_is_a_caveat() {
        let caveats: Vec<_> = row(0, 7).caveats().collect();
        assert_eq!(caveats.len(), 2, "{caveats:?}");
        assert!(caveats[0].contains("7 errors"), "{caveats:?}");
    }
}
