//! What must hold between any two steps. The cheap part is checked after every step, also in
//! release builds; the rest on demand.

use crate::raft::Raft;
use crate::role::{Follower, Leader, Role};
use crate::{Configuration, EntryKind, Index, ReplicaId};

impl Raft {
    /// The order of all positions, in constant time.
    pub(crate) fn check_order(&self) {
        let (base, snapshot) = (self.log.base(), self.log.snapshot());
        let last = self.log.last_index();
        let kept = base <= snapshot.index || base <= self.applied_index;
        assert!(kept, "what is not applied stays in memory");
        let kept = base <= snapshot.index || base <= self.log.durable_index();
        assert!(kept, "what is not durable stays in memory");
        assert!(snapshot.index <= self.commit_index, "a snapshot is of committed entries");
        assert!(self.commit_index <= last, "only entries of the log are committed");
        let hole_is_next = self.log.holes().first() == Some(&self.emitted_index.next());
        assert!(self.emitted_index <= self.commit_index, "only what is committed was handed out");
        let waits = hole_is_next || self.lacks_state();
        let handed_out = self.emitted_index == self.commit_index || waits;
        assert!(handed_out, "what is committed was handed out");
        assert!(self.applied_index <= self.emitted_index, "only what was handed out is applied");
        assert!(self.log.durable_index() <= last, "only entries of the log are durable");
        assert!(self.log.last_term() <= self.hard_state.term, "no entry is of a later term");
    }

    /// Checks every invariant of the crate that one replica can see between two steps, in time
    /// linear in its log. What spans steps (terms and the commit index never descend) or replicas
    /// (one leader per term) needs a witness outside.
    ///
    /// Panics with the claim that is broken.
    pub fn check_invariants(&self) {
        self.check_order();
        self.log.check();
        self.check_holes();
        self.check_configurations();
        let asked = self.log.writes().asked_hard_state();
        assert!(asked == self.hard_state, "term and vote were asked for by the end of the step");
        match &self.role {
            Role::Follower(follower) => self.check_follower(follower),
            Role::PreCandidate(candidate) => {
                assert!(candidate.votes.contains(&self.config.id), "it would vote for itself");
                check_votes(&candidate.votes);
            }
            Role::Candidate(candidate) => {
                let own_vote = self.hard_state.voted_for == Some(self.config.id);
                assert!(own_vote, "a candidate votes for itself");
                assert!(candidate.asked || candidate.votes.is_empty(), "no vote came unasked");
                assert!(!(candidate.asked && candidate.inquires), "who inquires asks for no vote");
                let durable = self.log.writes().holds(self.hard_state);
                assert!(!candidate.asked || durable, "a vote is asked for once the own is durable");
                check_votes(&candidate.votes);
            }
            Role::Leader(leader) => self.check_leader(leader),
        }
    }

    fn check_follower(&self, follower: &Follower) {
        assert!(follower.leader != Some(self.config.id), "nobody follows itself");
        assert!(follower.agreed <= self.log.last_index(), "what agrees is in the log");
        let voted = self.hard_state.voted_for.is_some();
        assert!(!follower.vote_owed || voted, "an owed vote was given to somebody");
        let led = follower.leader.is_some();
        assert!(!(follower.vote_owed && led), "a term that has a leader needs no vote");
        assert!(led || follower.reads.pending() == 0, "a read waits for a leader's answer");
        assert!(led || !follower.ack_owed, "an answer is owed to a leader");
    }

    fn check_holes(&self) {
        let above = self.log.holes().first().is_none_or(|hole| *hole > self.emitted_index);
        assert!(above, "nothing is handed out past a hole");
    }

    fn check_leader(&self, leader: &Leader) {
        let last = self.log.last_index();
        assert!(self.hard_state.voted_for == Some(self.config.id), "a leader voted for itself");
        assert!(self.log.writes().holds(self.hard_state), "a leader's own vote is durable");
        assert!(!self.is_configuration_unknown(), "a leader knows its configuration");
        if self.log.holes().is_empty() {
            let own = self.log.last_term() == self.hard_state.term;
            assert!(own, "a leader's log ends in its term");
            assert!(leader.first_index <= last, "a term begins with an entry");
        } else {
            assert!(leader.first_index == last.next(), "no term is opened over a hole");
        }
        if let Some(held) = self.held_index() {
            assert!(held > self.log.snapshot().index, "a compaction that waits is of more");
            assert!(held <= self.emitted_index, "a snapshot is of applied entries");
        }
        let repeated = |(at, load): (usize, &Index)| leader.loads[..at].contains(load);
        assert!(!leader.loads.iter().enumerate().any(repeated), "each gap is loaded once");
        self.check_members(leader);
        leader.reads.check(leader.first_index, self.commit_index);
        if let Some(change) = &leader.change {
            change.check(self.configuration());
        }
        if let Some(transfer) = &leader.transfer {
            transfer.check(self.configuration(), self.config.id);
        }
    }

    /// A leader follows everybody else, and who leaves only until that is committed.
    fn check_members(&self, leader: &Leader) {
        let last = self.log.last_index();
        let ascending = leader.progress.windows(2).all(|pair| pair[0].id < pair[1].id);
        assert!(ascending, "the progress is in order");
        for progress in &leader.progress {
            assert!(progress.id != self.config.id, "a leader does not replicate to itself");
            assert!(progress.round <= leader.reads.round(), "no round is answered before it began");
            progress.check(last, self.config.max_inflight_messages);
        }
        let followed = |id: &ReplicaId| {
            *id == self.config.id || leader.progress.iter().any(|known| known.id == *id)
        };
        let members = self.configuration().members();
        assert!(members.iter().all(followed), "a leader follows all members");
        let settled = self.configurations.current_index() <= self.commit_index;
        if settled && leader.first_index <= self.commit_index {
            let mut ids = leader.progress.iter().map(|known| known.id);
            assert!(ids.all(|id| members.contains(&id)), "who left is forgotten");
        }
    }

    fn check_configurations(&self) {
        let versions = self.configurations.versions();
        let (at, _) = versions.first().expect("the history is never empty");
        assert!(*at == self.log.snapshot().index, "the history begins at the snapshot");
        let ascending = versions.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(ascending, "the history ascends");
        let (last, newest) = (self.log.last_index(), self.configurations.current_index());
        assert!(newest <= last.max(*at), "a truncation rolls back what it removes");
        let readable = versions.iter().skip(1).all(|(_, known)| known.is_well_formed());
        assert!(readable, "only readable configurations are appended");
        let first = self.log.base().max(self.log.snapshot().index);
        // What left memory can't be compared.
        let versions = versions[1..].iter().filter(|(at, _)| *at > first);
        let entries = self.log.entries().iter();
        let changes = entries
            .filter(|entry| entry.kind == EntryKind::Configuration && entry.index > first)
            .filter(|entry| !self.log.holes().contains(&entry.index));
        let changes = changes.map(|entry| {
            (entry.index, Configuration::decode(entry.payload.bytes()).expect("it was readable"))
        });
        assert!(changes.eq(versions.cloned()), "the history is what the log says");
    }
}

fn check_votes(votes: &[ReplicaId]) {
    let repeated = |(at, vote): (usize, &ReplicaId)| votes[..at].contains(vote);
    assert!(!votes.iter().enumerate().any(repeated), "each vote counts once");
}
