//! The limits and times of a node, with their defaults.

/// Every limit has a name; a full queue is an error the client sees, never growth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A follower waits between one and two of these for its leader, milliseconds.
    pub election_timeout_ms: u64,
    /// An idle leader speaks this often, milliseconds.
    pub heartbeat_ms: u64,
    /// How long a request is held through elections before it gets an error, milliseconds.
    pub hold_ms: u64,
    /// Log bytes of all shards together after which snapshots are due (at least; half of the data
    /// where that is more): of entries, or on disk.
    pub snapshot_log_bytes: u64,
    /// The rate at which a node writes snapshots of its own, bytes of content per second. If the
    /// log has grown to twice what makes them due, they are written as fast as can be.
    pub snapshot_write_bytes_per_second: u64,
    /// A part of a snapshot that a later one may take over ends with the first slot that brings it
    /// to so many bytes.
    pub snapshot_part_bytes: usize,
    /// The rate at which a node sends snapshots to other nodes, all together, bytes per second. If
    /// the log has grown to what makes snapshots due, they are sent as fast as can be.
    pub snapshot_bytes_per_second: u64,
    /// Entries that a leader sends in one message stop at so many bytes; a larger one goes alone.
    pub max_append_bytes: usize,
    /// A chunk of a stream is ended at about so many bytes; a command above it goes alone.
    pub max_chunk_bytes: usize,
    /// An entry takes no further chunk from this size on, bytes.
    pub max_entry_bytes: usize,
    /// The largest value, bytes.
    pub max_value_bytes: usize,
    /// The largest request, bytes.
    pub max_request_bytes: usize,
    /// Commands unsettled per shard and origin; beyond, clients wait.
    pub max_unsettled_commands: usize,
    /// Bytes of requests unsettled per shard and origin; beyond, clients wait.
    pub max_unsettled_bytes: usize,
    /// Replies that one client may have outstanding before its further requests wait.
    pub max_client_pipeline: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            election_timeout_ms: 400,
            heartbeat_ms: 60,
            hold_ms: 5_000,
            snapshot_log_bytes: 64 << 20,
            snapshot_write_bytes_per_second: 48 << 20,
            snapshot_part_bytes: flotilla_kv::snapshot::PART_MIN,
            snapshot_bytes_per_second: 64 << 20,
            max_append_bytes: 128 << 10,
            max_chunk_bytes: 1 << 20,
            max_entry_bytes: 16 << 20,
            max_value_bytes: 16 << 20,
            max_request_bytes: 64 << 20,
            max_unsettled_commands: 4_096,
            max_unsettled_bytes: 64 << 20,
            max_client_pipeline: 16_384,
        }
    }
}
