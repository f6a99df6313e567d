//! Groups that become smaller while clients read, down to one voter: those who go do not answer any
//! more what they were asked while they still counted, so whoever stays must not wait for it.

use flotilla_raft::ReplicaId;

use super::world::{Dice, MS, World};
use super::{Cluster, id, voters};

/// How often a group becomes smaller, and then larger again.
const ROUNDS: u64 = 4;
/// The time between two reads of a leader at most.
const READ_EVERY: u64 = 4 * MS;

impl World {
    /// Whoever leads is asked to read all the time, and to write at times.
    fn ask_for(&mut self, lasts: u64) {
        let end = self.cluster.now + lasts;
        while self.cluster.now < end {
            let pause = 1 + self.dice.below(READ_EVERY);
            self.run_until(self.cluster.now + pause);
            let Some(leader) = self.cluster.leader() else { continue };
            self.cluster.read(leader);
            if self.dice.percent(self.write_percent) {
                let text = format!("{}", self.cluster.now);
                self.cluster.propose(leader, &text);
            }
        }
    }

    /// Most of those who vote are to go, or to learn; meanwhile some of them crash or can't be
    /// heard.
    fn shrink(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        let mut others = self.cluster.raft(leader).configuration().members();
        others.retain(|other| *other != leader);
        let (mut stay, mut learn) = (vec![leader], Vec::new());
        let chances = [(0, 0), (0, 30), (30, 30)][self.dice.below(3) as usize];
        for &other in &others {
            if self.dice.percent(chances.0) {
                stay.push(other);
            } else if self.dice.percent(chances.1) {
                learn.push(other);
            }
        }
        self.cluster.change(leader, &stay, &learn);
        let lasts = self.dice.below(6 * self.write_max + 6 * self.delay_max);
        self.ask_for(lasts);
        for other in others {
            if !stay.contains(&other) {
                self.lose(other);
            }
        }
        let lasts = 600 * MS + self.dice.below(600 * MS);
        self.ask_for(lasts);
    }

    /// A replica crashes, or nothing that it says arrives, or it goes on.
    fn lose(&mut self, at: ReplicaId) {
        match self.dice.below(3) {
            0 if self.cluster.is_up(at) => {
                self.disks.retain(|disk| disk.0 != at);
                let kept = self.dice.below(4) as usize;
                self.cluster.crash(at, kept);
            }
            1 => {
                let others = self.cluster.ids().into_iter().filter(|other| *other != at);
                self.cut.extend(others.map(|other| (at, other)));
            }
            _ => {}
        }
    }

    /// Whoever leads serves what it is asked now.
    fn check_reads(&mut self) {
        self.cut.clear();
        self.restart_all();
        self.run_until(self.cluster.now + 4_000 * MS);
        let leader = self.cluster.leader().expect("a group that is whole has a leader");
        let read = self.cluster.read(leader);
        self.run_until(self.cluster.now + 200 * MS + 4 * (self.delay_max + self.write_max));
        let served = self.cluster.judge.served.contains_key(&read);
        assert!(
            served || !self.cluster.raft(leader).is_leader(),
            "a leader serves what it is asked"
        );
    }

    /// Others take the places of those who went.
    fn grow(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        let mut voters = self.cluster.raft(leader).configuration().voters.clone();
        let highest = self.cluster.ids().into_iter().max().expect("a group has replicas");
        for number in 1..=1 + self.dice.below(2) {
            self.cluster.join(id(highest.0 + number));
            voters.push(id(highest.0 + number));
        }
        self.cluster.change(leader, &voters, &[]);
        let lasts = self.dice.below(400 * MS);
        self.ask_for(lasts);
    }
}

/// A group becomes smaller and larger, again and again.
pub(super) fn run_shrunk(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let cluster = Cluster::new(&voters([2, 3, 3, 5][dice.below(4) as usize]), seed);
    let delay_max = [2, 10, 40][dice.below(3) as usize] * MS;
    let write_max = [1, 10, 40][dice.below(3) as usize] * MS;
    let write_percent = [0, 10, 50][dice.below(3) as usize];
    let calm = World::without_faults(cluster, dice);
    let mut world = World { delay_max, write_max, write_percent, ..calm };
    world.run_until(world.cluster.now + 3_000 * MS);
    for _ in 0..ROUNDS {
        world.shrink();
        world.check_reads();
        world.grow();
        world.cluster.judge.check_logs(&world.cluster.hosts);
    }
    world.heal_and_check();
    world
}
