//! Liveness, in two forms. A quorum of every shard whose members together hold every payload makes
//! progress within a bound, whatever has become of the rest [Raft §5.4.1, §5.6; Thesis §6.2]. And
//! when everybody is well again, every shard commits a fresh write on *every* replica.
//!
//! Uniform faults hide livelocks: that is why the rest of a quorum stays out for good, dead or deaf
//! or dumb, and does not come and go.

use std::collections::BTreeMap;

use flotilla_node::{Face, Status};
use flotilla_shard::{ShardId, slot_of};

use crate::client::{Ask, Client};
use crate::queue::Micros;
use crate::workload::Command;
use crate::world::World;

/// The world is looked at so often while something is awaited.
const LOOK_EVERY: Micros = 50_000;

impl World {
    /// Through every node but some, a fresh write and a read in every shard, none of which may
    /// fail; and what such a node says about the slots is judged.
    pub(crate) fn ask_every_shard(&mut self, but: &[usize]) -> Result<(), String> {
        let nodes = self.machines.len();
        for at in (0..nodes).filter(|at| !but.contains(at)) {
            let now = self.machines[at].clocks.read(self.now());
            let Some(process) = &self.machines[at].process else {
                return Err(format!("node {} is not up again", at + 1));
            };
            let status = process.node.status(now);
            is_ready(at, &status)?;
            let judged = self.checkers.slots.check(at, &status);
            let judged = judged.map_err(|wrong| format!("node {}: {wrong}", at + 1))?;
            self.counters.maps_checked += u64::from(judged);
            let mut auditor = Client::new(Face::Plain, at);
            auditor.improvises = false;
            auditor.strict = true;
            for shard in status.shards.iter().filter(|shard| !shard.ranges.is_empty()) {
                let within = |slot: u16| {
                    shard.ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
                };
                let now = self.now();
                let names = (0..).map(|number| format!("last-{at}-{now}-{number}"));
                let mut names = names.filter(|name| within(slot_of(name.as_bytes()).0));
                let name = names.next().expect("every slot has names");
                let value = format!("{at}:{}", shard.id);
                for command in [Command::set(&name, value.as_bytes()), Command::get(&name)] {
                    auditor.script.push_back(Ask { command, again: None });
                }
            }
            self.add_client(auditor);
        }
        Ok(())
    }

    /// Every node but some serves all that it should.
    pub(crate) fn are_ready(&self, but: &[usize]) -> Result<(), String> {
        for (at, machine) in self.machines.iter().enumerate().filter(|(at, _)| !but.contains(at)) {
            let Some(process) = &machine.process else { continue };
            is_ready(at, &process.node.status(machine.clocks.read(self.now())))?;
        }
        Ok(())
    }

    /// How far each shard had got, anywhere.
    pub(crate) fn reached(&self) -> BTreeMap<ShardId, u64> {
        let mut reached = BTreeMap::new();
        for process in self.machines.iter().filter_map(|machine| machine.process.as_ref()) {
            for replica in process.node.inspect() {
                let commit = reached.entry(replica.shard).or_insert(0);
                *commit = replica.commit.0.max(*commit);
            }
        }
        reached
    }

    /// Whether every data shard has gone beyond that on every replica; the error names one that
    /// has not.
    pub(crate) fn went_beyond(&self, reached: &BTreeMap<ShardId, u64>) -> Result<(), String> {
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            for replica in process.node.inspect() {
                let before = reached.get(&replica.shard).copied().unwrap_or(0);
                if replica.shard != flotilla_shard::META && replica.applied.0 <= before {
                    return Err(format!(
                        "node {} shard {}: a fresh write after {before} was not applied",
                        at + 1,
                        replica.shard
                    ));
                }
            }
        }
        Ok(())
    }

    /// Waits for the clients from `first` on.
    pub(crate) fn await_answers(&mut self, first: usize, until: Micros) -> Result<(), String> {
        let waits = |client: &Client| !client.is_done();
        while let Some(after) = self.clients[first..].iter().position(waits) {
            let at = first + after;
            if self.now() >= until {
                let client = &self.clients[at];
                return Err(format!(
                    "client {at} of node {} has no answer yet: {:?}, waiting for {:?}",
                    client.home + 1,
                    client.link,
                    client.waiting.front()
                ));
            }
            self.run_until(self.now() + LOOK_EVERY)?;
        }
        Ok(())
    }

    /// All replicas of a shard come to the same state.
    pub(crate) fn await_agreement(&mut self, until: Micros) -> Result<(), String> {
        loop {
            let Some(differs) = super::convergence::disagreement(self) else { return Ok(()) };
            if self.now() >= until {
                return Err(format!("the replicas do not come to one state: {differs}"));
            }
            self.run_until(self.now() + LOOK_EVERY)?;
        }
    }
}

fn is_ready(at: usize, status: &Status) -> Result<(), String> {
    if status.ready {
        return Ok(());
    }
    Err(format!("node {} is not ready again: {}", at + 1, status.waiting_for.join("; ")))
}
