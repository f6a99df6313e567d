//! Copies of shards for backups: a snapshot file, sent over the HTTP port while the node serves.
//!
//! The admin thread asks, the lane has the node make a snapshot (or finds one that will do) and
//! keeps its files from being removed, and the admin thread sends it, since it never changes: all
//! of its chunks, in whichever files they lie, as one file that needs no other. The lane's part is
//! a look at a channel each turn and what any snapshot costs; chunks are read and packed on a
//! thread for blocking work, one at a time and at a bounded rate.
//!
//! Invariants: one copy at a time leaves a node; a file is held exactly as long as its [`Held`]
//! exists, and that ends when the file is sent, its reader is gone, or it takes nothing for
//! [`STALLED_AFTER`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use flotilla_node::{Node, SnapshotAnswer};
use flotilla_raft::Index;
use flotilla_shard::ShardId;
use flotilla_storage::{Log, SnapshotError, SnapshotFile, SnapshotReader, SnapshotWriter};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::console::{Level, say};
use crate::disk::FileDisk;
use crate::sync::mpsc::Receiver;
use crate::worker::{ToLane, Wake, to_lane};

/// Chunks that are read and not yet sent.
const PIECES_AHEAD: usize = 2;
/// A reader that takes nothing for so long has lost its copy.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// A replica that lacks entries is waited for so long: a follower under load is always a little
/// behind, and is to be preferred to the leader all the same.
const BEHIND_FOR: Duration = Duration::from_secs(2);
/// The slowest and the fastest that a copy may be asked for, bytes per second.
const RATE_LIMITS: (u64, u64) = (64 << 10, 1 << 30);

/// What the admin thread tells the lane.
#[derive(Debug)]
enum Message {
    Ask(Ask),
    Release { name: String },
}

#[derive(Debug)]
struct Ask {
    shard: ShardId,
    from: Index,
    asked: Instant,
    answer: oneshot::Sender<Result<Held, Refusal>>,
}

/// Why there is no copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The node has no replica of the shard.
    NotHere(ShardId),
    /// Another copy is leaving the node.
    Busy,
    /// The replica can't make one now.
    NotNow(String),
}

/// A snapshot file that is not removed for as long as this exists.
#[derive(Debug)]
struct Held {
    file: SnapshotFile,
    to_lane: ToLane<Message>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A lane that is gone has nothing left to release.
        let _ = self.to_lane.send(Message::Release { name: self.file.name.clone() });
    }
}

/// The two ends: for the lane, and for the admin thread.
pub(crate) fn ends(disk: FileDisk, waker: Arc<dyn Wake>) -> (LaneEnd, AdminEnd) {
    let (to_lane, messages) = to_lane(waker);
    let lane = LaneEnd { messages, to_lane: to_lane.clone(), asked: None };
    (lane, AdminEnd { to_lane, disk, one: Arc::new(Semaphore::new(1)) })
}

/// The lane's end.
#[derive(Debug)]
pub(crate) struct LaneEnd {
    messages: Receiver<Message>,
    to_lane: ToLane<Message>,
    asked: Option<Ask>,
}

impl LaneEnd {
    /// Does what the admin thread asks, as far as it can be done this turn.
    pub(crate) fn serve(&mut self, node: &mut Node, log: &mut Log) {
        self.take_messages(log);
        let Some(ask) = self.asked.take_if(|ask| !ask.answer.is_closed()) else { return };
        let answer = match node.request_snapshot(ask.shard, ask.from) {
            SnapshotAnswer::Underway => {
                self.asked = Some(ask);
                return;
            }
            SnapshotAnswer::Behind(_) if ask.asked.elapsed() < BEHIND_FOR => {
                self.asked = Some(ask);
                return;
            }
            SnapshotAnswer::Behind(at) => Err(Refusal::NotNow(format!(
                "shard {}: its replica here is at index {at}, not {}",
                ask.shard, ask.from
            ))),
            SnapshotAnswer::Durable(index) => self.hold(log, ask.shard, index),
            SnapshotAnswer::NotHere => Err(Refusal::NotHere(ask.shard)),
            SnapshotAnswer::NotNow(reason) => Err(Refusal::NotNow(reason)),
        };
        // If nobody waits any more, the file is given back to be released.
        drop(ask.answer.send(answer));
    }

    fn take_messages(&mut self, log: &mut Log) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Ask(ask) => self.asked = Some(ask),
                Message::Release { name } => log.release_snapshot(&name),
            }
        }
    }

    fn hold(&self, log: &mut Log, shard: ShardId, index: Index) -> Result<Held, Refusal> {
        let Some(file) = log.snapshot_at(shard, index).cloned() else {
            let gone = format!("shard {shard}: the snapshot at index {index} was just replaced");
            return Err(Refusal::NotNow(gone));
        };
        log.hold_snapshot(&file.name);
        Ok(Held { file, to_lane: self.to_lane.clone() })
    }
}

/// The admin thread's end.
#[derive(Debug)]
pub(crate) struct AdminEnd {
    to_lane: ToLane<Message>,
    disk: FileDisk,
    one: Arc<Semaphore>,
}

impl AdminEnd {
    /// A copy of the shard with the entry at `from` in it, once there is one. It is read at
    /// `bytes_per_second`, within limits.
    pub(crate) async fn copy(
        &self,
        shard: ShardId,
        from: Index,
        bytes_per_second: u64,
    ) -> Result<Copy, Refusal> {
        let permit = Arc::clone(&self.one).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let (answer, answered) = oneshot::channel();
        let stopping = || Refusal::NotNow("the node is stopping".to_owned());
        let ask = Ask { shard, from, asked: Instant::now(), answer };
        self.to_lane.send(Message::Ask(ask)).map_err(|_| stopping())?;
        let held = answered.await.map_err(|_| stopping())??;
        let (pieces, sent) = mpsc::channel(PIECES_AHEAD);
        let bases = held.file.bases.iter().map(|base| base.bytes);
        let bytes_at_most = held.file.bytes + bases.sum::<u64>();
        let rate = bytes_per_second.clamp(RATE_LIMITS.0, RATE_LIMITS.1);
        let sending = Sending { held, _permit: permit, disk: self.disk.another(), rate, pieces };
        tokio::spawn(sending.run());
        Ok(Copy { bytes_at_most, body: CopyBody { pieces: sent } })
    }
}

