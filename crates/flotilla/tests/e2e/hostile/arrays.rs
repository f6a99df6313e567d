//! Requests of a million arguments, which are allowed.

use std::time::Duration;

use flotilla_resp::{Value, encode};

use super::scene::{Scene, ok};

/// Words of a request besides its name.
const WORDS: usize = 1_000_000;
/// One node does the work of such a request in one turn, or in a few: others wait for it.
const P99_MAX: Duration = Duration::from_secs(4);

/// A request of many words.
fn long_request(name: &[u8], word: impl Fn(usize) -> String) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::array_header(&mut bytes, WORDS + 1);
    encode::bulk(&mut bytes, name);
    (0..WORDS).for_each(|number| encode::bulk(&mut bytes, word(number).as_bytes()));
    bytes
}

#[test]
fn a_million_words_that_are_really_sent_are_a_request_like_others() {
    let scene = Scene::set();
    // A hundred keys, each named many times; and as many keys as there are words, none of which
    // exists.
    let few = |number: usize| format!("few:{}", number % 100);
    let many = |number: usize| format!("{number}");
    let tag = |number: usize| format!("{{tag}}{number}");
    let mut wire = scene.connect();
    for number in 0..100 {
        ok(wire.ask(&[b"SET", few(number).as_bytes(), b"there"]).expect("the node answers"));
    }
    let growth_max = 600 << 10;
    scene.bounded("MGET of a million keys", growth_max, P99_MAX, || {
        wire.send(&long_request(b"MGET", many)).expect("the node reads");
        let Value::Array(values) = wire.reply().expect("a reply") else { panic!("no array") };
        assert!(values.len() == WORDS && values.iter().all(|value| *value == Value::Null));
    });
    scene.bounded("EXISTS of a hundred keys ten thousand times", growth_max, P99_MAX, || {
        wire.send(&long_request(b"EXISTS", few)).expect("the node reads");
        assert_eq!(wire.reply().expect("a reply"), Value::Integer(WORDS as i64));
    });
    scene.bounded("DEL of a million keys of one slot", growth_max, P99_MAX, || {
        wire.send(&long_request(b"DEL", tag)).expect("the node reads");
        assert_eq!(wire.reply().expect("a reply"), Value::Integer(0));
    });
    scene.bounded("a million words for a command that wants one", growth_max, P99_MAX, || {
        wire.send(&long_request(b"GET", many)).expect("the node reads");
        let reply = wire.reply().expect("a reply");
        let error = reply.as_error().expect("an error");
        assert!(error.contains("wrong number of arguments"), "{error}");
    });
}
