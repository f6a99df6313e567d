//! The loop of a lane: look which sockets are ready, give the node what they have, carry out what
//! it decides.
//!
//! A turn: nodes' sockets, new connections, clients' sockets, then the deadline; the node's
//! outputs; what is to be sent leaves **before** the frame of this turn is written, since the node
//! itself holds back what depends on that; then the frame, and what follows from its being
//! durable. Nothing else runs on this thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_node::{Event, Node, Notice, Now, Output, Unchanged, WriteBatch};
use flotilla_raft::{Index, SnapshotMeta, Time};
use flotilla_shard::ShardId;
use flotilla_storage::{Chore, Damage};

use crate::backup::LaneEnd;
use crate::clock::Clock;
use crate::config::ServerError;
use crate::console::{Console, Level, say};
use crate::frames::Frames;
use crate::helper::{Answer, BuildOn, Helper, Job};
use crate::network::Network;
use crate::watch::Watched;

/// The lane turns at least this often, so that one that does not is known to be stuck.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The log is asked for chores no more often than this.
const CHORES_EVERY: Duration = Duration::from_millis(10);
/// What the node says of itself is published no more often than this.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// A timer that is very late waits for so many turns in which nodes' sockets are not read empty.
const LATE_TURNS_MAX: u32 = 16;
/// So often a part of what is cold is read, to see whether it still can be.
const SCRUB_EVERY: Duration = Duration::from_secs(1);
/// About so much of it, bytes: a gigabyte in a quarter of an hour.
const SCRUB_BYTES: u64 = 1 << 20;
/// A chore that failed is tried again so much later.
const CHORE_RETRY: Duration = Duration::from_secs(5);
/// At a stop, clients that have asked something are given so long to get their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// One lane and all it drives.
#[derive(Debug)]
pub(crate) struct Lane {
    node: Node,
    clock: Clock,
    network: Network,
    frames: Frames,
    helper: Helper,
    backups: LaneEnd,
    watched: Arc<Watched>,
    console: Console,
    outputs: Vec<Output>,
    /// Whether anybody reads what is published.
    publishes: bool,
    published: Option<Instant>,
    chores_asked: Instant,
    failed_chores: Vec<(Instant, Chore)>,
    scrubbed: Instant,
    /// Whether the node was told that the disk is full.
    lacked_room: bool,
    /// The batch of the present turn.
    batch: Option<WriteBatch>,
    /// A timer later than this waits until nodes' sockets are read empty, microseconds.
    late_micros: u64,
    late_turns: u32,
}

/// What a lane is put together from.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The machine.
    pub(crate) node: Node,
    /// The clock it was started with.
    pub(crate) clock: Clock,
    /// All sockets.
    pub(crate) network: Network,
    /// The log.
    pub(crate) frames: Frames,
    /// The thread for files.
    pub(crate) helper: Helper,
    /// What the HTTP port asks for backups.
    pub(crate) backups: LaneEnd,
    /// What other threads see.
    pub(crate) watched: Arc<Watched>,
    /// Whether the HTTP port is open.
    pub(crate) publishes: bool,
    /// Half an election timeout, microseconds.
    pub(crate) late_micros: u64,
}

