//! Whole groups under faults, one seed a run: loss, delay, reordering, repetition, partitions, slow
//! disks, crashes that lose open writes, compaction, snapshots of which pieces get lost, rot of
//! payloads, states that can't be read. While the run lasts the judge checks safety; then all
//! faults end, and the group must come to life.

use flotilla_raft::{
    Config, Configuration, Entry, EntryKind, Index, Input, Message, Raft, Recovered, ReplicaId,
    SnapshotMeta, Time,
};

use super::host::{Clock, Disk, Host};
use super::{Cluster, Parcel, id};

/// xorshift64*: a run is a function of its seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(super) dice: Dice,
    /// What is under way, with the time of its arrival.
    pub(super) network: Vec<(Time, Parcel)>,
    /// When the oldest open write of each replica ends.
    pub(super) disks: Vec<(ReplicaId, Time)>,
    /// Pairs that can't hear each other, in this direction.
    pub(super) cut: Vec<(ReplicaId, ReplicaId)>,
    /// Pairs between which messages take up to so long, in this direction.
    pub(super) slow: Vec<((ReplicaId, ReplicaId), u64)>,
    pub(super) loss_percent: u64,
    pub(super) repeat_percent: u64,
    /// How likely a message is kept for much later.
    pub(super) kept_percent: u64,
    /// Messages that were kept: each arrives once more, perhaps terms later.
    pub(super) kept: Vec<Message>,
    pub(super) delay_max: u64,
    pub(super) write_max: u64,
    /// How likely a load ends at the next event.
    pub(super) load_percent: u64,
    /// How likely what was applied is reported at the next event.
    pub(super) report_percent: u64,
    /// How likely who does not lead is asked to read, where only some are.
    pub(super) read_percent: u64,
    /// How likely who leads proposes, there.
    pub(super) write_percent: u64,
    /// Every message and every write takes the longest time that it may.
    pub(super) even: bool,
    /// Who was asked to become a member and will never be there.
    pub(super) ghosts: Vec<ReplicaId>,
}

