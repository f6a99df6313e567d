//! Three nodes, the packets between them, and their clients. Nothing moves unless it is told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flotilla_node::{
    Boot, ConnId, Event, Face, Inspection, Node, Now, Options, Output, WriteBatch,
};
use flotilla_raft::{Entry, EntryKind, Index, Time};
use flotilla_resp::{Value, encode_command, parse_value};
use flotilla_shard::{NodeId, ShardId};

use super::judge::{Call, Ending, Operation};
use crate::history::KeyState;
use crate::random::Random;
use crate::scenario::local;
use crate::trace::Trace;

/// So many nodes, each with a replica of the one shard of data.
pub(super) const NODES: usize = 3;
/// That shard.
pub(super) const SHARD: ShardId = ShardId(1);
/// No run is so long that a snapshot is due.
const NO_SNAPSHOT_BYTES: u64 = 1 << 40;
/// What a right wall clock shows when the monotonic ones show 0, milliseconds since 1970.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// So many turns in a row in which a node has more to do are a loop without end.
const TURNS_MAX: usize = 1_000;

/// A node and what is its own.
struct Machine {
    node: Node,
    /// Its monotonic clock, microseconds.
    time: u64,
    accepted: u64,
    /// The write that is not reported as durable yet.
    open_write: Option<u64>,
    /// The log of the shard, as it was given to the disk.
    log: Vec<Entry>,
}

/// What travels.
enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// A connection of two nodes.
struct Wire {
    /// Machine and its number of the connection; of who dialled first.
    ends: [(usize, ConnId); 2],
    /// What is under way from each end to the other.
    ways: [VecDeque<Piece>; 2],
}

/// The other side of a node's connection.
#[derive(Clone, Copy)]
enum Party {
    /// Another node, by this wire, of which this is the end of that number.
    Wire(u64, usize),
    Client(usize),
}

/// A client, with one connection for ever.
struct Client {
    at: usize,
    conn: ConnId,
    unread: Vec<u8>,
    /// What it waits for, by the place among all operations.
    waiting: VecDeque<usize>,
}

/// The small world.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) trace: Trace,
    machines: Vec<Machine>,
    wires: BTreeMap<u64, Wire>,
    last_wire: u64,
    parties: BTreeMap<(usize, ConnId), Party>,
    /// Dials that are not answered yet.
    dials: VecDeque<(usize, ConnId, String)>,
    clients: Vec<Client>,
    pub(super) operations: Vec<Operation>,
    /// From which machine to which nothing passes for now.
    pub(super) held: BTreeSet<(usize, usize)>,
    /// Machines whose disks finish a write only when they are told to.
    pub(super) slow: BTreeSet<usize>,
    /// Rises with everything that happens.
    moment: u64,
    pub(super) turns: u64,
    outputs: Vec<Output>,
}

impl World {
    /// Three nodes that have not met yet, and so many clients of each.
    pub(super) fn new(seed: u64, clients: usize, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let layout = local(NODES, 1, NODES);
        let options = options(&mut random);
        let machine = |at: usize| {
            let boot = Boot {
                layout: layout.clone(),
                me: NodeId::at(at),
                node_state: None,
                shards: BTreeMap::new(),
                lost: BTreeMap::new(),
                incomplete: false,
                durable_through: 0,
                stateless: BTreeSet::new(),
                storage_id: [at as u8 + 1; 16],
                nonce: at as u64 + 1,
                seed: random.word(),
                cluster_port: 0,
                http_port: 0,
                durable: true,
                options: options.clone(),
            };
            let node = Node::new(boot, now(0)).expect("a blank disk fits every layout");
            Machine { node, time: 0, accepted: 0, open_write: None, log: Vec::new() }
        };
        let machines = (0..NODES).map(machine).collect();
        let mut world = Self {
            random,
            trace,
            machines,
            wires: BTreeMap::new(),
            last_wire: 0,
            parties: BTreeMap::new(),
            dials: VecDeque::new(),
            clients: Vec::new(),
            operations: Vec::new(),
            held: BTreeSet::new(),
            slow: BTreeSet::new(),
            moment: 0,
            turns: 0,
            outputs: Vec::new(),
        };
        for at in (0..NODES).flat_map(|at| std::iter::repeat_n(at, clients)) {
            let client = world.clients.len();
            let conn = world.accept(at, Party::Client(client), format!("10.1.0.1:{client}"));
            let (unread, waiting) = (Vec::new(), VecDeque::new());
            world.clients.push(Client { at, conn, unread, waiting });
        }
        (0..NODES).for_each(|at| world.turn(at));
        world
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The machine that a client is connected to.
    pub(super) fn home(&self, client: usize) -> usize {
        self.clients[client].at
    }

    /// How many operations of a client are not answered.
    pub(super) fn waits(&self, client: usize) -> usize {
        self.clients[client].waiting.len()
    }

    /// What a machine's replica of the shard of data is like, once the cluster is founded.
    pub(super) fn replica(&self, at: usize) -> Option<Inspection> {
        self.machines[at].node.inspect().find(|seen| seen.shard == SHARD)
    }

    /// Who leads in the highest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let seen = (0..NODES).filter_map(|at| Some((self.replica(at)?, at)));
        let leads = seen.filter(|(replica, _)| replica.leads);
        leads.max_by_key(|(replica, _)| replica.term).map(|(_, at)| at)
    }

