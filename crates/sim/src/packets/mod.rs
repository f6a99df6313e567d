//! Packets: three whole nodes, and a schedule that says which packet arrives when, whose write is
//! durable and for whom time passes ([`schedule`]). There are no disks and no latencies, and what
//! clients saw is held against the committed log ([`judge`]) instead of being searched for an
//! order, so a run takes milliseconds. It is made for what lies between clients and the table:
//! streams, their epochs, sessions, the order of reads and writes, under leaders that come back.

mod judge;
mod schedule;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crate::counters::Counters;
use crate::run::{Failure, Report, panic_text};
use crate::trace::{Listener, Trace, mixed};
use world::World;

/// The name of the family.
pub(crate) const FAMILY: &str = "packets";
/// A seed stands for so many small worlds, which take about as long as a run of whole machines.
const WORLDS: u64 = 8;
/// Clients of each node.
const CLIENTS: usize = 2;

/// Runs the small worlds of a seed, and tells their stories to `listener`.
pub(crate) fn run(seed: u64, listener: Option<Listener>) -> Result<Report, Failure> {
    let (mut counters, mut digest) = (Counters::default(), 0);
    let listener = listener.map(|listener| Arc::new(Mutex::new(listener)));
    for number in 0..WORLDS {
        let world_seed = mixed(seed.wrapping_mul(WORLDS).wrapping_add(number));
        let mut trace = Trace::new(listener.as_ref().map(|listener| {
            let listener = Arc::clone(listener);
            let tell = move |line: &str| listener.lock().expect("no listener panics")(line);
            Box::new(tell) as Listener
        }));
        trace.tell(|| format!("small world {number}"));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            schedule::run(World::new(world_seed, CLIENTS, trace))
        }));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
        let seen = outcome.map_err(|reason| {
            let reason = format!("small world {number}: {reason}");
            Failure { seed, family: FAMILY, micros: 0, reason }
        })?;
        digest = mixed(digest ^ seen.digest);
        counters.packet_runs += 1;
        counters.packet_flips += seen.flips;
        counters.packet_operations += seen.operations;
        counters.packet_moments += seen.placed;
    }
    Ok(Report { seed, family: FAMILY, digest, counters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_worlds_go_well_and_equal_seeds_give_equal_runs() {
        let mut sum = Counters::default();
        for seed in 0..4 {
            let report = run(seed, None).expect("the run goes well");
            assert!(seed > 0 || run(seed, None) == Ok(report.clone()), "equal runs");
            sum.add(&report.counters);
        }
        assert!(sum.packet_flips > sum.packet_runs, "the lead moves");
        assert!(sum.packet_moments > 50 * sum.packet_runs, "much is asked and answered");
    }
}
