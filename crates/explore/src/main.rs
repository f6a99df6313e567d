//! `flotilla-explore [--long] [--scope NAME] [--states N] [--jobs N]`: every scope, as a table.

use std::process::ExitCode;
use std::time::Instant;

use flotilla_explore::{Scope, explore};

/// What CI explores of each scope.
const STATES: u64 = 800_000;
/// All scopes together have at least so many distinct states in CI.
const FLOOR: u64 = 8_000_000;
/// What a long run explores of each scope.
const LONG_STATES: u64 = 5_200_000;
/// All scopes together have at least so many distinct states in a long run.
const LONG_FLOOR: u64 = 50_000_000;

/// What is to be explored.
struct Options {
    states: u64,
    floor: u64,
    scope: Option<String>,
    threads: usize,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Self { states: STATES, floor: FLOOR, scope: None, threads };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} takes a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
            match word.as_str() {
                "--long" => (options.states, options.floor) = (LONG_STATES, LONG_FLOOR),
                "--scope" => (options.scope, options.floor) = (Some(value()?), 0),
                "--states" => (options.states, options.floor) = (number(value()?)?, 0),
                "--jobs" => options.threads = number(value()?)? as usize,
                _ => return Err(format!("{word} is not understood")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Explores every scope. The error is a claim that does not hold, or that too little was seen.
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn run(options: &Options) -> Result<(), String> {
    let scopes = Scope::all(options.states);
    let wanted = |scope: &&Scope| options.scope.as_deref().is_none_or(|name| name == scope.name);
    // What panics is caught, and told with the way there.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| scope | distinct states | steps | every state after so many actions | whole |");
    println!("|---|--:|--:|--:|---|");
    let (mut states, began) = (0, Instant::now());
    for scope in scopes.iter().filter(wanted) {
        let explored = explore(scope, options.threads).map_err(|wrong| wrong.to_string())?;
        states += explored.states;
        let whole = if explored.whole { "yes" } else { "no" };
        let (steps, depth) = (explored.steps, explored.depth);
        println!("| {} | {} | {steps} | {depth} | {whole} |", scope.name, explored.states);
    }
    println!("| all | {states} | in {} s | | |", began.elapsed().as_secs());
    if states < options.floor {
        return Err(format!("{states} distinct states, at least {} are wanted", options.floor));
    }
    Ok(())
}
