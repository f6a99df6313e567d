//! The words of the protocol: numbers, entries, configurations, and what is on disk.
//!
//! Every number that could be mistaken for another has a type of its own.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
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

impl Hash for Payload {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.bytes().hash(hasher);
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The no-op that opens a leader's term [Raft §8].
    Empty,
    /// A payload of the host's.
    Normal,
    /// A [`Configuration`], encoded by [`Configuration::encode`].
    Configuration,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this replica's vote in that term.
    pub voted_for: Option<ReplicaId>,
}

/// What a snapshot stands for: the state after applying `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry it covers.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// The configuration as of that entry.
    pub configuration: Configuration,
}

/// What a host found on disk for one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Reported back with [`crate::Input::Written`]. Writes are made in order.
    pub seq: WriteSeq,
    /// Term and vote after this write. Always given: each frame on disk names them.
    pub hard_state: HardState,
    /// The log now starts at this snapshot, whose file is durable already. Entries up to its
    /// index go; later ones stay if the log has an entry of that index and term, else all go.
    pub snapshot: Option<Box<SnapshotMeta>>,
    /// Replace everything from `entries[0].index` on. Contiguous; may be empty.
    pub entries: Vec<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    #[test]
    fn a_payload_is_a_view() {
        let block = Arc::new(vec![1, 2, 3, 4]);
        let view = Payload::view(&block, 1..3);
        assert_eq!((view.bytes(), view.len(), view.is_empty()), (&[2, 3][..], 2, false));
        assert_eq!(view, Payload::new(vec![2, 3]));
        assert_ne!(view, Payload::new(vec![2, 4]));
        let empty = Payload::view(&block, 4..4);
        assert_eq!((empty.len(), empty.is_empty()), (0, true));
        assert_eq!(Payload::view(&block, 0..4).len(), 4);
        assert_eq!(format!("{view:?}"), "Payload(2 bytes)", "it may be large, or secret");
    }

    #[test]
    #[should_panic(expected = "a view is inside its block")]
    fn a_view_ends_with_its_block() {
        Payload::view(&Arc::new(vec![1, 2]), 1..3);
    }

    #[test]
    #[should_panic(expected = "a view is inside its block")]
    fn a_view_does_not_end_before_it_begins() {
        #[expect(clippy::reversed_empty_ranges, reason = "that is the point")]
        Payload::view(&Arc::new(vec![1, 2]), 2..1);
    }

    #[test]
    fn numbers_count_and_time_saturates() {
        assert_eq!((Term(1).next(), Index(1).next()), (Term(2), Index(2)));
        assert_eq!((Index(5).previous(), Index(0).previous()), (Index(4), Index(0)));
        assert_eq!(WriteSeq(1).next(), WriteSeq(2));
        assert_eq!(Time(5) + 3, Time(8));
        assert_eq!(Time::NEVER + 1, Time::NEVER);
        assert_eq!((Time(5).since(Time(3)), Time(3).since(Time(5))), (2, 0));
        assert_eq!(format!("{} {}", Term(7), ReplicaId(8)), "7 8");
    }
}
