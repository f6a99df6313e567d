//! The words of the protocol: numbers, entries, configurations, messages, inputs and effects.
//!
//! Every number that could be mistaken for another has a type of its own.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Add, Range};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// A term: the logical clock of elections. 0 means "before the first election" [Raft §5.1].
    Term
}
number! {
    /// A position in the log. The first entry has index 1; 0 is the empty prefix [Raft §5.3].
    Index
}
number! {
    /// One replica of one group. A replica id is never used twice.
    ReplicaId
}
number! {
    /// Numbers the writes that one core asks its host for, from 1, without gaps.
    WriteSeq
}
number! {
    /// The host's name for a proposal or a read; the core only hands it back.
    RequestId
}
number! {
    /// Microseconds on the host's monotonic clock, from an origin of the host's choice.
    Time
}

impl Term {
    /// The following term.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    /// The following index.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before, or 0.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl WriteSeq {
    /// The following sequence number.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Time {
    /// No deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// Microseconds since `earlier`, or 0.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Time {
    type Output = Self;

    /// `self` and `micros` more.
    fn add(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// A view into a shared block of bytes: what an entry carries, opaque to Raft.
#[derive(Clone, Default)]
pub struct Payload {
    block: Arc<Vec<u8>>,
    start: u32,
    end: u32,
}

impl Payload {
    /// The whole of `bytes`. Panics above 4 GiB.
    pub fn new(bytes: Vec<u8>) -> Self {
        let end = u32::try_from(bytes.len()).expect("a payload is below 4 GiB");
        Self { block: Arc::new(bytes), start: 0, end }
    }

    /// The bytes `range` of `block`, without a copy. Panics if the range is outside.
    pub fn view(block: &Arc<Vec<u8>>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= block.len(), "a view is inside its block");
        let bound = |n: usize| u32::try_from(n).expect("a block is below 4 GiB");
        Self { block: Arc::clone(block), start: bound(range.start), end: bound(range.end) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.block[self.start as usize..self.end as usize]
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The no-op that opens a leader's term [Raft §8].
    Empty,
    /// A payload of the host's.
    Normal,
    /// A [`Configuration`], encoded by [`Configuration::encode`].
    Configuration,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// The term of the leader that created it.
    pub term: Term,
    /// What it is for.
    pub kind: EntryKind,
    /// Its content.
    pub payload: Payload,
}

/// Who votes and who only listens. `outgoing` is the old half of a joint configuration, empty
/// otherwise [Raft §6].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The voters, ascending.
    pub voters: Vec<ReplicaId>,
    /// The voters of the old half while joint, ascending; else empty.
    pub outgoing: Vec<ReplicaId>,
    /// Replicas that receive the log without a vote, ascending.
    pub learners: Vec<ReplicaId>,
    /// The highest id that was a member once and is no more; 0 if there is none. So an id that
    /// was used is known for ever, also where a snapshot has swallowed its story.
    pub retired: ReplicaId,
    /// For how long a voter promises its vote to a leader it has heard, µs; 0 without leases.
    pub lease: u64,
}

/// What must be on disk before a promise is made [Raft Figure 2, persistent state].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this replica's vote in that term.
    pub voted_for: Option<ReplicaId>,
}

/// What a snapshot stands for: the state after applying `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry it covers.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// The configuration as of that entry.
    pub configuration: Configuration,
}

/// What a host found on disk for one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last durable term and vote.
    pub hard_state: HardState,
    /// The snapshot the log begins at; index 0 with the founding configuration for a new replica.
    pub snapshot: SnapshotMeta,
    /// The entries from `snapshot.index + 1` on, without gaps.
    pub entries: Vec<Entry>,
    /// The indexes of those entries whose payload can't be read. Their index and term are right,
    /// and their kind; where it is not known, it is [`EntryKind::Configuration`].
    pub damaged: Vec<Index>,
}

/// What the core wants on disk, in this order: `hard_state`, then `snapshot`, then `entries`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Reported back with [`Input::Written`]. Writes are made in order.
    pub seq: WriteSeq,
    /// Term and vote after this write. Always given: each frame on disk names them.
    pub hard_state: HardState,
    /// The log now starts at this snapshot, whose file is durable already. Entries up to its
    /// index go; later ones stay if the log has an entry of that index and term, else all go.
    pub snapshot: Option<SnapshotMeta>,
    /// Replace everything from `entries[0].index` on. Contiguous; may be empty.
    pub entries: Vec<Entry>,
}

