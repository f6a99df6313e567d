//! What happens to a disk while its machine is off, and must be noticed: damage of what was
//! acknowledged, a blank disk, an older one.
//!
//! A node whose disk was spoiled comes back, repaired by its peers, as another disk if it must, and
//! only then another disk is spoiled. What it must not do is go on as if nothing had happened.
//!
//! An older disk and a lying one show nothing by themselves. Their peers notice them: so for a
//! while nothing else goes wrong, and only where no peer has forgotten, by a boot, what it saw.

use std::sync::Arc;

use flotilla_shard::{META, NodeId};
use flotilla_storage::{Disk as _, MemoryDisk};

use super::{Happening, META_VOTERS, World};
use crate::fault::Fault;
use crate::machine::{DiskTrouble, Machine};
use crate::marks::Mark;
use crate::queue::Micros;
use crate::random::Random;

/// For so long and three election timeouts nothing else goes wrong.
const CALM: Micros = 500_000;
/// What is sent has arrived by then.
const TOLD_WITHIN: Micros = 50_000;
/// The grain of writes of the log.
const BLOCK: usize = 4_096;

impl World {
    pub(super) fn spoil_disk(&mut self, fault: Fault, at: usize, random: &mut Random) -> bool {
        match fault {
            Fault::LyingSync => {
                if self.machines[at].lying || self.machines[at].process.is_none() {
                    return false;
                }
                self.machines[at].lying = true;
                self.machines[at].lying_since = self.boots();
                self.machines[at].untold_since = None;
                let lasts = self.lasting_by(random);
                self.after(lasts, Happening::LieComesOut { at });
                return false;
            }
            Fault::OlderDisk => return self.put_back(at, random),
            _ => {}
        }
        // Where some members do not vote, it is mostly one of those that loses its disk.
        let (nodes, learns) = (self.machines.len(), fault == Fault::WipedDisk);
        let at = if learns && nodes > META_VOTERS && random.chance(70) {
            META_VOTERS + random.position(nodes - META_VOTERS)
        } else {
            at
        };
        let newborn = fault == Fault::WipedDisk && self.is_unborn();
        if !(newborn || self.may_lose(at)) || !self.is_at_rest(at) {
            return false;
        }
        // Rot does not wait until a machine is off.
        if fault == Fault::Rot && random.chance(30) {
            return self.rot_alive(at, random);
        }
        self.crash(at, random);
        let spoiled = match fault {
            Fault::Rot => self.rot(at, random).is_some(),
            Fault::LostWrite => self.lose_write(at, random),
            Fault::MisdirectedWrite => self.misdirect_write(at, random),
            _ => {
                self.machines[at].disk = MemoryDisk::new();
                self.machines[at].files.clear();
                self.checkers.forget_disk(at);
                true
            }
        };
        if spoiled {
            self.machines[at].was_wiped = fault == Fault::WipedDisk;
        }
        // What it does in order to come back is interrupted.
        if spoiled && random.chance(35) {
            let steps = *random.pick(&[2, 6, 20]);
            let while_busy = steps * (self.config.disk_latency + self.config.latency);
            self.machines[at].crashes_after = Some(random.below(while_busy.max(1)));
        }
        // With as many nodes some members do not vote: nobody waits for one of those.
        if spoiled && !newborn && self.machines.len() > META_VOTERS && random.chance(60) {
            let timeout = self.config.node.election_timeout_ms * 1_000;
            self.machines[at].asks_in_vain = Some(self.lasting_by(random).max(4 * timeout));
        }
        if newborn && spoiled {
            let there = (0..self.machines.len()).filter(|&other| self.machines[other].boots > 0);
            self.machines[at].unmet_by = there.filter(|&other| other != at).collect();
        }
        // A newborn that comes back as another one has lost nothing that anybody was promised.
        let spoils = spoiled && !newborn;
        self.machines[at].spoiled |= spoils;
        self.machines[at].ever_spoiled |= spoils;
        spoiled
    }

