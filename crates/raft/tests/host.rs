//! Hosts with many groups that share their heartbeats: quiet when idle, and not fooled by it.

use std::collections::{BTreeMap, VecDeque};

use flotilla_raft::host::{Claim, GroupId, Heartbeat, HeartbeatReply, Heartbeats, HostId};
use flotilla_raft::{
    Config, Configuration, Effect, Index, Input, Message, Note, Payload, Raft, Recovered,
    ReplicaId, RequestId, SnapshotMeta, Term, Time,
};

const HOSTS: u64 = 3;
const MS: u64 = 1000;

enum Mail {
    Raft(GroupId, Message),
    Heartbeat(Heartbeat),
    Reply(HeartbeatReply),
}

/// A host; its replicas have its number for an id. Its disk is quick.
struct Host {
    id: HostId,
    heartbeats: Heartbeats,
    rafts: BTreeMap<GroupId, Raft>,
    sent: Vec<(HostId, Mail)>,
}

impl Host {
    fn step(&mut self, now: Time, group: GroupId, input: Input) {
        let raft = self.rafts.get_mut(&group).expect("every host has every group");
        let mut inputs: VecDeque<Input> =
            self.heartbeats.contacts(group, raft, |id| Some(HostId(id.0))).into();
        inputs.push_back(input);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            raft.step(now, input, &mut effects);
            raft.check_invariants();
            for effect in effects {
                match effect {
                    Effect::Write(write) => inputs.push_back(Input::Written(write.seq)),
                    Effect::Apply { entries } => {
                        inputs.push_back(Input::Applied(entries[entries.len() - 1].index));
                    }
                    Effect::Send(message) => {
                        self.sent.push((HostId(message.to.0), Mail::Raft(group, message)));
                    }
                    Effect::Note(Note::LeaderChanged { .. }) => self.heartbeats.lapse(group),
                    _ => {}
                }
            }
        }
        let silent = raft.claims();
        let (from, term, commit) = (raft.id(), raft.term(), raft.commit_index());
        for peer in (1..=HOSTS).filter(|&peer| peer != self.id.0) {
            let to = ReplicaId(peer);
            let claim = silent.contains(&to).then_some(Claim { group, from, to, term, commit });
            self.heartbeats.set_claim(HostId(peer), group, claim);
        }
    }

    fn take(&mut self, now: Time, from: HostId, mail: Mail) {
        match mail {
            Mail::Raft(group, message) => self.step(now, group, Input::Message(message)),
            Mail::Heartbeat(heartbeat) => self.take_heartbeat(now, from, heartbeat),
            Mail::Reply(reply) => {
                for claim in self.heartbeats.on_reply(from, reply, now) {
                    self.step(now, claim.group, Input::ClaimRefused { peer: claim.to });
                }
            }
        }
    }

    fn take_heartbeat(&mut self, now: Time, from: HostId, heartbeat: Heartbeat) {
        for claim in heartbeat.claims.iter().flatten() {
            let Claim { group, from, term, commit, .. } = *claim;
            self.step(now, group, Input::Claim { from, term, commit });
        }
        let rafts = &self.rafts;
        let upholds = |claim: &Claim| {
            claim.to == rafts[&claim.group].id()
                && rafts[&claim.group].upholds(claim.from, claim.term, claim.commit)
        };
        if let Some(reply) = self.heartbeats.on_heartbeat(from, heartbeat, now, upholds) {
            self.sent.push((from, Mail::Reply(reply)));
        }
    }

    fn wake(&mut self, now: Time) {
        let due = |raft: &Raft| raft.deadline() <= now;
        let groups: Vec<GroupId> =
            self.rafts.iter().filter(|(_, raft)| due(raft)).map(|(&group, _)| group).collect();
        for group in groups {
            self.step(now, group, Input::Wake);
        }
        let heartbeats = self.heartbeats.wake(now);
        self.sent.extend(heartbeats.into_iter().map(|(to, beat)| (to, Mail::Heartbeat(beat))));
    }

    fn deadline(&self) -> Time {
        let rafts = self.rafts.values().map(Raft::deadline);
        rafts.min().unwrap_or(Time::NEVER).min(self.heartbeats.deadline())
    }
}