/// A copy that is about to leave.
#[derive(Debug)]
pub(crate) struct Copy {
    /// It has about so many bytes, or fewer.
    pub(crate) bytes_at_most: u64,
    /// Its bytes.
    pub(crate) body: CopyBody,
}

/// A copy on its way.
struct Sending {
    held: Held,
    _permit: OwnedSemaphorePermit,
    disk: FileDisk,
    /// Bytes per second.
    rate: u64,
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
}

/// What a copy is made of, chunk by chunk.
struct Making {
    disk: FileDisk,
    reader: SnapshotReader,
    /// Gone once the end is written.
    writer: Option<SnapshotWriter>,
    next: u32,
}

impl Sending {
    /// Reads and sends the whole. Whoever receives it finds at its end whether it is whole.
    async fn run(self) {
        let Self { held, disk, rate, pieces, .. } = self;
        let name = held.file.name.clone();
        let mut making = match blocking(move || Making::open(disk, &name)).await {
            Ok(making) => making,
            Err(error) => return give_up(&pieces, error).await,
        };
        let mut due = Instant::now();
        loop {
            let made = blocking(move || {
                let piece = making.piece()?;
                Ok((making, piece))
            });
            let made = made.await;
            let piece = match made {
                Ok((_, None)) => return,
                Ok((rest, Some(piece))) => {
                    making = rest;
                    piece
                }
                Err(error) => return give_up(&pieces, error).await,
            };
            let length = piece.len() as u64;
            match timeout(STALLED_AFTER, pieces.send(Ok(piece.into()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            due = due.max(Instant::now()) + Duration::from_micros(length * 1_000_000 / rate);
            sleep_until(due).await;
        }
    }
}

impl Making {
    fn open(mut disk: FileDisk, name: &str) -> Result<Self, SnapshotError> {
        let (meta, reader) = SnapshotReader::open(&mut disk, name)?;
        // The id tells files in one directory apart; the copy is alone in its own.
        let (writer, _) = SnapshotWriter::new(reader.shard(), meta, reader.digest());
        Ok(Self { disk, reader, writer: Some(writer), next: 0 })
    }

    /// The next bytes of the copy; `None` behind its end.
    fn piece(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        if let Some(content) = self.reader.read(&mut self.disk, self.next)? {
            let piece = writer.chunk(&content, self.reader.slots(self.next));
            self.next += 1;
            return Ok(Some(piece));
        }
        Ok(self.writer.take().map(|writer| writer.finish().0))
    }
}

/// Runs what may wait for the disk on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The receiver is told, by a connection that breaks, that it has not got all.
async fn give_up(pieces: &mpsc::Sender<std::io::Result<Bytes>>, reason: String) {
    say(Level::Warning, format_args!("a copy for a backup can't be made: {reason}"));
    // Who is gone need not be told.
    let _ = pieces.send(Err(std::io::Error::other(reason))).await;
}

/// A copy as the body of an answer.
#[derive(Debug)]
pub(crate) struct CopyBody {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
}

impl http_body::Body for CopyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_raft::{Configuration, ReplicaId, SnapshotMeta, Term};
    use flotilla_storage::{Chore, Disk as _, Options};

    use crate::probe::WriteMode;

    const SHARD: ShardId = ShardId(1);
    const INDEX: Index = Index(5);

    /// A log with a snapshot of one chunk.
    fn log_with_snapshot(disk: &mut FileDisk) -> Log {
        let options = Options { segment_bytes: 64 << 10, ..Options::default() };
        let (mut log, _) = Log::recover(disk, options, 7).expect("a blank directory is fine");
        let configuration =
            Configuration { voters: vec![ReplicaId(1)], ..Configuration::default() };
        let meta = SnapshotMeta { index: INDEX, term: Term(1), configuration };
        let (mut writer, _) = SnapshotWriter::new(SHARD, meta, 7);
        let mut bytes = writer.chunk(&[1; 1_000], None);
        let (end, stored) = writer.finish();
        bytes.extend(end);
        disk.write(&stored.file.name, 0, &bytes).expect("there is room");
        log.snapshot_durable(stored);
        log
    }

    fn removes_snapshot(log: &mut Log) -> bool {
        let chores = log.housekeeping();
        chores.iter().any(|chore| matches!(chore, Chore::Remove { name } if name.ends_with("snap")))
    }

    #[test]
    fn a_file_stays_as_long_as_it_is_held() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let mut disk = FileDisk::new(directory.path(), WriteMode::WriteThenSync);
        let mut log = log_with_snapshot(&mut disk);
        let poll = mio::Poll::new().expect("readiness is known here");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let (mut lane, _admin) = ends(disk, Arc::new(waker));
        assert!(matches!(lane.hold(&mut log, SHARD, Index(4)), Err(Refusal::NotNow(_))));
        let held = lane.hold(&mut log, SHARD, INDEX).expect("it is there");
        log.discard_snapshot(SHARD, INDEX);
        assert!(!removes_snapshot(&mut log));
        drop(held);
        assert!(!removes_snapshot(&mut log), "the lane has not been told");
        lane.take_messages(&mut log);
        assert!(removes_snapshot(&mut log));
    }
}
