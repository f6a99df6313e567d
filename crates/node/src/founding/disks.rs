//! Which disk of a node counts (P4).
//!
//! A disk that may have forgotten a promise is another disk from then on: it gets a new id and a
//! higher number, and every replica that was on it is dead. Peers take the disk with the highest
//! number they have met, durably, and treat older ones as strangers.
//!
//! | this disk is | found by | becomes |
//! |---|---|---|
//! | blank, and the record names another one | a founded peer's record | one higher than known there |
//! | an older image, or one that pretended to sync | what a peer saw of it before this boot | the same |
//! | replaced by a newer one, which is not alive | a peer that knows the newer one | the same |
//! | not the only one with its number | a peer that met the other one | one higher |
//!
//! Invariants: a number goes up only; a disk is told under a number only after that is durable.

use flotilla_raft::ReplicaId;
use flotilla_shard::{FoundingRecord, NodeId, ShardId, StorageId};

use super::state::NewerDisk;
use super::{Founding, describe};
use crate::link::{Hello, KnownDisk, Sighting};

/// A disk is booted less often than two to the power of this.
const BOOTS_BITS: u32 = 32;

/// What a peer's knowledge says of this disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the one that counts.
    Fine,
    /// Another one counts, and is alive: this one has to wait.
    Superseded,
    /// It may have forgotten promises, or is not alone: it has to become another one, above this
    /// number.
    Renew(u64),
}

/// Which replica of a shard a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// The one that it was founded with.
    Founder,
    /// None: the one it had may have forgotten a promise.
    Dead,
    /// One that took the place of a dead one.
    Later(ReplicaId),
}

impl Founding {
    /// Number and id of the newest disk of a node that is known here.
    pub(crate) fn disk_of(&self, node: NodeId) -> Option<(u64, StorageId)> {
        match self.state.disks.get(&node) {
            Some(newer) => Some((newer.number, newer.storage_id)),
            None => Some((0, self.record()?.storage_id(node)?)),
        }
    }

    /// Number and id of this disk, as they are durable.
    pub(crate) fn own_disk(&self) -> (u64, StorageId) {
        let state = self.durable.as_ref().unwrap_or(&self.state);
        (state.disk, state.storage_id)
    }

    /// Which replica of a shard is here, if one was placed here at the founding.
    pub(crate) fn replica(&self, shard: ShardId) -> Here {
        match self.state.replicas.get(&shard) {
            None => Here::Founder,
            Some(None) => Here::Dead,
            Some(Some(id)) => Here::Later(ReplicaId(*id)),
        }
    }

    /// From now on this is the replica of a shard here, or the one that was here is dead.
    pub(crate) fn set_replica(&mut self, shard: ShardId, replica: Option<u64>) {
        if self.state.replicas.insert(shard, replica) != Some(replica) {
            self.log();
        }
    }

    /// Whether any replica here is not the record's.
    pub(crate) fn has_replaced(&self) -> bool {
        !self.state.replicas.is_empty()
    }

    /// A living replica goes on under another id, from the next start on, which comes as soon as
    /// that is durable.
    pub(crate) fn rename_replica(&mut self, shard: ShardId, replica: u64, reason: String) {
        self.renewing = Some(reason);
        self.set_replica(shard, Some(replica));
    }

    /// What is remembered of the boots of another node's disk.
    pub(crate) fn seen(&self, node: NodeId) -> Option<Sighting> {
        self.sightings.get(&node).copied()
    }

    /// What is to be remembered of them.
    pub(crate) fn set_seen(&mut self, node: NodeId, seen: Sighting) {
        self.sightings.insert(node, seen);
        self.remember();
    }

    /// A peer has said that its log is durable up to this frame. In memory; on disk from time to
    /// time.
    pub(crate) fn note_durable(&mut self, node: NodeId, durable_through: u64) {
        if let Some(seen) = self.sightings.get_mut(&node) {
            seen.durable_through = seen.durable_through.max(durable_through);
        }
    }