    /// Time passes on a machine, which does what is due.
    pub(super) fn pass(&mut self, at: usize, micros: u64) {
        self.machines[at].time += micros;
        if self.machines[at].node.deadline().0 <= self.machines[at].time {
            self.turn(at);
        }
    }

    /// A machine's write is durable, if one is open.
    pub(super) fn finish_write(&mut self, at: usize) {
        if self.report_write(at) {
            self.turn(at);
        }
    }

    /// A client asks for several things at once.
    pub(super) fn ask(&mut self, client: usize, calls: Vec<Call>) {
        let Client { at, conn, .. } = self.clients[client];
        let mut bytes = Vec::new();
        for call in calls {
            self.tell(|| format!("client {client} at node {} asks {call:?}", at + 1));
            encode(&call, &mut bytes);
            self.moment += 1;
            self.clients[client].waiting.push_back(self.operations.len());
            let (asked, ending) = (self.moment, Ending::Unknown);
            let operation = Operation { connection: client, asked, answered: None, call, ending };
            self.operations.push(operation);
        }
        self.handle(at, Event::Received { conn, bytes: &bytes });
        self.turn(at);
    }

    /// How many pieces are under way from one machine to another.
    pub(super) fn under_way(&self, from: usize, to: usize) -> usize {
        self.ways(from, to).map(|(id, side)| self.wires[&id].ways[side].len()).sum()
    }

    fn ways(&self, from: usize, to: usize) -> impl Iterator<Item = (u64, usize)> {
        self.wires.iter().filter_map(move |(id, wire)| {
            let ends = wire.ends.map(|(at, _)| at);
            let side = ends.iter().position(|at| *at == from)?;
            (ends[1 - side] == to).then_some((*id, side))
        })
    }

    /// The next so many pieces under way from one machine to another arrive in one turn, whether
    /// they are held or not. Gives whether there was any.
    pub(super) fn deliver(&mut self, from: usize, to: usize, count: usize) -> bool {
        let way = self.ways(from, to).find(|(id, side)| !self.wires[id].ways[*side].is_empty());
        let Some((id, side)) = way else { return false };
        for _ in 0..count {
            let Some(wire) = self.wires.get_mut(&id) else { break };
            let (conn, piece) = (wire.ends[1 - side].1, wire.ways[side].pop_front());
            let there = self.parties.contains_key(&(to, conn));
            match piece {
                Some(Piece::Bytes(bytes)) if there => {
                    self.tell_packet(from, to, &bytes);
                    self.trace.mix_bytes(&bytes);
                    self.handle(to, Event::Received { conn, bytes: &bytes });
                }
                Some(Piece::Bytes(_)) => {}
                Some(Piece::End) => {
                    if self.parties.remove(&(to, conn)).is_some() {
                        self.handle(to, Event::Closed { conn });
                    }
                    self.forget_wire(id);
                }
                None => break,
            }
        }
        self.turn(to);
        true
    }

    /// Forgets a wire that neither end has any more.
    fn forget_wire(&mut self, id: u64) {
        let gone = |end: &(usize, ConnId)| !self.parties.contains_key(end);
        if self.wires.get(&id).is_some_and(|wire| wire.ends.iter().all(gone)) {
            self.wires.remove(&id);
        }
    }

    /// The connections between two machines break: of what is under way, the first few pieces each
    /// way arrive yet, before the end does.
    pub(super) fn reset(&mut self, one: usize, other: usize) {
        let ways: Vec<(u64, usize)> = self.ways(one, other).collect();
        for (id, _) in ways {
            for side in [0, 1] {
                let Some(wire) = self.wires.get_mut(&id) else { break };
                let kept = self.random.below(wire.ways[side].len() as u64 + 1) as usize;
                wire.ways[side].truncate(kept);
                if !matches!(wire.ways[side].back(), Some(Piece::End)) {
                    wire.ways[side].push_back(Piece::End);
                }
            }
        }
        self.tell(|| format!("nodes {} and {} lose their link", one + 1, other + 1));
    }

