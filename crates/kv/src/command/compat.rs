//! `docs/COMPAT.md`, written from the table.

use super::{Spec, all};
use std::fmt::Write;

/// What differs from Redis whatever the command.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "Durability",
        "A write is answered after a majority of the replicas' disks have it. There is nothing to \
         configure and no `WAIT`.",
    ),
    (
        "Reads",
        "Every read is linearizable, on every node. `READONLY` is accepted and never weakens one.",
    ),
    (
        "Order",
        "Commands of one connection take effect in the order sent, per shard. Those for different \
         shards run concurrently, and a read of one shard does not wait for a write of another.",
    ),
    (
        "Several keys",
        "On the plain port keys of one command may lie in several shards. Each shard's part is \
         atomic; the whole is not, and another client may see one part without the other. Use a \
         `{tag}` for keys that belong together.",
    ),
    ("Whole keyspace", "`FLUSHALL`, `KEYS` and `DBSIZE` reach each shard at a moment of its own."),
    (
        "Two ports",
        "The plain port serves every key. The cluster port, which `CLUSTER SLOTS` names, serves \
         the shards its node leads: a key of another shard answers `MOVED`, and commands without \
         keys are about its own shards.",
    ),
    (
        "SCAN",
        "A cursor is a place among the slots, so that it stays valid on every node and after every \
         failover. A key that is there during the whole scan is listed at least once.",
    ),
    ("Databases", "There is one, 0. `SELECT` of another is an error, as in Redis Cluster."),
    (
        "Time",
        "Keys expire by their shard's replicated clock, on all replicas at the same point of the \
         log. What has expired is never seen again, also after a change of leader.",
    ),
    (
        "Uncertain writes",
        "An answer that begins with `UNCERTAIN` means that the write may or may not have been \
         done, and that no retry could settle it. No client library retries on it by itself. \
         `MOVED`, `CLUSTERDOWN`, `TRYAGAIN`, `LOADING`, `READONLY` and `MISCONF` are given only \
         when the command was not and will not be done.",
    ),
    (
        "A full disk",
        "While the disk of a shard's leader is full and nobody else can lead, writes are answered \
         `MISCONF`, as by a Redis that can't write its append-only file, and reads go on; `INFO` \
         says `aof_last_write_status:err` and `disk_full:yes` on that node. It ends by itself when \
         there is room.",
    ),
    (
        "Limits",
        "A value has at most 16 MiB, a request and the reply of MGET at most 64 MiB; more is an \
         error.",
    ),
    ("Types", "Strings. Commands of the other types are unknown so far."),
];

/// The headings of the groups.
const GROUPS: &[(&str, &str)] = &[
    ("string", "Strings"),
    ("generic", "Keys"),
    ("connection", "Connections"),
    ("server", "Server"),
    ("cluster", "Cluster"),
];

/// The whole of `docs/COMPAT.md`: what differs from Redis 7, then every command.
pub fn compat_markdown() -> String {
    let mut page = String::from(
        "# Redis commands\n\n\
         Flotilla speaks RESP2 and RESP3. Replies and error texts are those of Redis 7 unless this \
         page says otherwise.\nA command that is not listed is answered with Redis's error for \
         unknown commands.\n\n\
         This page is generated from the command table by\n`UPDATE_COMPAT=1 cargo test -p \
         flotilla-kv`.\n\n\
         ## What differs everywhere\n\n",
    );
    for (topic, text) in DIFFERENCES {
        line(&mut page, format_args!("- **{topic}.** {text}"));
    }
    for (group, heading) in GROUPS {
        line(&mut page, format_args!("\n## {heading}\n"));
        line(&mut page, format_args!("| Command | What it does | Differences |\n|---|---|---|"));
        for spec in all().filter(|spec| spec.group == *group) {
            row(&mut page, spec);
            for sub in spec.subcommands {
                row(&mut page, sub);
            }
        }
    }
    page
}

/// A bar would end the cell, even inside of code.
fn row(page: &mut String, spec: &Spec) {
    if !spec.subcommands.is_empty() && spec.arity < -1 {
        return;
    }
    let name = spec.name.replace('|', " ").to_ascii_uppercase();
    let usage = format!("{name} {}", spec.syntax).trim_end().replace('|', "\\|");
    line(page, format_args!("| `{usage}` | {} | {} |", spec.summary, spec.difference));
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("writing to a string can't fail");
}
