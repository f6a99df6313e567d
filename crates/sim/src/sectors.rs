//! Every single sector of a small cluster's disks, spoiled at rest: whatever it held, nothing that
//! was acknowledged is lost, and every shard serves on every node again, without an operator.
//!
//! A *trial* makes a data set from a seed (always the same one), switches all machines off at rest,
//! spoils one sector of one file of one of them, and switches them on again. Then every replica has
//! to be readable with no payload missing, every shard takes a write through every node, every key
//! is read, all replicas come to the same state, the histories are checked as in any run, and what
//! is on the disks then is whole.

mod scattered;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_storage::{Disk as _, MemoryDisk, SnapshotReader, examine};

use crate::marks::Mark;
use crate::queue::Micros;
use crate::run::panic_text;
use crate::scenario::{SECOND, family};
use crate::world::{Happening, World};

pub use self::scattered::{Scattered, try_scattered};

/// Sectors of a disk in memory have this size, bytes.
const SECTOR: u64 = 512;
/// The cluster is founded and filled within this time.
const FILLED_WITHIN: Micros = 2 * SECOND;
/// What clients and helpers have begun by then is over within this time.
const AT_REST_WITHIN: Micros = 5 * SECOND;
/// All that was lost is there again within this time.
const HEALED_WITHIN: Micros = 10 * SECOND;
/// How often that is looked at.
const LOOK_EVERY: Micros = SECOND / 20;

/// One sector of one file of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sector {
    /// The machine, from 0.
    pub machine: usize,
    /// The file.
    pub file: String,
    /// Which sector of it.
    pub number: u64,
}

/// What is made of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One bit is another, by its number in the sector.
    Flip(u16),
    /// It holds nothing but zeros.
    Zeros,
    /// It holds something random, by this seed.
    Noise(u64),
}

/// What a trial has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healing {
    /// Whether the sector's content changed at all.
    pub changed: bool,
    /// Whether a node came up without some payloads, and got them back.
    pub payloads: bool,
    /// Whether a node came up without a state, and fetched another.
    pub state: bool,
    /// Whether a node found that it may have forgotten a promise.
    pub lost: bool,
    /// Whether the unfinished end of a log was cut.
    pub cut: bool,
}

/// All sectors of the data set of a seed.
pub fn sectors(seed: u64) -> Result<Vec<Sector>, String> {
    let mut world = data_set(seed)?;
    let mut sectors = Vec::new();
    for (machine, it) in world.machines.iter_mut().enumerate() {
        for file in it.disk.list().expect("a disk in memory lists") {
            let size = it.disk.size(&file).expect("it was listed");
            let sector = |number| Sector { machine, file: file.clone(), number };
            sectors.extend((0..size.div_ceil(SECTOR)).map(sector));
        }
    }
    Ok(sectors)
}

/// Spoils one sector of the data set of a seed; the error says what did not heal.
pub fn try_sector(seed: u64, sector: &Sector, change: Change) -> Result<Healing, String> {
    try_all(|| {
        let mut world = data_set(seed)?;
        let mut healing = world.spoil_sector(sector, change)?;
        world.heal(&mut healing)?;
        world.judge()?;
        Ok(healing)
    })
    .map_err(|error| format!("seed {seed}, {sector:?}, {change:?}: {error}"))
}

/// A trial; a panic is an error too.
fn try_all<T>(trial: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(trial))
        .unwrap_or_else(|panic: Box<dyn Any + Send>| Err(panic_text(&*panic)))
}

/// A small cluster that was filled, has come to rest, and is switched off.
fn data_set(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed, family("sectors", seed), None);
    world.run_until(world.now() + FILLED_WITHIN)?;
    for client in &mut world.clients {
        client.improvises = false;
    }
    let until = world.now() + AT_REST_WITHIN;
    let machines = 0..world.machines.len();
    while !machines.clone().all(|at| world.is_at_rest(at)) || !world.answered_all() {
        if world.now() >= until {
            return Err("the cluster does not come to rest".into());
        }
        world.run_until(world.now() + LOOK_EVERY)?;
    }
    for at in machines {
        world.power_goes(at);
    }
    Ok(world)
}

