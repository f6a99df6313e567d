//! A disk that remembers whether a read failed.
//!
//! What can't be read at one moment may be read at the next, on this machine or on another. So
//! recovery gives up payloads for it, which peers have, but never a promise: it stops instead, and
//! leaves the disk as it is.

use crate::disk::{Disk, DiskError, ReadFilter};

/// A disk, and the first error of a read of it.
pub(crate) struct Attentive<'a> {
    pub(crate) disk: &'a mut dyn Disk,
    pub(crate) misread: Option<DiskError>,
}

impl ReadFilter for Attentive<'_> {
    fn beneath(&mut self) -> &mut dyn Disk {
        self.disk
    }

    fn filtered_read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let read = self.disk.read(name, offset, len);
        if let (Err(error), None) = (&read, &self.misread) {
            self.misread = Some(error.clone());
        }
        read
    }
}
