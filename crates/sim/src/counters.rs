//! What a run has seen: evidence that the faults happened and the work was done.

use crate::fault::Fault;
use crate::marks::Marks;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        /// How often each thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)+
            /// How often each class of fault fired, by [`Fault::number`].
            pub faults: [u64; Fault::ALL.len()],
            /// Rare branches.
            pub marks: Marks,
        }

        impl Default for Counters {
            fn default() -> Self {
                Self { $($name: 0,)+ faults: [0; Fault::ALL.len()], marks: Marks::default() }
            }
        }

        impl Counters {
            /// Every counter but those of faults and marks with its name, in a fixed order.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }

            /// Adds another run's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
                for (mine, theirs) in self.faults.iter_mut().zip(other.faults) {
                    *mine += theirs;
                }
                self.marks.add(&other.marks);
            }

            /// Sets a counter by its name; false if there is none.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)+
                    _ => return false,
                }
                true
            }
        }
    };
}

counters! {
    /// Turns of nodes.
    turns,
    /// Things that happened.
    events,
    /// Virtual microseconds.
    micros,
    /// Virtual microseconds of runs with at least 50 completed operations per second.
    busy_micros,
    /// Boots that came up.
    boots,
    /// Machines that lost their power, by any fault.
    power_cuts,
    /// Power cuts of a machine that led a shard.
    leaders_lost,
    /// Crashes with a frame of the log under way.
    torn_frames,
    /// Crashes within the helper's work on a file.
    torn_files,
    /// Sectors that crashes lost.
    lost_sectors,
    /// New names, renames and removals that crashes lost.
    lost_names,
    /// Messages that took many times as long as usual.
    late_pieces,
    /// Sends that arrived in several pieces.
    shreds,
    /// Dials that nobody answered.
    dials_lost,
    /// Dials to a machine that was down.
    dials_refused,
    /// Frames that were done before an older one.
    frames_overtaken,
    /// Disks that were refused after they had been spoiled.
    disks_refused,
    /// Runs in which a quorum had to go on without the rest.
    quorums_alone,
    /// Runs with clocks that drift by more than a tenth.
    drifting_runs,
    /// Runs with wall clocks that are wrong by more than 100 ms.
    skewed_runs,
    /// Runs whose nodes write inline.
    inline_runs,
    /// Runs whose nodes write by another thread.
    threaded_runs,
    /// Runs whose nodes write several frames at once.
    asynchronous_runs,
    /// Times a replica began to lead.
    elections,
    /// Elections in a shard that had had a leader before.
    leader_changes,
    /// Snapshots that a node made of its own table.
    snapshots_made,
    /// Snapshots that a follower received and took.
    snapshots_installed,
    /// Payloads that were damaged and came back from a peer.
    entries_repaired,
    /// Disks that rotted under a node that ran on.
    rot_alive,
    /// Frames and snapshots that a node found damaged while it ran.
    rot_found,
    /// Times that nothing else was let go wrong, so that peers notice what a disk does not show.
    calms,
    /// Disks that became other disks, since they had forgotten something.
    disks_renewed,
    /// Log segments that were begun.
    segments,
    /// Segment files that were used again.
    segments_recycled,
    /// Commands that clients sent.
    commands,
    /// Operations on keys that were answered with a result.
    completed,
    /// Reads among them.
    reads,
    /// Operations whose outcome nobody knows.
    unknown,
    /// Operations that were refused and so never happened.
    refused,
    /// Answers `UNCERTAIN`.
    uncertain,
    /// Answers `MOVED`.
    moved,
    /// Clients that did not wait for their answer.
    walked_away,
    /// Keys whose history was checked.
    histories,
    /// Operations in them.
    operations_checked,
    /// Keys whose expiry was checked.
    expiries_checked,
    /// Clocks of shards that were compared with those of machines.
    clocks_checked,
    /// Reads of several keys of one slot that were compared.
    groups_checked,
    /// Entries whose commitment was checked.
    commits_checked,
    /// Entries whose log was compared with all other logs up to there.
    entries_matched,
    /// State hashes that were compared between replicas.
    states_compared,
    /// Logs that were compared with what had been given to the disk.
    recoveries_checked,
    /// Maps of slots that were compared.
    maps_checked,
    /// Orders of one connection's writes that were checked.
    orders_checked,
    /// Groups of cores alone that were run.
    groups,
    /// Entries that they committed.
    group_entries,
    /// Reads that they served.
    group_reads,
    /// Changes of membership that they made.
    group_changes,
    /// Leaderships that they handed over.
    group_transfers,
    /// Small worlds of packets that were run.
    packet_runs,
    /// Times that the lead moved in them.
    packet_flips,
    /// What their clients asked.
    packet_operations,
    /// Operations among these whose moment in the log was found.
    packet_moments,
}

impl Counters {
    /// How often a class of fault fired.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults[fault.number()]
    }

    pub(crate) fn fired(&mut self, fault: Fault) {
        self.faults[fault.number()] += 1;
    }
}