    /// Dials that wait are answered: everybody can be reached. Says whether there was any.
    pub(super) fn answer_dials(&mut self) -> bool {
        let any = !self.dials.is_empty();
        while let Some((at, conn, address)) = self.dials.pop_front() {
            let listed = (0..NODES).find(|to| crate::world::address(*to) == address);
            let to = listed.expect("nodes dial nodes");
            let id = self.last_wire;
            self.last_wire += 1;
            let remote = format!("10.0.0.{}:{}", at + 1, 40_000 + id);
            let accepted = self.accept(to, Party::Wire(id, 1), remote);
            let (ends, ways) = ([(at, conn), (to, accepted)], Default::default());
            self.wires.insert(id, Wire { ends, ways });
            self.parties.insert((at, conn), Party::Wire(id, 0));
            self.handle(at, Event::Dialed { conn, connected: true });
            self.turn(at);
        }
        any
    }

    fn accept(&mut self, at: usize, party: Party, remote: String) -> ConnId {
        self.machines[at].accepted += 1;
        let conn = ConnId(self.machines[at].accepted);
        self.parties.insert((at, conn), party);
        let (face, local) = (Face::Plain, crate::world::address(at));
        self.handle(at, Event::Accepted { conn, face, remote, local });
        conn
    }

    fn handle(&mut self, at: usize, event: Event<'_>) {
        self.moment += 1;
        let machine = &mut self.machines[at];
        machine.node.handle(now(machine.time), event);
    }

    /// A machine ends its turn, and takes more as long as it has something to do.
    fn turn(&mut self, at: usize) {
        for _ in 0..TURNS_MAX {
            self.turns += 1;
            let read = now(self.machines[at].time);
            if self.machines[at].node.deadline() <= read.time {
                self.handle(at, Event::Wake);
            }
            let mut outputs = std::mem::take(&mut self.outputs);
            self.machines[at].node.end_turn(read, &mut outputs);
            for output in outputs.drain(..) {
                self.carry_out(at, output);
            }
            self.outputs = outputs;
            let reported = !self.slow.contains(&at) && self.report_write(at);
            if !reported && self.machines[at].node.deadline() > read.time {
                return;
            }
        }
        panic!("node {} turns without end", at + 1);
    }

    fn report_write(&mut self, at: usize) -> bool {
        let Some(sequence) = self.machines[at].open_write.take() else { return false };
        self.handle(at, Event::Written { sequence, durable_through: sequence });
        true
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { conn, bytes } => match self.parties.get(&(at, conn)) {
                Some(Party::Client(client)) => {
                    let client = *client;
                    self.clients[client].unread.extend_from_slice(&bytes);
                    self.read_replies(client);
                }
                Some(Party::Wire(id, side)) => {
                    if let Some(wire) = self.wires.get_mut(id)
                        && !matches!(wire.ways[*side].back(), Some(Piece::End))
                    {
                        wire.ways[*side].push_back(Piece::Bytes(bytes));
                    }
                }
                None => {}
            },
            Output::Close { conn } => {
                self.dials.retain(|dial| (dial.0, dial.1) != (at, conn));
                if let Some(Party::Wire(id, side)) = self.parties.remove(&(at, conn))
                    && let Some(wire) = self.wires.get_mut(&id)
                    && !matches!(wire.ways[side].back(), Some(Piece::End))
                {
                    wire.ways[side].push_back(Piece::End);
                }
            }
            Output::Dial { conn, address } => self.dials.push_back((at, conn, address)),
            Output::Write(batch) => self.write(at, batch),
            Output::Notice(notice) => self.tell(|| format!("node {} says {notice:?}", at + 1)),
            Output::Pause { .. } | Output::Resume { .. } => {}
            other => panic!("so short a run asks for nothing else: {other:?}"),
        }
    }

    fn write(&mut self, at: usize, batch: WriteBatch) {
        let machine = &mut self.machines[at];
        assert!(machine.open_write.is_none(), "one write is open at a time");
        machine.open_write = Some(batch.sequence);
        for (_, write) in batch.writes.into_iter().filter(|(shard, _)| *shard == SHARD) {
            if let Some(first) = write.entries.first() {
                machine.log.retain(|entry| entry.index < first.index);
                machine.log.extend(write.entries);
            }
        }
    }

    /// The payloads of the entries that a machine has, up to that one.
    pub(super) fn payloads(&self, at: usize, commit: Index) -> Vec<Vec<u8>> {
        let entries = self.machines[at].log.iter().filter(|entry| entry.index <= commit);
        let payload = |entry: &Entry| match entry.kind {
            EntryKind::Normal => entry.payload.bytes().to_vec(),
            EntryKind::Empty | EntryKind::Configuration => Vec::new(),
        };
        entries.map(payload).collect()
    }

    /// A word for the state of a machine's replica.
    pub(super) fn state_hash(&self, at: usize) -> Option<u64> {
        self.machines[at].node.state_hash(SHARD)
    }

    /// Whether a machine's core breaks no invariant of its own.
    pub(super) fn check_invariants(&self) {
        self.machines.iter().for_each(|machine| machine.node.check_invariants());
    }

    fn read_replies(&mut self, client: usize) {
        while let Some((reply, length)) =
            parse_value(&self.clients[client].unread).expect("a node speaks RESP")
        {
            self.clients[client].unread.drain(..length);
            let waiting = self.clients[client].waiting.pop_front();
            let number = waiting.expect("a node answers what was asked, once");
            self.moment += 1;
            let ending = ending(&self.operations[number].call, &reply);
            self.tell(|| format!("client {client} reads {reply:?}"));
            self.operations[number].answered = Some(self.moment);
            self.operations[number].ending = ending;
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        let moment = self.moment;
        self.trace.tell(|| format!("{moment:>6} {}", line()));
    }

    fn tell_packet(&mut self, from: usize, to: usize, bytes: &[u8]) {
        self.tell(|| {
            let what = flotilla_node::describe_link(bytes);
            format!("message node-{} node-{} {what}", from + 1, to + 1)
        });
    }
}

