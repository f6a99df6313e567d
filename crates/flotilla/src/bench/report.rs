//! What was measured, for people and for programs.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::options::Bench;
use super::ratio::Ratio;
use super::row::Row;
use super::sizes::Sizes;
use super::system::System;

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
    /// All runs, in the order of `results` and of time.
    #[serde(skip)]
    pub(crate) runs: Vec<Row>,
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
    /// `closed` or `open`.
    pub(crate) r#loop: &'static str,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    pub(crate) value_bytes: Sizes,
    pub(crate) keys: u64,
    pub(crate) rounds: usize,
    pub(crate) warmup_seconds: f64,
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

impl Report {
    /// The report on these rows and the runs that they stand for.
    pub(crate) fn new(
        bench: &Bench,
        systems: &[System],
        results: Vec<Row>,
        runs: Vec<Row>,
    ) -> Self {
        let mut caveats: Vec<String> =
            systems.iter().flat_map(|system| system.caveats.clone()).collect();
        if cfg!(debug_assertions) {
            caveats.push("this program is a debug build".to_owned());
        }
        caveats.extend(results.iter().flat_map(Row::caveats));
        let settings = Settings {
            r#loop: if bench.rate.is_some() { "open" } else { "closed" },
            connections: bench.connections,
            pipeline: bench.pipeline,
            value_bytes: bench.value_bytes,
            keys: bench.keys,
            rounds: bench.rounds(),
            warmup_seconds: bench.warmup,
        };
        let machine = Machine::here();
        Self { quotable: caveats.is_empty(), caveats, machine, settings, results, runs }
    }

    /// The report as text: a table, and below it what speaks against it.
    pub(crate) fn for_people(&self) -> String {
        let (machine, settings) = (&self.machine, &self.settings);
        let mut out = format!(
            "{} × {}, Linux {}\n{} loop, connections: {}, requests at once on each: {}, value \
             bytes: {}, keys: {}\n\n{}\n",
            machine.processors,
            machine.processor,
            machine.kernel,
            settings.r#loop,
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
        let is_open = self.settings.r#loop == "open";
        let other = self.results.iter().find_map(|row| row.ratios.as_ref());
        let ratio_of = other.map(|ratios| {
            let of = if is_open { "p99 × " } else { "× " };
            format!("{of}{}", ratios.to)
        });
        let mut header = vec!["system", "workload", "per second", "p50", "p99", "p99.9", "max"];
        header.extend(["servers' CPU", "all but generator", "generator"]);
        if is_open {
            header.insert(2, "asked for");
        }
        header.extend(ratio_of.as_deref());
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header);
        for row in &self.results {
            table.add_row(cells(row, ratio_of.is_some()));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

fn cells(row: &Row, has_ratio: bool) -> Vec<String> {
    let (latency, cpu) = (row.latency_micros, row.cpu_micros_per_operation);
    let mut cells = vec![row.system.clone(), row.label.clone()];
    cells.extend(row.offered_per_second.map(|rate| format!("{rate:.0}")));
    cells.push(format!("{:.0}", row.operations_per_second));
    let times = [latency.p50, latency.p99, latency.p999, latency.max].map(Some);
    let costs = [cpu.servers, cpu.machine_without_generator, cpu.generator];
    cells.extend(times.into_iter().chain(costs).map(micros));
    if has_ratio {
        let ratio = row.ratios.as_ref().and_then(|ratios| match row.offered_per_second {
            Some(_) => ratios.p99,
            None => ratios.operations_per_second,
        });
        cells.push(ratio.map_or_else(String::new, shown));
    }
    cells
}

fn shown(ratio: Ratio) -> String {
    match ratio.interval {
        Some([low, high]) => format!("{:.2} ({low:.2} to {high:.2})", ratio.median),
        None => format!("{:.2}", ratio.median),
    }
}

/// A time with three digits and its unit.
pub(crate) fn micros(micros: Option<f64>) -> String {
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

    #[test]
    fn times_have_three_digits() {
        let texts =
            [1.234, 12.34, 123.4, 999.6, 12_340.0, 123_400.0].map(|time| micros(Some(time)));
        assert_eq!(texts, ["1.23 µs", "12.3 µs", "123 µs", "1.00 ms", "12.34 ms", "123 ms"]);
    }

    #[test]
    fn a_ratio_shows_how_sure_it_is() {
        let ratio = Ratio { pairs: 7, median: 0.851, interval: Some([0.8, 0.913]) };
        assert_eq!(shown(ratio), "0.85 (0.80 to 0.91)");
        assert_eq!(shown(Ratio { interval: None, ..ratio }), "0.85");
    }
}
