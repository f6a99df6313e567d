//! The world: machines, network, clients, time, and everything that is going to happen.
//!
//! Time jumps from one happening to the next. All chance comes from one generator, drawn from in
//! the order of happenings, and nothing has an order of its own: so a run is a function of its
//! configuration and its seed.

mod ambush;
mod clients;
mod cores;
mod damage;
mod disks;
mod expiries;
mod faults;
mod figure_8;
mod links;
mod nodes;
mod partitions;
mod readers;
mod repair;
#[cfg(test)]
mod tests;
mod torn_transfer;

use std::collections::{BTreeMap, BTreeSet};

use flotilla_node::{ConnId, Face};
use flotilla_shard::{META, ShardId};

use crate::check::Checkers;
use crate::check::shard_clock::ShardClocks;
use crate::check::transfers::Transfers;
use crate::client::{Ask, Client};
use crate::clock::Clocks;
use crate::config::{Config, Driver, Mutant};
use crate::counters::Counters;
use crate::history::History;
use crate::machine::Machine;
use crate::network::{Network, Party};
use crate::queue::{Micros, Queue};
use crate::random::Random;
use crate::trace::{Listener, Trace};
use crate::workload::Commands;

/// The first moment: no clock shows 0.
const BEGIN: Micros = 1_000_000;
/// The nodes are switched on within this time.
const SWITCHED_ON_WITHIN: Micros = 300_000;
/// By so much the clocks of a mutant are ahead, milliseconds.
const HASTE_MS: i64 = 60_000;
/// Of meta's replicas so many vote.
const META_VOTERS: usize = 5;

/// A cluster, its clients, and all that happens to them.
#[derive(Debug)]
pub struct World {
    pub(crate) config: Config,
    pub(crate) now: Micros,
    /// The moment of the first happening.
    pub(crate) began: Micros,
    pub(crate) queue: Queue<Happening>,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) commands: Commands,
    pub(crate) history: History,
    pub(crate) checkers: Checkers,
    pub(crate) shard_clocks: ShardClocks,
    pub(crate) counters: Counters,
    /// Numbers the partitions, so that a heal ends its own.
    pub(crate) partition: u64,
    /// The schedule of Figure 8, while it is played.
    pub(crate) figure_8: Option<figure_8::Figure8>,
    /// The snapshot that is torn on its way, while that is played.
    pub(crate) torn_transfer: Option<torn_transfer::TornTransfer>,
    /// What has been read and received of snapshots.
    pub(crate) transfers: Transfers,
    /// The crashes that wait for their moment.
    pub(crate) ambushes: ambush::Ambushes,
    /// Machines that are not switched on again.
    pub(crate) dead: BTreeSet<usize>,
    /// Whether things go wrong.
    pub(crate) troubled: bool,
    /// Until then nothing goes wrong that has not begun.
    pub(crate) calm_until: Micros,
    pub(crate) failure: Option<String>,
}

/// What is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A machine is switched on.
    SwitchOn { at: usize },
    /// A process looks at what has happened.
    Turn { at: usize, boot: u64 },
    /// A deadline of a node may have come.
    Wake { at: usize, boot: u64, due: Micros },
    /// A frame may be on the disk.
    FrameDone { at: usize, boot: u64, frame: u64 },
    /// The log may have been idle for long enough.
    Seal { at: usize, boot: u64 },
    /// Frames wait for a file for which there was no room.
    MakeFiles { at: usize, boot: u64 },
    /// A job of the helper is done.
    HelperDone { at: usize, boot: u64 },
    /// Something may have arrived from that side.
    Arrive { id: u64, side: usize },
    /// A dial reaches its destination.
    Dialed { dial: Dial },
    /// The answer to a dial is back.
    Connected { party: Party, dials: u64, id: Option<u64> },
    /// A client may go on.
    Step { client: usize },
    /// A client that waits for answers asks for more.
    AskOn { client: usize, id: u64 },
    /// A client may lose its patience.
    Patience { client: usize, dials: u64, sent: Micros },
    /// A client that does not read asks for much.
    Gulp { client: usize, id: u64 },
    /// A client reads on.
    ReadsAgain { id: u64 },
    /// A planned fault.
    Fault { number: usize },
    /// A partition is over.
    Heal { partition: u64 },
    /// A node that comes and goes does so again.
    Flap { at: usize, times: u64, every: Micros },
    /// What troubles a link is over.
    LinkRecovers { from: usize, to: usize },
    /// A machine is as quick as usual.
    NodeRecovers { at: usize },
    /// A disk has room again.
    SpaceReturns { at: usize },
    /// A wall clock goes on.
    ClockGoesOn { at: usize },
    /// A disk that lied about its syncs loses what was not synced.
    LieComesOut { at: usize },
    /// A disk is as quick as usual.
    DiskRecovers { at: usize },
    /// A machine loses its power, if that boot still runs.
    PowerGoes { at: usize, boot: u64 },
}

