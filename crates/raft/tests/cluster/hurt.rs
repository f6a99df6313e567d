//! Groups that begin with logs such as elections and crashes leave, some of whose payloads are lost
//! and some of whose snapshots can't be read; and leaders that come and go while what repairs them
//! is late.
//!
//! What was committed before is known to the judge, so a leader that gives it up, or a replica that
//! applies something else, is seen at once. The world of all other runs rots a log now and then;
//! here every run begins with what those seldom come to.

use flotilla_raft::{
    Body, Config, Configuration, Entry, EntryKind, HardState, Index, Input, Message, Payload,
    Recovered, ReplicaId, SnapshotMeta, Term, Time,
};

use super::host::{Disk, Host, Snapshot};
use super::world::{Dice, MS, World};
use super::{Cluster, id, voters};

/// How often something goes wrong in a run.
const TROUBLES: u64 = 14;
/// How often another one is asked to lead, in the runs in which that is all.
const SEATS: u64 = 30;

/// The logs of a group, and what of them is committed.
struct Past {
    configuration: Configuration,
    logs: Vec<Vec<Entry>>,
    hard_states: Vec<HardState>,
    committed: Vec<Entry>,
}

impl Past {
    /// So many blank replicas.
    fn new(configuration: Configuration) -> Self {
        let count = configuration.voters.len();
        Self {
            configuration,
            logs: vec![Vec::new(); count],
            hard_states: vec![HardState::default(); count],
            committed: Vec::new(),
        }
    }

    fn place(log: &[Entry]) -> (Term, u64) {
        (log.last().map_or(Term(0), |entry| entry.term), log.len() as u64)
    }

    /// A term: some majority elects one of it, who appends entries, of which others get a part.
    fn play(&mut self, term: Term, dice: &mut Dice) {
        let count = self.logs.len();
        let leader = dice.below(count as u64) as usize;
        let knows_enough =
            |at: &usize| Self::place(&self.logs[*at]) <= Self::place(&self.logs[leader]);
        let mut electors: Vec<usize> = (0..count).filter(|at| *at != leader).collect();
        electors.retain(knows_enough);
        while electors.len() > count / 2 && dice.percent(60) {
            electors.remove(dice.below(electors.len() as u64) as usize);
        }
        if electors.len() < count / 2 {
            return;
        }
        electors.push(leader);
        for at in electors {
            self.hard_states[at] = HardState { term, voted_for: Some(id(leader as u64 + 1)) };
        }
        for number in 0..=dice.below(4) {
            let entry = self.entry(leader, term, number == 0, dice);
            self.logs[leader].push(entry);
        }
        let log = self.logs[leader].clone();
        let reach = dice.below(101);
        let mut reached = vec![0; count];
        reached[leader] = log.len();
        for at in (0..count).filter(|at| *at != leader) {
            if dice.percent(reach) {
                reached[at] = self.send(&log, at, term, dice);
            }
        }
        reached.sort_unstable();
        let everywhere = reached[count - 1 - count / 2];
        if everywhere > self.committed.len() && log[everywhere - 1].term == term {
            self.committed = log[..everywhere].to_vec();
        }
    }

    fn entry(&self, leader: usize, term: Term, opens: bool, dice: &mut Dice) -> Entry {
        let index = Index(self.logs[leader].len() as u64 + 1);
        let (kind, payload) = if opens {
            (EntryKind::Empty, Vec::new())
        } else if dice.percent(10) {
            let lease = [0, 0, 0, 100][dice.below(4) as usize] * MS;
            let changed = Configuration { lease, ..self.configuration.clone() };
            (EntryKind::Configuration, changed.encode())
        } else {
            (EntryKind::Normal, format!("{index} in {term}").into_bytes())
        };
        Entry { index, term, kind, payload: Payload::new(payload) }
    }

    /// Gives a follower some more of a leader's log; says how much of that it has then.
    fn send(&mut self, log: &[Entry], at: usize, term: Term, dice: &mut Dice) -> usize {
        let mine = &mut self.logs[at];
        let same = mine.iter().zip(log).take_while(|(one, other)| one.term == other.term).count();
        let more = 1 + dice.below(log.len() as u64 - same.min(log.len() - 1) as u64) as usize;
        let until = (same + more).min(log.len());
        if until > same {
            mine.truncate(same);
            mine.extend_from_slice(&log[same..until]);
        }
        if self.hard_states[at].term < term {
            self.hard_states[at] = HardState { term, voted_for: None };
        }
        until
    }

