//! The table itself: every command of every group, and the index that finds one by name.

mod cluster;
mod connection;
mod generic;
mod server;
mod string;

use super::{Combine, Reach, Run, Spec};

/// The groups, in the order the documents list them.
pub(super) static GROUPS: [&[Spec]; 5] = [
    string::COMMANDS,
    generic::COMMANDS,
    connection::COMMANDS,
    server::COMMANDS,
    cluster::COMMANDS,
];

/// The entry of a top-level command by its name in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut bucket = hash(name);
    loop {
        let (group, at) = INDEX[bucket]?;
        let spec = &GROUPS[group as usize][at as usize];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        bucket = (bucket + 1) % BUCKETS;
    }
}

/// A power of two at least four times the number of commands: most names are found at once, and an
/// empty bucket ends every search.
const BUCKETS: usize = 512;

/// Group and position of the command in each bucket, built by the compiler; open addressing with
/// the next bucket as the second choice.
static INDEX: [Option<(u8, u8)>; BUCKETS] = index();

const fn index() -> [Option<(u8, u8)>; BUCKETS] {
    let mut buckets = [None; BUCKETS];
    let mut group = 0;
    while group < GROUPS.len() {
        let mut at = 0;
        while at < GROUPS[group].len() {
            let mut bucket = hash(GROUPS[group][at].name.as_bytes());
            while buckets[bucket].is_some() {
                bucket = (bucket + 1) % BUCKETS;
            }
            buckets[bucket] = Some((group as u8, at as u8));
            at += 1;
        }
        group += 1;
    }
    buckets
}

/// The bucket of a name; both cases of a letter fall into the same one. It looks at eight bytes and
/// the length only, so that a name of megabytes costs nothing.
const fn hash(name: &[u8]) -> usize {
    let cased = word(name) | 0x2020_2020_2020_2020;
    // What differs in any byte differs in the highest bits of the product.
    let mixed = (cased ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (u64::BITS - BUCKETS.ilog2())) as usize
}

/// The first four bytes of a name and its last four; up to three of a shorter one.
const fn word(name: &[u8]) -> u64 {
    let length = name.len();
    if length >= 4 {
        four(name, 0) << 32 | four(name, length - 4)
    } else if length > 0 {
        (name[0] as u64) << 16 | (name[length / 2] as u64) << 8 | name[length - 1] as u64
    } else {
        0
    }
}

/// Four bytes of a name.
const fn four(name: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]) as u64
}

/// A command of the node, the others' starting point.
const NODE: Spec = Spec {
    name: "",
    arity: 1,
    flags: &[],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    key_flags: &[],
    acl_categories: &[],
    tips: &[],
    reach: Reach::Node,
    combine: None,
    summary: "",
    syntax: "",
    since: "",
    group: "",
    complexity: "O(1)",
    difference: "",
    subcommands: &[],
    run: Run::Node,
};

/// A read of the key that is the first argument.
const READ: Spec = Spec {
    arity: 2,
    flags: &["readonly", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    key_flags: &["RO", "access"],
    reach: Reach::Read,
    syntax: "key",
    ..NODE
};

/// A write of the key that is the first argument.
const WRITE: Spec = Spec {
    arity: 2,
    flags: &["write", "fast"],
    key_flags: &["RW", "update"],
    reach: Reach::Write,
    ..READ
};

/// The difference of every command that is cut by slot.
const CUT_BY_SLOT: &str = "Keys in several shards: each shard's part is atomic, the whole is not.";

/// A read of all its arguments, cut by slot.
const READ_MANY: Spec = Spec {
    arity: -2,
    last_key: -1,
    combine: Some(Combine::Sum),
    syntax: "key [key ...]",
    complexity: "O(N) in the number of keys",
    difference: CUT_BY_SLOT,
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    ..READ
};

/// A write of all its arguments, cut by slot.
const WRITE_MANY: Spec =
    Spec { flags: &["write"], key_flags: &["RM", "delete"], reach: Reach::Write, ..READ_MANY };
