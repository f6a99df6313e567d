//! What replicas of one group say to each other.

use alloc::vec::Vec;

use crate::{Entry, Index, ReplicaId, Term};

/// A message between two replicas of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// The sender's term; in pre-vote requests the term it would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// The bodies of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me in `term`? [Thesis §9.6]
    RequestPreVote {
        /// Index of the candidate's last entry.
        last_index: Index,
        /// Term of the candidate's last entry.
        last_term: Term,
    },
    /// Answer to [`Body::RequestPreVote`]. Granted: the message's term is the one asked about;
    /// refused: the answerer's own term, so that terms are learned.
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// [Raft §5.2]
    RequestVote {
        /// Index of the candidate's last entry.
        last_index: Index,
        /// Term of the candidate's last entry.
        last_term: Term,
        /// A leader asked for this campaign (TimeoutNow): stickiness does not apply.
        transfer: bool,
    },
    /// Answer to [`Body::RequestVote`].
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// [Raft §5.3]; with no entries it is a heartbeat.
    AppendEntries {
        /// The entry before `entries`.
        prev_index: Index,
        /// Its term.
        prev_term: Term,
        /// The leader's commit index.
        commit: Index,
        /// The leader's newest read round; 0 if it never started one in this term.
        round: u64,
        /// Contiguous from `prev_index + 1`; may be empty.
        entries: Vec<Entry>,
    },
    /// Answer to [`Body::AppendEntries`], and to a snapshot.
    AppendReply {
        /// The round of the request answered.
        round: u64,
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// Start an election at once [Thesis §3.10].
    TimeoutNow,
    /// The payloads of these entries are damaged at the sender.
    FetchEntries {
        /// Index and term of each.
        places: Vec<(Index, Term)>,
    },
    /// The state at the sender is lost: it needs a snapshot.
    FetchSnapshot {
        /// That covers at least this entry.
        at_least: Index,
    },
    /// Answer to [`Body::FetchEntries`].
    FetchedEntries {
        /// Those that are whole here, ascending, not necessarily contiguous.
        entries: Vec<Entry>,
        /// Those that are not in the log here, in a durable term.
        missing: Vec<Index>,
    },
    /// A follower wants an index for reads of its own [Thesis §6.4].
    ReadIndex {
        /// Of this start of the follower.
        nonce: u64,
        /// Of this request; one is open at a time.
        number: u64,
    },
    /// Answer to [`Body::ReadIndex`].
    ReadIndexReply {
        /// Repeated.
        nonce: u64,
        /// Repeated.
        number: u64,
        /// The commit index of a leader that led after the request came.
        index: Index,
    },
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// The follower's log agrees with the leader's, durably, up to here.
    Matched {
        /// The last index known to agree.
        index: Index,
    },
    /// The log has no entry `prev_index` of term `prev_term` (both repeated here).
    Conflict {
        /// The request's `prev_index`.
        prev_index: Index,
        /// The greatest index at which the logs may still agree: the follower's last entry with a
        /// term not above the request's `prev_term`.
        hint_index: Index,
        /// The term of the follower's entry at `hint_index`.
        hint_term: Term,
    },
}