    /// Which entries of each log lose their payload: none that is whole nowhere else, unless nobody
    /// else ever had it.
    fn rot(&self, dice: &mut Dice) -> Vec<Vec<Index>> {
        let mut rotten: Vec<Vec<Index>> = vec![Vec::new(); self.logs.len()];
        let chance = [10, 30, 60][dice.below(3) as usize];
        let count = self.logs.len() as u64;
        // Where all are hurt, those who could repair others wait themselves.
        let only = dice.percent(50).then(|| dice.below(count) as usize);
        for at in (0..self.logs.len()).filter(|at| only.is_none_or(|only| only == *at)) {
            for entry in &self.logs[at] {
                let others = (0..self.logs.len()).filter(|other| *other != at);
                let holders: Vec<usize> =
                    others.filter(|&other| self.logs[other].contains(entry)).collect();
                let is_whole = |other: &usize| !rotten[*other].contains(&entry.index);
                let spared = holders.is_empty() || holders.iter().any(is_whole);
                let lone =
                    entry.index.0 > self.committed.len() as u64 && !holders.iter().all(is_whole);
                if spared && !lone && dice.percent(chance) {
                    rotten[at].push(entry.index);
                }
            }
        }
        rotten
    }

    /// What the group is founded with, and each change up to `index`.
    fn configuration_at(&self, index: u64) -> Configuration {
        let entries = self.committed.iter().take(index as usize).rev();
        let mut changes = entries.filter(|entry| entry.kind == EntryKind::Configuration);
        let change = changes.next();
        let decoded = change.and_then(|entry| Configuration::decode(entry.payload.bytes()));
        decoded.unwrap_or_else(|| self.configuration.clone())
    }

    /// Puts it on the disks of a group that is about to begin.
    fn begin(&self, cluster: &mut Cluster, dice: &mut Dice) {
        for entry in &self.committed {
            cluster.judge.applied(id(1), std::slice::from_ref(entry));
        }
        let mut rotten = self.rot(dice);
        for (at, log) in self.logs.iter().enumerate() {
            let known = log.iter().zip(&self.committed);
            let known = known.take_while(|(one, other)| one == other).count() as u64;
            let index = if known > 0 && dice.percent(40) { 1 + dice.below(known) } else { 0 };
            let (history, entries) = log.split_at(index as usize);
            let term = history.last().map_or(Term(0), |entry| entry.term);
            let configuration = self.configuration_at(index);
            let meta = SnapshotMeta { index: Index(index), term, configuration };
            rotten[at].retain(|hole| hole.0 > index);
            let disk = Disk {
                hard_state: self.hard_states[at],
                snapshot: meta.clone(),
                entries: entries.to_vec(),
                damaged: rotten[at].iter().copied().collect(),
            };
            let snapshot = Snapshot { meta, history: history.to_vec() };
            cluster.host_mut(id(at as u64 + 1)).begin_with(disk, snapshot);
        }
    }
}

impl World {
    /// Whoever leads is cut off, or dies, or hands over; or anybody; or all is as it was.
    fn shake(&mut self) {
        let ids = self.cluster.ids();
        let any = ids[self.dice.below(ids.len() as u64) as usize];
        let leader = self.cluster.leader().unwrap_or(any);
        if self.dice.percent(60) {
            // Who has lacked an entry gets it, and who lacks it now is another.
            self.starved.clone_from(&ids);
            self.starved.retain(|_| self.dice.percent(35));
        }
        match self.dice.below(16) {
            0 => self.shake_off(leader),
            1 => self.shake_off(any),
            2..=3 => {
                // Without a word from its leader for a while, another one is elected.
                let others: Vec<ReplicaId> = ids.into_iter().filter(|at| *at != leader).collect();
                for other in others {
                    self.cluster.step(other, Input::PeerGone(leader));
                }
            }
            4..=5 => self.isolate(leader),
            6 => self.isolate(any),
            7 => self.restart_all(),
            8..=9 => self.cluster.compact(any),
            10..=13 => self.hand_over_to_hurt(leader),
            _ => {
                self.cut.clear();
                self.restart_all();
            }
        }
    }

