//! What can go wrong: every class of fault by name, and the one list of those that the product
//! can't live through yet.

use std::fmt;

use crate::queue::Micros;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        /// One class of fault. Each has a counter that proves that it fired.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[doc = $doc])* $name,)+
        }

        impl Fault {
            /// All of them, in the order of [`Fault::number`].
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

faults! {
    /// A node loses its power.
    Crash,
    /// A node that leads a shard loses its power.
    CrashLeader,
    /// A node whose log is being written to loses its power, and is soon back.
    CrashWriter,
    /// A node loses its power at the next moment of a kind: a file goes, entries are replaced, a
    /// snapshot is read or complete, a segment begins.
    CrashAtMoment,
    /// A node loses its power several times while it starts.
    CrashLoop,
    /// A node loses its power while it reads its log, and reads it again.
    CrashInRecovery,
    /// All nodes lose their power.
    PowerLoss,
    /// A process that writes its log is killed: what it wrote can be read, synced or not, and goes
    /// if the power does, soon after it is back.
    Kill,
    /// A process stands still for less than an election timeout.
    Pause,
    /// A process stands still for longer than an election timeout, and wakes up late.
    LongPause,
    /// Every turn of a process takes long.
    SlowNode,
    /// The network falls into two parts.
    Halves,
    /// A node is cut off.
    Isolate,
    /// A node that leads a shard is cut off.
    IsolateLeader,
    /// A node that leads a shard is cut off together with one other.
    PairOff,
    /// Two parts that only one node reaches both of.
    Bridge,
    /// Every node reaches its two neighbours only.
    Ring,
    /// Bytes pass between two parts in one direction only.
    OneWay,
    /// A node is cut off and comes back, many times in a row.
    Flapping,
    /// Entries of an old term come to stand on a majority, and are replaced [Raft, Figure 8].
    Figure8,
    /// The snapshot that a node needs does not arrive at once: its connection breaks, or its sender
    /// is cut off.
    TornTransfer,
    /// A connection between nodes breaks.
    Reset,
    /// A client's connection breaks.
    ClientReset,
    /// A client asks for much at once and reads nothing for a while.
    SlowReader,
    /// Nothing leaves one node for another for a while; then everything comes at once.
    Clog,
    /// Messages between two nodes take long.
    SlowLink,
    /// Packets between two nodes are lost, which TCP makes up for after its timeout.
    PacketLoss,
    /// A bit of what one node sends another is flipped on its way.
    WireFlip,
    /// What one node sends another arrives twice.
    Duplicate,
    /// What one node sends another is overtaken by what it sends next.
    Overtake,
    /// A chunk of a snapshot, or an answer to one, is lost, and its connection lives on.
    Vanish,
    /// A disk becomes slow.
    SlowDisk,
    /// A disk does not answer for a while.
    DiskStall,
    /// A disk answers no more, until the machine is switched off and on.
    DiskHang,
    /// A write of the log is made twice.
    RepeatedWrite,
    /// The disk has no room for another file.
    NoSpace,
    /// A write of the log fails, and the process with it.
    WriteError,
    /// A file can't be read when a node starts; the next attempt succeeds.
    ReadError,
    /// Bits of what is on a disk change while the machine is off.
    Rot,
    /// Of an acknowledged write, the disk has nothing when the machine is on again.
    LostWrite,
    /// An acknowledged write stands elsewhere on the disk, over something else.
    MisdirectedWrite,
    /// A machine comes back with a blank disk.
    WipedDisk,
    /// A machine comes back with the disk as it was some time ago.
    OlderDisk,
    /// Syncs report success without having done anything; then the power goes.
    LyingSync,
    /// A wall clock jumps.
    ClockJump,
    /// A wall clock stands still for a while.
    FrozenClock,
}

impl Fault {
    /// Its place in [`Fault::ALL`].
    pub fn number(self) -> usize {
        self as usize
    }

    /// The fault with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Why it is switched off, if it is.
    pub fn obstacle(self) -> Option<&'static str> {
        NOT_SURVIVED_YET.iter().find(|(fault, _)| *fault == self).map(|(_, why)| *why)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The one list of what is switched off, since the product can't live through it: each with the
/// reason. No scenario draws these; a script can still ask for them, and `tests/off.rs` proves that
/// each does harm, so that whoever ends the harm has to take it off the list.
///
/// It is empty. [`Fault::OlderDisk`] and [`Fault::LyingSync`] leave no trace on the node itself, so
/// they happen only while every other node runs, and has run since, and can be reached: then they
/// are noticed (P4). Rot of the very last frame within 2 ms of its write is not drawn (P3).
pub const NOT_SURVIVED_YET: [(Fault, &str); 0] = [];

/// A fault at its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, since the beginning of the run.
    pub at: Micros,
    /// What.
    pub fault: Fault,
    /// Where, how long and how: the seed of all of its details, so that leaving out another fault
    /// changes nothing about this one.
    pub word: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_many_and_each_has_its_own_name_and_number() {
        assert!(Fault::ALL.len() - NOT_SURVIVED_YET.len() >= 30);
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault.number(), number);
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
    }
}
