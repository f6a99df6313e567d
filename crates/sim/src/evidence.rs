//! Evidence gates: a run of many seeds that injects nothing, or checks nothing, proves nothing.
//!
//! Two well-known suites once ran green for weeks while injecting nothing. So a run fails if a
//! class of faults, the work of a checker, leader changes, answered operations or reads are below a
//! floor, however well everything went.

use crate::counters::Counters;
use crate::fault::Fault;

/// Every class of faults that is not switched off fires so often in a thousand seeds, at least: a
/// third of what the rarest class usually does, so that a hundred seeds do not fall below by
/// chance.
const FAULTS_FLOOR: u64 = 15;
/// The one that takes a play of its own, of seconds, and comes as often as that.
const STAGED: (Fault, u64) = (Fault::TornTransfer, 4);

/// Floors of counters in a thousand seeds: a third of what is usual, rounded down.
const FLOORS: [(&str, u64); 54] = [
    ("turns", 5_000_000),
    ("events", 15_000_000),
    ("boots", 4_000),
    ("power_cuts", 3_000),
    ("leaders_lost", 1_000),
    ("torn_frames", 600),
    ("torn_files", 150),
    ("lost_sectors", 8_000),
    ("lost_names", 3_000),
    ("late_pieces", 60_000),
    ("shreds", 500_000),
    ("dials_lost", 800),
    ("dials_refused", 10_000),
    ("frames_overtaken", 5_000),
    ("disks_renewed", 90),
    ("quorums_alone", 100),
    ("drifting_runs", 50),
    ("skewed_runs", 70),
    ("inline_runs", 100),
    ("threaded_runs", 100),
    ("asynchronous_runs", 100),
    ("elections", 4_000),
    ("leader_changes", 3_000),
    ("snapshots_made", 15_000),
    ("snapshots_installed", 1_500),
    ("rot_alive", 15),
    ("rot_found", 1),
    ("segments_recycled", 60_000),
    ("completed", 700_000),
    ("reads", 300_000),
    ("unknown", 9_000),
    ("uncertain", 900),
    ("moved", 25_000),
    ("walked_away", 300),
    ("operations_checked", 800_000),
    ("expiries_checked", 20_000),
    ("clocks_checked", 250_000),
    ("groups_checked", 25_000),
    ("commits_checked", 1_000_000),
    ("entries_matched", 600_000),
    ("states_compared", 500_000),
    ("recoveries_checked", 4_000),
    ("orders_checked", 50_000),
    ("groups", 400),
    ("group_changes", 250),
    ("group_transfers", 500),
    ("packet_runs", 60),
    ("packet_flips", 130),
    ("packet_moments", 6_600),
    ("group_states_lost", 30),
    ("lanes", 150),
    ("lane_damages", 100),
    ("lane_holes", 100),
    ("transfers_checked", 500),
];

/// What the counters of so many seeds together lack, a line each. A run of fewer than a hundred
/// seeds is too small to be judged by more than whether there was any work at all.
pub fn lacking(sum: &Counters, seeds: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut judge = |name: &str, value: u64, floor: u64| {
        let floor = floor * seeds / 1_000;
        if value < floor {
            lines.push(format!("{name}: {value} in {seeds} seeds, at least {floor} are wanted"));
        }
    };
    let named = sum.named();
    for (name, floor) in FLOORS {
        let (_, value) = named.iter().find(|(known, _)| *known == name).expect("it is a counter");
        judge(name, *value, if seeds < 100 { floor.min(1) } else { floor });
    }
    for fault in Fault::ALL.into_iter().filter(|fault| fault.obstacle().is_none()) {
        let floor = if fault == STAGED.0 { STAGED.1 } else { FAULTS_FLOOR };
        judge(fault.name(), sum.fault(fault), if seeds < 100 { 0 } else { floor });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_nothing_lacks_everything() {
        let lines = lacking(&Counters::default(), 1_000);
        let off = crate::fault::NOT_SURVIVED_YET.len();
        assert_eq!(lines.len(), FLOORS.len() + Fault::ALL.len() - off);
    }
}
