//! One machine of the world: a disk and clocks that outlive the process on it, and the process:
//! the very node and log that the server runs, with what the server keeps for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flotilla_node::{ConnId, Event, Face, Inspection, Node, Output, ReadChunk};
use flotilla_raft::{Index, Time, WriteSeq};
use flotilla_shard::{ShardId, Slot};
use flotilla_storage::{Chore, FrameWrite, Log, MemoryDisk};

use crate::clock::Clocks;
use crate::helper::Helper;
use crate::queue::Micros;

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disk: MemoryDisk,
    pub(crate) clocks: Clocks,
    /// Counts the processes that ran here.
    pub(crate) boots: u64,
    pub(crate) process: Option<Process>,
    /// Connections whose other sides don't know yet that the process is gone.
    pub(crate) ghosts: Vec<(u64, usize)>,
    /// By how much the disk is slower than usual.
    pub(crate) disk_slowness: u64,
    /// The disk completes nothing before this moment.
    pub(crate) disk_stalled_until: Micros,
    /// Whether only the log suffers from both: other files are on another queue of it.
    pub(crate) only_log_suffers: bool,
    /// What the disk does to the next write or read.
    pub(crate) disk_trouble: Option<DiskTrouble>,
    /// The power goes once more while the next process reads its log.
    pub(crate) crashes_in_recovery: bool,
    /// The power goes once more so long after the next process has begun.
    pub(crate) crashes_after: Option<Micros>,
    /// The disk pretends to sync.
    pub(crate) lying: bool,
    /// Writes of the log that were acknowledged, newest last: file, offset and length.
    pub(crate) recent: VecDeque<(Arc<str>, u64, usize)>,
    /// Machines that were there before this one's disk was replaced, and have not met the new one.
    pub(crate) unmet_by: BTreeSet<usize>,
    /// An image of the disk, to be put back, and the boots of all machines when it was taken.
    pub(crate) image: Option<(Box<MemoryDisk>, Vec<u64>)>,
    /// When the first frame was durable that an image lacks, or that is a lie.
    pub(crate) untold_since: Option<Micros>,
    /// The boots of all machines when the disk began to lie.
    pub(crate) lying_since: Vec<u64>,
    /// The process does nothing before this moment.
    pub(crate) paused_until: Micros,
    /// Every turn takes so long at most, microseconds.
    pub(crate) turn_micros: Micros,
    /// Whether it was seen to belong to a founded cluster.
    pub(crate) founded: bool,
    /// Whether its disk was made to lose or change what had been acknowledged.
    pub(crate) spoiled: bool,
    /// Whether its disk was blank when it was spoiled last: nothing there can be damaged.
    pub(crate) was_wiped: bool,
    /// Whether one frame of its log, and nothing else, was made unreadable since its last boot.
    pub(crate) lacks_frame: bool,
    /// Whether a read failed when its log was read last.
    pub(crate) misread: bool,
    /// Whether that, or an error of a read, ever happened to it: damage may be found much later.
    pub(crate) ever_spoiled: bool,
    /// Whether a replica that died there has no successor that is a member as it should be.
    pub(crate) unsettled: bool,
    /// For how long only a leader is to hear it once it asks for new replicas: what that one begins
    /// will not be committed.
    pub(crate) asks_in_vain: Option<Micros>,
    /// Why the node will not run again: it has refused its disk, which had been spoiled.
    pub(crate) refused: Option<String>,
    /// Segment files that were ever begun.
    pub(crate) files: BTreeSet<Arc<str>>,
    /// Shards whose cores have asked for writes since the last boot, for the story.
    pub(crate) told_cores: BTreeSet<ShardId>,
}

/// What a disk does to the next operation of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskTrouble {
    /// It makes the next write of the log twice.
    Repeats,
    /// It fails the next write of the log.
    FailsWrite,
    /// It fails a read at the next start, after so many that succeed.
    FailsRead(u64),
    /// It answers no more.
    Hangs,
}

