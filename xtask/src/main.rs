//! The project's automation, as `cargo xtask <verb>`.
//!
//! Plain `cargo` is enough to build and test; what is here saves typing, or is what CI says of a
//! change after the tests.

mod bench_restart;
mod bench_vs;
mod chaos;
mod cluster;
mod compare_rings;
mod core_mutants;
mod coverage;
mod cpu;
mod gates;
mod joined;
mod mutants;
mod replay;
mod sectors;
mod sim_many;
mod sim_speed;
mod snapshots;
mod spec;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

/// As in the server: the simulator asks for memory as often as a node does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: cargo xtask <verb>

  allocations [--write]       how often a SET asks for memory, by node; fails if it is more than
                              crates/node/benches/bounds.txt has, or writes that
  bench-restart               kill a cluster, start it again, measure until it is ready
           [--nodes N] [--shards K]     of so many [default: 1 and 3]
           [--keys N]           so many keys [default: 10000000]
           [--entries N]        and at least so many entries in the logs behind snapshots
           [--rounds N]         so often [default: 1]
           [--data DIRECTORY]   on the disk of this directory [default: the current one]
  bench-vs                    a cluster, a redis-server and an etcd cluster side by side: a page
           [--rows NAME,...]    these only: closed, placing, open, sizes, ycsb, shards, snapshot,
                                follower-dead, leader-killed [default: all; takes hours]
           [--peers NAME,...]   beside redis, etcd [default: both]
           [--seconds S]        one run [default: 5]
           [--rounds N]         runs of each system [default: 7]
           [--quick]            few and short runs, to see that everything works
           [--data DIRECTORY]   on the disk of this directory [default: the current one]
           [--out DIRECTORY]    write the page here [default: bench-vs in the target's directory]
           [--program FILE]     this binary, instead of one that is built
  bench-vs raft [--rounds N]  the consensus core beside other crates: the table of decision 008
  chaos [--minutes N]         kill leaders of real processes for so long [default: 1]
  ci                          formatting, lints and documentation, with warnings as errors
  core-mutants [FILE]...      change the consensus core in small ways, and see its tests notice
  coverage                    lines of the consensus core that its own tests run
  explore                     every order of events of three replicas, up to bounds
           [--long]             far more of them
           [--scope NAME]       one scope only
           [--states N]         so many distinct states of each scope
           [--jobs N]           so many threads [default: one per core]
  instructions [--write]      how many instructions a SET takes, by node, under callgrind; fails or
                              writes likewise
  memory                      what a key takes of a node's memory, beside a redis-server
           [--keys N]           of so many [default: 10000000; fails or writes likewise]
           [--data DIRECTORY]   on the disk of this directory [default: the current one]
           [--program FILE]     this binary, instead of one that is built
           [--write]
  mutants [ID]...             put known bugs back, and see the simulator catch each
           [--seconds N]        within so many on one core [default: 60]
           [--jobs N]           so many at a time [default: one per core]
           [--sample N]         only so many, which change from day to day
           [--turn K]           those of another day
           [--base N]           with the seeds of an earlier hunt
           [--table]            and write what came of it into mutants/README.md
  spec                        the TLA+ specification under TLC: every model of CI
           [--long [MODEL]...]  far more states, of all models or of these
           [--mutants [WORDS]]  break it in each way that is listed, and see TLC notice
           [--traces]           walk traces of the simulator along it
           [--traces --spoil]   and see it notice spoiled ones
  threads                     where threads of a node meet, in thousands of orders
  update                      rewrite golden scripts and docs/COMPAT.md with what the code does now
  compare-rings               ways to spread slots side by side: the plots of decision 007
  sim-many --minutes N        run the simulator with many seeds for so long
           --seeds A..B         or with every seed from A up to, not including, B
           [--jobs N]           so many at a time [default: one per core]
           [--family NAME]      of one family of scenarios
           [--hours N]          fail below so many busy cluster-hours
           [--ledger]           add a line to docs/internals/sim-ledger.md
  sim-same --seeds A..B       see that each seed comes to the same in three processes, two builds
  sim-speed                   simulated seconds per core-second: three nodes, one shard, faults
           [--seeds A..B]       with these seeds [default: 0..200]
           [--least N]          fail below so many
  sim-one SEED|SCRIPT         run one seed, or the script in a file, and write its trace
           [--family NAME]      the seed is taken of this family
           [--shrink]           make what fails smaller first
  sectors                     spoil sectors of small clusters' disks one at a time: all heal
           [--positions N]      so many [default: 50000]
           [--first SEED]       of the data sets from this seed on [default: 1]
           [--jobs N]           so many at a time [default: one per core]
  snapshots latency|disk      what snapshots cost clients and memory, or how much disk nodes take
           [--megabytes N]      of data [default: 1024, or 64]
           [--overwrites N]     so often is all of it written again, for disk [default: 100]
           [--case NAME]        only with whole, lags, dead or no-quorum, for disk [default: all]
           [--data DIRECTORY]   on the disk of this directory [default: the system's temporary one]
  replay TRACE                step through a trace: h shows how
           [--html FILE]        draw it instead
           [--from S] [--until S] [--all]   from and until when, heartbeats too
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let Some((verb, rest)) = arguments.split_first() else { bail!("no verb\n\n{USAGE}") };
    match (verb.as_str(), rest) {
        ("allocations", options) => gates::allocations(options),
        ("bench-restart", options) => bench_restart::run(&bench_restart::Options::parse(options)?),
        ("bench-vs", options) => bench_vs::run(options),
        ("chaos", options) => chaos::run(&chaos::Options::parse(options)?),
        ("ci", []) => ci(),
        ("core-mutants", files) => core_mutants::hunt(files),
        ("coverage", []) => coverage::run(),
        ("explore", options) => explore(options),
        ("instructions", options) => gates::instructions(options),
        ("memory", options) => gates::memory(options),
        ("mutants", options) => mutants::run(&mutants::Options::parse(options)?),
        ("mutants-worker", arguments) => mutants::worker(arguments),
        ("threads", []) => threads(),
        ("update", []) => update(),
        ("compare-rings", []) => compare_rings::run(),
        ("spec", options) => spec::run(&spec::Task::parse(options)?),
        ("sim-many", options) => sim_many::run_many(&sim_many::Options::parse(options)?),
        ("sim-same", options) => sim_many::run_same(&sim_many::Options::parse(options)?),
        ("sim-speed", arguments) => sim_speed::run(arguments),
        ("sim-worker", arguments) => sim_many::worker(arguments),
        ("sim-one", arguments) => sim_many::run_one(arguments),
        ("sectors", options) => sectors::run(&sectors::Options::parse(options)?),
        ("sectors-worker", arguments) => sectors::worker(arguments),
        ("replay", arguments) => replay::run(arguments),
        ("snapshots", options) => snapshots::run(&snapshots::Options::parse(options)?),
        ("help" | "--help" | "-h", _) => {
            eprint!("{USAGE}");
            Ok(())
        }
        _ => bail!("'{}' is not understood\n\n{USAGE}", arguments.join(" ")),
    }
}

/// The model checker, built to be quick.
fn explore(options: &[String]) -> anyhow::Result<()> {
    let mut explorer = cargo("run --quiet --release --package flotilla-explore --");
    if !explorer.args(options).status().context("can't run cargo")?.success() {
        bail!("the consensus core was not explored, or a claim about it does not hold");
    }
    Ok(())
}

/// The scenes of the server's threads, which need its own threads replaced by those of Shuttle.
fn threads() -> anyhow::Result<()> {
    let mut scenes = cargo("test --package flotilla-server --features threads --lib -- threads::");
    if !scenes.status().context("can't run cargo")?.success() {
        bail!("some order of the threads does not go well: Shuttle says which");
    }
    Ok(())
}

/// What CI checks beside the tests. All steps run, so that one report names everything.
fn ci() -> anyhow::Result<()> {
    let mut documentation = cargo("doc --workspace --no-deps --locked");
    documentation.env("RUSTDOCFLAGS", "--deny warnings");
    let steps = [
        cargo("fmt --all --check"),
        cargo("clippy --workspace --all-targets --locked -- --deny warnings"),
        documentation,
    ];
    let mut failed = Vec::new();
    for mut step in steps {
        let name = shown(&step);
        eprintln!("\n$ {name}");
        if !step.status().with_context(|| format!("can't run {name}"))?.success() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("not as it should be:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

/// Rewrites what tests compare with. What changed is for `git diff` to show and for you to judge.
fn update() -> anyhow::Result<()> {
    let mut tests = cargo("test --package flotilla-raft --package flotilla-kv --tests");
    tests.envs([("UPDATE_SCRIPTS", "1"), ("UPDATE_COMPAT", "1")]);
    let name = shown(&tests);
    if !tests.status().with_context(|| format!("can't run {name}"))?.success() {
        bail!("{name} has failed: what it could rewrite is rewritten");
    }
    Ok(())
}

/// The cargo that runs this, in the workspace's directory, with these words as arguments.
fn cargo(arguments: &str) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()).args(arguments.split(' '));
    command
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where builds go.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn shown(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy());
    let mut line = "cargo".to_owned();
    for word in words {
        line.push(' ');
        line.push_str(&word);
    }
    line
}

/// A command line, for tests of what reads one.
#[cfg(test)]
fn arguments_of(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
