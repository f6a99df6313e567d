//! Measuring systems in turns.
//!
//! Whatever is measured against each other is measured in the same run, A B B A …, since what a
//! machine gives changes from one minute to the next; the CPU time per operation changes least. One
//! turn of each system is a *round*, or a pair if there are two.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::arrivals::{Arrivals, Rate};
use super::generator::{Generator, Load, Until};
use super::noise::{self, Gate};
use super::options::Bench;
use super::processes::Sample;
use super::ratio::Ratios;
use super::requests::Requests;
use super::row::Row;
use super::system::System;
use super::tally::Tally;
use super::workload::Mix;
use crate::progress::Progress;

/// Before anything is measured, keys are set on connections of this number and pipeline.
const FILL_CONNECTIONS: usize = 16;
/// As [`FILL_CONNECTIONS`]; fewer if values are large.
const FILL_PIPELINE: usize = 64;
/// Bytes of values that a connection may have under way while keys are set.
const FILL_BYTES: usize = 256 << 10;

/// What measuring needs throughout.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    bench: &'a Bench,
    systems: &'a [System],
    /// What servers want to hear first.
    password: Option<String>,
    interrupted: Arc<AtomicBool>,
    gate: Option<Gate>,
    progress: Progress,
}

/// What one workload gave.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// For each system the row that stands for all rounds.
    pub(crate) rows: Vec<Row>,
    /// All rounds of the first system, then of the next.
    pub(crate) runs: Vec<Row>,
}

impl<'a> Session<'a> {
    /// Nothing measured yet. The flag ends everything.
    pub(crate) fn new(
        bench: &'a Bench,
        systems: &'a [System],
        password: Option<String>,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        let gate = bench.gate.then(|| Gate::new(&bench.redis_data));
        Self { bench, systems, password, interrupted, gate, progress: Progress::new() }
    }

    /// Sets every key of every system once.
    pub(crate) fn fill(&mut self) -> anyhow::Result<()> {
        let Bench { keys, value_bytes, .. } = *self.bench;
        for system in self.systems {
            let pipeline = (FILL_BYTES / value_bytes.most().max(1)).clamp(1, FILL_PIPELINE);
            let mut requests = Requests::fill(keys, value_bytes);
            let mut generator = self.connect(system, FILL_CONNECTIONS, pipeline)?;
            let mut watch = |tally: &Tally| {
                let done = tally.answered;
                self.progress.show(|| format!("{}: {done} of {keys} keys set", system.name));
            };
            let filled = generator.run_closed(&mut requests, Until::Ended(keys), &mut watch);
            let tally = filled.with_context(|| format!("setting the keys in {}", system.name))?;
            if let Some(trouble) = tally.first_trouble {
                bail!("setting the keys in {}: {trouble}", system.name);
            }
            generator.finish()?;
        }
        self.progress.clear();
        Ok(())
    }

    /// Measures one workload, the one of this number, in all rounds.
    pub(crate) fn measure(&mut self, mix: &Mix, number: usize) -> anyhow::Result<Measured> {
        let rounds = self.bench.rounds();
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        let rates = self.rates(mix, number)?;
        let turns_max = if self.gate.is_some() { 2 * rounds } else { rounds };
        for turn in 0..turns_max {
            if quiet.len() == rounds {
                break;
            }
            let round = self.round(mix, &rates, number, turn)?;
            match round.iter().find_map(|row| row.disturbed_by.clone()) {
                None => quiet.push(round),
                Some(what) => {
                    self.progress.say(&format!("{}, round {}: {what}", mix.label(), turn + 1));
                    disturbed.push(round);
                }
            }
        }
        // What is left of a machine that is never quiet is better than nothing, and says so.
        let missing = rounds - quiet.len();
        quiet.extend(disturbed.into_iter().take(missing));
        self.progress.clear();
        Ok(Measured::of_rounds(&quiet, self.bench.vs_redis))
    }

    /// A run of each system.
    fn round(
        &mut self,
        mix: &Mix,
        rates: &[Option<f64>],
        number: usize,
        turn: usize,
    ) -> anyhow::Result<Vec<Row>> {
        let mut order: Vec<usize> = (0..self.systems.len()).collect();
        if (turn + number) % 2 == 1 {
            order.reverse();
        }
        let mut rows = vec![None; order.len()];
        for at in order {
            let system = &self.systems[at];
            // Every system gets the same requests, and every round others.
            let seed = ((number as u64) << 32) | turn as u64;
            let what = format!("{}, round {}: {}", mix.label(), turn + 1, system.name);
            let row = self.run(system, mix, rates[at], seed, &what);
            rows[at] = Some(row.with_context(|| format!("measuring {}", system.name))?);
        }
        Ok(rows.into_iter().flatten().collect())
    }

    /// How much each system is asked for; `None` in a closed loop.
    fn rates(&mut self, mix: &Mix, number: usize) -> anyhow::Result<Vec<Option<f64>>> {
        let systems = self.systems;
        let rate = |system: &System| match self.bench.rate {
            None => Ok(None),
            Some(Rate::PerSecond(rate)) => Ok(Some(rate)),
            Some(Rate::OfPeak(share)) => {
                let what = format!("{}, the peak: {}", mix.label(), system.name);
                // Other requests than those of any round.
                let seed = ((number as u64) << 32) | u64::from(u32::MAX);
                let row = self.run(system, mix, None, seed, &what);
                let row = row.with_context(|| format!("the peak of {}", system.name))?;
                if row.operations == 0 {
                    bail!("{} has answered nothing: there is no peak", system.name);
                }
                Ok(Some(share * row.operations_per_second))
            }
        };
        systems.iter().map(rate).collect()
    }

