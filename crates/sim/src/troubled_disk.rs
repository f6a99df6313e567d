//! A disk that fails one read: what a node meets when it starts on a medium that is going bad.

use flotilla_storage::{Disk, DiskError, MemoryDisk, ReadFilter};

/// A disk in memory whose reads fail after a number of them.
#[derive(Debug)]
pub(crate) struct TroubledDisk<'a> {
    pub(crate) disk: &'a mut MemoryDisk,
    /// So many reads succeed, then one fails; all do if it is `None`.
    pub(crate) reads_left: Option<u64>,
}

impl ReadFilter for TroubledDisk<'_> {
    fn beneath(&mut self) -> &mut dyn Disk {
        self.disk
    }

    fn filtered_read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        match &mut self.reads_left {
            Some(0) => Err(DiskError::Failed(format!("{name}: input/output error at {offset}"))),
            Some(left) => {
                *left -= 1;
                self.disk.read(name, offset, len)
            }
            None => self.disk.read(name, offset, len),
        }
    }
}
