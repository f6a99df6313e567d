//! Commands as a client sees them: golden scripts of exact replies, and what the table promises.
//!
//! A script in `scripts/commands` is a list of `> command` lines, each followed by its reply as
//! RESP3 with a space in place of each line end but the last. `now N` sets the applied clock to N
//! milliseconds. A word is written as it is, `''` is the empty one, and `\xNN` is a byte.
//! `UPDATE_SCRIPTS=1` writes the replies that were given. Those of scripts without `now` are what
//! Redis 7.0 answers, byte for byte, unless the script's first line says otherwise.

use flotilla_kv::command::{self, Combine, Part, PartReply, Reach, Spec};
use flotilla_kv::{Args, ArgsBuf, Keyspace, Scope, Slot, SlotSet, execute};
use flotilla_shard::{SLOTS, slot_of};
use std::path::Path;

/// A shard of all slots, and its clock.
struct Shard {
    keyspace: Keyspace,
    owned: SlotSet,
    now_ms: u64,
}

impl Shard {
    fn new() -> Self {
        let owned = SlotSet::from_ranges(&[(Slot(0), Slot(SLOTS - 1))]);
        Self { keyspace: Keyspace::new(7), owned, now_ms: 1_000_000 }
    }

    /// The reply of a whole request, answered as a node answers it.
    fn answer(&mut self, args: Args<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let spec = match command::resolve(args) {
            Ok(spec) => spec,
            Err(rejected) => {
                rejected.write_to(&mut out);
                return out;
            }
        };
        if spec.name.starts_with("command") {
            command::command_reply(args, &mut out);
        } else if spec.has_keys() {
            self.answer_by_slot(spec, args, &mut out);
        } else {
            self.execute(spec, None, args, &mut out);
        }
        out
    }

    fn answer_by_slot(&mut self, spec: &Spec, args: Args<'_>, out: &mut Vec<u8>) {
        let parts = command::split(spec, args).expect("resolved, and no script crosses slots");
        let mut replies = Vec::new();
        for part in &parts {
            let mut reply = Vec::new();
            self.execute(spec, Some(part.slot), part.args.as_args(), &mut reply);
            replies.push(reply);
        }
        match (spec.combine, replies.as_slice()) {
            (None, [reply]) => out.extend_from_slice(reply),
            (Some(combine), replies) => combine_parts(combine, &parts, replies, out),
            (None, _) => panic!("{} gave {} parts", spec.name, parts.len()),
        }
    }

    fn execute(&mut self, spec: &Spec, slot: Option<Slot>, args: Args<'_>, out: &mut Vec<u8>) {
        let scope =
            Scope { slot, now_ms: self.now_ms, ttl_clock_ms: self.now_ms, owned: &self.owned };
        if spec.is_write() {
            execute::write(&mut self.keyspace, &scope, args, out);
        } else {
            execute::read(&self.keyspace, &scope, args, out);
        }
    }
}

fn combine_parts(combine: Combine, parts: &[Part], replies: &[Vec<u8>], out: &mut Vec<u8>) {
    let answered: Vec<PartReply<'_>> = parts
        .iter()
        .zip(replies)
        .map(|(part, reply)| PartReply { reply, positions: &part.positions })
        .collect();
    combine.replies(&answered, out);
}

/// A word of a script as bytes.
fn word(text: &str) -> Vec<u8> {
    if text == "''" {
        return Vec::new();
    }
    let mut pieces = text.split("\\x");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits after \\x"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

fn request(line: &str) -> ArgsBuf {
    let words: Vec<Vec<u8>> = line.split_whitespace().map(word).collect();
    ArgsBuf::from_slices(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn shown(reply: &[u8]) -> String {
    let ended = reply.strip_suffix(b"\r\n").expect("a reply ends its line");
    ended.escape_ascii().to_string().replace("\\r\\n", " ").replace("\\'", "'")
}

/// The script with the replies that a fresh shard gives.
fn replayed(script: &str) -> String {
    let mut shard = Shard::new();
    let mut given = Vec::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            let reply = shard.answer(request(command).as_args());
            given.push(line.to_owned());
            given.push(shown(&reply));
        } else if let Some(now_ms) = line.strip_prefix("now ") {
            shard.now_ms = now_ms.parse().expect("now and milliseconds");
            given.push(line.to_owned());
        } else if line.is_empty() || line.starts_with('#') {
            given.push(line.to_owned());
        }
    }
    given.join("\n") + "\n"
}

/// The text of a generated file, which `update` tells to be written first.
fn checked_in(path: &Path, generated: &str, update: &str) -> String {
    if std::env::var_os(update).is_some() {
        std::fs::write(path, generated).expect("the file can be written");
    }
    std::fs::read_to_string(path).expect("the file is there")
}

#[test]
fn scripts_are_answered_exactly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/commands");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of scripts") {
        let path = entry.expect("an entry of the folder").path();
        let script = std::fs::read_to_string(&path).expect("a script is text");
        let given = replayed(&script);
        assert_eq!(checked_in(&path, &given, "UPDATE_SCRIPTS"), given, "{}", path.display());
        count += 1;
    }
    assert!(count >= 10, "only {count} scripts were found");
}

