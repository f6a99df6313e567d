//! What Raft promises, seen from outside of all nodes at once, after every turn.
//!
//! | property | how it is seen |
//! |---|---|
//! | election safety [Raft §5.2] | who led which term, over all history |
//! | leader completeness [Raft §5.4] | a new leader's log reaches as far as anything committed |
//! | log matching, state machine safety [Raft §5.4.3] | every committed entry is the same on all |
//! | durability (P5) | what is committed first is on the disks of a majority of voters |
//! | the machine is a function of the log (P12) | equal state at equal applied index |
//! | nothing goes back | commit index and applied index within a boot |

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use flotilla_node::{Inspection, WriteBatch};
use flotilla_raft::{Entry, Index, Recovered, Term, Write};
use flotilla_shard::ShardId;

use crate::counters::Counters;
use crate::trace::digest_of;

/// Term and digest of an entry.
type Identity = (u64, u64);

/// Watches all nodes.
#[derive(Debug)]
pub(crate) struct Safety {
    /// The positions of the nodes with a vote.
    voters: BTreeMap<ShardId, Vec<usize>>,
    leaders: BTreeMap<(ShardId, Term), usize>,
    committed: BTreeMap<ShardId, BTreeMap<u64, Identity>>,
    states: BTreeMap<(ShardId, Index), (u64, usize)>,
    nodes: Vec<BTreeMap<ShardId, Seen>>,
}

/// What was seen of one replica.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The log as the node has given it out to be written.
    given: Shadow,
    /// The log as it is on the disk.
    durable: Shadow,
    /// Of this boot.
    commit: Index,
    /// Of this boot.
    applied: Option<Index>,
    /// Up to here its log was compared with what is committed.
    checked: u64,
}

/// A replica in words.
#[derive(Clone, Copy, Debug)]
struct Name {
    node: usize,
    shard: ShardId,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} shard {}", self.node + 1, self.shard)
    }
}

/// The identities of a log's entries.
#[derive(Clone, Debug, Default)]
struct Shadow {
    base: u64,
    base_term: u64,
    entries: VecDeque<Identity>,
}

impl Shadow {
    fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn at(&self, index: u64) -> Option<Identity> {
        let position = index.checked_sub(self.base + 1)?;
        self.entries.get(usize::try_from(position).ok()?).copied()
    }

    fn take(&mut self, write: &ShadowWrite) {
        if let Some((index, term)) = write.snapshot {
            let known = if index == self.base {
                Some(self.base_term)
            } else {
                self.at(index).map(|identity| identity.0)
            };
            if known == Some(term) {
                self.entries.drain(..(index - self.base) as usize);
            } else {
                self.entries.clear();
            }
            (self.base, self.base_term) = (index, term);
        }
        if let Some((first, identities)) = &write.entries {
            // What lies at or below the snapshot is covered by it.
            let skipped = (self.base + 1).saturating_sub(*first);
            let keep = (first + skipped).saturating_sub(self.base + 1);
            self.entries.truncate(keep as usize);
            self.entries.extend(identities.iter().skip(skipped as usize));
        }
    }
}

/// One write of a core, in digests.
#[derive(Clone, Debug)]
pub(crate) struct ShadowWrite {
    shard: ShardId,
    snapshot: Option<(u64, u64)>,
    entries: Option<(u64, Vec<Identity>)>,
}

impl ShadowWrite {
    fn of(shard: ShardId, write: &Write) -> Self {
        let snapshot = write.snapshot.as_ref().map(|meta| (meta.index.0, meta.term.0));
        let entries = write
            .entries
            .first()
            .map(|first| (first.index.0, write.entries.iter().map(identity).collect()));
        Self { shard, snapshot, entries }
    }
}

fn identity(entry: &Entry) -> Identity {
    (entry.term.0, digest_of(entry.payload.bytes()))
}

impl Safety {
    /// Watches so many nodes; `voters` are the positions of those with a vote in each shard.
    pub(crate) fn new(nodes: usize, voters: BTreeMap<ShardId, Vec<usize>>) -> Self {
        Self {
            voters,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            states: BTreeMap::new(),
            nodes: vec![BTreeMap::new(); nodes],
        }
    }

    /// A node comes up with what its disk had.
    pub(crate) fn on_boot(&mut self, node: usize, shards: &BTreeMap<ShardId, Recovered>) {
        let seen = &mut self.nodes[node];
        seen.clear();
        for (shard, recovered) in shards {
            let log = Shadow {
                base: recovered.snapshot.index.0,
                base_term: recovered.snapshot.term.0,
                entries: recovered.entries.iter().map(identity).collect(),
            };
            let at = Seen { durable: log.clone(), given: log, ..Seen::default() };
            seen.insert(*shard, at);
        }
    }

    /// A node wants something on its disk. Gives what to report when it is there.
    pub(crate) fn on_write(&mut self, node: usize, batch: &WriteBatch) -> Vec<ShadowWrite> {
        let writes: Vec<ShadowWrite> =
            batch.writes.iter().map(|(shard, write)| ShadowWrite::of(*shard, write)).collect();
        for write in &writes {
            self.nodes[node].entry(write.shard).or_default().given.take(write);
        }
        writes
    }

    /// It is there.
    pub(crate) fn on_durable(&mut self, node: usize, writes: &[ShadowWrite]) {
        for write in writes {
            self.nodes[node].entry(write.shard).or_default().durable.take(write);
        }
    }

