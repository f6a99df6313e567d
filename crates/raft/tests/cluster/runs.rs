//! The kinds of runs: a group under faults that must come to life after them, and may lose all but
//! one replica for ever then; one whose replicas are as alike as can be; one whose leader's disk
//! hangs, or who is deaf, or is cut off while clients read; one that becomes smaller and larger;
//! one that begins with a long log in a low term and a short log in a high one.

use flotilla_raft::{
    Config, Entry, EntryKind, HardState, Index, Input, Payload, Recovered, ReplicaId, RequestId,
    Term, Time,
};

use super::cut_off::run_cut_off;
use super::shrunk::run_shrunk;
use super::world::{Dice, MS, World};
use super::{Cluster, id, voters};

/// Of so many seeds one is of each special kind.
const KINDS: u64 = 16;

impl World {
    /// No more faults: the group elects a leader, which commits a new entry on every replica and
    /// serves a read.
    pub(super) fn heal_and_check(&mut self) {
        self.cut.clear();
        self.restart_all();
        (self.loss_percent, self.repeat_percent, self.kept_percent) = (0, 0, 0);
        (self.delay_max, self.write_max) = (2 * MS, MS);
        (self.load_percent, self.report_percent) = (100, 100);
        for (id, peer) in self.pairs() {
            self.cluster.step(id, Input::PeerAlive(peer));
        }
        self.network.retain(|(at, _)| *at < self.cluster.now + 2000 * MS);
        let quiet = self.cluster.now + 8000 * MS;
        self.run_until(quiet);
        let leader = self.cluster.leader().expect("a healed group has a leader");
        let before = self.cluster.judge.committed_index();
        self.cluster.propose(leader, "last");
        let read = self.cluster.read(leader);
        let members = self.living_members(leader);
        let elsewhere: Vec<RequestId> = members.iter().map(|&id| self.cluster.read(id)).collect();
        self.run_until(quiet + 500 * MS);
        let committed = self.cluster.judge.committed_index();
        assert!(committed > before, "a healed group commits");
        for read in elsewhere.iter().chain([&read]) {
            let served = self.cluster.judge.served.contains_key(read);
            assert!(served, "a healed group serves reads everywhere");
        }
        let joint = self.cluster.raft(leader).configuration().is_joint();
        assert!(!joint, "a healed group leaves its joint configuration");
        for id in members {
            let host = self.cluster.host(id);
            let state = self.cluster.raft(leader).status();
            assert_eq!(host.applied_index(), committed, "replica {id} has caught up: {state:#?}");
            assert_eq!(host.applied, self.cluster.judge.committed, "with the same entries");
        }
    }

    /// The members that will ever be there.
    fn living_members(&self, leader: ReplicaId) -> Vec<ReplicaId> {
        let members = self.cluster.raft(leader).configuration().members();
        members.into_iter().filter(|id| !self.ghosts.contains(id)).collect()
    }

    /// A group that is well hands its leadership over when it is asked to.
    fn hand_over_and_check(&mut self) {
        let leader = self.cluster.leader().expect("a healed group has a leader");
        let Some(to) = self.cluster.raft(leader).best_successor() else { return };
        self.cluster.transfer(leader, to);
        self.run_until(self.cluster.now + 300 * MS);
        assert!(self.cluster.raft(to).is_leader(), "{leader} hands over to {to} when asked");
    }

    /// All but one replica are lost for ever, and an operator makes that one the only voter.
    fn lose_all_but_one(&mut self) {
        let leader = self.cluster.leader().expect("a healed group has a leader");
        let members = self.living_members(leader);
        let survivor = members[self.dice.below(members.len() as u64) as usize];
        if self.cluster.host(survivor).disk.has_damage() {
            return;
        }
        let seen = self.cluster.raft(leader).term();
        for id in self.cluster.ids() {
            self.cluster.crash(id, usize::MAX);
        }
        self.network.clear();
        self.cluster.force(survivor, seen);
        self.cluster.restart(survivor);
        self.run_until(self.cluster.now + 1000 * MS);
        let raft = self.cluster.raft(survivor);
        assert!(raft.is_leader(), "the only voter leads");
        assert_eq!(raft.configuration().voters, [survivor], "and is the only one");
        let before = self.cluster.judge.committed_index();
        self.cluster.propose(survivor, "alone");
        self.run_until(self.cluster.now + 100 * MS);
        assert!(self.cluster.judge.committed_index() > before, "a recovered group commits");
    }
}

/// The run of a seed. Panics if anything is not as it should be.
pub(crate) fn run(seed: u64) -> World {
    match seed % KINDS {
        3 => run_alike(seed),
        5 | 9 => run_cut_off(seed),
        1 => run_shrunk(seed),
        7 => run_hung(seed),
        11 => run_deaf(seed),
        13 => run_cohorts(seed),
        _ => run_faults(seed),
    }
}

