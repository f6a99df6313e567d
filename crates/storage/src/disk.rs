//! What recovery, housekeeping and snapshots need of a disk.

use thiserror::Error;

/// The error of a disk operation: which file, what was tried, what the system said.
///
/// Errors of writes and syncs are final: a sync that failed may have dropped the data, and the
/// next one may succeed without it [Rebello et al., ATC'20].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room for it. Where it concerns a file that nothing depends on yet, it may be
    /// tried again: one being created, or an unfinished snapshot.
    #[error("{0}")]
    NoRoom(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl DiskError {
    /// Whether there is no room.
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::NoRoom(_))
    }
}

/// A flat directory of files. Synchronous: only the cold paths use it.
pub trait Disk {
    /// The names of all files, in any order.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;

    /// Size of a file in bytes.
    fn size(&mut self, name: &str) -> Result<u64, DiskError>;

    /// The bytes `offset..offset + len`, all of them or an error; past the page cache where what
    /// is cached may differ from what is on the medium.
    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// Makes a file of `bytes` zeros; contents and directory entry are durable on return. A file
    /// that is there is replaced. After an error for want of room nothing is left of it.
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Writes at `offset`; makes or extends the file if needed. Durable only after [`Disk::sync`],
    /// a new name only after [`Disk::sync_directory`].
    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError>;

    /// Makes everything written to the file durable.
    fn sync(&mut self, name: &str) -> Result<(), DiskError>;

    /// Gives a file another name, replacing what has it. Durable after [`Disk::sync_directory`].
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file. Durable after [`Disk::sync_directory`].
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;

    /// Makes all renames, removals and new names durable.
    fn sync_directory(&mut self) -> Result<(), DiskError>;
}

/// A disk whose reads pass through something; all else goes to the disk beneath.
pub trait ReadFilter {
    /// The disk beneath.
    fn beneath(&mut self) -> &mut dyn Disk;

    /// What [`Disk::read`] is to give.
    fn filtered_read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;
}

impl<F: ReadFilter> Disk for F {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.beneath().list()
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.beneath().size(name)
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.filtered_read(name, offset, len)
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.beneath().create(name, bytes)
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.beneath().write(name, offset, data)
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.beneath().sync(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.beneath().rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.beneath().remove(name)
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.beneath().sync_directory()
    }
}
