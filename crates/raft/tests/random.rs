//! Whole groups, one seed a run: what may go wrong stands in `cluster/world.rs`, what kinds of runs
//! there are in `cluster/runs.rs`.

mod cluster;

use cluster::runs::run;

/// `RAFT_SEED=n` runs one seed, `RAFT_SEEDS=n` the first n instead of 120.
#[test]
fn groups_stay_safe_under_faults_and_live_after_them() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(120),
    };
    let (mut committed, mut reads, mut by_lease, mut changes, mut transfers) = (0, 0, 0, 0, 0);
    let (mut repaired, mut in_chunks, mut states_lost, mut states_found) = (0, 0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let caught = std::panic::catch_unwind(|| {
            let world = run(seed);
            world.cluster.judge
        });
        let judge =
            caught.unwrap_or_else(|_| panic!("seed {seed} fails; replay it with RAFT_SEED={seed}"));
        committed += judge.committed.len();
        reads += judge.reads_served;
        repaired += judge.repaired;
        states_lost += judge.states_lost;
        states_found += judge.states_found;
        in_chunks += judge.transfers_in_chunks;
        by_lease += judge.lease_reads;
        changes += judge.changes_done;
        transfers += judge.transfers_done;
    }
    // A run in which nothing happens proves nothing.
    assert!(count < 100 || committed as u64 > 10 * count, "{committed} entries were committed");
    assert!(count < 100 || reads as u64 > 5 * count, "{reads} reads were served");
    assert!(count < 100 || by_lease as u64 > 2 * count, "{by_lease} reads were served by lease");
    assert!(count < 100 || repaired as u64 > count / 4, "{repaired} payloads were repaired");
    assert!(count < 100 || states_lost as u64 > count / 20, "{states_lost} states were lost");
    assert!(count < 100 || states_found as u64 > count / 100, "{states_found} states were found");
    assert!(count < 100 || in_chunks as u64 > count / 4, "{in_chunks} snapshots came in chunks");
    assert!(count < 100 || changes as u64 > count / 2, "{changes} changes were made");
    assert!(count < 100 || transfers as u64 > count / 10, "{transfers} transfers were made");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let (one, other) = (run(seed), run(seed));
        assert_eq!(one.cluster.effects, other.cluster.effects);
    }
}
