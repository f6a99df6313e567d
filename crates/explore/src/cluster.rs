//! A state of the model: three replicas and what is under way between them; and what may happen
//! next.

use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use flotilla_raft::{Configuration, Input, Payload, ReplicaId, RequestId, Time};

use crate::parcel::Parcel;
use crate::replica::Replica;
use crate::scope::{Budget, Scope};
use crate::witness::Witness;
use crate::{fingerprint, word_of};

/// So many replicas.
const REPLICAS: usize = 3;

/// Everything there is at a moment.
#[derive(Clone)]
pub(crate) struct Cluster {
    replicas: [Arc<Replica>; REPLICAS],
    /// Ascending by their words, each once: two equal messages are one that may be repeated.
    under_way: Vec<(u64, Arc<Parcel>)>,
    witness: Arc<Witness>,
    pub(crate) budget: Budget,
    requests: u64,
}

/// Something that may happen. Replicas count from 0, messages in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A replica's next deadline comes.
    Wake(u8),
    /// A replica is silent for very long.
    Sleep(u8),
    /// A replica's oldest write is reported as durable.
    Report(u8),
    /// A replica's power goes; its disk has made so many writes more than it reported.
    Crash(u8, u8),
    /// A message arrives.
    Deliver(u8),
    /// A message arrives, and will once more.
    Repeat(u8),
    /// A message is lost.
    Lose(u8),
    /// A leader is given something to append.
    Propose(u8),
    /// A replica is asked for a read.
    Read(u8),
    /// A replica makes a snapshot.
    Snapshot(u8),
    /// A leader is asked for other voters.
    Change(u8),
    /// A leader is asked to hand over.
    Transfer(u8, u8),
}

impl Cluster {
    /// Blank replicas that know their founding configuration.
    pub(crate) fn founded(founding: &Configuration) -> Self {
        let replica = |at: usize| Arc::new(Replica::founded(ReplicaId(at as u64 + 1), founding));
        Self {
            replicas: std::array::from_fn(replica),
            under_way: Vec::new(),
            witness: Arc::default(),
            budget: Budget::default(),
            requests: 0,
        }
    }

    /// Stands for this state: equal states have equal words.
    pub(crate) fn word(&self) -> u64 {
        let Self { replicas, under_way, witness, budget, requests } = self;
        let mut hasher = fingerprint();
        for replica in replicas {
            hasher.write_u64(replica.word);
        }
        for (word, _) in under_way {
            hasher.write_u64(*word);
        }
        (witness, budget, requests).hash(&mut hasher);
        hasher.finish()
    }

