//! Damage of every machine's log at once, at different places: no replica has a whole log, and each
//! record is whole somewhere. The places may meet in a record on any minority.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::Index;
use flotilla_shard::ShardId;
use flotilla_storage::{Disk as _, MemoryDisk, examine};

use super::{Change, Healing, SECTOR, Sector, data_set, try_all};
use crate::random::Random;
use crate::world::World;

/// Sectors that are spoiled on each machine, at most.
const PLACES: usize = 6;
/// So many sectors are tried to find one more of them.
const ATTEMPTS: usize = 40;

/// What [`try_scattered`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scattered {
    /// Machines that had lost payloads: where logs are short, not always all of them.
    pub machines: usize,
    /// Entries whose payload was lost at some machine.
    pub damaged: u64,
    /// Those of them that all machines but one had lost.
    pub in_one_place: u64,
}

/// What a machine's log lacks.
#[derive(Debug, Default)]
struct Lacks {
    /// The last entry of each shard.
    last: BTreeMap<ShardId, Index>,
    damaged: BTreeSet<(ShardId, Index)>,
}

impl Lacks {
    /// What recovery would say of this disk; `None` if it would cost more than payloads.
    fn of(disk: &mut MemoryDisk) -> Option<Self> {
        let lane = examine(disk).ok()?;
        if lane.incomplete || !lane.lost.is_empty() || lane.report.cut.is_some() {
            return None;
        }
        let mut lacks = Self::default();
        for (shard, found) in &lane.shards {
            let last = found.entries.last().map_or(found.snapshot.index, |entry| entry.index);
            lacks.last.insert(*shard, last);
            lacks.damaged.extend(found.damaged.iter().map(|index| (*shard, *index)));
        }
        Some(lacks)
    }

    fn has_whole(&self, record: &(ShardId, Index)) -> bool {
        let known = self.last.get(&record.0).is_some_and(|last| record.1 <= *last);
        known && !self.damaged.contains(record)
    }
}

/// Spoils the logs of all machines of the data set of a seed, at places by `word`; the error says
/// what did not heal.
pub fn try_scattered(seed: u64, word: u64) -> Result<Scattered, String> {
    try_all(|| {
        let mut world = data_set(seed)?;
        let seen = world.scatter(&mut Random::new(word))?;
        world.heal(&mut Healing::default())?;
        world.judge()?;
        Ok(seen)
    })
    .map_err(|error| format!("seed {seed}, places of {word}: {error}"))
}

impl World {
    fn scatter(&mut self, random: &mut Random) -> Result<Scattered, String> {
        let machines = self.machines.len();
        let mut lacks = Vec::new();
        for machine in &mut self.machines {
            lacks.push(Lacks::of(&mut machine.disk).ok_or("a log is damaged at the outset")?);
        }
        for at in (0..machines).cycle().take(machines * PLACES) {
            self.spoil_one_more(at, &mut lacks, random)?;
        }
        let damaged: BTreeSet<_> = lacks.iter().flat_map(|lacks| &lacks.damaged).collect();
        let whole_once =
            |record: &&&_| lacks.iter().filter(|lacks| lacks.has_whole(record)).count() == 1;
        Ok(Scattered {
            machines: lacks.iter().filter(|lacks| !lacks.damaged.is_empty()).count(),
            damaged: damaged.len() as u64,
            in_one_place: damaged.iter().filter(whole_once).count() as u64,
        })
    }

    /// Spoils another record at `at` that is whole elsewhere, if one is found.
    fn spoil_one_more(
        &mut self,
        at: usize,
        lacks: &mut [Lacks],
        random: &mut Random,
    ) -> Result<(), String> {
        let mut segments = self.machines[at].disk.list().expect("a disk in memory lists");
        segments.retain(|name| name.starts_with("segment-"));
        for _ in 0..ATTEMPTS {
            let file = random.pick(&segments).clone();
            let size = self.machines[at].disk.size(&file).expect("it was listed");
            let sector = Sector { machine: at, file, number: random.below(size / SECTOR) };
            let before = self.machines[at].disk.clone();
            self.spoil_sector(&sector, Change::Noise(random.word()))?;
            let now = Lacks::of(&mut self.machines[at].disk);
            let grown = now.filter(|now| now.damaged.len() > lacks[at].damaged.len());
            let former = grown.map(|now| std::mem::replace(&mut lacks[at], now));
            let stays = former.is_some()
                && lacks[at]
                    .damaged
                    .iter()
                    .all(|record| lacks.iter().any(|lacks| lacks.has_whole(record)));
            if stays {
                return Ok(());
            }
            self.machines[at].disk = before;
            if let Some(former) = former {
                lacks[at] = former;
            }
        }
        Ok(())
    }
}
