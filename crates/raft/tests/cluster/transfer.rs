//! Snapshots that travel in chunks: what a host does with `flotilla_raft::chunks`.

use std::collections::BTreeMap;

use flotilla_raft::chunks::{
    ChunkMessage, ChunkNumber, Crc, Cutter, Manifest, Outcome, Receiver, ReceiverConfig,
    ReceiverTask, Sender, SenderConfig, SenderTask, Session,
};
use flotilla_raft::{Entry, EntryKind, Index, Input, Payload, ReplicaId, SnapshotMeta, Term, Time};

use super::host::Snapshot;
use super::{Cluster, Parcel};

/// How chunks are cut and sent; none are if `chunk_bytes` is 0.
#[derive(Clone, Copy)]
pub(crate) struct Chunking {
    pub(crate) chunk_bytes: u32,
    pub(crate) sender: SenderConfig,
    pub(crate) receiver: ReceiverConfig,
}

impl Default for Chunking {
    fn default() -> Self {
        let sender = SenderConfig { window: 2, retry: 200_000, patience: 2_000_000 };
        let receiver = ReceiverConfig { idle: 1_000_000, ..ReceiverConfig::default() };
        Self { chunk_bytes: 0, sender, receiver }
    }
}

/// The transfers of one host, and what it has on disk of them.
pub(crate) struct Transfers {
    pub(crate) chunking: Chunking,
    pub(crate) sending: BTreeMap<ReplicaId, (Sender, Vec<u8>)>,
    pub(crate) receiver: Receiver,
    /// The file that is being received.
    file: Vec<u8>,
    /// What the host noted of it, so that it can go on after a crash.
    noted: Option<(Manifest, Vec<(ChunkNumber, Crc)>)>,
    /// How often the host started.
    boots: u64,
}

impl Transfers {
    pub(crate) fn new(chunking: Chunking) -> Self {
        let receiver = Receiver::new(chunking.receiver, Session(0));
        let sending = BTreeMap::new();
        Self { chunking, sending, receiver, file: Vec::new(), noted: None, boots: 0 }
    }

    /// Everything but the file and the notes is lost; without the notes, the file is of no use.
    pub(crate) fn restart(&mut self, keeps_notes: bool, now: Time) {
        self.boots += 1;
        self.sending.clear();
        let session = Session(self.boots << 32);
        let config = self.chunking.receiver;
        self.receiver = match self.noted.take().filter(|_| keeps_notes) {
            Some((manifest, stored)) => {
                self.noted = Some((manifest.clone(), stored.clone()));
                Receiver::resume(config, session, manifest, stored, now)
            }
            None => Receiver::new(config, session),
        };
    }

    /// When one of its senders wants to do something.
    pub(crate) fn deadline(&self) -> Time {
        self.sending.values().map(|(sender, _)| sender.deadline()).min().unwrap_or(Time::NEVER)
    }

    fn store(&mut self, number: ChunkNumber, offset: u64, bytes: &Payload) {
        let start = offset as usize;
        self.file[start..start + bytes.len()].copy_from_slice(bytes.bytes());
        let noted = self.noted.as_mut().expect("a file was begun");
        noted.1.push((number, Crc::of(bytes.bytes())));
    }
}

impl Cluster {
    /// Sends the snapshot chunk by chunk.
    pub(super) fn begin_transfer(
        &mut self,
        id: ReplicaId,
        to: ReplicaId,
        of: Snapshot,
        term: Term,
    ) {
        let now = self.now;
        let host = self.host_mut(id);
        let bytes = encode(&of.history);
        let mut cutter = Cutter::new(host.transfers.chunking.chunk_bytes);
        cutter.take(&bytes);
        let config = host.transfers.chunking.sender;
        let sender = Sender::new(config, cutter.finish(of.meta), term, now);
        host.transfers.sending.insert(to, (sender, bytes));
        self.pump(id);
    }

