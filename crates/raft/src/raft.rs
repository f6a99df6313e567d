//! The replica: what it holds, and which handler gets which input.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::config::Random;
use crate::configuration::ConfigurationHistory;
use crate::lease::{self, Promise};
use crate::log::{Log, Position};
use crate::repair::Search;
use crate::role::{Follower, Role};
use crate::{
    AppendOutcome, Body, Config, Configuration, Effect, HardState, Index, Input, Message, Note,
    Recovered, Refusal, ReplicaId, RequestId, RoleName, SnapshotMeta, Term, Time, WriteSeq,
};

/// One replica of one group. A copy of one is for who explores what may become of it.
#[derive(Clone)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) random: Random,
    /// The latest time seen.
    pub(crate) now: Time,
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) configurations: ConfigurationHistory,
    pub(crate) role: Role,
    pub(crate) commit_index: Index,
    /// Everything up to here was handed out by `Apply` or `Restore`.
    pub(crate) emitted_index: Index,
    /// Everything up to here was applied, says the host.
    pub(crate) applied_index: Index,
    /// When that was last news, or nothing was left to apply.
    pub(crate) applied_at: Time,
    /// When to campaign, for every role but the leader's.
    pub(crate) election_deadline: Time,
    /// What this voter promised to a leader with a lease.
    pub(crate) promise: Promise,
    pub(crate) search: Search,
    /// Tells this start's requests for read indexes from those of others.
    pub(crate) read_nonce: u64,
    /// The last such request.
    pub(crate) read_number: u64,
    /// What the last `LeaderChanged` said.
    pub(crate) noted_leader: (Term, Option<ReplicaId>),
}

impl Raft {
    /// A replica as it was found on disk, a follower. The host has restored the snapshot, if its
    /// index is not 0, and calls [`Raft::step`] with [`Input::Wake`] at [`Raft::deadline`].
    ///
    /// Panics if `config` makes no sense, or if what was recovered breaks Raft's invariants: gaps,
    /// descending terms, a configuration that can't be read, a log of a later term than the
    /// recovered one.
    pub fn new(config: Config, recovered: Recovered, now: Time) -> Self {
        config.validate();
        let Recovered { hard_state, snapshot, entries, damaged } = recovered;
        let damaged: BTreeSet<Index> = damaged.into_iter().collect();
        let mut configurations = ConfigurationHistory::new(snapshot.index, snapshot.configuration);
        for entry in entries.iter().filter(|entry| !damaged.contains(&entry.index)) {
            configurations.appended(entry);
        }
        let start = Position { index: snapshot.index, term: snapshot.term };
        let mut log = Log::new(hard_state, start, entries);
        log.set_holes(damaged);
        assert!(log.last_term() <= hard_state.term, "no entry is of a later term than the replica");
        let mut random = Random::new(config.seed, config.id);
        let read_nonce = random.next();
        let election_deadline = random.election_deadline(now, config.election_timeout);
        let mut raft = Self {
            config,
            random,
            now,
            hard_state,
            log,
            configurations,
            role: Role::Follower(Follower::default()),
            commit_index: snapshot.index,
            emitted_index: snapshot.index,
            applied_index: snapshot.index,
            applied_at: now,
            election_deadline,
            promise: Promise::default(),
            search: Search::default(),
            read_nonce,
            read_number: 0,
            noted_leader: (hard_state.term, None),
        };
        let founding = raft.config.campaign_at_start && hard_state.term == Term(0);
        if founding || raft.is_sole_voter() {
            raft.election_deadline = now;
        }
        let mut lease = lease::longest(raft.configurations.since(snapshot.index));
        if raft.is_configuration_unknown() {
            lease = lease.max(raft.config.election_timeout);
        }
        raft.promise = Promise::after_restart(now, lease);
        raft
    }

