//! Three nodes in one process and one thread, with clients: what SETs cost them, all else left out.
//!
//! Each is a whole [`Node`] with its [`Log`], as a server runs them. Sockets are queues and disks
//! are memory; neither is measured, nor are the clients. What is measured is a turn of a node
//! ([`Machine::turn`]): bytes are decoded, routed, proposed, framed for the log, replicated,
//! acknowledged, applied and answered. Who measures passes a [`Meter`] that runs every turn.
//!
//! Invariants: everything is a function of the load, so two runs do the same instructions; a
//! command that is not answered by `+OK` ends the run.

mod load;
mod machine;

use std::collections::BTreeMap;

use flotilla_node::{ConnId, Face, Node, Now, Output};
use flotilla_raft::Time;
use flotilla_shard::{Layout, NodeId, ShardId};

use load::KEYS;
pub(crate) use load::{Keys, Load, Placing};
use machine::{Incoming, Machine};

/// The one shard of data.
const SHARD: ShardId = ShardId(1);
/// Nodes, each with a replica.
pub(crate) const NODES: usize = 3;
/// What is at hand is looked at this often, microseconds: with 32 commands in the four or five
/// looks that they take, about 150,000 commands a second.
const LOOK_MICROS: u64 = 50;
/// The nodes have found each other, and a leader, in so many looks, or never will.
const LOOKS_TO_LEAD: u32 = 1_000_000;
/// Commands are answered in so many looks, or never will be.
const LOOKS_TO_ANSWER: u32 = 100;
/// Files of the log are prepared before every so many rounds.
const CHORES_EVERY: u64 = 32;
/// Time begins here, milliseconds since 1970.
const WALL_MS: u64 = 1_800_000_000_000;
/// The bytes that answer a SET.
const OK: &[u8] = b"+OK\r\n";

/// Runs a turn of the node at the place given, whatever it does beside it.
pub(crate) type Meter<'a> = dyn FnMut(usize, &mut dyn FnMut()) + 'a;

/// Only runs it.
pub(crate) fn unmeasured(_: usize, turn: &mut dyn FnMut()) {
    turn();
}

/// The other end of a node's connection.
#[derive(Clone, Copy, Debug)]
enum End {
    /// A connection of another node.
    Node(usize, ConnId),
    /// A client.
    Client(usize),
}

/// The cluster.
pub(crate) struct ThreeNodes {
    machines: Vec<Machine>,
    addresses: Vec<String>,
    ends: BTreeMap<(usize, ConnId), End>,
    /// What each client has been told and has not read.
    replies: Vec<Vec<u8>>,
    /// Where each client is connected.
    clients: Vec<(usize, ConnId)>,
    micros: u64,
    rounds: u64,
    leader: usize,
}

impl ThreeNodes {
    /// A cluster whose first node leads, which has clients placed so.
    pub(crate) fn new(placing: Placing) -> Self {
        let addresses: Vec<String> =
            (1..=NODES).map(|n| format!("127.0.0.1:{}", 7000 + n)).collect();
        let layout = Layout::local(&addresses, 1, NODES).expect("three nodes can hold a shard");
        let now = Now { time: Time(0), wall_ms: WALL_MS };
        let machine = |at| Machine::new(layout.clone(), NodeId::at(at), now);
        let mut cluster = Self {
            machines: (0..NODES).map(machine).collect(),
            addresses,
            ends: BTreeMap::new(),
            replies: Vec::new(),
            clients: Vec::new(),
            micros: 0,
            rounds: 0,
            leader: 0,
        };
        // A lane begins with the end of a turn: the node has its boot to write down.
        (0..NODES).for_each(|at| cluster.take_turn(at, &mut unmeasured));
        cluster.wait_for_leader();
        for client in 0..placing.connections() {
            cluster.connect_client(placing.node(client, cluster.leader));
        }
        cluster
    }

    /// The node that leads.
    pub(crate) fn leader(&self) -> usize {
        self.leader
    }

    /// Sets the keys that are to be there; gives how many they are.
    pub(crate) fn fill(&mut self, placing: Placing) -> u64 {
        let mut load = Load::new(Keys::New, 0, placing);
        let mut keys = 0;
        while keys < KEYS {
            keys += self.round(&mut load, &mut unmeasured);
        }
        keys
    }

    /// One turn of clients: each sends its bytes, and all of them are answered. Gives how many
    /// commands that were; panics if one is refused.
    pub(crate) fn round(&mut self, load: &mut Load, meter: &mut Meter<'_>) -> u64 {
        if self.rounds.is_multiple_of(CHORES_EVERY) {
            self.machines.iter_mut().for_each(Machine::do_chores);
        }
        self.rounds += 1;
        let mut asked = 0;
        for client in 0..self.clients.len() {
            let (at, conn) = self.clients[client];
            let mut bytes = Vec::new();
            asked += load.fill(&mut bytes);
            self.machines[at].inbox.push(Incoming::Received { conn, bytes });
        }
        let answered = |cluster: &Self| cluster.replies.iter().map(Vec::len).sum::<usize>();
        let wanted = asked as usize * OK.len();
        // Under load the next commands come as soon as these are answered: nobody waits for rest.
        self.look_until(LOOKS_TO_ANSWER, meter, |cluster| answered(cluster) == wanted);
        for reply in &mut self.replies {
            assert!(reply.chunks(OK.len()).all(|reply| reply == OK), "a SET was refused");
            reply.clear();
        }
        asked
    }

