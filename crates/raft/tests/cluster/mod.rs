//! A whole group in memory: hosts that keep the contract of the crate, and the judge that watches
//! them. Used by every test of the crate; each uses another part of it.
#![allow(dead_code, reason = "each test binary uses another part of the cluster")]

pub(crate) mod alone;
pub(crate) mod cut_off;
pub(crate) mod host;
pub(crate) mod hurt;
pub(crate) mod judge;
pub(crate) mod runs;
pub(crate) mod shrunk;
pub(crate) mod transfer;
pub(crate) mod witness;
pub(crate) mod world;

use std::collections::BTreeMap;

use flotilla_raft::chunks::ChunkMessage;
use flotilla_raft::{
    Body, Config, Configuration, Effect, ForcedRecovery, Index, Input, Message, Payload, Raft,
    Recovered, ReplicaId, RequestId, SnapshotMeta, Term, Time,
};

use host::{Host, Snapshot};
use judge::Judge;
use witness::Before;

/// What is under way between two replicas.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    Message(Message),
    Snapshot {
        from: ReplicaId,
        to: ReplicaId,
        term: Term,
        snapshot: Snapshot,
    },
    /// A piece of a snapshot, or what is said about it.
    Chunk {
        from: ReplicaId,
        to: ReplicaId,
        message: ChunkMessage,
    },
    /// The receiver's word that a snapshot is durable there, or that it was lost.
    SnapshotReport {
        from: ReplicaId,
        to: ReplicaId,
        delivered: Option<Index>,
    },
}

impl Parcel {
    pub(crate) fn ends(&self) -> (ReplicaId, ReplicaId) {
        match self {
            Self::Message(message) => (message.from, message.to),
            Self::Snapshot { from, to, .. }
            | Self::Chunk { from, to, .. }
            | Self::SnapshotReport { from, to, .. } => (*from, *to),
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) hosts: BTreeMap<ReplicaId, Host>,
    /// Everything sent and not yet taken by [`Cluster::deliver`], oldest first.
    pub(crate) sent: Vec<Parcel>,
    pub(crate) judge: Judge,
    /// Pairs that can't hear each other, in this direction.
    pub(crate) cut: Vec<(ReplicaId, ReplicaId)>,
    /// What a test wants to send again.
    pub(crate) copied: Vec<Parcel>,
    /// What each step did, for those who read along.
    pub(crate) effects: Vec<(ReplicaId, Effect)>,
    next_request: u64,
    /// What every replica of the group begins with, also those that join.
    founding: SnapshotMeta,
}

pub(crate) fn id(number: u64) -> ReplicaId {
    ReplicaId(number)
}

pub(crate) fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(ReplicaId))
}

impl Cluster {
    /// Replicas of `configuration`, all blank.
    pub(crate) fn new(configuration: &Configuration, seed: u64) -> Self {
        Self::with(configuration, |_| Recovered::default(), |id| Config::new(id, seed))
    }

    /// Replicas with logs; the founding configuration is filled in.
    pub(crate) fn with(
        configuration: &Configuration,
        recovered: impl Fn(ReplicaId) -> Recovered,
        config: impl Fn(ReplicaId) -> Config,
    ) -> Self {
        let founding =
            SnapshotMeta { configuration: configuration.clone(), ..SnapshotMeta::default() };
        let mut cluster = Self {
            now: Time(0),
            hosts: BTreeMap::new(),
            sent: Vec::new(),
            judge: Judge::default(),
            cut: Vec::new(),
            copied: Vec::new(),
            effects: Vec::new(),
            next_request: 0,
            founding: founding.clone(),
        };
        cluster.judge.founded(configuration.clone());
        for id in configuration.members() {
            let founding = founding.clone();
            let recovered = Recovered { snapshot: founding, ..recovered(id) };
            cluster.hosts.insert(id, Host::new(config(id), recovered, Time(0)));
        }
        cluster
    }

