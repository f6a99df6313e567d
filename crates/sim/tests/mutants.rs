//! Known mistakes brought in on purpose: a checker that does not notice them proves nothing.

use flotilla_sim::{Config, Failure, Mutant, family, run};

/// A mutant must be caught within so many seeds.
const SEEDS: u64 = 40;

/// Runs a mutant until it is caught; gives the first failure and how many seeds it took.
fn first_catch(mutant: Mutant, families: &[&str]) -> Option<(u64, Failure)> {
    (0..SEEDS).find_map(|seed| {
        let name = families[usize::try_from(seed).expect("small") % families.len()];
        let config = Config { mutant: Some(mutant), ..family(name, seed) };
        run(seed, config, None).err().map(|failure| (seed + 1, failure))
    })
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "the table of catches is the evidence")]
fn check(mutant: Mutant, families: &[&str], words: &[&str]) {
    let Some((seeds, failure)) = first_catch(mutant, families) else {
        panic!("{mutant:?} was not caught within {SEEDS} seeds");
    };
    println!("{mutant:?}: caught after {seeds} seeds: {}", failure.reason);
    let right = words.iter().any(|words| failure.reason.contains(words));
    assert!(right, "{mutant:?} was caught for another reason: {failure}");
}

#[test]
fn a_write_reported_before_its_sync_is_caught() {
    let words = ["disks of", "not linearizable", "INCRs were acknowledged"];
    check(Mutant::ReportsBeforeSync, &["one node", "power loss"], &words);
}

/// A wiped disk counts with what was durable on it: not with what its node only said was.
#[test]
fn a_write_reported_before_its_sync_is_caught_where_disks_are_wiped() {
    check(Mutant::ReportsBeforeSync, &["damage"], &["disks of"]);
}

#[test]
fn a_sync_that_does_nothing_is_caught() {
    let words = ["came up with another log", "recover"];
    check(Mutant::LyingSync, &["one node", "power loss"], &words);
}

#[test]
fn a_forgotten_log_is_caught() {
    let words = ["came up with another log"];
    check(Mutant::ForgetsLog, &["power loss", "leaders crash"], &words);
}

#[test]
fn a_forgotten_vote_is_caught() {
    let words = ["came up with another log"];
    check(Mutant::ForgetsVotes, &["founding", "leaders crash"], &words);
}

#[test]
fn a_forgotten_entry_is_caught() {
    let words = ["came up with another log"];
    check(Mutant::ForgetsLastEntry, &["power loss", "leaders crash"], &words);
}

#[test]
fn swapped_answers_are_caught() {
    let words = ["not linearizable", "is not", "the token", "appended"];
    check(Mutant::SwapsReplies, &["partitions", "snapshots"], &words);
}

#[test]
fn a_key_that_outlives_its_time_is_caught() {
    let words = ["after its time was up", "outlived its time", "not linearizable"];
    check(Mutant::UndeadKeys, &["clocks"], &words);
}

#[test]
fn a_key_that_goes_before_its_time_is_caught() {
    check(Mutant::HastyExpiry, &["clocks"], &["not linearizable"]);
}

#[test]
fn a_shards_clock_ahead_of_all_others_is_caught() {
    check(Mutant::HastyClocks, &["clocks", "partitions"], &["ahead of every clock"]);
}

#[test]
fn a_read_of_a_part_of_a_write_is_caught() {
    check(Mutant::TornWrites, &["partitions"], &["that are written together"]);
}

#[test]
fn a_repeated_request_is_caught() {
    let words = ["not linearizable", "INCRs were acknowledged", "the token"];
    check(Mutant::RepeatsRequests, &["leaders crash", "power loss"], &words);
}

#[test]
fn a_stale_read_is_caught() {
    check(Mutant::StaleReads, &["partitions"], &["not linearizable"]);
}

#[test]
fn a_lost_write_is_caught() {
    check(Mutant::LosesWrites, &["partitions"], &["not linearizable"]);
}

#[test]
fn without_a_mutant_nothing_is_caught() {
    for (seed, name) in [(0, "one node"), (1, "power loss"), (2, "partitions")] {
        run(seed, family(name, seed), None).expect("all is well");
    }
}
