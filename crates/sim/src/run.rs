//! One run, from its seed to its verdict.
//!
//! 1. Things go wrong while clients work.
//! 2. In some runs everything is repaired but for one node, which is dead or can't hear or can't
//!    speak: within a bound every shard takes a fresh write through every other node.
//! 3. Everything is repaired. Within a bound every request is answered, and every shard takes a
//!    fresh write through every node, without any error.
//! 4. Every key is read once more, and all replicas of a shard come to the same state.
//! 5. The histories are checked.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_node::Face;
use flotilla_raft::Index;
use flotilla_shard::slot_of;

use crate::check::linearizability::{Verdict, check};
use crate::check::once;
use crate::client::{Ask, Client};
use crate::config::Config;
use crate::counters::Counters;
use crate::history::{Answer, Call, KeyState, Operation, Outcome};
use crate::queue::Micros;
use crate::scenario::scenario;
use crate::trace::Listener;
use crate::workload::Command;
use crate::world::World;

const SECOND: Micros = 1_000_000;
/// Clients go on for so long after the repair.
const WORK_AFTER_REPAIR: Micros = SECOND / 3;
/// After this, elections and founding are over and no request may fail.
const GRACE: Micros = 4 * SECOND;
/// Every request is answered within this time after the repair.
const ANSWERED_WITHIN: Micros = 10 * SECOND;
/// All replicas agree within this time after the last request.
const CONVERGED_WITHIN: Micros = 5 * SECOND;
/// The world is looked at so often while something is awaited.
const LOOK_EVERY: Micros = SECOND / 20;
/// The longest time to live that clients give, and some more.
const LIVES_MAX: Micros = 2 * SECOND;

/// What a run that went well has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its family of scenarios.
    pub family: &'static str,
    /// Equal for equal runs.
    pub digest: u64,
    /// How often each thing happened.
    pub counters: Counters,
}

/// A run that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its family of scenarios.
    pub family: &'static str,
    /// What is wrong, and where.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, family, reason } = self;
        write!(
            f,
            "seed {seed} ({family}): {reason}\n  replay: SIM_SEED={seed} cargo test \
             -p flotilla-sim --test seeds one_seed -- --nocapture   (SIM_TRACE=1 tells the story)"
        )
    }
}

impl std::error::Error for Failure {}

/// Runs what a seed stands for.
pub fn run_seed(seed: u64) -> Result<Report, Failure> {
    run(seed, scenario(seed), None)
}

/// Runs a configuration with a seed, and tells its story to `listener`. A panic of the code under
/// test is a failure of the run.
pub fn run(seed: u64, config: Config, listener: Option<Listener>) -> Result<Report, Failure> {
    let family = config.family;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, config, listener);
        world.live()?;
        let counters = world.judge()?;
        Ok(Report { seed, family, digest: world.digest(), counters })
    }));
    let outcome = outcome.unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
    outcome.map_err(|reason| Failure { seed, family, reason })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without words"))
}

impl World {
    /// The run itself, up to the point where nothing moves any more.
    fn live(&mut self) -> Result<(), String> {
        self.run_until(self.now() + self.config.faults_until)?;
        if let Some(out) = self.leave_one_out() {
            let repair = self.now();
            self.run_until(repair + GRACE)?;
            let first = self.clients.len();
            self.ask_every_shard(Some(out))?;
            self.await_answers(first, repair + ANSWERED_WITHIN)?;
        }
        let repair = self.now();
        self.end_troubles();
        self.run_until(repair + WORK_AFTER_REPAIR)?;
        for client in &mut self.clients {
            client.improvises = false;
        }
        self.run_until(repair + GRACE)?;
        self.ask_every_shard(None)?;
        self.await_answers(0, repair + ANSWERED_WITHIN)?;
        // By a clock that is slow.
        let hold = self.config.node.hold_ms * (1_000 + self.config.drift_ppm * 2 / 1_000);
        let lives = LIVES_MAX + 2 * self.config.skew_ms * 1_000;
        let quiet = repair + WORK_AFTER_REPAIR + (hold + SECOND).max(lives);
        if quiet > self.now() {
            self.run_until(quiet)?;
        }
        self.read_every_key();
        self.await_answers(0, self.now() + ANSWERED_WITHIN)?;
        self.await_agreement(self.now() + CONVERGED_WITHIN)
    }

