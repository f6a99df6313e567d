//! A disk in memory whose crashes lose what was not synced: for tests and the simulator.
//!
//! A file is sectors of 512 bytes. A write changes what reads see at once; until a sync each
//! sector written remembers what the medium had. A crash decides for each such sector by itself
//! whether the new content made it, so any subset of a write may be lost, in any order. New
//! names, renames and removals are kept or lost one by one in the same way until the directory
//! is synced; a file's growth is lost with its sectors.

use std::collections::BTreeMap;

use crate::disk::{Disk, DiskError};
use crate::log::SplitMix;

const SECTOR: u64 = 512;
/// What is kept in one piece of memory, bytes.
const PAGE: u64 = 4_096;

type Sector = [u8; SECTOR as usize];
type Page = [u8; PAGE as usize];

/// What a disk has been asked to do so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs of files, durable writes and creations.
    pub syncs: u64,
    /// Syncs of the directory.
    pub directory_syncs: u64,
    /// Crashes.
    pub crashes: u64,
    /// Sectors that a crash lost.
    pub lost_sectors: u64,
    /// New names, renames and removals that a crash lost.
    pub lost_names: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    size: u64,
    durable_size: u64,
    /// What reads see; pages of zeros may be absent.
    pages: Vec<Option<Box<Page>>>,
    /// What the medium has of the sectors that were written since the last sync.
    unsynced: BTreeMap<u64, Sector>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, file: u64 },
    Rename { from: String, to: String },
    Remove { name: String },
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    next_file: u64,
    counters: Counters,
    capacity: Option<u64>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses a random part, chosen by `seed`, of everything that was not synced.
    pub fn crash(&mut self, seed: u64) {
        let mut random = SplitMix(seed);
        self.counters.crashes += 1;
        for file in self.files.values_mut() {
            self.counters.lost_sectors += file.crash(&mut random);
        }
        for change in std::mem::take(&mut self.unsynced_names) {
            if random.next() & 1 == 0 {
                change.apply(&mut self.durable_names);
            } else {
                self.counters.lost_names += 1;
            }
        }
        self.names = self.durable_names.clone();
        self.forget_unnamed();
    }

    /// Writes and syncs only that range, as an `O_DSYNC` write does.
    pub fn write_durable(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let end = offset + data.len() as u64;
        self.check_room(name, end)?;
        self.counters.writes += 1;
        self.counters.syncs += 1;
        self.counters.written_bytes += data.len() as u64;
        if !self.names.contains_key(name) {
            self.new_file(name, File::default());
        }
        let file = self.file_mut(name)?;
        file.write(offset, data, false);
        file.durable_size = file.durable_size.max(end);
        Ok(())
    }

    /// Flips one bit, on the medium too. False if there is no such byte.
    pub fn flip(&mut self, name: &str, offset: u64, bit: u8) -> bool {
        let Ok(file) = self.file_mut(name) else { return false };
        if offset >= file.size {
            return false;
        }
        let (sector, byte) = (offset / SECTOR, (offset % SECTOR) as usize);
        let mask = 1 << (bit % 8);
        file.page_mut(offset / PAGE)[(offset % PAGE) as usize] ^= mask;
        if let Some(medium) = file.unsynced.get_mut(&sector) {
            medium[byte] ^= mask;
        }
        true
    }

    /// Cuts a file to `bytes`, durably: a fault, not an operation of a disk.
    pub fn cut(&mut self, name: &str, bytes: u64) -> bool {
        let Ok(file) = self.file_mut(name) else { return false };
        file.resize(bytes);
        file.durable_size = bytes;
        true
    }

    /// Limits the sizes of all files together; beyond it writes and creations fail.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// Whether its room is limited.
    pub fn is_limited(&self) -> bool {
        self.capacity.is_some()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The sizes of all files together, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[file].size).sum()
    }

    fn file(&self, name: &str) -> Result<&File, DiskError> {
        let file = self.names.get(name).ok_or_else(|| no_such(name))?;
        Ok(&self.files[file])
    }

    fn file_mut(&mut self, name: &str) -> Result<&mut File, DiskError> {
        let file = self.names.get(name).ok_or_else(|| no_such(name))?;
        Ok(self.files.get_mut(file).expect("a name leads to a file"))
    }

    fn check_room(&self, name: &str, size: u64) -> Result<(), DiskError> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let old = self.file(name).map_or(0, |file| file.size);
        let used = self.used_bytes() - old + size.max(old);
        if size > old && used > capacity {
            return Err(DiskError::NoRoom(format!("{name}: no space left on the disk")));
        }
        Ok(())
    }

    fn new_file(&mut self, name: &str, file: File) {
        self.next_file += 1;
        self.files.insert(self.next_file, file);
        let change = NameChange::Link { name: name.to_string(), file: self.next_file };
        self.change_names(change);
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    /// Drops files that no name leads to, now or after a crash.
    fn forget_unnamed(&mut self) {
        let links = self.unsynced_names.iter().filter_map(|change| match change {
            NameChange::Link { file, .. } => Some(file),
            _ => None,
        });
        let named = self.names.values().chain(self.durable_names.values()).chain(links);
        let named: std::collections::BTreeSet<u64> = named.copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

fn no_such(name: &str) -> DiskError {
    DiskError::Failed(format!("{name}: no such file"))
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        Ok(self.names.keys().cloned().collect())
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.file(name).map(|file| file.size)
    }

    fn read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let file = self.file(name)?;
        if offset.checked_add(len as u64).is_none_or(|end| end > file.size) {
            return Err(DiskError::Failed(format!("{name}: a read at {offset} passes the end")));
        }
        Ok(file.read(offset, len))
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.check_room(name, bytes)?;
        self.counters.syncs += 1;
        let file = File { size: bytes, durable_size: bytes, ..File::default() };
        self.next_file += 1;
        self.files.insert(self.next_file, file);
        // Other names stay as they are, although most file systems would make them durable too.
        self.names.insert(name.to_string(), self.next_file);
        self.durable_names.insert(name.to_string(), self.next_file);
        self.forget_unnamed();
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.check_room(name, offset + data.len() as u64)?;
        self.counters.writes += 1;
        self.counters.written_bytes += data.len() as u64;
        if !self.names.contains_key(name) {
            self.new_file(name, File::default());
        }
        self.file_mut(name)?.write(offset, data, true);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.counters.syncs += 1;
        let file = self.file_mut(name)?;
        file.unsynced.clear();
        file.durable_size = file.size;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.file(from)?;
        self.change_names(NameChange::Rename { from: from.to_string(), to: to.to_string() });
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.file(name)?;
        self.change_names(NameChange::Remove { name: name.to_string() });
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.counters.directory_syncs += 1;
        for change in std::mem::take(&mut self.unsynced_names) {
            change.apply(&mut self.durable_names);
        }
        self.forget_unnamed();
        Ok(())
    }
}

