//! The commands of a client's connection, answered by the node.

use super::{NODE, Spec};

/// What may run before the data is there and from any state of the connection.
const ALWAYS: Spec = Spec {
    flags: &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"],
    acl_categories: &["@fast", "@connection"],
    group: "connection",
    ..NODE
};

const CLIENT: Spec = Spec {
    arity: 2,
    flags: &["noscript", "loading", "stale"],
    acl_categories: &["@slow", "@connection"],
    group: "connection",
    ..NODE
};

const CLIENT_ADMIN: Spec = Spec {
    flags: &["admin", "noscript", "loading", "stale"],
    acl_categories: &["@admin", "@slow", "@dangerous", "@connection"],
    ..CLIENT
};

/// The group, by name.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "client",
        arity: -2,
        acl_categories: &["@slow"],
        summary: "Asks about and sets up client connections.",
        syntax: "subcommand [argument ...]",
        since: "2.4.0",
        group: "connection",
        complexity: "Depends on the subcommand",
        subcommands: CLIENT_COMMANDS,
        ..NODE
    },
    Spec {
        name: "echo",
        arity: 2,
        flags: &["loading", "stale", "fast"],
        summary: "Gives the argument back.",
        syntax: "message",
        since: "1.0.0",
        ..ALWAYS
    },
    Spec {
        name: "hello",
        arity: -1,
        summary: "Names the server and chooses the protocol version.",
        syntax: "[protover [AUTH username password] [SETNAME clientname]]",
        since: "6.0.0",
        difference: "AUTH is refused while the cluster has no passwords.",
        ..ALWAYS
    },
    Spec {
        name: "ping",
        arity: -1,
        flags: &["fast"],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        summary: "Answers PONG, or the argument.",
        syntax: "[message]",
        since: "1.0.0",
        ..ALWAYS
    },
    Spec {
        name: "quit",
        arity: -1,
        summary: "Closes the connection after the replies that are due.",
        since: "1.0.0",
        ..ALWAYS
    },
    Spec {
        name: "reset",
        summary: "Puts the connection back to its first state.",
        since: "6.2.0",
        ..ALWAYS
    },
    Spec {
        name: "select",
        arity: 2,
        flags: &["loading", "stale", "fast"],
        summary: "Chooses the database.",
        syntax: "index",
        since: "1.0.0",
        difference: "There is one database, 0.",
        ..ALWAYS
    },
];

const CLIENT_COMMANDS: &[Spec] = &[
    Spec {
        name: "client|getname",
        summary: "Gives the name of the connection.",
        since: "2.6.9",
        ..CLIENT
    },
    Spec {
        name: "client|help",
        flags: &["loading", "stale"],
        summary: "Lists the subcommands.",
        since: "5.0.0",
        ..CLIENT
    },
    Spec {
        name: "client|id",
        summary: "Gives the number of the connection.",
        since: "5.0.0",
        difference: "Unique and rising on one node, not over the cluster.",
        ..CLIENT
    },
    Spec {
        name: "client|info",
        tips: &["nondeterministic_output"],
        summary: "Describes the connection.",
        since: "6.2.0",
        difference: "Only the fields that have a meaning here.",
        ..CLIENT
    },
    Spec {
        name: "client|list",
        arity: -2,
        tips: &["nondeterministic_output"],
        summary: "Describes the connections of this node.",
        syntax: "[TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID client-id [client-id ...]]",
        since: "2.4.0",
        complexity: "O(N) in the number of connections",
        difference: "Only the fields that have a meaning here.",
        ..CLIENT_ADMIN
    },
    Spec {
        name: "client|no-evict",
        arity: 3,
        summary: "Asks that the connection be spared when memory is short.",
        syntax: "ON | OFF",
        since: "7.0.0",
        difference: "Accepted; no connection is closed because others need memory.",
        ..CLIENT_ADMIN
    },
    Spec {
        name: "client|no-touch",
        arity: 3,
        summary: "Asks that the connection's commands leave the time of last access alone.",
        syntax: "ON | OFF",
        since: "7.2.0",
        difference: "Accepted; no time of last access is kept.",
        ..CLIENT
    },
    Spec {
        name: "client|setinfo",
        arity: 4,
        summary: "Names the client library and its version.",
        syntax: "LIB-NAME libname | LIB-VER libver",
        since: "7.2.0",
        ..CLIENT
    },
    Spec {
        name: "client|setname",
        arity: 3,
        summary: "Names the connection.",
        syntax: "connection-name",
        since: "2.6.9",
        ..CLIENT
    },
];
