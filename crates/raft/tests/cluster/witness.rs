//! What a replica may do in one step, judged by what it was before and by the disks of all.

use std::collections::BTreeMap;

use flotilla_raft::{
    Body, Configuration, Effect, HardState, Index, Input, Message, Raft, ReplicaId, RoleName, Term,
    Time,
};

use super::host::{Disk, Host};

/// A replica before a step, and the step.
pub(crate) struct Before {
    now: Time,
    role: RoleName,
    hard_state: HardState,
    deadline: Time,
    commit: Index,
    /// Whether it lacks payloads or its state, and so may do what others may not.
    hurt: bool,
    /// Nothing but the leader of its term, a vote given, or its own campaign may put its timer off.
    may_wait: bool,
    /// Who asks for its vote.
    asks: Option<ReplicaId>,
    /// What it leads by.
    configuration: Option<Configuration>,
    /// Its last entry and its voters, if it lacks payloads and hears of them.
    lacks: Option<(Index, Vec<ReplicaId>)>,
}

fn hard_state(raft: &Raft) -> HardState {
    let status = raft.status();
    HardState { term: status.term, voted_for: status.voted_for }
}

impl Before {
    /// Before `input` is given to `raft` at `now` of its own clock.
    pub(crate) fn of(raft: &Raft, now: Time, input: &Input) -> Self {
        let may_wait = match input {
            Input::Message(Message { term, body, .. }) => {
                matches!(body, Body::AppendEntries { .. }) && *term >= raft.term()
            }
            // A link may come and go, and a disk may end a write: that is not the leader.
            Input::PeerAlive(_) | Input::PeerGone(_) => false,
            _ => true,
        };
        let asks = match input {
            Input::Message(Message { from, body: Body::RequestVote { .. }, .. }) => Some(*from),
            _ => None,
        };
        let hears_of_payloads =
            matches!(input, Input::Message(Message { body: Body::FetchedEntries { .. }, .. }));
        let lacks = (hears_of_payloads && raft.damaged() > 0)
            .then(|| (raft.last_index(), raft.configuration().voters.clone()));
        Self {
            lacks,
            now,
            role: raft.status().role,
            hard_state: hard_state(raft),
            deadline: raft.deadline(),
            commit: raft.commit_index(),
            hurt: raft.damaged() > 0 || raft.lacks_state(),
            may_wait,
            asks,
            configuration: raft.is_leader().then(|| raft.configuration().clone()),
        }
    }

    /// Judges the replica after the step; `durable` is what its disk has of its term and vote.
    pub(crate) fn judge(&self, raft: &Raft, effects: &[Effect], durable: HardState) {
        if self.hurt || raft.damaged() > 0 || raft.lacks_state() {
            return;
        }
        let after = hard_state(raft);
        let campaigns = after.term > self.hard_state.term && after.voted_for == Some(raft.id());
        if campaigns {
            let led = self.role == RoleName::Leader && after.term == self.hard_state.term.next();
            assert!(!led, "who leads does not campaign against itself");
            let idle = self.role == RoleName::Candidate && durable != self.hard_state;
            assert!(!idle, "a campaign waits for its own vote to be durable");
        }
        let votes = after.voted_for.is_some() && after.voted_for == self.asks;
        let leads = self.role == RoleName::Leader || raft.is_leader();
        if !(self.may_wait || campaigns || votes || leads || self.deadline == Time::NEVER) {
            let deadline = raft.deadline();
            let waits = deadline > self.deadline && deadline < Time::NEVER;
            assert!(!waits, "only the leader, a vote or the own campaign puts an election off");
        }
        let gives_vote = |effect: &Effect| {
            matches!(effect, Effect::Send(Message { body: Body::VoteReply { granted: true }, .. }))
        };
        if effects.iter().any(gives_vote) && raft.deadline() < Time::NEVER {
            let patient = raft.deadline() >= self.now + Self::TIMEOUT;
            assert!(patient, "who gives a vote leaves the candidate the time to win");
        }
    }

