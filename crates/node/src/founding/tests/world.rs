//! Nodes with disks and links, without a clock: every step is one of those that are possible, so a
//! run is a list of choices.
//!
//! Checked at every step: a disk never agrees to two records; no two records are founded, and none
//! before every disk in it has agreed; what is told is on the disk; a disk that is not in the
//! founded record is a member only in the place of one that is.

use std::collections::{BTreeMap, VecDeque};

use flotilla_shard::{FoundingRecord, Layout, NodeId, StorageId};

use crate::founding::{Founding, FoundingMessage, NodeState, Output, Standing};
use crate::link::{FORMAT, Hello, KnownDisk, Purpose};

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Start(usize),
    Crash(usize),
    /// The crash hits while the write is on its way, and the write has made it.
    CrashWritten(usize),
    Wipe(usize),
    Written(usize),
    Connect(usize, usize),
    Disconnect(usize, usize),
    /// The next packet from the first to the second arrives.
    Deliver(usize, usize),
}

#[derive(Clone, Debug)]
enum Packet {
    Hello,
    Founding(FoundingMessage),
}

/// One direction of a link.
#[derive(Clone, Debug)]
struct Pipe {
    hello: Hello,
    /// Whether the receiver has taken the hello.
    up: bool,
    packets: VecDeque<Packet>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub(super) disk: Option<NodeState>,
    pub(super) running: Option<Founding>,
    writing: Option<NodeState>,
    pub(super) founded: Option<FoundingRecord>,
    pub(super) fatal: Option<String>,
    /// It ended to begin anew as another disk.
    pub(super) renewed: Option<String>,
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) layouts: Vec<Layout>,
    pub(super) machines: Vec<Machine>,
    pipes: BTreeMap<(usize, usize), Pipe>,
    last_disk: u8,
    pub(super) crashes_left: u32,
    pub(super) wipes_left: u32,
    promises: BTreeMap<StorageId, FoundingRecord>,
    pub(super) founded: Option<FoundingRecord>,
}

pub(super) fn layout(nodes: usize) -> Layout {
    let addresses: Vec<String> =
        (1..=nodes).map(|node| format!("127.0.0.1:{}", 5000 + node)).collect();
    Layout::local(&addresses, 1, nodes).expect("a valid layout")
}

fn known((number, storage_id): (u64, StorageId)) -> KnownDisk {
    KnownDisk { number, storage_id, alive: false, seen: None }
}