impl File {
    fn page_mut(&mut self, number: u64) -> &mut Page {
        self.place_mut(number).get_or_insert_with(|| Box::new([0; PAGE as usize]))
    }

    fn place_mut(&mut self, number: u64) -> &mut Option<Box<Page>> {
        let place = usize::try_from(number).expect("a file in memory is small");
        if self.pages.len() <= place {
            self.pages.resize(place + 1, None);
        }
        &mut self.pages[place]
    }

    /// Puts bytes into one page, from `within` on. A page that is new and whole is not filled with
    /// zeros first.
    fn put(&mut self, number: u64, within: usize, source: &[u8]) {
        let place = self.place_mut(number);
        if place.is_none()
            && source.len() == PAGE as usize
            && let Ok(page) = Box::<[u8]>::from(source).try_into()
        {
            *place = Some(page);
            return;
        }
        let page = place.get_or_insert_with(|| Box::new([0; PAGE as usize]));
        page[within..within + source.len()].copy_from_slice(source);
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        let end = offset + len as u64;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            match self.pages.get(number as usize) {
                Some(Some(page)) => {
                    out.extend_from_slice(&page[(from - start) as usize..(to - start) as usize]);
                }
                _ => out.resize((to - offset) as usize, 0),
            }
        }
        out
    }

    fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR as usize];
        if let Some(Some(page)) = self.pages.get((sector * SECTOR / PAGE) as usize) {
            let start = (sector * SECTOR % PAGE) as usize;
            bytes.copy_from_slice(&page[start..start + SECTOR as usize]);
        }
        bytes
    }

    fn set_sector(&mut self, sector: u64, bytes: &Sector) {
        let start = (sector * SECTOR % PAGE) as usize;
        let page = self.page_mut(sector * SECTOR / PAGE);
        page[start..start + SECTOR as usize].copy_from_slice(bytes);
    }

    /// What a crash may lose again is remembered; the sectors of any other write are durable.
    fn write(&mut self, offset: u64, data: &[u8], may_be_lost: bool) {
        let end = offset + data.len() as u64;
        if may_be_lost || !self.unsynced.is_empty() {
            for sector in offset / SECTOR..end.div_ceil(SECTOR) {
                if may_be_lost {
                    let medium = self.sector(sector);
                    self.unsynced.entry(sector).or_insert(medium);
                } else {
                    self.unsynced.remove(&sector);
                }
            }
        }
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            let source = &data[(from - offset) as usize..(to - offset) as usize];
            self.put(number, (from - start) as usize, source);
        }
        self.size = self.size.max(end);
    }

    fn resize(&mut self, bytes: u64) {
        self.size = bytes;
        self.pages.truncate(bytes.div_ceil(PAGE) as usize);
        self.unsynced.split_off(&bytes.div_ceil(SECTOR));
        let within = (bytes % PAGE) as usize;
        if within > 0
            && let Some(Some(page)) = self.pages.get_mut((bytes / PAGE) as usize)
        {
            page[within..].fill(0);
        }
    }

    /// Keeps a random part of what was not synced; gives back how many sectors are lost.
    fn crash(&mut self, random: &mut SplitMix) -> u64 {
        let mut lost = 0;
        // In one crash nearly nothing is lost, in another nearly everything.
        let chance = random.next() % 5;
        for (sector, medium) in std::mem::take(&mut self.unsynced) {
            if random.next() % 4 >= chance {
                continue;
            }
            lost += 1;
            self.set_sector(sector, &medium);
        }
        if self.size > self.durable_size {
            let grown = self.size - self.durable_size;
            self.resize(self.durable_size + random.next() % (grown + 1));
        }
        self.durable_size = self.size;
        lost
    }
}
