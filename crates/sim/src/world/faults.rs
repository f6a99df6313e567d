//! What goes wrong, and its repair.

use flotilla_shard::NodeId;

use super::{Happening, World};
use crate::config::Fault;
use crate::network::{Connection, Party};
use crate::queue::Micros;

/// A machine that lost its power is switched on again after this time at least.
const DARK_MIN: Micros = 5_000;

impl World {
    /// One fault, and the next one is scheduled.
    pub(crate) fn fault(&mut self) {
        if !self.troubled {
            return;
        }
        let faults = &self.config.faults;
        let total: u64 = faults.weights.iter().map(|(_, weight)| weight).sum();
        let every = faults.every;
        if total == 0 {
            return;
        }
        let mut drawn = self.random.below(total);
        let mut chosen = None;
        for (fault, weight) in &self.config.faults.weights {
            if drawn < *weight {
                chosen = Some(*fault);
                break;
            }
            drawn -= weight;
        }
        if let Some(fault) = chosen {
            self.cause(fault);
        }
        let delay = self.random.heavy_tailed(every);
        self.after(delay, Happening::Fault);
    }

    fn cause(&mut self, fault: Fault) {
        self.tell(|| format!("fault: {fault:?}"));
        self.trace.mix(fault as u64);
        let nodes = self.machines.len();
        let any = self.random.position(nodes);
        match fault {
            Fault::Crash => self.crash(any),
            Fault::CrashLeader => {
                let at = self.leader().unwrap_or(any);
                self.crash(at);
            }
            Fault::CrashWriter => self.crash_writer(),
            Fault::CrashLoop => self.crash_loop(any),
            Fault::PowerLoss => self.power_loss(),
            Fault::Halves => self.halves(),
            Fault::Isolate => self.isolate(any),
            Fault::IsolateLeader => {
                let leader = self.leader();
                self.counters.leader_isolations += u64::from(leader.is_some() && nodes > 1);
                self.isolate(leader.unwrap_or(any));
            }
            Fault::Bridge => self.bridge(any),
            Fault::OneWay => self.one_way(any),
            Fault::Reset => self.reset(true),
            Fault::ClientReset => self.reset(false),
            Fault::SlowLink => self.slow_link(any),
            Fault::SlowDisk => {
                self.counters.slow_disks += 1;
                self.machines[any].disk_slowness = self.random.between(5, 60);
                let delay = self.lasting();
                self.after(delay, Happening::DiskRecovers { at: any });
            }
            Fault::DiskStall => {
                self.counters.disk_stalls += 1;
                let stall =
                    self.config.node.election_timeout_ms * self.random.between(1_000, 5_000);
                self.machines[any].disk_stalled_until = self.now + stall;
            }
            Fault::Pause => {
                self.counters.pauses += 1;
                let pause = self.lasting();
                self.machines[any].paused_until = self.now + pause;
            }
            Fault::ClockJump => {
                self.counters.clock_jumps += 1;
                let skew = self.config.skew_ms;
                let offset = self.random.between(0, 2 * skew) as i64 - skew as i64;
                self.machines[any].clocks.wall_offset_ms = offset;
            }
        }
    }

    /// A machine that leads a shard.
    fn leader(&mut self) -> Option<usize> {
        let leads = |at: &usize| {
            let process = self.machines[*at].process.as_ref();
            process.is_some_and(|process| process.node.inspect().any(|replica| replica.leads))
        };
        let leaders: Vec<usize> = (0..self.machines.len()).filter(leads).collect();
        (!leaders.is_empty()).then(|| *self.random.pick(&leaders))
    }

    fn lasting(&mut self) -> Micros {
        self.random.between(DARK_MIN, self.config.faults.lasts_max)
    }

    fn crash(&mut self, at: usize) {
        self.power_goes(at);
        let dark = self.lasting();
        self.after(dark, Happening::SwitchOn { at });
    }

    /// Of what such a node has promised, most is not on its disk.
    fn crash_writer(&mut self) {
        let writes = |at: &usize| {
            let process = self.machines[*at].process.as_ref();
            process.is_some_and(|process| !process.frames.is_empty())
        };
        let writers: Vec<usize> = (0..self.machines.len()).filter(writes).collect();
        if writers.is_empty() {
            return;
        }
        let at = *self.random.pick(&writers);
        self.power_goes(at);
        let dark = self.random.between(DARK_MIN, 8 * DARK_MIN);
        self.after(dark, Happening::SwitchOn { at });
    }

    /// The power comes and goes while a machine starts.
    fn crash_loop(&mut self, at: usize) {
        self.power_goes(at);
        let mut delay = 0;
        let next = self.machines[at].boots + 1;
        let rounds = self.random.between(2, 4);
        for round in 0..rounds {
            delay += self.random.between(1_000, 30_000);
            self.after(delay, Happening::SwitchOn { at });
            delay += self.random.between(100, 20_000);
            self.after(delay, Happening::PowerGoes { at, boot: next + round });
        }
        self.after(delay + DARK_MIN, Happening::SwitchOn { at });
    }

    fn power_loss(&mut self) {
        self.counters.power_losses += 1;
        for at in 0..self.machines.len() {
            self.crash(at);
        }
    }

    fn halves(&mut self) {
        let nodes = self.machines.len();
        let side: Vec<bool> = (0..nodes).map(|_| self.random.chance(50)).collect();
        self.counters.halves += 1;
        self.partition(|from, to| side[from] != side[to]);
    }

