//! How good the tests of the consensus core are: which of its lines they run, and which small
//! changes of it they notice. Neither belongs to CI: one needs LLVM's tools, the other hours.

use anyhow::{Context as _, bail};

use crate::cargo;

const PACKAGE: &str = "flotilla-raft";

/// A run in which one of these checks alone is weaker does the same; so they are left out.
const CHECKS: &str = r"(Log|Writes|Reads|Lease|Transfer|Change|Progress)::check\b|check_invariants";

/// A test that takes longer than this hangs, s: all of them together take two.
const TIMEOUT_S: &str = "20";

/// The lines of the core that its own tests run, by `cargo llvm-cov`.
pub(crate) fn coverage() -> anyhow::Result<()> {
    let mut command = cargo("llvm-cov --summary-only --package");
    command.arg(PACKAGE);
    let status = command.status().context("can't run cargo llvm-cov")?;
    if !status.success() {
        bail!(
            "cargo llvm-cov failed. It is installed by `cargo install cargo-llvm-cov`, and needs \
             rustup's llvm-tools, or LLVM_COV and LLVM_PROFDATA with tools of rustc's LLVM version"
        );
    }
    Ok(())
}

/// The changes of these files (of all without any) that no test notices, by `cargo mutants`.
pub(crate) fn mutants(options: &[String]) -> anyhow::Result<()> {
    let mut command = cargo("mutants --jobs 1 --sharding round-robin --timeout");
    command.args([TIMEOUT_S, "--package", PACKAGE, "--exclude-re", CHECKS]);
    command.args(["--exclude", "crates/raft/src/invariants.rs"]);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if option == "--shard" {
            let shard = options.next().context("--shard needs K/N")?;
            command.args(["--shard", shard]);
        } else {
            command.args(["--file", option]);
        }
    }
    // A fresh start of every test costs more than what line numbers in a failure are worth.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false").env("RAFT_SEEDS", "30");
    command.args(["--", "--tests"]);
    let status = command.status().context("can't run cargo mutants")?;
    match status.code() {
        Some(0) => Ok(()),
        // Its word for changes that were missed, or that never ended.
        Some(2 | 3) => bail!("some changes were not noticed: see mutants.out/missed.txt"),
        _ => bail!("cargo mutants failed; it is installed by `cargo install cargo-mutants`"),
    }
}