    /// Judges what was given up in the step, because others lack it: it is on no quorum's disks,
    /// and so is not committed. Who is in a later term may have got it there, which is another
    /// matter.
    pub(crate) fn judge_given_up(&self, host: &Host, hosts: &BTreeMap<ReplicaId, Host>) {
        let Some(((last, voters), raft)) = self.lacks.as_ref().zip(host.raft.as_ref()) else {
            return;
        };
        let given_up = raft.last_index().next();
        let term = host.asked.term_at(given_up);
        let later = |id: &ReplicaId| {
            hosts.get(id).is_some_and(|other| other.disk.hard_state.term > self.hard_state.term)
        };
        if given_up > *last || term.is_none() || voters.iter().any(later) {
            return;
        }
        let has =
            |id: &&ReplicaId| hosts.get(id).is_none_or(|other| on(&other.disk, given_up, term));
        let holders = voters.iter().filter(has).count();
        assert!(holders <= voters.len() / 2, "what is given up is on no quorum's disks");
    }

    /// The election timeout of all groups that are judged.
    const TIMEOUT: u64 = 250_000;

    /// Judges what a leader has committed in the step: it is on the disks of a quorum; and what it
    /// knows of its followers, who are of its term: they have it.
    pub(crate) fn judge_commit(&self, host: &Host, hosts: &BTreeMap<ReplicaId, Host>) {
        let Some(raft) = host.raft.as_ref().filter(|raft| raft.is_leader()) else { return };
        let has = |id: &ReplicaId, index: Index| {
            let known = host.asked.term_at(index);
            hosts.get(id).is_none_or(|other| on(&other.disk, index, known))
        };
        if let Some(configuration) = self.configuration.as_ref().filter(|_| {
            raft.commit_index() > self.commit
                && host.asked.term_at(raft.commit_index()) == Some(raft.term())
        }) {
            let index = raft.commit_index();
            let is_quorum = |half: &[ReplicaId]| {
                half.is_empty() || half.iter().filter(|id| has(id, index)).count() > half.len() / 2
            };
            let everywhere = is_quorum(&configuration.voters) && is_quorum(&configuration.outgoing);
            assert!(everywhere, "what a leader commits is on the disks of a quorum");
        }
        for follower in raft.status().followers {
            let same_term = |other: &Host| other.disk.hard_state.term == raft.term();
            let judged = hosts.get(&follower.id).is_some_and(same_term);
            let known =
                !judged || follower.matched == Index(0) || has(&follower.id, follower.matched);
            assert!(known, "a follower has what its leader counts on");
        }
    }
}

/// Whether a disk has the entry of that term, or a snapshot that covers it.
fn on(disk: &Disk, index: Index, term: Option<Term>) -> bool {
    index <= disk.snapshot.index || term.is_none() || disk.term_at(index) == term
}

/// A vote is not taken back within its term, and a term never descends.
pub(crate) fn keeps_its_vote(before: HardState, after: HardState) {
    assert!(before.term <= after.term, "a term never descends");
    if before.term == after.term && before.voted_for.is_some() {
        assert_eq!(before.voted_for, after.voted_for, "one vote per term");
    }
}

/// A vote is given only to a candidate whose log is as up to date [Raft §5.4.1].
pub(crate) fn votes_for_its_like(hosts: &BTreeMap<ReplicaId, Host>, message: &Message) {
    if !matches!(message.body, Body::VoteReply { granted: true }) {
        return;
    }
    let last = |id: &ReplicaId| {
        let host = hosts.get(id)?;
        let raft = host.raft.as_ref().filter(|raft| raft.term() == message.term)?;
        let log = &host.asked;
        let term = log.term_at(raft.last_index())?;
        Some((raft.status().role, term, raft.last_index()))
    };
    let (Some((_, term, index)), Some((RoleName::Candidate, their_term, their_index))) =
        (last(&message.from), last(&message.to))
    else {
        return;
    };
    assert!((their_term, their_index) >= (term, index), "a vote is given to who knows as much");
}
