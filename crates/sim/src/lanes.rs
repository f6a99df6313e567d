//! A lane's log alone, on a disk that tears, rots and forgets, against a twin that knows what must
//! be there.
//!
//! The world is the one that the log's own random test runs; a seed here stands for several of its
//! seeds.

#[path = "../../storage/tests/log/support.rs"]
mod support;
#[path = "../../storage/tests/log/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::counters::Counters;
use crate::run::{Failure, Report, panic_text};
use crate::trace::mixed;
use world::Seen;

/// The name of the family.
pub(crate) const FAMILY: &str = "lanes";
/// A seed stands for so many lanes, which take about as long as a run of whole nodes.
const LANES: u64 = 24;

/// Runs the lanes of a seed.
pub(crate) fn run(seed: u64) -> Result<Report, Failure> {
    let (mut seen, mut digest) = (Seen::default(), 0);
    let first = seed.wrapping_mul(LANES);
    for lane in first..first.saturating_add(LANES) {
        let world = catch_unwind(AssertUnwindSafe(|| world::run(lane)));
        let world = world.map_err(|panic| {
            let text = panic_text(panic.as_ref());
            let again = format!("LANE_SEED={lane} cargo test -p flotilla-storage --test log twin");
            Failure { seed, family: FAMILY, micros: 0, reason: format!("{text} ({again})") }
        })?;
        digest = mixed(digest ^ world.digest());
        seen.add(&world.seen);
    }
    let counters = Counters {
        lanes: LANES,
        lane_recoveries: seen.recoveries,
        lane_damages: seen.rotted,
        lane_holes: seen.holes,
        ..Counters::default()
    };
    Ok(Report { seed, family: FAMILY, digest, counters })
}
