//! `flotilla bench`: how many requests a second, how long they take, and what they cost; of a
//! cluster of Flotilla, of whatever else speaks the Redis protocol, or of etcd.
//!
//! One thread drives all connections, in a closed or in an open loop ([`generator`]). Two systems
//! are measured in turns ([`measure`]).
//!
//! Numbers of a server whose acknowledgements do not outlast a loss of power are shown, and called
//! not to be quoted, with everything else that speaks against them.

mod arrivals;
mod commands;
mod connection;
mod csv;
mod etcd;
mod generator;
mod hgrm;
mod histogram;
mod keys;
mod measure;
mod noise;
mod options;
mod plot;
mod processes;
mod random;
mod ratio;
mod replies;
mod report;
mod requests;
mod row;
mod sizes;
mod system;
mod tally;
mod timer;
mod wire;
mod workload;
mod yardstick;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use measure::Session;
use plot::{Line, Panel};
use report::Report;
use row::Row;
use system::System;
use yardstick::Yardstick;

pub(crate) use options::Bench;

/// Where the password for servers is looked for, as `redis-cli` does: flags are seen by everybody.
const PASSWORD: &str = "REDISCLI_AUTH";

/// Runs the verb.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let interrupted = interruption()?;
    let password = std::env::var(PASSWORD).ok();
    let mut systems = vec![System::look_at(&bench.at, &bench.pids, password.as_deref())?];
    let yardstick = bench.vs_redis.then(|| Yardstick::start(&bench.redis_data)).transpose()?;
    if let Some(yardstick) = &yardstick {
        systems.push(yardstick.system()?);
    } else if !bench.vs.is_empty() {
        systems.push(System::look_at(&bench.vs, &bench.vs_pids, password.as_deref())?);
    }
    system::tell_apart(&mut systems);
    let mut session = Session::new(bench, &systems, password, interrupted);
    session.fill()?;
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    for (number, mix) in bench.mixes().iter().enumerate() {
        let measured = session.measure(mix, number)?;
        rows.extend(measured.rows);
        runs.extend(measured.runs);
    }
    let report = Report::new(bench, &systems, rows, runs);
    write_files(bench, &report)?;
    let mut out = std::io::stdout().lock();
    if bench.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", report.for_people())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A flag that a signal sets. What is cleaned up on the way out is so also then.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .context("can't listen to signals")?;
    }
    Ok(flag)
}

/// Writes what the flags ask for beside standard output.
fn write_files(bench: &Bench, report: &Report) -> anyhow::Result<()> {
    if let Some(path) = &bench.csv {
        write(path, &csv::lines(report))?;
    }
    if let Some(path) = &bench.svg {
        write(path, &drawing(report))?;
    }
    if let Some(directory) = &bench.hgrm {
        fs::create_dir_all(directory)
            .with_context(|| format!("can't create {}", directory.display()))?;
        for row in &report.results {
            let name = hgrm::file_name(&row.system, &row.label);
            write(&directory.join(name), &hgrm::lines(&row.histogram))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// A panel for each workload; the rows of one follow each other.
fn drawing(report: &Report) -> String {
    let panels: Vec<Panel<'_>> = report
        .results
        .chunk_by(|former, next| former.label == next.label)
        .map(|rows| Panel { title: &rows[0].label, lines: rows.iter().map(line).collect() })
        .collect();
    let settings = &report.settings;
    let load = format!("{} loop", settings.r#loop);
    let title = format!(
        "Latency: {load}, {} connections × {}, values of {} bytes",
        settings.connections, settings.pipeline, settings.value_bytes
    );
    plot::figure(&title, &panels)
}

fn line(row: &Row) -> Line<'_> {
    Line { system: &row.system, histogram: &row.histogram }
}
