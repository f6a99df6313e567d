//! What holds for every request: no input panics, every reply is one RESP3 value, parts add up to
//! the whole, and patterns match as a slow twin says.

use flotilla_kv::command::{self, PartReply};
use flotilla_kv::{Args, ArgsBuf, Keyspace, Scope, Slot, SlotSet, execute};
use flotilla_shard::{SLOTS, slot_of};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn every_slot() -> SlotSet {
    SlotSet::from_ranges(&[(Slot(0), Slot(SLOTS - 1))])
}

/// Words that commands care for, and some bytes they do not.
fn any_word() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "k",
        "{k}2",
        "0",
        "1",
        "-1",
        "10",
        "-9223372036854775808",
        "9223372036854775807",
        "nx",
        "XX",
        "get",
        "EX",
        "PX",
        "exat",
        "pxat",
        "keepttl",
        "PERSIST",
        "GT",
        "lt",
        "match",
        "COUNT",
        "type",
        "*",
        "[a",
        "sync",
        "string",
        "",
    ];
    prop_oneof![
        8 => prop::sample::select(known.map(|word| word.as_bytes().to_vec()).to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

fn any_request() -> impl Strategy<Value = ArgsBuf> {
    let names: Vec<&str> = command::all().map(|spec| spec.name).collect();
    let words = prop::collection::vec(any_word(), 0..7);
    (prop::sample::select(names), words).prop_map(|(name, words)| {
        let mut args = ArgsBuf::from_slices(&[name.as_bytes()]);
        for word in &words {
            args.push(word);
        }
        args
    })
}

/// Executes what may be nonsense, for the slot of its first key if it has one.
fn execute_any(keyspace: &mut Keyspace, args: Args<'_>, now_ms: u64, owned: &SlotSet) -> Vec<u8> {
    let name = args.get(0).expect("every request has a name");
    let spec = command::find(name).expect("the name is from the table");
    let slot = spec.has_keys().then(|| slot_of(args.get(1).unwrap_or_default()));
    let scope = Scope { slot, now_ms, ttl_clock_ms: now_ms, owned };
    let mut out = Vec::new();
    execute::write(keyspace, &scope, args, &mut out);
    if !spec.is_write() {
        let mut read = Vec::new();
        execute::read(keyspace, &scope, args, &mut read);
        assert_eq!(read, out, "a read is the same from the log and at a read index");
    }
    out
}

fn is_one_value(reply: &[u8]) -> bool {
    matches!(flotilla_resp::parse_value(reply), Ok(Some((_, bytes))) if bytes == reply.len())
}

/// Executes a command of several keys by slot and combines the replies.
fn by_slot(keyspace: &mut Keyspace, args: Args<'_>, owned: &SlotSet) -> Vec<u8> {
    let spec = command::resolve(args).expect("a known command with enough arguments");
    let parts = command::split(spec, args).expect("the command has keys");
    let mut replies = Vec::new();
    for part in &parts {
        let scope = Scope { slot: Some(part.slot), now_ms: 1, ttl_clock_ms: 1, owned };
        let mut reply = Vec::new();
        execute::write(keyspace, &scope, part.args.as_args(), &mut reply);
        replies.push(reply);
    }
    let answered: Vec<PartReply<'_>> = parts
        .iter()
        .zip(&replies)
        .map(|(part, reply)| PartReply { reply, positions: &part.positions })
        .collect();
    let mut out = Vec::new();
    spec.combine.expect("only such commands are tried").replies(&answered, &mut out);
    out
}

/// The reply of a store without slots.
fn by_model(model: &mut BTreeMap<Vec<u8>, Vec<u8>>, words: &[Vec<u8>]) -> Vec<u8> {
    let keys = &words[1..];
    match words[0].as_slice() {
        b"MSET" => {
            for pair in keys.chunks(2) {
                model.insert(pair[0].clone(), pair[1].clone());
            }
            b"+OK\r\n".to_vec()
        }
        b"DEL" => {
            let gone = keys.iter().filter(|key| model.remove(*key).is_some()).count();
            format!(":{gone}\r\n").into_bytes()
        }
        b"EXISTS" => {
            let there = keys.iter().filter(|key| model.contains_key(*key)).count();
            format!(":{there}\r\n").into_bytes()
        }
        _ => {
            let mut out = format!("*{}\r\n", keys.len()).into_bytes();
            for key in keys {
                match model.get(key) {
                    Some(value) => flotilla_resp::encode::bulk(&mut out, value),
                    None => flotilla_resp::encode::null(&mut out),
                }
            }
            out
        }
    }
}

fn any_many() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let key = prop::sample::select(vec!["a", "b", "c", "{a}d", "e\r\n", "", "$1\r\n"]);
    let name = prop::sample::select(vec!["MSET", "MGET", "DEL", "EXISTS"]);
    (name, prop::collection::vec(key, 1..6)).prop_map(|(name, keys)| {
        let mut words = vec![name.as_bytes().to_vec()];
        for (at, key) in keys.iter().enumerate() {
            words.push(key.as_bytes().to_vec());
            if name == "MSET" {
                words.push(format!("{key}\r\n{at}").into_bytes());
            }
        }
        words
    })
}

/// The definition of a pattern of stars, question marks and plain bytes, word for word.
fn matches_slowly(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            (0..=text.len()).any(|taken| matches_slowly(rest, &text[taken..]))
        }
        ([b'?', rest @ ..], [_, left @ ..]) => matches_slowly(rest, left),
        ([own, rest @ ..], [byte, left @ ..]) => own == byte && matches_slowly(rest, left),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_request_panics_and_every_reply_is_one_value(
        requests in prop::collection::vec(any_request(), 1..30),
        start_ms in prop_oneof![Just(0), Just(1_700_000_000_000), Just(u64::MAX - 100)],
    ) {
        let owned = every_slot();
        let (mut keyspace, mut twin) = (Keyspace::new(7), Keyspace::new(7));
        for (turn, request) in requests.iter().enumerate() {
            let now_ms = start_ms + turn as u64;
            let reply = execute_any(&mut keyspace, request.as_args(), now_ms, &owned);
            prop_assert!(is_one_value(&reply), "{}", reply.escape_ascii());
            let again = execute_any(&mut twin, request.as_args(), now_ms, &owned);
            prop_assert_eq!(reply, again);
        }
    }

    #[test]
    fn no_request_is_resolved_into_a_panic(
        name in any_word(),
        words in prop::collection::vec(any_word(), 0..4),
    ) {
        let mut args = ArgsBuf::from_slices(&[&name]);
        for word in &words {
            args.push(word);
        }
        let mut out = Vec::new();
        command::command_reply(args.as_args(), &mut out);
        prop_assert!(is_one_value(&out));
        if let Ok(spec) = command::resolve(args.as_args()) {
            let _ = command::split(spec, args.as_args());
        }
    }

    #[test]
    fn parts_by_slot_add_up_to_the_whole(requests in prop::collection::vec(any_many(), 1..30)) {
        let owned = every_slot();
        let (mut keyspace, mut model) = (Keyspace::new(7), BTreeMap::new());
        for words in &requests {
            let words_as_slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let args = ArgsBuf::from_slices(&words_as_slices);
            let reply = by_slot(&mut keyspace, args.as_args(), &owned);
            prop_assert_eq!(reply, by_model(&mut model, words));
        }
    }

    #[test]
    fn patterns_match_by_their_definition(
        pattern in "[ab*?]{0,8}",
        text in "[ab]{0,10}",
    ) {
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        let expected = matches_slowly(pattern, text);
        prop_assert_eq!(execute::glob_matches(pattern, text), expected);
    }

    #[test]
    fn combined_replies_from_outside_do_not_panic(
        reply in prop::collection::vec(prop::sample::select(b"*$:+_-0129\r\na".to_vec()), 0..20),
        positions in prop::collection::vec(0_u32..4, 0..3),
    ) {
        use command::Combine::{AllOk, Concat, Interleave, Sum};
        for combine in [Sum, AllOk, Interleave, Concat] {
            let part = PartReply { reply: &reply, positions: &positions };
            combine.replies(&[part], &mut Vec::new());
        }
    }
}
