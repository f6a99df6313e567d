//! Small searches, as far as a test may take; and hosts that break their contract, which must be
//! noticed, or else the checks check nothing.

use flotilla_explore::{Begin, Budget, HostFault, Scope, explore};

fn scope(begin: Begin, term_max: u64, budget: Budget) -> Scope {
    Scope {
        name: "test",
        begin,
        term_max,
        budget,
        under_way_max: 6,
        states_max: 400_000,
        actions_max: usize::MAX,
        fault: None,
    }
}

#[test]
fn every_scope_of_ci_begins_well() {
    for scope in Scope::all(3_000) {
        let explored = explore(&scope, 1).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(explored.whole || explored.states >= 3_000, "{}: {explored:?}", scope.name);
        assert!(explored.steps > explored.states, "{}: {explored:?}", scope.name);
    }
}

/// The words leave nothing out that makes a difference: else what is found would depend on which
/// of two states that are taken for one comes first.
#[test]
fn as_many_states_are_found_on_any_number_of_threads() {
    let mut scope = scope(Begin::Blank, 1, Budget::default());
    scope.actions_max = 7;
    let one = explore(&scope, 1).unwrap_or_else(|violation| panic!("{violation}"));
    let three = explore(&scope, 3).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(one.states > 1_000, "{one:?}");
    assert_eq!(one, three);
}

#[test]
fn a_forgotten_vote_is_noticed() {
    let mut scope = scope(Begin::Split, 1, Budget { crashes: 1, ..Budget::default() });
    scope.fault = Some(HostFault::ForgetsVote);
    let violation = explore(&scope, 2).expect_err("a term comes to have two leaders");
    assert!(violation.to_string().contains("leader"), "{violation}");
}

#[test]
fn a_forgotten_entry_is_noticed() {
    let mut scope = scope(Begin::Lagging, 3, Budget { crashes: 1, ..Budget::default() });
    scope.fault = Some(HostFault::ForgetsEntry);
    let violation = explore(&scope, 2).expect_err("a committed entry is gone");
    assert!(violation.to_string().contains("committed"), "{violation}");
}
