//! What holds for any bytes and any configuration.

use flotilla_raft::{Configuration, ReplicaId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

fn ids(least: usize) -> impl Strategy<Value = Vec<ReplicaId>> {
    btree_set(any::<u64>(), least..6).prop_map(|ids| ids.into_iter().map(ReplicaId).collect())
}

fn configurations() -> impl Strategy<Value = Configuration> {
    let numbers = (any::<u64>(), any::<u64>());
    (ids(1), ids(0), ids(0), numbers).prop_map(|(voters, outgoing, mut learners, numbers)| {
        learners.retain(|id| !voters.contains(id));
        let (retired, lease) = (ReplicaId(numbers.0), numbers.1);
        Configuration { voters, outgoing, learners, retired, lease }
    })
}

proptest! {
    #[test]
    fn decodes_what_it_encoded(configuration in configurations()) {
        prop_assert!(configuration.is_well_formed());
        let bytes = configuration.encode();
        prop_assert_eq!(Configuration::decode(&bytes), Some(configuration));
    }

    #[test]
    fn a_cut_or_a_longer_one_is_refused(configuration in configurations(), cut in any::<usize>()) {
        let mut bytes = configuration.encode();
        prop_assert_eq!(Configuration::decode(&bytes[..cut % bytes.len()]), None);
        bytes.push(0);
        prop_assert_eq!(Configuration::decode(&bytes), None);
    }

    #[test]
    fn any_bytes_are_refused_or_well_formed(bytes in vec(0u8..4, 0..60)) {
        if let Some(configuration) = Configuration::decode(&bytes) {
            prop_assert!(configuration.is_well_formed());
            prop_assert_eq!(configuration.encode(), bytes);
        }
    }

    #[test]
    fn members_are_everybody_once(configuration in configurations()) {
        let members = configuration.members();
        prop_assert!(members.windows(2).all(|pair| pair[0] < pair[1]));
        for voter in configuration.all_voters() {
            prop_assert!(members.contains(&voter) && configuration.is_voter(voter));
        }
    }
}