    /// Who lacks payloads is asked to lead.
    fn hand_over_to_hurt(&mut self, leader: ReplicaId) {
        let mut hurt = self.cluster.ids();
        hurt.retain(|&at| self.cluster.is_up(at) && self.cluster.raft(at).damaged() > 0);
        hurt.retain(|at| *at != leader);
        self.cut.clear();
        if !hurt.is_empty() && self.cluster.is_up(leader) {
            let to = hurt[self.dice.below(hurt.len() as u64) as usize];
            self.cluster.transfer(leader, to);
        }
    }

    /// Another one is asked to lead, mostly one that lacks payloads, while some can't be heard: who
    /// lacks an entry in one term, and says so or not, may get it in the next.
    fn change_seats(&mut self) {
        let mut up = self.cluster.ids();
        up.retain(|&at| self.cluster.is_up(at));
        let mut hurt = up.clone();
        hurt.retain(|&at| self.cluster.raft(at).damaged() > 0);
        let among = if hurt.is_empty() || self.dice.percent(40) { up.clone() } else { hurt };
        let to = among[self.dice.below(among.len() as u64) as usize];
        self.cut.clear();
        for other in up {
            if other != to && self.dice.percent(30) {
                self.isolate(other);
            }
        }
        // One with a lease would have given that up before it asked.
        let leased =
            |host: &Host| host.raft.as_ref().is_some_and(|raft| raft.configuration().lease > 0);
        let leased = self.cluster.hosts.values().any(leased);
        let leader = self.cluster.raft(to).leader().filter(|leader| *leader != to && !leased);
        if let Some(leader) = leader {
            let (term, body) = (self.cluster.raft(to).term(), Body::TimeoutNow);
            let message = Message { from: leader, to, term, body };
            self.cluster.step(to, Input::Message(message));
        }
        let lasts = (20 + self.dice.below(250)) * MS;
        self.run_until(self.cluster.now + lasts);
        self.use_it();
        if self.dice.percent(20) {
            self.cluster.compact(to);
        }
    }

    fn isolate(&mut self, at: ReplicaId) {
        for other in self.cluster.ids() {
            self.cut.extend([(at, other), (other, at)]);
        }
    }

    /// A replica dies, and may be back at once.
    fn shake_off(&mut self, at: ReplicaId) {
        let kept = self.dice.below(4) as usize;
        self.disks.retain(|disk| disk.0 != at);
        self.cluster.crash(at, kept);
        if self.dice.percent(50) {
            self.restart_all();
        }
    }
}

/// A group that begins hurt.
pub(super) fn run_hurt(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let configuration = voters([3, 4, 4, 5][dice.below(4) as usize]);
    let mut past = Past::new(configuration.clone());
    for term in 1..=2 + dice.below(5) {
        past.play(Term(term), &mut dice);
    }
    let max_trailing_bytes = dice.below(300) as usize;
    let mut cluster = Cluster::with(
        &configuration,
        |_| Recovered::default(),
        |id| Config { max_trailing_bytes, ..Config::new(id, seed) },
    );
    past.begin(&mut cluster, &mut dice);
    let chunk_bytes = 1 + dice.below(200);
    for host in cluster.hosts.values_mut() {
        host.transfers.chunking.chunk_bytes = chunk_bytes as u32;
    }
    let (delay_max, write_max) = ([2, 20][dice.below(2) as usize] * MS, (1 + dice.below(20)) * MS);
    let repair_loss_percent = [0, 70, 95, 99][dice.below(4) as usize];
    let calm = World::without_faults(cluster, dice);
    let mut world = World { delay_max, write_max, repair_loss_percent, ..calm };
    for at in world.cluster.ids() {
        world.begin_to_load(at);
    }
    let seats = if world.dice.percent(70) { SEATS } else { 0 };
    for _ in 0..seats {
        world.change_seats();
    }
    let troubles = if seats > 0 { 2 } else { TROUBLES };
    for _ in 0..troubles {
        let lasts = (20 + world.dice.below(600)) * MS;
        let end = Time(world.cluster.now.0 + lasts);
        while world.cluster.now < end {
            let pause = (1 + world.dice.below(120)) * MS;
            let pause = Time(world.cluster.now.0 + pause).min(end);
            world.run_until(pause);
            world.use_it();
        }
        world.shake();
        world.cluster.judge.check_logs(&world.cluster.hosts);
    }
    world.heal_and_check();
    world.cluster.judge.check_logs(&world.cluster.hosts);
    world
}
