//! A disk that fails one read: what a node meets when it starts on a medium that is going bad.

use flotilla_storage::{Disk, DiskError, MemoryDisk};

/// A disk in memory whose reads fail after a number of them.
#[derive(Debug)]
pub(crate) struct TroubledDisk<'a> {
    pub(crate) disk: &'a mut MemoryDisk,
    /// So many reads succeed, then one fails; all do if it is `None`.
    pub(crate) reads_left: Option<u64>,
}

impl Disk for TroubledDisk<'_> {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.disk.size(name)
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        match &mut self.reads_left {
            Some(0) => Err(DiskError::Failed(format!("{name}: input/output error at {offset}"))),
            Some(left) => {
                *left -= 1;
                self.disk.read(name, offset, len)
            }
            None => self.disk.read(name, offset, len),
        }
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.disk.create(name, bytes)
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.disk.write(name, offset, data)
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.disk.sync(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(name)
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.disk.sync_directory()
    }
}
