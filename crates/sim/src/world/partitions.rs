//! What goes wrong between machines: partitions of every shape, and single links.

use flotilla_raft::Term;
use flotilla_shard::META;

use super::faults::DARK_MIN;
use super::{Happening, World};
use crate::fault::Fault;
use crate::network::{Connection, Party, Spoil};
use crate::queue::Micros;
use crate::random::Random;

impl World {
    pub(super) fn trouble_cluster(
        &mut self,
        fault: Fault,
        any: usize,
        random: &mut Random,
    ) -> bool {
        let nodes = self.machines.len();
        if nodes < 2 {
            return false;
        }
        let leader = self.leader(random);
        match fault {
            Fault::Halves => {
                let side: Vec<bool> = (0..nodes).map(|_| random.chance(50)).collect();
                self.partition(random, |from, to| side[from] != side[to])
            }
            Fault::Isolate => self.partition(random, |from, to| from == any || to == any),
            Fault::IsolateLeader => match leader {
                Some(at) => self.partition(random, |from, to| from == at || to == at),
                None => false,
            },
            Fault::PairOff => match leader {
                Some(at) if nodes > 2 => {
                    let other = (at + 1 + random.position(nodes - 1)) % nodes;
                    let within = |node: usize| node == at || node == other;
                    self.partition(random, |from, to| within(from) != within(to))
                }
                _ => false,
            },
            Fault::Bridge => {
                let side: Vec<bool> = (0..nodes).map(|at| (at + any).is_multiple_of(2)).collect();
                self.partition(random, |from, to| {
                    from != any && to != any && side[from] != side[to]
                })
            }
            Fault::Ring => self.partition(random, |from, to| {
                let apart = from.abs_diff(to);
                apart != 1 && apart != nodes - 1
            }),
            Fault::OneWay => {
                let other = random.position(nodes);
                let (all, hears) = (random.chance(50), random.chance(50));
                self.partition(random, |from, to| {
                    let (near, far) = if hears { (from, to) } else { (to, from) };
                    near == any && (all || far == other)
                })
            }
            _ => {
                let at = leader.filter(|_| random.chance(50)).unwrap_or(any);
                let times = random.between(3, 10);
                let every = random.between(20_000, 300_000);
                self.flap(at, times, every);
                true
            }
        }
    }

    /// A node and the leader of meta, which has just heard it, are cut off from the rest.
    pub(super) fn pair_off(&mut self, at: usize, lasts: Micros) {
        let Some(leader) = self.leads(META, Term(0)).filter(|leader| *leader != at) else { return };
        if !self.troubled || self.is_calm() {
            return;
        }
        self.tell(|| format!("only node {} hears node {}", leader + 1, at + 1));
        self.keep_together(&[&[at, leader]]);
        let partition = self.partition;
        self.after(lasts, Happening::Heal { partition });
    }

    /// A node is cut off for a moment and comes back, and again.
    pub(crate) fn flap(&mut self, at: usize, times: u64, every: u64) {
        if times == 0 || !self.troubled || self.is_calm() {
            return;
        }
        let nodes = self.machines.len();
        let isolated = !times.is_multiple_of(2);
        self.network.cut.clear();
        for other in (0..nodes).filter(|&other| other != at && isolated) {
            self.network.cut.insert((at, other));
            self.network.cut.insert((other, at));
        }
        self.partition += 1;
        let partition = self.partition;
        self.after(every, Happening::Heal { partition });
        self.after(every, Happening::Flap { at, times: times - 1, every });
        self.release();
    }

    /// No byte passes where `cut` says so, until it is over; now and then what is open breaks.
    fn partition(&mut self, random: &mut Random, cut: impl Fn(usize, usize) -> bool) -> bool {
        let nodes = self.machines.len();
        self.network.cut.clear();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from && cut(from, to)) {
                self.network.cut.insert((from, to));
            }
        }
        let cuts = self.network.cut.clone();
        self.tell(|| format!("cut: {cuts:?}"));
        if random.chance(30) {
            let crossing = self.network.select(|connection| {
                machines_of(connection).is_some_and(|(from, to)| {
                    cuts.contains(&(from, to)) || cuts.contains(&(to, from))
                })
            });
            for id in crossing {
                self.break_connection(id, random);
            }
        }
        self.partition += 1;
        let partition = self.partition;
        let lasts = self.lasting_by(random);
        self.after(lasts, Happening::Heal { partition });
        self.release();
        !cuts.is_empty()
    }

    pub(crate) fn heal_partition(&mut self, partition: u64) {
        if self.partition == partition {
            self.tell(|| "the partition is over".to_string());
            self.network.cut.clear();
            self.release();
        }
    }

    pub(super) fn reset(&mut self, between_nodes: bool, random: &mut Random) -> bool {
        let wanted =
            self.network.select(|connection| machines_of(connection).is_some() == between_nodes);
        if wanted.is_empty() {
            return false;
        }
        let id = *random.pick(&wanted);
        self.break_connection(id, random);
        true
    }

    /// Both sides learn that a connection is broken; what was under way is lost from some point on.
    fn break_connection(&mut self, id: u64, random: &mut Random) {
        for side in [0, 1] {
            let under_way = self.network.under_way(id, side) as u64;
            let kept = random.between(0, under_way) as usize;
            self.network.lose(id, side, kept);
            self.disown(id, side);
        }
    }

    pub(super) fn trouble_link(&mut self, fault: Fault, at: usize, random: &mut Random) -> bool {
        let nodes = self.machines.len();
        if nodes < 2 {
            return false;
        }
        let other = (at + 1 + random.position(nodes - 1)) % nodes;
        let lasts = self.lasting_by(random).max(DARK_MIN);
        let both = random.chance(60);
        let (slow, loss) = (random.between(10, 200), random.between(5, 40));
        for (from, to) in [(at, other), (other, at)].into_iter().take(1 + usize::from(both)) {
            match fault {
                Fault::Clog => {
                    self.network.clogged.insert((from, to));
                }
                Fault::SlowLink => {
                    self.network.slow.insert((from, to), slow);
                }
                _ => {
                    self.network.lossy.insert((from, to), loss);
                }
            }
            self.after(lasts, Happening::LinkRecovers { from, to });
        }
        // A lost packet counts when it is lost.
        fault != Fault::PacketLoss
    }

    /// A link is as good as usual.
    pub(crate) fn link_recovers(&mut self, from: usize, to: usize) {
        self.network.slow.remove(&(from, to));
        self.network.lossy.remove(&(from, to));
        if self.network.clogged.remove(&(from, to)) {
            self.release();
        }
    }

    /// Something becomes of the next message on a link; it counts then.
    pub(super) fn spoil_next(&mut self, at: usize, spoil: Spoil, random: &mut Random) -> bool {
        let nodes = self.machines.len();
        if nodes > 1 {
            let other = (at + 1 + random.position(nodes - 1)) % nodes;
            self.network.spoils.insert((at, other), spoil);
        }
        false
    }
}

fn machines_of(connection: &Connection) -> Option<(usize, usize)> {
    match connection.parties {
        [Party::Node { at: from, .. }, Party::Node { at: to, .. }] => Some((from, to)),
        _ => None,
    }
}
