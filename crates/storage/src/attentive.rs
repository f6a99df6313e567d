//! A disk that remembers whether a read failed.
//!
//! What can't be read at one moment may be read at the next, on this machine or on another. So
//! recovery gives up payloads for it, which peers have, but never a promise: it stops instead, and
//! leaves the disk as it is.

use crate::disk::{Disk, DiskError};

/// A disk, and the first error of a read of it.
pub(crate) struct Attentive<'a> {
    pub(crate) disk: &'a mut dyn Disk,
    pub(crate) misread: Option<DiskError>,
}

impl Disk for Attentive<'_> {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.disk.size(name)
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let read = self.disk.read(name, offset, len);
        if let (Err(error), None) = (&read, &self.misread) {
            self.misread = Some(error.clone());
        }
        read
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
