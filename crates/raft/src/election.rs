//! Elections: pre-votes, votes, stickiness, transfers [Raft §5.2, §5.4.1, Thesis §3.10, §4.2.3,
//! §9.6].
//!
//! Invariants: at most one vote per term, durable before it is sent or counted; a term never
//! descends; the election timer is reset only by the leader of the term, by a vote given, and by
//! the own campaign, so a hopeless candidate can't keep others from campaigning.
//!
//! `Differs:` from [Thesis §9.6]: a refused pre-vote carries the term of who refuses, and the
//! asker enters it. Otherwise a long log in a low term and a short log in a high term could
//! refuse each other for ever.

use alloc::vec;
use alloc::vec::Vec;

use crate::config::PEER_GONE_DELAY_MAX;
use crate::log::Position;
use crate::progress::Progress;
use crate::raft::Raft;
use crate::read::Reads;
use crate::role::{Candidate, Follower, Leader, PreCandidate, Role};
use crate::{
    Body, Effect, Entry, EntryKind, HardState, Message, Note, Payload, Refusal, ReplicaId, Term,
    Time, quorum,
};

impl Raft {
    /// Nobody led for an election timeout.
    pub(crate) fn on_election_timeout(&mut self, effects: &mut Vec<Effect>) {
        self.reset_election_timer();
        let durable = self.log.writes().holds(self.hard_state);
        match &self.role {
            // Its disk has not kept its own vote yet; another term would only add to its work.
            Role::Candidate(candidate) if !(candidate.asked || candidate.inquires && durable) => {}
            // It could only hand over again; unless nobody else could lead.
            _ if self.stall().is_some() && !self.is_sole_voter() => {}
            _ => self.become_pre_candidate(effects),
        }
    }

    /// The leader asks this replica to take over at once.
    pub(crate) fn on_timeout_now(&mut self, from: ReplicaId, effects: &mut Vec<Effect>) {
        let able = self.may_campaign() && !self.is_configuration_unknown();
        if able && self.leader() == Some(from) && self.stall().is_none() {
            self.become_candidate(true, effects);
        }
    }

    /// A candidate for `term` asks whether this replica would vote for it. Promises nothing and
    /// changes nothing.
    pub(crate) fn on_request_pre_vote(
        &mut self,
        from: ReplicaId,
        term: Term,
        last: Position,
        effects: &mut Vec<Effect>,
    ) {
        let own = self.hard_state;
        let vote_free = term > own.term
            || (term == own.term && own.voted_for.is_none_or(|candidate| candidate == from));
        let granted = vote_free && !self.is_bound_against(from) && self.log.is_not_ahead_of(last);
        let term = if granted { term } else { own.term };
        let body = Body::PreVoteReply { granted };
        effects.push(Effect::Send(Message { from: self.config.id, to: from, term, body }));
    }

    /// `from` would vote for this replica in `term`.
    pub(crate) fn on_pre_vote_granted(
        &mut self,
        from: ReplicaId,
        term: Term,
        effects: &mut Vec<Effect>,
    ) {
        // Late answers find another role or another term, and start nothing.
        let Role::PreCandidate(candidate) = &mut self.role else { return };
        if term != self.hard_state.term.next() {
            return;
        }
        add_vote(&mut candidate.votes, from);
        if quorum::has_quorum(self.configurations.current(), |id| candidate.votes.contains(&id)) {
            self.campaign(effects);
        }
    }

    /// A candidate of the present term asks for a vote [Raft Figure 2, RequestVote RPC].
    pub(crate) fn on_request_vote(
        &mut self,
        from: ReplicaId,
        last: Position,
        effects: &mut Vec<Effect>,
    ) {
        // Who campaigns or leads has voted for itself.
        let vote_free = self.hard_state.voted_for.is_none_or(|candidate| candidate == from);
        if !vote_free || self.leader().is_some() || !self.log.is_not_ahead_of(last) {
            return self.send(from, Body::VoteReply { granted: false }, effects);
        }
        self.hard_state.voted_for = Some(from);
        self.change_role(
            Role::Follower(Follower { vote_owed: true, ..Follower::default() }),
            effects,
        );
        self.reset_election_timer();
        self.send_owed_vote(effects);
    }

