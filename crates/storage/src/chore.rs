//! Work for a helper thread: preparing and removing files, reading what must be carried, and
//! looking whether what is cold can still be read.

use crate::disk::{Disk, DiskError};
use crate::load::CarryLoad;
use crate::scrub::Scrub;

/// Something to be done off the lane: [`Chore::run`], then [`crate::Log::chore_done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Create a blank segment file.
    Prepare {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Remove a file that nothing needs any more.
    Remove {
        /// Its name.
        name: String,
    },
    /// Read live entries of an old segment, to be carried.
    Load(CarryLoad),
    /// Read something cold, to see whether it still can be read.
    Scrub(Scrub),
}

impl Chore {
    /// Does it. Want of room in [`Chore::Prepare`] and any error in [`Chore::Remove`] go to
    /// [`crate::Log::chore_failed`]; other errors are final. What only reads has no errors: what
    /// can't be read is damage, and [`crate::Log::chore_done`] takes it as that.
    pub fn run(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        match self {
            Self::Prepare { name, bytes } => disk.create(name, *bytes),
            Self::Remove { name } => disk.remove(name),
            Self::Load(load) => {
                load.run(disk);
                Ok(())
            }
            Self::Scrub(scrub) => {
                scrub.run(disk);
                Ok(())
            }
        }
    }
}