#[test]
fn the_page_of_differences_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/COMPAT.md");
    let page = command::compat_markdown();
    assert_eq!(
        checked_in(&path, &page, "UPDATE_COMPAT"),
        page,
        "run UPDATE_COMPAT=1 cargo test -p flotilla-kv"
    );
}

#[test]
fn find_finds_every_command_in_any_case_and_nothing_else() {
    for spec in command::all() {
        let upper = spec.name.to_ascii_uppercase();
        for name in [spec.name, upper.as_str()] {
            let found = command::find(name.as_bytes()).expect("the command is in the table");
            assert!(std::ptr::eq(found, spec), "{name}");
        }
        for other in [format!("{}x", spec.name), spec.name[1..].to_owned()] {
            let known = command::all().any(|spec| spec.name == other);
            assert_eq!(command::find(other.as_bytes()).is_some(), known, "{other}");
        }
    }
    let mut names: Vec<&str> = command::all().map(|spec| spec.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    for name in [&b""[..], b"\x00", b"get\x00", b"GE", b"\xff\xff\xff", b"client|id"] {
        assert!(command::find(name).is_none(), "{name:?}");
    }
}

#[test]
fn flags_reach_and_keys_agree() {
    for spec in command::all() {
        let keyed = matches!(spec.reach, Reach::Read | Reach::Write);
        assert_eq!(spec.has_keys(), keyed, "{}", spec.name);
        assert_eq!(spec.has_flag("write"), spec.is_write(), "{}", spec.name);
        let reads = matches!(spec.reach, Reach::Read | Reach::EveryShardRead(_) | Reach::Scan);
        assert_eq!(spec.has_flag("readonly"), reads, "{}", spec.name);
        if spec.combine.is_some() {
            assert_eq!(spec.last_key, -1, "{} is cut by slot to its end", spec.name);
        }
        assert_eq!(spec.combine.is_some(), spec.last_key != spec.first_key, "{}", spec.name);
        assert!(!spec.summary.is_empty() && !spec.group.is_empty(), "{}", spec.name);
        for sub in spec.subcommands {
            assert_eq!(sub.name, format!("{}|{}", spec.name, sub.verb()));
            assert!(sub.is_of_node() && !sub.summary.is_empty(), "{}", sub.name);
            assert_eq!(sub.group, spec.group, "{}", sub.name);
        }
        assert_eq!(
            spec.subcommands.is_empty(),
            spec.subcommand(b"HELP").is_none(),
            "every container has HELP: {}",
            spec.name
        );
    }
}

#[test]
fn every_command_of_a_shard_is_executed() {
    for spec in command::all() {
        let argc = spec.arity.unsigned_abs() as usize;
        let mut words = vec![spec.name.as_bytes()];
        words.resize(argc, b"7");
        let args = ArgsBuf::from_slices(&words);
        let mut shard = Shard::new();
        let slot = spec.has_keys().then(|| slot_of(b"7"));
        let mut out = Vec::new();
        shard.execute(spec, slot, args.as_args(), &mut out);
        let refused = out.starts_with(b"-ERR the command can't be executed by a shard");
        assert_eq!(refused, spec.is_of_node(), "{} {}", spec.name, shown(&out));
    }
}

#[test]
fn keys_are_told_with_their_argument_numbers() {
    let cases: [(&str, &[(usize, &str)]); 4] = [
        ("GET a", &[(1, "a")]),
        ("SET a v EX 10", &[(1, "a")]),
        ("MSET a 1 b 2 a 3", &[(1, "a"), (3, "b"), (5, "a")]),
        ("DEL x y", &[(1, "x"), (2, "y")]),
    ];
    for (line, expected) in cases {
        let args = request(line);
        let spec = command::resolve(args.as_args()).expect("a known command");
        let keys: Vec<_> = spec.keys(args.as_args()).expect("it has keys").collect();
        let expected: Vec<_> = expected.iter().map(|(at, key)| (*at, key.as_bytes())).collect();
        assert_eq!(keys, expected, "{line}");
    }
    let ping = request("PING");
    let spec = command::resolve(ping.as_args()).expect("a known command");
    assert!(spec.keys(ping.as_args()).is_err());
}

#[test]
fn parts_are_by_slot_and_keep_their_order() {
    // foo is in slot 12182, bar in 5061; the tag puts the third beside foo.
    let args = request("MSET foo 1 bar 2 {foo}x 3 foo 4");
    let spec = command::resolve(args.as_args()).expect("a known command");
    let parts = command::split(spec, args.as_args()).expect("it has keys");
    let seen: Vec<_> = parts.iter().map(|part| (part.slot, part.positions.as_slice())).collect();
    assert_eq!(seen, [(Slot(5061), &[1][..]), (Slot(12182), &[0, 2, 3])]);
    assert_eq!(parts[0].args, request("MSET bar 2"));
    assert_eq!(parts[1].args, request("MSET foo 1 {foo}x 3 foo 4"));

    let set = request("SET foo v EX 10");
    let spec = command::resolve(set.as_args()).expect("a known command");
    let parts = command::split(spec, set.as_args()).expect("it has a key");
    assert_eq!((parts.len(), &parts[0].args, parts[0].slot), (1, &set, Slot(12182)));
}

#[test]
fn replies_of_parts_become_one() {
    let combined = |combine: Combine, parts: &[(&str, &[u32])]| {
        let parts: Vec<PartReply<'_>> = parts
            .iter()
            .map(|(reply, positions)| PartReply { reply: reply.as_bytes(), positions })
            .collect();
        let mut out = Vec::new();
        combine.replies(&parts, &mut out);
        String::from_utf8(out).expect("the parts are text")
    };
    assert_eq!(combined(Combine::Sum, &[(":2\r\n", &[]), (":40\r\n", &[])]), ":42\r\n");
    assert_eq!(combined(Combine::AllOk, &[("+OK\r\n", &[]), ("+OK\r\n", &[])]), "+OK\r\n");
    assert_eq!(
        combined(Combine::Concat, &[("*1\r\n$1\r\na\r\n", &[]), ("*0\r\n", &[])]),
        "*1\r\n$1\r\na\r\n"
    );
    assert_eq!(
        combined(
            Combine::Interleave,
            &[("*2\r\n$2\r\n\r\n\r\n_\r\n", &[2, 0]), ("*1\r\n$1\r\nb\r\n", &[1])]
        ),
        "*3\r\n_\r\n$1\r\nb\r\n$2\r\n\r\n\r\n"
    );
    let first_error = combined(Combine::Sum, &[(":1\r\n", &[]), ("-ERR no\r\n", &[])]);
    assert_eq!(first_error, "-ERR no\r\n");
    let odd: [(Combine, &str); 7] = [
        (Combine::Sum, "+OK\r\n"),
        (Combine::Sum, ":1\r\n:2\r\n"),
        (Combine::AllOk, ":1\r\n"),
        (Combine::Concat, "*-1\r\n"),
        (Combine::Interleave, "*1\r\n:1\r\n"),
        (Combine::Interleave, "*1\r\n$5\r\nab\r\n"),
        (Combine::Interleave, "*1\r\n$9223372036854775807\r\n"),
    ];
    for (combine, reply) in odd {
        let told = combined(combine, &[(reply, &[0])]);
        assert_eq!(told, "-ERR a shard gave a reply of an unexpected form\r\n", "{reply:?}");
    }
}

#[test]
fn a_shard_refuses_what_was_sent_to_it_wrongly() {
    let mut shard = Shard::new();
    let mut told = |slot: Option<Slot>, line: &str| {
        let args = request(line);
        let spec = command::find(args.as_args().get(0).expect("a name")).expect("a command");
        let mut out = Vec::new();
        shard.execute(spec, slot, args.as_args(), &mut out);
        shown(&out)
    };
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(told(Some(Slot(1)), "SET foo 1"), cross);
    assert_eq!(told(None, "SET foo 1"), cross);
    assert_eq!(told(Some(Slot(12182)), "MSET foo 1 bar 2"), cross);
    assert_eq!(told(Some(Slot(12182)), "FLUSHALL"), cross);
    assert_eq!(
        told(Some(Slot(12182)), "SET foo"),
        "-ERR wrong number of arguments for 'set' command"
    );
    assert_eq!(told(Some(Slot(12182)), "GET foo"), "_");
}

#[test]
fn a_failed_command_leaves_what_was_there_before_it() {
    let mut shard = Shard::new();
    let scope =
        Scope { slot: Some(slot_of(b"k")), now_ms: 5, ttl_clock_ms: 5, owned: &shard.owned };
    let mut out = b"earlier".to_vec();
    let args = request("SET k v EX 0");
    execute::write(&mut shard.keyspace, &scope, args.as_args(), &mut out);
    assert_eq!(out, b"earlier-ERR invalid expire time in 'set' command\r\n");
    assert!(shard.keyspace.is_empty());
}

#[test]
fn a_string_can_grow_to_the_limit_and_not_beyond() {
    let mut shard = Shard::new();
    let last = execute::MAX_VALUE_BYTES - 1;
    let grown = shard.answer(request(&format!("SETRANGE k {last} x")).as_args());
    assert_eq!(shown(&grown), format!(":{}", execute::MAX_VALUE_BYTES));
    let refused = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    for line in ["APPEND k y", "SETRANGE k 16777216 y", "SETRANGE k 9223372036854775807 y"] {
        assert_eq!(shown(&shard.answer(request(line).as_args())), refused, "{line}");
    }
    assert_eq!(shown(&shard.answer(request("STRLEN k").as_args())), ":16777216");
}

/// It may name one long value many times.
#[test]
fn a_reply_beyond_the_limit_is_not_made() {
    let mut shard = Shard::new();
    let value = vec![b'x'; 1 << 20];
    shard.answer(ArgsBuf::from_slices(&[b"SET", b"long", &value]).as_args());
    let mut mget = |count: usize| {
        let words = [vec![&b"MGET"[..]], vec![&b"long"[..]; count]].concat();
        shard.answer(ArgsBuf::from_slices(&words).as_args())
    };
    assert!(mget(63).len() > 63 << 20);
    assert_eq!(mget(65), execute::REPLY_TOO_LONG);
}

#[test]
fn ttl_is_counted_from_the_later_clock() {
    let mut shard = Shard::new();
    shard.answer(request("SET k v PX 10000").as_args());
    let scope = |ttl_clock_ms| Scope {
        slot: Some(slot_of(b"k")),
        now_ms: 1_000_000,
        ttl_clock_ms,
        owned: &shard.owned,
    };
    for (clock_ms, left) in [(1_004_000, ":6000"), (1_010_000, ":0"), (2_000_000, ":0")] {
        let mut out = Vec::new();
        let args = request("PTTL k");
        execute::read(&shard.keyspace, &scope(clock_ms), args.as_args(), &mut out);
        assert_eq!(shown(&out), left);
    }
}

#[test]
fn scan_goes_through_all_pages() {
    let mut shard = Shard::new();
    for number in 0..500 {
        shard.answer(request(&format!("SET key:{number} v")).as_args());
    }
    let (mut cursor, mut seen, mut pages) = (String::from("0"), Vec::new(), 0);
    loop {
        let line = format!("SCAN {cursor} COUNT 50 MATCH key:*");
        let reply = shown(&shard.answer(request(&line).as_args()));
        let words: Vec<&str> = reply.split(' ').collect();
        assert_eq!(words[0], "*2");
        words[4..].chunks(2).for_each(|key| seen.push(key[1].to_owned()));
        words[2].clone_into(&mut cursor);
        pages += 1;
        if cursor == "0" {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen.len(), 500);
    seen.dedup();
    assert_eq!((seen.len(), pages >= 10), (500, true));
}
