//! What happens to a disk while its machine is off, and must be noticed: damage of what was
//! acknowledged, a blank disk, an older one.
//!
//! A node whose disk was spoiled may refuse it, and then stays out for the rest of the run: never
//! so many that a shard loses its quorum. What it must not do is go on as if nothing had happened.

use std::sync::Arc;

use flotilla_shard::NodeId;
use flotilla_storage::{Disk as _, MemoryDisk};

use super::{Happening, META_VOTERS, World};
use crate::fault::Fault;
use crate::marks::Mark;
use crate::random::Random;

/// The grain of writes of the log.
const BLOCK: usize = 4_096;

impl World {
    pub(super) fn spoil_disk(&mut self, fault: Fault, at: usize, random: &mut Random) -> bool {
        match fault {
            Fault::LyingSync => {
                self.machines[at].lying = true;
                let lasts = self.lasting_by(random);
                self.after(lasts, Happening::LieComesOut { at });
                return true;
            }
            Fault::OlderDisk => return self.put_back(at, random),
            _ => {}
        }
        if !self.may_lose(at) || !self.is_at_rest(at) {
            return false;
        }
        self.crash(at, random);
        let spoiled = match fault {
            Fault::Rot => self.rot(at, random),
            Fault::LostWrite => self.lose_write(at, random),
            Fault::MisdirectedWrite => self.misdirect_write(at, random),
            _ => {
                self.machines[at].disk = MemoryDisk::new();
                self.machines[at].files.clear();
                self.checkers.forget_disk(at);
                true
            }
        };
        self.machines[at].spoiled |= spoiled;
        spoiled
    }

    /// Whether every shard has a quorum without this node and those that are lost already. Before
    /// the founding nothing can be told from a newborn.
    fn may_lose(&self, at: usize) -> bool {
        let lost = |node: usize| {
            node == at || self.machines[node].spoiled || self.machines[node].refused.is_some()
        };
        let founded = self.machines.iter().all(|machine| machine.founded);
        founded && !self.machines[at].spoiled && self.has_quorums(|node| !lost(node))
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

    fn rot(&mut self, at: usize, random: &mut Random) -> bool {
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
        flipped
    }

    /// A write that is followed by others; the newest may look like a torn one.
    fn older_write(&self, at: usize, random: &mut Random) -> Option<(Arc<str>, u64, usize)> {
        let recent = &self.machines[at].recent;
        let older = recent.len().checked_sub(3).filter(|older| *older > 0)?;
        recent.get(random.position(older)).cloned()
    }

    fn lose_write(&mut self, at: usize, random: &mut Random) -> bool {
        let Some((file, offset, length)) = self.older_write(at, random) else { return false };
        self.tell(|| format!("node {} has lost what it wrote to {file} at {offset}", at + 1));
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
        let done = lost && disk.write_durable(&to.0, to.1, &bytes).is_ok();
        self.tell(|| format!("node {}: a write went to {} at {}", at + 1, to.0, to.1));
        done
    }

    /// Takes an image of a disk; the next time puts it back.
    fn put_back(&mut self, at: usize, random: &mut Random) -> bool {
        match self.machines[at].image.take() {
            None => {
                self.machines[at].image = Some(Box::new(self.machines[at].disk.clone()));
                false
            }
            Some(image) => {
                self.crash(at, random);
                self.machines[at].disk = *image;
                self.checkers.trust_disk(at);
                true
            }
        }
    }

    /// What was never synced goes with the power.
    pub(crate) fn lie_comes_out(&mut self, at: usize) {
        self.machines[at].lying = false;
        if self.troubled && self.power_goes(at) {
            self.checkers.trust_disk(at);
            self.after(super::faults::DARK_MIN, Happening::SwitchOn { at });
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
