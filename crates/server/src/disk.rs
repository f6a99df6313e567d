//! Files of the data directory, as `storage` wants them.
//!
//! Reads go past the page cache where the file system allows: after a failed sync the cache may
//! hold what the medium does not. Every error names the file and what the system said.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flotilla_storage::{BLOCK, Disk, DiskError};
use rustix::fs::{FlockOperation, flock};

use crate::blocks::Blocks;
use crate::config::ServerError;
use crate::probe::{WriteMode, open_direct};

/// A file is zero-filled in pieces of this size, bytes.
const FILL_BYTES: usize = 1 << 20;

/// Creates the data directory if it is missing, and keeps other processes out of it for as long
/// as the file that is returned stays open.
pub(crate) fn lock_directory(path: &Path) -> Result<File, ServerError> {
    let failed = |error: io::Error| ServerError::Directory {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    std::fs::create_dir_all(path).map_err(failed)?;
    let directory = File::open(path).map_err(failed)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ServerError::Locked(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// The data directory.
#[derive(Debug)]
pub(crate) struct FileDisk {
    directory: PathBuf,
    mode: WriteMode,
    /// The file written or read last, since both come in rows.
    open: Option<(String, Access, File)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

impl FileDisk {
    /// The files of `directory`.
    pub(crate) fn new(directory: &Path, mode: WriteMode) -> Self {
        Self { directory: directory.to_owned(), mode, open: None }
    }

    /// Another handle for the same directory, for another thread.
    pub(crate) fn another(&self) -> Self {
        Self::new(&self.directory, self.mode)
    }

    /// Opens a segment of the log for durable writes.
    pub(crate) fn open_log(&self, name: &str) -> Result<LogFile, DiskError> {
        let path = self.directory.join(name);
        let file = match self.mode {
            WriteMode::Direct => open_direct(&path),
            WriteMode::WriteThenSync => OpenOptions::new().write(true).open(&path),
        };
        let file = file.map_err(|error| failed(&path, "open", &error))?;
        Ok(LogFile { path, file, mode: self.mode })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn opened(&mut self, name: &str, access: Access) -> Result<&File, DiskError> {
        let known =
            self.open.as_ref().is_some_and(|(open, with, _)| open == name && *with == access);
        if !known {
            let path = self.path(name);
            let file = match access {
                Access::Write => {
                    OpenOptions::new().write(true).create(true).truncate(false).open(&path)
                }
                Access::Read if self.mode == WriteMode::Direct => {
                    OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path)
                }
                Access::Read => File::open(&path),
            };
            let file = file.map_err(|error| failed(&path, "open", &error))?;
            self.open = Some((name.to_owned(), access, file));
        }
        let (_, _, file) = self.open.as_ref().expect("it was opened just now");
        Ok(file)
    }

    /// A name may stand for another file from now on.
    fn forget(&mut self, name: &str) {
        self.open.take_if(|(open, _, _)| open == name);
    }
}

impl Disk for FileDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let entries = std::fs::read_dir(&self.directory)
            .map_err(|error| failed(&self.directory, "list", &error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(&self.directory, "list", &error))?;
            // Names of ours are plain; what is not belongs to somebody else.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        let path = self.path(name);
        let metadata =
            std::fs::metadata(&path).map_err(|error| failed(&path, "look at", &error))?;
        Ok(metadata.len())
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let path = self.path(name);
        let file = self.opened(name, Access::Read)?;
        read_blocks(file, offset, len).map_err(|error| failed(&path, "read", &error))
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.forget(name);
        let path = self.path(name);
        if let Err(error) = fill(&path, bytes, self.mode) {
            // What was filled so far may be all the room there is; if it can't be removed, the
            // next recovery takes it for a blank file.
            let _ = std::fs::remove_file(&path);
            return Err(failed(&path, "create", &error));
        }
        self.sync_directory()
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let path = self.path(name);
        let file = self.opened(name, Access::Write)?;
        file.write_all_at(data, offset).map_err(|error| failed(&path, "write", &error))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name);
        let file = self.opened(name, Access::Write)?;
        file.sync_all().map_err(|error| failed(&path, "sync", &error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.forget(from);
        self.forget(to);
        let path = self.path(from);
        std::fs::rename(&path, self.path(to)).map_err(|error| failed(&path, "rename", &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.forget(name);
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(|error| failed(&path, "remove", &error))
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed(&self.directory, "sync", &error))
    }
}

/// One segment of the log, opened for durable writes.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    mode: WriteMode,
}

impl LogFile {
    /// Writes a frame, which is durable on return. An error is final.
    pub(crate) fn write_durably(&self, offset: u64, frame: &[u8]) -> Result<(), DiskError> {
        self.file
            .write_all_at(frame, offset)
            .map_err(|error| failed(&self.path, "write", &error))?;
        match self.mode {
            WriteMode::Direct => Ok(()),
            WriteMode::WriteThenSync => {
                self.file.sync_data().map_err(|error| failed(&self.path, "sync", &error))
            }
        }
    }
}

fn failed(path: &Path, what: &str, error: &io::Error) -> DiskError {
    let text = format!("can't {what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::NoRoom(text),
        _ => DiskError::Failed(text),
    }
}

/// Reads `len` bytes at `offset` by whole blocks, as `O_DIRECT` wants it.
fn read_blocks(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let block = BLOCK as u64;
    let first = offset / block * block;
    let skip = usize::try_from(offset - first).expect("it is below a block");
    let mut buffer = Blocks::zeroed((skip + len).next_multiple_of(BLOCK));
    let mut filled = 0;
    while filled < skip + len {
        match file.read_at(&mut buffer[filled..], first + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.into_part(skip, len))
}

/// Makes a file of zeros, so that later writes to it change no metadata, and makes it durable.
fn fill(path: &Path, bytes: u64, mode: WriteMode) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if mode == WriteMode::Direct && bytes.is_multiple_of(BLOCK as u64) {
        options.custom_flags(libc::O_DIRECT);
    }
    let file = options.open(path)?;
    let zeros = Blocks::zeroed(FILL_BYTES);
    let mut offset = 0;
    while offset < bytes {
        let piece = (bytes - offset).min(FILL_BYTES as u64);
        let length = usize::try_from(piece).expect("a piece fits");
        file.write_all_at(&zeros[..length], offset)?;
        offset += piece;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_read_back_what_was_written() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        for mode in [WriteMode::Direct, WriteMode::WriteThenSync] {
            let mut disk = FileDisk::new(directory.path(), mode);
            if mode == WriteMode::Direct && disk.create("x", 8192).is_err() {
                continue;
            }
            disk.create("log", 3 * BLOCK as u64).expect("there is room");
            assert_eq!(disk.size("log"), Ok(3 * BLOCK as u64));
            let mut frame = Blocks::zeroed(BLOCK);
            frame.fill(7);
            let log = disk.open_log("log").expect("it was created");
            log.write_durably(BLOCK as u64, &frame).expect("there is room");
            let around = disk.read("log", 4090, 4110).expect("it is long enough");
            assert_eq!(around[..6], [0; 6]);
            assert!(around[6..4102].iter().all(|&byte| byte == 7));
            assert_eq!(around[4102..], [0; 8]);
            assert!(disk.read("log", 3 * BLOCK as u64 - 1, 2).is_err());

            disk.write("snap.tmp", 0, b"hello ").expect("there is room");
            disk.write("snap.tmp", 6, b"world").expect("there is room");
            disk.sync("snap.tmp").expect("it syncs");
            disk.rename("snap.tmp", "snap").expect("it is there");
            disk.sync_directory().expect("it syncs");
            assert_eq!(disk.read("snap", 3, 8).expect("it is long enough"), b"lo world");
            assert!(
                disk.read("snap.tmp", 0, 1).expect_err("gone").to_string().contains("snap.tmp")
            );
            disk.remove("snap").expect("it is there");
            assert!(!disk.list().expect("readable").contains(&"snap".to_owned()));
        }
    }

    #[test]
    fn a_file_for_which_there_is_no_room_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let file = directory.path().join("segment");
        std::os::unix::fs::symlink("/dev/full", file).expect("there is room");
        let mut disk = FileDisk::new(directory.path(), WriteMode::WriteThenSync);
        let error = disk.create("segment", BLOCK as u64).expect_err("it is full");
        assert!(error.is_no_room(), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn a_directory_is_locked_once() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("new/node");
        let held = lock_directory(&path).expect("it can be created");
        assert!(matches!(lock_directory(&path), Err(ServerError::Locked(_))));
        drop(held);
        lock_directory(&path).expect("it is free again");
    }
}
