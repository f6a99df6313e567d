//! The commands of keys of any kind.

use super::{Combine, NODE, READ, READ_MANY, Reach, Run, Spec, WRITE, WRITE_MANY};
use crate::execute::{expiry, generic, whole};

const READ_KEY: Spec = Spec {
    group: "generic",
    key_flags: &["RO"],
    acl_categories: &["@keyspace", "@read", "@fast"],
    ..READ
};

const READ_EXPIRY: Spec = Spec { key_flags: &["RO", "access"], ..READ_KEY };

const READ_KEYS: Spec = Spec {
    group: "generic",
    key_flags: &["RO"],
    acl_categories: &["@keyspace", "@read", "@fast"],
    ..READ_MANY
};

const WRITE_EXPIRY: Spec =
    Spec { group: "generic", acl_categories: &["@keyspace", "@write", "@fast"], ..WRITE };

/// A write of an expiry with the conditions of Redis 7.
const SET_EXPIRY: Spec = Spec { arity: -3, ..WRITE_EXPIRY };

/// The group, by name.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "del",
        summary: "Deletes keys.",
        since: "1.0.0",
        group: "generic",
        acl_categories: &["@keyspace", "@write", "@slow"],
        run: Run::Write(generic::del),
        ..WRITE_MANY
    },
    Spec {
        name: "exists",
        summary: "Counts which of the keys exist; one named twice counts twice.",
        since: "1.0.0",
        run: Run::Read(generic::exists),
        ..READ_KEYS
    },
    Spec {
        name: "expire",
        summary: "Lets a key expire after some seconds.",
        syntax: "key seconds [NX | XX | GT | LT]",
        since: "1.0.0",
        run: Run::Write(expiry::expire),
        ..SET_EXPIRY
    },
    Spec {
        name: "expireat",
        summary: "Lets a key expire at a Unix time in seconds.",
        syntax: "key unix-seconds [NX | XX | GT | LT]",
        since: "1.2.0",
        run: Run::Write(expiry::expireat),
        ..SET_EXPIRY
    },
    Spec {
        name: "expiretime",
        summary: "Gives the Unix time in seconds at which a key expires.",
        since: "7.0.0",
        run: Run::Read(expiry::expiretime),
        ..READ_EXPIRY
    },
    Spec {
        name: "keys",
        arity: 2,
        flags: &["readonly"],
        acl_categories: &["@keyspace", "@read", "@slow", "@dangerous"],
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        reach: Reach::EveryShardRead(Combine::Concat),
        summary: "Lists every key that matches a pattern.",
        syntax: "pattern",
        since: "1.0.0",
        group: "generic",
        complexity: "O(N) in the number of keys",
        difference: "Each shard is read at a moment of its own.",
        run: Run::Read(whole::keys),
        ..NODE
    },
    Spec {
        name: "persist",
        summary: "Removes the expiry of a key.",
        since: "2.2.0",
        run: Run::Write(expiry::persist),
        ..WRITE_EXPIRY
    },
    Spec {
        name: "pexpire",
        summary: "Lets a key expire after some milliseconds.",
        syntax: "key milliseconds [NX | XX | GT | LT]",
        since: "2.6.0",
        run: Run::Write(expiry::pexpire),
        ..SET_EXPIRY
    },
    Spec {
        name: "pexpireat",
        summary: "Lets a key expire at a Unix time in milliseconds.",
        syntax: "key unix-milliseconds [NX | XX | GT | LT]",
        since: "2.6.0",
        run: Run::Write(expiry::pexpireat),
        ..SET_EXPIRY
    },
    Spec {
        name: "pexpiretime",
        summary: "Gives the Unix time in milliseconds at which a key expires.",
        since: "7.0.0",
        run: Run::Read(expiry::pexpiretime),
        ..READ_EXPIRY
    },
    Spec {
        name: "pttl",
        tips: &["nondeterministic_output"],
        summary: "Gives the milliseconds a key has left.",
        since: "2.6.0",
        run: Run::Read(expiry::pttl),
        ..READ_EXPIRY
    },
    Spec {
        name: "scan",
        arity: -2,
        flags: &["readonly"],
        acl_categories: &["@keyspace", "@read", "@slow"],
        tips: &["nondeterministic_output", "request_policy:special"],
        reach: Reach::Scan,
        summary: "Lists the keys page by page; each answer has the cursor of the next page.",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        since: "2.8.0",
        group: "generic",
        complexity: "O(1) a call, O(N) in the number of keys for all pages",
        difference: "A cursor is a place among the slots (slot and hash), valid on every node and \
                     after every failover; COUNT is at most 10,000.",
        run: Run::Read(whole::scan),
        ..NODE
    },
    Spec {
        name: "touch",
        summary: "Counts which of the keys exist.",
        since: "3.2.1",
        difference: "No time of last access is kept, so none is changed. Keys in several shards: \
                     each shard's part is atomic, the whole is not.",
        run: Run::Read(generic::exists),
        ..READ_KEYS
    },
    Spec {
        name: "ttl",
        tips: &["nondeterministic_output"],
        summary: "Gives the seconds a key has left.",
        since: "1.0.0",
        run: Run::Read(expiry::ttl),
        ..READ_EXPIRY
    },
    Spec {
        name: "type",
        summary: "Gives the kind of a key's value.",
        since: "1.0.0",
        run: Run::Read(generic::kind),
        ..READ_KEY
    },
    Spec {
        name: "unlink",
        flags: &["write", "fast"],
        summary: "Deletes keys.",
        since: "4.0.0",
        group: "generic",
        acl_categories: &["@keyspace", "@write", "@fast"],
        difference: "The same as DEL. Keys in several shards: each shard's part is atomic, the \
                     whole is not.",
        run: Run::Write(generic::del),
        ..WRITE_MANY
    },
];
