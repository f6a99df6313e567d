//! `flotilla-raft`, as it ships: with its assertions.
//!
//! Settings: the defaults. Hosts commit in groups: they take all messages that are there before
//! they write, and report the end of the last write alone, which stands for those before. A leader
//! tells what is committed with its next entries or its next heartbeat; so time, which is virtual,
//! goes on to the heartbeat when nothing else is left to do.

use std::collections::VecDeque;

use flotilla_raft::{
    Config, Configuration, Effect, Entry, EntryKind, Index, Input, Message, Payload, Raft,
    Recovered, ReplicaId, RequestId, SnapshotMeta, Term, Time, WriteSeq,
};

use crate::work::{Applied, Calls, Group, REPLICAS, Work, payload};

/// A group and what is under way in it. The replica of id n is at place n - 1.
pub(crate) struct Cluster {
    hosts: Vec<Host>,
    leader: usize,
    network: VecDeque<Message>,
    now: Time,
}

/// One replica and what it needs around it.
struct Host {
    raft: Raft,
    /// Every entry that is durable.
    disk: Vec<Entry>,
    applied: Applied,
    /// The places of the proposals that are not committed yet.
    open: VecDeque<(Index, Term)>,
    acknowledged: u64,
    /// What the core is yet to be told.
    written: Option<WriteSeq>,
    applied_index: Option<Index>,
    /// Room for the effects of a step.
    effects: Vec<Effect>,
}

impl Group for Cluster {
    fn elected() -> Self {
        let ids = (1..=REPLICAS as u64).map(ReplicaId);
        let hosts: Vec<Host> = ids.map(Host::new).collect();
        let mut cluster = Self { hosts, leader: 0, network: VecDeque::new(), now: Time(0) };
        let leads = |host: &Host| host.raft.is_leader();
        while !cluster.hosts.iter().any(leads) {
            let deadlines = cluster.hosts.iter().map(|host| host.raft.deadline());
            let (at, deadline) = deadlines.enumerate().min_by_key(|(_, at)| *at).expect("a host");
            cluster.now = deadline;
            cluster.step(at, Input::Wake);
            cluster.settle();
        }
        cluster.leader = cluster.hosts.iter().position(leads).expect("one of them leads");
        cluster.on_idle();
        cluster
    }

    fn run(&mut self, work: Work) {
        for batch in 0..work.batches {
            let first = batch * work.batch_size;
            let end = first + work.batch_size;
            let proposal = |number| (RequestId(number), Payload::new(payload(number).to_vec()));
            let proposals = (first..end).map(proposal);
            match work.calls {
                Calls::One => {
                    let proposals = proposals.collect();
                    self.step(self.leader, Input::ProposeBatch { proposals });
                }
                Calls::Each => {
                    for (id, payload) in proposals {
                        self.step(self.leader, Input::Propose { id, payload });
                    }
                }
            }
            self.settle();
            while self.hosts.iter().any(|host| host.applied.count < end) {
                self.on_idle();
            }
        }
    }

    fn check(self, work: Work) {
        let applied = work.applied();
        assert_eq!(self.hosts[self.leader].acknowledged, work.commits(), "all are acknowledged");
        for host in &self.hosts {
            assert_eq!(host.applied, applied, "every replica applies all payloads in order");
            let mut kept = Applied::default();
            for (entry, index) in host.disk.iter().zip(1..) {
                assert_eq!(entry.index, Index(index), "a log has no gaps");
                if entry.kind == EntryKind::Normal {
                    kept.apply(entry.payload.bytes());
                }
            }
            assert_eq!(kept, applied, "every replica's log has all payloads");
            let status = host.raft.status();
            assert_eq!(status.durable_index.0, host.disk.len() as u64, "the core says so too");
        }
    }
}

impl Cluster {
    fn step(&mut self, at: usize, input: Input) {
        self.hosts[at].step(self.now, input, &mut self.network);
    }

    /// Delivers and writes until nothing is under way.
    fn settle(&mut self) {
        loop {
            while let Some(message) = self.network.pop_front() {
                self.step(message.to.0 as usize - 1, Input::Message(message));
            }
            for host in &mut self.hosts {
                host.report(self.now, &mut self.network);
            }
            if self.network.is_empty() {
                return;
            }
        }
    }

    /// Nothing is left to do but to wait for the leader's heartbeat.
    fn on_idle(&mut self) {
        self.now = self.hosts[self.leader].raft.deadline();
        self.step(self.leader, Input::Wake);
        self.settle();
    }
}

impl Host {
    fn new(id: ReplicaId) -> Self {
        let configuration = Configuration::of_voters((1..=REPLICAS as u64).map(ReplicaId));
        let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let recovered = Recovered { snapshot, ..Recovered::default() };
        Self {
            raft: Raft::new(Config::new(id, 1), recovered, Time(0)),
            disk: Vec::new(),
            applied: Applied::default(),
            open: VecDeque::new(),
            acknowledged: 0,
            written: None,
            applied_index: None,
            effects: Vec::new(),
        }
    }

    /// Tells the core what was done since the last time, and what that led to.
    fn report(&mut self, now: Time, network: &mut VecDeque<Message>) {
        while let Some(seq) = self.written.take() {
            self.step(now, Input::Written(seq), network);
        }
        if let Some(index) = self.applied_index.take() {
            self.step(now, Input::Applied(index), network);
        }
    }

    fn step(&mut self, now: Time, input: Input, network: &mut VecDeque<Message>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.raft.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect, network);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, effect: Effect, network: &mut VecDeque<Message>) {
        match effect {
            Effect::Write(write) => {
                self.disk.extend(write.entries);
                self.written = Some(write.seq);
            }
            Effect::Send(message) => network.push_back(message),
            Effect::Apply { entries } => {
                self.applied_index = entries.last().map(|entry| entry.index);
                for entry in entries {
                    self.apply(&entry);
                }
            }
            Effect::Proposed { index, term, .. } => self.open.push_back((index, term)),
            Effect::Note(_) => {}
            other => panic!("nothing in this work leads to {other:?}"),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        if entry.kind != EntryKind::Normal {
            return;
        }
        self.applied.apply(entry.payload.bytes());
        if self.open.pop_front_if(|open| *open == (entry.index, entry.term)).is_some() {
            self.acknowledged += 1;
        }
    }
}