    fn wait_for_leader(&mut self) {
        let leads = |node: &Node| node.inspect().any(|seen| seen.shard == SHARD && seen.leads);
        self.look_until(LOOKS_TO_LEAD, &mut unmeasured, |cluster| {
            cluster.machines.iter().any(|machine| leads(&machine.node)) && cluster.is_quiet()
        });
        let leader = self.machines.iter().position(|machine| leads(&machine.node));
        self.leader = leader.expect("one leads, as was just seen");
    }

    fn connect_client(&mut self, at: usize) {
        let client = self.clients.len();
        self.replies.push(Vec::new());
        let conn = self.accept(at, End::Client(client), format!("127.0.0.1:{}", 50_000 + client));
        self.clients.push((at, conn));
    }

    fn accept(&mut self, at: usize, from: End, remote: String) -> ConnId {
        let conn = self.machines[at].next_accepted();
        self.ends.insert((at, conn), from);
        let local = self.addresses[at].clone();
        self.machines[at].inbox.push(Incoming::Accepted { conn, face: Face::Plain, remote, local });
        conn
    }

    /// Nothing is under way, and every replica has applied all that there is.
    fn is_quiet(&self) -> bool {
        let applied = |machine: &Machine| {
            let seen = machine.node.inspect().find(|seen| seen.shard == SHARD);
            seen.map(|seen| (seen.applied, seen.last))
        };
        let first = applied(&self.machines[0]);
        self.machines.iter().all(|machine| {
            let seen = applied(machine);
            machine.inbox.is_empty()
                && seen == first
                && seen.is_some_and(|(done, last)| done == last)
        })
    }

    fn look_until(
        &mut self,
        looks: u32,
        meter: &mut Meter<'_>,
        mut done: impl FnMut(&Self) -> bool,
    ) {
        for _ in 0..looks {
            self.look(meter);
            if done(self) {
                return;
            }
        }
        panic!("what is waited for does not come in {looks} looks");
    }

    /// Every node that has something to do takes a turn.
    fn look(&mut self, meter: &mut Meter<'_>) {
        self.micros += LOOK_MICROS;
        for at in 0..NODES {
            let machine = &self.machines[at];
            if !machine.inbox.is_empty() || machine.node.deadline() <= self.now().time {
                self.take_turn(at, meter);
            }
        }
    }

    fn now(&self) -> Now {
        Now { time: Time(self.micros), wall_ms: WALL_MS + self.micros / 1_000 }
    }

    fn take_turn(&mut self, at: usize, meter: &mut Meter<'_>) {
        let now = self.now();
        let machine = &mut self.machines[at];
        meter(at, &mut || machine.turn(now));
        machine.inbox.clear();
        machine.write_frame();
        self.carry_out(at);
    }

    fn carry_out(&mut self, at: usize) {
        // The node's bytes are freed in its next turn: to free them is part of what they cost.
        let outputs = std::mem::take(&mut self.machines[at].outputs);
        for output in &outputs {
            match output {
                Output::Send { conn, bytes } => self.send(at, *conn, bytes),
                Output::Close { conn } => self.close(at, *conn),
                Output::Dial { conn, address } => self.dial(at, *conn, address),
                Output::Notice(_) => {}
                other => panic!("so short a run asks for nothing else: {other:?}"),
            }
        }
        self.machines[at].outputs = outputs;
    }

    fn send(&mut self, at: usize, conn: ConnId, bytes: &[u8]) {
        match self.ends.get(&(at, conn)) {
            Some(End::Client(client)) => self.replies[*client].extend_from_slice(bytes),
            Some(End::Node(to, conn)) => {
                let (conn, bytes) = (*conn, bytes.to_vec());
                self.machines[*to].inbox.push(Incoming::Received { conn, bytes });
            }
            None => {}
        }
    }

    fn close(&mut self, at: usize, conn: ConnId) {
        if let Some(End::Node(to, conn)) = self.ends.remove(&(at, conn)) {
            self.ends.remove(&(to, conn));
            self.machines[to].inbox.push(Incoming::Closed { conn });
        }
    }

    fn dial(&mut self, at: usize, conn: ConnId, address: &str) {
        let to = self.addresses.iter().position(|listed| listed == address);
        let to = to.expect("nodes dial nodes");
        let remote = format!("127.0.0.1:{}", 40_000 + at);
        let accepted = self.accept(to, End::Node(at, conn), remote);
        self.ends.insert((at, conn), End::Node(to, accepted));
        self.machines[at].inbox.push(Incoming::Dialed { conn });
    }
}
