//! The commands of Redis Cluster, answered by the node from the map it knows.

use super::{NODE, Spec};

const CLUSTER: Spec =
    Spec { arity: 2, flags: &["stale"], acl_categories: &["@slow"], group: "cluster", ..NODE };

/// A command of one connection's mode.
const MODE: Spec = Spec {
    flags: &["loading", "stale", "fast"],
    acl_categories: &["@fast", "@connection"],
    since: "3.0.0",
    group: "cluster",
    ..NODE
};

const PER_NODE: &str = "O(N) in the number of nodes";

/// The group, by name.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "asking",
        flags: &["fast"],
        summary: "Announces a command that follows an ASK redirection.",
        difference: "Accepted; a slot that moves needs no ASK.",
        ..MODE
    },
    Spec {
        name: "cluster",
        arity: -2,
        flags: &[],
        summary: "Asks about nodes and slots in the words of Redis Cluster.",
        syntax: "subcommand [argument ...]",
        since: "3.0.0",
        complexity: "Depends on the subcommand",
        difference: "It only asks: nodes and slots are changed by Flotilla's own commands.",
        subcommands: CLUSTER_COMMANDS,
        ..CLUSTER
    },
    Spec {
        name: "readonly",
        summary: "Tells a replica that the connection may read from it.",
        difference: "Accepted; it never weakens a read, every read stays linearizable.",
        ..MODE
    },
    Spec {
        name: "readwrite",
        summary: "Takes READONLY back.",
        difference: "Accepted; there is nothing to take back.",
        ..MODE
    },
];

const CLUSTER_COMMANDS: &[Spec] = &[
    Spec {
        name: "cluster|countkeysinslot",
        arity: 3,
        summary: "Counts the keys of a slot.",
        syntax: "slot",
        since: "3.0.0",
        difference: "Of this node's replica, which may lag; 0 where it has none.",
        ..CLUSTER
    },
    Spec {
        name: "cluster|help",
        flags: &["loading", "stale"],
        summary: "Lists the subcommands.",
        since: "5.0.0",
        ..CLUSTER
    },
    Spec {
        name: "cluster|info",
        tips: &["nondeterministic_output"],
        summary: "Describes the state of the cluster.",
        since: "3.0.0",
        ..CLUSTER
    },
    Spec {
        name: "cluster|keyslot",
        arity: 3,
        summary: "Gives the slot of a key.",
        syntax: "key",
        since: "3.0.0",
        complexity: "O(N) in the length of the key",
        ..CLUSTER
    },
    Spec {
        name: "cluster|links",
        tips: &["nondeterministic_output"],
        summary: "Describes the links to the other nodes.",
        since: "7.0.0",
        complexity: PER_NODE,
        ..CLUSTER
    },
    Spec { name: "cluster|myid", summary: "Gives the id of this node.", since: "3.0.0", ..CLUSTER },
    Spec {
        name: "cluster|myshardid",
        tips: &["nondeterministic_output"],
        summary: "Gives the id of this node's shard.",
        since: "7.2.0",
        difference: "A node may have replicas of several shards; the first that it leads counts.",
        ..CLUSTER
    },
    Spec {
        name: "cluster|nodes",
        tips: &["nondeterministic_output"],
        summary: "Describes the nodes, a line each.",
        since: "3.0.0",
        complexity: PER_NODE,
        difference: "Every node that leads a shard is a master.",
        ..CLUSTER
    },
    Spec {
        name: "cluster|replicas",
        arity: 3,
        flags: &["admin", "stale"],
        acl_categories: &["@admin", "@slow", "@dangerous"],
        tips: &["nondeterministic_output"],
        summary: "Describes the replicas of a master.",
        syntax: "node-id",
        since: "5.0.0",
        ..CLUSTER
    },
    Spec {
        name: "cluster|shards",
        tips: &["nondeterministic_output"],
        summary: "Describes the shards, their slots and nodes.",
        since: "7.0.0",
        complexity: PER_NODE,
        ..CLUSTER
    },
    Spec {
        name: "cluster|slots",
        tips: &["nondeterministic_output"],
        summary: "Lists ranges of slots with the nodes that serve them.",
        since: "3.0.0",
        complexity: PER_NODE,
        difference: "The ports are cluster ports.",
        ..CLUSTER
    },
];
