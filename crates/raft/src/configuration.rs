//! Configurations on the wire and on disk, and which one is in force.
//!
//! A configuration takes effect when it is appended, not when it is committed [Raft §6]; so the
//! history of those not yet under a snapshot is kept, and a truncation rolls back as many as it
//! removes.
//!
//! Invariants: the history is never empty; its indexes ascend; its first is in force at the
//! snapshot's index.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | number of voters, little-endian |
//! | 4 | number of outgoing voters |
//! | 4 | number of learners |
//! | 8 each | their ids, in this order, each list strictly ascending |
//! | 8 | the highest retired id |
//! | 8 | the lease, µs |

use alloc::vec;
use alloc::vec::Vec;

use crate::{Configuration, Entry, EntryKind, Index, ReplicaId, Term};

const HEADER_BYTES: usize = 12;
const TRAILER_BYTES: usize = 16;

impl Configuration {
    /// A plain configuration of these voters, in any order, without learners.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        let mut voters: Vec<ReplicaId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Self { voters, ..Self::default() }
    }

    /// The bytes of an [`EntryKind::Configuration`] entry.
    pub fn encode(&self) -> Vec<u8> {
        let lists = [&self.voters, &self.outgoing, &self.learners];
        let ids: usize = lists.iter().map(|list| list.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 * ids + TRAILER_BYTES);
        for list in lists {
            let count = u32::try_from(list.len()).expect("a group has fewer than 2^32 replicas");
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        for id in lists.into_iter().flatten() {
            bytes.extend_from_slice(&id.0.to_le_bytes());
        }
        bytes.extend_from_slice(&self.retired.0.to_le_bytes());
        bytes.extend_from_slice(&self.lease.to_le_bytes());
        bytes
    }

    /// What [`Configuration::encode`] made; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, ids) = bytes.split_at_checked(HEADER_BYTES)?;
        let (ids, []) = ids.as_chunks::<8>() else { return None };
        let (counts, []) = header.as_chunks::<4>() else { return None };
        let mut ids = ids.iter().map(|id| ReplicaId(u64::from_le_bytes(*id)));
        let mut lists = [vec![], vec![], vec![]];
        for (list, count) in lists.iter_mut().zip(counts) {
            for _ in 0..u32::from_le_bytes(*count) {
                list.push(ids.next()?);
            }
        }
        let [voters, outgoing, learners] = lists;
        let (retired, lease) = (ids.next()?, ids.next()?.0);
        let configuration = Self { voters, outgoing, learners, retired, lease };
        (ids.next().is_none() && configuration.is_well_formed()).then_some(configuration)
    }

    /// Whether it has voters, its lists ascend strictly, and no learner is an incoming voter.
    pub fn is_well_formed(&self) -> bool {
        let ascends = |list: &[ReplicaId]| list.windows(2).all(|pair| pair[0] < pair[1]);
        !self.voters.is_empty()
            && ascends(&self.voters)
            && ascends(&self.outgoing)
            && ascends(&self.learners)
            && self.learners.iter().all(|id| self.voters.binary_search(id).is_err())
    }

    /// Whether `id` votes, in either half.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Everybody who votes, ascending, once each.
    pub fn all_voters(&self) -> Vec<ReplicaId> {
        let mut ids = [self.voters.as_slice(), &self.outgoing].concat();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Everybody who gets the log, ascending, once each.
    pub fn members(&self) -> Vec<ReplicaId> {
        let mut ids = [self.voters.as_slice(), &self.outgoing, &self.learners].concat();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether it has two halves.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` gets the log.
    pub fn is_member(&self, id: ReplicaId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// The highest id that is a member or ever was one; new members have higher ones.
    pub fn highest_id(&self) -> ReplicaId {
        self.members().last().copied().unwrap_or_default().max(self.retired)
    }

    /// With these voters and learners, and everybody else who is a member now retired.
    pub(crate) fn succeeded_by(&self, next: Self) -> Self {
        let gone = self.members().into_iter().filter(|&id| !next.is_member(id)).max();
        let retired = self.retired.max(gone.unwrap_or_default());
        Self { retired, ..next }
    }

    /// Whether `id` alone is a quorum.
    pub(crate) fn is_sole_voter(&self, id: ReplicaId) -> bool {
        self.voters == [id] && self.outgoing.iter().all(|&other| other == id)
    }

    /// The configuration that `entry` carries. Panics if it carries none that can be read, which
    /// is refused before an entry gets into a log.
    fn of_entry(entry: &Entry) -> Self {
        Self::decode(entry.payload.bytes()).expect("only readable configurations are appended")
    }
}

/// The configurations from the snapshot's on.
#[derive(Clone, Hash)]
pub(crate) struct ConfigurationHistory {
    versions: Vec<(Index, Configuration)>,
}

impl ConfigurationHistory {
    /// Begins at a snapshot.
    pub(crate) fn new(snapshot: Index, configuration: Configuration) -> Self {
        Self { versions: vec![(snapshot, configuration)] }
    }

    /// Takes note of `entry`, which was appended.
    pub(crate) fn appended(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Configuration {
            self.versions.push((entry.index, Configuration::of_entry(entry)));
        }
    }

    /// Takes note of `entry`, which is in the log and was not readable before.
    pub(crate) fn repaired(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Configuration {
            let place = self.versions.partition_point(|(at, _)| *at < entry.index);
            self.versions.insert(place, (entry.index, Configuration::of_entry(entry)));
        }
    }

    /// Rolls back what was appended from `index` on.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        while self.versions.len() > 1 && self.versions[self.versions.len() - 1].0 >= index {
            self.versions.pop();
        }
    }

    /// Begins anew at a snapshot whose configuration is known, with what was appended after it.
    pub(crate) fn begin_at(&mut self, index: Index, configuration: Configuration) {
        let after = self.versions.partition_point(|(at, _)| *at <= index);
        self.versions.splice(..after, [(index, configuration)]);
    }

    /// Forgets what is under a snapshot at `index`.
    pub(crate) fn compact(&mut self, index: Index) {
        let kept = self.versions.partition_point(|(at, _)| *at <= index).saturating_sub(1);
        self.versions.drain(..kept);
        self.versions[0].0 = index;
    }

    /// Where the configuration in force was appended.
    pub(crate) fn current_index(&self) -> Index {
        self.versions[self.versions.len() - 1].0
    }

    /// The configuration in force: the last one appended.
    pub(crate) fn current(&self) -> &Configuration {
        &self.versions[self.versions.len() - 1].1
    }

    /// The configuration as of `index`. Panics below the snapshot.
    pub(crate) fn as_of(&self, index: Index) -> &Configuration {
        let after = self.versions.partition_point(|(at, _)| *at <= index);
        assert!(after > 0, "a configuration is asked for at or above the snapshot");
        &self.versions[after - 1].1
    }

    /// The configuration as of `index` and all after it. Panics below the snapshot.
    pub(crate) fn since(&self, index: Index) -> impl Iterator<Item = &Configuration> {
        let after = self.versions.partition_point(|(at, _)| *at <= index);
        assert!(after > 0, "a configuration is asked for at or above the snapshot");
        self.versions[after - 1..].iter().map(|(_, configuration)| configuration)
    }

    /// Where the configurations come from, for [`crate::Raft::check_invariants`].
    pub(crate) fn versions(&self) -> &[(Index, Configuration)] {
        &self.versions
    }
}

/// Whether a host may put these entries behind (`prev_index`, `prev_term`) in `term`: contiguous,
/// terms not descending nor above the sender's, and every configuration readable. What fails this
/// was not sent by a replica.
pub(crate) fn are_well_formed(
    entries: &[Entry],
    prev_index: Index,
    prev_term: Term,
    term: Term,
) -> bool {
    let mut before = (prev_index, prev_term);
    for entry in entries {
        let readable = entry.kind != EntryKind::Configuration
            || Configuration::decode(entry.payload.bytes()).is_some();
        if entry.index != before.0.next() || entry.term < before.1 || !readable {
            return false;
        }
        before = (entry.index, entry.term);
    }
    before.1 <= term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    fn ids(list: &[u64]) -> Vec<ReplicaId> {
        list.iter().map(|&id| ReplicaId(id)).collect()
    }

    fn joint() -> Configuration {
        Configuration {
            voters: ids(&[1, 2, 3]),
            outgoing: ids(&[3, 4]),
            learners: ids(&[4, 9]),
            retired: ReplicaId(8),
            lease: 250_000,
        }
    }

    #[test]
    fn decodes_what_it_encoded_and_nothing_else() {
        let bytes = joint().encode();
        assert_eq!(Configuration::decode(&bytes), Some(joint()));
        for length in 0..bytes.len() {
            assert_eq!(Configuration::decode(&bytes[..length]), None);
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0; 8]);
        assert_eq!(Configuration::decode(&longer), None);
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 0x80;
            assert_ne!(Configuration::decode(&flipped), Some(joint()));
        }
        assert_eq!(Configuration::decode(&[0xff; 64]), None);
    }

    #[test]
    fn a_sole_voter_is_alone_in_both_halves() {
        let sole = |voters: &[u64], outgoing: &[u64]| {
            let (voters, outgoing) = (ids(voters), ids(outgoing));
            let configuration = Configuration { voters, outgoing, ..Configuration::default() };
            configuration.is_sole_voter(ReplicaId(1))
        };
        assert!(sole(&[1], &[]) && sole(&[1], &[1]));
        assert!(!sole(&[1], &[2]) && !sole(&[1], &[1, 2]) && !sole(&[2], &[]) && !sole(&[], &[]));
    }

    #[test]
    fn who_left_last_is_remembered() {
        let next = Configuration::of_voters(ids(&[1, 2]));
        let before = Configuration { retired: ReplicaId(5), ..Configuration::of_voters(ids(&[1])) };
        assert_eq!(before.succeeded_by(next.clone()).retired, ReplicaId(5), "nobody left");
        let before = Configuration::of_voters(ids(&[1, 2, 3, 4]));
        assert_eq!(before.succeeded_by(next).retired, ReplicaId(4));
    }

    #[test]
    fn a_truncation_rolls_back_several_configurations() {
        let entry = |index, voters: &[u64]| Entry {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Configuration,
            payload: Payload::new(Configuration::of_voters(ids(voters)).encode()),
        };
        let mut history = ConfigurationHistory::new(Index(2), Configuration::of_voters(ids(&[1])));
        history.appended(&entry(4, &[1, 2]));
        history.appended(&entry(6, &[1, 2, 3]));
        assert_eq!(history.as_of(Index(5)).voters, ids(&[1, 2]));
        history.truncate_from(Index(4));
        assert_eq!(history.current().voters, ids(&[1]));
        history.appended(&entry(4, &[7]));
        history.compact(Index(5));
        assert_eq!(history.as_of(Index(5)).voters, ids(&[7]));
        assert_eq!(history.versions().len(), 1);
    }
}
