//! What a run has seen: evidence that the faults happened and the work was done.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        /// How often each thing happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)+
        }

        impl Counters {
            /// Every counter with its name, in a fixed order.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }

            /// Adds another run's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counters! {
    /// Turns of nodes.
    turns,
    /// Virtual microseconds.
    micros,
    /// Boots that came up.
    boots,
    /// Single nodes that lost their power.
    crashes,
    /// Crashes of a node before the cluster was founded.
    founding_crashes,
    /// Crashes of a node that led a shard.
    leader_crashes,
    /// Moments in which all nodes lost their power at once.
    power_losses,
    /// Crashes with a frame of the log under way.
    torn_frames,
    /// Crashes within the helper's work on a file.
    torn_files,
    /// Crashes in the middle of a recovery.
    recovery_crashes,
    /// Sectors that crashes lost.
    lost_sectors,
    /// The network in two halves.
    halves,
    /// One node cut off.
    isolations,
    /// A leader cut off.
    leader_isolations,
    /// Two groups that only one node can reach both of.
    bridges,
    /// Bytes between two nodes pass in one direction only.
    one_way_cuts,
    /// Connections between nodes that broke by themselves.
    resets,
    /// Connections of clients that broke by themselves.
    client_resets,
    /// Dials that nobody answered.
    dials_lost,
    /// Dials to a machine that was down.
    dials_refused,
    /// Pairs of nodes whose messages took long.
    slow_links,
    /// Disks that became slow.
    slow_disks,
    /// Disks that did not answer for longer than an election timeout.
    disk_stalls,
    /// Processes that stood still.
    pauses,
    /// Wall clocks that jumped.
    clock_jumps,
    /// Runs in which one node stayed out while all others were to make progress.
    left_out,
    /// Times a replica began to lead.
    elections,
    /// Elections in a shard that had had a leader before.
    leader_changes,
    /// Snapshots that a node made of its own table.
    snapshots_made,
    /// Snapshots that a follower received and took.
    snapshots_installed,
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
    /// Entries whose commitment was checked.
    commits_checked,
    /// State hashes that were compared between replicas.
    states_compared,
}
