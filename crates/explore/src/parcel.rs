//! What is under way: messages, snapshots, and the news of what became of a snapshot.

use flotilla_raft::{Index, Input, Message, ReplicaId, SnapshotMeta, Term};

/// Something that arrives once, again, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Parcel {
    /// From core to core.
    Message(Message),
    /// A snapshot, from host to host.
    Snapshot {
        /// The sender.
        from: ReplicaId,
        /// The receiver.
        to: ReplicaId,
        /// The term that it was asked for in.
        term: Term,
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// What became of a snapshot, for the host that sent it.
    Sent {
        /// Who was to get it.
        from: ReplicaId,
        /// Who sent it.
        to: ReplicaId,
        /// Its index, if it was delivered.
        delivered: Option<Index>,
    },
}

impl Parcel {
    /// The receiver.
    pub(crate) fn to(&self) -> ReplicaId {
        match self {
            Self::Message(message) => message.to,
            Self::Snapshot { to, .. } | Self::Sent { to, .. } => *to,
        }
    }

    /// What its arrival is for the receiver's core.
    pub(crate) fn input(&self) -> Input {
        match self.clone() {
            Self::Message(message) => Input::Message(message),
            Self::Snapshot { from, term, meta, .. } => {
                Input::SnapshotReceived { from, term, meta: Box::new(meta) }
            }
            Self::Sent { from, delivered, .. } => Input::SnapshotSent { to: from, delivered },
        }
    }

    /// What follows if it is lost: a host notices that a snapshot does not get through.
    pub(crate) fn lost(&self) -> Option<Self> {
        match self {
            Self::Snapshot { from, to, .. } => {
                Some(Self::Sent { from: *to, to: *from, delivered: None })
            }
            Self::Message(_) | Self::Sent { .. } => None,
        }
    }
}