    /// Takes one input at time `now` and appends what must be done to `effects`.
    ///
    /// Panics if an invariant of Raft or the host's contract is broken (crate documentation).
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Wake => self.on_wake(effects),
            Input::Message(message) => self.on_message(message, effects),
            Input::Propose { id, payload } => self.on_propose(id, payload, effects),
            Input::ProposeBatch { proposals } => self.on_propose_batch(proposals, effects),
            Input::Read { id } => self.on_read(id, effects),
            Input::Written(seq) => self.on_written(seq, effects),
            Input::Applied(index) => self.on_applied(index),
            Input::Compact { meta } => self.on_compact(*meta),
            Input::SnapshotReceived { from, term, meta } => {
                self.on_snapshot_received(from, term, *meta, effects);
            }
            Input::SnapshotSent { to, delivered } => {
                self.on_snapshot_sent(to, delivered, effects);
            }
            Input::ChangeMembership { id, voters, learners } => {
                self.on_change_membership(id, voters, learners, effects);
            }
            Input::TransferLeadership { id, to } => self.on_transfer_leadership(id, to, effects),
            Input::ReplaceReplica { id, dead, by } => {
                self.on_replace_replica(id, dead, by, effects);
            }
            Input::Damaged { indexes } => self.on_damaged(&indexes, effects),
            Input::Repaired { entries } => self.on_repaired(entries, effects),
            Input::StateLost => self.on_state_lost(effects),
            Input::StateFound => self.on_state_found(effects),
            Input::SetLease { id, lease } => self.on_set_lease(id, lease, effects),
            Input::Claim { from, term, commit } => self.on_claim(from, term, commit, effects),
            Input::ClaimRefused { peer } => self.on_claim_refused(peer, effects),
            Input::Contact { peer, at } => self.on_contact(peer, at.min(self.now)),
            Input::Loaded { from, entries } => self.on_loaded(from, entries, effects),
            Input::PeerAlive(peer) => self.on_peer_alive(peer, effects),
            Input::PeerGone(peer) => self.on_peer_gone(peer),
        }
        self.hasten_heartbeat();
        if let Some(write) = self.log.ask_write(self.hard_state, self.now) {
            effects.push(Effect::Write(write));
        }
        self.note_leader(effects);
        self.check_order();
    }

    fn on_wake(&mut self, effects: &mut Vec<Effect>) {
        if self.now >= self.search_deadline() {
            self.search(effects);
        }
        if self.now < self.role_deadline() {
            return;
        }
        match self.role {
            Role::Leader(_) => self.on_heartbeat_due(effects),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.on_election_timeout(effects);
            }
        }
    }

    /// Every pair of a message and how its term compares is spelled out here and in
    /// [`Raft::on_stale`]; [`Raft::on_current`] only sees messages of the present term.
    fn on_message(&mut self, message: Message, effects: &mut Vec<Effect>) {
        let Message { from, to, term, body } = message;
        if to != self.config.id || from == self.config.id {
            return;
        }
        match &body {
            // Pre-votes are about a term nobody is in yet: they never raise one when granted.
            Body::RequestPreVote { last_index, last_term } => {
                let last = Position { index: *last_index, term: *last_term };
                return self.on_request_pre_vote(from, term, last, effects);
            }
            Body::PreVoteReply { granted: true } => {
                return self.on_pre_vote_granted(from, term, effects);
            }
            // Neither term nor timer changes for who would disturb a living leader
            // [Raft §6, Thesis §4.2.3]; an answer in the lower term would not be heard.
            Body::RequestVote { transfer: false, .. } if self.is_bound_against(from) => return,
            _ => {}
        }
        if term < self.hard_state.term {
            return self.on_stale(from, body, effects);
        }
        if term > self.hard_state.term {
            self.enter_term(term, effects);
        }
        self.on_current(from, body, effects);
    }

    /// What a message of the present term does in each role.
    fn on_current(&mut self, from: ReplicaId, body: Body, effects: &mut Vec<Effect>) {
        use RoleName::{Candidate, Follower, Leader, PreCandidate};
        match (self.role.name(), body) {
            (_, Body::RequestVote { last_index, last_term, .. }) => {
                let last = Position { index: last_index, term: last_term };
                self.on_request_vote(from, last, effects);
            }
            (Candidate, Body::VoteReply { granted }) => self.on_vote_reply(from, granted, effects),
            // Of a leader: its term has no other, which the handler asserts.
            (_, Body::AppendEntries { prev_index, prev_term, commit, round, entries }) => {
                let prev = Position { index: prev_index, term: prev_term };
                self.on_append_entries(from, prev, commit, round, entries, effects);
            }
            (Leader, Body::AppendReply { round, outcome }) => {
                self.on_append_reply(from, round, outcome, effects);
            }
            (Follower, Body::TimeoutNow) => self.on_timeout_now(from, effects),
            (_, Body::FetchEntries { places }) => self.on_fetch(from, places, effects),
            (_, Body::FetchSnapshot { at_least }) => {
                self.on_fetch_snapshot(from, at_least, effects);
            }
            (_, Body::FetchedEntries { entries, missing }) => {
                self.on_fetched(from, entries, missing, effects);
            }
            (Leader, Body::ReadIndex { nonce, number }) => {
                self.on_read_index(from, nonce, number, effects);
            }
            (Follower, Body::ReadIndexReply { nonce, number, index }) => {
                self.on_read_index_reply(nonce, number, index, effects);
            }
            // Late, since the role that asked, or was asked, has ended; or a refused pre-vote,
            // which only teaches terms; requests for one never come here.
            (Follower | PreCandidate | Leader, Body::VoteReply { .. })
            | (
                Follower | PreCandidate | Candidate,
                Body::AppendReply { .. } | Body::ReadIndex { .. },
            )
            | (PreCandidate | Candidate | Leader, Body::ReadIndexReply { .. } | Body::TimeoutNow)
            | (_, Body::PreVoteReply { .. } | Body::RequestPreVote { .. }) => {}
        }
    }

    /// A request of an older term is refused, which teaches the sender the present one; an older
    /// reply says nothing about this term.
    fn on_stale(&mut self, from: ReplicaId, body: Body, effects: &mut Vec<Effect>) {
        match body {
            Body::RequestVote { .. } => {
                self.send(from, Body::VoteReply { granted: false }, effects);
            }
            Body::AppendEntries { prev_index, .. } => {
                let (hint_index, hint_term) = (Index(0), Term(0));
                let outcome = AppendOutcome::Conflict { prev_index, hint_index, hint_term };
                self.send(from, Body::AppendReply { round: 0, outcome }, effects);
            }
            // An entry is what its index and term say, whoever sends it and when.
            Body::FetchEntries { places } => self.on_fetch(from, places, effects),
            Body::FetchSnapshot { at_least } => self.on_fetch_snapshot(from, at_least, effects),
            Body::FetchedEntries { entries, .. } => self.fill(entries, true, effects),
            Body::RequestPreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::AppendReply { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::TimeoutNow => {}
        }
    }

    /// Whatever was held back for this write may go out now.
    fn on_written(&mut self, seq: WriteSeq, effects: &mut Vec<Effect>) {
        self.log.written(seq, self.now);
        self.shrink_window();
        match self.role {
            Role::Follower(_) => {
                self.send_owed_vote(effects);
                self.send_owed_ack(effects);
            }
            Role::PreCandidate(_) => {}
            Role::Candidate(_) => self.ask_for_votes(effects),
            Role::Leader(_) => self.advance_commit(effects),
        }
    }

    fn on_applied(&mut self, index: Index) {
        assert!(index <= self.emitted_index, "only what was handed out is applied");
        if index > self.applied_index {
            (self.applied_index, self.applied_at) = (index, self.now);
            self.shrink_window();
        }
    }

    /// Links come and go for reasons of their own; this only saves waiting for a timer.
    fn on_peer_alive(&mut self, peer: ReplicaId, effects: &mut Vec<Effect>) {
        self.on_peer_found(peer);
        match &mut self.role {
            Role::Follower(_) => {}
            Role::PreCandidate(_) | Role::Candidate(_) => self.ask_again(peer, effects),
            Role::Leader(leader) => {
                if let Some(progress) = leader.progress_mut(peer) {
                    progress.on_link_restored();
                }
                self.send_appends(peer, effects);
            }
        }
    }

    fn on_peer_gone(&mut self, peer: ReplicaId) {
        match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(peer) => {
                follower.heard_at = None;
                follower.broke_at = self.now;
                self.hasten_election();
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => {
                if let Some(progress) = leader.progress_mut(peer) {
                    progress.on_link_broken();
                }
            }
        }
    }

    /// Answers `id`, which this replica can't serve.
    pub(crate) fn refuse(id: RequestId, reason: Refusal, effects: &mut Vec<Effect>) {
        effects.push(Effect::Refuse { id, reason });
    }

    /// Sends `body` in the present term.
    pub(crate) fn send(&self, to: ReplicaId, body: Body, effects: &mut Vec<Effect>) {
        let message = Message { from: self.config.id, to, term: self.hard_state.term, body };
        effects.push(Effect::Send(message));
    }

    /// Tells of a leader that is new, or in a new term, or lost: once per step, of what is left
    /// at its end.
    fn note_leader(&mut self, effects: &mut Vec<Effect>) {
        let (term, leader) = (self.hard_state.term, self.leader());
        let (noted_term, noted) = self.noted_leader;
        if leader != noted || (leader.is_some() && term != noted_term) {
            self.noted_leader = (term, leader);
            effects.push(Effect::Note(Note::LeaderChanged { term, leader }));
        }
    }

    /// When the host should step [`Input::Wake`]: [`Time::NEVER`] for a replica that has nothing
    /// to wait for. It changes with every step.
    pub fn deadline(&self) -> Time {
        self.role_deadline().min(self.search_deadline())
    }

    fn role_deadline(&self) -> Time {
        match &self.role {
            Role::Leader(leader) => leader.heartbeat_deadline,
            _ if self.may_campaign() => self.election_deadline,
            _ => Time::NEVER,
        }
    }

    /// This replica.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// The present term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The leader of the present term, as far as this replica knows; itself if it leads.
    pub fn leader(&self) -> Option<ReplicaId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.id),
        }
    }

    /// Whether this replica leads its term.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether the configuration in force gives this replica a vote.
    pub fn is_voter(&self) -> bool {
        self.configuration().is_voter(self.config.id)
    }

    /// Whether this replica votes, or may still be needed: its removal is in its log but not known
    /// to be committed, and it may be the only one that has it [Thesis §4.2.2].
    pub(crate) fn may_campaign(&self) -> bool {
        let mut known = self.configurations.since(self.commit_index);
        known.any(|known| known.is_voter(self.config.id))
    }

    /// Whether this replica alone is a quorum.
    pub(crate) fn is_sole_voter(&self) -> bool {
        self.configuration().is_sole_voter(self.config.id)
    }

    /// The last entry of the log, durable or not.
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// Everything up to here is committed.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        self.configurations.current()
    }

    /// Whether the configuration in force is known to be committed: else another leader may take
    /// it back.
    pub fn is_configuration_committed(&self) -> bool {
        self.configurations.current_index() <= self.commit_index
    }

    /// The bytes of the log since the host's last snapshot, payloads and a fixed cost per entry;
    /// without those that left memory ([`Config::max_window_bytes`]).
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes_above(self.log.snapshot().index.max(self.held_index().unwrap_or_default()))
    }

    /// Bytes of the committed entries above the last snapshot: what the host's next snapshots free,
    /// whatever becomes of the group.
    pub fn committed_log_bytes(&self) -> u64 {
        let snapshot = self.log.snapshot().index;
        self.log.bytes_between(snapshot, self.commit_index.max(snapshot))
    }

    /// What a snapshot of the state after applying `applied` stands for.
    ///
    /// Panics if `applied` is above what was handed out, or below the present snapshot.
    pub fn snapshot_meta(&self, applied: Index) -> SnapshotMeta {
        assert!(applied <= self.emitted_index, "a snapshot is of applied entries");
        assert!(applied >= self.log.snapshot().index, "a snapshot is not older than the last");
        let term = self.log.term_at(applied).expect("terms are known above the snapshot");
        let configuration = self.configurations.as_of(applied).clone();
        SnapshotMeta { index: applied, term, configuration }
    }
}
