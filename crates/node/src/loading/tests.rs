//! A node of its own with a disk in memory is started again, and the test hands out the chunks of
//! its snapshots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flotilla_raft::{Entry, HardState, Index, Recovered, SnapshotMeta, Time};
use flotilla_shard::{Layout, META, NodeId, ShardId};

use super::{READ_AHEAD, TELL_AFTER_MICROS};
use crate::io::{ConnId, Event, Face, Notice, Now, Output, ReadChunk, SnapshotChunk};
use crate::node::Node;
use crate::options::Options;
use crate::{Boot, Status};

const CLIENT: ConnId = ConnId(1);
const VALUE_BYTES: usize = 200 << 10;
/// Values, each of which fills most of a chunk.
const VALUES: u32 = 60;

/// What a disk holds of a shard.
#[derive(Clone, Debug, Default)]
struct Kept {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    chunks: Vec<SnapshotChunk>,
    entries: Vec<Entry>,
}

/// The machine a node runs on.
struct Host {
    node: Node,
    now: Now,
    state: Option<Vec<u8>>,
    disk: BTreeMap<ShardId, Kept>,
    /// Snapshots in the making.
    making: BTreeMap<ShardId, (SnapshotMeta, Vec<SnapshotChunk>)>,
    /// Reads that wait for the test, in their order.
    reads: VecDeque<(ShardId, Index, u32)>,
    /// What the client was sent.
    answer: String,
    told: Vec<u8>,
}

impl Host {
    fn start(state: Option<Vec<u8>>, disk: BTreeMap<ShardId, Kept>) -> Self {
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
        let (making, reads) = (BTreeMap::new(), VecDeque::new());
        let (answer, told) = (String::new(), Vec::new());
        let mut host = Self { node, now, state, disk, making, reads, answer, told };
        host.turn();
        let (remote, local) = ("127.0.0.1:5".to_owned(), "127.0.0.1:7001".to_owned());
        host.tell(Event::Accepted { conn: CLIENT, face: Face::Plain, remote, local });
        host
    }

    /// The node has lost its power and comes back.
    fn restart(self) -> Self {
        Self::start(self.state, self.disk)
    }

    fn tell(&mut self, event: Event<'_>) {
        self.node.handle(self.now, event);
        self.turn();
    }

    /// Time passes, in steps that are shorter than any limit.
    fn wait(&mut self, micros: u64) {
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
    fn carry_out(&mut self, output: Output) -> bool {
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
            Output::Send { conn: CLIENT, bytes } => {
                self.answer.push_str(&String::from_utf8_lossy(&bytes));
                return false;
            }
            Output::Notice(Notice::Loading { percent }) => {
                self.told.push(percent);
                return false;
            }
            Output::Notice(Notice::Warning(text) | Notice::Fatal(text)) => panic!("{text}"),
            _ => return false,
        };
        self.node.handle(self.now, event);
        true
    }

    /// Answers the oldest read.
    fn read(&mut self) {
        let (shard, index, number) = self.reads.pop_front().expect("something is asked for");
        let kept = &self.disk[&shard];
        assert_eq!(kept.snapshot.index, index);
        let chunks = u32::try_from(kept.chunks.len()).expect("few");
        let chunk = kept.chunks.get(number as usize).cloned();
        let result = Ok(ReadChunk { digest: 0, chunks, chunk });
        self.tell(Event::SnapshotChunk { shard, index, number, result });
    }

    fn ask(&mut self, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        flotilla_resp::encode_command(&words, &mut bytes);
        self.tell(Event::Received { conn: CLIENT, bytes: &bytes });
    }

    fn take_answer(&mut self) -> String {
        std::mem::take(&mut self.answer)
    }

    fn status(&self) -> Status {
        self.node.status(self.now)
    }
}

/// A node that was started again after it had filled two shards, with snapshots of them.
fn restarted() -> Host {
    let mut host = Host::start(None, BTreeMap::new());
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    for number in 0..VALUES {
        host.ask(&format!("SET key{number} {}", "x".repeat(VALUE_BYTES)));
        assert_eq!(host.take_answer(), "+OK\r\n");
        // Snapshots are written at a bounded rate.
        host.wait(20_000);
    }
    host.wait(1_000_000);
    for shard in [ShardId(1), ShardId(2)] {
        let chunks = host.disk[&shard].chunks.len();
        assert!(chunks > READ_AHEAD as usize, "{chunks} chunks of shard {shard}");
    }
    host.restart()
}

#[test]
fn one_shard_after_the_other_is_read_ahead_and_all_comes_back() {
    let mut host = restarted();
    let mut order = Vec::new();
    while let Some(&(shard, ..)) = host.reads.front() {
        assert!(host.reads.len() <= READ_AHEAD as usize, "{:?}", host.reads);
        assert!(host.reads.iter().all(|read| read.0 == shard), "{:?}", host.reads);
        order.push(shard);
        let before = host.status().loaded_percent;
        host.read();
        assert!(host.status().loaded_percent.is_none_or(|now| Some(now) >= before));
    }
    order.dedup();
    assert!(order.ends_with(&[ShardId(1), ShardId(2)]), "{order:?}");
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    assert_eq!(host.status().loaded_percent, None);
    for number in 0..VALUES {
        host.ask(&format!("STRLEN key{number}"));
        assert_eq!(host.take_answer(), format!(":{VALUE_BYTES}\r\n"));
    }
    assert!(host.told.is_empty(), "that was no time at all");
}

#[test]
fn who_asks_is_held_for_a_moment_and_then_told() {
    let mut host = restarted();
    host.ask("STRLEN key0");
    host.wait(TELL_AFTER_MICROS / 2);
    assert_eq!(host.take_answer(), "", "it may be there any moment");
    host.ask("INCR counter");
    host.wait(TELL_AFTER_MICROS / 2 + 20_000);
    let told = host.take_answer();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines.iter().all(|line| line.starts_with("-LOADING shard ")), "{told}");
    host.ask("STRLEN key0");
    host.wait(20_000);
    assert!(host.take_answer().starts_with("-LOADING shard "), "nobody waits any more");
    let status = host.status();
    assert!(!status.ready && status.waiting_for[0].starts_with("loading: "), "{status:?}");
    assert!(!host.told.is_empty(), "the operator is told");

    while !host.reads.is_empty() {
        host.read();
    }
    host.wait(50_000);
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    host.ask("INCR counter");
    host.wait(50_000);
    assert_eq!(host.take_answer(), ":1\r\n", "what was answered LOADING was not applied");
}

#[test]
fn who_waits_when_it_is_there_in_time_is_served() {
    let mut host = restarted();
    host.ask("INCR counter");
    host.ask("STRLEN key1");
    host.wait(TELL_AFTER_MICROS / 2);
    while !host.reads.is_empty() {
        host.read();
    }
    assert_eq!(host.take_answer(), format!(":1\r\n:{VALUE_BYTES}\r\n"));
}

#[test]
fn a_log_being_applied_is_loading_too() {
    let mut host = Host::start(None, BTreeMap::new());
    for number in 0..6 {
        host.ask(&format!("SET key{number} {}", "x".repeat(100_000)));
        assert_eq!(host.take_answer(), "+OK\r\n");
    }
    let kept = host.disk.values().any(|kept| kept.entries.len() > 1);
    assert!(kept && host.disk.keys().any(|shard| *shard != META));
    let mut host = host.restart();
    assert!(host.status().ready, "{:?}", host.status().waiting_for);
    host.ask("STRLEN key5");
    assert_eq!(host.take_answer(), ":100000\r\n");
}