struct World {
    now: Time,
    hosts: Vec<Host>,
    network: VecDeque<(Time, HostId, HostId, Mail)>,
    cut: Option<HostId>,
    raft_messages: usize,
    heartbeats: usize,
    lists: usize,
}

impl World {
    fn new(groups: u64) -> Self {
        let host = |id| Host {
            id: HostId(id),
            heartbeats: Heartbeats::new(1, 50 * MS),
            rafts: (0..groups).map(|group| (GroupId(group), core(id, group, 1))).collect(),
            sent: Vec::new(),
        };
        Self {
            now: Time(0),
            hosts: (1..=HOSTS).map(host).collect(),
            network: VecDeque::new(),
            cut: None,
            raft_messages: 0,
            heartbeats: 0,
            lists: 0,
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        (self.raft_messages, self.heartbeats, self.lists) = (0, 0, 0);
        loop {
            self.collect();
            let wake = self.hosts.iter().map(Host::deadline).min().expect("there are hosts");
            let mail = self.network.front().map_or(Time::NEVER, |mail| mail.0);
            let next = wake.min(mail);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if mail <= wake {
                let (_, from, to, mail) = self.network.pop_front().expect("it is due");
                self.hosts[to.0 as usize - 1].take(self.now, from, mail);
            } else {
                let due = self.hosts.iter().position(|host| host.deadline() <= self.now);
                self.hosts[due.expect("one is due")].wake(self.now);
            }
        }
    }

    fn collect(&mut self) {
        for host in &mut self.hosts {
            for (to, mail) in host.sent.drain(..) {
                match &mail {
                    Mail::Raft(..) => self.raft_messages += 1,
                    Mail::Heartbeat(beat) => {
                        self.heartbeats += 1;
                        self.lists += usize::from(beat.claims.is_some());
                    }
                    Mail::Reply(_) => {}
                }
                if self.cut != Some(host.id) && self.cut != Some(to) {
                    self.network.push_back((self.now + MS, host.id, to, mail));
                }
            }
        }
    }

    /// Who leads each group; by the highest term.
    fn leaders(&self) -> Vec<Option<u64>> {
        let groups = self.hosts[0].rafts.keys();
        let leader = |group| {
            let leading = self.hosts.iter().filter(|host| host.rafts[group].is_leader());
            leading.max_by_key(|host| host.rafts[group].term()).map(|host| host.id.0)
        };
        groups.map(leader).collect()
    }

    fn propose(&mut self, group: GroupId, id: u64) {
        let leader = self.leaders()[group.0 as usize].expect("the group has a leader");
        let payload = Payload::new(b"x".to_vec());
        let propose = Input::Propose { id: RequestId(id), payload };
        self.hosts[leader as usize - 1].step(self.now, group, propose);
    }
}

fn core(id: u64, group: u64, seed: u64) -> Raft {
    let configuration = Configuration::of_voters((1..=HOSTS).map(ReplicaId));
    let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
    let config = Config {
        shares_heartbeats: true,
        campaign_at_start: group % HOSTS + 1 == id,
        ..Config::new(ReplicaId(id), seed + 100 * group)
    };
    Raft::new(config, Recovered { snapshot, ..Recovered::default() }, Time(0))
}

fn spread(groups: u64) -> Vec<Option<u64>> {
    (0..groups).map(|group| Some(group % HOSTS + 1)).collect()
}

/// Forty idle groups cost what one does: a heartbeat per pair of hosts.
#[test]
fn idle_groups_are_silent() {
    let mut world = World::new(40);
    world.run(1000);
    assert_eq!(world.leaders(), spread(40));
    world.run(10_000);
    assert_eq!(world.leaders(), spread(40), "nobody misses its leader");
    assert_eq!(world.raft_messages, 0);
    assert_eq!(world.lists, 0, "what did not change is not said again");
    assert!((1000..=1300).contains(&world.heartbeats), "{} heartbeats", world.heartbeats);
}

/// A group that has something to say says it itself, and becomes silent again.
#[test]
fn a_write_is_not_delayed_and_its_commit_spreads() {
    let mut world = World::new(4);
    world.run(1000);
    world.propose(GroupId(2), 1);
    world.run(200);
    for host in &world.hosts {
        assert_eq!(host.rafts[&GroupId(2)].commit_index(), Index(2), "also where nobody asked");
    }
    world.run(1000);
    assert_eq!(world.raft_messages, 0);
}

/// A host that is cut off loses its leaders at both ends.
#[test]
fn a_dead_host_is_noticed_by_every_group() {
    let mut world = World::new(12);
    world.run(1000);
    world.cut = Some(HostId(1));
    world.run(1500);
    assert!(world.hosts[0].rafts.values().all(|raft| !raft.is_leader()), "no quorum answers it");
    assert!(world.leaders().iter().all(|leader| leader.is_some_and(|id| id != 1)));
    world.cut = None;
    world.run(2000);
    world.run(1000);
    assert_eq!(world.raft_messages, 0, "all is calm again");
    for group in 0..12 {
        world.propose(GroupId(group), group);
    }
    world.run(200);
    for host in &world.hosts {
        let leader = &world.hosts[world.leaders()[0].expect("it has one") as usize - 1];
        let committed = leader.rafts[&GroupId(0)].commit_index();
        assert_eq!(host.rafts[&GroupId(0)].commit_index(), committed);
    }
}

/// A live host is no leader of a group it does not claim: the group looks for another.
#[test]
fn a_leader_that_lost_one_group_is_not_covered_by_its_host() {
    let mut world = World::new(6);
    world.run(1000);
    let group = GroupId(0);
    let terms: Vec<Term> = world.hosts.iter().map(|host| host.rafts[&group].term()).collect();
    // Its replica of one group starts anew, blank of what it led; the host lives on.
    let before = &world.hosts[0].rafts[&group];
    let hard_state = flotilla_raft::HardState { term: terms[0], voted_for: Some(ReplicaId(1)) };
    let snapshot = SnapshotMeta {
        index: before.commit_index(),
        term: terms[0],
        configuration: before.configuration().clone(),
    };
    let recovered = Recovered { hard_state, snapshot, ..Recovered::default() };
    let config = Config { shares_heartbeats: true, ..Config::new(ReplicaId(1), 9) };
    let anew = Raft::new(config, recovered, world.now);
    world.hosts[0].rafts.insert(group, anew);
    for peer in [2, 3] {
        world.hosts[0].heartbeats.set_claim(HostId(peer), group, None);
    }
    world.run(2000);
    assert!(world.leaders()[0].is_some());
    assert!(world.hosts[1].rafts[&group].term() > terms[1], "there was an election");
    assert_eq!(world.leaders()[1..], spread(6)[1..], "the other groups noticed nothing");
}

/// A follower that started anew refuses what it does not know, and hears its leader itself.
#[test]
fn a_restarted_host_learns_all_claims_again() {
    let mut world = World::new(6);
    world.run(1000);
    let now = world.now;
    let host = &mut world.hosts[2];
    host.heartbeats = Heartbeats::new(2, 50 * MS);
    for (group, raft) in &mut host.rafts {
        let hard_state =
            flotilla_raft::HardState { term: raft.term(), voted_for: raft.status().voted_for };
        let snapshot = raft.snapshot_meta(raft.commit_index());
        let config = Config { shares_heartbeats: true, ..Config::new(raft.id(), 7 + group.0) };
        let recovered = Recovered { hard_state, snapshot, ..Recovered::default() };
        *raft = Raft::new(config, recovered, now);
    }
    world.run(3000);
    assert!(world.leaders().iter().all(Option::is_some));
    let known = world.hosts[2].rafts.values().all(|raft| raft.leader().is_some());
    assert!(known, "it follows or leads every group");
    world.run(1000);
    assert_eq!(world.raft_messages, 0);
}

fn claim(group: u64, term: u64) -> Claim {
    let (from, to) = (ReplicaId(1), ReplicaId(2));
    Claim { group: GroupId(group), from, to, term: Term(term), commit: Index(0) }
}

/// An answer counts for the claims its heartbeat had, not for newer ones, nor for another boot's.
#[test]
fn an_answer_counts_for_what_was_claimed() {
    let mut ours = Heartbeats::new(5, 50 * MS);
    let mut theirs = Heartbeats::new(1, 50 * MS);
    let (us, them) = (HostId(1), HostId(2));
    ours.set_claim(them, GroupId(1), Some(claim(1, 3)));
    let (_, first) = ours.wake(Time(0)).remove(0);
    ours.set_claim(them, GroupId(2), Some(claim(2, 3)));
    let reply = theirs.on_heartbeat(us, first.clone(), Time(1), |_| true).expect("it is new");
    assert!(reply.known && reply.refused.is_empty());
    assert!(ours.on_reply(them, reply.clone(), Time(2)).is_empty());

    let (_, second) = ours.wake(Time(60 * MS)).remove(0);
    assert!(second.claims.as_ref().is_some_and(|claims| claims.len() == 2), "the list changed");
    let mut refused = theirs.on_heartbeat(us, second, Time(61 * MS), |claim| claim.group.0 == 1);
    let refused = refused.take().expect("it is new");
    assert_eq!(refused.refused, [GroupId(2)]);
    assert!(theirs.on_heartbeat(us, first, Time(62 * MS), |_| true).is_none(), "it is old");

    let other_boot = HeartbeatReply { incarnation: 4, ..refused.clone() };
    assert!(ours.on_reply(them, other_boot, Time(63 * MS)).is_empty());
    assert_eq!(ours.on_reply(them, refused, Time(63 * MS)), [claim(2, 3)]);
    let (_, third) = ours.wake(Time(120 * MS)).remove(0);
    assert_eq!(third.claims, Some(vec![claim(1, 3)]), "what was refused is not claimed");
}

/// A claim that stood and does no more is refused with the next answer.
#[test]
fn a_lapsed_claim_is_refused() {
    let mut ours = Heartbeats::new(5, 50 * MS);
    let mut theirs = Heartbeats::new(1, 50 * MS);
    let (us, them) = (HostId(1), HostId(2));
    ours.set_claim(them, GroupId(1), Some(claim(1, 3)));
    let (_, beat) = ours.wake(Time(0)).remove(0);
    let reply = theirs.on_heartbeat(us, beat, Time(1), |_| true).expect("it is new");
    ours.on_reply(them, reply, Time(2));
    theirs.lapse(GroupId(1));
    let (_, beat) = ours.wake(Time(60 * MS)).remove(0);
    assert_eq!(beat.claims, None);
    let reply = theirs.on_heartbeat(us, beat, Time(61 * MS), |_| true).expect("it is in order");
    assert_eq!(reply.refused, [GroupId(1)]);
    assert_eq!(ours.on_reply(them, reply, Time(62 * MS)), [claim(1, 3)]);
    assert_eq!(ours.deadline(), Time::NEVER, "nothing is claimed any more");

    let mut blank = Heartbeats::new(1, 50 * MS);
    let beat = Heartbeat { incarnation: 5, generation: 1, claims: None };
    let reply = blank.on_heartbeat(us, beat, Time(0), |_| true).expect("it is new");
    assert!(!reply.known, "it has to be told the list");
}

/// A claim counts for its leader once it was answered, and for its follower in its own term.
#[test]
fn contact_is_of_a_claim_and_a_term() {
    let mut world = World::new(1);
    world.run(1000);
    let group = GroupId(0);
    let everybody = |id: ReplicaId| Some(HostId(id.0));
    let host = &mut world.hosts[0];
    let leader = &host.rafts[&group];
    assert_eq!(host.heartbeats.contacts(group, leader, everybody).len(), 2);
    let (term, commit) = (leader.term(), leader.commit_index());
    let claim = Claim { group, from: ReplicaId(1), to: ReplicaId(2), term, commit };
    host.heartbeats.set_claim(HostId(2), group, None);
    host.heartbeats.set_claim(HostId(2), group, Some(claim));
    let contacts = host.heartbeats.contacts(group, leader, everybody);
    assert!(
        matches!(contacts[..], [Input::Contact { peer: ReplicaId(3), .. }]),
        "the new claim was not answered yet"
    );

    let follower = &world.hosts[1].rafts[&group];
    for (said, heard) in [(Term(term.0 - 1), 0), (term, 1)] {
        let mut heartbeats = Heartbeats::new(1, 50 * MS);
        let claims = Some(vec![Claim { term: said, ..claim }]);
        let beat = Heartbeat { incarnation: 1, generation: 1, claims };
        heartbeats.on_heartbeat(HostId(1), beat, Time(9), |_| true);
        assert_eq!(heartbeats.contacts(group, follower, everybody).len(), heard);
    }
}