    /// A replica after a turn; `all_given` says that what the node holds in memory is what it has
    /// given out to be written. The error names the promise that is broken.
    pub(crate) fn observe(
        &mut self,
        node: usize,
        replica: &Inspection,
        state_hash: impl FnOnce() -> Option<u64>,
        all_given: bool,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let shard = replica.shard;
        let name = Name { node, shard };
        if replica.halted {
            return Err(format!("{name} halted: an entry could not be applied (P13)"));
        }
        self.observe_leader(node, replica, counters).map_err(|error| format!("{name} {error}"))?;
        let seen = self.nodes[node].entry(shard).or_default();
        if replica.commit < seen.commit {
            return Err(format!("{name}: commit went from {} to {}", seen.commit, replica.commit));
        }
        seen.commit = replica.commit;
        let before = seen.applied.replace(replica.applied);
        if before.is_some_and(|before| replica.applied < before) {
            return Err(format!("{name}: applied went from {before:?} to {}", replica.applied));
        }
        if before != Some(replica.applied)
            && let Some(hash) = state_hash()
        {
            let (theirs, other) =
                *self.states.entry((shard, replica.applied)).or_insert((hash, node));
            counters.states_compared += u64::from(other != node);
            if theirs != hash {
                return Err(format!(
                    "{name}: at index {} its state is {hash:016x}, on node {} it was {theirs:016x}",
                    replica.applied,
                    other + 1
                ));
            }
        }
        if !all_given {
            return Ok(());
        }
        self.observe_commit(node, shard, counters).map_err(|error| format!("{name}: {error}"))
    }

    /// Election safety and leader completeness.
    fn observe_leader(
        &mut self,
        node: usize,
        replica: &Inspection,
        counters: &mut Counters,
    ) -> Result<(), String> {
        if !replica.leads {
            return Ok(());
        }
        let key = (replica.shard, replica.term);
        if let Some(leader) = self.leaders.get(&key) {
            return if *leader == node {
                Ok(())
            } else {
                Err(format!("leads term {}, which node {} led", replica.term, leader + 1))
            };
        }
        let led = self.leaders.range((replica.shard, Term(0))..=(replica.shard, Term(u64::MAX)));
        counters.leader_changes += u64::from(led.count() > 0);
        counters.elections += 1;
        self.leaders.insert(key, node);
        let committed = self.committed.get(&replica.shard).and_then(BTreeMap::last_key_value);
        match committed {
            Some((index, _)) if *index > replica.last.0 => Err(format!(
                "leads term {} with a log up to {}, but {index} is committed",
                replica.term, replica.last
            )),
            _ => Ok(()),
        }
    }

    /// Every committed entry is the same everywhere, and on the disks of a majority.
    fn observe_commit(
        &mut self,
        node: usize,
        shard: ShardId,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let seen = self.nodes[node].entry(shard).or_default();
        let first = seen.checked.max(seen.given.base) + 1;
        let last = seen.commit.0.min(seen.given.last());
        seen.checked = seen.checked.max(last);
        for index in first..=last {
            let own = self.nodes[node][&shard].given.at(index).expect("it is within the log");
            counters.commits_checked += 1;
            match self.committed.entry(shard).or_default().get(&index) {
                Some(theirs) if *theirs == own => {}
                Some(theirs) => {
                    return Err(format!(
                        "entry {index} of term {} is committed here, of term {} elsewhere",
                        own.0, theirs.0
                    ));
                }
                None => {
                    self.check_majority(shard, index, own)?;
                    self.committed.entry(shard).or_default().insert(index, own);
                }
            }
        }
        Ok(())
    }

    fn check_majority(&self, shard: ShardId, index: u64, entry: Identity) -> Result<(), String> {
        let voters = &self.voters[&shard];
        let holds = |node: &&usize| {
            self.nodes[**node].get(&shard).is_some_and(|seen| {
                seen.durable.base >= index || seen.durable.at(index) == Some(entry)
            })
        };
        let disks = voters.iter().filter(holds).count();
        if disks > voters.len() / 2 {
            return Ok(());
        }
        Err(format!(
            "entry {index} of term {} is committed, but on {disks} disks of {} voters",
            entry.0,
            voters.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(snapshot: Option<(u64, u64)>, first: u64, terms: &[u64]) -> ShadowWrite {
        let identities: Vec<Identity> = terms.iter().map(|&term| (term, 0)).collect();
        let entries = (!terms.is_empty()).then_some((first, identities));
        ShadowWrite { shard: ShardId(1), snapshot, entries }
    }

    #[test]
    fn a_shadow_truncates_and_begins_anew_as_the_log_does() {
        let mut log = Shadow::default();
        log.take(&write(None, 1, &[1, 1, 1]));
        log.take(&write(None, 2, &[2]));
        assert_eq!((log.last(), log.at(2), log.at(3)), (2, Some((2, 0)), None));
        log.take(&write(Some((1, 1)), 3, &[2, 2]));
        assert_eq!((log.base, log.last(), log.at(2)), (1, 4, Some((2, 0))));
        log.take(&write(Some((9, 3)), 0, &[]));
        assert_eq!((log.base, log.last(), log.at(9)), (9, 9, None));
    }
}
