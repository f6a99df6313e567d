//! Bounds: when nothing goes wrong any more, no log goes on growing, and nobody falls behind for
//! ever. A trigger that is lost once, or a transfer that never gets there, hurts nobody at first.
//!
//! | claim | of |
//! |---|---|
//! | while clients go on, everybody has what was committed a while ago | `keep_up` |
//! | who can't get another file keeps two, or takes no writes (P15) | `check_reserve` |
//! | a log above its snapshot is within a multiple of what makes snapshots due | `check_logs` |

use std::collections::BTreeMap;

use flotilla_node::Now;
use flotilla_shard::ShardId;

use crate::machine::Process;
use crate::world::World;

/// A log in memory may be so many times what makes snapshots due: snapshots take their turns, and
/// the log grows meanwhile.
const SNAPSHOTS_LATE: u64 = 8;
/// And so many bytes more, while there is no room for one.
const WITHOUT_ROOM_BYTES: u64 = 96 << 10;

/// A log that could not get another file keeps a reserve: for what can't be refused, and for the
/// next start.
pub(crate) fn check_reserve(process: &Process, segment_bytes: u64) -> Result<(), String> {
    let ready = process.log.ready_bytes();
    if process.lacks_files && !process.lacks_room && ready < 2 * segment_bytes {
        return Err(format!(
            "it can't get another file, and takes writes into its last {ready} bytes"
        ));
    }
    Ok(())
}

impl World {
    /// Every replica has applied what had been committed at that time. The error names one that has
    /// not, although nothing is wrong and its clients go on as before.
    pub(crate) fn keep_up(&self, reached: &BTreeMap<ShardId, u64>) -> Result<(), String> {
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            for replica in process.node.inspect() {
                let committed = reached.get(&replica.shard).copied().unwrap_or(0);
                if replica.applied.0 < committed {
                    return Err(format!(
                        "node {} shard {} does not keep up: it has applied {}, and {committed} was \
                         committed long ago",
                        at + 1,
                        replica.shard,
                        replica.applied
                    ));
                }
            }
        }
        Ok(())
    }

    /// No log is larger than it may be.
    pub(crate) fn check_logs(&self) -> Result<(), String> {
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            let now = machine.clocks.read(self.now);
            self.check_log(process, now).map_err(|wrong| format!("node {}: {wrong}", at + 1))?;
        }
        Ok(())
    }

    fn check_log(&self, process: &Process, now: Now) -> Result<(), String> {
        let cores = process.node.inspect().filter_map(|it| process.node.core(it.shard));
        let entries: u64 = cores.map(flotilla_raft::Raft::log_bytes).sum();
        let data: u64 = process.node.status(now).replicas.iter().map(|it| it.bytes).sum();
        let due = self.config.node.snapshot_log_bytes.max(data / 2);
        let entries_max = SNAPSHOTS_LATE * due + WITHOUT_ROOM_BYTES;
        if entries > entries_max {
            return Err(format!(
                "its logs have {entries} bytes above their snapshots, which are due at {due}"
            ));
        }
        Ok(())
    }
}