impl Lane {
    /// A lane ready to run.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            node,
            clock,
            network,
            frames,
            helper,
            backups,
            watched,
            publishes,
            late_micros,
        } = parts;
        Self {
            node,
            clock,
            network,
            frames,
            helper,
            backups,
            watched,
            console: Console::default(),
            outputs: Vec::new(),
            publishes,
            published: None,
            chores_asked: Instant::now(),
            failed_chores: Vec::new(),
            scrubbed: Instant::now(),
            lacked_room: false,
            batch: None,
            late_micros,
            late_turns: 0,
        }
    }

    /// Runs until it is asked to stop; then everything on disk is attested.
    pub(crate) fn run(mut self) -> Result<(), ServerError> {
        self.settle(self.clock.now())?;
        while !self.watched.is_stopping() {
            self.turn()?;
        }
        self.stop()
    }

    fn turn(&mut self) -> Result<(), ServerError> {
        // A timer fires only if it was due before the sockets were looked at: whoever was away
        // for long first reads the messages that may make the timer void.
        let before = self.clock.now();
        self.wait(before)?;
        self.watched.count_turn();
        let now = self.clock.now();
        self.take_files(now)?;
        let node = &mut self.node;
        self.network.deliver(&mut |event| node.handle(now, event));
        self.wake_if_due(before, now);
        self.settle(now)?;
        self.note_long_turn(now);
        Ok(())
    }

    /// Other nodes may take one that is busy for so long for dead: somebody should know why.
    fn note_long_turn(&self, began: Now) {
        let micros = self.clock.now().time.since(began.time);
        if micros > self.late_micros {
            let millis = micros / 1_000;
            say(
                Level::Warning,
                format_args!("one turn took {millis} ms; leaders may change at such times"),
            );
        }
    }

    /// Looks at the sockets, and sleeps if nothing is to be done; what can wait comes after.
    fn wait(&mut self, before: Now) -> Result<(), ServerError> {
        let busy = self.network.is_ready() || self.node.deadline() <= before.time;
        let asleep_from = Instant::now();
        let timeout = if busy {
            Duration::ZERO
        } else {
            self.deadline(asleep_from).saturating_duration_since(asleep_from)
        };
        self.poll(timeout)?;
        let now = Instant::now();
        self.do_chores(now)?;
        self.publish_if_due(now);
        let idle = !self.network.is_ready() && self.node.deadline() > before.time;
        if idle && self.frames.seal_due().is_some_and(|due| due <= now) {
            self.frames.seal()?;
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), ServerError> {
        self.network.poll(timeout).map_err(ServerError::system("can't look at the sockets"))
    }

    /// When something is to be done although no socket is ready.
    fn deadline(&self, now: Instant) -> Instant {
        let mut until = now + SLEEP_MAX;
        let wanted = self.node.deadline();
        if wanted != Time::NEVER {
            let wait = Duration::from_micros(wanted.since(self.clock.time(now)));
            until = until.min(now + wait.min(SLEEP_MAX));
        }
        until
            .min(self.frames.seal_due().unwrap_or(until))
            .min(self.network.deadline().unwrap_or(until))
    }

    fn wake_if_due(&mut self, before: Now, now: Now) {
        let deadline = self.node.deadline();
        if deadline > before.time {
            return;
        }
        let late = before.time.since(deadline) > self.late_micros;
        if late && self.network.peers_ready() && self.late_turns < LATE_TURNS_MAX {
            self.late_turns += 1;
            return;
        }
        self.late_turns = 0;
        self.node.handle(now, Event::Wake);
    }

    /// Ends the turn and carries out what the node decides, until nothing follows from it.
    fn settle(&mut self, mut now: Now) -> Result<(), ServerError> {
        loop {
            let mut outputs = std::mem::take(&mut self.outputs);
            self.node.end_turn(now, &mut outputs);
            let carried_out = outputs.drain(..).try_for_each(|output| self.carry_out(output));
            self.outputs = outputs;
            carried_out?;
            self.network.flush();
            if let Some(batch) = self.batch.take() {
                self.frames.append(&batch)?;
                now = self.clock.now();
            }
            let node = &mut self.node;
            let mut more = self.network.deliver_news(&mut |event| node.handle(now, event));
            more |= self.tell_written(now);
            if !more {
                return Ok(());
            }
        }
    }

    /// Tells the node of the batches that have become durable; whether there were any.
    fn tell_written(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(sequence) = self.frames.next_written() {
            let durable_through = self.frames.log().durable_through();
            self.node.handle(now, Event::Written { sequence, durable_through });
            any = true;
        }
        any
    }

    fn carry_out(&mut self, output: Output) -> Result<(), ServerError> {
        match output {
            Output::Send { conn, bytes } => self.network.send(conn, bytes),
            Output::Close { conn } => self.network.close(conn),
            Output::Pause { conn } => self.network.set_paused(conn, true),
            Output::Resume { conn } => self.network.set_paused(conn, false),
            Output::Dial { conn, address } => self.network.dial(conn, &address),
            Output::Write(batch) => {
                let before = self.batch.replace(batch);
                assert!(before.is_none(), "a node has at most one write open");
            }
            Output::Repair { shard, entries } => self.frames.log().repair(shard, entries),
            Output::SnapshotBegin { shard, meta, upon } => {
                self.begin_snapshot(shard, meta, upon)?;
            }
            Output::SnapshotAppend { shard, chunk } => {
                self.helper.give(Job::Append { shard, chunk })?;
            }
            Output::SnapshotFinish { shard } => self.helper.give(Job::Finish { shard })?,
            Output::SnapshotAbort { shard } => self.helper.give(Job::Abort { shard })?,
            Output::SnapshotRead { shard, index, number } => {
                self.read_snapshot(shard, index, number)?;
            }
            Output::Notice(Notice::Restart(reason)) => {
                say(Level::Warning, format_args!("{reason}; the node starts anew"));
                // Who was told to stop is done.
                if !self.watched.is_stopping() {
                    return Err(ServerError::Restart);
                }
            }
            Output::Notice(Notice::Fatal(reason)) => return Err(ServerError::Node(reason)),
            Output::Notice(notice) => self.console.notice(&notice),
        }
        Ok(())
    }

    fn begin_snapshot(
        &mut self,
        shard: ShardId,
        meta: SnapshotMeta,
        upon: Option<Unchanged>,
    ) -> Result<(), ServerError> {
        let log = self.frames.log();
        let upon = upon.map(|Unchanged { since, slots }| {
            let former = log.snapshot_to_build_on(shard, since).cloned();
            BuildOn { index: meta.index, former, unchanged: slots }
        });
        let (writer, name) = log.snapshot_writer(shard, meta);
        self.helper.give(Job::Begin { shard, writer: Box::new(writer), name, upon })
    }

    fn read_snapshot(
        &mut self,
        shard: ShardId,
        index: Index,
        number: u32,
    ) -> Result<(), ServerError> {
        let Some(file) = self.frames.log().snapshot_at(shard, index).cloned() else {
            let reason = format!("there is no snapshot of shard {shard} at index {index} any more");
            let event = Event::SnapshotChunk { shard, index, number, result: Err(reason) };
            self.network.tell(event);
            return Ok(());
        };
        self.frames.log().hold_snapshot(&file.name);
        self.helper.give(Job::Read { file: Box::new(file), number })
    }

    /// Gives the node what the helper thread and the writer thread have done.
    fn take_files(&mut self, now: Now) -> Result<(), ServerError> {
        self.frames.collect()?;
        self.tell_written(now);
        while let Some(answer) = self.helper.take()? {
            let event = match answer {
                Answer::ChoreDone(chore) => {
                    self.frames.log().chore_done(&chore);
                    continue;
                }
                Answer::ChoreFailed(chore, reason) => {
                    self.frames.log().chore_fails(&chore);
                    say(Level::Warning, format_args!("{reason}; another attempt follows"));
                    self.failed_chores.push((Instant::now() + CHORE_RETRY, chore));
                    continue;
                }
                Answer::Created { is_there } => {
                    self.frames.on_file(is_there)?;
                    continue;
                }
                Answer::NoRoom { shard, reason } => {
                    say(Level::Warning, format_args!("{reason}; another attempt follows"));
                    Event::SnapshotFailed { shard }
                }
                Answer::Begun { shard, index, kept } => {
                    Event::SnapshotKept { shard, index, slots: kept }
                }
                Answer::Appended { shard } => Event::SnapshotAppended { shard },
                Answer::Stored(stored) => {
                    let (shard, index) = (stored.file.shard, stored.file.meta.index);
                    self.frames.log().snapshot_durable(stored);
                    Event::SnapshotStored { shard, index }
                }
                Answer::Chunk { shard, index, number, name, result } => {
                    if result.is_err() {
                        self.frames.log().snapshot_unreadable(&name);
                    }
                    self.frames.log().release_snapshot(&name);
                    Event::SnapshotChunk { shard, index, number, result }
                }
                Answer::Failed(reason) => return Err(ServerError::Disk(reason)),
            };
            self.node.handle(now, event);
        }
        self.backups.serve(&mut self.node, self.frames.log());
        Ok(())
    }

    fn do_chores(&mut self, now: Instant) -> Result<(), ServerError> {
        if now.duration_since(self.chores_asked) < CHORES_EVERY {
            return Ok(());
        }
        self.chores_asked = now;
        self.tell_damage();
        let log = self.frames.log();
        self.failed_chores.retain(|(retry_at, chore)| {
            let due = *retry_at <= now;
            if due {
                log.chore_failed(chore);
            }
            !due
        });
        let mut chores = log.housekeeping();
        if now.duration_since(self.scrubbed) >= SCRUB_EVERY {
            self.scrubbed = now;
            chores.extend(log.scrub(SCRUB_BYTES));
        }
        self.node.note_log_on_disk(log.live_bytes());
        for chore in chores {
            self.helper.give(Job::Chore(chore))?;
        }
        if let Some((name, bytes)) = self.frames.next_file(now) {
            self.helper.give(Job::Create { name, bytes })?;
        }
        self.frames.write_waiting()?;
        self.note_room();
        Ok(())
    }

    /// What was found damaged while running: an operator reads it, and the node repairs it.
    fn tell_damage(&mut self) {
        for damage in self.frames.log().take_damage() {
            say(Level::Warning, &damage);
            match damage {
                Damage::Frame { entries, .. } => {
                    for (shard, indexes) in entries {
                        self.network.tell(Event::Damaged { shard, indexes });
                    }
                }
                Damage::Snapshot { file, .. } => {
                    let (shard, index) = (file.shard, file.meta.index);
                    self.network.tell(Event::SnapshotDamaged { shard, index });
                }
            }
        }
    }

    /// Tells the node when the disk is full, and when there is room again.
    fn note_room(&mut self) {
        let lacks = self.frames.lacks_room();
        if std::mem::replace(&mut self.lacked_room, lacks) != lacks {
            self.network.tell(Event::Room { lacks });
        }
    }

    fn publish_if_due(&mut self, now: Instant) {
        let due = self.published.is_none_or(|last| now.duration_since(last) >= PUBLISH_EVERY);
        if self.publishes && due {
            self.published = Some(now);
            self.watched.publish(self.node.status(self.clock.now()));
        }
    }

    /// Takes no more clients and requests, gives those waiting their answers, and attests what is
    /// on disk.
    fn stop(mut self) -> Result<(), ServerError> {
        say(Level::Info, "stopping");
        self.network.stop_listening();
        let until = Instant::now() + LAST_ANSWERS;
        while self.network.owes_answers() && Instant::now() < until {
            self.turn()?;
        }
        self.frames.finish()
    }
}
