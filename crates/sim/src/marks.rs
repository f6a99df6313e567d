//! Rare branches by name: a run of many seeds lists those that were never reached, so that a
//! change of the simulator that makes it tame does not go unnoticed.

macro_rules! marks {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        /// Something that happens rarely and must happen now and then.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[doc = $doc])* $name,)+
        }

        impl Mark {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($name)),+].len()] = [$(Self::$name),+];

            /// Its name as in this file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

marks! {
    /// A node crashed before the cluster was founded.
    CrashBeforeFounding,
    /// A crash left part of a frame on the disk.
    TornFrame,
    /// A crash came in the middle of the work on a file.
    TornFile,
    /// A crash lost a new name, a rename or a removal for want of a sync of the directory.
    LostName,
    /// Recovery cut a tail that was never acknowledged.
    CutTail,
    /// Recovery found more than was known to be durable: a frame under way had made it.
    UnreportedFrame,
    /// Recovery refused a disk that had been spoiled.
    RefusedDisk,
    /// A node gave up, since its disk had been wiped.
    RefusedNewborn,
    /// A replica came up with entries whose payloads could not be read.
    CameUpDamaged,
    /// A replica came up with a snapshot that could not be read.
    CameUpStateless,
    /// Payloads that were damaged came back from a peer.
    EntriesRepaired,
    /// A disk that had forgotten something became another one.
    DiskRenewed,
    /// A disk was spoiled where it did not matter.
    HarmlessDamage,
    /// A frame of the log waited for a file, since the disk was full.
    FrameWaits,
    /// A log could not grow, since the disk was full.
    LacksRoom,
    /// There was room again.
    RoomAgain,
    /// A follower took no more entries until a snapshot had made its log shorter.
    LogFull,
    /// There was no room for a snapshot.
    SnapshotWithoutRoom,
    /// A client was told that the leader's disk was full.
    NoRoom,
    /// A file of a snapshot could not be read.
    UnreadableChunk,
    /// A snapshot kept parts of the one before it.
    SnapshotBuiltOn,
    /// A node took a snapshot from another.
    SnapshotInstalled,
    /// A node crashed while it read a snapshot.
    CrashWhileLoading,
    /// A segment file was used again.
    SegmentRecycled,
    /// Old entries were read to be carried.
    EntriesCarried,
    /// A durable entry was replaced by one of another term.
    EntryReplaced,
    /// An entry that stood on a majority of disks was replaced: it had not been committed
    /// [Raft §5.4.2, Figure 8].
    MajorityReplaced,
    /// Two nodes led the same shard at one moment, in different terms.
    TwoLeaders,
    /// A leader began with entries of older terms that were not committed.
    LeaderWithOldEntries,
    /// A frame was done before an older one.
    FramesOutOfOrder,
    /// A sealing frame was under way together with another frame.
    SealUnderWay,
    /// A node closed a link whose bytes made no sense.
    LinkRefused,
    /// A node closed a link on which a frame was lost, came twice or changed places with another.
    FrameOutOfTurn,
    /// A node stopped reading from somebody.
    ReaderPaused,
    /// Replies piled up that a client did not read.
    Congested,
    /// A client that sent no more got all its replies.
    HalfClosed,
    /// A process ended by itself, since its disk failed.
    DiskDeath,
    /// A request was held until its node gave up: `UNCERTAIN`.
    Uncertain,
    /// A request was refused for want of a leader: `CLUSTERDOWN`.
    ClusterDown,
    /// A request was refused while a node started: `LOADING`.
    Loading,
    /// A client followed `MOVED`.
    Moved,
    /// A key's time was up between two reads.
    Expired,
    /// A quorum made progress without the rest.
    QuorumAlone,
    /// A shard came to a term above 20.
    HighTerm,
}

impl Mark {
    /// The mark with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| mark.name() == name)
    }
}

/// How often each mark was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; Mark::ALL.len()])
    }
}

impl Marks {
    /// It was reached.
    pub(crate) fn reach(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// It was reached so often besides.
    pub fn add_to(&mut self, mark: Mark, count: u64) {
        self.0[mark as usize] += count;
    }

    /// How often it was reached.
    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Those never reached.
    pub fn unreached(&self) -> impl Iterator<Item = Mark> {
        Mark::ALL.into_iter().filter(|mark| self.count(*mark) == 0)
    }
}
