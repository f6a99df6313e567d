//! What a connection may ask of its node.

use flotilla_shard::Slot;

use super::Client;
use crate::{Now, Options, Status};

/// The node as its clients' local commands see it. Every answer is made when it is asked for, so a
/// command that asks for nothing costs nothing.
pub trait View {
    /// The clocks of this turn.
    fn now(&self) -> Now;

    /// The limits and times in force.
    fn options(&self) -> &Options;

    /// The node's view of itself and the cluster.
    fn status(&self) -> Status;

    /// Visits the connected clients, in any order; the one that asks may be left out.
    fn each_client(&self, visit: &mut dyn FnMut(&Client));

    /// How many keys this node's replica has in a slot; `None` if it has no replica of its shard.
    fn keys_in_slot(&self, slot: Slot) -> Option<u64>;

    /// Whether the disk keeps what it was told to sync; false on a file system in memory.
    fn is_durable(&self) -> bool;
}
