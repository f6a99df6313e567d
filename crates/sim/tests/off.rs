//! What is switched off is switched off for a reason: each fault of the one list does harm that
//! the checkers see. Whoever makes the product live through one takes it off the list.

use flotilla_sim::{Fault, NOT_SURVIVED_YET, Planned, Script, run};

/// Harm must show within so many seeds.
const SEEDS: u64 = 60;

/// A run in which a disk is put back or lies, again and again, on one node after the other.
fn script(fault: Fault, seed: u64) -> Script {
    let planned = |number: u64| Planned {
        at: 1_500_000 + number * 130_000,
        fault: if number % 4 == 3 { Fault::CrashLeader } else { fault },
        word: seed.wrapping_mul(0x9e37_79b9).wrapping_add(number),
    };
    let plan = Some((0..50).map(planned).collect());
    Script { plan, layout: Some([3, 1, 3]), ..Script::of("leaders crash", seed) }
}

#[test]
fn what_is_switched_off_does_harm() {
    for (fault, why) in NOT_SURVIVED_YET {
        let harm = (0..SEEDS).find_map(|seed| {
            let script = script(fault, seed);
            run(seed, script.config(), None).err()
        });
        assert!(harm.is_some(), "{fault} did no harm in {SEEDS} seeds, but it is off: {why}");
    }
}