    /// Does what the senders of `id` want to do now.
    pub(crate) fn pump(&mut self, id: ReplicaId) {
        let now = self.now;
        let mut ended = Vec::new();
        let Self { hosts, sent, .. } = self;
        let host = hosts.get_mut(&id).expect("the cluster has this replica");
        for (&to, (sender, file)) in &mut host.transfers.sending {
            while let Some(task) = sender.poll(now) {
                let message = match task {
                    SenderTask::Send(message) => Some(message),
                    SenderTask::Read { number, range } => {
                        let bytes = file[range.start as usize..range.end as usize].to_vec();
                        sender.on_read(number, Payload::new(bytes), now)
                    }
                };
                sender.check_invariants();
                let message = message.into_iter();
                sent.extend(message.map(|message| Parcel::Chunk { from: id, to, message }));
            }
            ended.extend(sender.outcome().map(|outcome| (to, outcome)));
        }
        for (to, outcome) in ended {
            self.host_mut(id).transfers.sending.remove(&to);
            let delivered = match outcome {
                Outcome::Delivered(index) => Some(index),
                Outcome::Refused | Outcome::GaveUp | Outcome::Damaged(_) => None,
            };
            self.step(id, Input::SnapshotSent { to, delivered });
        }
    }

    pub(super) fn deliver_chunk(&mut self, from: ReplicaId, to: ReplicaId, message: ChunkMessage) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&to).filter(|host| host.raft.is_some()) else { return };
        if let Some((sender, _)) = host.transfers.sending.get_mut(&from) {
            sender.on_message(&message, now);
        }
        let (applied, mut tasks) = (host.applied_index(), Vec::new());
        host.transfers.receiver.on_message(from, message, applied, now, &mut tasks);
        self.receive(to, tasks);
        self.pump(to);
    }

    /// Does what the receiver of `id` wants done.
    fn receive(&mut self, id: ReplicaId, mut tasks: Vec<ReceiverTask>) {
        while !tasks.is_empty() {
            let task = tasks.remove(0);
            let Self { hosts, sent, .. } = self;
            let host = hosts.get_mut(&id).expect("the cluster has this replica");
            let transfers = &mut host.transfers;
            match task {
                ReceiverTask::Send { to, message } => {
                    sent.push(Parcel::Chunk { from: id, to, message });
                }
                ReceiverTask::Begin(manifest) => {
                    transfers.file = vec![0; manifest.bytes as usize];
                    transfers.noted = Some((manifest, Vec::new()));
                }
                ReceiverTask::Store { name, number, offset, bytes } => {
                    transfers.store(number, offset, &bytes);
                    transfers.receiver.on_stored(name, number, &mut tasks);
                }
                ReceiverTask::Finish(name) => {
                    let (manifest, _) = transfers.noted.take().expect("a file was begun");
                    let history = decode(&transfers.file);
                    let received = Snapshot { meta: manifest.meta, history };
                    self.judge.transfers_in_chunks += 1;
                    host.files.push(received);
                    host.transfers.receiver.on_finished(name, &mut tasks);
                }
                ReceiverTask::Received { from, term, meta } => {
                    self.step(id, Input::SnapshotReceived { from, term, meta: Box::new(meta) });
                }
            }
            self.host(id).transfers.receiver.check_invariants();
        }
    }
}

/// The state of a machine that remembers everything: its history.
fn encode(history: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in history {
        bytes.extend(entry.term.0.to_le_bytes());
        bytes.push(match entry.kind {
            EntryKind::Empty => 0,
            EntryKind::Normal => 1,
            EntryKind::Configuration => 2,
        });
        bytes.extend((entry.payload.len() as u32).to_le_bytes());
        bytes.extend(entry.payload.bytes());
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Vec<Entry> {
    let mut history = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<13>() {
        let (term, kind, length) = (&head[..8], head[8], &head[9..]);
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
        let kinds = [EntryKind::Empty, EntryKind::Normal, EntryKind::Configuration];
        history.push(Entry {
            index: Index(history.len() as u64 + 1),
            term: Term(u64::from_le_bytes(term.try_into().expect("8 bytes"))),
            kind: kinds[kind as usize],
            payload: Payload::new(rest[..length].to_vec()),
        });
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "what was received is what was sent");
    history
}

/// What a snapshot's meta says, where only its place matters.
pub(crate) fn place(meta: &SnapshotMeta) -> String {
    format!("{}.{}", meta.index, meta.term)
}
