//! `cargo xtask coverage`: which lines of the consensus core its own tests run. It needs LLVM's
//! tools, so it is no part of CI.

use anyhow::{Context as _, bail};

use crate::cargo;

const PACKAGE: &str = "flotilla-raft";

/// The lines of the core that its own tests run, by `cargo llvm-cov`.
pub(crate) fn run() -> anyhow::Result<()> {
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