    fn run(
        &mut self,
        system: &System,
        mix: &Mix,
        rate: Option<f64>,
        seed: u64,
        what: &str,
    ) -> anyhow::Result<Row> {
        let Bench { connections, pipeline, keys, value_bytes, warmup, .. } = *self.bench;
        let before = self.probe()?;
        let mut generator = self.connect(system, connections, pipeline)?;
        let mut requests = Requests::random(keys, value_bytes, mix, seed);
        let warmup = Duration::from_secs_f64(warmup);
        if !warmup.is_zero() {
            let load = (rate, Span::Time(warmup), !seed);
            self.put_load(&mut generator, &mut requests, load, what)?;
        }
        // While one system is measured, the other one waits; to wait costs a little as well.
        let known: Vec<u32> = self.systems.iter().flat_map(|one| one.pids.clone()).collect();
        let sample = Sample::take(&system.pids, &known);
        let span = match self.bench.requests {
            Some(count) => Span::Count(count),
            None => Span::Time(Duration::from_secs_f64(self.bench.seconds)),
        };
        let tally = self.put_load(&mut generator, &mut requests, (rate, span, seed), what)?;
        let samples = (sample, Sample::take(&system.pids, &known));
        generator.finish()?;
        let after = self.probe()?;
        let mut row = Row::new(system, mix, rate, &tally, samples);
        if self.gate.is_some() {
            row.disturbed_by = before.or(after).or_else(|| noise::disturbance(&row));
        }
        Ok(row)
    }

    fn probe(&mut self) -> anyhow::Result<Option<String>> {
        self.gate.as_mut().map_or(Ok(None), Gate::probe)
    }

    fn put_load(
        &mut self,
        generator: &mut Generator,
        requests: &mut Requests,
        (rate, span, seed): (Option<f64>, Span, u64),
        what: &str,
    ) -> anyhow::Result<Tally> {
        let mut watch = |tally: &Tally| {
            self.progress.show(|| {
                let seconds = tally.start().elapsed().as_secs_f64();
                let done = tally.answered as f64 / seconds;
                format!("{what}: {seconds:.1} s of {span}, {done:.0} per second")
            });
        };
        match (rate, span) {
            (None, Span::Time(time)) => {
                generator.run_closed(requests, Until::Elapsed(time), &mut watch)
            }
            (None, Span::Count(count)) => {
                generator.run_closed(requests, Until::Ended(count), &mut watch)
            }
            (Some(rate), Span::Time(time)) => {
                generator.run_open(requests, Arrivals::within(time, rate, seed), &mut watch)
            }
            (Some(rate), Span::Count(count)) => {
                generator.run_open(requests, Arrivals::counted(count, rate, seed), &mut watch)
            }
        }
    }

    fn connect(
        &self,
        system: &System,
        connections: usize,
        pipeline: usize,
    ) -> anyhow::Result<Generator> {
        Generator::connect(&Load {
            servers: &system.targets,
            connections,
            pipeline,
            value_bytes_max: self.bench.value_bytes.most(),
            protocol: system.protocol,
            password: self.password.as_deref(),
            interrupted: &self.interrupted,
        })
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
enum Span {
    Time(Duration),
    Count(u64),
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => write!(formatter, "{} s", time.as_secs_f64()),
            Self::Count(count) => write!(formatter, "{count} operations"),
        }
    }
}

impl Measured {
    /// Of rounds, each with a run of every system.
    fn of_rounds(rounds: &[Vec<Row>], is_vs_redis: bool) -> Self {
        let systems = rounds.first().map_or(0, Vec::len);
        let runs: Vec<Vec<Row>> =
            (0..systems).map(|at| rounds.iter().map(|round| round[at].clone()).collect()).collect();
        let mut rows: Vec<Row> = runs.iter().map(|runs| Row::median(runs)).collect();
        if let ([ours, _], [our_runs, their_runs]) = (&mut rows[..], &runs[..]) {
            let ratios = Ratios::of_runs(our_runs, their_runs);
            if is_vs_redis {
                ours.ratio_to_redis = ratios.operations_per_second.map(|ratio| ratio.median);
            }
            ours.ratios = Some(ratios);
        }
        Self { rows, runs: runs.concat() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row;

    #[test]
    fn the_first_system_is_told_relative_to_the_second() {
        let rounds: Vec<Vec<Row>> = [(10, 20), (30, 20), (40, 20)]
            .map(|(ours, theirs)| [ours, theirs].map(|n| row::tests::row(n, 0)).to_vec())
            .to_vec();
        let measured = Measured::of_rounds(&rounds, true);
        assert_eq!(measured.rows.len(), 2);
        assert_eq!(measured.rows[0].ratio_to_redis, Some(1.5));
        let ratios = measured.rows[0].ratios.as_ref().expect("there are two");
        assert_eq!(ratios.operations_per_second.map(|ratio| ratio.pairs), Some(3));
        assert!(measured.rows[1].ratios.is_none());
        let operations: Vec<u64> = measured.runs.iter().map(|row| row.operations).collect();
        assert_eq!(operations, [10, 30, 40, 20, 20, 20]);
        let alone = Measured::of_rounds(&[vec![row::tests::row(1, 0)]], false);
        assert!(alone.rows[0].ratios.is_none());
    }
}
