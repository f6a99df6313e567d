//! The directory a backup is written into.
//!
//! A note stands in it from the first to the last moment, and the manifest comes last: so whatever
//! happens on the way, nobody takes it for a whole backup, and the next attempt may clear it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use super::manifest;

/// Stands in a directory while its backup is not whole.
const NOTE: &str = "UNFINISHED";
const NOTE_TEXT: &str = "The backup in this directory is not whole. `flotilla backup --to` this \
                         directory begins it anew.\n";
/// Ends the names of files that are not whole.
const PART: &str = ".part";
/// Ends the names of the copies of shards.
const SNAPSHOT: &str = ".snap";

/// A directory that nobody else writes a backup into meanwhile.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Open, and thereby locked.
    directory: File,
}

impl Folder {
    /// Begins a backup.
    ///
    /// # Errors
    /// The directory has something else in it, or a whole backup, or another process writes one.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        std::fs::create_dir_all(path).with_context(|| format!("can't create {shown}"))?;
        let directory = File::open(path).with_context(|| shown.to_string())?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another process writes a backup into {shown}"))?;
        let folder = Self { path: path.to_owned(), directory };
        folder.clear()?;
        folder.write(NOTE, NOTE_TEXT.as_bytes())?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a file, which is no part of the backup until it is kept.
    pub(crate) fn create(&self, name: &str) -> anyhow::Result<File> {
        let path = self.path.join(part(name));
        File::create(&path).with_context(|| format!("can't create {}", path.display()))
    }

    /// A begun file is right, and gets its name.
    pub(crate) fn keep(&self, name: &str) -> anyhow::Result<()> {
        let (from, to) = (self.path.join(part(name)), self.path.join(name));
        std::fs::rename(&from, &to).with_context(|| format!("can't rename {}", from.display()))?;
        self.sync()
    }

    /// Everything is there: the manifest makes it a backup.
    pub(crate) fn finish(self, manifest: &str) -> anyhow::Result<()> {
        self.write(&part(manifest::FILE), manifest.as_bytes())?;
        self.keep(manifest::FILE)?;
        std::fs::remove_file(self.path.join(NOTE)).context("can't remove the note")?;
        self.sync()
    }

    /// Removes what an unfinished backup has left.
    fn clear(&self) -> anyhow::Result<()> {
        let shown = self.path.display();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).with_context(|| shown.to_string())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        if names.iter().any(|name| name == manifest::FILE) {
            bail!("{shown} holds a whole backup: take another directory, or remove it first");
        }
        let unfinished = names.is_empty() || names.iter().any(|name| name == NOTE);
        let ours = |name: &String| name == NOTE || name.ends_with(SNAPSHOT) || name.ends_with(PART);
        if let Some(stranger) = names.iter().find(|name| !unfinished || !ours(name)) {
            bail!("{shown} is no directory for a backup: it has something else in it ({stranger})");
        }
        for name in names.iter().filter(|name| *name != NOTE) {
            std::fs::remove_file(self.path.join(name))
                .with_context(|| format!("can't remove {name} from {shown}"))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().with_context(|| format!("can't write {}", path.display()))?;
        self.sync()
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.directory.sync_all().with_context(|| format!("can't sync {}", self.path.display()))
    }
}

/// Makes a begun file durable, and lets go of what of it is in the cache, so that whoever reads it
/// next gets what the disk has. Gives the name it has until it is kept.
pub(crate) fn settle(name: &str, file: File) -> anyhow::Result<String> {
    file.sync_all().with_context(|| format!("can't sync {name}"))?;
    // Some file systems have no cache, or no say in it; then there is nothing to let go of.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(part(name))
}

fn part(name: &str) -> String {
    format!("{name}{PART}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unfinished_backup_is_begun_anew() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join("new");
        let folder = Folder::begin(&path).expect("it can be created");
        let locked = Folder::begin(&path).expect_err("it is in use").to_string();
        assert!(locked.contains("another process"), "{locked}");
        let mut file = folder.create("shard-1.snap").expect("room");
        file.write_all(b"half").expect("room");
        let name = settle("shard-1.snap", file).expect("it syncs");
        assert_eq!(std::fs::read(path.join(name)).expect("it is there"), b"half");
        drop(folder);

        let folder = Folder::begin(&path).expect("it was not finished");
        let names: Vec<_> = std::fs::read_dir(&path).expect("readable").collect();
        assert_eq!(names.len(), 1, "the note alone: {names:?}");
        folder.create("shard-1.snap").expect("room");
        folder.keep("shard-1.snap").expect("it was begun");
        folder.finish("{}").expect("room");
        let whole = Folder::begin(&path).expect_err("it is whole").to_string();
        assert!(whole.contains("whole backup"), "{whole}");
    }

    #[test]
    fn nothing_of_others_is_touched() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        for (note, file) in [(false, "letters.part"), (false, "a.snap"), (true, "letters.txt")] {
            let path = directory.path().join(file);
            std::fs::create_dir(&path).expect("room");
            std::fs::write(path.join(file), "mine").expect("room");
            if note {
                std::fs::write(path.join(NOTE), "").expect("room");
            }
            let error = Folder::begin(&path).expect_err("it is another's").to_string();
            assert!(error.contains(file), "{error}");
            assert_eq!(std::fs::read(path.join(file)).expect("it is there"), b"mine");
        }
    }
}
