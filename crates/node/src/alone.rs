//! A node of its own, for tests: a cluster of one with a disk in memory, and time that passes when
//! the test says so. What the node asks of the disk is done at once, but reads of snapshots, which
//! wait for the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flotilla_raft::{Entry, HardState, Index, Recovered, SnapshotMeta, Time};
use flotilla_shard::{Layout, NodeId, ShardId};

use crate::io::{ConnId, Event, Face, Notice, Now, Output, ReadChunk, SnapshotChunk};
use crate::node::Node;
use crate::options::Options;
use crate::peers::Peer;
use crate::{Boot, Status};

pub(crate) const CLIENT: ConnId = ConnId(1);
pub(crate) const PEER: NodeId = NodeId(2);

/// What a disk holds of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    pub(crate) chunks: Vec<SnapshotChunk>,
    pub(crate) entries: Vec<Entry>,
}

/// The machine a node runs on.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) now: Now,
    state: Option<Vec<u8>>,
    pub(crate) disk: BTreeMap<ShardId, Kept>,
    /// Snapshots in the making.
    making: BTreeMap<ShardId, (SnapshotMeta, Vec<SnapshotChunk>)>,
    /// Reads that wait for the test, in their order.
    pub(crate) reads: VecDeque<(ShardId, Index, u32)>,
    /// Connections that the node began, and those that it closed.
    pub(crate) dialed: Vec<ConnId>,
    pub(crate) closed: Vec<ConnId>,
    /// Bytes sent to others than the client.
    pub(crate) sent: BTreeMap<ConnId, usize>,
    /// What the client was sent.
    answer: String,
    /// How much of what is loaded the operator was told.
    pub(crate) told: Vec<u8>,
    /// Whether something is wrong of which the operator is to hear.
    pub(crate) may_warn: bool,
}

impl Host {
    pub(crate) fn start(state: Option<Vec<u8>>, disk: BTreeMap<ShardId, Kept>) -> Self {
        let layout = Layout::local(&["127.0.0.1:7001".to_owned()], 2, 1).expect("a layout");
        let recovered = |kept: &Kept| Recovered {
            hard_state: kept.hard_state,
            snapshot: kept.snapshot.clone(),
            entries: kept.entries.clone(),
            damaged: Vec::new(),
        };
        let boot = Boot {
            layout,
            me: NodeId(1),
            node_state: state.clone(),
            shards: disk.iter().map(|(shard, kept)| (*shard, recovered(kept))).collect(),
            stateless: BTreeSet::new(),
            lost: BTreeMap::new(),
            incomplete: false,
            durable_through: 0,
            storage_id: [1; 16],
            nonce: 1,
            seed: 1,
            cluster_port: 0,
            http_port: 0,
            durable: true,
            options: Options { snapshot_log_bytes: 1 << 20, ..Options::default() },
        };
        let now = Now { time: Time(1), wall_ms: 1_700_000_000_000 };
        let node = Node::new(boot, now).expect("the state is the node's own");
        let mut host = Self {
            node,
            now,
            state,
            disk,
            making: BTreeMap::new(),
            reads: VecDeque::new(),
            dialed: Vec::new(),
            closed: Vec::new(),
            sent: BTreeMap::new(),
            answer: String::new(),
            told: Vec::new(),
            may_warn: false,
        };
        host.turn();
        let (remote, local) = ("127.0.0.1:5".to_owned(), "127.0.0.1:7001".to_owned());
        host.tell(Event::Accepted { conn: CLIENT, face: Face::Plain, remote, local });
        host
    }

    /// A node with a peer that does not answer, and the connection that it has begun with it.
    pub(crate) fn with_peer() -> (Self, ConnId) {
        let mut host = Self::start(None, BTreeMap::new());
        host.may_warn = true;
        host.node.peers.map.insert(PEER, Peer::new("127.0.0.1:7002".to_owned()));
        host.wait(10_000);
        let &[conn] = &host.dialed[..] else { panic!("{:?}", host.dialed) };
        (host, conn)
    }

    /// The node has lost its power and comes back.
    pub(crate) fn restart(self) -> Self {
        Self::start(self.state, self.disk)
    }

    pub(crate) fn tell(&mut self, event: Event<'_>) {
        self.node.handle(self.now, event);
        self.turn();
    }

