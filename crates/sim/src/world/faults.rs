//! What goes wrong: each planned fault at its moment, as a function of its own word.

use super::disks::Loss;
use super::{Happening, World};
use crate::fault::{Fault, Planned};
use crate::machine::DiskTrouble;
use crate::network::Spoil;
use crate::queue::Micros;
use crate::random::Random;

/// A machine that lost its power is switched on again after this time at least.
pub(super) const DARK_MIN: Micros = 5_000;

impl World {
    /// The next fault of the plan.
    pub(crate) fn fault(&mut self, number: usize) {
        let planned = self.config.plan[number];
        self.schedule_fault(number + 1);
        if self.troubled && !self.is_calm() {
            self.cause(planned);
        }
    }

    /// Lets a fault of the plan happen at its moment.
    pub(crate) fn schedule_fault(&mut self, number: usize) {
        if let Some(planned) = self.config.plan.get(number) {
            let at = self.began + planned.at;
            self.queue.push(at.max(self.now), Happening::Fault { number });
        }
    }

    fn cause(&mut self, planned: Planned) {
        let Planned { fault, word, .. } = planned;
        let mut random = Random::new(word);
        self.trace.mix(fault as u64);
        let any = random.position(self.machines.len());
        self.tell(|| format!("fault {fault}"));
        let random = &mut random;
        let fired = match fault {
            Fault::Crash
            | Fault::CrashLeader
            | Fault::CrashWriter
            | Fault::CrashAtMoment
            | Fault::CrashLoop
            | Fault::CrashInRecovery
            | Fault::PowerLoss
            | Fault::Kill
            | Fault::Pause
            | Fault::LongPause
            | Fault::SlowNode => self.trouble_process(fault, any, random),
            Fault::Halves
            | Fault::Isolate
            | Fault::IsolateLeader
            | Fault::PairOff
            | Fault::Bridge
            | Fault::Ring
            | Fault::OneWay
            | Fault::Flapping => self.trouble_cluster(fault, any, random),
            Fault::Figure8 => self.begin_figure_8(random),
            Fault::Reset => self.reset(true, random),
            Fault::ClientReset => self.reset(false, random),
            Fault::SlowReader => self.slow_reader(random),
            Fault::Clog | Fault::SlowLink | Fault::PacketLoss => {
                self.trouble_link(fault, any, random)
            }
            Fault::WireFlip => self.spoil_next(any, Spoil::Flip, random),
            Fault::Duplicate => self.spoil_next(any, Spoil::Twice, random),
            Fault::Overtake => {
                let spoil = *random.pick(&[Spoil::Overtaken, Spoil::RequestsOvertaken]);
                self.spoil_next(any, spoil, random)
            }
            Fault::Vanish => self.spoil_next(any, Spoil::Lost, random),
            Fault::SlowDisk
            | Fault::DiskStall
            | Fault::DiskHang
            | Fault::RepeatedWrite
            | Fault::NoSpace
            | Fault::WriteError
            | Fault::ReadError => self.trouble_disk(fault, any, random),
            Fault::Rot
            | Fault::LostWrite
            | Fault::MisdirectedWrite
            | Fault::WipedDisk
            | Fault::OlderDisk
            | Fault::LyingSync => self.spoil_disk(fault, any, random),
            Fault::ClockJump | Fault::FrozenClock => self.trouble_clock(fault, any, random),
        };
        if fired {
            self.counters.fired(fault);
        }
    }

    fn trouble_process(&mut self, fault: Fault, any: usize, random: &mut Random) -> bool {
        let timeout = self.config.node.election_timeout_ms * 1_000;
        match fault {
            Fault::CrashLeader => match self.leader(random) {
                Some(leader) => self.crash(leader, random),
                None => false,
            },
            Fault::CrashWriter => self.crash_writer(random),
            Fault::CrashAtMoment => self.lie_in_ambush(random),
            Fault::CrashLoop => self.crash_loop(any, random),
            Fault::CrashInRecovery => {
                let fired = self.crash(any, random);
                self.machines[any].crashes_in_recovery = fired;
                fired
            }
            Fault::PowerLoss => {
                let crashed = (0..self.machines.len()).filter(|&at| self.crash(at, random)).count();
                crashed > 0
            }
            Fault::Kill => self.kill(any, random),
            Fault::Pause => self.pause_process(any, random.between(DARK_MIN, timeout)),
            Fault::LongPause => {
                let leader = self.leader(random).filter(|_| random.chance(60));
                let pause = random.between(2 * timeout, 5 * timeout);
                self.pause_process(leader.unwrap_or(any), pause)
            }
            Fault::SlowNode => {
                self.machines[any].turn_micros = random.between(1_000, 20_000);
                let lasts = self.lasting_by(random);
                self.after(lasts, Happening::NodeRecovers { at: any });
                true
            }
            _ => self.crash(any, random),
        }
    }

    fn pause_process(&mut self, at: usize, pause: Micros) -> bool {
        let until = self.now + pause;
        let machine = &mut self.machines[at];
        machine.paused_until = machine.paused_until.max(until);
        machine.process.is_some()
    }

    /// A machine that leads a shard.
    pub(crate) fn leader(&self, random: &mut Random) -> Option<usize> {
        let leads = |at: &usize| {
            let process = self.machines[*at].process.as_ref();
            process.is_some_and(|process| process.node.inspect().any(|replica| replica.leads))
        };
        let leaders: Vec<usize> = (0..self.machines.len()).filter(leads).collect();
        (!leaders.is_empty()).then(|| *random.pick(&leaders))
    }

