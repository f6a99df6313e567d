//! A process of the joined tree, in which one mutant is on: it runs seeds until one fails.

use anyhow::Context as _;
use flotilla_sim::{Config, Random, family, run, scenario};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cpu;

/// A run that takes more CPU time than this has no end; usual ones take a tenth of a second.
pub(super) const ENDLESS_SECONDS: u64 = 10;
/// More memory than this is more than any run of the clean tree needs.
const MEMORY_MAX: u64 = 8 << 30;
/// Seeds are below this, so that they are easy to name.
const SEEDS: u64 = 1 << 40;

/// `mutants-worker BASE FROM MICROS [FAMILY]`: runs the seeds that follow from `BASE`, beginning
/// with number `FROM`, until one fails or so much CPU time has passed. Every other one is of the
/// family, if there is one.
pub(crate) fn worker(arguments: &[String]) -> anyhow::Result<()> {
    let number = |at: usize| -> anyhow::Result<u64> {
        Ok(arguments.get(at).context("a worker needs three numbers")?.parse()?)
    };
    let (base, from, budget) = (number(0)?, number(1)?, number(2)?);
    setrlimit(Resource::As, limit(MEMORY_MAX))?;
    std::panic::set_hook(Box::new(|_| {}));
    let mut random = Random::new(base);
    for number in 0.. {
        let seed = random.word() % SEEDS;
        if number < from {
            continue;
        }
        let config = config(seed, number, arguments.get(3));
        println!("begin {number} {seed} {}", config.family);
        let began = cpu::of_thread();
        // Whole seconds: the signal comes when as many have passed.
        setrlimit(Resource::Cpu, limit(began / 1_000_000 + 1 + ENDLESS_SECONDS))?;
        match run(seed, config, None) {
            Ok(report) => println!("ok {}", report.counters.micros),
            Err(failure) => {
                println!("failed {} {}", failure.micros, failure.reason.replace('\n', " "));
                break;
            }
        }
        if cpu::of_thread() >= budget {
            break;
        }
    }
    Ok(())
}

fn config(seed: u64, number: u64, hint: Option<&String>) -> Config {
    match hint {
        Some(name) if number.is_multiple_of(2) => family(name, seed),
        _ => scenario(seed),
    }
}

fn limit(current: u64) -> Rlimit {
    Rlimit { current: Some(current), maximum: None }
}