/// Limits so small that much is cut into pieces, or so large that nothing is.
fn options(random: &mut Random) -> Options {
    Options {
        election_timeout_ms: 150,
        heartbeat_ms: 25,
        hold_ms: *random.pick(&[1_500, 20_000]),
        snapshot_log_bytes: NO_SNAPSHOT_BYTES,
        max_append_bytes: *random.pick(&[64, 128 << 10]),
        max_chunk_bytes: *random.pick(&[1, 160, 1 << 20]),
        max_entry_bytes: *random.pick(&[1, 300, 16 << 20]),
        max_unsettled_commands: *random.pick(&[3, 4_096]),
        ..Options::default()
    }
}

/// What clocks show at that time of a monotonic one: the wall clocks of all go as theirs do.
fn now(time: u64) -> Now {
    Now { time: Time(time), wall_ms: EPOCH_MS + time / 1_000 }
}

fn encode(call: &Call, bytes: &mut Vec<u8>) {
    let lives;
    let mut words: Vec<&[u8]> = Vec::new();
    match call {
        Call::Read(keys) if keys.len() == 1 => words.extend([&b"GET"[..], keys[0].as_bytes()]),
        Call::Read(keys) => {
            words.push(b"MGET");
            words.extend(keys.iter().map(|key| key.as_bytes()));
        }
        Call::Append { key, token } => {
            words.extend([&b"APPEND"[..], key.as_bytes(), token.as_slice()])
        }
        Call::Write { parts, lives_ms } => {
            let name: &[u8] = if parts.len() == 1 { b"SET" } else { b"MSET" };
            words.push(name);
            words.extend(parts.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_slice()]));
            if let Some(lives_ms) = lives_ms {
                lives = lives_ms.to_string();
                words.extend([&b"PX"[..], lives.as_bytes()]);
            }
        }
    }
    encode_command(&words, bytes);
}

/// What a reply says of what was asked. Panics if it says nothing that can be said.
fn ending(call: &Call, reply: &Value) -> Ending {
    let value = |reply: &Value| -> KeyState {
        match reply {
            Value::Bulk(value) => Some(value.clone()),
            Value::Null => None,
            other => panic!("{other:?} is no value"),
        }
    };
    if let Some(error) = reply.as_error() {
        return match error.split(' ').next() {
            Some("UNCERTAIN") => Ending::Unknown,
            // Of a command of several parts one may have been answered otherwise.
            Some("CLUSTERDOWN" | "LOADING") => Ending::Refused,
            _ => panic!("{call:?} was answered {error}"),
        };
    }
    match (call, reply) {
        (Call::Read(keys), Value::Array(values)) if keys.len() == values.len() => {
            Ending::Values(values.iter().map(value).collect())
        }
        (Call::Read(_), reply) => Ending::Values(vec![value(reply)]),
        (Call::Write { .. }, Value::Simple(text)) if text == "OK" => Ending::Done,
        (Call::Append { .. }, Value::Integer(_)) => Ending::Done,
        (call, reply) => panic!("{call:?} was answered {reply:?}"),
    }
}
