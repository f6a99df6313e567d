//! The simulated helper of a node: one job on files after the other, as the real one's thread does.

use std::collections::{BTreeMap, VecDeque};

use flotilla_node::{ReadChunk, SnapshotChunk};
use flotilla_raft::Index;
use flotilla_shard::{ShardId, Slot};
use flotilla_storage::{
    Chore, Disk as _, DiskError, MemoryDisk, SnapshotFile, SnapshotReader, SnapshotWriter,
    StoredSnapshot,
};

/// What it is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Something the log wants done.
    Chore(Chore),
    /// Begin a snapshot file; one of the same shard that is not complete is dropped.
    Begin {
        /// Of which shard.
        shard: ShardId,
        /// Encodes it.
        writer: Box<SnapshotWriter>,
        /// Its name until it is complete.
        name: String,
        /// The snapshot before it, if it may keep parts of that: the answer says which.
        upon: Option<BuildOn>,
    },
    /// Append a chunk to the file begun.
    Append {
        /// Of which shard.
        shard: ShardId,
        /// The chunk.
        chunk: SnapshotChunk,
    },
    /// Complete the file.
    Finish {
        /// Of which shard.
        shard: ShardId,
    },
    /// Drop the file.
    Abort {
        /// Of which shard.
        shard: ShardId,
    },
    /// Read a chunk of a complete file.
    Read {
        /// The file.
        file: Box<SnapshotFile>,
        /// Which chunk, from 0.
        number: u32,
    },
}

/// What a snapshot may build on.
#[derive(Debug)]
pub(crate) struct BuildOn {
    /// What the new one stands for.
    pub(crate) index: Index,
    /// The one before, if it is there and can be read.
    pub(crate) former: Option<StoredSnapshot>,
    /// Slots that have not changed since, as ranges.
    pub(crate) unchanged: Vec<(Slot, Slot)>,
}

/// What has become of a job.
#[derive(Debug)]
pub(crate) enum Done {
    /// Nothing that anybody waits for.
    Nothing,
    /// The chore is done.
    Chore(Chore),
    /// The chore could not be done, but nothing is lost by that.
    ChoreFailed(Chore),
    /// What is kept of the snapshot before: slots, as ranges.
    Begun { shard: ShardId, index: Index, kept: Vec<(Slot, Slot)> },
    /// The chunk is in the file.
    Appended(ShardId),
    /// The file is complete, durable and has its final name.
    Stored(StoredSnapshot),
    /// Instead of either: there was no room, and nothing is left of the file.
    NoRoom(ShardId),
    /// A chunk, `None` after the last, or what is wrong.
    Chunk {
        /// Of which shard.
        shard: ShardId,
        /// Of the snapshot at this index.
        index: Index,
        /// Which chunk.
        number: u32,
        /// The file.
        name: String,
        /// The outcome.
        result: Result<ReadChunk, String>,
    },
}

/// One step of completing a file.
type Step<'a> = &'a dyn Fn(&mut MemoryDisk) -> Result<(), DiskError>;

/// The helper of one process.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    jobs: VecDeque<Job>,
    writers: BTreeMap<ShardId, Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    writer: Box<SnapshotWriter>,
    name: String,
    length: u64,
}

impl Helper {
    /// Gives it a job. True if it had none.
    pub(crate) fn give(&mut self, job: Job) -> bool {
        self.jobs.push_back(job);
        self.jobs.len() == 1
    }