    /// Sends the vote given in this term once it is durable.
    pub(crate) fn send_owed_vote(&mut self, effects: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        if !follower.vote_owed || !self.log.writes().holds(self.hard_state) {
            return;
        }
        follower.vote_owed = false;
        let candidate = self.hard_state.voted_for.expect("an owed vote was given to somebody");
        // The time that the disk took is not the candidate's fault.
        self.reset_election_timer();
        self.send(candidate, Body::VoteReply { granted: true }, effects);
    }

    /// An answer to a vote asked for in the present term.
    pub(crate) fn on_vote_reply(
        &mut self,
        from: ReplicaId,
        granted: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        if granted && candidate.asked {
            add_vote(&mut candidate.votes, from);
            self.become_leader_if_elected(effects);
        }
    }

    /// Asks for votes once the own vote is durable, and counts it.
    pub(crate) fn ask_for_votes(&mut self, effects: &mut Vec<Effect>) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        let durable = self.log.writes().holds(self.hard_state);
        if candidate.asked || candidate.inquires || !durable {
            return;
        }
        candidate.asked = true;
        add_vote(&mut candidate.votes, self.config.id);
        for voter in self.other_voters() {
            self.ask_again(voter, effects);
        }
        self.become_leader_if_elected(effects);
    }

    /// Asks `voter` for what this campaign needs, perhaps once more: its link is new.
    pub(crate) fn ask_again(&mut self, voter: ReplicaId, effects: &mut Vec<Effect>) {
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        let (term, body) = match &self.role {
            Role::PreCandidate(_) => {
                (self.hard_state.term.next(), Body::RequestPreVote { last_index, last_term })
            }
            Role::Candidate(Candidate { asked: true, transfer, .. }) => {
                let transfer = *transfer;
                (self.hard_state.term, Body::RequestVote { last_index, last_term, transfer })
            }
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => return,
        };
        if voter != self.config.id && self.configuration().is_voter(voter) {
            effects.push(Effect::Send(Message { from: self.config.id, to: voter, term, body }));
        }
    }

    /// Whether a request for a vote is not even to be heard [Raft §6, Thesis §4.2.3, §6.4.1].
    pub(crate) fn is_bound_against(&self, candidate: ReplicaId) -> bool {
        self.is_loyal_against(candidate) || self.promise.binds(candidate, self.now)
    }

    /// Whether a living leader keeps this replica from voting for `candidate`. The leader itself
    /// may ask: it does not lead any more.
    pub(crate) fn is_loyal_against(&self, candidate: ReplicaId) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => {
                follower.leader.is_some_and(|leader| leader != candidate)
                    && follower.heard_at.is_some_and(|heard_at| {
                        self.now.since(heard_at) < self.config.election_timeout
                    })
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Enters a later term, whose vote is free and whose leader is not known.
    pub(crate) fn enter_term(&mut self, term: Term, effects: &mut Vec<Effect>) {
        assert!(term > self.hard_state.term, "a term never descends");
        self.finish_transfer(effects);
        // Before the term changes: a leader's farewell names the term it led.
        self.become_follower(None, effects);
        self.hard_state = HardState { term, voted_for: None };
    }

    /// Follows `leader` in the present term, or waits for one. The timer goes on, unless this
    /// replica led and had none.
    pub(crate) fn become_follower(&mut self, leader: Option<ReplicaId>, effects: &mut Vec<Effect>) {
        let follower = Follower { leader, ..Follower::default() };
        self.change_role(Role::Follower(follower), effects);
    }

    /// Takes another role; what was asked of the one before is refused.
    fn change_role(&mut self, role: Role, effects: &mut Vec<Effect>) {
        match core::mem::replace(&mut self.role, role) {
            Role::Follower(followed) => followed.reads.refuse_all(effects),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(led) => {
                self.reset_election_timer();
                effects.push(Effect::Note(Note::SteppedDown { term: self.hard_state.term }));
                led.reads.refuse_all(effects);
                let transfer = led.transfer.and_then(|transfer| transfer.id);
                for id in led.change.map(|change| change.id()).into_iter().chain(transfer) {
                    Self::refuse(id, Refusal::NotLeader, effects);
                }
                if let Some(held) = led.held {
                    self.compact(held.meta);
                }
                self.log.release(self.log.snapshot().index, 0);
            }
        }
    }

    pub(crate) fn become_pre_candidate(&mut self, effects: &mut Vec<Effect>) {
        if !self.may_campaign() {
            return;
        }
        // It would break its own promise; a hint that the leader is gone does not end one.
        if self.promise.binds(self.config.id, self.now) {
            let jitter = self.random.below(PEER_GONE_DELAY_MAX);
            self.election_deadline = self.promise.until() + jitter;
            return;
        }
        // The vote of this term, if one was given, stays given.
        let candidate = PreCandidate { votes: vec![self.config.id] };
        self.change_role(Role::PreCandidate(candidate), effects);
        if self.is_sole_voter() {
            return self.campaign(effects);
        }
        for voter in self.other_voters() {
            self.ask_again(voter, effects);
        }
    }

    /// An election would be won, by the configuration that is known.
    fn campaign(&mut self, effects: &mut Vec<Effect>) {
        if self.is_configuration_unknown() {
            self.inquire(effects);
        } else {
            self.become_candidate(false, effects);
        }
    }

    /// Enters the next term; votes are asked for once the own one is durable.
    pub(crate) fn become_candidate(&mut self, transfer: bool, effects: &mut Vec<Effect>) {
        let term = self.hard_state.term.next();
        self.hard_state = HardState { term, voted_for: Some(self.config.id) };
        let candidate = Candidate { votes: Vec::new(), asked: false, transfer, inquires: false };
        self.change_role(Role::Candidate(candidate), effects);
        self.reset_election_timer();
    }

    fn become_leader_if_elected(&mut self, effects: &mut Vec<Effect>) {
        let Role::Candidate(candidate) = &self.role else { return };
        if quorum::has_quorum(self.configurations.current(), |id| candidate.votes.contains(&id)) {
            self.become_leader(effects);
        }
    }

    fn become_leader(&mut self, effects: &mut Vec<Effect>) {
        assert!(self.log.writes().holds(self.hard_state), "a leader's own vote is durable");
        let first_index = self.log.last_index().next();
        let members = self.configuration().members();
        let others = members.into_iter().filter(|&id| id != self.config.id);
        let progress = others.map(|id| Progress::new(id, first_index, self.now)).collect();
        self.role = Role::Leader(Leader {
            progress,
            first_index,
            heartbeat_deadline: self.now + self.config.heartbeat_interval,
            reads: Reads::default(),
            dead: Vec::new(),
            loads: Vec::new(),
            held: None,
            change: None,
            transfer: None,
        });
        let term = self.hard_state.term;
        effects.push(Effect::Note(Note::BecameLeader { term }));
        self.open_term(effects);
        self.broadcast_appends(effects);
    }

    /// Appends the no-op of this leader's term, once and not past a hole.
    pub(crate) fn open_term(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.first_index > self.log.last_index() && self.log.holes().is_empty() {
            self.append_as_leader(EntryKind::Empty, Payload::default(), effects);
        }
    }

    /// Appends an entry of the leader's term and sends it.
    pub(crate) fn append_as_leader(
        &mut self,
        kind: EntryKind,
        payload: Payload,
        effects: &mut Vec<Effect>,
    ) {
        let place = self.append_own(kind, payload);
        if kind == EntryKind::Configuration {
            self.follow_members(place.index);
            self.check_receiver(effects);
        }
        self.broadcast_appends(effects);
    }

    /// Appends an entry of this leader's term. Where it is.
    pub(crate) fn append_own(&mut self, kind: EntryKind, payload: Payload) -> Position {
        let (index, term) = (self.log.last_index().next(), self.hard_state.term);
        let entry = Entry { index, term, kind, payload };
        self.configurations.appended(&entry);
        self.log.append(entry);
        Position { index, term }
    }

    fn other_voters(&self) -> Vec<ReplicaId> {
        let mut voters = self.configuration().all_voters();
        voters.retain(|&id| id != self.config.id);
        voters
    }

    pub(crate) fn reset_election_timer(&mut self) {
        self.reset_election_timer_from(self.now);
    }

    pub(crate) fn reset_election_timer_from(&mut self, heard_at: Time) {
        self.election_deadline =
            self.random.election_deadline(heard_at, self.config.election_timeout);
    }

    /// The leader's link broke: campaigns soon, with jitter, unless it is heard again.
    pub(crate) fn hasten_election(&mut self) {
        let soon = self.now + self.random.below(PEER_GONE_DELAY_MAX);
        self.election_deadline = self.election_deadline.min(soon);
    }
}

fn add_vote(votes: &mut Vec<ReplicaId>, voter: ReplicaId) {
    if !votes.contains(&voter) {
        votes.push(voter);
    }
}
