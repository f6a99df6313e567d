//! The helper thread: everything about files that may take long and that no client waits for.
//! Segments are prepared and removed, snapshots written, completed and read here, never on the
//! lane. Jobs are done in their order; each answer wakes the lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_node::{ReadChunk, SnapshotChunk};
use flotilla_raft::Index;
use flotilla_shard::{ShardId, Slot};
use flotilla_storage::{
    Chore, Disk as _, DiskError, SnapshotFile, SnapshotReader, SnapshotWriter, StoredSnapshot,
};

use crate::config::ServerError;
use crate::disk::FileDisk;
use crate::worker::{Wake, Worker};

/// What the helper thread is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Something the log wants done.
    Chore(Chore),
    /// Make a file that a frame of the log waits for.
    Create {
        /// Its name.
        name: Arc<str>,
        /// Its size.
        bytes: u64,
    },
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

impl BuildOn {
    /// Has the writer keep what it may; gives the slots kept, as ranges.
    fn build(self, writer: &mut SnapshotWriter) -> Vec<(Slot, Slot)> {
        let build = |former| writer.build_on(&former, &self.unchanged);
        self.former.map_or_else(Vec::new, build)
    }
}

/// What has become of a job.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The chore is done.
    ChoreDone(Chore),
    /// The chore could not be done, but nothing is lost by that.
    ChoreFailed(Chore, String),
    /// The file of [`Job::Create`] is there, or there is no room for it.
    Created {
        /// Whether it is there.
        is_there: bool,
    },
    /// Instead of [`Answer::Appended`] or [`Answer::Stored`]: there was no room, and nothing is
    /// left of the file.
    NoRoom {
        /// Of which shard.
        shard: ShardId,
        /// What the system said.
        reason: String,
    },
    /// What is kept of the snapshot before.
    Begun {
        /// Of which shard.
        shard: ShardId,
        /// What the new snapshot stands for.
        index: Index,
        /// Slots, as ranges.
        kept: Vec<(Slot, Slot)>,
    },
    /// The chunk is in the file.
    Appended {
        /// Of which shard.
        shard: ShardId,
    },
    /// The file is complete, durable and has its final name.
    Stored(StoredSnapshot),
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
    /// The disk failed, which is final.
    Failed(String),
}

/// The lane's end of the helper thread.
pub(crate) type Helper = Worker<Job, Answer>;

/// Starts the thread.
pub(crate) fn start(disk: FileDisk, waker: Arc<dyn Wake>) -> Result<Helper, ServerError> {
    let mut work = Work { disk, writers: BTreeMap::new(), readers: BTreeMap::new() };
    Worker::start("helper thread", waker, move |job| {
        work.carry_out(job).unwrap_or_else(|error| Some(Answer::Failed(error.to_string())))
    })
}

/// A snapshot file is synced each time it has grown by so much, bytes. The log's writes wait behind
/// such a sync: a millisecond on a disk of 1 GB/s, four times that for 4 MiB.
const SYNC_BYTES: u64 = 1 << 20;

/// What the thread works with.
#[derive(Debug)]
struct Work {
    disk: FileDisk,
    writers: BTreeMap<ShardId, Unfinished>,
    /// The snapshot read last of each shard, whose index of chunks is worth keeping.
    readers: BTreeMap<ShardId, SnapshotReader>,
}

/// A snapshot file that is being written.
#[derive(Debug)]
struct Unfinished {
    writer: Box<SnapshotWriter>,
    name: String,
    length: u64,
    /// How much of it is synced.
    synced: u64,
}