impl Machine {
    /// A machine that was never switched on.
    pub(crate) fn new(clocks: Clocks) -> Self {
        Self {
            disk: MemoryDisk::new(),
            clocks,
            boots: 0,
            unmet_by: BTreeSet::new(),
            process: None,
            ghosts: Vec::new(),
            disk_slowness: 1,
            disk_stalled_until: 0,
            only_log_suffers: false,
            disk_trouble: None,
            crashes_in_recovery: false,
            crashes_after: None,
            lying: false,
            recent: VecDeque::new(),
            image: None,
            untold_since: None,
            lying_since: Vec::new(),
            paused_until: 0,
            turn_micros: 0,
            founded: false,
            spoiled: false,
            ever_spoiled: false,
            was_wiped: false,
            lacks_frame: false,
            misread: false,
            unsettled: false,
            asks_in_vain: None,
            refused: None,
            files: BTreeSet::new(),
            told_cores: BTreeSet::new(),
        }
    }

    /// Whether it runs as a member of the founded cluster.
    pub(crate) fn serves(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.node.inspect().next().is_some())
    }

    /// The running process, if it is that boot's.
    pub(crate) fn process_of(&mut self, boot: u64) -> Option<&mut Process> {
        let current = self.boots == boot;
        self.process.as_mut().filter(|_| current)
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(crate) log: Log,
    /// What has happened since the last turn.
    pub(crate) inbox: VecDeque<Incoming>,
    /// The network's name of each connection, and this side of it.
    pub(crate) connections: BTreeMap<ConnId, (u64, usize)>,
    /// Dials not answered.
    pub(crate) dialing: BTreeSet<ConnId>,
    pub(crate) last_accepted: u64,
    /// Frames given to the disk, oldest first. The first is being written, or all are.
    pub(crate) frames: VecDeque<Frame>,
    pub(crate) last_written: Micros,
    /// The node's batch that it does not know to be durable, and the turn it came from.
    pub(crate) open_write: Option<(u64, u64)>,
    pub(crate) helper: Helper,
    pub(crate) chores_asked: Micros,
    /// When a part of what is cold was read last.
    pub(crate) scrubbed: Micros,
    /// What rots while the process runs was looked at when the scrubber has made so many rounds.
    pub(crate) sound_after: u64,
    /// Chores that failed, to be told to the log later.
    pub(crate) failed_chores: Vec<Chore>,
    /// When all that was damaged had come back, the log's last frame then: with it all is durable.
    pub(crate) whole_with: Option<u64>,
    /// Whether the last file that the log wanted could not be made.
    pub(crate) lacks_files: bool,
    /// Whether the node was told that the log can't grow.
    pub(crate) lacks_room: bool,
    /// Memory of outputs, for the next turn.
    pub(crate) outputs: Vec<Output>,
    /// Whether a turn is scheduled.
    pub(crate) stirred: bool,
    /// When the node wanted to be woken after its last turn.
    pub(crate) deadline: Time,
    /// When a wake is scheduled, if one is.
    pub(crate) wake_at: Option<Micros>,
    /// Turns in a row for which nothing had happened and from which nothing followed.
    pub(crate) idle_turns: u32,
    /// Snapshots being loaded, by shard.
    pub(crate) loading: BTreeSet<ShardId>,
    pub(crate) turns: u64,
    /// A word for all terms, roles and commit indexes, to see when one has changed.
    pub(crate) posture: u64,
    /// The last write of each shard's core that was told, for the story.
    pub(crate) told_writes: BTreeMap<ShardId, WriteSeq>,
    /// The last write of each shard that was told to be on disk.
    pub(crate) told_disk: BTreeMap<ShardId, WriteSeq>,
    /// What was told of its replicas last, for the story.
    pub(crate) told: Vec<Inspection>,
}

impl Process {
    /// Whether the node has given out all it wants to be written: what comes while a batch is open
    /// waits for the next.
    pub(crate) fn has_given_all(&self) -> bool {
        self.open_write.is_none_or(|(_, turn)| turn == self.turns)
    }

