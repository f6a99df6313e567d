//! Gates against rot: what one SET costs, counted and not timed, so that it can fail a build.
//!
//! `cargo xtask instructions` counts the instructions of a leader and two followers under
//! callgrind, `cargo xtask allocations` how often they ask for memory. Both run a bench of the
//! node, in which three whole nodes share a thread, with clients in turns of 32. `cargo xtask
//! memory` fills a real node with ten million keys, which takes minutes: it is for maintainers.
//! What all of these may cost lies in a file beside the bench ([`bounds`]).
#![expect(clippy::print_stdout, reason = "the tables are what was asked for")]

mod allocations;
mod bounds;
mod callgrind;
mod instructions;
mod memory;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{cargo, shown};

pub(crate) use allocations::run as allocations;
pub(crate) use instructions::run as instructions;
pub(crate) use memory::run as memory;

/// Whether what is measured is to become what counts: `[--write]`.
fn writes(arguments: &[String]) -> anyhow::Result<bool> {
    match arguments {
        [] => Ok(false),
        [word] if word == "--write" => Ok(true),
        _ => bail!("'{}' is not understood: try `cargo xtask help`", arguments.join(" ")),
    }
}

/// Builds a bench of the node as the server is built; gives its program.
fn build(bench: &str) -> anyhow::Result<PathBuf> {
    let words = "bench --package flotilla-node --no-run --message-format json-render-diagnostics";
    let mut build = cargo(&format!("{words} --bench {bench}"));
    let output =
        build.stderr(std::process::Stdio::inherit()).output().context("can't run cargo")?;
    if !output.status.success() {
        bail!("{} has failed", shown(&build));
    }
    let messages = String::from_utf8(output.stdout).context("cargo writes UTF-8")?;
    program(&messages, bench).with_context(|| format!("cargo does not say where {bench} is"))
}

/// The program of a bench among what cargo says of its work, a JSON value a line.
fn program(messages: &str, bench: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_bench = |message: &Value| {
        let target = &message["target"];
        target["name"] == bench && target["kind"].as_array().is_some_and(|k| k[0] == "bench")
    };
    let executable = |message: Value| message["executable"].as_str().map(PathBuf::from);
    messages.filter(of_bench).find_map(executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_benchs_own() {
        let messages = r#"
            {"target":{"name":"instructions","kind":["lib"]},"executable":"/of-a-library"}
            {"target":{"name":"other","kind":["bench"]},"executable":"/other"}
            {"target":{"name":"instructions","kind":["bench"]},"executable":null}
            {"target":{"name":"instructions","kind":["bench"]},"executable":"/it"}
        "#;
        assert_eq!(program(messages, "instructions"), Some(PathBuf::from("/it")));
        assert_eq!(program(messages, "nothing"), None);
    }

    #[test]
    fn only_one_word_is_understood() {
        assert!(!writes(&[]).expect("none is needed"));
        assert!(writes(&["--write".to_owned()]).expect("it is the word"));
        assert!(writes(&["write".to_owned()]).is_err());
    }
}
