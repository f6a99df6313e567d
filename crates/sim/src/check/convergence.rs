//! Convergence: once nothing goes wrong any more, all replicas of a shard come to the same state
//! [Raft §5.3: the logs of followers become those of the leader; §5.4.3].

use std::collections::BTreeMap;

use flotilla_raft::Index;
use flotilla_shard::ShardId;

use crate::world::World;

/// Applied index, commit index, and a word for the state.
type State = (Index, Index, Option<u64>);

/// Two replicas that differ, or one that can't be read or lags behind; `None` if all agree.
/// Machines that are gone for good do not count.
pub(crate) fn disagreement(world: &World) -> Option<String> {
    let mut states: BTreeMap<ShardId, (usize, State)> = BTreeMap::new();
    for (at, machine) in world.machines.iter().enumerate() {
        if machine.refused.is_some() {
            continue;
        }
        let Some(process) = &machine.process else { return Some(format!("{} is off", at + 1)) };
        for replica in process.node.inspect() {
            let hash = process.node.state_hash(replica.shard);
            let state: State = (replica.applied, replica.commit, hash);
            let (first, theirs) = *states.entry(replica.shard).or_insert((at, state));
            let whole = state.2.is_some() && state.0 == state.1;
            if theirs != state || !whole {
                return Some(format!(
                    "shard {}: node {} {theirs:?}, node {} {state:?}",
                    replica.shard,
                    first + 1,
                    at + 1
                ));
            }
        }
    }
    None
}
