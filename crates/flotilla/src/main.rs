//! Flotilla, the one binary: nodes, local clusters, a shell, and what an operator asks.

mod arguments;
mod backup;
mod banner;
mod bench;
mod children;
mod client;
mod cluster_file;
mod inspect;
mod locate;
mod node;
mod plan;
mod print;
mod progress;
mod read_only;
mod restore;
mod shell;
mod status;
mod up;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Verb};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Up(up) => up::run(&up),
        Verb::Run(run) => node::run_listed(run),
        Verb::NodeOfUp(node) => node::run_of_up(&node),
        Verb::Shell(shell) => shell::run(&shell),
        Verb::Status(status) => status::run(&status),
        Verb::Backup(backup) => backup::run(&backup),
        Verb::Restore(restore) => restore::run(&restore),
        Verb::Bench(bench) => bench::run(&bench),
        Verb::Plan(plan) => plan::run(&plan),
        Verb::Where(asked) => locate::run(&asked),
        Verb::Inspect(asked) => inspect::run(&asked),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("error: {error:#}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Whether somebody, like `head`, has read enough of standard output.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
