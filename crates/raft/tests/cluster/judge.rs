//! The safety properties of [Raft Figure 3], and what the crate promises beyond them, checked from
//! outside while a test runs.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::{
    AppendOutcome, Body, Configuration, Entry, EntryKind, Index, Message, Note, Raft, ReplicaId,
    RequestId, SnapshotMeta, Term,
};

use super::host::Host;

#[derive(Default)]
pub(crate) struct Judge {
    leaders: BTreeMap<Term, ReplicaId>,
    /// Everything that any replica ever applied; `committed[0]` has index 1.
    pub(crate) committed: Vec<Entry>,
    /// What was committed when each read was registered.
    reads: BTreeMap<RequestId, Index>,
    pub(crate) reads_served: usize,
    pub(crate) lease_reads: usize,
    pub(crate) repaired: usize,
    pub(crate) states_lost: usize,
    /// How often one was found again.
    pub(crate) states_found: usize,
    /// What is committed by the word of one that has no state to apply it to.
    committed_unapplied: Index,
    pub(crate) served: BTreeMap<RequestId, Index>,
    last_commit: BTreeMap<ReplicaId, (Term, Index)>,
    last_applied: BTreeMap<ReplicaId, Index>,
    /// What the group was founded with.
    founding: Configuration,
    /// The last committed configuration, and who was ever a member.
    configuration: Configuration,
    members_ever: BTreeSet<ReplicaId>,
    /// The entry of a forced recovery, which obeys no rules.
    forced: Option<Entry>,
    /// The changes asked for and not answered.
    changes: BTreeMap<RequestId, (Vec<ReplicaId>, Vec<ReplicaId>)>,
    pub(crate) changes_done: usize,
    pub(crate) transfers_done: usize,
    /// Snapshots that arrived in chunks.
    pub(crate) transfers_in_chunks: usize,
}

impl Judge {
    /// The last index any replica knows to be committed.
    pub(crate) fn committed_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// Terms and commit indexes never descend in the life of a replica.
    pub(crate) fn stepped(&mut self, host: &Host) {
        let Some(raft) = &host.raft else { return };
        let (last, asked) = (raft.last_index(), host.asked.last_index());
        // A damaged tail that was given up stays on disk until something takes its place.
        let given_up = last < asked && !host.asked.damaged.is_empty();
        assert!(last == asked || given_up, "every change of the log is asked for");
        let now = (raft.term(), raft.commit_index());
        let before = self.last_commit.insert(raft.id(), now).unwrap_or_default();
        assert!(before.0 <= now.0, "a term never descends");
        assert!(before.1 <= now.1, "a commit index never descends");
        if raft.lacks_state() {
            self.last_applied.remove(&raft.id());
        } else {
            let applied = raft.status().applied;
            let before = self.last_applied.insert(raft.id(), applied).unwrap_or_default();
            assert!(before <= applied, "what is applied stays applied");
        }
    }

    /// The last index that is committed, though perhaps applied nowhere.
    pub(crate) fn known_committed(&self) -> Index {
        self.committed_index().max(self.committed_unapplied)
    }

    /// What one without its state says is committed counts, though nobody may have applied it yet.
    pub(crate) fn believes(&mut self, raft: &Raft) {
        if raft.lacks_state() {
            self.committed_unapplied = self.committed_unapplied.max(raft.commit_index());
        }
    }

    pub(crate) fn restarted(&mut self, id: ReplicaId) {
        // The commit index is not kept, and a term may be lost that was never durable.
        self.last_commit.remove(&id);
        self.last_applied.remove(&id);
    }

