//! The lane's log on a real disk: frames are written on the lane while that is quick, else by one
//! writer thread, always in their order.
//!
//! A frame that begins a segment for which no file was ready has it made first. If there is no room
//! for it the frame waits, as it would for a slow disk: nothing was written, so nothing has failed.
//!
//! Invariants: frames become durable in the order of their sequences; a frame is only written on
//! the lane while the writer thread has none; what follows a frame that waits waits behind it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_node::WriteBatch;
use flotilla_storage::{AlignedBuffer, Disk as _, DiskError, FrameWrite, Log};

use crate::config::ServerError;
use crate::console::{Level, say};
use crate::disk::{FileDisk, LogFile};
use crate::worker::{Wake, Worker};

/// While a durable write takes less than this, smoothed, it is made on the lane, microseconds.
const INLINE_BELOW_MICROS: u64 = 150;
/// One slow write counts no more than this, or a single hiccup would move all others to the
/// thread, microseconds.
const SAMPLE_MAX_MICROS: u64 = 4 * INLINE_BELOW_MICROS;
/// The weight of the newest sample is one in so many.
const SMOOTHING: u64 = 16;
/// A file for which there was no room is tried again so much later.
const FILE_RETRY: Duration = Duration::from_secs(1);
/// A log that was idle for so long attests its last frame (P3).
pub(crate) const SEAL_AFTER: Duration = Duration::from_millis(2);

/// Appends batches to the log.
#[derive(Debug)]
pub(crate) struct Frames {
    log: Log,
    disk: FileDisk,
    /// The segment written last.
    open: Option<(Arc<str>, Arc<LogFile>)>,
    smoothed_micros: u64,
    writer: Writer,
    /// Frames that the writer thread has, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Frames behind all others: there is no room yet for the file that the first of them begins.
    waiting: VecDeque<(FrameWrite, Option<u64>)>,
    /// When that file was asked for last; `None` while it is being made.
    file_asked: Option<Instant>,
    /// Batches that are durable and not yet reported.
    written: VecDeque<u64>,
    last_write: Instant,
}

/// A frame that is being written.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    frame: u64,
    /// The node's batch in it; none in a frame that only attests.
    batch: Option<u64>,
}

impl Frames {
    /// Takes over a log that was recovered; `sync_micros` is what a durable write took.
    pub(crate) fn new(
        log: Log,
        disk: FileDisk,
        sync_micros: u64,
        waker: Arc<dyn Wake>,
    ) -> Result<Self, ServerError> {
        let writer = |(file, frame): (Arc<LogFile>, FrameWrite)| Some(write(&file, frame));
        Ok(Self {
            log,
            disk,
            open: None,
            smoothed_micros: sync_micros.min(SAMPLE_MAX_MICROS),
            writer: Worker::start("log writer", waker, writer)?,
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            file_asked: None,
            written: VecDeque::new(),
            last_write: Instant::now(),
        })
    }

    /// The log itself, for what needs no writing.
    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Appends a batch; its sequence comes out of [`Frames::next_written`] once it is durable.
    pub(crate) fn append(&mut self, batch: &WriteBatch) -> Result<(), ServerError> {
        self.log.begin_anew(&batch.removed, &batch.renewed);
        let frame = self.log.append(batch.node_state.as_deref(), &batch.writes);
        self.submit(frame, Some(batch.sequence))
    }

    /// When the last frame is to be attested; `None` if that is done or on its way.
    pub(crate) fn seal_due(&self) -> Option<Instant> {
        (self.is_idle() && self.log.needs_seal()).then(|| self.last_write + SEAL_AFTER)
    }

    /// Nothing is being written, and nothing waits to be.
    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    /// Whether the log can't grow since the disk is full: no more than its reserve is left.
    pub(crate) fn lacks_room(&self) -> bool {
        self.waits_for_file() || self.log.lacks_room()
    }

