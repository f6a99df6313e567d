//! Leaders that are cut off while clients read: what they still answer must be what is committed,
//! although others may lead by then and commit more. Clocks run as differently as a lease allows,
//! answers come late, links that break are noticed at once or not at all, and voters crash and come
//! back in between.

use flotilla_raft::{Input, ReplicaId, Time};

use super::host::Clock;
use super::world::{Dice, MS, World};
use super::{Cluster, id, voters};

/// By how much a clock may be too fast or too slow, of a thousand. A lease is an eighth shorter
/// than what was promised, so it is safe as long as two clocks differ by less than that.
const DRIFT: u64 = 60;
/// How many leaders are cut off in a run.
const ROUNDS: u64 = 5;
/// The time between two reads of a replica at most.
const READ_EVERY: u64 = 6 * MS;

impl World {
    /// Nothing passes between `at` and these, in one direction or both; perhaps all hear of it.
    fn sever(&mut self, at: ReplicaId, others: &[ReplicaId]) {
        let (one_way, is_told) = (self.dice.below(6), self.dice.percent(70));
        for &other in others {
            if one_way != 1 {
                self.cut.push((at, other));
            }
            if one_way != 2 {
                self.cut.push((other, at));
            }
            if is_told {
                self.cluster.step(other, Input::PeerGone(at));
                self.cluster.step(at, Input::PeerGone(other));
            }
        }
    }

    /// Everything passes again, and all hear of it.
    fn mend(&mut self) {
        self.slow.clear();
        for (one, other) in std::mem::take(&mut self.cut) {
            self.cluster.step(one, Input::PeerAlive(other));
            self.cluster.step(other, Input::PeerAlive(one));
        }
    }

    /// Some of these.
    fn some_of(&mut self, others: &[ReplicaId], percent: u64) -> Vec<ReplicaId> {
        others.iter().copied().filter(|_| self.dice.percent(percent)).collect()
    }

    /// Whoever leads reads all the time, and proposes at times; the others read if they do in this
    /// run.
    fn read_for(&mut self, lasts: u64) {
        let end = self.cluster.now + lasts;
        while self.cluster.now < end {
            let pause = 1 + self.dice.below(READ_EVERY);
            self.run_until(self.cluster.now + pause);
            self.deliver_kept();
            for at in self.cluster.ids() {
                let leads = self.cluster.is_up(at) && self.cluster.raft(at).is_leader();
                let chance = if leads { 60 } else { self.read_percent };
                if self.cluster.is_up(at) && self.dice.percent(chance) {
                    self.cluster.read(at);
                }
                if leads && self.dice.percent(self.write_percent) {
                    let text = format!("{}", self.cluster.now);
                    self.cluster.propose(at, &text);
                }
            }
        }
    }

    /// The process of a voter dies and is soon back; its links to those that it can reach are new.
    fn crash_and_return(&mut self, at: ReplicaId) {
        self.disks.retain(|disk| disk.0 != at);
        let kept = self.dice.below(4) as usize;
        self.cluster.crash(at, kept);
        let dark = self.dice.below(40) * MS;
        self.read_for(1 + dark);
        self.cluster.restart(at);
        for other in self.cluster.ids() {
            if other != at && !self.cut.contains(&(at, other)) {
                self.cluster.step(other, Input::PeerAlive(at));
                self.cluster.step(at, Input::PeerAlive(other));
            }
        }
    }

    /// The leader loses some of the others, or all: at once or one after the other, perhaps while
    /// it hands over or members change, or while answers are under way that were given long ago.
    fn cut_leader_off(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        let mut others = self.cluster.ids();
        others.retain(|other| *other != leader && self.cluster.is_up(*other));
        if others.is_empty() {
            return;
        }
        if self.dice.percent(60) {
            let late = (20 + self.dice.below(230)) * MS;
            let slow = self.some_of(&others, 80).into_iter().map(|other| ((other, leader), late));
            self.slow = slow.collect();
            let lasts = self.dice.below(500) * MS;
            self.read_for(lasts);
        }
        if self.dice.percent(30) {
            self.change();
        }
        if self.dice.percent(20) {
            let to = others[self.dice.below(others.len() as u64) as usize];
            self.cluster.transfer(leader, to);
        }
        if self.dice.percent(50) {
            let first = self.some_of(&others, 50);
            self.sever(leader, &first);
            let lasts = self.dice.below(700) * MS;
            self.read_for(lasts);
        }
        let lost = [100, 100, 70, 50][self.dice.below(4) as usize];
        let lost = self.some_of(&others, lost);
        self.sever(leader, &lost);
        if self.dice.percent(50) {
            let at = others[self.dice.below(others.len() as u64) as usize];
            self.crash_and_return(at);
        }
        let lasts = (200 + self.dice.below(500)) * MS;
        self.read_for(lasts);
        self.mend();
    }
}

/// Leaders are cut off, one after the other.
pub(super) fn run_cut_off(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let mut configuration = voters([3, 3, 5][dice.below(3) as usize]);
    if dice.percent(30) {
        configuration.learners = vec![id(8)];
    }
    configuration.lease = [0, 100, 200, 250][dice.below(4) as usize] * MS;
    let mut cluster = Cluster::new(&configuration, seed);
    for host in cluster.hosts.values_mut() {
        let per_mille = 1_000 - DRIFT + dice.below(2 * DRIFT + 1);
        let offset = dice.below(1_000 * MS);
        host.set_clock(Clock { per_mille, offset }, Time(0));
    }
    let (delay_max, write_max) = ((1 + dice.below(5)) * MS, (1 + dice.below(5)) * MS);
    // As long as a follower waits for a round, its leader reads nothing by its lease.
    let read_percent = [0, 0, 60][dice.below(3) as usize];
    let kept_percent = [0, 30][dice.below(2) as usize];
    let calm = World::without_faults(cluster, dice);
    let mut world = World { delay_max, write_max, read_percent, kept_percent, ..calm };
    for _ in 0..ROUNDS {
        let calm = (600 + world.dice.below(400)) * MS;
        world.run_until(world.cluster.now + calm);
        // Without proposals also who was cut off first keeps a log that others vote for.
        world.write_percent = [0, 30][world.dice.below(2) as usize];
        let used = world.dice.below(200) * MS;
        world.read_for(used);
        world.cut_leader_off();
        world.cluster.judge.check_logs(&world.cluster.hosts);
    }
    world.heal_and_check();
    world
}