/// What happens to a [`crate::Raft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline has come (calling early or late does no harm).
    Wake,
    /// A message of another replica of the group.
    Message(Message),
    /// Append this payload. Answered at once by [`Effect::Proposed`] or [`Effect::Refuse`].
    Propose {
        /// Handed back.
        id: RequestId,
        /// What to append.
        payload: Payload,
    },
    /// Find an index that a linearizable read may be served at; a follower asks its leader.
    /// Answered by [`Effect::ReadReady`] or [`Effect::Refuse`], perhaps later.
    Read {
        /// Handed back.
        id: RequestId,
    },
    /// The write `seq`, and so all before it, is durable.
    Written(WriteSeq),
    /// The host has applied everything up to here.
    Applied(Index),
    /// A durable snapshot of the host's own covers everything up to here (at most the applied
    /// index); `meta` is what [`crate::Raft::snapshot_meta`] gave when it was begun.
    Compact {
        /// Which snapshot.
        meta: SnapshotMeta,
    },
    /// A snapshot of the leader `from` is durable on this replica's disk and can be restored; or
    /// one of anybody's, of term 0, that repairs.
    SnapshotReceived {
        /// Who sent it.
        from: ReplicaId,
        /// The term in [`Effect::SendSnapshot`].
        term: Term,
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// The snapshot asked for by [`Effect::SendSnapshot`] was delivered, or could not be.
    SnapshotSent {
        /// To whom.
        to: ReplicaId,
        /// The index of the snapshot sent, if it is now durable at the receiver.
        delivered: Option<Index>,
    },
    /// Make these the voters and the learners, from whatever they are now. The core adds who is
    /// new as a learner, lets it catch up, and goes through a joint configuration. Answered by
    /// [`Effect::Completed`] or [`Effect::Refuse`]; where the answer is a refusal or never comes,
    /// the same call may be made again, to whoever leads.
    ChangeMembership {
        /// Handed back.
        id: RequestId,
        /// The voters, in any order; not empty.
        voters: Vec<ReplicaId>,
        /// The learners, in any order; none of them a voter.
        learners: Vec<ReplicaId>,
    },
    /// Hand the leadership to the voter `to`. Proposals are refused as [`Refusal::Busy`] until
    /// that is done or given up, about an election timeout later. Answered by
    /// [`Effect::Completed`] or [`Effect::Refuse`].
    TransferLeadership {
        /// Handed back.
        id: RequestId,
        /// The next leader.
        to: ReplicaId,
    },
    /// Replace a member that is dead for ever, since it forgot what it promised, by a new one: a
    /// change of membership in which the dead one counts for nothing from now on. Answered like
    /// [`Input::ChangeMembership`].
    ReplaceReplica {
        /// Handed back.
        id: RequestId,
        /// Who is dead.
        dead: ReplicaId,
        /// Who takes its place.
        by: ReplicaId,
    },
    /// The payloads of these entries were found damaged on disk while this replica runs. What
    /// memory still has comes back as [`Effect::Repair`]; what it has not is applied, and the next
    /// snapshot covers it.
    Damaged {
        /// Which entries.
        indexes: Vec<Index>,
    },
    /// The host has got payloads that [`Recovered::damaged`] named; they are on its disk.
    Repaired {
        /// The whole entries.
        entries: Vec<Entry>,
    },
    /// Let voters promise their votes for so long, so that the leader can read alone, µs; 0 turns
    /// that off. At most the election timeout. Answered like [`Input::ChangeMembership`].
    SetLease {
        /// Handed back.
        id: RequestId,
        /// How long, µs.
        lease: u64,
    },
    /// The leader `from` claims by way of its host ([`crate::host`]) that it leads `term` and that
    /// this replica has all of its log.
    Claim {
        /// The leader.
        from: ReplicaId,
        /// The term it leads.
        term: Term,
        /// What is committed there.
        commit: Index,
    },
    /// The follower `peer` does not uphold the claim of this leader.
    ClaimRefused {
        /// The follower.
        peer: ReplicaId,
    },
    /// The host of `peer` was heard, and upholds or makes a claim of this term
    /// ([`crate::host::Heartbeats::contacts`]).
    Contact {
        /// Who.
        peer: ReplicaId,
        /// When.
        at: Time,
    },
    /// What [`Effect::Load`] asked for.
    Loaded {
        /// As asked for.
        from: Index,
        /// The entries from there on, contiguous, at least one; none if the log does not have
        /// them any more.
        entries: Vec<Entry>,
    },
    /// The link to this replica's node is up.
    PeerAlive(ReplicaId),
    /// The link to this replica's node broke: a hint that it may be dead.
    PeerGone(ReplicaId),
}