impl World {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            layouts: vec![layout(nodes); nodes],
            machines: vec![Machine::default(); nodes],
            pipes: BTreeMap::new(),
            last_disk: 0,
            crashes_left: 0,
            wipes_left: 0,
            promises: BTreeMap::new(),
            founded: None,
        }
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.machines.len()
    }

    pub(super) fn node(&self, at: usize) -> &Founding {
        self.machines[at].running.as_ref().expect("the node runs")
    }

    /// What can happen now.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for at in self.all() {
            let machine = &self.machines[at];
            if machine.running.is_none() && machine.fatal.is_none() {
                steps.push(Step::Start(at));
            }
            if machine.writing.is_some() {
                steps.push(Step::Written(at));
            }
            if machine.running.is_some() && self.crashes_left > 0 {
                steps.push(Step::Crash(at));
                if machine.writing.is_some() {
                    steps.push(Step::CrashWritten(at));
                }
            }
            if machine.disk.is_some() && self.wipes_left > 0 {
                steps.push(Step::Wipe(at));
            }
        }
        for one in self.all() {
            for other in self.all().filter(|&other| other != one) {
                steps.extend(self.link_steps(one, other));
            }
        }
        steps
    }

    fn link_steps(&self, one: usize, other: usize) -> Vec<Step> {
        let speaks = |at: usize| {
            self.machines[at].running.as_ref().is_some_and(|node| node.message().is_some())
        };
        match self.pipes.get(&(one, other)) {
            None if one < other && speaks(one) && speaks(other) => {
                vec![Step::Connect(one, other)]
            }
            Some(pipe) if !pipe.packets.is_empty() => vec![Step::Deliver(one, other)],
            Some(_) if one < other && self.crashes_left > 0 => {
                vec![Step::Disconnect(one, other)]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Start(at) => self.start(at),
            Step::Crash(at) => {
                self.crashes_left -= 1;
                self.crash(at);
            }
            Step::CrashWritten(at) => {
                self.crashes_left -= 1;
                self.store(at);
                self.crash(at);
            }
            Step::Wipe(at) => {
                self.wipes_left -= 1;
                self.wipe(at);
            }
            Step::Written(at) => {
                self.store(at);
                self.input(at, Founding::on_durable);
            }
            Step::Connect(one, other) => self.connect(one, other),
            Step::Disconnect(one, other) => {
                self.crashes_left -= 1;
                self.disconnect(one, other);
            }
            Step::Deliver(from, to) => self.deliver(from, to),
        }
        self.check();
    }

    fn start(&mut self, at: usize) {
        let (layout, me) = (&self.layouts[at], NodeId::at(at));
        let disk = self.machines[at].disk.as_ref();
        let logged = disk.map(|state| NodeState::decode(&state.encode()).expect("it was logged"));
        let mut state = logged.unwrap_or_else(|| {
            self.last_disk += 1;
            let address = layout.address(me).expect("a listed node").to_string();
            NodeState::new(StorageId([self.last_disk; 16]), me, address)
        });
        state.incarnation += 1;
        self.machines[at].running = Some(Founding::new(layout, me, state.clone()));
        self.machines[at].writing = Some(state);
        self.machines[at].founded = self.node(at).record().cloned();
        self.input(at, |_| ());
    }

    fn crash(&mut self, at: usize) {
        for other in self.all().filter(|&other| other != at) {
            self.disconnect(at, other);
        }
        let disk = self.machines[at].disk.take();
        self.machines[at] = Machine { disk, ..Machine::default() };
    }

    pub(super) fn wipe(&mut self, at: usize) {
        self.crash(at);
        self.machines[at].disk = None;
    }

    /// A disk forgets that it agreed to the record, as if rot had cut off its last write.
    pub(super) fn lose_proposal(&mut self, at: usize) {
        let disk = self.machines[at].disk.as_mut().expect("it has booted");
        (disk.proposed, disk.founded) = (None, false);
        self.promises.remove(&disk.storage_id);
    }

    fn store(&mut self, at: usize) {
        self.machines[at].disk = self.machines[at].writing.take();
    }

    fn connect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let node = self.node(from);
            let message = node.message().expect("both may speak");
            let hello = Hello {
                format: FORMAT,
                purpose: Purpose::Turns,
                layout_digest: node.layout_digest(),
                from: NodeId::at(from),
                to: NodeId::at(to),
                storage_id: node.state.storage_id,
                incarnation: node.state.incarnation,
                nonce: 0,
                lane: 0,
                cluster: node.record().map(FoundingRecord::cluster_id),
                cluster_port: 0,
                http_port: 0,
                disk: node.own_disk().0,
                known: node.record().and_then(|_| node.disk_of(NodeId::at(to))).map(known),
            };
            let packets = VecDeque::from([Packet::Hello, Packet::Founding(message)]);
            self.pipes.insert((from, to), Pipe { hello, up: false, packets });
        }
    }

    /// The hello on its way, or taken, from one node to another.
    pub(super) fn hello(&self, from: usize, to: usize) -> Hello {
        self.pipes[&(from, to)].hello.clone()
    }

    fn disconnect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            if let Some(pipe) = self.pipes.remove(&(from, to))
                && pipe.up
            {
                self.input(to, |node| node.on_link_down(&pipe.hello));
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let pipe = self.pipes.get_mut(&(from, to)).expect("the link is up");
        let packet = pipe.packets.pop_front().expect("something is on its way");
        let hello = pipe.hello.clone();
        match packet {
            Packet::Hello => {
                pipe.up = true;
                let mut standing = Err(String::new());
                self.input(to, |node| standing = node.on_hello(&hello));
                if standing != Ok(Standing::Peer) && standing != Ok(Standing::Stranger) {
                    self.pipes.get_mut(&(from, to)).expect("just there").up = false;
                    self.disconnect(from, to);
                }
            }
            Packet::Founding(message) => {
                let mut body = Vec::new();
                message.encode(&mut body);
                assert_eq!(FoundingMessage::decode(&body), Ok(message.clone()));
                self.input(to, |node| node.on_message(&hello, message));
            }
        }
    }

    /// Gives a node an input and carries out what it wants.
    fn input(&mut self, at: usize, input: impl FnOnce(&mut Founding)) {
        let Some(node) = &mut self.machines[at].running else { return };
        input(node);
        for output in node.take_outputs() {
            let machine = &mut self.machines[at];
            match output {
                Output::Log(state) => {
                    assert!(machine.writing.is_none(), "one state is logged at a time");
                    machine.writing = Some(state);
                }
                Output::Announce(message) => self.announce(at, &message),
                Output::Founded(record) => {
                    assert!(machine.founded.is_none(), "founded once per boot");
                    machine.founded = Some(record);
                }
                Output::Warning(text) => machine.warnings.push(text),
                Output::Renewed(reason) => {
                    self.crash(at);
                    self.machines[at].renewed = Some(reason);
                    return;
                }
                Output::Fatal(text) => {
                    self.crash(at);
                    self.machines[at].fatal = Some(text);
                    return;
                }
            }
        }
    }

    fn announce(&mut self, at: usize, message: &FoundingMessage) {
        let disk = self.machines[at].disk.as_ref().expect("something is on the disk");
        match message {
            FoundingMessage::Blank(_) => {}
            FoundingMessage::Proposed(record) => assert_eq!(disk.proposed.as_ref(), Some(record)),
            FoundingMessage::Founded(record) => assert_eq!(disk.record(), Some(record)),
        }
        for (_, pipe) in self.pipes.range_mut((at, 0)..(at + 1, 0)) {
            pipe.packets.push_back(Packet::Founding(message.clone()));
        }
    }

    fn check(&mut self) {
        for disk in self.machines.iter().filter_map(|machine| machine.disk.as_ref()) {
            let promised = self.promises.get(&disk.storage_id);
            let kept = promised.is_none() || promised == disk.proposed.as_ref();
            // What another disk of its node was founded with counts for all its successors.
            assert!(kept || disk.disk > 0, "a proposal is never replaced");
            if let Some(record) = &disk.proposed {
                self.promises.insert(disk.storage_id, record.clone());
            }
        }
        for machine in &self.machines {
            let Some(disk) = &machine.disk else { continue };
            for record in machine.founded.iter().chain(disk.record()) {
                let founder = record.storage_ids.contains(&disk.storage_id);
                assert!(founder || disk.disk > 0, "only members and their successors take part");
                if self.founded.is_none() {
                    let agreed = |id: &StorageId| self.promises.get(id) == Some(record);
                    assert!(record.storage_ids.iter().all(agreed), "every disk has agreed");
                }
                let first = self.founded.get_or_insert_with(|| record.clone());
                assert_eq!(first, record, "one cluster is founded");
            }
        }
    }

    /// No more faults: everybody runs and is linked, and everything arrives.
    pub(super) fn heal(&mut self) {
        (self.crashes_left, self.wipes_left) = (0, 0);
        while let Some(&step) = self.steps().first() {
            self.step(step);
        }
    }

    /// All that a state of the world can differ in while no disk is wiped, in few bytes.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = vec![self.crashes_left as u8];
        let phase =
            |state: &NodeState| u8::from(state.proposed.is_some()) + u8::from(state.founded);
        for machine in &self.machines {
            let states = [machine.disk.as_ref(), machine.writing.as_ref()];
            key.extend(states.map(|state| state.map_or(9, phase)));
            let Some(node) = &machine.running else {
                key.push(8);
                continue;
            };
            key.extend([phase(&node.state), node.durable.as_ref().map_or(9, phase)]);
            for peer in node.peers.values() {
                let claim = match (&peer.claim, peer.proposal()) {
                    (None, _) => 9,
                    (_, None) => 0,
                    (_, Some(_)) => 1,
                };
                key.extend([peer.links as u8, claim, u8::from(peer.storage_id.is_some())]);
            }
        }
        for (&(from, to), pipe) in &self.pipes {
            key.extend([from as u8, to as u8, u8::from(pipe.up)]);
            key.extend(pipe.packets.iter().map(|packet| match packet {
                Packet::Hello => 10,
                Packet::Founding(FoundingMessage::Blank(_)) => 11,
                Packet::Founding(FoundingMessage::Proposed(_)) => 12,
                Packet::Founding(FoundingMessage::Founded(_)) => 13,
            }));
        }
        key
    }
}
