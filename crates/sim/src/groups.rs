//! Groups of cores alone: what no node asks of its cores yet, or seldom. Members come and go, the
//! leadership is handed over, leases are set, entries leave memory and are loaded again, payloads
//! rot, all but one are lost; and each core is looked at within its steps.
//!
//! The world is the one that the consensus crate's own random test runs; a seed here stands for
//! several of its seeds.

#[path = "../../raft/tests/cluster/mod.rs"]
mod cluster;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::runs;

use crate::counters::Counters;
use crate::run::{Failure, Report, panic_text};
use crate::trace::mixed;

/// The name of the family.
pub(crate) const FAMILY: &str = "groups";
/// The name of the family whose groups all begin with logs that are hurt.
pub(crate) const HURT: &str = "hurt groups";
/// A seed stands for so many groups, which take about as long as a run of whole nodes.
const GROUPS: u64 = 12;

/// Runs the groups of a seed of one of these families.
pub(crate) fn run(family: &'static str, seed: u64) -> Result<Report, Failure> {
    let (mut counters, mut digest, mut micros) = (Counters::default(), 0, 0);
    let first = seed.wrapping_mul(GROUPS);
    for number in first..first.saturating_add(GROUPS) {
        let group = if family == HURT { runs::hurt(number) } else { number };
        let world = catch_unwind(AssertUnwindSafe(|| runs::run(group)));
        let world = world.map_err(|panic| {
            let text = panic_text(panic.as_ref());
            let again = format!("RAFT_SEED={group} cargo test -p flotilla-raft --test random");
            Failure { seed, family, micros, reason: format!("{text} ({again})") }
        })?;
        let judge = &world.cluster.judge;
        micros += world.cluster.now.0;
        digest = mixed(digest ^ judge.committed.len() as u64 ^ world.cluster.now.0 << 20);
        counters.groups += 1;
        counters.group_entries += judge.committed.len() as u64;
        counters.group_reads += judge.reads_served as u64;
        counters.group_changes += judge.changes_done as u64;
        counters.group_transfers += judge.transfers_done as u64;
        counters.group_repairs += judge.repaired as u64;
        counters.group_states_lost += judge.states_lost as u64;
    }
    Ok(Report { seed, family, digest, counters })
}
