//! The receiver of snapshot files: puts each chunk in its place, whoever sends it and when.
//!
//! Invariants: a chunk is stored at most once in a session, and only with its CRC; a file is
//! finished only with its digest; one file is on its way at a time.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::{ChunkMessage, ChunkNumber, Crc, Manifest, NAMED_ABOVE, Session, SnapshotName};
use crate::{Index, Payload, ReplicaId, SnapshotMeta, Term, Time};

/// So many hosts are told that a file is durable; others hear it when they offer it.
const SENDERS_MAX: usize = 8;

/// The limits of a [`Receiver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// A file of more chunks is refused; each costs some bytes of memory.
    pub max_chunks: u32,
    /// So many chunks may be on their way to the disk; what comes beyond is dropped, and comes
    /// again.
    pub max_open: usize,
    /// A file of which nothing came for so long gives way to any other, µs.
    pub idle: u64,
}

impl Default for ReceiverConfig {
    /// For files up to 256 GiB in chunks of 256 KiB.
    fn default() -> Self {
        Self { max_chunks: 1 << 20, max_open: 64, idle: 5_000_000 }
    }
}

/// What a [`Receiver`] wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverTask {
    /// Send this to the host of that replica.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        message: ChunkMessage,
    },
    /// Remove what was stored of files that are not durable: this one begins, from nothing.
    Begin(Manifest),
    /// Put these bytes there, and report [`Receiver::on_stored`]. They need not be durable yet.
    Store {
        /// In which file.
        name: SnapshotName,
        /// Which chunk they are.
        number: ChunkNumber,
        /// From which byte of the file on.
        offset: u64,
        /// Those bytes.
        bytes: Payload,
    },
    /// The file is whole: make it durable, and report [`Receiver::on_finished`].
    Finish(SnapshotName),
    /// The file is durable: step the core with
    /// [`Input::SnapshotReceived`](crate::Input::SnapshotReceived).
    Received {
        /// Who sent it; of several, one of the latest term.
        from: ReplicaId,
        /// In which term.
        term: Term,
        /// What it stands for.
        meta: SnapshotMeta,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Storing,
    Finishing,
    Durable,
}

/// The file that is on its way, or was last.
#[derive(Debug)]
struct Receiving {
    manifest: Manifest,
    stage: Stage,
    /// The CRCs of the chunks that are stored.
    crcs: Vec<Option<Crc>>,
    /// The chunks that are being stored, and who sent them.
    open: BTreeMap<u32, (Crc, ReplicaId)>,
    first_missing: u32,
    missing: u32,
    /// Who offered it, in which term; the latest last.
    senders: Vec<(ReplicaId, Term)>,
    heard_at: Time,
}

/// What one replica receives of snapshots.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    session: Session,
    current: Option<Receiving>,
}

impl Receiver {
    /// A receiver that has nothing. `session` is above all that this replica's host ever used.
    pub fn new(config: ReceiverConfig, session: Session) -> Self {
        Self { config, session, current: None }
    }

    /// A receiver that goes on after a restart: `stored` is what its host noted of the file, after
    /// those chunks were durable. `session` is above all that were used.
    pub fn resume(
        config: ReceiverConfig,
        session: Session,
        manifest: Manifest,
        stored: impl IntoIterator<Item = (ChunkNumber, Crc)>,
        now: Time,
    ) -> Self {
        if !manifest.is_sensible(config.max_chunks) {
            return Self::new(config, session);
        }
        let mut receiving = Receiving::new(manifest, now);
        for (number, crc) in stored {
            receiving.note(number, crc);
        }
        Self { config, session, current: Some(receiving) }
    }

    /// A message of the host of `from` came. `applied` is what this replica has applied: up to
    /// there it needs no snapshot.
    pub fn on_message(
        &mut self,
        from: ReplicaId,
        message: ChunkMessage,
        applied: Index,
        now: Time,
        tasks: &mut Vec<ReceiverTask>,
    ) {
        match message {
            ChunkMessage::Offer { term, manifest } => {
                self.on_offer((from, term), manifest, applied, now, tasks);
            }
            ChunkMessage::Chunk { name, number, crc, bytes } => {
                self.on_chunk(from, name, (number, crc, bytes), now, tasks);
            }
            ChunkMessage::Have { .. }
            | ChunkMessage::Durable { .. }
            | ChunkMessage::Refused { .. } => {}
        }
    }

