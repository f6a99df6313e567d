//! What must hold between any two steps. The cheap part is checked after every step, also in
//! release builds; the rest on demand.

use crate::progress::Flow;
use crate::raft::Raft;
use crate::role::Role;
use crate::{Configuration, EntryKind};

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
        let handed_out = self.emitted_index == self.commit_index || hole_is_next;
        assert!(handed_out, "what is committed was handed out");
        assert!(self.applied_index <= self.emitted_index, "only what was handed out is applied");
        assert!(self.log.durable_index() <= last, "only entries of the log are durable");
        assert!(self.log.last_term() <= self.hard_state.term, "no entry is of a later term");
    }

    /// Checks every invariant of the crate that one replica can see, in time linear in its log.
    ///
    /// Panics with the claim that is broken.
    pub fn check_invariants(&self) {
        self.check_order();
        self.log.check();
        self.check_configurations();
        match &self.role {
            Role::Follower(follower) => {
                assert!(follower.leader != Some(self.config.id), "nobody follows itself");
                assert!(follower.agreed <= self.log.last_index(), "what agrees is in the log");
                let voted = self.hard_state.voted_for.is_some();
                assert!(!follower.vote_owed || voted, "an owed vote was given to somebody");
            }
            Role::PreCandidate(candidate) => {
                assert!(candidate.votes.contains(&self.config.id), "it would vote for itself");
            }
            Role::Candidate(candidate) => {
                let own_vote = self.hard_state.voted_for == Some(self.config.id);
                assert!(own_vote, "a candidate votes for itself");
                assert!(candidate.asked || candidate.votes.is_empty(), "no vote came unasked");
            }
            Role::Leader(_) => self.check_leader(),
        }
    }

    fn check_leader(&self) {
        let Role::Leader(leader) = &self.role else { return };
        let last = self.log.last_index();
        assert!(self.hard_state.voted_for == Some(self.config.id), "a leader voted for itself");
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
        let ascending = leader.progress.windows(2).all(|pair| pair[0].id < pair[1].id);
        assert!(ascending, "the progress is in order");
        for progress in &leader.progress {
            assert!(progress.id != self.config.id, "a leader does not replicate to itself");
            assert!(progress.matched < progress.next, "what agrees is not sent again");
            assert!(progress.matched <= last, "nobody agrees with more than the log");
            assert!(progress.next <= last.next(), "only entries of the log are sent");
            assert!(progress.round <= leader.reads.round(), "no round is answered before it began");
            if let Flow::Replicate { in_flight, bytes } = &progress.flow {
                let messages = in_flight.len();
                assert!(messages <= self.config.max_inflight_messages, "the window has a limit");
                let above = in_flight.iter().all(|&(index, _)| index > progress.matched);
                assert!(above, "what agrees is not in flight");
                let sum = in_flight.iter().map(|(_, bytes)| bytes).sum::<u64>();
                assert!(sum == *bytes, "the bytes in flight are those of the messages");
            }
        }
    }

    fn check_configurations(&self) {
        let mut versions = self.configurations.versions().iter();
        let (at, _) = versions.next().expect("the history is never empty");
        assert!(*at == self.log.snapshot().index, "the history begins at the snapshot");
        let first = self.log.base().max(self.log.snapshot().index);
        // What left memory can't be compared.
        let mut versions = versions.filter(|(at, _)| *at > first);
        let entries = self.log.entries().iter();
        let changes = entries
            .filter(|entry| entry.kind == EntryKind::Configuration && entry.index > first)
            .filter(|entry| !self.log.holes().contains(&entry.index));
        let mut changes = changes.map(|entry| {
            (entry.index, Configuration::decode(entry.payload.bytes()).expect("it was readable"))
        });
        assert!(
            changes.by_ref().eq(versions.by_ref().cloned()),
            "the history is what the log says"
        );
    }
}
