//! Majorities of a configuration, joint or not [Raft §6].
//!
//! Invariant: any two quorums of one configuration share a voter. A joint configuration needs a
//! majority of each half by itself; learners never count; no voters have no quorum.

use crate::{Configuration, ReplicaId};

/// The greatest value that a quorum has reached, if `value` tells what each voter has. 0 without
/// voters.
pub(crate) fn reached(configuration: &Configuration, value: impl Fn(ReplicaId) -> u64) -> u64 {
    let incoming = majority_reached(&configuration.voters, &value);
    if configuration.outgoing.is_empty() {
        return incoming;
    }
    incoming.min(majority_reached(&configuration.outgoing, &value))
}

/// Whether a quorum is in `holds`.
pub(crate) fn has_quorum(configuration: &Configuration, holds: impl Fn(ReplicaId) -> bool) -> bool {
    reached(configuration, |id| u64::from(holds(id))) == 1
}

/// Quadratic in the number of voters, which is small, and free of allocation.
fn majority_reached(voters: &[ReplicaId], value: &impl Fn(ReplicaId) -> u64) -> u64 {
    let majority = voters.len() / 2 + 1;
    let mut best = 0;
    for candidate in voters.iter().map(|&id| value(id)) {
        let holders = || voters.iter().filter(|&&id| value(id) >= candidate).count();
        if candidate > best && holders() >= majority {
            best = candidate;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn configuration(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Configuration {
        let ids = |list: &[u64]| list.iter().map(|&id| ReplicaId(id)).collect();
        Configuration {
            voters: ids(voters),
            outgoing: ids(outgoing),
            learners: ids(learners),
            ..Configuration::default()
        }
    }

    /// The same by sorting.
    fn reached_slowly(voters: &[u64], values: &[u64]) -> u64 {
        let mut sorted: Vec<u64> = voters.iter().map(|&id| values[id as usize]).collect();
        sorted.sort_unstable();
        sorted.reverse();
        sorted.get(voters.len() / 2).copied().unwrap_or(0)
    }

    #[test]
    fn agrees_with_sorting() {
        let mut state = 1u64;
        for round in 0..2000 {
            let mut values = vec![0; 8];
            for value in &mut values {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *value = (state >> 33) % 6;
            }
            let voters: Vec<u64> = (0..round % 8).collect();
            let outgoing: Vec<u64> = (3..3 + round % 5).collect();
            let expected = if outgoing.is_empty() {
                reached_slowly(&voters, &values)
            } else {
                reached_slowly(&voters, &values).min(reached_slowly(&outgoing, &values))
            };
            let configuration = configuration(&voters, &outgoing, &[7]);
            assert_eq!(reached(&configuration, |id| values[id.0 as usize]), expected);
        }
    }

    #[test]
    fn nobody_is_no_quorum() {
        assert!(!has_quorum(&Configuration::default(), |_| true));
    }

    #[test]
    fn a_joint_configuration_needs_both_halves() {
        let joint = configuration(&[1, 2, 3], &[3, 4, 5], &[6, 7]);
        let holds = |set: &[u64]| {
            let set = set.to_vec();
            has_quorum(&joint, move |id| set.contains(&id.0))
        };
        assert!(!holds(&[1, 2]));
        assert!(!holds(&[1, 2, 6, 7]));
        assert!(!holds(&[3, 4]));
        assert!(holds(&[1, 3, 4]));
        assert!(holds(&[1, 2, 4, 5]));
    }
}
