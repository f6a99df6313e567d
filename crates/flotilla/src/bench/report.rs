//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::generator::Tally;
use super::options::Bench;
use super::processes::Sample;
use super::system::System;

/// Steal above this share of the time, in percent, is noise.
const STEAL_PERCENT_MAX: f64 = 1.0;

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing speaks against quoting these numbers.
    pub(crate) quotable: bool,
    /// What does.
    pub(crate) caveats: Vec<String>,
    /// Where it was measured.
    pub(crate) machine: Machine,
    /// How.
    pub(crate) settings: Settings,
    /// The median runs, in order of workload.
    pub(crate) results: Vec<Row>,
}

/// The machine of the generator.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// How many processors this process may use.
    pub(crate) processors: usize,
    /// The kernel's version.
    pub(crate) kernel: String,
}

/// What the flags said.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    connections: usize,
    pipeline: usize,
    value_bytes: usize,
    keys: u64,
    rounds: usize,
    warmup_seconds: f64,
}

/// A system under one workload: the run that has the median throughput.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// The system, with its version.
    pub(crate) system: String,
    /// Where the connections went.
    pub(crate) targets: Vec<String>,
    /// `set`, `get` or `mixed`.
    pub(crate) workload: &'static str,
    /// From 0 to 1.
    pub(crate) read_share: f64,
    /// Replies that are no errors.
    pub(crate) operations: u64,
    /// Those of them that had no value.
    pub(crate) nulls: u64,
    /// Replies that are errors.
    pub(crate) errors: u64,
    /// Connections that broke.
    pub(crate) broken_connections: u64,
    /// What the first error or broken connection was.
    pub(crate) first_trouble: Option<String>,
    /// How long it was measured.
    pub(crate) seconds: f64,
    /// Operations per second.
    pub(crate) operations_per_second: f64,
    /// Microseconds.
    pub(crate) latency_micros: Latency,
    /// Microseconds of CPU time.
    pub(crate) cpu_micros_per_operation: Cpu,
    /// Time that the machine's host did not give, in percent of all.
    pub(crate) steal_percent: f64,
    /// Operations per second of all rounds, this one too, in the order measured.
    pub(crate) rounds: Vec<f64>,
    /// Operations per second relative to `redis-server` in the same round, the median of rounds.
    pub(crate) ratio_to_redis: Option<f64>,
}

/// Microseconds from sending to receiving: shares of the requests did not take longer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    /// Of how many requests: all but those that were under way at the start.
    requests: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Microseconds of CPU time per operation; `None` where it can't be known.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cpu {
    /// Of all servers together.
    servers: Option<f64>,
    /// Of this process.
    generator: Option<f64>,
    /// Of the whole machine but this process: the servers, the kernel's threads, and whatever else
    /// ran.
    machine_without_generator: Option<f64>,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let name = cpus.lines().find_map(|line| {
            line.split_once(':').filter(|(field, _)| field.trim() == "model name")
        });
        Self {
            processor: name.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl Row {
    /// Puts together what one run gave.
    pub(crate) fn new(
        system: &System,
        read_share: f64,
        tally: Tally,
        (before, after): (Sample, Sample),
    ) -> Self {
        let micros = |latency: Duration| latency.as_nanos() as f64 / 1_000.0;
        let quantile = |share| micros(tally.latencies.quantile(share));
        let seconds = tally.elapsed.as_secs_f64();
        let spent = |time: fn(&Sample) -> Option<Duration>| {
            time(&after).zip(time(&before)).map(|(after, before)| after.saturating_sub(before))
        };
        let each = |time: Duration| micros(time) / tally.answered.max(1) as f64;
        let generator = spent(|sample| sample.generator);
        let machine = spent(|sample| sample.machine).zip(generator);
        let stolen = spent(|sample| sample.stolen).unwrap_or_default().as_secs_f64();
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let throughput = tally.answered as f64 / seconds;
        Self {
            system: system.name.clone(),
            targets: system.targets.iter().map(ToString::to_string).collect(),
            workload: workload_name(read_share),
            read_share,
            operations: tally.answered,
            nulls: tally.nulls,
            errors: tally.errors,
            broken_connections: tally.broken,
            first_trouble: tally.first_trouble.clone(),
            seconds,
            operations_per_second: throughput,
            latency_micros: Latency {
                requests: tally.latencies.count(),
                p50: quantile(0.5),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: micros(tally.latencies.max()),
            },
            cpu_micros_per_operation: Cpu {
                servers: spent(|sample| sample.servers).map(each),
                generator: generator.map(each),
                machine_without_generator: machine
                    .map(|(machine, generator)| each(machine.saturating_sub(generator))),
            },
            steal_percent: 100.0 * stolen / (seconds * processors),
            rounds: vec![throughput],
            ratio_to_redis: None,
        }
    }

    /// The row of median throughput, which remembers the throughput of all; there is at least one.
    pub(crate) fn median(rows: &[Self]) -> Self {
        let mut sorted: Vec<&Self> = rows.iter().collect();
        sorted.sort_by(|a, b| a.operations_per_second.total_cmp(&b.operations_per_second));
        let mut row = sorted[(sorted.len() - 1) / 2].clone();
        row.rounds = rows.iter().map(|row| row.operations_per_second).collect();
        row
    }

    /// Why the row is not to be quoted.
    fn caveats(&self) -> impl Iterator<Item = String> {
        let of = format!("{}, {}", self.system, self.workload);
        let trouble = self.first_trouble.clone().unwrap_or_default();
        let errors = (self.errors + self.broken_connections > 0).then(|| {
            let (errors, broken) = (self.errors, self.broken_connections);
            format!("{of}: {errors} errors, {broken} broken connections; the first: {trouble}")
        });
        let nothing = (self.operations == 0).then(|| format!("{of}: nothing was answered"));
        let nulls = (self.nulls > 0).then(|| format!("{of}: {} values were not there", self.nulls));
        let stolen = (self.steal_percent > STEAL_PERCENT_MAX).then(|| {
            format!("{of}: the host gave {:.1} % of the time to others", self.steal_percent)
        });
        [errors, nothing, nulls, stolen].into_iter().flatten()
    }
}

fn workload_name(read_share: f64) -> &'static str {
    match read_share {
        0.0 => "set",
        1.0 => "get",
        _ => "mixed",
    }
}

