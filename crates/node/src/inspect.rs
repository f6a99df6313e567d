//! What a checker may look at that no client is told: the state of the replicas, at any moment.

use flotilla_raft::{Index, Raft, Term, Write};
use flotilla_shard::ShardId;

use crate::node::Node;
use crate::replica::{Replica, State};

/// One replica of a node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its shard.
    pub shard: ShardId,
    /// Its current term.
    pub term: Term,
    /// Whether it leads that term.
    pub leads: bool,
    /// Its commit index.
    pub commit: Index,
    /// The last entry of its log, durable or not.
    pub last: Index,
    /// The last entry its table has seen; the index of the snapshot while that is being loaded.
    pub applied: Index,
    /// Whether its table can be read: not while a snapshot is being loaded, or when it is halted.
    pub readable: bool,
    /// The shard's clock as of the entry applied last, milliseconds since 1970; 0 while its table
    /// can't be read.
    pub clock_ms: u64,
    /// Whether an entry could not be applied (P13).
    pub halted: bool,
    /// Whether it takes no entries for now, since the log is full.
    pub has_full_log: bool,
}

impl Node {
    /// Every replica of this node, in the order of shards.
    pub fn inspect(&self) -> impl Iterator<Item = Inspection> {
        self.replicas.values().map(|replica| Inspection {
            shard: replica.shard,
            term: replica.raft.term(),
            leads: replica.raft.is_leader(),
            commit: replica.raft.commit_index(),
            last: replica.raft.last_index(),
            applied: replica.applied,
            readable: replica.machine().is_some(),
            clock_ms: replica.machine().map_or(0, flotilla_kv::Machine::clock_ms),
            halted: matches!(replica.state, State::Halted),
            has_full_log: self.has_full_log(replica.shard),
        })
    }

    /// The core of a replica, if there is such a replica here.
    pub fn core(&self, shard: ShardId) -> Option<&Raft> {
        self.replicas.get(&shard).map(|replica| &replica.raft)
    }

    /// What the cores want written and no batch has yet, in order within a shard.
    pub fn unwritten(&self) -> &[(ShardId, Write)] {
        &self.writes
    }

    /// A word that stands for a replica's table and its sessions; `None` while its table can't be
    /// read, or if there is no such replica here. It costs some thousand cycles, so ask for it
    /// when the applied index has changed, not at every look.
    pub fn state_hash(&self, shard: ShardId) -> Option<u64> {
        self.replicas.get(&shard)?.machine().map(flotilla_kv::Machine::state_hash)
    }

    /// Whether every replica that this node had at the founding, or one in its place, is a member
    /// as it should be; `None` before it knows what its peers have seen of its disk.
    pub fn is_settled(&self) -> Option<bool> {
        self.has_begun().then(|| self.unsettled().is_empty())
    }

    /// Whether every replica that this node had at the founding, or one in its place, is a member
    /// as it should be and can be read, and nothing of it is damaged.
    pub fn is_whole(&self) -> bool {
        let whole = |replica: &Replica| {
            replica.machine().is_some()
                && !replica.raft.lacks_state()
                && replica.raft.damaged() == 0
        };
        self.has_begun() && self.unsettled().is_empty() && self.replicas.values().all(whole)
    }

    /// Checks every invariant that one replica can see, of all replicas, in time linear in their
    /// logs. Panics with the claim that is broken.
    pub fn check_invariants(&self) {
        for replica in self.replicas.values() {
            replica.raft.check_invariants();
        }
    }
}
