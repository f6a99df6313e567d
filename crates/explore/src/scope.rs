//! What is explored: where it begins, and how often each thing may happen.

use flotilla_raft::{Configuration, ReplicaId};

use crate::cluster::Cluster;

/// A cluster to begin with, and bounds that make its future finite or nearly so.
#[derive(Clone, Debug)]
pub struct Scope {
    /// What it is called.
    pub name: &'static str,
    /// What has happened before.
    pub begin: Begin,
    /// No replica enters a higher term.
    pub term_max: u64,
    /// How often each thing happens at most.
    pub budget: Budget,
    /// So many messages are under way at most; who sends more loses the newest.
    pub under_way_max: usize,
    /// The search ends after so many distinct states.
    pub states_max: u64,
    /// The search ends with the states that so many actions lead to.
    pub actions_max: usize,
    /// What a host that breaks its contract does, to see that it is noticed.
    pub fault: Option<HostFault>,
}

/// What has happened before a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Three blank voters.
    Blank,
    /// Three voters; the first and the third ask for votes in the first term.
    Split,
    /// Three voters; the first leads, its first entry is committed and known to be everywhere.
    Led,
    /// As [`Begin::Led`], then two entries more that the third did not get.
    Lagging,
    /// As [`Begin::Lagging`], and the two others have a snapshot in their place.
    Compacted,
    /// Two voters, one of which leads, and a blank third replica.
    Two,
    /// As [`Begin::Two`], and the change to the first and third as voters has become joint.
    Joint,
}

/// How often each thing happens at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// The power of a replica goes, and comes back.
    pub crashes: u8,
    /// A message is lost.
    pub losses: u8,
    /// A message is delivered and delivered again later.
    pub repeats: u8,
    /// A leader is given something to append.
    pub proposals: u8,
    /// A read is asked for.
    pub reads: u8,
    /// A replica makes a snapshot of what it has applied.
    pub snapshots: u8,
    /// A leader is asked for other voters.
    pub changes: u8,
    /// A leader is asked to hand over.
    pub transfers: u8,
    /// A replica is silent for longer than any limit.
    pub sleeps: u8,
}

/// How a host may break its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// A vote is gone after a crash.
    ForgetsVote,
    /// The last entry is gone after a crash.
    ForgetsEntry,
}

impl Scope {
    /// The voters that a change asks for.
    pub(crate) const CHANGED: [ReplicaId; 2] = [ReplicaId(1), ReplicaId(3)];

    /// The cluster to begin with. Panics if it does not come to be as described: then the core
    /// can't even do that.
    pub(crate) fn root(&self) -> Cluster {
        let ids = |ids: &[u64]| Configuration::of_voters(ids.iter().map(|&id| ReplicaId(id)));
        let all = [0, 1, 2];
        let some = [0, 1];
        let founding = match self.begin {
            Begin::Two | Begin::Joint => ids(&[1, 2]),
            _ => ids(&[1, 2, 3]),
        };
        let mut cluster = Cluster::founded(&founding);
        match self.begin {
            Begin::Blank => {}
            Begin::Split => cluster.split(),
            Begin::Led => cluster.elect(&all),
            Begin::Lagging => {
                cluster.elect(&all);
                cluster.commit(2, &some);
            }
            Begin::Compacted => {
                cluster.elect(&all);
                cluster.commit(2, &some);
                cluster.compact(&some);
            }
            Begin::Two => cluster.elect(&some),
            Begin::Joint => {
                cluster.elect(&some);
                cluster.make_joint();
            }
        }
        cluster.budget = self.budget;
        cluster
    }

    /// What CI explores, with so many states for each scope.
    pub fn all(states_max: u64) -> Vec<Self> {
        let scope = |name, begin, term_max, budget| Self {
            name,
            begin,
            term_max,
            budget,
            under_way_max: 6,
            states_max,
            actions_max: usize::MAX,
            fault: None,
        };
        let none = Budget::default();
        let every = Budget { crashes: 1, losses: 1, repeats: 1, ..none };
        vec![
            scope("pre-votes", Begin::Blank, 2, every),
            scope("elections", Begin::Split, 3, every),
            scope("replication", Begin::Led, 3, Budget { proposals: 2, ..every }),
            scope("overtaking", Begin::Lagging, 3, Budget { proposals: 1, ..every }),
            scope("snapshots", Begin::Lagging, 3, Budget { snapshots: 2, proposals: 1, ..every }),
            scope("installing", Begin::Compacted, 3, Budget { proposals: 1, ..every }),
            scope("membership", Begin::Two, 3, Budget { changes: 1, sleeps: 1, ..every }),
            scope("joint", Begin::Joint, 3, Budget { proposals: 1, ..every }),
            scope("reads", Begin::Led, 3, Budget { reads: 2, proposals: 1, ..every }),
            scope(
                "everything",
                Begin::Two,
                4,
                Budget {
                    proposals: 1,
                    reads: 1,
                    snapshots: 1,
                    changes: 1,
                    transfers: 1,
                    sleeps: 1,
                    ..every
                },
            ),
        ]
    }
}