pub(super) const MS: u64 = 1000;
/// So many messages are kept at a time.
const KEPT_MAX: usize = 24;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let mut configuration =
            Configuration::of_voters((1..=[1, 2, 3, 3, 3, 5, 5][dice.below(7) as usize]).map(id));
        if dice.percent(20) {
            configuration.learners = vec![id(8)];
        }
        if dice.percent(20) {
            // A joint configuration that overlaps only in part.
            configuration.outgoing = [1, 6, 7].map(id).to_vec();
        }
        let (messages, bytes, trailing) =
            (1 + dice.below(4), 40 + dice.below(400), dice.below(300));
        let window = [0, 200, 1000, u64::MAX][dice.below(4) as usize];
        let config = |id| Config {
            max_inflight_messages: messages as usize,
            max_message_bytes: bytes as usize,
            max_inflight_bytes: 3 * bytes as usize,
            max_uncommitted_bytes: 2000,
            max_undurable_bytes: 1500,
            max_trailing_bytes: trailing as usize,
            max_window_bytes: window as usize,
            campaign_at_start: id == ReplicaId(1),
            ..Config::new(id, seed)
        };
        let held = [0, 500, 5000][dice.below(3) as usize];
        let config = |id| Config { max_held_bytes: held, ..config(id) };
        if dice.percent(30) {
            configuration.lease = 200 * MS;
        }
        let chunk_bytes = if dice.percent(70) { 1 + dice.below(200) } else { 0 };
        let mut cluster = Cluster::with(&configuration, |_| Recovered::default(), config);
        for host in cluster.hosts.values_mut() {
            let (per_mille, offset) = (950 + dice.below(101), dice.below(1000 * MS));
            host.set_clock(Clock { per_mille, offset }, Time(0));
            host.transfers.chunking.chunk_bytes = chunk_bytes as u32;
        }
        let (loss_percent, repeat_percent) =
            ([0, 2, 10, 30][dice.below(4) as usize], dice.below(10));
        let delay_max = [2, 20, 200][dice.below(3) as usize] * MS;
        let write_max = [1, 10, 150, 500][dice.below(4) as usize] * MS;
        let report_percent = [100, 100, 30, 3][dice.below(4) as usize];
        let kept_percent = [0, 0, 20, 60][dice.below(4) as usize];
        Self {
            loss_percent,
            repeat_percent,
            kept_percent,
            delay_max,
            write_max,
            load_percent: 30,
            report_percent,
            ..Self::without_faults(cluster, dice)
        }
    }

    /// A world in which nothing goes wrong by itself.
    pub(super) fn without_faults(cluster: Cluster, dice: Dice) -> Self {
        Self {
            cluster,
            dice,
            network: Vec::new(),
            disks: Vec::new(),
            cut: Vec::new(),
            slow: Vec::new(),
            loss_percent: 0,
            repeat_percent: 0,
            kept_percent: 0,
            kept: Vec::new(),
            delay_max: 2 * MS,
            write_max: MS,
            load_percent: 100,
            report_percent: 100,
            read_percent: 100,
            write_percent: 100,
            even: false,
            ghosts: Vec::new(),
        }
    }

    /// Goes on to the next thing that happens, at most until `end`.
    fn advance(&mut self, end: Time) {
        self.collect();
        let ids = self.cluster.ids();
        let timer = ids.iter().map(|&id| (self.cluster.host(id).deadline(), id)).min();
        let arrival = (0..self.network.len()).min_by_key(|&at| (self.network[at].0, at));
        let arrival = arrival.map(|at| (self.network[at].0, at));
        let disk = (0..self.disks.len()).min_by_key(|&at| self.disks[at].1);
        let disk = disk.map(|at| (self.disks[at].1, at));
        let sender = ids.iter().map(|&id| (self.cluster.host(id).transfers.deadline(), id)).min();
        let next = [timer, sender].map(|timer| timer.map(|timer| timer.0));
        let next = [next[0], next[1], arrival.map(|a| a.0), disk.map(|d| d.0)];
        let next = next.into_iter().flatten().min().unwrap_or(end).min(end);
        self.cluster.now = self.cluster.now.max(next);
        if next >= end {
            return;
        }
        if let Some((at, place)) = arrival.filter(|a| a.0 == next) {
            let (_, parcel) = self.network.remove(place);
            debug_assert!(at == next);
            self.cluster.deliver(parcel);
        } else if let Some((_, place)) = disk.filter(|d| d.0 == next) {
            let (id, _) = self.disks.remove(place);
            if !self.even && self.dice.percent(20) {
                self.cluster.finish_writes(id);
            } else {
                self.cluster.finish_write(id);
            }
        } else if let Some((_, id)) = sender.filter(|sender| sender.0 <= next) {
            self.cluster.pump(id);
        } else if let Some((_, id)) = timer {
            self.cluster.step(id, Input::Wake);
        }
    }

    /// Takes what was sent and asked for, and decides its fate.
    fn collect(&mut self) {
        for parcel in std::mem::take(&mut self.cluster.sent) {
            if let Parcel::Message(message) = &parcel {
                self.keep(message);
            }
            let (from, to) = parcel.ends();
            let lost = self.cut.contains(&(from, to)) || self.dice.percent(self.loss_percent);
            let now = self.cluster.now;
            let slow = self.slow.iter().find(|(ends, _)| *ends == (from, to));
            let delay = self.up_to(slow.map_or(self.delay_max, |(_, most)| *most));
            match parcel {
                Parcel::Snapshot { from, to, .. } if lost => {
                    let report = Parcel::SnapshotReport { from: to, to: from, delivered: None };
                    self.network.push((now + delay, report));
                }
                // The sender's own host always learns what became of its transfer.
                Parcel::SnapshotReport { .. } => self.network.push((now + delay, parcel)),
                _ if lost => {}
                Parcel::Message(_) | Parcel::Snapshot { .. } | Parcel::Chunk { .. }
                    if self.dice.percent(self.repeat_percent) =>
                {
                    let again = now + delay + 5 * self.dice.below(self.delay_max);
                    self.network.push((again, parcel.clone()));
                    self.network.push((now + delay, parcel));
                }
                _ => self.network.push((now + delay, parcel)),
            }
        }
        for id in self.cluster.ids() {
            let busy = self.disks.iter().any(|disk| disk.0 == id);
            let host = self.cluster.host(id);
            if host.has_open_write() && !host.disk_hangs && !busy {
                let end = self.cluster.now + self.up_to(self.write_max);
                self.disks.push((id, end));
            }
            let late = !self.dice.percent(self.report_percent);
            self.cluster.host_mut(id).holds_applying = late;
            self.cluster.report_applied(id);
            if !self.cluster.host(id).loads.is_empty() && self.dice.percent(self.load_percent) {
                let fails = self.dice.percent(self.loss_percent);
                self.cluster.finish_load(id, fails);
            }
        }
    }

    /// Keeps a copy of some messages, in the place of earlier ones when there are many.
    fn keep(&mut self, message: &Message) {
        if self.kept_percent == 0 || !self.dice.percent(self.kept_percent) {
            return;
        }
        if self.kept.len() < KEPT_MAX {
            self.kept.push(message.clone());
        } else {
            let place = self.dice.below(KEPT_MAX as u64) as usize;
            self.kept[place] = message.clone();
        }
    }

    /// Some of what was said in earlier terms arrives now, most of it where somebody leads again:
    /// no delay is too long for a network.
    pub(super) fn deliver_kept(&mut self) {
        for _ in 0..self.kept.len().min(3) {
            let place = self.dice.below(self.kept.len() as u64) as usize;
            let Message { to, term, .. } = self.kept[place];
            let raft = self.cluster.hosts.get(&to).and_then(|host| host.raft.as_ref());
            let is_past = raft.is_some_and(|raft| raft.term() > term);
            let leads = raft.is_some_and(Raft::is_leader);
            if is_past && (leads || self.dice.percent(20)) {
                let message = self.kept.swap_remove(place);
                let delay = self.up_to(self.delay_max);
                self.network.push((self.cluster.now + delay, Parcel::Message(message)));
            }
        }
    }

    /// How long something takes that may take so long.
    fn up_to(&mut self, most: u64) -> u64 {
        if self.even { most } else { 1 + self.dice.below(most) }
    }

    pub(super) fn run_until(&mut self, end: Time) {
        while self.cluster.now < end {
            self.advance(end);
        }
    }

    fn pick(&mut self) -> ReplicaId {
        let ids = self.cluster.ids();
        ids[self.dice.below(ids.len() as u64) as usize]
    }

    pub(super) fn disturb(&mut self) {
        let id = self.pick();
        match self.dice.below(21) {
            0..=1 => {
                let kept = self.dice.below(4) as usize;
                self.disks.retain(|disk| disk.0 != id);
                self.cluster.crash(id, kept);
            }
            2..=5 => self.restart_all(),
            6 => {
                let other = self.pick();
                self.cut.push((id, other));
                if self.dice.percent(60) {
                    self.cut.push((other, id));
                }
            }
            7 => {
                for other in self.cluster.ids() {
                    self.cut.extend([(id, other), (other, id)]);
                }
            }
            8 => self.split(),
            9..=10 => self.cut.clear(),
            11 => self.cluster.compact(id),
            12 => {
                let other = self.pick();
                self.cluster.step(id, Input::PeerGone(other));
            }
            13 => {
                let other = self.pick();
                self.cluster.step(id, Input::PeerAlive(other));
            }
            14 if self.cluster.is_up(id) && self.cluster.raft(id).is_leader() => {
                let (term, to) = (self.cluster.raft(id).term(), self.pick());
                // One with a lease would have given that up before it asked.
                if self.cluster.raft(id).configuration().lease == 0 {
                    let body = flotilla_raft::Body::TimeoutNow;
                    let message = Message { from: id, to, term, body };
                    self.cluster.step(to, Input::Message(message));
                }
            }
            15..=17 => self.change(),
            18 => {
                if let Some(leader) = self.cluster.leader() {
                    let lease = [0, 100, 200][self.dice.below(3) as usize] * MS;
                    self.cluster.set_lease(leader, lease);
                }
            }
            19 => {
                if let Some(leader) = self.cluster.leader() {
                    self.cluster.transfer(leader, id);
                }
            }
            _ => {}
        }
    }

    /// Asks for other voters and learners: some of those who are, some who are new.
    pub(super) fn change(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        let mut candidates = self.cluster.raft(leader).configuration().members();
        for _ in 0..self.dice.below(3) {
            let highest = self.cluster.ids().into_iter().max().expect("a group has replicas");
            if highest.0 < 16 {
                let newcomer = id(highest.0 + 1);
                self.cluster.join(newcomer);
                candidates.push(newcomer);
                if self.dice.percent(10) {
                    self.cluster.crash(newcomer, 0);
                    self.ghosts.push(newcomer);
                }
            }
        }
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for id in candidates {
            match self.dice.below(8) {
                0 => {}
                1 => learners.push(id),
                _ => voters.push(id),
            }
        }
        let current = self.cluster.raft(leader).configuration().voters.clone();
        self.cluster.change(leader, &voters, &learners);
        // Who is about to lose its vote is asked to take over, and perhaps does not hear it.
        let leaves = |id: &ReplicaId| *id != leader && !voters.contains(id);
        if let Some(to) = current.into_iter().find(leaves).filter(|_| self.dice.percent(30)) {
            self.cluster.transfer(leader, to);
            if self.dice.percent(50) {
                self.disks.retain(|disk| disk.0 != to);
                self.cluster.crash(to, 0);
            }
        }
    }

    /// Two halves that can't hear each other.
    fn split(&mut self) {
        let sides = self.dice.below(1 << 17);
        for (one, other) in self.pairs() {
            if (sides >> one.0) & 1 != (sides >> other.0) & 1 {
                self.cut.push((one, other));
            }
        }
    }

    /// Some payloads of a replica that is down rot, but none that nobody else has, as far as it is
    /// committed; and of the others none that rotted elsewhere too, since nobody could tell then.
    fn rot(&mut self, id: ReplicaId) {
        if self.cluster.is_up(id) || self.dice.percent(50) {
            return;
        }
        let disk = self.cluster.host(id).disk.clone();
        let lacks = |host: &Host| host.raft.as_ref().is_some_and(Raft::lacks_state);
        if self.cluster.hosts.values().any(lacks) {
            return;
        }
        for entry in &disk.entries {
            if self.dice.percent(30) && self.may_rot(id, entry) {
                let host = self.cluster.host_mut(id);
                host.disk.damage(entry.index);
                host.asked.damage(entry.index);
            }
        }
    }

    fn may_rot(&self, id: ReplicaId, entry: &Entry) -> bool {
        let Entry { index, term, .. } = *entry;
        let mut others = self.cluster.hosts.values().filter(|host| host.id() != id);
        if index <= self.cluster.judge.known_committed() {
            let members = self.cluster.judge.members();
            return others
                .any(|host| members.contains(&host.id()) && host.disk.has_whole(index, term));
        }
        let rotted =
            |disk: &Disk| disk.term_at(index) == Some(term) && !disk.has_whole(index, term);
        self.voters_seen_by(id) > 1 && !others.any(|host| rotted(&host.disk))
    }

    fn voters_seen_by(&self, id: ReplicaId) -> usize {
        let disk = &self.cluster.host(id).disk;
        let mut least = disk.snapshot.configuration.voters.len();
        for entry in disk.entries.iter().filter(|e| e.kind == EntryKind::Configuration) {
            let known = Configuration::decode(entry.payload.bytes()).expect("it was readable");
            least = least.min(known.voters.len());
        }
        least
    }

    pub(super) fn pairs(&self) -> Vec<(ReplicaId, ReplicaId)> {
        let ids = self.cluster.ids();
        ids.iter().flat_map(|&one| ids.iter().map(move |&other| (one, other))).collect()
    }

    pub(super) fn restart_all(&mut self) {
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) && !self.ghosts.contains(&id) {
                self.rot(id);
                self.cluster.host_mut(id).keeps_notes = self.dice.percent(50);
                self.cluster.restart(id);
                self.lose_state(id);
            }
        }
    }

    /// Now and then a snapshot can't be read; another member has the state, and all payloads.
    fn lose_state(&mut self, id: ReplicaId) {
        let members = self.cluster.judge.members();
        let &SnapshotMeta { index, term, .. } = &self.cluster.host(id).disk.snapshot;
        let others = self.cluster.hosts.values().filter(|host| host.id() != id);
        let mut spared = false;
        for host in others {
            let has = host.raft.as_ref().is_none_or(|raft| !raft.lacks_state());
            if !has || host.disk.has_damage() {
                return;
            }
            spared |= members.contains(&host.id()) && host.disk.has_whole(index, term);
        }
        if index > Index(0) && spared && self.dice.percent(60) {
            self.cluster.step(id, Input::StateLost);
            self.cluster.judge.states_lost += 1;
        }
    }

    /// What could not be read now and then can be later.
    fn find_state(&mut self, id: ReplicaId) {
        if self.cluster.raft(id).lacks_state() && self.dice.percent(5) {
            self.cluster.step(id, Input::StateFound);
            self.cluster.judge.states_found += 1;
        }
    }

    pub(super) fn use_it(&mut self) {
        let up: Vec<_> = self.cluster.ids();
        for id in up {
            if self.cluster.is_up(id) {
                self.find_state(id);
            }
            if self.cluster.is_up(id) && self.dice.percent(20) {
                self.cluster.read(id);
            }
            if !self.cluster.is_up(id) || !self.cluster.raft(id).is_leader() {
                continue;
            }
            if self.dice.percent(70) {
                let text = format!("{}", self.cluster.now);
                if self.dice.percent(80) {
                    self.cluster.propose(id, &text);
                } else {
                    let batch: Vec<String> =
                        (0..self.dice.below(5)).map(|n| format!("{text}, {n}")).collect();
                    self.cluster.propose_batch(id, &batch);
                }
            }
            if self.dice.percent(70) {
                self.cluster.read(id);
            }
        }
    }
}