/// A connection in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    pub(crate) party: Party,
    /// The client's number of this dial.
    pub(crate) dials: u64,
    pub(crate) to: usize,
    pub(crate) face: Face,
    pub(crate) attempts: u32,
}

impl World {
    /// A world whose machines are about to be switched on.
    pub fn new(seed: u64, config: Config, listener: Option<Listener>) -> Self {
        let mut random = Random::new(seed);
        let nodes = config.layout.nodes.len();
        let machines = (0..nodes).map(|_| Machine::new(clocks(&config, &mut random))).collect();
        let mut world = Self {
            now: BEGIN,
            began: BEGIN,
            queue: Queue::new(),
            trace: Trace::new(listener),
            machines,
            network: Network::default(),
            clients: Vec::new(),
            commands: Commands::new(config.workload.clone()),
            history: History::default(),
            checkers: Checkers::new(nodes, voters(&config)),
            shard_clocks: ShardClocks::default(),
            counters: Counters::default(),
            partition: 0,
            figure_8: None,
            torn_transfer: None,
            transfers: Transfers::default(),
            ambushes: Default::default(),
            dead: BTreeSet::new(),
            troubled: true,
            calm_until: 0,
            failure: None,
            random,
            config,
        };
        for at in 0..nodes {
            let mut delay = world.random.below(SWITCHED_ON_WITHIN);
            if at + 1 == nodes {
                delay += world.config.latecomer;
            }
            world.after(delay, Happening::SwitchOn { at });
        }
        let workload = world.config.workload.clone();
        for number in 0..workload.plain_clients + workload.cluster_clients {
            let face = if number < workload.plain_clients { Face::Plain } else { Face::Cluster };
            let home = world.random.position(nodes);
            world.add_client(Client::new(face, home));
        }
        for number in 0..workload.ballast {
            let command = Commands::ballast(number, &mut world.random);
            world.clients[0].script.push_back(Ask { command, again: None });
        }
        world.schedule_fault(0);
        world
    }

    /// Lets time pass until `until`. The error says what went wrong, and is final.
    pub fn run_until(&mut self, until: Micros) -> Result<(), String> {
        while self.failure.is_none() {
            let Some((at, what)) = self.queue.pop_until(until) else { break };
            self.now = at;
            self.trace.mix(at);
            self.counters.events += 1;
            self.happen(what);
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.now = until;
        self.counters.micros = until - BEGIN;
        Ok(())
    }

    /// The present moment.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.trace.digest()
    }