    /// Whether there is a job.
    pub(crate) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Does the oldest job.
    pub(crate) fn work(&mut self, disk: &mut MemoryDisk) -> Result<Done, DiskError> {
        let Some(job) = self.jobs.pop_front() else { return Ok(Done::Nothing) };
        match job {
            Job::Chore(mut chore) => match chore.run(disk) {
                Ok(()) => Ok(Done::Chore(chore)),
                // As in the server: there may be room later.
                Err(error) if error.is_no_room() => Ok(Done::ChoreFailed(chore)),
                Err(error) => Err(error),
            },
            Job::Begin { shard, mut writer, name, upon } => {
                self.abort(shard, disk)?;
                let begun = upon.map_or(Done::Nothing, |BuildOn { index, former, unchanged }| {
                    let build = |former| writer.build_on(&former, &unchanged);
                    Done::Begun { shard, index, kept: former.map_or_else(Vec::new, build) }
                });
                self.writers.insert(shard, Unfinished { writer, name, length: 0 });
                Ok(begun)
            }
            Job::Append { shard, chunk } => {
                let Some(unfinished) = self.writers.get_mut(&shard) else {
                    return Ok(Done::NoRoom(shard));
                };
                let bytes = unfinished.writer.chunk(&chunk.content, chunk.slots);
                match disk.write(&unfinished.name, unfinished.length, &bytes) {
                    Err(error) if error.is_no_room() => {
                        self.abort(shard, disk)?;
                        Ok(Done::NoRoom(shard))
                    }
                    written => {
                        unfinished.length += bytes.len() as u64;
                        written.map(|()| Done::Appended(shard))
                    }
                }
            }
            Job::Finish { shard } => {
                let Some(unfinished) = self.writers.remove(&shard) else {
                    return Ok(Done::NoRoom(shard));
                };
                let name = unfinished.name.clone();
                match finish(unfinished, disk, usize::MAX) {
                    Err(error) if error.is_no_room() => {
                        disk.remove(&name)?;
                        Ok(Done::NoRoom(shard))
                    }
                    finished => finished.map(Done::Stored),
                }
            }
            Job::Abort { shard } => self.abort(shard, disk).map(|()| Done::Nothing),
            Job::Read { file, number } => {
                let read = SnapshotReader::open_file(disk, &file).and_then(|reader| {
                    let (slots, digest) = (reader.slots(number), reader.digest());
                    let chunks = reader.chunks();
                    let chunk = reader.read(disk, number)?;
                    let chunk = chunk.map(|content| SnapshotChunk { slots, content });
                    Ok(ReadChunk { digest, chunks, chunk })
                });
                let result = read.map_err(|error| error.to_string());
                let (shard, index, name) = (file.shard, file.meta.index, file.name);
                Ok(Done::Chunk { shard, index, number, name, result })
            }
        }
    }

    /// The power goes in the middle of the oldest job: only its first `steps` steps are done. True
    /// if there was something to be torn.
    pub(crate) fn tear(&mut self, disk: &mut MemoryDisk, steps: usize) -> bool {
        let torn = match self.jobs.pop_front() {
            Some(Job::Finish { shard }) => {
                let unfinished = self.writers.remove(&shard);
                unfinished.is_some_and(|unfinished| finish(unfinished, disk, steps).is_ok())
            }
            Some(Job::Append { shard, chunk }) => {
                self.writers.get_mut(&shard).is_some_and(|unfinished| {
                    let bytes = unfinished.writer.chunk(&chunk.content, chunk.slots);
                    let part = bytes.len() * steps.min(4) / 4;
                    disk.write(&unfinished.name, unfinished.length, &bytes[..part]).is_ok()
                })
            }
            // A file in the making may be there without its length.
            Some(Job::Chore(Chore::Prepare { name, bytes })) if steps == 1 => {
                disk.create(&name, bytes / 2).is_ok()
            }
            Some(Job::Chore(mut chore)) if steps > 1 => chore.run(disk).is_ok(),
            _ => false,
        };
        self.jobs.clear();
        torn
    }

    fn abort(&mut self, shard: ShardId, disk: &mut MemoryDisk) -> Result<(), DiskError> {
        match self.writers.remove(&shard) {
            Some(unfinished) if unfinished.length > 0 => disk.remove(&unfinished.name),
            _ => Ok(()),
        }
    }
}

/// The first `steps` steps of completing a file.
fn finish(
    unfinished: Unfinished,
    disk: &mut MemoryDisk,
    steps: usize,
) -> Result<StoredSnapshot, DiskError> {
    let Unfinished { writer, name, length } = unfinished;
    let (footer, stored) = writer.finish();
    let work: [Step<'_>; 4] = [
        &|disk| disk.write(&name, length, &footer),
        &|disk| disk.sync(&name),
        &|disk| disk.rename(&name, &stored.file.name),
        &|disk| disk.sync_directory(),
    ];
    work.iter().take(steps).try_for_each(|step| step(disk))?;
    Ok(stored)
}