impl Report {
    /// The report on these rows.
    pub(crate) fn new(bench: &Bench, systems: &[System], results: Vec<Row>) -> Self {
        let mut caveats: Vec<String> =
            systems.iter().flat_map(|system| system.caveats.clone()).collect();
        if cfg!(debug_assertions) {
            caveats.push("this program is a debug build".to_owned());
        }
        caveats.extend(results.iter().flat_map(Row::caveats));
        let settings = Settings {
            connections: bench.connections,
            pipeline: bench.pipeline,
            value_bytes: bench.value_bytes,
            keys: bench.keys,
            rounds: bench.rounds,
            warmup_seconds: bench.warmup,
        };
        let machine = Machine::here();
        Self { quotable: caveats.is_empty(), caveats, machine, settings, results }
    }

    /// The report as text: a table, and below it what speaks against it.
    pub(crate) fn for_people(&self) -> String {
        let (machine, settings) = (&self.machine, &self.settings);
        let mut out = format!(
            "{} × {}, Linux {}\nconnections: {}, requests at once on each: {}, value bytes: {}, \
             keys: {}\n\n{}\n",
            machine.processors,
            machine.processor,
            machine.kernel,
            settings.connections,
            settings.pipeline,
            settings.value_bytes,
            settings.keys,
            self.table(),
        );
        let unknown = |row: &Row| row.cpu_micros_per_operation.servers.is_none();
        if self.results.iter().any(unknown) {
            out.push_str(
                "\nThe servers' processes are not all visible here; if they are on this machine, \
                 name them with --pids.\n",
            );
        }
        if !self.quotable {
            out.push_str("\nNot to be quoted:\n");
            for caveat in &self.caveats {
                writeln!(out, "- {caveat}").expect("a string takes everything");
            }
        }
        out
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header([
            "system",
            "workload",
            "per second",
            "p50",
            "p99",
            "p99.9",
            "max",
            "servers' CPU",
            "all but generator",
            "generator",
            "× redis",
        ]);
        for row in &self.results {
            let (latency, cpu) = (row.latency_micros, row.cpu_micros_per_operation);
            let workload = match row.workload {
                "mixed" => format!("{} % get", (row.read_share * 100.0).round()),
                name => name.to_owned(),
            };
            table.add_row([
                row.system.clone(),
                workload,
                format!("{:.0}", row.operations_per_second),
                micros(Some(latency.p50)),
                micros(Some(latency.p99)),
                micros(Some(latency.p999)),
                micros(Some(latency.max)),
                micros(cpu.servers),
                micros(cpu.machine_without_generator),
                micros(cpu.generator),
                row.ratio_to_redis.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// A time with three digits and its unit.
fn micros(micros: Option<f64>) -> String {
    match micros {
        None => "?".to_owned(),
        Some(micros) if micros < 9.995 => format!("{micros:.2} µs"),
        Some(micros) if micros < 99.95 => format!("{micros:.1} µs"),
        Some(micros) if micros < 999.5 => format!("{micros:.0} µs"),
        Some(micros) if micros < 99_950.0 => format!("{:.2} ms", micros / 1_000.0),
        Some(micros) => format!("{:.0} ms", micros / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> System {
        let targets = vec![std::net::SocketAddr::from(([127, 0, 0, 1], 7001))];
        System { name: "flotilla 0".to_owned(), targets, pids: vec![1], caveats: vec![] }
    }

    fn sample(millis: u64) -> Sample {
        let time = |millis| Some(Duration::from_millis(millis));
        Sample {
            servers: time(millis),
            generator: time(millis / 2),
            machine: time(millis * 2),
            stolen: time(0),
        }
    }

    fn row(answered: u64, errors: u64) -> Row {
        let mut tally = Tally { answered, errors, ..Tally::default() };
        tally.elapsed = Duration::from_secs(2);
        tally.latencies.record(Duration::from_micros(100), answered);
        Row::new(&system(), 0.0, tally, (sample(1_000), sample(2_000)))
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
        assert_eq!(row.caveats().count(), 0);
    }

    #[test]
    fn the_median_row_is_whole_and_remembers_the_others() {
        let rows = [row(30, 0), row(10, 0), row(20, 0)];
        let median = Row::median(&rows);
        assert_eq!((median.operations, median.rounds), (20, vec![15.0, 5.0, 10.0]));
    }

    #[test]
    fn trouble_is_a_caveat() {
        let caveats: Vec<_> = row(0, 7).caveats().collect();
        assert_eq!(caveats.len(), 2, "{caveats:?}");
        assert!(caveats[0].contains("7 errors"), "{caveats:?}");
    }

    #[test]
    fn times_have_three_digits() {
        let texts =
            [1.234, 12.34, 123.4, 999.6, 12_340.0, 123_400.0].map(|time| micros(Some(time)));
        assert_eq!(texts, ["1.23 µs", "12.3 µs", "123 µs", "1.00 ms", "12.34 ms", "123 ms"]);
    }
}
