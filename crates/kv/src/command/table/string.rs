//! The commands of string values.

use super::{CUT_BY_SLOT, Combine, READ, READ_MANY, Run, Spec, WRITE, WRITE_MANY};
use crate::execute::{counter, range, string};

const READ_STRING: Spec =
    Spec { group: "string", acl_categories: &["@read", "@string", "@fast"], ..READ };

/// A write that may take memory.
const GROW_STRING: Spec = Spec {
    group: "string",
    flags: &["write", "denyoom", "fast"],
    acl_categories: &["@write", "@string", "@fast"],
    ..WRITE
};

/// A write that may take memory and that Redis does not count among the fast ones.
const GROW_SLOWLY: Spec = Spec {
    flags: &["write", "denyoom"],
    acl_categories: &["@write", "@string", "@slow"],
    ..GROW_STRING
};

const COUNTER: Spec = Spec { key_flags: &["RW", "access", "update"], ..GROW_STRING };

/// What bounds a string that grows in place.
const VALUE_LIMIT: &str = "A result above 16 MiB is refused (Redis: 512 MiB).";

/// The group, by name.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "append",
        arity: 3,
        key_flags: &["RW", "insert"],
        summary: "Adds bytes at the end of a string, which it creates if there is none.",
        syntax: "key value",
        since: "2.0.0",
        complexity: "O(N) in the length of the result",
        difference: VALUE_LIMIT,
        run: Run::Write(range::append),
        ..GROW_STRING
    },
    Spec {
        name: "decr",
        summary: "Lowers the integer in a key by one; no key counts as 0.",
        since: "1.0.0",
        run: Run::Write(counter::decr),
        ..COUNTER
    },
    Spec {
        name: "decrby",
        arity: 3,
        summary: "Lowers the integer in a key by a number; no key counts as 0.",
        syntax: "key decrement",
        since: "1.0.0",
        run: Run::Write(counter::decrby),
        ..COUNTER
    },
    Spec {
        name: "get",
        summary: "Gives the string in a key.",
        since: "1.0.0",
        run: Run::Read(string::get),
        ..READ_STRING
    },
    Spec {
        name: "getdel",
        flags: &["write", "fast"],
        key_flags: &["RW", "access", "delete"],
        summary: "Gives the string in a key and deletes the key.",
        since: "6.2.0",
        run: Run::Write(string::getdel),
        ..GROW_STRING
    },
    Spec {
        name: "getex",
        arity: -2,
        flags: &["write", "fast"],
        key_flags: &["RW", "access", "update"],
        summary: "Gives the string in a key and sets or removes its expiry.",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-seconds | \
                 PXAT unix-milliseconds | PERSIST]",
        since: "6.2.0",
        run: Run::Write(string::getex),
        ..GROW_STRING
    },
    Spec {
        name: "getrange",
        arity: 4,
        flags: &["readonly"],
        acl_categories: &["@read", "@string", "@slow"],
        summary: "Gives a part of a string; negative positions count from the end.",
        syntax: "key start end",
        since: "2.4.0",
        complexity: "O(N) in the length of the part",
        run: Run::Read(range::getrange),
        ..READ_STRING
    },
    Spec {
        name: "getset",
        arity: 3,
        key_flags: &["RW", "access", "update"],
        summary: "Sets a key and gives the string it had.",
        syntax: "key value",
        since: "1.0.0",
        run: Run::Write(string::getset),
        ..GROW_STRING
    },
    Spec {
        name: "incr",
        summary: "Raises the integer in a key by one; no key counts as 0.",
        since: "1.0.0",
        run: Run::Write(counter::incr),
        ..COUNTER
    },
    Spec {
        name: "incrby",
        arity: 3,
        summary: "Raises the integer in a key by a number; no key counts as 0.",
        syntax: "key increment",
        since: "1.0.0",
        run: Run::Write(counter::incrby),
        ..COUNTER
    },
    Spec {
        name: "mget",
        tips: &["request_policy:multi_shard"],
        combine: Some(Combine::Interleave),
        summary: "Gives the strings of several keys.",
        since: "1.0.0",
        group: "string",
        acl_categories: &["@read", "@string", "@fast"],
        run: Run::Read(string::mget),
        ..READ_MANY
    },
    Spec {
        name: "mset",
        arity: -3,
        flags: &["write", "denyoom"],
        key_step: 2,
        key_flags: &["OW", "update"],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        combine: Some(Combine::AllOk),
        summary: "Sets several keys.",
        syntax: "key value [key value ...]",
        since: "1.0.1",
        group: "string",
        acl_categories: &["@write", "@string", "@slow"],
        difference: CUT_BY_SLOT,
        run: Run::Write(string::mset),
        ..WRITE_MANY
    },
    Spec {
        name: "psetex",
        arity: 4,
        key_flags: &["OW", "update"],
        summary: "Sets a key that expires after some milliseconds.",
        syntax: "key milliseconds value",
        since: "2.6.0",
        run: Run::Write(string::psetex),
        ..GROW_SLOWLY
    },
    Spec {
        name: "set",
        arity: -3,
        key_flags: &["RW", "access", "update", "variable_flags"],
        summary: "Sets a key, whatever it held; with conditions and an expiry if asked.",
        syntax: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | \
                 EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL]",
        since: "1.0.0",
        run: Run::Write(string::set),
        ..GROW_SLOWLY
    },
    Spec {
        name: "setex",
        arity: 4,
        key_flags: &["OW", "update"],
        summary: "Sets a key that expires after some seconds.",
        syntax: "key seconds value",
        since: "2.0.0",
        run: Run::Write(string::setex),
        ..GROW_SLOWLY
    },
    Spec {
        name: "setnx",
        arity: 3,
        key_flags: &["OW", "insert"],
        summary: "Sets a key that does not exist.",
        syntax: "key value",
        since: "1.0.0",
        run: Run::Write(string::setnx),
        ..GROW_STRING
    },
    Spec {
        name: "setrange",
        arity: 4,
        summary: "Overwrites a part of a string, padding with zero bytes up to it.",
        syntax: "key offset value",
        since: "2.2.0",
        complexity: "O(N) in the length of the result",
        difference: VALUE_LIMIT,
        run: Run::Write(range::setrange),
        ..GROW_SLOWLY
    },
    Spec {
        name: "strlen",
        key_flags: &["RO"],
        summary: "Gives the length of a string in bytes.",
        since: "2.2.0",
        run: Run::Read(range::strlen),
        ..READ_STRING
    },
];
