//! `cargo xtask bench-vs`: ours beside others, on the same machine and in the same run.
//!
//! `bench-vs raft` compares the consensus core with other crates ([`raft`]). Without a subject
//! whole servers are compared: a cluster of Flotilla of three nodes, one `redis-server` that syncs
//! every write, and a cluster of three `etcd`.
//!
//! Each measurement is `flotilla bench` with two targets: it measures them in turns, A B B A, asks
//! the machine before and after each run whether it is quiet, and gives the ratio of the pairs with
//! its interval. Before anything is measured, the system calls of every server show that it syncs
//! what it acknowledges ([`syncs`]).
//!
//! What comes out is a page in Markdown with a drawing; a run whose numbers are not to be quoted
//! says so on that page, and fails.

mod measure;
mod options;
mod page;
mod peers;
mod plot;
mod points;
mod raft;
mod servers;
mod snapshots;
mod syncs;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::{cargo, cluster, shown};
use measure::{Measurement, Run};
use options::Options;

/// Runs the verb.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    match arguments {
        [subject, rest @ ..] if subject == "raft" => raft::run(&raft::Options::parse(rest)?),
        arguments => compare_servers(&Options::parse(arguments)?),
    }
}

fn compare_servers(options: &Options) -> anyhow::Result<()> {
    peers::check_installed(&options.peers)?;
    match &options.program {
        Some(program) => cluster::use_program(program),
        None => build()?,
    }
    let data = options.data.join(format!("flotilla-bench-vs-{}", std::process::id()));
    fs::create_dir_all(&data).with_context(|| format!("can't create {}", data.display()))?;
    let outcome = measure_and_write(options, &data);
    fs::remove_dir_all(&data).with_context(|| format!("can't remove {}", data.display()))?;
    let caveats = outcome?;
    if !caveats.is_empty() {
        bail!("not to be quoted:\n- {}", caveats.join("\n- "));
    }
    Ok(())
}

fn build() -> anyhow::Result<()> {
    let mut build = cargo("build --release --package flotilla");
    if !build.status()?.success() {
        bail!("{} has failed", shown(&build));
    }
    Ok(())
}

/// Measures everything, and writes the page after each group: a run takes hours, and what there is
/// of one that is broken off is worth having. Gives what speaks against quoting it.
fn measure_and_write(options: &Options, data: &Path) -> anyhow::Result<Vec<String>> {
    let load_before = raft::load()?;
    let machine = raft::machine()?;
    let mut run = Run::new(options, data);
    let synced = syncs::check(&mut run)?;
    let out = options.out.as_deref().map_or_else(|| crate::target().join("bench-vs"), Into::into);
    fs::create_dir_all(&out).with_context(|| format!("can't create {}", out.display()))?;
    let (mut all, mut page): (Vec<Measurement>, String) = Default::default();
    for group in &options.groups {
        eprintln!("\n{}", group.title());
        all.extend(run.measure(*group)?);
        let foot =
            format!("{machine}; load average {load_before} before, {} after.", raft::load()?);
        page = page::markdown(&all, &synced, &foot);
        write(&out.join("bench-vs.md"), &page)?;
        write(&out.join("bench-vs.svg"), &plot::figure(&all))?;
    }
    eprintln!("\nwritten: bench-vs.md and bench-vs.svg in {}", out.display());
    std::io::stdout().write_all(page.as_bytes())?;
    Ok(page::caveats(&all))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}