    /// Promises are made of what is durable only.
    pub(crate) fn sent(host: &Host, message: &Message) {
        let (durable, term) = (&host.disk, message.term);
        match &message.body {
            Body::RequestVote { .. } => {
                let own = (durable.hard_state.term, durable.hard_state.voted_for);
                assert_eq!(own, (term, Some(message.from)), "a vote is asked for once durable");
            }
            Body::VoteReply { granted: true } => {
                let vote = (durable.hard_state.term, durable.hard_state.voted_for);
                assert_eq!(vote, (term, Some(message.to)), "a vote is given once durable");
            }
            Body::AppendReply { outcome: AppendOutcome::Matched { index }, .. } => {
                assert_eq!(durable.hard_state.term, term, "an answer is of a durable term");
                assert!(durable.last_index() >= *index, "an answer is of durable entries");
                for at in durable.snapshot.index.0 + 1..=index.0 {
                    let asked = host.asked.term_at(Index(at));
                    let known = asked.is_none() || asked == durable.term_at(Index(at));
                    assert!(known, "an answer is of entries that were not replaced");
                }
            }
            _ => {}
        }
    }

    /// State machine safety: no two replicas apply different entries at one index.
    pub(crate) fn applied(&mut self, id: ReplicaId, entries: &[Entry]) {
        for entry in entries {
            let offset = entry.index.0 as usize - 1;
            if offset == self.committed.len() {
                self.committed.push(entry.clone());
                self.check_configuration(entry);
            }
            let known = self.committed.get(offset).expect("nothing is committed behind a gap");
            assert_eq!(known, entry, "replica {id} applies what all apply");
        }
    }

    pub(crate) fn restored(&mut self, id: ReplicaId, meta: &SnapshotMeta) {
        let known = &self.committed[meta.index.0 as usize - 1];
        assert_eq!(known.term, meta.term, "replica {id} restores what was committed");
    }

    pub(crate) fn founded(&mut self, configuration: Configuration) {
        self.members_ever = configuration.members().into_iter().collect();
        self.founding = configuration.clone();
        self.configuration = configuration;
    }

    /// The configuration as of a committed entry.
    fn as_of(&self, index: Index) -> Configuration {
        let committed = self.committed.iter().take(index.0 as usize).rev();
        let mut changes = committed.filter(|entry| entry.kind == EntryKind::Configuration);
        changes.next().map_or_else(|| self.founding.clone(), configuration_in)
    }

    /// A snapshot names the configuration of its last entry.
    pub(crate) fn snapshotted(&self, meta: &SnapshotMeta) {
        if meta.index <= self.committed_index() {
            let known = self.as_of(meta.index);
            assert_eq!(meta.configuration, known, "a snapshot is of one place in the log");
        }
    }

    /// The configuration in force is the last one of the log [Raft §6].
    fn check_in_force(&self, host: &Host, raft: &Raft) {
        let log = &host.asked;
        if log.has_damage() || raft.last_index() != log.last_index() {
            return;
        }
        let mut changes =
            log.entries.iter().rev().filter(|entry| entry.kind == EntryKind::Configuration);
        let known = match changes.next() {
            Some(entry) => configuration_in(entry),
            None if log.snapshot.index <= self.committed_index() => self.as_of(log.snapshot.index),
            None => return,
        };
        assert_eq!(*raft.configuration(), known, "the last configuration of the log is in force");
    }

    pub(crate) fn forced(&mut self, entry: Entry) {
        self.forced = Some(entry);
    }

    /// Voters change through a joint configuration only, and no id comes back.
    fn check_configuration(&mut self, entry: &Entry) {
        if entry.kind != EntryKind::Configuration {
            return;
        }
        let next = configuration_in(entry);
        let before = std::mem::replace(&mut self.configuration, next.clone());
        if self.forced.as_ref() == Some(entry) {
            return;
        }
        if next.is_joint() {
            assert!(!before.is_joint(), "a joint configuration follows a plain one");
            assert_eq!(next.outgoing, before.voters, "its old half is the one before");
        } else {
            assert_eq!(next.voters, before.voters, "voters change in a joint configuration only");
        }
        for id in next.members() {
            let stays = before.is_member(id);
            assert!(self.members_ever.insert(id) || stays, "replica {id} comes back");
        }
    }