/// Whether everything that the log needs can be read, snapshots too.
fn check_disk(disk: &mut MemoryDisk) -> Result<(), String> {
    let lane = examine(disk).map_err(|error| error.to_string())?;
    lane.check_whole()?;
    for file in lane.snapshots.values() {
        let read = SnapshotReader::open(disk, &file.name);
        let read = read.and_then(|(_, reader)| reader.verify(disk));
        read.map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl World {
    fn answered_all(&self) -> bool {
        self.clients.iter().all(crate::client::Client::is_done)
    }

    fn spoil_sector(&mut self, sector: &Sector, change: Change) -> Result<Healing, String> {
        let Sector { machine, file, number } = sector;
        let (disk, offset) = (&mut self.machines[*machine].disk, number * SECTOR);
        let size = disk.size(file).map_err(|error| error.to_string())?;
        let length = SECTOR.min(size.saturating_sub(offset)) as usize;
        let before = disk.read(file, offset, length).map_err(|error| error.to_string())?;
        let mut after = before.clone();
        match change {
            Change::Flip(bit) => {
                let at = usize::from(bit / 8) % length.max(1);
                if let Some(byte) = after.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Change::Zeros => after.fill(0),
            Change::Noise(seed) => {
                let mut random = crate::random::Random::new(seed);
                for byte in &mut after {
                    *byte = random.word() as u8;
                }
            }
        }
        disk.write_durable(file, offset, &after).map_err(|error| error.to_string())?;
        let changed = before != after;
        self.machines[*machine].spoiled |= changed;
        self.machines[*machine].ever_spoiled |= changed;
        let mut healing = Healing { changed, ..Healing::default() };
        let disk = &mut self.machines[*machine].disk;
        if changed && let Ok(lane) = examine(disk) {
            healing.payloads = lane.shards.values().any(|found| !found.damaged.is_empty());
            healing.state = !lane.lost_snapshots.is_empty() || file.contains(".snap");
            healing.lost = !lane.lost.is_empty() || lane.incomplete;
            healing.cut = lane.report.cut.is_some();
        }
        Ok(healing)
    }

    /// Switches all machines on, and sees that all is well and was well.
    fn heal(&mut self, healing: &mut Healing) -> Result<(), String> {
        let cuts = self.counters.marks.count(Mark::CutTail);
        for at in 0..self.machines.len() {
            let delay = self.random.below(SECOND / 50);
            self.after(delay, Happening::SwitchOn { at });
        }
        self.troubled = false;
        let until = self.now() + HEALED_WITHIN;
        while let Some(lacks) = self.lacking_replica() {
            if self.now() >= until {
                return Err(format!("not healed in time: {lacks}"));
            }
            self.run_until(self.now() + LOOK_EVERY)?;
        }
        healing.cut |= self.counters.marks.count(Mark::CutTail) > cuts;
        let before = self.reached();
        self.ask_every_shard(&[])?;
        self.await_answers(0, until)?;
        self.read_every_key();
        self.await_answers(0, until + HEALED_WITHIN)?;
        self.await_agreement(until + HEALED_WITHIN)?;
        self.went_beyond(&before)?;
        for at in 0..self.machines.len() {
            self.power_goes(at);
            let whole = check_disk(&mut self.machines[at].disk);
            whole.map_err(|error| format!("node {} at the end: {error}", at + 1))?;
        }
        Ok(())
    }

    /// What some node still lacks.
    fn lacking_replica(&self) -> Option<String> {
        self.machines.iter().enumerate().find_map(|(at, machine)| {
            let Some(process) = &machine.process else {
                return Some(format!("node {} is off: {:?}", at + 1, machine.refused));
            };
            let status = process.node.status(machine.clocks.read(self.now()));
            if !status.ready {
                return Some(format!("node {}: {}", at + 1, status.waiting_for.join("; ")));
            }
            (!self.is_whole(at)).then(|| format!("node {} is not whole", at + 1))
        })
    }
}
