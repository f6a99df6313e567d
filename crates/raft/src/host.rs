//! Heartbeats of many groups, one per pair of hosts.
//!
//! An idle group has nothing to say but that its leader lives, and a thousand of them say it a
//! thousand times. A host that has many groups sends one [`Heartbeat`] to each other host instead,
//! with the *claims* of its leaders over followers there. The list of claims goes only when it
//! changed; as long as its generation stays the same, a heartbeat stands for all of them. The
//! answer names what is refused.
//!
//! Contact with a leader means: its host was heard **and** it claims this group in this term.
//! Contact with a follower means: its host answered **and** upheld this very claim. That a host is
//! alive says nothing about a group.
//!
//! # How to use it
//!
//! - Give each core [`crate::Config::shares_heartbeats`]. A leader then sends no heartbeats of its
//!   own to followers with whom all is said ([`Raft::claims`]).
//! - After each step of a leader put its claims into [`Heartbeats::set_claim`]; when a core's
//!   leader or term changes, call [`Heartbeats::lapse`].
//! - Before each step of a core call [`Heartbeats::contacts`] and step what it gives, once per
//!   turn: deadlines, stickiness and CheckQuorum all rest on it.
//! - When [`Heartbeats::deadline`] comes, send what [`Heartbeats::wake`] gives. Step
//!   [`Input::Claim`] for each claim that [`Heartbeats::on_heartbeat`] asks about, and
//!   [`Input::ClaimRefused`] for each that [`Heartbeats::on_reply`] returns.
//!
//! # Invariants
//!
//! A claim counts for its leader from the first answer to a heartbeat of a generation that had it;
//! for its follower as long as neither its leader nor its term changed. Answers to another boot of
//! a host count for nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::{Index, Input, Raft, ReplicaId, Term, Time};

/// One host, among those that share heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u64);

/// One group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// A leader's word to one follower that it lives and that all is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which group.
    pub group: GroupId,
    /// Its leader.
    pub from: ReplicaId,
    /// The follower.
    pub to: ReplicaId,
    /// The term it leads.
    pub term: Term,
    /// What is committed there.
    pub commit: Index,
}

/// From one host to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Of the sender; higher at each start.
    pub incarnation: u64,
    /// Counts the changes of the claims.
    pub generation: u64,
    /// The claims, unless the receiver is known to have this generation.
    pub claims: Option<Vec<Claim>>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Of the heartbeat answered.
    pub incarnation: u64,
    /// Of the heartbeat answered.
    pub generation: u64,
    /// Whether the claims of that generation are known; else they have to be sent.
    pub known: bool,
    /// The claims not upheld.
    pub refused: Vec<GroupId>,
}

/// The heartbeats of one host.
#[derive(Debug)]
pub struct Heartbeats {
    incarnation: u64,
    interval: u64,
    at: Time,
    /// What is claimed of each host.
    own: BTreeMap<HostId, Outgoing>,
    /// What each host claims here.
    theirs: BTreeMap<HostId, Incoming>,
}

#[derive(Debug, Default)]
struct Outgoing {
    generation: u64,
    claims: BTreeMap<GroupId, Claimed>,
    /// The newest generation that was answered, and when.
    answered: Option<(u64, Time)>,
}

#[derive(Debug)]
struct Claimed {
    claim: Claim,
    /// The first generation with it.
    since: u64,
}

#[derive(Debug)]
struct Incoming {
    incarnation: u64,
    generation: u64,
    claims: BTreeMap<GroupId, Claim>,
    /// Claims that stood and do no more.
    lapsed: Vec<GroupId>,
    heard_at: Time,
}

impl Heartbeats {
    /// The heartbeats of a host in this incarnation, sent every `interval` µs.
    pub fn new(incarnation: u64, interval: u64) -> Self {
        let (own, theirs) = (BTreeMap::new(), BTreeMap::new());
        Self { incarnation, interval, at: Time(0), own, theirs }
    }

    /// What a leader here claims of the follower of `group` on `peer`; `None` for nothing.
    pub fn set_claim(&mut self, peer: HostId, group: GroupId, claim: Option<Claim>) {
        let own = self.own.entry(peer).or_default();
        if own.claims.get(&group).map(|known| known.claim) == claim {
            return;
        }
        own.generation += 1;
        let since = own.generation;
        match claim {
            Some(claim) => own.claims.insert(group, Claimed { claim, since }),
            None => own.claims.remove(&group),
        };
    }

    /// A replica of `group` here follows another leader, or none, or is in another term: it upholds
    /// no claim that was made before.
    pub fn lapse(&mut self, group: GroupId) {
        for theirs in self.theirs.values_mut() {
            if theirs.claims.remove(&group).is_some() {
                theirs.lapsed.push(group);
            }
        }
    }

