//! Crashes that wait for their moment: the power goes just as a file goes, as a log is cut back, or
//! as a snapshot is read or begins to count.
//!
//! What only one order of events may lead to is in danger for a few milliseconds, and a crash at
//! any other time is none of it. So a fault waits for such a moment, on whichever machine it comes.

use super::faults::DARK_MIN;
use super::{Happening, World};
use crate::fault::Fault;
use crate::queue::Micros;
use crate::random::Random;

/// What a crash waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A file was removed while frames of the log are under way.
    FileGone,
    /// A snapshot is durable, and no log begins at it yet.
    SnapshotStored,
    /// A chunk of a snapshot was read, to be sent or to be loaded.
    ChunkRead,
    /// The log has other entries on its disk now in the place of durable ones.
    EntriesReplaced,
    /// The first frame of a segment is under way.
    SegmentBegun,
}

impl Moment {
    const ALL: [Self; 5] = [
        Self::FileGone,
        Self::SnapshotStored,
        Self::ChunkRead,
        Self::EntriesReplaced,
        Self::SegmentBegun,
    ];
}

/// The crashes that wait, each for another kind of moment.
pub(crate) type Ambushes = [Option<Ambush>; Moment::ALL.len()];

/// A crash that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambush {
    /// So many of these moments pass before.
    skips: u64,
    /// The power goes so much later.
    delay: Micros,
    /// And comes back after so long.
    dark: Micros,
}

impl World {
    /// From now on the next moment of a kind costs a machine its power.
    pub(super) fn lie_in_ambush(&mut self, random: &mut Random) -> bool {
        let moment = *random.pick(&Moment::ALL);
        let skips = *random.pick(&[0, 0, 1, 4]);
        let soon = self.config.disk_latency;
        let delay = if random.chance(50) { 0 } else { random.below(soon.max(1)) };
        let dark = if random.chance(50) {
            random.between(DARK_MIN, 8 * DARK_MIN)
        } else {
            self.lasting_by(random)
        };
        self.ambushes[moment as usize] = Some(Ambush { skips, delay, dark });
        false
    }

    /// A moment has come on a machine.
    pub(super) fn moment(&mut self, at: usize, moment: Moment) {
        let may = self.troubled && !self.is_calm();
        let Some(ambush) = self.ambushes[moment as usize].as_mut().filter(|_| may) else { return };
        if ambush.skips > 0 {
            ambush.skips -= 1;
            return;
        }
        let Ambush { delay, dark, .. } = *ambush;
        self.ambushes[moment as usize] = None;
        self.tell(|| format!("fault CrashAtMoment: {moment:?} on node {}", at + 1));
        self.counters.fired(Fault::CrashAtMoment);
        let boot = self.machines[at].boots;
        self.after(delay, Happening::PowerGoes { at, boot });
        self.after(delay + dark, Happening::SwitchOn { at });
    }
}