    pub(crate) fn change_asked(
        &mut self,
        request: RequestId,
        voters: &[ReplicaId],
        learners: &[ReplicaId],
    ) {
        self.changes.insert(request, (voters.to_vec(), learners.to_vec()));
    }

    /// Who is a member by the last committed configuration.
    pub(crate) fn members(&self) -> Vec<ReplicaId> {
        self.configuration.members()
    }

    /// What was asked for is in force, and committed.
    pub(crate) fn completed(&mut self, request: RequestId) {
        let Some((voters, learners)) = self.changes.remove(&request) else {
            self.transfers_done += 1;
            return;
        };
        self.changes_done += 1;
        let sorted = |mut list: Vec<ReplicaId>| {
            list.sort_unstable();
            list
        };
        if self.committed_unapplied > self.committed_index() {
            return;
        }
        assert_eq!(self.configuration.voters, sorted(voters));
        assert_eq!(self.configuration.learners, sorted(learners));
        assert!(!self.configuration.is_joint(), "a change ends with one half");
    }

    /// Election safety: one leader per term, which does not begin it anew after a crash.
    pub(crate) fn noted(&mut self, id: ReplicaId, note: &Note) {
        if let Note::BecameLeader { term } = note {
            let known = self.leaders.insert(*term, id);
            assert_eq!(known, None, "term {term} has one leader, which begins it once");
        }
    }

    pub(crate) fn read_registered(&mut self, request: RequestId) {
        self.reads.insert(request, self.committed_index());
    }

    /// A read sees everything that was committed anywhere when it was registered.
    pub(crate) fn read_ready(&mut self, request: RequestId, index: Index, by_lease: bool) {
        let least = self.reads.remove(&request).expect("a read is answered once");
        assert!(index >= least, "read {request} at {index} misses entries up to {least}");
        assert!(index <= self.known_committed(), "a read waits for committed entries only");
        self.reads_served += 1;
        self.lease_reads += usize::from(by_lease);
        self.served.insert(request, index);
    }

    pub(crate) fn refused(&mut self, request: RequestId) {
        self.reads.remove(&request);
        self.changes.remove(&request);
    }

    /// Leader completeness and log matching, over all replicas that are up.
    pub(crate) fn check_logs(&self, hosts: &BTreeMap<ReplicaId, Host>) {
        let up: Vec<&Host> = hosts.values().filter(|host| host.raft.is_some()).collect();
        for host in &up {
            self.check_leader_is_complete(host, &up);
            if let Some(raft) = &host.raft {
                self.check_in_force(host, raft);
            }
            for other in &up {
                check_logs_match(host, other);
            }
        }
    }

    fn check_leader_is_complete(&self, host: &Host, up: &[&Host]) {
        let Some(raft) = host.raft.as_ref().filter(|raft| raft.is_leader()) else { return };
        let newest =
            up.iter().filter_map(|host| host.raft.as_ref()).all(|r| r.term() <= raft.term());
        if !newest {
            return;
        }
        for entry in &self.committed {
            if entry.index > host.asked.snapshot.index {
                let term = host.asked.term_at(entry.index);
                assert_eq!(term, Some(entry.term), "a leader has every committed entry");
            }
        }
    }
}

/// If two logs have an entry of one index and term, they agree up to it.
fn check_logs_match(one: &Host, other: &Host) {
    let first = one.asked.snapshot.index.max(other.asked.snapshot.index).0 + 1;
    let last = one.asked.last_index().min(other.asked.last_index()).0;
    let entry = |host: &Host, index: u64| {
        host.asked.entries[(index - host.asked.snapshot.index.0 - 1) as usize].clone()
    };
    let mut agreed = false;
    for index in (first..=last).rev() {
        let (a, b) = (entry(one, index), entry(other, index));
        agreed |= a.term == b.term;
        assert!(!agreed || a == b, "logs that agree at one place agree before it");
    }
}

fn configuration_in(entry: &Entry) -> Configuration {
    Configuration::decode(entry.payload.bytes()).expect("it can be read")
}