    /// When to call [`Heartbeats::wake`].
    pub fn deadline(&self) -> Time {
        if self.own.values().any(|own| !own.claims.is_empty()) { self.at } else { Time::NEVER }
    }

    /// What is to be sent, if it is time.
    pub fn wake(&mut self, now: Time) -> Vec<(HostId, Heartbeat)> {
        if now < self.deadline() {
            return Vec::new();
        }
        self.at = now + self.interval;
        let (incarnation, claiming) =
            (self.incarnation, self.own.iter().filter(|(_, own)| !own.claims.is_empty()));
        let heartbeat = |(peer, own): (&HostId, &Outgoing)| {
            let known = own.answered.is_some_and(|(generation, _)| generation == own.generation);
            let list = || own.claims.values().map(|claimed| claimed.claim).collect();
            let (generation, claims) = (own.generation, (!known).then(list));
            (*peer, Heartbeat { incarnation, generation, claims })
        };
        claiming.map(heartbeat).collect()
    }

    /// Takes a heartbeat. `upholds` steps a claim's core with [`Input::Claim`] and says whether
    /// [`Raft::upholds`] it. Returns the answer, unless the heartbeat is of an earlier boot.
    pub fn on_heartbeat(
        &mut self,
        from: HostId,
        heartbeat: Heartbeat,
        now: Time,
        mut upholds: impl FnMut(&Claim) -> bool,
    ) -> Option<HeartbeatReply> {
        let Heartbeat { incarnation, generation, claims } = heartbeat;
        let known = self.theirs.get(&from);
        let place = (incarnation, generation);
        if known.is_some_and(|known| place < (known.incarnation, known.generation)) {
            return None;
        }
        let mut refused = Vec::new();
        if let Some(claims) = claims {
            let (upheld, others): (Vec<Claim>, Vec<Claim>) =
                claims.into_iter().partition(|claim| upholds(claim));
            refused.extend(others.into_iter().map(|claim| claim.group));
            let claims = upheld.into_iter().map(|claim| (claim.group, claim)).collect();
            let lapsed = Vec::new();
            let heard = Incoming { incarnation, generation, claims, lapsed, heard_at: now };
            self.theirs.insert(from, heard);
        }
        let theirs = self.theirs.get_mut(&from);
        let theirs = theirs.filter(|known| (known.incarnation, known.generation) == place);
        let known = theirs.is_some();
        if let Some(theirs) = theirs {
            theirs.heard_at = now;
            refused.append(&mut theirs.lapsed);
        }
        Some(HeartbeatReply { incarnation, generation, known, refused })
    }

    /// Takes an answer. Returns the claims that were refused, for [`Input::ClaimRefused`]; they are
    /// not claimed any more until the core says so again.
    pub fn on_reply(&mut self, from: HostId, reply: HeartbeatReply, now: Time) -> Vec<Claim> {
        let Some(own) = self.own.get_mut(&from) else { return Vec::new() };
        if reply.incarnation != self.incarnation || reply.generation > own.generation {
            return Vec::new();
        }
        let mut refused = Vec::new();
        for group in reply.refused {
            // A claim made since then was not meant.
            let meant = |claimed: &Claimed| claimed.since <= reply.generation;
            if own.claims.get(&group).is_some_and(meant) {
                refused.extend(own.claims.remove(&group).map(|claimed| claimed.claim));
                own.generation += 1;
            }
        }
        let newest = own.answered.map_or(0, |(generation, _)| generation);
        if reply.known && reply.generation >= newest {
            own.answered = Some((reply.generation, now));
        } else if !reply.known {
            own.answered = None;
        }
        refused
    }

    /// What to step a core with before anything else: whom it has had contact with, and when.
    /// `host_of` tells where a replica is.
    pub fn contacts(
        &self,
        group: GroupId,
        raft: &Raft,
        host_of: impl Fn(ReplicaId) -> Option<HostId>,
    ) -> Vec<Input> {
        let term = raft.term();
        if raft.is_leader() {
            let upheld = |peer: HostId| {
                let own = self.own.get(&peer)?;
                let claimed = own.claims.get(&group).filter(|known| known.claim.term == term)?;
                let (generation, at) = own.answered?;
                (claimed.since <= generation).then_some((claimed.claim.to, at))
            };
            let upheld = self.own.keys().filter_map(|&peer| upheld(peer));
            return upheld.map(|(peer, at)| Input::Contact { peer, at }).collect();
        }
        let heard = |leader: ReplicaId| {
            let theirs = self.theirs.get(&host_of(leader)?)?;
            let claim = theirs.claims.get(&group)?;
            let same = claim.from == leader && claim.term == term;
            same.then_some(Input::Contact { peer: leader, at: theirs.heard_at })
        };
        raft.leader().and_then(heard).into_iter().collect()
    }
}