    fn on_offer(
        &mut self,
        sender: (ReplicaId, Term),
        manifest: Manifest,
        applied: Index,
        now: Time,
        tasks: &mut Vec<ReceiverTask>,
    ) {
        let ((from, term), name) = (sender, manifest.name());
        let send = |message| ReceiverTask::Send { to: from, message };
        if !manifest.is_sensible(self.config.max_chunks) {
            return tasks.push(send(ChunkMessage::Refused { name }));
        }
        if manifest.meta.index <= applied {
            tasks.push(ReceiverTask::Received { from, term, meta: manifest.meta });
            return tasks.push(send(ChunkMessage::Durable { name }));
        }
        let Some(known) = self.current.as_mut().filter(|known| known.manifest == manifest) else {
            let blocked = self
                .current
                .as_ref()
                .is_some_and(|known| !known.gives_way_to(term, &manifest, now, self.config.idle));
            if blocked {
                return tasks.push(send(ChunkMessage::Refused { name }));
            }
            let mut receiving = Receiving::new(manifest, now);
            receiving.join(sender);
            self.current = Some(receiving);
            return self.begin(tasks);
        };
        known.join(sender);
        known.heard_at = now;
        match known.stage {
            Stage::Durable => known.tell_durable(&[sender], tasks),
            // It was whole when it was resumed.
            Stage::Storing if known.missing == 0 => self.complete(tasks),
            Stage::Storing | Stage::Finishing => tasks.push(send(known.have(self.session))),
        }
    }

    /// Begins the present file, from nothing.
    fn begin(&mut self, tasks: &mut Vec<ReceiverTask>) {
        let Some(current) = &self.current else { return };
        self.session = Session(self.session.0 + 1);
        tasks.push(ReceiverTask::Begin(current.manifest.clone()));
        if current.missing == 0 {
            return self.complete(tasks);
        }
        for &(to, _) in &current.senders {
            tasks.push(ReceiverTask::Send { to, message: current.have(self.session) });
        }
    }

    fn on_chunk(
        &mut self,
        from: ReplicaId,
        name: SnapshotName,
        (number, crc, bytes): (ChunkNumber, Crc, Payload),
        now: Time,
        tasks: &mut Vec<ReceiverTask>,
    ) {
        let Some(current) = self.current.as_mut().filter(|known| known.manifest.name() == name)
        else {
            return;
        };
        let Some(range) = current.manifest.range(number) else { return };
        if range.end - range.start != bytes.len() as u64 || Crc::of(bytes.bytes()) != crc {
            return;
        }
        current.heard_at = now;
        if current.crcs[number.0 as usize].is_some() {
            // The sender missed an answer.
            let message = current.have(self.session);
            return tasks.push(ReceiverTask::Send { to: from, message });
        }
        if !current.open.contains_key(&number.0) && current.open.len() < self.config.max_open {
            current.open.insert(number.0, (crc, from));
            let offset = range.start;
            tasks.push(ReceiverTask::Store { name, number, offset, bytes });
        }
    }

    /// What [`ReceiverTask::Store`] asked for is done.
    pub fn on_stored(
        &mut self,
        name: SnapshotName,
        number: ChunkNumber,
        tasks: &mut Vec<ReceiverTask>,
    ) {
        let Some(current) = self.current.as_mut().filter(|known| known.manifest.name() == name)
        else {
            return;
        };
        // What was asked for in an earlier session is gone.
        let Some((crc, to)) = current.open.remove(&number.0) else { return };
        current.note(number, crc);
        tasks.push(ReceiverTask::Send { to, message: current.have(self.session) });
        if current.missing == 0 {
            self.complete(tasks);
        }
    }

    /// All chunks are there: is it the file that was offered?
    fn complete(&mut self, tasks: &mut Vec<ReceiverTask>) {
        let Some(current) = &mut self.current else { return };
        let digest = current.manifest.digest_of(current.crcs.iter().flatten().copied());
        let name = current.manifest.name();
        if digest == current.manifest.digest {
            current.stage = Stage::Finishing;
            return tasks.push(ReceiverTask::Finish(name));
        }
        // Each chunk was right by itself, so nobody can tell which of them is of another file.
        let senders = core::mem::take(&mut current.senders);
        self.current = None;
        let refused = |(to, _)| ReceiverTask::Send { to, message: ChunkMessage::Refused { name } };
        tasks.extend(senders.into_iter().map(refused));
    }