    /// A blank replica that may be made a member.
    pub(crate) fn join(&mut self, id: ReplicaId) {
        let first = self.hosts.values().next().expect("a group has replicas");
        let config = Config { id, campaign_at_start: false, ..first.config.clone() };
        let recovered = Recovered { snapshot: self.founding.clone(), ..Recovered::default() };
        let chunking = first.transfers.chunking;
        let mut host = Host::new(config, recovered, self.now);
        host.transfers.chunking = chunking;
        assert!(self.hosts.insert(id, host).is_none(), "{id} is new");
    }

    pub(crate) fn change(
        &mut self,
        id: ReplicaId,
        voters: &[ReplicaId],
        learners: &[ReplicaId],
    ) -> RequestId {
        let request = self.request();
        self.judge.change_asked(request, voters, learners);
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        self.step(id, Input::ChangeMembership { id: request, voters, learners });
        request
    }

    pub(crate) fn replace(&mut self, id: ReplicaId, dead: ReplicaId, by: ReplicaId) {
        let request = self.request();
        self.step(id, Input::ReplaceReplica { id: request, dead, by });
    }

    pub(crate) fn set_lease(&mut self, id: ReplicaId, lease: u64) {
        let request = self.request();
        self.step(id, Input::SetLease { id: request, lease });
    }

    pub(crate) fn transfer(&mut self, id: ReplicaId, to: ReplicaId) -> RequestId {
        let request = self.request();
        self.step(id, Input::TransferLeadership { id: request, to });
        request
    }

    pub(crate) fn is_cut(&self, parcel: &Parcel) -> bool {
        self.cut.contains(&parcel.ends())
    }

    pub(crate) fn host(&self, id: ReplicaId) -> &Host {
        &self.hosts[&id]
    }

    pub(crate) fn host_mut(&mut self, id: ReplicaId) -> &mut Host {
        self.hosts.get_mut(&id).expect("the cluster has this replica")
    }

    pub(crate) fn raft(&self, id: ReplicaId) -> &Raft {
        self.host(id).raft.as_ref().expect("this replica is up")
    }

    pub(crate) fn is_up(&self, id: ReplicaId) -> bool {
        self.host(id).raft.is_some()
    }

    pub(crate) fn ids(&self) -> Vec<ReplicaId> {
        self.hosts.keys().copied().collect()
    }

    /// The replica that leads the highest term, if any does.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        let rafts = self.hosts.values().filter_map(|host| host.raft.as_ref());
        rafts.filter(|raft| raft.is_leader()).max_by_key(|raft| raft.term()).map(Raft::id)
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// One input to one replica; does nothing if it is down.
    pub(crate) fn step(&mut self, id: ReplicaId, input: Input) {
        let host = self.hosts.get_mut(&id).expect("the cluster has this replica");
        let now = host.clock.local(self.now);
        let Some(raft) = &mut host.raft else { return };
        if let Input::Read { id: request } = input {
            self.judge.read_registered(request);
        }
        let mut effects = Vec::new();
        let before = Before::of(raft, now, &input);
        raft.step(now, input, &mut effects);
        raft.check_invariants();
        before.judge(raft, &effects, host.disk.hard_state);
        self.judge.believes(raft);
        for effect in effects {
            self.effects.push((id, effect.clone()));
            self.carry_out(id, effect);
        }
        let host = &self.hosts[&id];
        self.judge.stepped(host);
        before.judge_commit(host, &self.hosts);
        before.judge_given_up(host, &self.hosts);
    }