    /// What is only in memory goes to disk.
    pub(crate) fn remember(&mut self) {
        self.state.seen.clone_from(&self.sightings);
        self.log();
    }

    /// What a peer knows of this node's disks, told by a hello of the same cluster.
    pub(crate) fn judge(&self, known: &KnownDisk) -> Verdict {
        let (number, id) = self.own_disk();
        match known.number.cmp(&number) {
            std::cmp::Ordering::Less => Verdict::Fine,
            std::cmp::Ordering::Equal if known.storage_id == id => Verdict::Fine,
            _ if known.alive => Verdict::Superseded,
            _ => Verdict::Renew(known.number),
        }
    }

    /// This disk becomes another one with the id `fresh`, above a number: whatever was promised
    /// here was promised by another. It counts once it is durable, and the node begins anew then,
    /// with a boot above `incarnation`.
    pub(crate) fn renew(
        &mut self,
        (above, fresh): (u64, StorageId),
        incarnation: u64,
        reason: String,
    ) {
        let Some(record) = self.record() else { return };
        let shards: Vec<ShardId> =
            record.replicas_on(self.state.me).map(|(shard, _)| shard).collect();
        self.state.replicas = shards.into_iter().map(|shard| (shard, None)).collect();
        self.state.disk = above.max(self.state.disk) + 1;
        self.state.storage_id = fresh;
        self.raise_incarnation(incarnation);
        self.renewing = Some(reason);
        self.log();
    }

    /// The boots of a disk count on from above those of all disks before it, whoever has seen them:
    /// nobody boots so often.
    fn raise_incarnation(&mut self, seen: u64) {
        let above = self.state.disk << BOOTS_BITS;
        let seen = seen.min(u64::MAX >> 1);
        self.state.incarnation = self.state.incarnation.max(seen).max(above);
    }

    /// Whether this disk is becoming another one.
    pub(crate) fn is_renewing(&self) -> bool {
        self.renewing.is_some()
    }

    /// A blank disk under the address of a founded node: it takes the place of the one before, and
    /// the node begins anew once that is durable.
    pub(super) fn replace_wiped(&mut self, me: NodeId, hello: &Hello, record: FoundingRecord) {
        if self.state.founded {
            return;
        }
        self.renewing = Some(describe::wiped(&record, me, self.state.storage_id, hello.from));
        let known = hello.known.as_ref().filter(|_| hello.to == me);
        self.state.disk = known.map_or(0, |known| known.number) + 1;
        let seen = known.and_then(|known| known.seen).map_or(0, |seen| seen.incarnation);
        self.raise_incarnation(seen);
        self.state.replicas = record.replicas_on(me).map(|(shard, _)| (shard, None)).collect();
        self.state.me = me;
        self.layout = record.layout.clone();
        self.state.proposed = Some(record);
        self.state.clears = self.state.forgot;
        (self.state.founded, self.state.forgot) = (true, false);
        self.log();
    }

    /// Whether a later boot of that disk has been met already: it is an older image, and hears so.
    pub(super) fn is_older_boot(&self, hello: &Hello) -> bool {
        self.seen(hello.from).is_some_and(|seen| {
            let later = seen.incarnation > hello.incarnation;
            later || (seen.incarnation == hello.incarnation && seen.nonce != hello.nonce)
        })
    }

    /// A node of this cluster has another disk, above all that were known.
    pub(super) fn take_newer_disk(&mut self, hello: &Hello) {
        let same_cluster = hello.cluster.is_some()
            && hello.cluster == self.record().map(FoundingRecord::cluster_id)
            && hello.layout_digest == self.layout_digest();
        let Some((number, _)) = self.disk_of(hello.from).filter(|_| same_cluster) else { return };
        if hello.disk > number && hello.from != self.state.me {
            let newer = NewerDisk { number: hello.disk, storage_id: hello.storage_id };
            self.warn(describe::newer_disk(&self.layout, hello));
            self.state.disks.insert(hello.from, newer);
            self.sightings.remove(&hello.from);
            self.state.seen.remove(&hello.from);
            self.log();
        }
    }
}