    /// Whether there is no room for the file of a frame.
    pub(crate) fn waits_for_file(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The file that a frame waits for, to be made elsewhere, if there may be room for it by now.
    /// The outcome goes to [`Frames::on_file`].
    pub(crate) fn next_file(&mut self, now: Instant) -> Option<(Arc<str>, u64)> {
        let (first, _) = self.waiting.front()?;
        self.file_asked.take_if(|asked| now.duration_since(*asked) >= FILE_RETRY)?;
        let bytes = first.create.expect("it begins a file");
        Some((Arc::clone(&first.file), bytes))
    }

    /// The file is there, and all that waited is written; or there still is no room for it.
    pub(crate) fn on_file(&mut self, is_there: bool) -> Result<(), ServerError> {
        if !is_there {
            self.file_asked = Some(Instant::now());
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        if let Some((first, _)) = waiting.front_mut() {
            first.create = None;
        }
        waiting.into_iter().try_for_each(|(frame, batch)| self.submit(frame, batch))
    }

    /// Attests the last frame.
    pub(crate) fn seal(&mut self) -> Result<(), ServerError> {
        match self.log.seal() {
            Some(frame) => self.submit(frame, None),
            None => Ok(()),
        }
    }

    /// Writes what waits for a frame although no turn asks for one: what is carried or repaired.
    /// True if time was spent on a write.
    pub(crate) fn write_waiting(&mut self) -> Result<bool, ServerError> {
        let may = self.is_idle() && self.log.needs_frame();
        if may {
            let frame = self.log.append(None, &[]);
            self.submit(frame, None)?;
        }
        Ok(may)
    }

    /// The next batch that has become durable.
    pub(crate) fn next_written(&mut self) -> Option<u64> {
        self.written.pop_front()
    }

    /// Takes what the writer thread has done meanwhile.
    pub(crate) fn collect(&mut self) -> Result<(), ServerError> {
        while !self.in_flight.is_empty() {
            match self.writer.take()? {
                Some(outcome) => self.on_writer_outcome(outcome)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits until the writer thread has nothing left, and attests everything: the end. What waits
    /// for room was never reported, and is forgotten.
    pub(crate) fn finish(mut self) -> Result<(), ServerError> {
        self.wait_for_writer()?;
        if !self.waiting.is_empty() {
            return Ok(());
        }
        self.seal()?;
        self.wait_for_writer()
    }

    fn wait_for_writer(&mut self) -> Result<(), ServerError> {
        while !self.in_flight.is_empty() {
            let outcome = self.writer.wait()?;
            self.on_writer_outcome(outcome)?;
        }
        Ok(())
    }

    fn submit(&mut self, frame: FrameWrite, batch: Option<u64>) -> Result<(), ServerError> {
        if !self.waiting.is_empty() {
            self.waiting.push_back((frame, batch));
            return Ok(());
        }
        if let Some(bytes) = frame.create {
            self.open = None;
            match self.disk.create(&frame.file, bytes) {
                Err(error) if error.is_no_room() => {
                    say(Level::Warning, format_args!("{error}; the log waits for room"));
                    self.waiting.push_back((frame, batch));
                    self.file_asked = Some(Instant::now());
                    return Ok(());
                }
                made => made.map_err(fatal)?,
            }
        }
        let file = self.segment(&frame)?;
        let in_flight = InFlight { frame: frame.sequence, batch };
        if self.in_flight.is_empty() && self.smoothed_micros < INLINE_BELOW_MICROS {
            self.on_outcome(in_flight, write(&file, frame))
        } else {
            self.in_flight.push_back(in_flight);
            self.writer.give((file, frame))
        }
    }

    /// The file of a frame.
    fn segment(&mut self, frame: &FrameWrite) -> Result<Arc<LogFile>, ServerError> {
        match &self.open {
            Some((name, file)) if *name == frame.file => Ok(Arc::clone(file)),
            _ => {
                let file = Arc::new(self.disk.open_log(&frame.file).map_err(fatal)?);
                self.open = Some((Arc::clone(&frame.file), Arc::clone(&file)));
                Ok(file)
            }
        }
    }

    fn on_writer_outcome(&mut self, outcome: Outcome) -> Result<(), ServerError> {
        let in_flight = self.in_flight.pop_front().expect("the writer answers once per frame");
        self.on_outcome(in_flight, outcome)
    }

    fn on_outcome(&mut self, in_flight: InFlight, outcome: Outcome) -> Result<(), ServerError> {
        outcome.result.map_err(fatal)?;
        self.log.reuse(outcome.data);
        let sample = outcome.micros.min(SAMPLE_MAX_MICROS);
        self.smoothed_micros = (self.smoothed_micros * (SMOOTHING - 1) + sample) / SMOOTHING;
        self.log.written(in_flight.frame);
        self.written.extend(in_flight.batch);
        self.last_write = Instant::now();
        Ok(())
    }
}

fn fatal(error: DiskError) -> ServerError {
    ServerError::Disk(error.to_string())
}

/// What became of a frame.
#[derive(Debug)]
struct Outcome {
    result: Result<(), DiskError>,
    /// How long the write took.
    micros: u64,
    /// The memory of the frame, for the next one.
    data: AlignedBuffer,
}

fn write(file: &LogFile, frame: FrameWrite) -> Outcome {
    let start = Instant::now();
    let result = file.write_durably(frame.offset, &frame.data);
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Outcome { result, micros, data: frame.data }
}

/// The lane's end of the writer thread.
type Writer = Worker<(Arc<LogFile>, FrameWrite), Outcome>;