    pub(super) fn lasting_by(&self, random: &mut Random) -> Micros {
        random.between(DARK_MIN, self.config.lasts_max.max(DARK_MIN))
    }

    pub(crate) fn lasting(&mut self) -> Micros {
        self.random.between(DARK_MIN, self.config.lasts_max.max(DARK_MIN))
    }

    pub(super) fn crash(&mut self, at: usize, random: &mut Random) -> bool {
        let fired = self.power_goes(at);
        let dark = self.lasting_by(random);
        self.after(dark, Happening::SwitchOn { at });
        fired
    }

    /// A process that has just begun is interrupted soon, if that was planned.
    pub(crate) fn crash_again(&mut self, at: usize) {
        let Some(soon) = self.machines[at].crashes_after.take() else { return };
        let boot = self.machines[at].boots;
        self.after(soon, Happening::PowerGoes { at, boot });
        self.after(soon + DARK_MIN, Happening::SwitchOn { at });
    }

    /// Of what such a node has promised, most is not on its disk.
    fn crash_writer(&mut self, random: &mut Random) -> bool {
        let Some(at) = self.writer(random) else { return false };
        let fired = self.power_goes(at);
        let dark = random.between(DARK_MIN, 8 * DARK_MIN);
        self.after(dark, Happening::SwitchOn { at });
        fired
    }

    /// A machine whose log is being written to.
    fn writer(&self, random: &mut Random) -> Option<usize> {
        let writes = |at: &usize| {
            let process = self.machines[*at].process.as_ref();
            process.is_some_and(|process| !process.frames.is_empty())
        };
        let writers: Vec<usize> = (0..self.machines.len()).filter(writes).collect();
        (!writers.is_empty()).then(|| *random.pick(&writers))
    }

    /// What such a process reads when it is back, its machine may lose yet.
    fn kill(&mut self, any: usize, random: &mut Random) -> bool {
        let at = self.writer(random).unwrap_or(any);
        let fired = self.process_ends(at, Loss::Nothing);
        let mut dark = random.between(DARK_MIN, 8 * DARK_MIN);
        self.after(dark, Happening::SwitchOn { at });
        if random.chance(60) {
            let boot = self.machines[at].boots + 1;
            dark += random.between(1_000, 100_000);
            self.after(dark, Happening::PowerGoes { at, boot });
            self.after(dark + DARK_MIN, Happening::SwitchOn { at });
        }
        fired
    }

    /// The power comes and goes while a machine starts.
    fn crash_loop(&mut self, at: usize, random: &mut Random) -> bool {
        let fired = self.power_goes(at);
        let mut delay = 0;
        let next = self.machines[at].boots + 1;
        let rounds = random.between(2, 4);
        for round in 0..rounds {
            delay += random.between(1_000, 30_000);
            self.after(delay, Happening::SwitchOn { at });
            delay += random.between(100, 20_000);
            self.after(delay, Happening::PowerGoes { at, boot: next + round });
        }
        self.after(delay + DARK_MIN, Happening::SwitchOn { at });
        fired
    }

    fn trouble_disk(&mut self, fault: Fault, at: usize, random: &mut Random) -> bool {
        let timeout = self.config.node.election_timeout_ms * 1_000;
        let on = self.machines[at].process.is_some();
        let machine = &mut self.machines[at];
        if matches!(fault, Fault::SlowDisk | Fault::DiskStall) {
            machine.only_log_suffers = random.chance(50);
        }
        match fault {
            Fault::SlowDisk => {
                machine.disk_slowness = random.between(5, 60);
                let lasts = self.lasting_by(random);
                self.after(lasts, Happening::DiskRecovers { at });
                true
            }
            Fault::DiskStall => {
                machine.disk_stalled_until = self.now + random.between(timeout, 5 * timeout);
                on
            }
            Fault::DiskHang => {
                machine.disk_trouble = Some(DiskTrouble::Hangs);
                let dark = self.lasting_by(random).max(2 * timeout);
                let boot = self.machines[at].boots;
                self.after(dark, Happening::PowerGoes { at, boot });
                self.after(dark + DARK_MIN, Happening::SwitchOn { at });
                on
            }
            Fault::RepeatedWrite => {
                machine.disk_trouble.get_or_insert(DiskTrouble::Repeats);
                on
            }
            Fault::WriteError => {
                machine.disk_trouble.get_or_insert(DiskTrouble::FailsWrite);
                on
            }
            Fault::ReadError => {
                let fired = self.crash(at, random);
                let after = random.below(30);
                self.machines[at].disk_trouble = Some(DiskTrouble::FailsRead(after));
                fired
            }
            _ => {
                let used = machine.disk.used_bytes();
                machine.disk.set_capacity(Some(used + random.below(64 << 10)));
                let lasts = self.lasting_by(random);
                self.after(lasts, Happening::SpaceReturns { at });
                on
            }
        }
    }

    fn trouble_clock(&mut self, fault: Fault, at: usize, random: &mut Random) -> bool {
        let skew = self.config.skew_ms;
        let (now, lasts) = (self.now, self.lasting_by(random));
        let clocks = &mut self.machines[at].clocks;
        if fault == Fault::FrozenClock {
            clocks.frozen_at = Some(now);
            self.after(lasts, Happening::ClockGoesOn { at });
        } else {
            clocks.set_wall(random.between(0, 2 * skew) as i64 - skew as i64);
        }
        true
    }
}