/// What a [`crate::Raft`] wants done. The order matters within three streams: `Write`s; `Apply`,
/// `Restore`, `ReadReady`, `Proposed`; `Send`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, then report [`Input::Written`].
    Write(Write),
    /// Send this message. It depends on no write that is still open.
    Send(Message),
    /// These entries are committed: apply them in order, then report [`Input::Applied`].
    Apply {
        /// Contiguous, not empty.
        entries: Vec<Entry>,
    },
    /// The proposal `id` is in the log at this place; whether it commits shows at `Apply`.
    Proposed {
        /// The host's name for it.
        id: RequestId,
        /// Where it is.
        index: Index,
        /// In which term.
        term: Term,
    },
    /// The change of membership or the transfer `id` is done: the new configuration is committed,
    /// or the leadership was given up for the receiver that was named.
    Completed {
        /// The host's name for it.
        id: RequestId,
    },
    /// The read `id` may be served once `index` is applied.
    ReadReady {
        /// The host's name for it.
        id: RequestId,
        /// What must be applied first.
        index: Index,
        /// It holds only if [`crate::Raft::lease_until`] is still in the future once the value was
        /// read; else ask again.
        by_lease: bool,
    },
    /// The proposal or read `id` was not and will not be done.
    Refuse {
        /// The host's name for it.
        id: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// The replica `to` needs a snapshot: send it the newest durable one, whose index must be at
    /// least `at_least`, with `term` and this replica's id, then report [`Input::SnapshotSent`].
    SendSnapshot {
        /// A follower that lags, or anybody whose log is damaged.
        to: ReplicaId,
        /// The first index that the log can serve, less one.
        at_least: Index,
        /// This leader's term; 0 for a snapshot that repairs, which also others send.
        term: Term,
    },
    /// Put these payloads, whose entries the log on disk has, in the place of damaged ones. No
    /// identity changes, so nothing waits for it.
    Repair {
        /// Ascending, not necessarily contiguous.
        entries: Vec<Entry>,
    },
    /// Read these entries from the log on disk, which has them since they are durable and above
    /// the snapshot; they left memory ([`crate::Config::max_window_bytes`]). Answered by
    /// [`Input::Loaded`]; the core goes on meanwhile.
    Load {
        /// The first entry wanted.
        from: Index,
        /// About how many bytes of entries to read; at least one entry.
        bytes: usize,
    },
    /// Replace the applied state by this snapshot, which is durable here; what was applied before
    /// is void. Reads wait until it is loaded. Needs no `Applied`.
    Restore(SnapshotMeta),
    /// Something an operator or a router wants to know.
    Note(Note),
}

/// Why something that was asked for was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This replica does not lead, or no more: what it had begun may be finished by the next
    /// leader.
    NotLeader,
    /// Too much is uncommitted or not yet durable, or the leadership is being handed over; try
    /// again later.
    Busy,
    /// No entry of the leader's term is committed yet, or another change or transfer is under
    /// way; try again later.
    NotYet,
    /// Nobody would vote, a learner would vote, or the receiver of the leadership has no vote.
    Invalid,
    /// A new member's id is not above every id that was ever a member.
    IdUsed,
    /// Who should vote or lead does not keep up with the log. New members stay as learners, so
    /// the same call can be made again.
    NotCaughtUp,
    /// The receiver of the leadership did not take it in time, or lost its vote.
    Aborted,
}

/// What a leader waited for in vain, so that it hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Its log's writes.
    Log,
    /// Its state machine.
    Apply,
}

/// A change of role, told once per change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// This replica now leads `term`.
    BecameLeader {
        /// The term it leads.
        term: Term,
    },
    /// This replica no longer leads `term`; open proposals and reads of that term are open
    /// questions, each pending read is refused.
    SteppedDown {
        /// The term it led.
        term: Term,
    },
    /// This leader hands over, since it waits in vain for its own host.
    Stalled {
        /// What for.
        what: Stall,
    },
    /// A leader is known, or none is.
    LeaderChanged {
        /// The present term.
        term: Term,
        /// Its leader.
        leader: Option<ReplicaId>,
    },
}

/// A message between two replicas of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
