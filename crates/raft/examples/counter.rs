//! A replicated counter in one thread and virtual time: snapshots, a newcomer that begins with one,
//! a transfer and a linearizable read. `cargo run -p flotilla-raft --example counter`
#![allow(clippy::print_stdout, reason = "it is an example")]

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::{
    Config, Configuration, Effect, EntryKind, Index, Input, Payload, Raft, Recovered, ReplicaId,
    RequestId, SnapshotMeta, Time,
};

/// The state machine: a sum, as of an index.
struct Counter {
    raft: Raft,
    applied: Index,
    sum: u64,
    /// The newest snapshot: what it stands for, and the state.
    snapshot: (SnapshotMeta, u64),
}

#[derive(Default)]
struct Group {
    now: Time,
    replicas: BTreeMap<ReplicaId, Counter>,
    inputs: VecDeque<(ReplicaId, Input)>,
    /// The state that travels beside the core's messages.
    sums: BTreeMap<Index, u64>,
}

impl Group {
    /// A blank replica; every one begins with the founding configuration, member or not.
    fn start(&mut self, id: u64) {
        let configuration = Configuration::of_voters([1, 2, 3].map(ReplicaId));
        let founding = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let recovered = Recovered { snapshot: founding.clone(), ..Recovered::default() };
        let raft = Raft::new(Config::new(ReplicaId(id), 7), recovered, self.now);
        let counter = Counter { raft, applied: Index(0), sum: 0, snapshot: (founding, 0) };
        self.replicas.insert(ReplicaId(id), counter);
    }

    fn leader(&self) -> Option<ReplicaId> {
        self.replicas.values().find(|one| one.raft.is_leader()).map(|one| one.raft.id())
    }

    /// Lets time go on to the next deadline whenever nothing is left to do.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            if let Some((id, input)) = self.inputs.pop_front() {
                self.step(id, input);
                continue;
            }
            let deadlines = self.replicas.values().map(|one| (one.raft.deadline(), one.raft.id()));
            let (deadline, id) = deadlines.min().expect("there are replicas");
            self.now = self.now.max(deadline);
            self.step(id, Input::Wake);
        }
    }

    fn step(&mut self, id: ReplicaId, input: Input) {
        let counter = self.replicas.get_mut(&id).expect("it was started");
        let mut effects = Vec::new();
        counter.raft.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Write(write) => self.inputs.push_back((id, Input::Written(write.seq))),
                Effect::Send(message) => {
                    self.inputs.push_back((message.to, Input::Message(message)));
                }
                Effect::Apply { entries } => {
                    let adds = entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
                    counter.sum +=
                        adds.map(|entry| u64::from(entry.payload.bytes()[0])).sum::<u64>();
                    counter.applied = entries[entries.len() - 1].index;
                    self.inputs.push_back((id, Input::Applied(counter.applied)));
                }
                Effect::SendSnapshot { to, term, .. } => {
                    let (meta, sum) = counter.snapshot.clone();
                    self.sums.insert(meta.index, sum);
                    let delivered = Some(meta.index);
                    let meta = Box::new(meta);
                    let received = Input::SnapshotReceived { from: id, term, meta };
                    self.inputs.push_back((to, received));
                    self.inputs.push_back((id, Input::SnapshotSent { to, delivered }));
                }
                Effect::Restore(meta) => {
                    (counter.applied, counter.sum) = (meta.index, self.sums[&meta.index]);
                    println!("{id} begins with a snapshot of {}: {}", meta.index, counter.sum);
                }
                Effect::ReadReady { id: read, index, .. } => {
                    assert!(counter.applied >= index, "here everything is applied at once");
                    println!("{id} answers read {read}: {}", counter.sum);
                }
                Effect::Completed { id: request } => println!("{id} has done {request}"),
                Effect::Refuse { id: request, reason } => println!("{id}: {request}: {reason:?}"),
                _ => {}
            }
        }
    }

    fn compact(&mut self, id: ReplicaId) {
        let counter = self.replicas.get_mut(&id).expect("it was started");
        let meta = counter.raft.snapshot_meta(counter.applied);
        counter.snapshot = (meta.clone(), counter.sum);
        self.inputs.push_back((id, Input::Compact { meta: Box::new(meta) }));
    }
}

fn main() {
    let mut group = Group::default();
    (1..=3).for_each(|id| group.start(id));
    group.run_until(|group| group.leader().is_some());
    let leader = group.leader().expect("it was waited for");
    for n in 1..=10 {
        let payload = Payload::new(vec![n]);
        group.inputs.push_back((leader, Input::Propose { id: RequestId(u64::from(n)), payload }));
    }
    group.run_until(|group| group.replicas[&leader].sum == 55);
    group.compact(leader);
    group.start(4);
    let [voters, learners] =
        [vec![1, 2, 3, 4], vec![]].map(|ids| ids.into_iter().map(ReplicaId).collect());
    let change = Input::ChangeMembership { id: RequestId(11), voters, learners };
    group.inputs.push_back((leader, change));
    group.run_until(|group| group.replicas[&leader].raft.configuration().voters.len() == 4);
    group.run_until(|group| group.replicas[&ReplicaId(4)].sum == 55);
    let to = ReplicaId(4);
    group.run_until(|group| group.inputs.is_empty());
    group.inputs.push_back((leader, Input::TransferLeadership { id: RequestId(12), to }));
    group.run_until(|group| group.replicas[&to].raft.is_leader());
    group.inputs.push_back((to, Input::Read { id: RequestId(13) }));
    let end = group.now + 100_000;
    group.run_until(|group| group.now > end);
}
