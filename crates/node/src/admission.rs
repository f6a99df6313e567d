//! New replicas in the place of dead ones (P4).
//!
//! A replica that may have forgotten a promise is dead: its node has none of that shard, asks all
//! its peers for a new one again and again, and whoever leads the shard answers. There is no
//! protocol beside Raft's own change of membership, which needs a quorum without the dead one.
//!
//! | the node has | its leader |
//! |---|---|
//! | none | begins to replace the member there by a replica id that was never used, and names it on this connection |
//! | a new one, not yet a member as it should be | goes on with what an earlier leader began |
//! | a new one, and others are members there | removes those |
//!
//! Invariants: an id is given once, by one leader in one term, to one boot of one disk, and only a
//! node without a living replica takes it; so no two disks, and no disk twice, are the same
//! replica. A node that crashes before it durably knows what it was given asks for another.

use std::collections::BTreeMap;

use flotilla_raft::{Input, ReplicaId, Term, Time};
use flotilla_shard::{NodeId, ShardId};

use crate::founding::Here;
use crate::io::{ConnId, Notice, Now};
use crate::link::{Admitted, Asking, PacketKind};
use crate::node::Node;
use crate::replica::{Replica, later_id, node_in};

/// So often a node asks, microseconds.
const ASK_EVERY: u64 = 200_000;

/// What is asked for and given.
#[derive(Debug, Default)]
pub(crate) struct Admissions {
    /// When this node last asked.
    asked_at: Time,
    /// What leaders here gave, by shard and node.
    given: BTreeMap<(ShardId, NodeId), Given>,
}

/// A replica id that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    replica: ReplicaId,
    /// In which term.
    term: Term,
    /// Incarnation and nonce of the boot that has asked.
    boot: (u64, u64),
}

/// Asking.
impl Node {
    /// The shards whose replica here died and has no successor that is a member as it should be.
    pub(crate) fn unsettled(&self) -> Vec<(ShardId, Option<ReplicaId>)> {
        let Some(record) = &self.record else { return Vec::new() };
        let mut unsettled = Vec::new();
        for (shard, founder) in record.replicas_on(self.me) {
            match self.founding.replica(shard) {
                Here::Founder => {}
                Here::Dead => unsettled.push((shard, None)),
                Here::Later(id) => {
                    // A leader that only it believes in may be none any more, and its change void.
                    let settled = |replica: &&Replica| {
                        replica.raft.is_configuration_committed()
                            && is_settled(replica, id, founder.voter)
                    };
                    if self.replicas.get(&shard).filter(settled).is_none() {
                        unsettled.push((shard, Some(id)));
                    }
                }
            }
        }
        unsettled
    }

    /// When to ask next.
    pub(crate) fn next_asking_at(&self) -> Time {
        if self.revived_at.is_none() || !self.founding.has_replaced() {
            return Time::NEVER;
        }
        if self.unsettled().is_empty() { Time::NEVER } else { self.admissions.asked_at + ASK_EVERY }
    }

    /// Asks all peers, if it is time and anything is to be asked for.
    pub(crate) fn ask_admission(&mut self, now: Now) {
        if now.time < self.next_asking_at() {
            return;
        }
        let shards = self.unsettled();
        if shards.is_empty() {
            return;
        }
        self.admissions.asked_at = now.time;
        self.settle_own(&shards, now);
        let mut body = Vec::new();
        Asking { shards }.encode(&mut body);
        for node in self.linked_nodes() {
            if let Some(outbox) = self.peers.outbox(node) {
                outbox.first.push((PacketKind::Asking, body.clone()));
            }
        }
    }

    /// A new replica that leads has nobody to ask: it removes by itself whoever else is a member
    /// here.
    fn settle_own(&mut self, shards: &[(ShardId, Option<ReplicaId>)], now: Now) {
        let boot = (self.origin.incarnation, self.origin.nonce);
        for &(shard, living) in shards {
            let Some(replica) = self.replicas.get(&shard) else { continue };
            if let Some(living) = living.filter(|_| may_admit(replica) && replica.raft.is_voter()) {
                self.settle_member(shard, self.me, (living, true), boot, now);
            }
        }
    }

    /// A leader has given this node a new replica.
    pub(crate) fn on_admitted(&mut self, admitted: Admitted, now: Now) {
        let Admitted { shard, replica } = admitted;
        if node_in(replica) != Some(self.me) || self.founding.is_renewing() {
            return;
        }
        match self.founding.replica(shard) {
            Here::Dead if self.revived_at.is_some() => {
                self.notice(Notice::Warning(format!(
                    "shard {shard}: a new replica, {replica}, takes the place of the one that died \
                     here"
                )));
                self.founding.set_replica(shard, Some(replica.0));
                self.after_founding(now);
                self.revive_replica(shard, replica, now);
            }
            // The id it has came too late to be used: the same log goes on under another one.
            Here::Later(id) if replica > id => {
                self.replicas.remove(&shard);
                let reason = format!("shard {shard}: its replica here is {replica} from now on");
                self.founding.rename_replica(shard, replica.0, reason);
                self.after_founding(now);
            }
            Here::Founder | Here::Dead | Here::Later(_) => {}
        }
    }
}

