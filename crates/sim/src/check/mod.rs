//! The checkers: each looks from outside at what a run did, and says in words what is wrong. One
//! file each, headed by its source.
//!
//! | claim | file |
//! |---|---|
//! | one leader a term | `election_safety.rs` |
//! | one vote a term, for ever | `votes.rs` |
//! | a leader only appends | `append_only.rs` |
//! | equal entries have equal logs before them | `log_matching.rs` |
//! | a leader has all that is committed | `leader_completeness.rs` |
//! | the same entries and states everywhere | `state_machine.rs` |
//! | nothing goes back | `monotonic.rs` |
//! | what is committed is on a majority's disks | `durability.rs` |
//! | a node comes up with all it promised | `recovery.rs` |
//! | every key's history has an order | `linearizability.rs` |
//! | a write to several keys is seen whole | `atomicity.rs` |
//! | one connection's commands keep their order | `order.rs` |
//! | every write takes effect once | `once.rs` |
//! | every slot has one owner | `slots.rs` |
//! | what expires is gone, in time | `expiry.rs` |
//! | and not before the shard's clock says so | `shard_clock.rs` |
//! | all replicas come to one state | `convergence.rs` |
//! | a quorum, and then everybody, makes progress | `liveness.rs` |
//! | nobody falls behind, and no log grows, for ever | `bounds.rs` |
//! | a snapshot that arrives is one file | `transfers.rs` |
//!
//! Small worlds of packets have one of their own, `packets/judge.rs`: what clients saw, of all keys
//! together, fits the committed log.

mod append_only;
pub mod atomicity;
pub(crate) mod bounds;
mod convergence;
mod durability;
mod election_safety;
pub mod expiry;
mod leader_completeness;
pub mod linearizability;
mod liveness;
mod log_matching;
mod monotonic;
pub mod once;
pub mod order;
mod recovery;
pub(crate) mod shadow;
pub(crate) mod shard_clock;
mod slots;
mod state_machine;
pub(crate) mod transfers;
mod votes;

use std::collections::BTreeMap;
use std::fmt;

use flotilla_node::{Inspection, WriteBatch};
use flotilla_raft::{Entry, Term};
use flotilla_shard::ShardId;
use flotilla_storage::RecoveredLane;

use crate::counters::Counters;
use crate::marks::Mark;
use election_safety::{ElectionSafety, Leader};
use log_matching::LogMatching;
use monotonic::Monotonic;
use shadow::{Identity, NodeLogs, Shadow, ShadowWrite};
use state_machine::StateMachineSafety;

pub(crate) use slots::SlotOwnership;

/// Watches all nodes, at every turn.
#[derive(Debug)]
pub(crate) struct Checkers {
    /// The positions of the nodes with a vote.
    pub(crate) voters: BTreeMap<ShardId, Vec<usize>>,
    /// The logs of every node.
    pub(crate) logs: Vec<NodeLogs>,
    elections: ElectionSafety,
    matching: LogMatching,
    states: StateMachineSafety,
    pub(crate) slots: SlotOwnership,
    nodes: Vec<BTreeMap<ShardId, Seen>>,
}

/// What was seen of one replica in this boot.
#[derive(Clone, Debug, Default)]
struct Seen {
    progress: Monotonic,
    /// The index of the last state that was compared.
    applied: Option<u64>,
    /// Up to here its log was compared with what is committed.
    checked: u64,
    /// The term that it leads.
    leads: Option<Term>,
    /// What it must have as a new leader, if its log is still to be judged by that.
    unjudged: Option<(u64, Identity)>,
}

/// A replica in words.
#[derive(Clone, Copy, Debug)]
struct Name(usize, ShardId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} shard {}", self.0 + 1, self.1)
    }
}

/// A replica and what it may be asked.
pub(crate) struct Look<'a, H> {
    /// The replica.
    pub(crate) replica: &'a Inspection,
    /// A word for its state, which costs something to compute.
    pub(crate) state_hash: H,
    /// Whether what the node holds in memory is what it has given out to be written.
    pub(crate) all_given: bool,
}

impl Checkers {
    /// Watches so many nodes; `voters` are the positions of those with a vote in each shard.
    pub(crate) fn new(nodes: usize, voters: BTreeMap<ShardId, Vec<usize>>) -> Self {
        Self {
            voters,
            logs: vec![NodeLogs::default(); nodes],
            elections: ElectionSafety::default(),
            matching: LogMatching::default(),
            states: StateMachineSafety::default(),
            slots: SlotOwnership::default(),
            nodes: vec![BTreeMap::new(); nodes],
        }
    }

