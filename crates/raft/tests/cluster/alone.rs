//! One replica driven by hand, and short words for what it hears and says.

use flotilla_raft::{
    AppendOutcome, Body, Config, Configuration, Effect, Entry, EntryKind, HardState, Index, Input,
    Message, Payload, Raft, Recovered, ReplicaId, RequestId, SnapshotMeta, Term, Time, WriteSeq,
};

use super::{id, voters};

/// Replica 1 of three, with a log of these terms, in term `term`, driven by hand.
pub(crate) struct Alone {
    pub(crate) raft: Raft,
    pub(crate) now: Time,
    pub(crate) seq: WriteSeq,
}

impl Alone {
    pub(crate) fn new(terms: &[u64], term: u64) -> Self {
        Self::with_seed(terms, term, 1)
    }

    pub(crate) fn with_seed(terms: &[u64], term: u64, seed: u64) -> Self {
        Self::with(terms, term, &[], Config::new(id(1), seed))
    }

    pub(crate) fn with(terms: &[u64], term: u64, damaged: &[u64], config: Config) -> Self {
        let snapshot = SnapshotMeta { configuration: voters(3), ..SnapshotMeta::default() };
        let hard_state = HardState { term: Term(term), voted_for: None };
        let damaged = damaged.iter().copied().map(Index).collect();
        let recovered = Recovered { hard_state, snapshot, entries: entries(1, terms), damaged };
        Self::recovered(config, recovered)
    }

    pub(crate) fn recovered(config: Config, recovered: Recovered) -> Self {
        Self { raft: Raft::new(config, recovered, Time(0)), now: Time(0), seq: WriteSeq(0) }
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.raft.step(self.now, input, &mut effects);
        self.raft.check_invariants();
        for effect in &effects {
            if let Effect::Write(write) = effect {
                self.seq = write.seq;
            }
        }
        effects
    }

    pub(crate) fn hear(&mut self, from: u64, term: u64, body: Body) -> Vec<Effect> {
        self.step(Input::Message(Message { from: id(from), to: id(1), term: Term(term), body }))
    }

    pub(crate) fn written(&mut self) -> Vec<Effect> {
        let seq = self.seq;
        self.step(Input::Written(seq))
    }

    pub(crate) fn wake(&mut self) -> Vec<Effect> {
        self.now = self.raft.deadline();
        self.step(Input::Wake)
    }

    /// Wins the next term, its no-op asked for but not written.
    pub(crate) fn lead(&mut self) -> u64 {
        self.wake();
        let term = self.raft.term().0 + 1;
        self.hear(2, term, Body::PreVoteReply { granted: true });
        self.written();
        self.hear(2, term, Body::VoteReply { granted: true });
        assert!(self.raft.is_leader(), "two of three voted for it");
        term
    }
}

pub(crate) fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    (first..)
        .zip(terms)
        .map(|(index, &term)| Entry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Normal,
            payload: Payload::default(),
        })
        .collect()
}

pub(crate) fn append(prev: (u64, u64), commit: u64, entries: Vec<Entry>) -> Body {
    Body::AppendEntries {
        prev_index: Index(prev.0),
        prev_term: Term(prev.1),
        commit: Index(commit),
        round: 0,
        entries,
    }
}

pub(crate) fn matched(index: u64) -> Body {
    Body::AppendReply { round: 0, outcome: AppendOutcome::Matched { index: Index(index) } }
}

pub(crate) fn request_vote(last: (u64, u64)) -> Body {
    let (last_index, last_term) = (Index(last.0), Term(last.1));
    Body::RequestVote { last_index, last_term, transfer: false }
}

/// What was sent, without the rest.
pub(crate) fn sent(effects: &[Effect]) -> Vec<(u64, Body)> {
    let messages = effects.iter().filter_map(|effect| match effect {
        Effect::Send(message) => Some((message.to.0, message.body.clone())),
        _ => None,
    });
    messages.collect()
}

pub(crate) fn propose(id: u64) -> Input {
    Input::Propose { id: RequestId(id), payload: Payload::default() }
}

pub(crate) fn pre_vote(last: (u64, u64)) -> Body {
    Body::RequestPreVote { last_index: Index(last.0), last_term: Term(last.1) }
}

/// A configuration of these voters, as an entry.
pub(crate) fn change(index: u64, term: u64, voters: &[u64]) -> Entry {
    let voters = voters.iter().copied().map(ReplicaId);
    Entry {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Configuration,
        payload: Payload::new(Configuration::of_voters(voters).encode()),
    }
}
