//! What kind of disk the data directory is on: how writes are made durable, how long that takes,
//! and whether it is a disk at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

use flotilla_storage::BLOCK;
use rustix::fs::{AtFlags, StatFs, StatxFlags, fstatfs, major, minor, statfs, statx};

use crate::blocks::Blocks;

/// The file the probe writes.
const PROBE_FILE: &str = "probe.tmp";
/// What a durable write is taken to last on a disk without room for the probe, microseconds.
const UNKNOWN_SYNC_MICROS: u64 = 1_000;
/// Durable writes that are timed.
const PROBE_WRITES: usize = 9;

const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
const OVERLAY: u32 = 0x794c_7630;

/// How frames of the log become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// One write past the page cache that returns when it is durable: `O_DIRECT|O_DSYNC`.
    Direct,
    /// A write, then `fdatasync`.
    WriteThenSync,
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// How frames become durable.
    pub(crate) mode: WriteMode,
    /// The median time of a durable write of one block, microseconds.
    pub(crate) sync_micros: u64,
    /// The file system, if it keeps everything in memory only.
    pub(crate) memory_backed: Option<&'static str>,
}

impl Probe {
    /// Looks at a directory by writing to it.
    pub(crate) fn look_at(directory: &Path) -> io::Result<Self> {
        let path = directory.join(PROBE_FILE);
        let outcome = measure(&path);
        let removed = std::fs::remove_file(&path);
        let (mode, sync_micros) = match outcome {
            // There is no room to try: what works everywhere, and a disk that is not quick.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                (WriteMode::WriteThenSync, UNKNOWN_SYNC_MICROS)
            }
            outcome => {
                removed?;
                outcome?
            }
        };
        Ok(Self { mode, sync_micros, memory_backed: memory_backed(directory)? })
    }
}

fn measure(path: &Path) -> io::Result<(WriteMode, u64)> {
    let block = Blocks::zeroed(BLOCK);
    let file = File::create(path)?;
    file.write_all_at(&block, 0)?;
    file.sync_all()?;
    // A file system may refuse O_DIRECT at once or only at the first write.
    let direct = if takes_our_blocks(&file) {
        open_direct(path).and_then(|file| file.write_all_at(&block, 0).map(|()| file))
    } else {
        Err(io::ErrorKind::Unsupported.into())
    };
    let (mode, file) = match direct {
        Ok(direct) => (WriteMode::Direct, direct),
        Err(_) => (WriteMode::WriteThenSync, file),
    };
    let mut micros = Vec::with_capacity(PROBE_WRITES);
    for _ in 0..PROBE_WRITES {
        let start = Instant::now();
        file.write_all_at(&block, 0)?;
        if mode == WriteMode::WriteThenSync {
            file.sync_data()?;
        }
        micros.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    micros.sort_unstable();
    Ok((mode, micros[PROBE_WRITES / 2]))
}

/// Whether writes past the page cache may begin at multiples of a block, in memory and in the
/// file. A kernel that does not say so (before 6.1) is asked by a write.
fn takes_our_blocks(file: &File) -> bool {
    let asked = StatxFlags::DIOALIGN;
    let found = statx(file, "", AtFlags::EMPTY_PATH, asked).ok();
    let said = found.filter(|found| found.stx_mask & asked.bits() != 0);
    said.is_none_or(|found| alignment_fits(found.stx_dio_mem_align, found.stx_dio_offset_align))
}

/// An alignment of 0 says that O_DIRECT is not to be had.
fn alignment_fits(memory: u32, offset: u32) -> bool {
    let fits = |alignment: u32| alignment > 0 && (BLOCK as u32).is_multiple_of(alignment);
    fits(memory) && fits(offset)
}

/// Opens a file for writes past the page cache that are durable when they return.
pub(crate) fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path)
}

/// The name of the file system if what it holds is gone with the power.
fn memory_backed(directory: &Path) -> io::Result<Option<&'static str>> {
    let handle = File::open(directory)?;
    let found = kind(&fstatfs(&handle)?);
    if found != OVERLAY {
        return Ok(name_of_memory(found));
    }
    let device = handle.metadata()?.dev();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let upper = upper_directory(&mounts, major(device), minor(device));
    let upper_kind = upper.and_then(|path| statfs(path).ok()).map(|found| kind(&found));
    Ok(upper_kind.and_then(name_of_memory).map(|_| "overlay on memory"))
}

fn name_of_memory(kind: u32) -> Option<&'static str> {
    match kind {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        _ => None,
    }
}

/// The type numbers have 32 bits; the field is a signed word of the machine's width.
fn kind(found: &StatFs) -> u32 {
    found.f_type as u32
}

/// Where the overlay file system of this device keeps what is written to it.
fn upper_directory(mountinfo: &str, major: u32, minor: u32) -> Option<&str> {
    let device = format!("{major}:{minor}");
    mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(&device))
        .flat_map(|line| line.split([' ', ',']))
        .find_map(|option| option.strip_prefix("upperdir="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_measures_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let probe = Probe::look_at(directory.path()).expect("it is writable");
        assert!(probe.sync_micros < 10_000_000);
        assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn a_disk_without_room_for_the_probe_is_taken_for_a_usual_one() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let file = directory.path().join(PROBE_FILE);
        std::os::unix::fs::symlink("/dev/full", file).expect("there is room");
        let probe = Probe::look_at(directory.path()).expect("a node can start there");
        assert_eq!(
            (probe.mode, probe.sync_micros),
            (WriteMode::WriteThenSync, UNKNOWN_SYNC_MICROS)
        );
        assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn blocks_must_be_multiples_of_what_the_file_system_wants() {
        assert!(alignment_fits(512, 512) && alignment_fits(4, 4096));
        assert!(!alignment_fits(512, 8192) && !alignment_fits(512, 0));
    }

    #[test]
    fn memory_is_recognised() {
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(memory_backed(Path::new("/dev/shm")).expect("readable"), Some("tmpfs"));
        }
    }

    #[test]
    fn the_upper_directory_of_an_overlay_is_found() {
        let mountinfo = "\
            22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            99 22 0:51 / /data rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w";
        assert_eq!(upper_directory(mountinfo, 0, 51), Some("/u"));
        assert_eq!(upper_directory(mountinfo, 254, 0), None);
    }
}