impl Work {
    fn carry_out(&mut self, job: Job) -> Result<Option<Answer>, DiskError> {
        match job {
            Job::Chore(mut chore) => match chore.run(&mut self.disk) {
                Ok(()) => Ok(Some(Answer::ChoreDone(chore))),
                // There may be room later; and a file that can't be removed holds nothing.
                Err(error) if error.is_no_room() || matches!(chore, Chore::Remove { .. }) => {
                    Ok(Some(Answer::ChoreFailed(chore, error.to_string())))
                }
                Err(error) => Err(error),
            },
            Job::Create { name, bytes } => match self.disk.create(&name, bytes) {
                Err(error) if !error.is_no_room() => Err(error),
                made => Ok(Some(Answer::Created { is_there: made.is_ok() })),
            },
            Job::Begin { shard, mut writer, name, upon } => {
                self.abort(shard)?;
                let begun = upon.map(|upon| {
                    let (index, kept) = (upon.index, upon.build(&mut writer));
                    Answer::Begun { shard, index, kept }
                });
                self.writers.insert(shard, Unfinished { writer, name, length: 0, synced: 0 });
                Ok(begun)
            }
            Job::Append { shard, chunk } => self.append(shard, &chunk).map(Some),
            Job::Finish { shard } => self.finish(shard).map(Some),
            Job::Abort { shard } => self.abort(shard).map(|()| None),
            Job::Read { file, number } => {
                let result = self.read(&file, number);
                let (shard, index, name) = (file.shard, file.meta.index, file.name);
                Ok(Some(Answer::Chunk { shard, index, number, name, result }))
            }
        }
    }

    fn append(&mut self, shard: ShardId, chunk: &SnapshotChunk) -> Result<Answer, DiskError> {
        let Some(unfinished) = self.writers.get_mut(&shard) else { return Ok(dropped(shard)) };
        let bytes = unfinished.writer.chunk(&chunk.content, chunk.slots);
        match unfinished.append(&mut self.disk, &bytes) {
            Ok(()) => Ok(Answer::Appended { shard }),
            Err(error) => {
                let Unfinished { name, .. } = self.writers.remove(&shard).expect("it was there");
                self.give_up(shard, &name, error)
            }
        }
    }

    fn finish(&mut self, shard: ShardId) -> Result<Answer, DiskError> {
        let Some(unfinished) = self.writers.remove(&shard) else { return Ok(dropped(shard)) };
        let name = unfinished.name.clone();
        match unfinished.finish(&mut self.disk) {
            Ok(stored) => Ok(Answer::Stored(stored)),
            Err(error) => self.give_up(shard, &name, error),
        }
    }

    /// A snapshot for which there is no room is dropped: there are the log and the one before. Any
    /// other error is final.
    fn give_up(
        &mut self,
        shard: ShardId,
        name: &str,
        error: DiskError,
    ) -> Result<Answer, DiskError> {
        if !error.is_no_room() {
            return Err(error);
        }
        self.disk.remove(name)?;
        Ok(Answer::NoRoom { shard, reason: error.to_string() })
    }

    fn abort(&mut self, shard: ShardId) -> Result<(), DiskError> {
        match self.writers.remove(&shard) {
            Some(unfinished) if unfinished.length > 0 => self.disk.remove(&unfinished.name),
            _ => Ok(()),
        }
    }

    /// A file that can't be read is no reason to stop: it is the node's to decide.
    fn read(&mut self, file: &SnapshotFile, number: u32) -> Result<ReadChunk, String> {
        let shard = file.shard;
        let known = self.readers.get(&shard).is_some_and(|known| known.stored().file == *file);
        if !known {
            let reader = SnapshotReader::open_file(&mut self.disk, file);
            self.readers.insert(shard, reader.map_err(|error| error.to_string())?);
        }
        let reader = &self.readers[&shard];
        let content = reader.read(&mut self.disk, number).map_err(|error| error.to_string())?;
        let slots = reader.slots(number);
        let chunk = content.map(|content| SnapshotChunk { slots, content });
        Ok(ReadChunk { digest: reader.digest(), chunks: reader.chunks(), chunk })
    }
}

/// The answer about a file that was given up before.
fn dropped(shard: ShardId) -> Answer {
    Answer::NoRoom { shard, reason: format!("the snapshot of shard {shard} was given up") }
}

impl Unfinished {
    fn finish(self, disk: &mut FileDisk) -> Result<StoredSnapshot, DiskError> {
        let Self { writer, name, length, .. } = self;
        let (footer, stored) = writer.finish();
        disk.write(&name, length, &footer)?;
        disk.sync(&name)?;
        disk.rename(&name, &stored.file.name)?;
        disk.sync_directory()?;
        Ok(stored)
    }

    fn append(&mut self, disk: &mut FileDisk, bytes: &[u8]) -> Result<(), DiskError> {
        disk.write(&self.name, self.length, bytes)?;
        self.length += bytes.len() as u64;
        if self.length - self.synced >= SYNC_BYTES {
            disk.sync(&self.name)?;
            self.synced = self.length;
        }
        Ok(())
    }
}