/// Whatever can go wrong.
fn run_faults(seed: u64) -> World {
    let mut world = World::new(seed);
    for round in 0..60 {
        for _ in 0..3 {
            let pause = 1 + world.dice.below(60);
            let end = world.cluster.now + pause * MS;
            world.run_until(end);
            world.use_it();
            world.deliver_kept();
        }
        if world.dice.percent(50) {
            world.disturb();
        }
        if round % 4 == 0 {
            world.cluster.judge.check_logs(&world.cluster.hosts);
        }
    }
    world.heal_and_check();
    world.hand_over_and_check();
    world.cluster.judge.check_logs(&world.cluster.hosts);
    if world.dice.percent(15) {
        world.lose_all_but_one();
    }
    world
}

/// Replicas that start at one moment, on disks and links that always take the same time: only
/// chance of their own tells one from the other.
fn run_alike(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let count = [3, 3, 5][dice.below(3) as usize];
    let (delay_max, write_max) = (MS + dice.below(7 * MS), MS + dice.below(3 * MS));
    let cluster = Cluster::new(&voters(count), seed);
    let mut world =
        World { delay_max, write_max, even: true, ..World::without_faults(cluster, dice) };
    world.run_until(Time(8000 * MS));
    let leader = world.cluster.leader().expect("replicas that are alike elect one of them");
    for id in world.cluster.ids() {
        assert_eq!(world.cluster.raft(id).leader(), Some(leader), "{id} follows it");
    }
    world
}

/// The leader's disk hangs for ever, and its clients go on.
fn run_hung(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let count = [3, 5][dice.below(2) as usize];
    let config = |id| Config { max_undurable_bytes: 1500, ..Config::new(id, seed) };
    let cluster = Cluster::with(&voters(count), |_| Recovered::default(), config);
    let mut world = World::without_faults(cluster, dice);
    world.run_until(Time(3000 * MS));
    let leader = world.cluster.leader().expect("a group without faults has a leader");
    world.cluster.host_mut(leader).disk_hangs = true;
    for _ in 0..200 {
        world.run_until(world.cluster.now + 20 * MS);
        world.use_it();
    }
    let before = world.cluster.judge.committed_index();
    for _ in 0..50 {
        world.run_until(world.cluster.now + 20 * MS);
        world.use_it();
    }
    assert!(!world.cluster.raft(leader).is_leader(), "who can write nothing hands over");
    assert!(world.cluster.judge.committed_index() > before, "the others go on");
    world
}

/// The leader hears nobody any more, while all others go on hearing it.
fn run_deaf(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let count = [3, 5][dice.below(2) as usize];
    let mut world = World::without_faults(Cluster::new(&voters(count), seed), dice);
    world.run_until(Time(3000 * MS));
    let deaf = world.cluster.leader().expect("a group without faults has a leader");
    let others = world.cluster.ids().into_iter().filter(|id| *id != deaf);
    world.cut.extend(others.map(|other| (other, deaf)));
    world.run_until(world.cluster.now + 3000 * MS);
    assert!(!world.cluster.raft(deaf).is_leader(), "who hears nobody does not lead");
    let before = world.cluster.judge.committed_index();
    let leader = world.cluster.leader().expect("the others elect one of them");
    world.cluster.propose(leader, "without it");
    world.run_until(world.cluster.now + 200 * MS);
    assert!(world.cluster.judge.committed_index() > before, "and go on");
    world
}

/// Of three replicas one is dead. Another has the longer log, the third one the higher term: each
/// can refuse the other, and only together they are a quorum.
fn run_cohorts(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let (length, behind) = (2 + dice.below(5), 1 + dice.below(2));
    let (term, ahead) = (1 + dice.below(3), 1 + dice.below(4));
    let log = |length: u64| {
        let entry = |index: u64| Entry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Normal,
            payload: Payload::new(index.to_le_bytes().to_vec()),
        };
        (1..=length).map(entry).collect()
    };
    let recovered = |of: ReplicaId| {
        let long = of == id(1);
        let (entries, ahead) = if long { (log(length), 0) } else { (log(length - behind), ahead) };
        let hard_state = HardState { term: Term(term + ahead), voted_for: None };
        Recovered { hard_state, entries, ..Recovered::default() }
    };
    let cluster = Cluster::with(&voters(3), recovered, |id| Config::new(id, seed));
    let mut world = World::without_faults(cluster, dice);
    world.cluster.crash(id(3), 0);
    world.run_until(Time(6000 * MS));
    let leader = world.cluster.leader().expect("a quorum that is there elects one of it");
    world.cluster.propose(leader, "at last");
    world.run_until(world.cluster.now + 200 * MS);
    let committed = world.cluster.judge.committed_index();
    assert!(committed > Index(length), "and commits");
    world
}
