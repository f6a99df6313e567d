//! The commands of the server as a whole.

use super::{Combine, NODE, Reach, Run, Spec};
use crate::execute::whole;

const COMMAND: Spec = Spec {
    arity: -2,
    flags: &["loading", "stale"],
    acl_categories: &["@slow", "@connection"],
    group: "server",
    ..NODE
};

const CONFIG: Spec =
    Spec { arity: 2, flags: &["loading", "stale"], acl_categories: &["@slow"], ..COMMAND };

/// Removes every key; Redis's two names for it mean the same with one database.
const FLUSH: Spec = Spec {
    arity: -1,
    flags: &["write"],
    acl_categories: &["@keyspace", "@write", "@slow", "@dangerous"],
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    reach: Reach::EveryShardWrite(Combine::AllOk),
    summary: "Deletes every key.",
    syntax: "[ASYNC | SYNC]",
    since: "1.0.0",
    group: "server",
    complexity: "O(1), the memory is given back in slices afterwards",
    difference: "Each shard is emptied at a moment of its own. ASYNC and SYNC are the same.",
    run: Run::Write(whole::flush),
    ..NODE
};

/// The group, by name.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "command",
        arity: -1,
        tips: &["nondeterministic_output_order"],
        summary: "Describes every command.",
        syntax: "[subcommand [argument ...]]",
        since: "2.8.13",
        complexity: "O(N) in the number of commands",
        subcommands: COMMAND_COMMANDS,
        ..COMMAND
    },
    Spec {
        name: "config",
        arity: -2,
        flags: &[],
        summary: "Reads the node's settings.",
        syntax: "subcommand [argument ...]",
        since: "2.0.0",
        complexity: "Depends on the subcommand",
        subcommands: CONFIG_COMMANDS,
        ..CONFIG
    },
    Spec {
        name: "dbsize",
        flags: &["readonly", "fast"],
        acl_categories: &["@keyspace", "@read", "@fast"],
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        reach: Reach::EveryShardRead(Combine::Sum),
        summary: "Counts the keys.",
        since: "1.0.0",
        group: "server",
        difference: "Each shard is read at a moment of its own; on the cluster port it counts the \
                     keys of the shards that this node leads.",
        run: Run::Read(whole::dbsize),
        ..NODE
    },
    Spec { name: "flushall", ..FLUSH },
    Spec { name: "flushdb", ..FLUSH },
    Spec {
        name: "flotilla",
        arity: -2,
        flags: &["loading", "stale"],
        acl_categories: &["@slow"],
        summary: "Asks about the cluster in Flotilla's own words.",
        syntax: "subcommand [argument ...]",
        group: "server",
        complexity: "Depends on the subcommand",
        difference: "Not in Redis.",
        subcommands: FLOTILLA_COMMANDS,
        ..NODE
    },
    Spec {
        name: "info",
        arity: -1,
        flags: &["loading", "stale"],
        acl_categories: &["@slow", "@dangerous"],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        summary: "Describes the state of this node.",
        syntax: "[section [section ...]]",
        since: "1.0.0",
        group: "server",
        difference: "Only the fields that have a meaning here; the section `raft` is our own.",
        ..NODE
    },
    Spec {
        name: "time",
        flags: &["loading", "stale", "fast"],
        acl_categories: &["@fast"],
        tips: &["nondeterministic_output"],
        summary: "Gives the node's Unix time in seconds and microseconds.",
        since: "2.6.0",
        group: "server",
        ..NODE
    },
];

const COMMAND_COMMANDS: &[Spec] = &[
    Spec {
        name: "command|count",
        arity: 2,
        summary: "Counts the commands.",
        since: "2.8.13",
        ..COMMAND
    },
    Spec {
        name: "command|docs",
        tips: &["nondeterministic_output_order"],
        summary: "Documents commands, all if none is named.",
        syntax: "[command-name [command-name ...]]",
        since: "7.0.0",
        complexity: "O(N) in the number of commands asked for",
        difference: "Without the tree of arguments.",
        ..COMMAND
    },
    Spec {
        name: "command|getkeys",
        arity: -3,
        summary: "Gives the keys of a whole command.",
        syntax: "command [argument ...]",
        since: "2.8.13",
        complexity: "O(N) in the number of arguments",
        ..COMMAND
    },
    Spec {
        name: "command|help",
        arity: 2,
        summary: "Lists the subcommands.",
        since: "5.0.0",
        ..COMMAND
    },
    Spec {
        name: "command|info",
        tips: &["nondeterministic_output_order"],
        summary: "Describes commands, all if none is named.",
        syntax: "[command-name [command-name ...]]",
        since: "2.8.13",
        complexity: "O(N) in the number of commands asked for",
        ..COMMAND
    },
    Spec {
        name: "command|list",
        tips: &["nondeterministic_output_order"],
        summary: "Lists the names of commands.",
        syntax: "[FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]",
        since: "7.0.0",
        complexity: "O(N) in the number of commands",
        ..COMMAND
    },
];

const CONFIG_COMMANDS: &[Spec] = &[
    Spec {
        name: "config|get",
        arity: -3,
        flags: &["admin", "noscript", "loading", "stale"],
        acl_categories: &["@admin", "@slow", "@dangerous"],
        summary: "Gives the settings whose names match.",
        syntax: "parameter [parameter ...]",
        since: "2.0.0",
        complexity: "O(N) in the number of parameters",
        difference: "Knows the settings that clients and benchmarks ask for.",
        ..CONFIG
    },
    Spec { name: "config|help", summary: "Lists the subcommands.", since: "5.0.0", ..CONFIG },
];

const FLOTILLA_COMMANDS: &[Spec] = &[
    Spec {
        name: "flotilla|help",
        arity: 2,
        flags: &["loading", "stale"],
        acl_categories: &["@slow"],
        group: "server",
        summary: "Lists the subcommands.",
        difference: "Not in Redis.",
        ..NODE
    },
    Spec {
        name: "flotilla|status",
        arity: 2,
        flags: &["loading", "stale"],
        acl_categories: &["@slow"],
        tips: &["nondeterministic_output"],
        group: "server",
        summary: "Describes nodes, shards, leaders, terms, commit indexes and lag.",
        complexity: "O(N) in the number of nodes and shards",
        difference: "Not in Redis.",
        ..NODE
    },
];