    /// Through every node, but for one, a fresh write and a read in every shard.
    fn ask_every_shard(&mut self, but: Option<usize>) -> Result<(), String> {
        let nodes = self.machines.len();
        for at in (0..nodes).filter(|&at| Some(at) != but) {
            let now = self.machines[at].clocks.read(self.now());
            let Some(process) = &self.machines[at].process else {
                return Err(format!("node {} is not up again", at + 1));
            };
            let status = process.node.status(now);
            if !status.ready {
                let waiting_for = status.waiting_for.join("; ");
                return Err(format!("node {} is not ready again: {waiting_for}", at + 1));
            }
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

    /// Every key once more, through some node.
    fn read_every_key(&mut self) {
        let keys: Vec<String> = self.history().keys().map(|(key, _)| key.to_string()).collect();
        let nodes = self.machines.len();
        for at in 0..nodes {
            let mut auditor = Client::new(Face::Plain, at);
            auditor.improvises = false;
            auditor.strict = true;
            for key in keys.iter().skip(at).step_by(nodes) {
                auditor.script.push_back(Ask { command: Command::get(key), again: None });
            }
            self.add_client(auditor);
        }
    }

    /// Waits for the clients from `first` on.
    fn await_answers(&mut self, first: usize, until: Micros) -> Result<(), String> {
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
    fn await_agreement(&mut self, until: Micros) -> Result<(), String> {
        loop {
            let Some(differs) = self.disagreement() else { return Ok(()) };
            if self.now() >= until {
                return Err(format!("the replicas do not come to one state: {differs}"));
            }
            self.run_until(self.now() + LOOK_EVERY)?;
        }
    }

    fn disagreement(&self) -> Option<String> {
        let mut states = std::collections::BTreeMap::new();
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else { return Some(format!("{} is off", at + 1)) };
            for replica in process.node.inspect() {
                let state: (Index, Index, Option<u64>) =
                    (replica.applied, replica.commit, process.node.state_hash(replica.shard));
                let (first, theirs) = *states.entry(replica.shard).or_insert((at, state));
                let whole = state.2.is_some() && state.0 == state.1;
                if theirs != state || !whole {
                    return Some(format!(
                        "shard {}: node {} {theirs:?}, node {} {state:?}",
                        replica.shard,
                        first + 1,
                        at + 1
                    ));
                }
            }
        }
        None
    }

    /// The checks of the histories.
    fn judge(&mut self) -> Result<Counters, String> {
        for (key, operations) in self.history().keys() {
            match check(operations) {
                Verdict::Linearizable => {}
                Verdict::Violation(why) => {
                    return Err(format!("key {key} is not linearizable: {why}"));
                }
                Verdict::Unknown => {
                    let count = operations.len();
                    return Err(format!("key {key}: no verdict about its {count} operations"));
                }
            }
            let last = last_state(operations);
            once::check(operations, &last).map_err(|error| format!("key {key}: {error}"))?;
            let expires = operations.iter().any(|one| matches!(one.call, Call::Expire(_)));
            if expires && last.is_some() {
                return Err(format!("key {key} has outlived its time"));
            }
        }
        let mut counters = self.counters();
        counters.histories = self.history().keys().count() as u64;
        Ok(counters)
    }
}

/// What the last read saw, which came after everything else.
fn last_state(operations: &[Operation]) -> KeyState {
    let read = operations.iter().rev().find_map(|operation| match &operation.outcome {
        Outcome::Known(Answer::Value(value)) if operation.call.is_read() => Some(value.clone()),
        _ => None,
    });
    read.flatten()
}
