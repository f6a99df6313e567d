//! A directory whose files stay as they are.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flotilla_storage::{Disk, DiskError};

/// A directory that is only read. Nothing in it is synced either: what is shown may be lost yet.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    directory: PathBuf,
    /// The file read last, since reads come in rows.
    open: Option<(String, File)>,
}

impl ReadOnly {
    /// The files of `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), open: None }
    }

    fn opened(&mut self, name: &str) -> std::io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            self.open = Some((name.to_owned(), File::open(self.directory.join(name))?));
        }
        let (_, file) = self.open.as_ref().expect("it was opened just now");
        Ok(file)
    }

    fn refused(name: &str) -> DiskError {
        DiskError::Failed(format!("{name}: this only reads"))
    }
}

impl Disk for ReadOnly {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let failed =
            |error| DiskError::Failed(format!("can't list {}: {error}", self.directory.display()));
        let entries = std::fs::read_dir(&self.directory).map_err(failed)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok(names.into_iter().flatten().collect())
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        let path = self.directory.join(name);
        let metadata = std::fs::metadata(&path);
        metadata.map(|metadata| metadata.len()).map_err(|error| {
            DiskError::Failed(format!("can't look at {}: {error}", path.display()))
        })
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let path = self.directory.join(name);
        let mut bytes = vec![0; len];
        let read = self.opened(name).and_then(|file| file.read_exact_at(&mut bytes, offset));
        read.map_err(|error| DiskError::Failed(format!("can't read {}: {error}", path.display())))?;
        Ok(bytes)
    }

    fn create(&mut self, name: &str, _bytes: u64) -> Result<(), DiskError> {
        Err(Self::refused(name))
    }

    fn write(&mut self, name: &str, _offset: u64, _data: &[u8]) -> Result<(), DiskError> {
        Err(Self::refused(name))
    }

    fn sync(&mut self, _name: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&mut self, from: &str, _to: &str) -> Result<(), DiskError> {
        Err(Self::refused(from))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        Err(Self::refused(name))
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}
