//! Where keys live: hash slots, the consistent-hash ring, the map of slots to shards, and the
//! record a cluster is founded with.
//!
//! A key is hashed to a slot ([`slot_of`]); a [`Ring`] proposes a shard for every slot; [`plan`]
//! turns the proposal into a [`SlotMap`] with exact shares; a [`Layout`] says which nodes hold
//! which shard, and a [`FoundingRecord`] binds all of it to the disks that the cluster starts on.
//! [`partitions`] reads the list of lists that `flotilla run` is given.
//!
//! Everything here is pure: the same arguments give the same result on every node and in every
//! version. Left out: how the map changes while the cluster runs, which is the business of meta.

pub mod partitions;

mod founding;
mod ids;
mod layout;
mod map;
mod plan;
mod ring;
mod slot;

pub use founding::{
    FOUNDING_FORMAT_VERSION, FoundingError, FoundingRecord, FoundingReplica, META_VOTERS,
};
pub use ids::{ClusterId, IdError, META, NodeId, ShardId, StorageId};
pub use layout::{Layout, LayoutError, MAX_SHARDS};
pub use map::{SlotChange, SlotMap, SlotMapError};
pub use plan::plan;
pub use ring::{MAX_WEIGHT, Ring, RingError, TOKENS_PER_WEIGHT};
pub use slot::{SLOTS, Slot, slot_of};