    /// Time passes, in steps that are shorter than any limit.
    pub(crate) fn wait(&mut self, micros: u64) {
        for _ in 0..micros.div_ceil(10_000) {
            self.now.time = self.now.time + 10_000;
            self.tell(Event::Wake);
        }
    }

    /// Runs turns until nothing follows. What is asked of the disk is done at once, but reads.
    fn turn(&mut self) {
        loop {
            let mut outputs = Vec::new();
            self.node.end_turn(self.now, &mut outputs);
            let mut more = self.node.deadline() <= self.now.time;
            if more {
                self.node.handle(self.now, Event::Wake);
            }
            for output in outputs {
                more |= self.carry_out(output);
            }
            if !more {
                return;
            }
        }
    }

    /// True if an event came of it.
    pub(crate) fn carry_out(&mut self, output: Output) -> bool {
        let event = match output {
            Output::Write(batch) => {
                self.state = batch.node_state.or(self.state.take());
                for (shard, write) in batch.writes {
                    let kept = self.disk.entry(shard).or_default();
                    kept.hard_state = write.hard_state;
                    if let Some(first) = write.entries.first().map(|entry| entry.index) {
                        kept.entries.retain(|entry| entry.index < first);
                        kept.entries.extend(write.entries);
                    }
                }
                let sequence = batch.sequence;
                Event::Written { sequence, durable_through: sequence }
            }
            Output::SnapshotBegin { shard, meta, upon } => {
                let index = meta.index;
                self.making.insert(shard, (meta, Vec::new()));
                if upon.is_none() {
                    return false;
                }
                // Nothing of the one before is kept.
                Event::SnapshotKept { shard, index, slots: Vec::new() }
            }
            Output::SnapshotAppend { shard, chunk } => {
                self.making.get_mut(&shard).expect("begun").1.push(chunk);
                Event::SnapshotAppended { shard }
            }
            Output::SnapshotFinish { shard } => {
                let (snapshot, chunks) = self.making.remove(&shard).expect("begun");
                let kept = self.disk.get_mut(&shard).expect("it has a log");
                let index = snapshot.index;
                kept.entries.retain(|entry| entry.index > index);
                (kept.snapshot, kept.chunks) = (snapshot, chunks);
                Event::SnapshotStored { shard, index }
            }
            Output::SnapshotRead { shard, index, number } => {
                self.reads.push_back((shard, index, number));
                return false;
            }
            output => {
                self.take_note(output);
                return false;
            }
        };
        self.node.handle(self.now, event);
        true
    }

    /// Of this no event comes.
    fn take_note(&mut self, output: Output) {
        match output {
            Output::Send { conn: CLIENT, bytes } => {
                self.answer.push_str(&String::from_utf8_lossy(&bytes));
            }
            Output::Send { conn, bytes } => *self.sent.entry(conn).or_default() += bytes.len(),
            Output::Dial { conn, .. } => self.dialed.push(conn),
            Output::Close { conn } => self.closed.push(conn),
            Output::Notice(Notice::Loading { percent }) => self.told.push(percent),
            Output::Notice(Notice::Warning(_)) if self.may_warn => {}
            Output::Notice(Notice::Warning(text) | Notice::Fatal(text)) => panic!("{text}"),
            _ => {}
        }
    }

    /// The oldest read fails.
    pub(crate) fn fail_read(&mut self) {
        let (shard, index, number) = self.reads.pop_front().expect("something is asked for");
        let result = Err("it can't be read".to_owned());
        self.tell(Event::SnapshotChunk { shard, index, number, result });
    }

    /// Answers the oldest read.
    pub(crate) fn read(&mut self) {
        let (shard, index, number) = self.reads.pop_front().expect("something is asked for");
        let kept = &self.disk[&shard];
        assert_eq!(kept.snapshot.index, index);
        let chunks = u32::try_from(kept.chunks.len()).expect("few");
        let chunk = kept.chunks.get(number as usize).cloned();
        let result = Ok(ReadChunk { digest: 0, chunks, chunk });
        self.tell(Event::SnapshotChunk { shard, index, number, result });
    }

    pub(crate) fn ask(&mut self, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        flotilla_resp::encode_command(&words, &mut bytes);
        self.tell(Event::Received { conn: CLIENT, bytes: &bytes });
    }

    pub(crate) fn take_answer(&mut self) -> String {
        std::mem::take(&mut self.answer)
    }

    pub(crate) fn status(&self) -> Status {
        self.node.status(self.now)
    }
}
