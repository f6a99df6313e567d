//! What nodes see of each other's disks, and say back (P4): a disk that has less than was seen of
//! it is an older image, or has lost what it acknowledged, and has forgotten promises.
//!
//! Every packet between replicas names how far the sender's log is durable, ahead of all that may
//! rest on it. The receiver keeps the highest, per boot of the sender, and every hello says it back
//! before anything else. Who is told more than it found at its start becomes another disk, whose
//! replicas are new.
//!
//! After a boot nothing is promised before all peers have answered, or two election timeouts are
//! over, in which a peer that is there has dialled again: what no reachable peer knows can't be
//! noticed.

use flotilla_raft::Time;
use flotilla_shard::NodeId;

use crate::founding::{Founding, Verdict};
use crate::io::{Notice, Now};
use crate::link::{Hello, KnownDisk, Sighting};
use crate::node::Node;
use crate::peers::REDIAL_MICROS_MAX;

/// What was seen is written to disk at most this often while there is something else to be
/// written, microseconds. Boots are written at once.
const REMEMBER_EVERY: u64 = 5_000_000;

impl Node {
    /// From now on peers are waited for before the first promise of this boot, unless nothing was
    /// promised before: a disk that never held anything, and a node without peers, have nobody to
    /// ask. Before this boot is durable nobody can be asked at all.
    pub(crate) fn begin_asking_peers(&mut self, now: Now) {
        let may_ask = self.record.is_some() && !self.peers.map.is_empty();
        if self.recovered_through > 0 && may_ask && !self.has_begun() {
            let until = now.time + self.asking_micros();
            self.unsure_until = Some(if self.booted { until } else { Time::NEVER });
        }
    }

    /// So long, at least, that a peer that is there has dialled again.
    fn asking_micros(&self) -> u64 {
        (2 * self.options.election_timeout_ms * 1_000).max(2 * REDIAL_MICROS_MAX)
    }

    /// What peers have said of this disk before there was a cluster counts from now on.
    pub(crate) fn hear_earlier_hellos(&mut self, now: Now) {
        let hellos = self.peers.map.values().filter(|peer| peer.link.is_some());
        let hellos: Vec<Hello> = hellos.filter_map(|peer| peer.hello.clone()).collect();
        for hello in hellos {
            if let Err(reason) = self.hear_of_own_disk(&hello, now) {
                self.notice(Notice::Warning(reason));
            }
            self.founding.see_boot(&hello);
        }
    }

    /// Whether the replicas here have come to life.
    pub(crate) fn has_begun(&self) -> bool {
        self.revived_at.is_some()
    }

    /// Begins to take part once all peers have said what they know, or it was waited long enough.
    pub(crate) fn revive_if_sure(&mut self, now: Now) {
        if self.record.is_none() || self.founding.is_renewing() || !self.replicas.is_empty() {
            return;
        }
        let sure = match self.unsure_until {
            None => self.revived_at.is_none(),
            Some(until) => now.time >= until || self.peers.map.values().all(has_answered),
        };
        if sure {
            self.revived_at = Some(now.time);
            self.revive(now);
        }
    }

    /// What this node knows of the disk of another, for a hello.
    pub(crate) fn known_disk(&self, node: NodeId) -> Option<KnownDisk> {
        self.record.as_ref()?;
        let (number, storage_id) = self.founding.disk_of(node)?;
        let is_it = |hello: &Hello| (hello.disk, hello.storage_id) == (number, storage_id);
        let peer = self.peers.map.get(&node)?;
        let alive = peer.link.is_some() && peer.hello.as_ref().is_some_and(is_it);
        Some(KnownDisk { number, storage_id, alive, seen: self.founding.seen(node) })
    }

    /// A peer says what it knows of this node's disk. An error closes the link.
    pub(crate) fn hear_of_own_disk(&mut self, hello: &Hello, now: Now) -> Result<(), String> {
        let ours = self.record.as_ref().map(flotilla_shard::FoundingRecord::cluster_id);
        let Some(known) = hello.known.as_ref().filter(|_| ours.is_some() && hello.cluster == ours)
        else {
            return Ok(());
        };
        if hello.to != self.me || self.founding.is_renewing() {
            return Ok(());
        }
        let from = hello.from;
        match self.founding.judge(known) {
            Verdict::Superseded => {
                // As long as it is told so it takes part in nothing.
                self.replicas.clear();
                self.revived_at = None;
                self.unsure_until = Some(now.time + self.asking_micros());
                Err(format!("node {from} is linked with another disk of this node: {known:?}"))
            }
            Verdict::Renew(above) => {
                let reason = format!("node {from} knows another disk of this node");
                let incarnation = known.seen.map_or(0, |seen| seen.incarnation);
                self.renew(above, incarnation, &reason);
                Ok(())
            }
            Verdict::Fine => {
                if known.number == self.founding.own_disk().0
                    && let Some(seen) = known.seen.filter(|seen| self.is_behind(seen))
                {
                    let reason = format!(
                        "node {from} has seen boot {} and frame {} of this disk, which has less: \
                         it is an older image, or lost what it had acknowledged",
                        seen.incarnation,
                        seen.durable_through.max(seen.earlier)
                    );
                    self.renew(known.number, seen.incarnation, &reason);
                }
                Ok(())
            }
        }
    }

    /// Whether a peer has seen more of this disk than was on it at this boot.
    fn is_behind(&self, seen: &Sighting) -> bool {
        let own = (self.origin.incarnation, self.origin.nonce);
        let before = if (seen.incarnation, seen.nonce) == own {
            seen.earlier
        } else if seen.incarnation >= own.0 {
            return true;
        } else {
            seen.durable_through.max(seen.earlier)
        };
        before > self.recovered_through
    }

    /// This disk has forgotten something, or is not the only one: all replicas on it are dead from
    /// this moment on, and it becomes another disk, above that number, whose boots count on from
    /// that incarnation.
    pub(crate) fn renew(&mut self, above: u64, incarnation: u64, reason: &str) {
        if !self.founding.is_renewing() {
            self.replicas.clear();
            self.unsure_until = None;
            self.founding.renew((above, self.fresh_id), incarnation, reason.to_string());
        }
    }

    /// Writes down what was seen of others, now and then.
    pub(crate) fn remember_sightings(&mut self, now: Now) {
        if now.time.since(self.remembered_at) >= REMEMBER_EVERY && self.record.is_some() {
            self.remembered_at = now.time;
            self.founding.remember();
            self.after_founding(now);
        }
    }
}

fn has_answered(peer: &crate::peers::Peer) -> bool {
    let told = |hello: &Hello| hello.known.is_some();
    peer.link.is_some() && peer.hello.as_ref().is_some_and(told)
}

impl Founding {
    /// A peer's disk has booted.
    pub(crate) fn see_boot(&mut self, hello: &Hello) {
        let Some((number, id)) = self.disk_of(hello.from).filter(|_| self.record().is_some())
        else {
            return;
        };
        let (incarnation, nonce) = (hello.incarnation, hello.nonce);
        let earlier = match self.seen(hello.from) {
            Some(seen) if seen.incarnation >= incarnation => return,
            Some(seen) => seen.durable_through.max(seen.earlier),
            None => 0,
        };
        if (hello.disk, hello.storage_id) == (number, id) {
            let seen = Sighting { incarnation, nonce, durable_through: 0, earlier };
            self.set_seen(hello.from, seen);
        }
    }
}