    fn isolate(&mut self, at: usize) {
        self.counters.isolations += 1;
        self.partition(|from, to| from == at || to == at);
    }

    fn bridge(&mut self, at: usize) {
        let nodes = self.machines.len();
        let side: Vec<bool> = (0..nodes).map(|node| (node + at).is_multiple_of(2)).collect();
        self.counters.bridges += 1;
        self.partition(|from, to| from != at && to != at && side[from] != side[to]);
    }

    fn one_way(&mut self, at: usize) {
        let other = self.random.position(self.machines.len());
        let all = self.random.chance(50);
        let hears = self.random.chance(50);
        self.counters.one_way_cuts += 1;
        self.partition(|from, to| {
            let (near, far) = if hears { (from, to) } else { (to, from) };
            near == at && (all || far == other)
        });
    }

    /// No byte passes where `cut` says so, until it is over; now and then what is open breaks.
    fn partition(&mut self, cut: impl Fn(usize, usize) -> bool) {
        let nodes = self.machines.len();
        self.network.cut.clear();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from && cut(from, to)) {
                self.network.cut.insert((from, to));
            }
        }
        let cuts = self.network.cut.clone();
        self.tell(|| format!("cut: {cuts:?}"));
        if self.random.chance(30) {
            let crossing = self.network.select(|connection| {
                machines_of(connection).is_some_and(|(from, to)| {
                    cuts.contains(&(from, to)) || cuts.contains(&(to, from))
                })
            });
            for id in crossing {
                self.break_connection(id);
            }
        }
        self.partition += 1;
        let partition = self.partition;
        let lasts = self.lasting();
        self.after(lasts, Happening::Heal { partition });
        self.release();
    }

    pub(crate) fn heal_partition(&mut self, partition: u64) {
        if self.partition == partition {
            self.tell(|| "the partition is over".to_string());
            self.network.cut.clear();
            self.release();
        }
    }

    fn reset(&mut self, between_nodes: bool) {
        let wanted =
            self.network.select(|connection| machines_of(connection).is_some() == between_nodes);
        if wanted.is_empty() {
            return;
        }
        let id = *self.random.pick(&wanted);
        if between_nodes {
            self.counters.resets += 1;
        } else {
            self.counters.client_resets += 1;
        }
        self.break_connection(id);
    }

    /// Both sides learn that a connection is broken; what was under way is lost from some point on.
    fn break_connection(&mut self, id: u64) {
        for side in [0, 1] {
            let under_way = self.network.under_way(id, side) as u64;
            let kept = self.random.between(0, under_way) as usize;
            self.network.lose(id, side, kept);
            self.disown(id, side);
        }
    }

    fn slow_link(&mut self, at: usize) {
        let other = self.random.position(self.machines.len());
        self.counters.slow_links += 1;
        let factor = self.random.between(10, 200);
        let lasts = self.lasting();
        for (from, to) in [(at, other), (other, at)] {
            self.network.slow.insert((from, to), factor);
            self.after(lasts, Happening::Quicken { from, to });
        }
    }

    /// Everything is repaired and stays well.
    pub(crate) fn end_troubles(&mut self) {
        self.tell(|| "all is repaired".to_string());
        self.dead = None;
        self.repair();
    }

    /// Everything is repaired but one node, which is dead or can't hear, can't speak, or both, from
    /// now on. Gives the node; `None` if some shard could not go on without it, or by chance.
    pub(crate) fn leave_one_out(&mut self) -> Option<usize> {
        let nodes = self.machines.len();
        let survives = |out: &usize| {
            let layout = &self.config.layout;
            layout.shard_ids().all(|shard| {
                let replicas = layout.replicas(shard);
                let lost = replicas.contains(&NodeId::at(*out));
                replicas.len() - usize::from(lost) > replicas.len() / 2
            })
        };
        let candidates: Vec<usize> = (0..nodes).filter(survives).collect();
        if candidates.is_empty() || nodes < 3 || self.random.chance(50) {
            return None;
        }
        let leader = self.leader().filter(|leader| candidates.contains(leader));
        let any = *self.random.pick(&candidates);
        let out = leader.filter(|_| self.random.chance(70)).unwrap_or(any);
        let how = self.random.below(4);
        self.repair();
        if how == 0 {
            self.dead = Some(out);
            self.power_goes(out);
        }
        for other in (0..nodes).filter(|&other| other != out) {
            if how == 1 || how == 2 {
                self.network.cut.insert((other, out));
            }
            if how == 1 || how == 3 {
                self.network.cut.insert((out, other));
            }
        }
        self.counters.left_out += 1;
        let cut = self.network.cut.clone();
        self.tell(|| format!("all but node {} is repaired, cut: {cut:?}", out + 1));
        Some(out)
    }

    fn repair(&mut self) {
        self.troubled = false;
        // What would end an earlier partition ends nothing any more.
        self.partition += 1;
        self.network.cut.clear();
        self.network.slow.clear();
        self.network.hurry(self.now + self.config.latency);
        self.release();
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            machine.disk_slowness = 1;
            machine.disk_stalled_until = 0;
            machine.paused_until = 0;
            machine.clocks.wall_offset_ms = 0;
            let delay = self.random.below(50_000);
            self.after(delay, Happening::SwitchOn { at });
        }
    }
}

fn machines_of(connection: &Connection) -> Option<(usize, usize)> {
    match connection.parties {
        [Party::Node { at: from, .. }, Party::Node { at: to, .. }] => Some((from, to)),
        _ => None,
    }
}