    /// Something rots under a process that runs. The scrubber finds it, unless it is in the segment
    /// that is written to, which is looked at later: then the machine is switched off and on.
    fn rot_alive(&mut self, at: usize, random: &mut Random) -> bool {
        let Some(file) = self.rot(at, random) else { return false };
        self.machines[at].was_wiped = false;
        (self.machines[at].spoiled, self.machines[at].ever_spoiled) = (true, true);
        let active = self.machines[at].recent.back().is_none_or(|(active, ..)| **active == *file);
        match self.machines[at].process.as_mut() {
            Some(process) if !active => {
                // The round that is under way may be past it.
                process.sound_after = process.log.scrub_rounds() + 2;
                self.counters.rot_alive += 1;
            }
            _ => {
                self.crash(at, random);
            }
        }
        true
    }

    /// Whether a node was never there yet, so that none can have proposed anything (P1).
    fn is_unborn(&self) -> bool {
        self.machines.iter().any(|machine| machine.boots == 0)
    }

    /// Whether every shard has a quorum without this node, and all that was spoiled before is whole
    /// again. Before the founding nothing can be told from a newborn.
    fn may_lose(&mut self, at: usize) -> bool {
        for node in 0..self.machines.len() {
            self.machines[node].spoiled &= !self.is_durably_whole(node);
        }
        let hurt = |machine: &Machine| machine.spoiled || machine.refused.is_some();
        let founded = self.machines.iter().all(|machine| machine.founded);
        founded && !self.machines.iter().any(hurt) && self.has_quorums(|node| node != at)
    }

    /// Whether the log of a node that runs lacks payloads, or a replica there its state.
    pub(crate) fn lacks_payloads(&self, at: usize) -> bool {
        let shards = std::iter::once(META).chain(self.config.layout.shard_ids());
        self.machines[at].process.as_ref().is_some_and(|process| {
            let holes = shards.map(|shard| process.log.holes(shard)).sum::<usize>();
            holes > 0 || !process.node.is_whole()
        })
    }

    /// Whether a node has all that it should, in memory and on its disk.
    pub(crate) fn is_whole(&self, at: usize) -> bool {
        let repaired = !self.lacks_payloads(at);
        self.machines[at].process.as_ref().is_some_and(|process| {
            let looked = process.log.scrub_rounds() >= process.sound_after;
            repaired && looked && !process.log.needs_frame()
        })
    }

    /// The same, and a crash now would cost none of it.
    fn is_durably_whole(&mut self, at: usize) -> bool {
        let whole = self.is_whole(at);
        let Some(process) = self.machines[at].process.as_mut() else { return false };
        if !whole {
            process.whole_with = None;
            return false;
        }
        let sequence = *process.whole_with.get_or_insert(process.log.sequence());
        process.log.durable_through() >= sequence
    }

    /// How often each machine was started.
    fn boots(&self) -> Vec<u64> {
        self.machines.iter().map(|machine| machine.boots).collect()
    }

    /// Whether all but `at` run, and have run since those boots; of all, no disk hangs.
    fn have_run_since(&self, at: usize, boots: &[u64]) -> bool {
        let runs = |(number, machine): (usize, &Machine)| {
            let on = machine.process.is_some() && machine.boots == boots[number];
            (on || number == at) && machine.disk_trouble != Some(DiskTrouble::Hangs)
        };
        self.machines.iter().enumerate().all(runs)
    }

    /// Whether peers know of a frame that a disk is about to lack, if there is one: they hear how
    /// far a log is durable with whatever is sent to them, which is a heartbeat later at last. Who
    /// counts itself for a commit and answers a client of its own in between has told nobody else.
    fn was_told(&self, at: usize) -> bool {
        let heartbeats = 3 * self.config.node.heartbeat_ms * 1_000;
        let told = |since: Micros| self.now >= since + heartbeats + TOLD_WITHIN;
        self.machines[at].untold_since.is_none_or(told)
    }

