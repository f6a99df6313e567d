//! The log shared by all shards of a lane, and snapshots: format, recovery, repair, pure over sectors