    /// What was seen so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for machine in &self.machines {
            counters.lost_sectors += machine.disk.counters().lost_sectors;
            counters.lost_names += machine.disk.counters().lost_names;
        }
        counters.skewed_runs = u64::from(self.config.skew_ms > 100);
        counters.drifting_runs = u64::from(self.config.drift_ppm > 100_000);
        match self.config.driver {
            Driver::Inline => counters.inline_runs = 1,
            Driver::Threaded => counters.threaded_runs = 1,
            Driver::Asynchronous => counters.asynchronous_runs = 1,
        }
        counters
    }

    /// What the clients did and saw.
    pub fn history(&self) -> &History {
        &self.history
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::SwitchOn { at } => self.switch_on(at),
            Happening::Turn { at, boot } => self.turn(at, boot),
            Happening::Wake { at, boot, due } => self.wake(at, boot, due),
            Happening::FrameDone { at, boot, frame } => self.frame_done(at, boot, frame),
            Happening::Seal { at, boot } => self.seal(at, boot),
            Happening::MakeFiles { at, boot } => self.make_files(at, boot),
            Happening::HelperDone { at, boot } => self.helper_done(at, boot),
            Happening::Arrive { id, side } => self.arrive(id, side),
            Happening::Dialed { dial } => self.dialed(dial),
            Happening::Connected { party, dials, id } => self.connected(party, dials, id),
            Happening::Step { client } => self.client_step(client),
            Happening::AskOn { client, id } => self.ask_on(client, id),
            Happening::Patience { client, dials, sent } => self.patience(client, dials, sent),
            Happening::Gulp { client, id } => self.gulp(client, id),
            Happening::ReadsAgain { id } => self.reads_again(id),
            Happening::Fault { number } => self.fault(number),
            Happening::Heal { partition } => self.heal_partition(partition),
            Happening::Flap { at, times, every } => self.flap(at, times, every),
            Happening::LinkRecovers { from, to } => self.link_recovers(from, to),
            Happening::NodeRecovers { at } => self.machines[at].turn_micros = 0,
            Happening::SpaceReturns { at } => self.machines[at].disk.set_capacity(None),
            Happening::ClockGoesOn { at } => self.machines[at].clocks.frozen_at = None,
            Happening::LieComesOut { at } => self.lie_comes_out(at),
            Happening::DiskRecovers { at } => self.machines[at].disk_slowness = 1,
            Happening::PowerGoes { at, boot } => {
                let may = self.troubled && !self.is_calm();
                if may && self.machines[at].process_of(boot).is_some() {
                    self.power_goes(at);
                }
            }
        }
    }

    pub(crate) fn after(&mut self, delay: Micros, what: Happening) {
        self.queue.push(self.now + delay, what);
    }

    /// How long something takes that usually takes so long; after the repair there is no long tail.
    pub(crate) fn delay(&mut self, usual: Micros) -> Micros {
        if self.troubled {
            self.random.heavy_tailed(usual)
        } else {
            self.random.between(usual / 2, usual * 3 / 2)
        }
    }

    /// The run has failed; the first reason counts.
    pub(crate) fn fail(&mut self, reason: String) {
        self.tell(|| format!("FAILED: {reason}"));
        self.failure.get_or_insert(reason);
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        self.trace.tell(|| {
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            format!("{seconds:>3}.{micros:06} {}", line())
        });
    }

    pub(crate) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }

    /// The machine whose plain or cluster port has this address.
    pub(crate) fn machine_at(&self, address: &str) -> Option<(usize, Face)> {
        let (ip, port) = address.rsplit_once(':')?;
        let same = |other: &String| other.rsplit_once(':').is_some_and(|(other, _)| other == ip);
        let at = self.config.layout.nodes.iter().position(same)?;
        let plain = self.config.layout.nodes[at] == address;
        let cluster = port.parse() == Ok(CLUSTER_PORT);
        match (plain, cluster) {
            (true, _) => Some((at, Face::Plain)),
            (_, true) => Some((at, Face::Cluster)),
            _ => None,
        }
    }
}

/// The plain port of every machine.
pub(crate) const PLAIN_PORT: u16 = 7_000;
/// The cluster port of every machine.
pub(crate) const CLUSTER_PORT: u16 = 8_000;

/// The address of a machine's plain port.
pub(crate) fn address(at: usize) -> String {
    format!("10.0.0.{}:{PLAIN_PORT}", at + 1)
}

pub(crate) fn clocks(config: &Config, random: &mut Random) -> Clocks {
    let most = config.drift_ppm;
    let drift = random.between(0, 2 * most) as i64 - most as i64;
    let skew = config.skew_ms;
    let hasty = if config.mutant == Some(Mutant::HastyClocks) { HASTE_MS } else { 0 };
    Clocks::new(drift, random.between(0, 2 * skew) as i64 - skew as i64 + hasty)
}

fn voters(config: &Config) -> BTreeMap<ShardId, Vec<usize>> {
    let layout = &config.layout;
    let meta = (0..layout.nodes.len().min(META_VOTERS)).collect();
    let data = layout.shard_ids().map(|shard| {
        let nodes = layout.replicas(shard).iter();
        (shard, nodes.map(|node| node.position().expect("nodes count from 1")).collect())
    });
    std::iter::once((META, meta)).chain(data).collect()
}

/// A process as a party of a connection.
pub(crate) fn node_party(at: usize, boot: u64, conn: ConnId) -> Party {
    Party::Node { at, boot, conn }
}