    /// For a while nothing goes wrong but what is about to happen to `at`.
    fn make_calm(&mut self, at: usize) {
        let timeout = self.config.node.election_timeout_ms * 1_000;
        self.calm_until = self.now + 3 * timeout + CALM;
        self.clear_network();
        for machine in &mut self.machines {
            machine.disk_trouble = None;
            machine.disk_slowness = 1;
            machine.disk_stalled_until = 0;
            machine.turn_micros = 0;
            machine.paused_until = 0;
            machine.disk.set_capacity(None);
        }
        for other in (0..self.machines.len()).filter(|other| *other != at) {
            self.stir(other);
        }
        self.counters.calms += 1;
    }

    /// Whether nothing may go wrong now.
    pub(crate) fn is_calm(&self) -> bool {
        self.now < self.calm_until
    }

    /// Whether the nodes that `counts` chooses are a quorum of every shard, meta too.
    pub(crate) fn has_quorums(&self, counts: impl Fn(usize) -> bool) -> bool {
        let layout = &self.config.layout;
        let data = layout.shard_ids().all(|shard| {
            let replicas = layout.replicas(shard);
            let left = replicas.iter().filter(|node| counts(position(**node))).count();
            left > replicas.len() / 2
        });
        let voters = layout.nodes.len().min(META_VOTERS);
        data && (0..voters).filter(|&node| counts(node)).count() > voters / 2
    }

    /// Whether a node runs and everything in its log is attested: damage of what is not looks like
    /// a torn write, which is said in the documentation (P3).
    pub(crate) fn is_at_rest(&self, at: usize) -> bool {
        let process = self.machines[at].process.as_ref();
        process.is_some_and(|process| {
            process.frames.is_empty() && !process.log.needs_seal() && !process.helper.is_busy()
        })
    }

    /// Gives back the file.
    fn rot(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let disk = &mut self.machines[at].disk;
        let names = disk.list().expect("a disk in memory lists");
        let name = random.pick(&names).clone();
        let size = disk.size(&name).expect("it was listed").max(1);
        // Written places are where something can rot.
        let recent: Vec<(u64, usize)> = self.machines[at]
            .recent
            .iter()
            .filter(|(file, _, _)| **file == *name)
            .map(|(_, offset, length)| (*offset, *length))
            .collect();
        let offset = if recent.is_empty() || random.chance(20) {
            random.below(size)
        } else {
            let (offset, length) = *random.pick(&recent);
            offset + random.below(length as u64)
        };
        let mut flipped = false;
        for bit in 0..random.between(1, 24) {
            flipped |= self.machines[at].disk.flip(&name, offset + bit / 8, (bit % 8) as u8);
        }
        self.tell(|| format!("node {} has rot in {name} at {offset}", at + 1));
        flipped.then_some(name)
    }

    /// A write that is followed by others; the newest may look like a torn one.
    fn older_write(&self, at: usize, random: &mut Random) -> Option<(Arc<str>, u64, usize)> {
        let recent = &self.machines[at].recent;
        let older = recent.len().checked_sub(3).filter(|older| *older > 0)?;
        let chosen = random.position(older);
        let (file, offset, length) = recent.get(chosen)?;
        // A file that is used again has another write there by now, perhaps the newest.
        let end = offset + *length as u64;
        let overlaps = |(other, at, long): &(Arc<str>, u64, usize)| {
            other == file && *at < end && *offset < at + *long as u64
        };
        let replaced = recent.iter().skip(chosen + 1).any(overlaps);
        (!replaced).then(|| (file.clone(), *offset, *length))
    }

    fn lose_write(&mut self, at: usize, random: &mut Random) -> bool {
        let Some((file, offset, length)) = self.older_write(at, random) else { return false };
        self.tell(|| format!("node {} has lost what it wrote to {file} at {offset}", at + 1));
        // The first write of a segment is more than one frame.
        self.machines[at].lacks_frame = offset > 0 && !self.machines[at].ever_spoiled;
        self.machines[at].disk.write_durable(&file, offset, &vec![0; length]).is_ok()
    }