    fn carry_out(&mut self, id: ReplicaId, effect: Effect) {
        let host = self.hosts.get_mut(&id).expect("the cluster has this replica");
        match effect {
            Effect::Write(write) => {
                witness::keeps_its_vote(host.asked.hard_state, write.hard_state);
                host.ask(write);
            }
            Effect::Send(message) => {
                Judge::sent(host, &message);
                witness::votes_for_its_like(&self.hosts, &message);
                self.sent.push(Parcel::Message(message));
            }
            Effect::Apply { entries } => {
                self.judge.applied(id, &entries);
                let last = entries[entries.len() - 1].index;
                host.apply(entries);
                host.to_report = Some(last);
            }
            Effect::Restore(meta) => {
                self.judge.restored(id, &meta);
                self.judge.snapshotted(&meta);
                host.restore(&meta);
            }
            Effect::SendSnapshot { to, at_least, term } => {
                let mut snapshot = host.snapshot.clone();
                if snapshot.meta.index < at_least {
                    let raft = host.raft.as_ref().expect("it has just asked");
                    let meta = raft.snapshot_meta(host.applied_index());
                    snapshot = Snapshot { meta, history: host.applied.clone() };
                }
                assert!(snapshot.meta.index >= at_least, "a new snapshot suffices");
                if host.transfers.chunking.chunk_bytes > 0 {
                    return self.begin_transfer(id, to, snapshot, term);
                }
                self.sent.push(Parcel::Snapshot { from: id, to, term, snapshot });
            }
            Effect::ReadReady { id: request, index, by_lease } => {
                self.judge.read_ready(request, index, by_lease);
            }
            Effect::Refuse { id: request, .. } => self.judge.refused(request),
            Effect::Note(note) => self.judge.noted(id, &note),
            Effect::Load { from, bytes } => host.loads.push((from, bytes)),
            Effect::Repair { entries } => {
                self.judge.repaired += entries.len();
                host.repair(&entries);
            }
            Effect::Completed { id: request } => self.judge.completed(request),
            Effect::Proposed { .. } => {}
        }
    }