    /// A node comes up with what its disk had, of which perhaps `one_frame` was made unreadable.
    pub(crate) fn on_boot(
        &mut self,
        node: usize,
        lane: &RecoveredLane,
        one_frame: bool,
        counters: &mut Counters,
    ) -> Result<(), String> {
        self.nodes[node].clear();
        counters.recoveries_checked += 1;
        if one_frame {
            recovery::forgets_nothing(lane)
                .map_err(|error| format!("node {} {error}", node + 1))?;
        }
        let mut lost = lane.lost.clone();
        if lane.incomplete {
            let missing = self.voters.keys().filter(|shard| !lane.shards.contains_key(shard));
            for shard in missing {
                lost.entry(*shard).or_default();
            }
        }
        if !lost.is_empty() {
            self.logs[node].remember(&lost);
        }
        let more = recovery::check(&mut self.logs[node], &lane.shards, &lost)
            .map_err(|error| format!("node {} {error}", node + 1))?;
        if more > 0 {
            counters.marks.reach(Mark::UnreportedFrame);
        }
        Ok(())
    }

    /// A node wants a batch on its disk, as that frame.
    pub(crate) fn on_write(
        &mut self,
        node: usize,
        frame: u64,
        batch: &WriteBatch,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let writes = NodeLogs::on_write(batch);
        for shard in &batch.removed {
            self.logs[node].given.remove(shard);
            self.logs[node].durable.remove(shard);
        }
        for shard in &batch.renewed {
            self.logs[node].renew(*shard);
        }
        let mut broken = Ok(());
        for write in &writes {
            let seen = self.judge_write(node, write, counters);
            broken = broken.and(seen.map_err(|error| format!("node {} {error}", node + 1)));
            self.note_replaced(node, write, counters);
            self.logs[node].given.entry(write.shard).or_default().take(write);
        }
        self.logs[node].submit(frame, writes);
        broken
    }

    fn judge_write(
        &mut self,
        node: usize,
        write: &ShadowWrite,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let blank = Shadow::default();
        let before = self.logs[node].given.get(&write.shard).unwrap_or(&blank);
        let leads = self.nodes[node].get(&write.shard).and_then(|seen| seen.leads);
        votes::check(before, write)?;
        append_only::check(leads, before, write)?;
        counters.entries_matched += self.matching.on_write(before, write)?;
        Ok(())
    }

    fn note_replaced(&self, node: usize, write: &ShadowWrite, counters: &mut Counters) {
        let Some(first) = write.first() else { return };
        let Some(old) = self.logs[node].durable.get(&write.shard).and_then(|log| log.at(first))
        else {
            return;
        };
        if old == write.entries[0] {
            return;
        }
        counters.marks.reach(Mark::EntryReplaced);
        let voters = &self.voters[&write.shard];
        let holds = |&&other: &&usize| {
            other == node || durability::holds(&self.logs[other], write.shard, first, old)
        };
        if voters.iter().filter(holds).count() > voters.len() / 2 {
            counters.marks.reach(Mark::MajorityReplaced);
        }
    }

    /// A frame without any write goes to a disk; those after it count only with it.
    pub(crate) fn on_seal(&mut self, node: usize, frame: u64) {
        self.logs[node].submit(frame, Vec::new());
    }

    /// A frame is on a disk.
    pub(crate) fn on_durable(&mut self, node: usize, frame: u64) {
        self.logs[node].done(frame);
    }

    /// A replica after a turn. The error names the promise that is broken.
    pub(crate) fn observe(
        &mut self,
        node: usize,
        look: Look<'_, impl FnOnce() -> Option<u64>>,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let shard = look.replica.shard;
        self.look_at(node, look, counters).map_err(|error| format!("{} {error}", Name(node, shard)))
    }

    fn look_at(
        &mut self,
        node: usize,
        look: Look<'_, impl FnOnce() -> Option<u64>>,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let Look { replica, state_hash, all_given } = look;
        let shard = replica.shard;
        if replica.halted {
            return Err("halted: an entry could not be applied (P13)".to_string());
        }
        let led = replica.leads.then_some(replica.term);
        let seen = self.nodes[node].entry(shard).or_default();
        seen.progress.check(replica)?;
        let begins = led.is_some() && seen.leads != led;
        seen.leads = led;
        let applied = replica.applied.0;
        let moved = seen.applied != Some(applied);
        if begins {
            self.on_leader(node, replica, counters)?;
        }
        if moved && let Some(hash) = state_hash() {
            self.nodes[node].entry(shard).or_default().applied = Some(applied);
            let compared = self.states.on_state(shard, applied, hash, node)?;
            counters.states_compared += u64::from(compared);
        }
        if all_given { self.judge_log(node, replica, counters) } else { Ok(()) }
    }

    /// What the node holds in memory is known: a new leader's log is judged, and what is committed.
    fn judge_log(
        &mut self,
        node: usize,
        replica: &Inspection,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let seen = self.nodes[node].entry(replica.shard).or_default();
        let committed = seen.unjudged.take().filter(|_| replica.leads);
        if let (Some(_), Some(given)) = (committed, self.logs[node].given.get(&replica.shard)) {
            leader_completeness::check(replica.last.0, given, committed)?;
        }
        self.observe_commit(node, replica, counters)
    }