    fn misdirect_write(&mut self, at: usize, random: &mut Random) -> bool {
        let (Some(from), Some(to)) = (self.older_write(at, random), self.older_write(at, random))
        else {
            return false;
        };
        let disk = &mut self.machines[at].disk;
        let length = from.2.min(to.2).min(BLOCK);
        let Ok(bytes) = disk.read(&from.0, from.1, length) else { return false };
        let lost = disk.write_durable(&from.0, from.1, &vec![0; length]).is_ok();
        // Where the other file is gone and there is no room for it, it went nowhere: it is lost.
        let went = lost && disk.write_durable(&to.0, to.1, &bytes).is_ok();
        self.tell(|| format!("node {}: a write went to {} at {}: {went}", at + 1, to.0, to.1));
        lost
    }

    /// Takes an image of a disk; the next time puts it back.
    fn put_back(&mut self, at: usize, random: &mut Random) -> bool {
        let copied = self.machines.iter().position(|machine| machine.image.is_some());
        let at = copied.unwrap_or(at);
        let on = self.machines[at].process.is_some();
        let image = self.machines[at]
            .image
            .take()
            .filter(|(_, boots)| on && self.have_run_since(at, boots));
        let Some((image, boots)) = image else {
            if self.machines.iter().all(|machine| machine.founded) {
                let image = Box::new(self.machines[at].disk.clone());
                self.machines[at].image = Some((image, self.boots()));
                self.machines[at].untold_since = None;
            }
            return false;
        };
        if !self.was_told(at) || !self.may_lose(at) {
            self.machines[at].image = Some((image, boots));
            return false;
        }
        self.make_calm(at);
        self.power_goes(at);
        let dark = random.between(super::faults::DARK_MIN, 2 * super::faults::DARK_MIN);
        self.after(dark, Happening::SwitchOn { at });
        self.tell(|| format!("node {} gets an older disk", at + 1));
        self.machines[at].disk = *image;
        self.machines[at].was_wiped = false;
        (self.machines[at].spoiled, self.machines[at].ever_spoiled) = (true, true);
        self.checkers.trust_disk(at);
        true
    }

    /// What was never synced goes with the power; if nobody could notice, the lie is no lie.
    pub(crate) fn lie_comes_out(&mut self, at: usize) {
        if !self.machines[at].lying || !self.troubled {
            return;
        }
        if self.is_calm() {
            return self.after(CALM, Happening::LieComesOut { at });
        }
        let since = self.machines[at].lying_since.clone();
        let on = self.machines[at].process.is_some() && self.machines[at].boots == since[at];
        if !on || !self.have_run_since(at, &since) || !self.was_told(at) || !self.may_lose(at) {
            return self.keep_the_word(at);
        }
        self.make_calm(at);
        // From here on it is no lie any more: what is not synced now is lost.
        (self.machines[at].lying, self.machines[at].was_wiped) = (false, false);
        self.tell(|| format!("node {} loses what its disk had said to be synced", at + 1));
        self.power_goes(at);
        (self.machines[at].spoiled, self.machines[at].ever_spoiled) = (true, true);
        self.checkers.trust_disk(at);
        self.counters.fired(Fault::LyingSync);
        self.after(super::faults::DARK_MIN, Happening::SwitchOn { at });
    }

    /// A disk that lied about its syncs makes them true.
    pub(crate) fn keep_the_word(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if std::mem::take(&mut machine.lying) {
            let disk = &mut machine.disk;
            for name in disk.list().expect("a disk in memory lists") {
                disk.sync(&name).expect("it was listed");
            }
        }
    }

    /// At the end of a run: a wiped node must have refused to go on; of any other spoiled disk
    /// what was not refused did no harm.
    pub(crate) fn judge_damage(&mut self) {
        for machine in &self.machines {
            if machine.spoiled && machine.refused.is_none() {
                self.counters.marks.reach(Mark::HarmlessDamage);
            }
        }
    }
}

/// The position of a node in the layout.
pub(crate) fn position(node: NodeId) -> usize {
    node.position().expect("nodes count from 1")
}