    /// A process that has just begun.
    pub(crate) fn new(node: Node, log: Log) -> Self {
        Self {
            node,
            log,
            inbox: VecDeque::new(),
            connections: BTreeMap::new(),
            dialing: BTreeSet::new(),
            last_accepted: 0,
            frames: VecDeque::new(),
            last_written: 0,
            open_write: None,
            helper: Helper::default(),
            chores_asked: 0,
            scrubbed: 0,
            sound_after: 0,
            failed_chores: Vec::new(),
            whole_with: None,
            lacks_files: false,
            lacks_room: false,
            outputs: Vec::new(),
            stirred: false,
            deadline: Time(0),
            wake_at: None,
            idle_turns: 0,
            loading: BTreeSet::new(),
            turns: 0,
            posture: 0,
            told_writes: BTreeMap::new(),
            told_disk: BTreeMap::new(),
            told: Vec::new(),
        }
    }
}

/// A frame of the log on its way to the disk.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) write: FrameWrite,
    /// The node's batch in it, to be reported.
    pub(crate) batch: Option<u64>,
    /// Whether it puts other entries in the place of durable ones.
    pub(crate) replaces: bool,
    /// Whether it is on the disk, and waits for those before it.
    pub(crate) done: bool,
    /// Whether there is no room yet for its file, or for that of a frame before it.
    pub(crate) waits: bool,
}

/// An event that waits for the next turn.
#[derive(Debug)]
pub(crate) enum Incoming {
    Accepted { conn: ConnId, face: Face, remote: String, local: String },
    Dialed { conn: ConnId, connected: bool },
    Received { conn: ConnId, bytes: Vec<u8> },
    Closed { conn: ConnId },
    Ended { conn: ConnId },
    Congested { conn: ConnId, congested: bool },
    Written { sequence: u64, durable_through: u64 },
    Damaged { shard: ShardId, indexes: Vec<Index> },
    SnapshotDamaged { shard: ShardId, index: Index },
    SnapshotKept { shard: ShardId, index: Index, slots: Vec<(Slot, Slot)> },
    SnapshotAppended { shard: ShardId },
    SnapshotStored { shard: ShardId, index: Index },
    SnapshotFailed { shard: ShardId },
    Room { lacks: bool },
    SnapshotChunk { shard: ShardId, index: Index, number: u32, result: Result<ReadChunk, String> },
}

impl Incoming {
    /// Hands the event to `take` as the node sees it.
    pub(crate) fn deliver(self, take: impl FnOnce(Event<'_>)) {
        match self {
            Self::Accepted { conn, face, remote, local } => {
                take(Event::Accepted { conn, face, remote, local });
            }
            Self::Dialed { conn, connected } => take(Event::Dialed { conn, connected }),
            Self::Received { conn, bytes } => take(Event::Received { conn, bytes: &bytes }),
            Self::Closed { conn } => take(Event::Closed { conn }),
            Self::Ended { conn } => take(Event::Ended { conn }),
            Self::Congested { conn, congested } => take(Event::Congested { conn, congested }),
            Self::Written { sequence, durable_through } => {
                take(Event::Written { sequence, durable_through });
            }
            Self::SnapshotKept { shard, index, slots } => {
                take(Event::SnapshotKept { shard, index, slots });
            }
            Self::Damaged { shard, indexes } => take(Event::Damaged { shard, indexes }),
            Self::SnapshotDamaged { shard, index } => take(Event::SnapshotDamaged { shard, index }),
            Self::SnapshotAppended { shard } => take(Event::SnapshotAppended { shard }),
            Self::SnapshotStored { shard, index } => take(Event::SnapshotStored { shard, index }),
            Self::SnapshotFailed { shard } => take(Event::SnapshotFailed { shard }),
            Self::Room { lacks } => take(Event::Room { lacks }),
            Self::SnapshotChunk { shard, index, number, result } => {
                take(Event::SnapshotChunk { shard, index, number, result });
            }
        }
    }
}