    fn on_leader(
        &mut self,
        node: usize,
        replica: &Inspection,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let (shard, term) = (replica.shard, replica.term);
        let leader = self.elections.on_leader(shard, term, node)?;
        counters.elections += u64::from(leader != Leader::Known);
        counters.leader_changes += u64::from(leader == Leader::Next);
        let others = self.nodes.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != node);
        if others.any(|(_, seen)| seen.get(&shard).is_some_and(|seen| seen.leads.is_some())) {
            counters.marks.reach(Mark::TwoLeaders);
        }
        if term > Term(20) {
            counters.marks.reach(Mark::HighTerm);
        }
        let committed = self.states.committed_before(shard, term.0);
        let given = self.logs[node].given.get(&shard);
        if let (Some(given), Some((index, _))) = (given, committed)
            && given.last() > index
        {
            counters.marks.reach(Mark::LeaderWithOldEntries);
        }
        self.nodes[node].entry(shard).or_default().unjudged = committed;
        leader_completeness::check_length(replica.last.0, committed)
            .map_err(|error| format!("begins term {term}: {error}"))
    }

    /// Every committed entry is the same everywhere, and on the disks of a majority.
    fn observe_commit(
        &mut self,
        node: usize,
        replica: &Inspection,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let shard = replica.shard;
        let Some(given) = self.logs[node].given.get(&shard) else { return Ok(()) };
        let seen = self.nodes[node].entry(shard).or_default();
        let first = seen.checked.max(given.base) + 1;
        let last = replica.commit.0.min(given.last());
        seen.checked = seen.checked.max(last);
        for index in first..=last {
            if given.holes().contains(&index) {
                continue;
            }
            let own = given.at(index).expect("it is within the log");
            counters.commits_checked += 1;
            if self.states.on_commit(shard, (index, own), replica.term.0)? {
                durability::check(&self.logs, &self.voters[&shard], shard, index, own)?;
            }
        }
        Ok(())
    }

    /// A process is gone.
    pub(crate) fn on_end(&mut self, node: usize) {
        self.nodes[node].clear();
    }

    /// A node's disk is blank.
    pub(crate) fn forget_disk(&mut self, node: usize) {
        self.logs[node].forget();
    }

    /// A node's disk was changed in a way that nothing on it shows: it is taken as it is, once.
    pub(crate) fn trust_disk(&mut self, node: usize) {
        self.logs[node].trust();
    }

    /// The last entry known to be committed.
    pub(crate) fn last_committed(&self, shard: ShardId) -> u64 {
        self.states.last_committed(shard).map_or(0, |(index, _)| index)
    }

    /// The last entry known to be on a node's disk.
    pub(crate) fn durable_last(&self, node: usize, shard: ShardId) -> u64 {
        self.logs[node].durable.get(&shard).map_or(0, Shadow::last)
    }

    /// The term of an entry of a node's log, if it has it.
    pub(crate) fn given_term(&self, node: usize, shard: ShardId, index: u64) -> Option<u64> {
        self.logs[node].given.get(&shard)?.at(index).map(|entry| entry.term)
    }

    /// The term of the last entry of a node's log.
    pub(crate) fn given_last_term(&self, node: usize, shard: ShardId) -> Option<u64> {
        let log = self.logs[node].given.get(&shard)?;
        log.term_at(log.last())
    }

    /// A node comes up with snapshots of these shards that can't be read.
    pub(crate) fn on_stateless(&mut self, node: usize, shards: impl Iterator<Item = ShardId>) {
        self.logs[node].stateless = shards.collect();
    }

    /// Payloads that were damaged on a node's disk are to be written again.
    pub(crate) fn on_repair(&mut self, node: usize, shard: ShardId, entries: &[Entry]) {
        let logs = &mut self.logs[node];
        for log in [&mut logs.given, &mut logs.durable] {
            if let Some(log) = log.get_mut(&shard) {
                for entry in entries {
                    log.fill(entry);
                }
            }
        }
    }

    /// Whether these nodes together hold all of a shard that is committed: one of them the last
    /// entry, another one each payload that one of them lacks, and one of them a state.
    pub(crate) fn hold_all(&self, shard: ShardId, nodes: &[usize]) -> bool {
        let Some((last, entry)) = self.states.last_committed(shard) else { return true };
        let logs = || nodes.iter().filter_map(|&node| self.logs[node].durable.get(&shard));
        let has = |log: &Shadow, index: u64| {
            log.base >= index || (log.last() >= index && !log.holes().contains(&index))
        };
        let mut holes = logs().flat_map(Shadow::holes);
        let stateless = |node: &&usize| self.logs[**node].stateless.contains(&shard);
        nodes.iter().any(|&node| durability::holds(&self.logs[node], shard, last, entry))
            && holes.all(|&hole| logs().any(|log| has(log, hole)))
            && nodes.iter().filter(stateless).count() == 0
    }
}
