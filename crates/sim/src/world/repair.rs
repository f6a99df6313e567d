//! The end of troubles: of all of them, or first of those of a quorum.

use super::{Happening, World};
use crate::machine::DiskTrouble;
use crate::random::Random;

impl World {
    /// Everything is repaired and stays well.
    pub(crate) fn end_troubles(&mut self) {
        self.tell(|| "all is repaired".to_string());
        self.dead.clear();
        self.repair();
        for at in self.outcasts() {
            self.reset_ghosts(at);
        }
    }

    /// A random quorum of every shard is repaired, whose members together hold every committed
    /// payload; the rest is dead, or can't hear, or can't speak, from now on. Gives who is left
    /// out; nobody if no quorum can do without anybody.
    pub(crate) fn leave_out(&mut self, word: u64) -> Vec<usize> {
        let mut random = Random::new(word);
        let founded = self.machines.iter().all(|machine| machine.founded);
        let mut candidates: Vec<usize> = (0..self.machines.len()).collect();
        let mut out: Vec<usize> = self.outcasts();
        let leader = self.leader(&mut random).filter(|_| random.chance(60));
        let mut left_out = Vec::new();
        while !candidates.is_empty() && founded {
            let place = match leader.and_then(|at| candidates.iter().position(|one| *one == at)) {
                Some(place) => place,
                None => random.position(candidates.len()),
            };
            let at = candidates.swap_remove(place);
            let mut without = out.clone();
            without.push(at);
            if !out.contains(&at) && self.can_do_without(&without) {
                out = without;
                left_out.push(at);
            }
        }
        if left_out.is_empty() {
            return left_out;
        }
        self.repair();
        let how = random.below(4);
        self.cut_off(&left_out, how);
        self.counters.quorums_alone += 1;
        let names: Vec<usize> = left_out.iter().map(|at| at + 1).collect();
        self.tell(|| format!("all but nodes {names:?} is repaired, way {how}"));
        left_out
    }

    /// The machines that will never run again, or must not.
    pub(crate) fn outcasts(&self) -> Vec<usize> {
        let gone = |at: &usize| {
            let machine = &self.machines[*at];
            machine.refused.is_some() || (machine.spoiled && !machine.serves())
        };
        (0..self.machines.len()).filter(gone).collect()
    }

    /// Whether the rest is a quorum of every shard and holds all that is committed.
    fn can_do_without(&self, out: &[usize]) -> bool {
        // Who was spoiled counts for nothing before it is whole again.
        let hurt = |node: usize| {
            let machine = &self.machines[node];
            machine.unsettled || (machine.spoiled && !self.is_whole(node))
        };
        let stays = |node: usize| !out.contains(&node) && !hurt(node);
        let layout = &self.config.layout;
        self.has_quorums(stays)
            && layout.shard_ids().all(|shard| {
                let replicas = layout.replicas(shard).iter();
                let nodes: Vec<usize> = replicas
                    .map(|node| super::damage::position(*node))
                    .filter(|&node| stays(node))
                    .collect();
                self.checkers.hold_all(shard, &nodes)
            })
    }

    fn cut_off(&mut self, out: &[usize], how: u64) {
        let nodes = self.machines.len();
        for &at in out {
            if how == 0 {
                self.dead.insert(at);
                self.power_goes(at);
            }
            for other in (0..nodes).filter(|other| *other != at) {
                if how == 1 || how == 2 {
                    self.network.cut.insert((other, at));
                }
                if how == 1 || how == 3 {
                    self.network.cut.insert((at, other));
                }
            }
        }
    }

    /// Everything passes between all nodes, and as quickly as usual.
    pub(crate) fn clear_network(&mut self) {
        // What would end an earlier partition ends nothing any more.
        self.partition += 1;
        self.figure_8 = None;
        self.network.cut.clear();
        self.network.clogged.clear();
        self.network.slow.clear();
        self.network.lossy.clear();
        self.network.spoils.clear();
        for (id, side, bytes) in self.network.take_all_held() {
            self.send(id, side, bytes);
        }
        self.network.hurry(self.now + self.config.latency);
        self.release();
    }

    fn repair(&mut self) {
        self.troubled = false;
        self.clear_network();
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            if machine.disk_trouble == Some(DiskTrouble::Hangs) {
                // What hangs is switched off and on.
                self.power_goes(at);
            }
            let machine = &mut self.machines[at];
            machine.disk_trouble = None;
            machine.disk_slowness = 1;
            machine.disk_stalled_until = 0;
            machine.disk.set_capacity(None);
            machine.turn_micros = 0;
            machine.paused_until = 0;
            machine.clocks.frozen_at = None;
            machine.clocks.set_wall(0);
            let delay = self.random.below(50_000);
            self.after(delay, Happening::SwitchOn { at });
        }
    }
}
