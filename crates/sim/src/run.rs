//! One run, from its seed to its verdict.
//!
//! 1. Things go wrong while clients work.
//! 2. In some runs everything is repaired but for one node, which is dead or can't hear or can't
//!    speak: within a bound every shard takes a fresh write through every other node.
//! 3. Everything is repaired. Within a bound everybody keeps up with clients that go on, every
//!    request is answered, and every shard takes a fresh write through every node, without any
//!    error.
//! 4. Every key is read once more, and all replicas of a shard come to the same state; no log is
//!    larger than it may be.
//! 5. The histories are checked.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_node::Face;
use flotilla_shard::ShardId;

use crate::check::linearizability::{Verdict, check};
use crate::check::{expiry, once, order};
use crate::client::{Ask, Client};
use crate::config::{Config, Ending};
use crate::counters::Counters;
use crate::groups;
use crate::history::{Answer, KeyState, Operation, Outcome};
use crate::lanes;
use crate::marks::Mark;
use crate::packets;
use crate::queue::Micros;
use crate::scenario::scenario;
use crate::trace::Listener;
use crate::workload::Command;
use crate::world::World;

const SECOND: Micros = 1_000_000;
/// What was committed so long ago is applied everywhere, once nothing goes wrong.
const KEPT_UP_WITHIN: Micros = SECOND;
/// After this, elections and founding are over and no request may fail.
const GRACE: Micros = 4 * SECOND;
/// A change of membership ends when a newcomer was silent for ten election timeouts.
const SILENT_FOR: Micros = 12;
/// The sender of a snapshot of which a message was lost begins again after ten election timeouts.
const UNANSWERED_FOR: Micros = 12;
/// What peers have comes back within this time, once all agree.
const MENDED_WITHIN: Micros = 10 * SECOND;
/// Every request is answered within this time after the repair.
const ANSWERED_WITHIN: Micros = 10 * SECOND;
/// All replicas agree within this time after the last request.
const CONVERGED_WITHIN: Micros = 5 * SECOND;
/// A key with a time to live may be read so long after it, besides what clocks are wrong: a leader
/// that has just been elected learns the time from a quorum first.
const EXPIRY_SLACK: Micros = 3 * SECOND;
/// A run counts as busy from so many operations per second on.
const BUSY: u64 = 50;
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
    /// How far it came, virtual time.
    pub micros: Micros,
    /// What is wrong, and where.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, family, reason, .. } = self;
        write!(
            f,
            "seed {seed} ({family}): {reason}\n  replay: cargo xtask sim-one {seed} --family \
             \"{family}\"   (writes a trace; --shrink makes it smaller)"
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
    match family {
        groups::FAMILY | groups::HURT => return groups::run(family, seed),
        lanes::FAMILY => return lanes::run(seed),
        packets::FAMILY => return packets::run(seed, listener),
        _ => {}
    }
    let mut place = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let world = place.insert(World::new(seed, config, listener));
        world.live()?;
        let counters = world.judge()?;
        Ok(Report { seed, family, digest: world.digest(), counters })
    }));
    let outcome = outcome.unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
    let micros = place.map_or(0, |world| world.now());
    outcome.map_err(|reason| Failure { seed, family, micros, reason })
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without words"))
}

impl World {
    /// The run itself, up to the point where nothing moves any more.
    fn live(&mut self) -> Result<(), String> {
        self.run_until(self.now() + self.config.faults_until)?;
        if let Ending::Quorum(word) = self.config.ending {
            let mut out = self.leave_out(word);
            if !out.is_empty() {
                out.extend(self.outcasts());
                let repair = self.now();
                self.run_until(repair + GRACE)?;
                self.await_all(|world| world.are_ready(&out))?;
                let first = self.clients.len();
                self.ask_every_shard(&out)?;
                self.await_answers(first, self.now() + ANSWERED_WITHIN - GRACE)?;
                self.counters.marks.reach(Mark::QuorumAlone);
            }
        }
        let repair = self.now();
        self.end_troubles();
        if self.config.quiet_ending {
            // What only goes on because something new comes must not look well.
            for client in &mut self.clients {
                client.improvises = false;
            }
        }
        // Clients go on nearly to the end: after elections and founding nothing may fail.
        self.run_until(repair + GRACE - KEPT_UP_WITHIN)?;
        let reached = self.reached();
        self.run_until(repair + GRACE)?;
        self.await_members()?;
        self.await_followers(&reached)?;
        for client in &mut self.clients {
            client.improvises = false;
        }
        let ended = self.now();
        let before = self.reached();
        let out = self.outcasts();
        self.ask_every_shard(&out)?;
        self.await_answers(0, self.now() + ANSWERED_WITHIN - GRACE)?;
        // A node gives up what its client has left by a clock that may be slow.
        let hold = self.config.node.hold_ms * (1_000 + self.config.drift_ppm * 2 / 1_000);
        let mut quiet = (repair + hold).max(ended) + SECOND;
        if self.config.workload.expiring_percent > 0 {
            quiet = quiet.max(ended + LIVES_MAX + 2 * self.config.wall_error_ms() * 1_000);
        }
        if quiet > self.now() {
            self.run_until(quiet)?;
        }
        self.read_every_key();
        self.await_answers(0, self.now() + ANSWERED_WITHIN)?;
        self.await_agreement(self.now() + CONVERGED_WITHIN)?;
        self.await_repair(self.now() + MENDED_WITHIN)?;
        self.went_beyond(&before)?;
        self.check_logs()?;
        self.judge_damage();
        Ok(())
    }