    /// Gives a parcel to its receiver.
    pub(crate) fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Message(message) => self.step(message.to, Input::Message(message)),
            Parcel::Snapshot { from, to, term, snapshot } => {
                let Some(host) = self.hosts.get_mut(&to) else { return };
                let delivered = host.raft.is_some().then_some(snapshot.meta.index);
                if delivered.is_some() {
                    let meta = Box::new(snapshot.meta.clone());
                    host.files.push(snapshot);
                    self.step(to, Input::SnapshotReceived { from, term, meta });
                }
                self.sent.push(Parcel::SnapshotReport { from: to, to: from, delivered });
            }
            Parcel::Chunk { from, to, message } => self.deliver_chunk(from, to, message),
            Parcel::SnapshotReport { from, to, delivered } => {
                self.step(to, Input::SnapshotSent { to: from, delivered });
            }
        }
    }

    /// All open writes of `id` become durable, and are reported together.
    pub(crate) fn finish_writes(&mut self, id: ReplicaId) {
        let host = self.host_mut(id);
        let mut last = None;
        while host.has_open_write() {
            last = host.finish_write().or(last);
        }
        if let Some(seq) = last {
            self.step(id, Input::Written(seq));
        }
        self.report_applied(id);
    }

    /// The oldest open write of `id` becomes durable.
    pub(crate) fn finish_write(&mut self, id: ReplicaId) {
        if let Some(seq) = self.host_mut(id).finish_write() {
            self.step(id, Input::Written(seq));
        }
        self.report_applied(id);
    }

    pub(crate) fn report_applied(&mut self, id: ReplicaId) {
        let host = self.host_mut(id);
        if host.holds_applying || host.is_loading {
            return;
        }
        if let Some(index) = host.to_report.take() {
            self.step(id, Input::Applied(index));
        }
    }

    /// The oldest load of `id` ends, with nothing if it `fails`.
    pub(crate) fn finish_load(&mut self, id: ReplicaId, fails: bool) {
        let host = self.host_mut(id);
        if host.raft.is_none() || host.loads.is_empty() {
            return;
        }
        let (from, bytes) = host.loads.remove(0);
        let entries = if fails { Vec::new() } else { host.load(from, bytes) };
        self.step(id, Input::Loaded { from, entries });
    }

    /// `id` makes a snapshot of what it has applied.
    pub(crate) fn compact(&mut self, id: ReplicaId) {
        self.report_applied(id);
        let host = self.host_mut(id);
        let Some(raft) = host.raft.as_ref().filter(|_| !host.is_loading) else { return };
        let applied = host.applied_index();
        if applied <= raft.status().snapshot_index {
            return;
        }
        let meta = raft.snapshot_meta(applied);
        host.snapshot = Snapshot { meta: meta.clone(), history: host.applied.clone() };
        host.files.push(host.snapshot.clone());
        self.judge.snapshotted(&meta);
        self.step(id, Input::Compact { meta: Box::new(meta) });
    }

    pub(crate) fn propose(&mut self, id: ReplicaId, text: &str) {
        let request = self.request();
        let payload = Payload::new(text.as_bytes().to_vec());
        self.step(id, Input::Propose { id: request, payload });
    }

    pub(crate) fn propose_batch(&mut self, id: ReplicaId, texts: &[String]) {
        let propose = |text: &String| (self.request(), Payload::new(text.as_bytes().to_vec()));
        let proposals = texts.iter().map(propose).collect();
        self.step(id, Input::ProposeBatch { proposals });
    }

    pub(crate) fn read(&mut self, id: ReplicaId) -> RequestId {
        let request = self.request();
        self.step(id, Input::Read { id: request });
        request
    }

    /// Steps `id` at its deadline, which moves the time there.
    pub(crate) fn wake(&mut self, id: ReplicaId) {
        let deadline = self.host(id).deadline();
        assert!(deadline < Time::NEVER, "this replica waits for something");
        self.now = self.now.max(deadline);
        self.step(id, Input::Wake);
    }

    /// Wakes `id` until it asks for votes; before that it may have to look for payloads.
    pub(crate) fn campaign(&mut self, id: ReplicaId) {
        let asks = |effect: &(ReplicaId, Effect)| match &effect.1 {
            Effect::Send(message) => {
                matches!(message.body, Body::RequestPreVote { .. } | Body::RequestVote { .. })
            }
            Effect::Write(write) => write.hard_state.voted_for == Some(id),
            _ => false,
        };
        for _ in 0..100 {
            let before = self.effects.len();
            self.wake(id);
            if self.effects[before..].iter().any(asks) {
                return;
            }
        }
    }

    /// `id` dies with the first `kept` of its open writes on disk, the others not.
    pub(crate) fn crash(&mut self, id: ReplicaId, kept: usize) {
        self.host_mut(id).crash(kept);
    }

    /// Makes `id`, which is down, the only voter by force.
    pub(crate) fn force(&mut self, id: ReplicaId, seen: Term) -> ForcedRecovery {
        let host = self.host_mut(id);
        assert!(host.raft.is_none(), "no replica of the group runs");
        let forced = host.disk.recovered().force_sole_voter(id, seen);
        host.disk.apply(&forced.write);
        host.asked = host.disk.clone();
        assert_eq!(host.disk.recovered(), forced.recovered);
        self.judge.forced(forced.write.entries[0].clone());
        forced
    }

    pub(crate) fn restart(&mut self, id: ReplicaId) {
        let now = self.now;
        let host = self.host_mut(id);
        host.config.seed += 1;
        host.restart(now);
        self.judge.restarted(id);
    }

    /// Delivers everything and makes everything durable until nothing is under way. `passes` says
    /// which parcels arrive, `writes` whose disk works.
    pub(crate) fn settle(
        &mut self,
        passes: impl Fn(&Parcel) -> bool,
        writes: impl Fn(ReplicaId) -> bool,
    ) {
        for _ in 0..10_000 {
            for id in self.ids() {
                while writes(id) && self.host(id).has_open_write() {
                    self.finish_write(id);
                }
                self.report_applied(id);
                while writes(id) && self.is_up(id) && !self.host(id).loads.is_empty() {
                    self.finish_load(id, false);
                }
            }
            let parcels = std::mem::take(&mut self.sent);
            if parcels.is_empty() {
                return;
            }
            for parcel in parcels.into_iter().filter(&passes) {
                self.deliver(parcel);
            }
        }
        panic!("a group that nobody disturbs comes to rest");
    }

    /// [`Cluster::settle`] without faults.
    pub(crate) fn settle_all(&mut self) {
        self.settle(|_| true, |_| true);
    }

    /// Makes `id` leader of a new term, all links and disks working.
    pub(crate) fn elect(&mut self, id: ReplicaId) {
        for other in self.ids() {
            let leader = self.host(other).raft.as_ref().and_then(Raft::leader);
            if let Some(leader) = leader.filter(|_| other != id) {
                self.step(other, Input::PeerGone(leader));
            }
        }
        self.wake(id);
        self.settle_all();
        assert!(self.raft(id).is_leader(), "{id} won");
    }
}