    /// What [`ReceiverTask::Finish`] asked for is done.
    pub fn on_finished(&mut self, name: SnapshotName, tasks: &mut Vec<ReceiverTask>) {
        let Some(current) = self.current.as_mut().filter(|known| known.manifest.name() == name)
        else {
            return;
        };
        if current.stage == Stage::Finishing {
            current.stage = Stage::Durable;
            let senders = core::mem::take(&mut current.senders);
            current.tell_durable(&senders, tasks);
        }
    }

    /// The host can't store the file, or has lost it: it is forgotten, and may be offered again.
    pub fn abandon(&mut self) {
        self.current = None;
    }

    /// The file that is on its way, or was last; with how many of its chunks are stored.
    pub fn progress(&self) -> Option<(&Manifest, u32)> {
        let current = self.current.as_ref()?;
        Some((&current.manifest, current.manifest.chunks() - current.missing))
    }

    /// Panics unless the invariants of this module hold.
    pub fn check_invariants(&self) {
        let Some(current) = &self.current else { return };
        assert!(current.open.len() <= self.config.max_open, "what is being stored has a limit");
        assert!(current.senders.len() <= SENDERS_MAX, "so have those who wait");
        let missing = current.crcs.iter().filter(|crc| crc.is_none()).count();
        assert_eq!(missing as u32, current.missing, "missing is what has no CRC");
        let first = current.crcs.iter().position(Option::is_none).unwrap_or(current.crcs.len());
        assert_eq!(first as u32, current.first_missing, "the first missing one is missing");
        let mut open = current.open.keys().map(|number| current.crcs[*number as usize]);
        assert!(open.all(|crc| crc.is_none()), "what is stored is not stored again");
        assert!(current.stage == Stage::Storing || missing == 0, "only what is whole is finished");
    }
}

impl Receiving {
    fn new(manifest: Manifest, now: Time) -> Self {
        let count = manifest.chunks();
        Self {
            manifest,
            stage: Stage::Storing,
            crcs: vec![None; count as usize],
            open: BTreeMap::new(),
            first_missing: 0,
            missing: count,
            senders: Vec::new(),
            heard_at: now,
        }
    }

    /// The chunk is stored.
    fn note(&mut self, number: ChunkNumber, crc: Crc) {
        let Some(place) = self.crcs.get_mut(number.0 as usize) else { return };
        if place.replace(crc).is_none() {
            self.missing -= 1;
        }
        while self.crcs.get(self.first_missing as usize).is_some_and(Option::is_some) {
            self.first_missing += 1;
        }
    }

    /// Somebody offers it.
    fn join(&mut self, (from, term): (ReplicaId, Term)) {
        self.senders.retain(|(known, _)| *known != from);
        let place = self.senders.partition_point(|(_, known)| *known <= term);
        self.senders.insert(place, (from, term));
        if self.senders.len() > SENDERS_MAX {
            self.senders.remove(0);
        }
    }

    /// Whether another file, offered in `term`, may take its place.
    fn gives_way_to(&self, term: Term, other: &Manifest, now: Time, idle: u64) -> bool {
        let own = self.senders.last().map_or(Term(0), |(_, term)| *term);
        let newer = (term, other.meta.index) > (own, self.manifest.meta.index);
        match self.stage {
            Stage::Storing => newer || now.since(self.heard_at) >= idle,
            // It is about to be there; then there is room.
            Stage::Finishing => false,
            Stage::Durable => true,
        }
    }

    fn have(&self, session: Session) -> ChunkMessage {
        let bit = |at: u32| {
            let number = self.first_missing.checked_add(1 + at)?;
            self.crcs.get(number as usize)?.map(|_| 1 << at)
        };
        ChunkMessage::Have {
            name: self.manifest.name(),
            session,
            first_missing: ChunkNumber(self.first_missing),
            above: (0..NAMED_ABOVE).filter_map(bit).fold(0, |bits, bit: u64| bits | bit),
        }
    }

    /// Tells these senders, and the core of the last of them.
    fn tell_durable(&self, senders: &[(ReplicaId, Term)], tasks: &mut Vec<ReceiverTask>) {
        let Self { manifest, .. } = self;
        if let Some(&(from, term)) = senders.last() {
            tasks.push(ReceiverTask::Received { from, term, meta: manifest.meta.clone() });
        }
        for &(to, _) in senders {
            let message = ChunkMessage::Durable { name: manifest.name() };
            tasks.push(ReceiverTask::Send { to, message });
        }
    }
}