/// Whether it can begin a change of membership.
fn may_admit(replica: &Replica) -> bool {
    replica.raft.is_leader() && !replica.raft.configuration().is_joint()
}

/// Whether a new replica is a member as the one before was, and alone on its node.
fn is_settled(replica: &Replica, id: ReplicaId, votes: bool) -> bool {
    let configuration = replica.raft.configuration();
    let members = if votes { &configuration.voters } else { &configuration.learners };
    let node = replica.node_of(id);
    !configuration.is_joint()
        && members.contains(&id)
        && node.is_some_and(|node| replica.on_node(node) == [id])
}

/// Giving.
impl Node {
    /// A node asks for new replicas, or for what it was given to become a member.
    pub(crate) fn on_asking(&mut self, conn: ConnId, node: NodeId, asking: &Asking, now: Now) {
        let Some(hello) = self.conns.link(conn).and_then(|link| link.hello.as_ref()) else {
            return;
        };
        let boot = (hello.incarnation, hello.nonce);
        for &(shard, living) in &asking.shards {
            let Some(replica) = self.replicas.get(&shard) else { continue };
            let votes = replica.members.iter().find(|m| m.node == node).map(|m| m.voter);
            let Some(votes) = votes.filter(|_| may_admit(replica) && node != self.me) else {
                continue;
            };
            let given = match living {
                None => self.give(shard, node, boot, now),
                Some(id) => self.settle_member(shard, node, (id, votes), boot, now),
            };
            if let Some(given) = given
                && let Some(outbox) = self.peers.outbox(node)
            {
                let mut body = Vec::new();
                Admitted { shard, replica: given }.encode(&mut body);
                outbox.first.push((PacketKind::Admitted, body));
            }
        }
    }

    /// A new replica id for a node that has none, once the change to it has begun.
    fn give(
        &mut self,
        shard: ShardId,
        node: NodeId,
        boot: (u64, u64),
        now: Now,
    ) -> Option<ReplicaId> {
        let replica = self.replicas.get_mut(&shard)?;
        let term = replica.raft.term();
        if let Some(given) = self.admissions.given.get(&(shard, node))
            && (given.term, given.boot) == (term, boot)
        {
            return Some(given.replica);
        }
        // The one that counts, if there are several.
        let here = replica.on_node(node);
        let votes = |id: &&ReplicaId| replica.raft.configuration().is_voter(**id);
        let dead = *here.iter().find(votes).or(here.last())?;
        let lead = replica.lead.as_mut()?;
        let (id, by) = (lead.next_id(), later_id(term, lead.admitted + 1, node)?);
        self.step(shard, Input::ReplaceReplica { id, dead, by }, now);
        let replica = self.replicas.get_mut(&shard)?;
        if !replica.raft.configuration().is_member(by) {
            return None;
        }
        if let Some(lead) = &mut replica.lead {
            lead.admitted += 1;
        }
        self.notice(Notice::Warning(format!(
            "shard {shard}: replica {dead} of node {node} is dead, and {by} takes its place"
        )));
        self.admissions.given.insert((shard, node), Given { replica: by, term, boot });
        Some(by)
    }

    /// Goes on with making a living replica the only member on its node. Gives another id for it,
    /// if it can't become one under its own any more.
    fn settle_member(
        &mut self,
        shard: ShardId,
        node: NodeId,
        (living, votes): (ReplicaId, bool),
        boot: (u64, u64),
        now: Now,
    ) -> Option<ReplicaId> {
        let replica = self.replicas.get_mut(&shard)?;
        if is_settled(replica, living, votes) {
            return None;
        }
        let configuration = replica.raft.configuration().clone();
        if !configuration.is_member(living) && living <= configuration.highest_id() {
            return self.give(shard, node, boot, now);
        }
        let here = replica.on_node(node);
        let id = replica.lead.as_mut()?.next_id();
        let proper = if votes { &configuration.voters } else { &configuration.learners };
        let input = if proper.contains(&living) {
            let stays = |id: &ReplicaId| *id == living || !here.contains(id);
            let keep = |ids: &[ReplicaId]| ids.iter().copied().filter(stays).collect();
            let (voters, learners) = (keep(&configuration.voters), keep(&configuration.learners));
            Input::ChangeMembership { id, voters, learners }
        } else {
            let dead = here.iter().copied().find(|id| *id != living && proper.contains(id));
            let dead = dead.or_else(|| here.iter().copied().find(|id| *id != living));
            if let Some(dead) = dead {
                Input::ReplaceReplica { id, dead, by: living }
            } else {
                let (mut voters, mut learners) = (configuration.voters, configuration.learners);
                learners.retain(|id| *id != living);
                if votes { &mut voters } else { &mut learners }.push(living);
                Input::ChangeMembership { id, voters, learners }
            }
        };
        self.step(shard, input, now);
        None
    }
}
