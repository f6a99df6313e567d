//! Random runs of a lane's log ([`super::world`]): whatever was reported durable comes back, and
//! nothing comes back that was not written.

use super::world::{Seen, run};

/// `LANE_SEED=n` runs one seed.
#[test]
fn what_was_reported_durable_comes_back_and_nothing_else() {
    let one = std::env::var("LANE_SEED").ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = one {
        run(seed);
        return;
    }
    let mut total = Seen::default();
    for seed in 0..240 {
        let world = std::panic::catch_unwind(|| run(seed));
        let world = world.unwrap_or_else(|_| panic!("seed {seed}"));
        total.add(&world.seen);
    }
    let Seen { recoveries, cuts, resets, rewrites, .. } = total;
    assert!(recoveries > 500 && cuts > 100 && resets > 100 && rewrites > 300, "{total:?}");
    let Seen { carries, failed_recoveries, lost_frames, segments, removals, .. } = total;
    assert!(carries > 20 && failed_recoveries > 100 && removals > 100, "{total:?}");
    assert!(lost_frames > 100 && segments > 300, "{total:?}");
    let Seen { rotted, rotted_last, found_alive, holes, healed, .. } = total;
    assert!(rotted > 200 && rotted_last > 50 && found_alive > 10, "{total:?}");
    assert!(holes > 100 && healed > 100, "{total:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..6 {
        assert_eq!(run(seed).digest(), run(seed).digest());
    }
}
