//! What happens to a replica, and what it wants done.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{
    Entry, Index, Message, Payload, ReplicaId, RequestId, SnapshotMeta, Term, Time, Write, WriteSeq,
};

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
    /// Append these payloads in this order, as far as there is room: one write and one message per
    /// follower for all of them. Each is answered as a [`Input::Propose`] of its own.
    ProposeBatch {
        /// The host's name for each, handed back, and what to append.
        proposals: Vec<(RequestId, Payload)>,
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
        meta: Box<SnapshotMeta>,
    },
    /// A snapshot of the leader `from` is durable on this replica's disk and can be restored; or
    /// one of anybody's that repairs ([`Term::is_of_repair`]).
    SnapshotReceived {
        /// Who sent it.
        from: ReplicaId,
        /// The term in [`Effect::SendSnapshot`].
        term: Term,
        /// What it stands for.
        meta: Box<SnapshotMeta>,
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
    /// The host has got payloads that [`crate::Recovered::damaged`] named; they are on its disk.
    Repaired {
        /// The whole entries.
        entries: Vec<Entry>,
    },
    /// The snapshot that the log begins at can't be read: there is no state to apply anything to.
    /// This replica knows what it promised, so it goes on voting and acknowledging, but nothing is
    /// handed out before another snapshot comes with [`Effect::Restore`]. What was handed out
    /// since that snapshot is void.
    StateLost,
    /// After that the same snapshot could be read all the same: there is the state at its index.
    StateFound,
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
    /// Where there is none yet that a replica without its state needs, make one; it asks again.
    SendSnapshot {
        /// A follower that lags, or anybody whose log is damaged.
        to: ReplicaId,
        /// The first index that the log can serve, less one.
        at_least: Index,
        /// This leader's term, or a mark with it ([`Term::is_of_repair`]) for a snapshot that
        /// repairs, which also others send; handed to the receiver's core as it is.
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
    Restore(Box<SnapshotMeta>),
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