    /// Everything that may happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let budget = &self.budget;
        for (replica, at) in self.replicas.iter().zip(0_u8..) {
            if replica.raft.deadline() != Time::NEVER {
                actions.push(Action::Wake(at));
                actions.extend((budget.sleeps > 0).then_some(Action::Sleep(at)));
            }
            let open = replica.pending.len();
            actions.extend((open > 0).then_some(Action::Report(at)));
            if budget.crashes > 0 {
                let kept = 0..=u8::try_from(open).expect("few writes are open");
                actions.extend(kept.map(|kept| Action::Crash(at, kept)));
            }
            if budget.snapshots > 0 && replica.raft.commit_index() > replica.file.index {
                actions.push(Action::Snapshot(at));
            }
            if budget.reads > 0 && replica.raft.leader().is_some() {
                actions.push(Action::Read(at));
            }
            if replica.raft.is_leader() {
                actions.extend((budget.proposals > 0).then_some(Action::Propose(at)));
                actions.extend((budget.changes > 0).then_some(Action::Change(at)));
                let others = (0..REPLICAS as u8).filter(|&to| to != at && budget.transfers > 0);
                actions.extend(others.map(|to| Action::Transfer(at, to)));
            }
        }
        for at in 0..u8::try_from(self.under_way.len()).expect("few messages are under way") {
            actions.push(Action::Deliver(at));
            actions.extend((budget.repeats > 0).then_some(Action::Repeat(at)));
            actions.extend((budget.losses > 0).then_some(Action::Lose(at)));
        }
        actions
    }

    /// What this state becomes by `action`; `None` beyond the bounds. The error says what is wrong.
    pub(crate) fn after(&self, action: Action, scope: &Scope) -> Result<Option<Self>, String> {
        let mut next = self.clone();
        let budget = &mut next.budget;
        match action {
            Action::Wake(at) => next.step(at, scope, Replica::wake)?,
            Action::Sleep(at) => {
                budget.sleeps -= 1;
                next.step(at, scope, |replica, _, _| {
                    replica.sleep();
                    Ok(())
                })?;
            }
            Action::Report(at) => next.step(at, scope, Replica::report)?,
            Action::Crash(at, kept) => {
                budget.crashes -= 1;
                next.step(at, scope, |replica, _, _| {
                    replica.crash(usize::from(kept), scope.fault);
                    Ok(())
                })?;
            }
            Action::Deliver(at) => {
                let (_, parcel) = next.under_way.remove(usize::from(at));
                next.deliver(&parcel, scope)?;
            }
            Action::Repeat(at) => {
                budget.repeats -= 1;
                let parcel = Arc::clone(&next.under_way[usize::from(at)].1);
                next.deliver(&parcel, scope)?;
            }
            Action::Lose(at) => {
                budget.losses -= 1;
                let (_, parcel) = next.under_way.remove(usize::from(at));
                next.send(parcel.lost(), scope);
            }
            Action::Propose(at) => {
                budget.proposals -= 1;
                let id = next.request();
                let payload = Payload::new(vec![u8::try_from(id.0).expect("few are explored")]);
                next.input(at, scope, Input::Propose { id, payload })?;
            }
            Action::Read(at) => {
                budget.reads -= 1;
                let id = next.request();
                Arc::make_mut(&mut next.witness).on_read_asked(id);
                next.input(at, scope, Input::Read { id })?;
            }
            Action::Snapshot(at) => {
                budget.snapshots -= 1;
                next.snapshot(at, scope)?;
            }
            Action::Change(at) => {
                budget.changes -= 1;
                let id = next.request();
                let (voters, learners) = (Scope::CHANGED.to_vec(), Vec::new());
                next.input(at, scope, Input::ChangeMembership { id, voters, learners })?;
            }
            Action::Transfer(at, to) => {
                budget.transfers -= 1;
                let (id, to) = (next.request(), ReplicaId(u64::from(to) + 1));
                next.input(at, scope, Input::TransferLeadership { id, to })?;
            }
        }
        let within = |replica: &Arc<Replica>| replica.raft.term().0 <= scope.term_max;
        Ok(next.replicas.iter().all(within).then_some(next))
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn input(&mut self, at: u8, scope: &Scope, input: Input) -> Result<(), String> {
        self.step(at, scope, |replica, witness, out| replica.step(input, witness, out))
    }

    /// A snapshot's file is durable before the core is told.
    fn snapshot(&mut self, at: u8, scope: &Scope) -> Result<(), String> {
        self.step(at, scope, |replica, witness, out| {
            let meta = replica.raft.snapshot_meta(replica.raft.commit_index());
            replica.file = meta.clone();
            replica.step(Input::Compact { meta: Box::new(meta) }, witness, out)
        })
    }

    fn deliver(&mut self, parcel: &Parcel, scope: &Scope) -> Result<(), String> {
        let Some(at) = self.replicas.iter().position(|known| known.raft.id() == parcel.to()) else {
            return Ok(());
        };
        let at = u8::try_from(at).expect("there are few replicas");
        if let Parcel::Snapshot { from, to, meta, .. } = parcel {
            let delivered = Some(meta.index);
            self.step(at, scope, |replica, _, out| {
                if meta.index > replica.file.index {
                    replica.file = meta.clone();
                }
                out.push(Parcel::Sent { from: *to, to: *from, delivered });
                Ok(())
            })?;
        }
        self.input(at, scope, parcel.input())
    }

    /// Steps a replica, sends what it says, and judges what it has become.
    fn step(
        &mut self,
        at: u8,
        scope: &Scope,
        step: impl FnOnce(&mut Replica, &mut Witness, &mut Vec<Parcel>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        let at = usize::from(at);
        let witness = Arc::make_mut(&mut self.witness);
        let replica = Arc::make_mut(&mut self.replicas[at]);
        step(replica, witness, &mut out)?;
        replica.seal();
        let all: Vec<&Replica> = self.replicas.iter().map(|replica| &**replica).collect();
        witness.check(&self.replicas[at], &all)?;
        for parcel in out {
            self.send(Some(parcel), scope);
        }
        Ok(())
    }

    fn send(&mut self, parcel: Option<Parcel>, scope: &Scope) {
        let Some(parcel) = parcel else { return };
        let word = word_of(&parcel);
        if let Err(place) = self.under_way.binary_search_by_key(&word, |(word, _)| *word)
            && self.under_way.len() < scope.under_way_max
        {
            self.under_way.insert(place, (word, Arc::new(parcel)));
        }
    }
}

/// How a search comes to begin somewhere: nothing goes wrong among those who are there.
impl Cluster {
    const CALM: Scope = Scope {
        name: "calm",
        begin: crate::Begin::Blank,
        term_max: u64::MAX,
        budget: Budget {
            crashes: 0,
            losses: 0,
            repeats: 0,
            proposals: 0,
            reads: 0,
            snapshots: 0,
            changes: 0,
            transfers: 0,
            sleeps: 0,
        },
        under_way_max: usize::MAX,
        states_max: 0,
        actions_max: 0,
        fault: None,
    };

    fn calmly(&mut self, action: Action) {
        let next = self.after(action, &Self::CALM).expect("nothing goes wrong in calm");
        *self = next.expect("calm has no bounds");
    }

    /// Reports every write and delivers every message among those who are there, and loses the
    /// rest, until nothing more follows.
    fn settle(&mut self, there: &[usize], until: impl Fn(&Self) -> bool) {
        while !until(self) {
            let open = |at: &&usize| !self.replicas[**at].pending.is_empty();
            if let Some(&at) = there.iter().find(open) {
                self.calmly(Action::Report(at as u8));
            } else if let Some((_, parcel)) = self.under_way.first() {
                if there.iter().any(|&at| self.replicas[at].raft.id() == parcel.to()) {
                    self.calmly(Action::Deliver(0));
                } else {
                    self.under_way.remove(0);
                }
            } else {
                return;
            }
        }
    }

    /// Makes the first replica lead.
    pub(crate) fn elect(&mut self, there: &[usize]) {
        self.calmly(Action::Wake(0));
        self.settle(there, |_| false);
        self.calmly(Action::Wake(0));
        self.settle(there, |_| false);
        assert!(self.replicas[0].raft.is_leader(), "the first replica leads");
        let known = there.iter().all(|&at| self.replicas[at].raft.commit_index().0 == 1);
        assert!(known, "its first entry is known to be committed");
    }

    /// Makes the first and the third campaign against each other: their own votes are on their
    /// disks, and their requests are under way.
    pub(crate) fn split(&mut self) {
        let candidates = [0, 2];
        for at in candidates {
            self.calmly(Action::Wake(at));
        }
        // Only the second hears of it, and would vote for either.
        self.under_way.retain(|(_, parcel)| parcel.to() == self.replicas[1].raft.id());
        while !self.under_way.is_empty() {
            self.calmly(Action::Deliver(0));
        }
        for at in candidates {
            self.calmly(Action::Report(at));
        }
    }

    /// Commits so many entries among those who are there.
    pub(crate) fn commit(&mut self, count: u8, there: &[usize]) {
        self.budget.proposals = count;
        for _ in 0..count {
            self.calmly(Action::Propose(0));
            self.settle(there, |_| false);
        }
        self.calmly(Action::Wake(0));
        self.settle(there, |_| false);
        let last = self.replicas[0].raft.last_index();
        let known = there.iter().all(|&at| self.replicas[at].raft.commit_index() == last);
        assert!(known, "what was proposed is committed");
    }

    /// Lets those who are there make a snapshot each.
    pub(crate) fn compact(&mut self, there: &[usize]) {
        self.budget.snapshots = u8::try_from(there.len()).expect("there are few replicas");
        for &at in there {
            self.calmly(Action::Snapshot(at as u8));
        }
        self.settle(there, |_| false);
    }

    /// Asks for other voters, up to the moment when the leader has appended the joint half.
    pub(crate) fn make_joint(&mut self) {
        let all = [0, 1, 2];
        self.budget.changes = 1;
        self.calmly(Action::Change(0));
        let joint = |cluster: &Self| cluster.replicas[0].raft.configuration().is_joint();
        self.settle(&all, joint);
        assert!(joint(self), "the change has become joint");
    }
}

/// A state in words, for who reads how something came about.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for replica in &self.replicas {
            let status = replica.raft.status();
            writeln!(
                f,
                "      {} {:?} term {} vote {:?} last {} durable {} commit {} snapshot {} open {}",
                status.id,
                status.role,
                status.term,
                status.voted_for.map(|vote| vote.0),
                status.last_index,
                status.durable_index,
                status.commit,
                status.snapshot_index,
                replica.pending.len(),
            )?;
        }
        for (at, (_, parcel)) in self.under_way.iter().enumerate() {
            writeln!(f, "      message {at}: {parcel:?}")?;
        }
        Ok(())
    }
}