    /// Lets time pass while a new replica is not a member yet: a leader may have begun with another
    /// one in its place, whose node has crashed, and waits for that as long as a core does.
    fn await_members(&mut self) -> Result<(), String> {
        let until = self.now() + SILENT_FOR * self.config.node.election_timeout_ms * 1_000;
        while self.now() < until && !self.all_settled() {
            self.run_until(self.now() + SECOND / 10)?;
        }
        Ok(())
    }

    /// Lets time pass until everybody has what was committed before, and serves it.
    fn await_followers(&mut self, reached: &BTreeMap<ShardId, u64>) -> Result<(), String> {
        let out = self.outcasts();
        self.await_all(|world| world.keep_up(reached).and_then(|()| world.are_ready(&out)))
    }

    /// Lets time pass until nobody lags. Who was sent a snapshot of which a message was lost at
    /// last waits as long as its sender does.
    fn await_all(&mut self, check: impl Fn(&Self) -> Result<(), String>) -> Result<(), String> {
        let timeout = self.config.node.election_timeout_ms * 1_000;
        let until = self.now() + UNANSWERED_FOR * timeout + KEPT_UP_WITHIN;
        while let Err(late) = check(self) {
            if self.now() >= until {
                return Err(late);
            }
            self.run_until(self.now() + SECOND / 10)?;
        }
        Ok(())
    }

    /// Lets time pass until what was damaged has come back, on disk too.
    fn await_repair(&mut self, until: Micros) -> Result<(), String> {
        let out = self.outcasts();
        let lacks = |world: &Self, at: &usize| !out.contains(at) && world.lacks_payloads(*at);
        while let Some(at) = (0..self.machines.len()).find(|at| lacks(self, at)) {
            if self.now() >= until {
                return Err(format!("node {} is never whole again", at + 1));
            }
            self.run_until(self.now() + SECOND / 10)?;
        }
        Ok(())
    }

    fn all_settled(&self) -> bool {
        let mut processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        processes.all(|process| process.node.is_settled() != Some(false))
    }

    /// Every key once more, through some node.
    pub(crate) fn read_every_key(&mut self) {
        let keys: Vec<String> = self.history().keys().map(|(key, _)| key.to_string()).collect();
        let out = self.outcasts();
        let nodes: Vec<usize> = (0..self.machines.len()).filter(|at| !out.contains(at)).collect();
        for (place, &at) in nodes.iter().enumerate() {
            let mut auditor = Client::new(Face::Plain, at);
            auditor.improvises = false;
            auditor.strict = true;
            for key in keys.iter().skip(place).step_by(nodes.len()) {
                auditor.script.push_back(Ask { command: Command::read(key), again: None });
            }
            self.add_client(auditor);
        }
    }

    /// The checks of the histories.
    pub(crate) fn judge(&mut self) -> Result<Counters, String> {
        let mut counters = self.counters();
        let slack = 2 * self.config.wall_error_ms() * 1_000 + EXPIRY_SLACK;
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
            let of_key = |error| format!("key {key}: {error}");
            once::check(operations, &last).map_err(of_key)?;
            counters.orders_checked += order::check(operations, &last).map_err(of_key)?;
            counters.expiries_checked +=
                expiry::check(operations, |value| self.history().life_of(value), slack)
                    .map_err(of_key)?;
            counters.operations_checked += operations.len() as u64;
            counters.histories += 1;
            let mortal = |value: &Vec<u8>| self.history().life_of(value).is_some();
            if last.as_ref().is_some_and(mortal) {
                return Err(format!("key {key} has outlived its time"));
            }
        }
        if counters.completed * SECOND >= BUSY * counters.micros {
            counters.busy_micros = counters.micros;
        }
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
