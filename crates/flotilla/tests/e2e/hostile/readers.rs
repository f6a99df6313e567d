//! Clients that ask for more than they read.

use std::time::Duration;

use flotilla_resp::Value;

use super::scene::{Scene, ok};
use crate::support::{Wire, request};

/// A big value, bytes.
const BIG: usize = 4 << 20;
/// What another client may wait meanwhile.
const P99_MAX: Duration = Duration::from_millis(500);
/// Clients that read slowly.
const SLOW: usize = 20;

fn store_big(scene: &Scene) {
    ok(scene.connect().ask(&[b"SET", b"big", &vec![b'x'; BIG]]).expect("the node answers"));
}

#[test]
fn readers_of_single_bytes_get_what_they_asked_for() {
    let scene = Scene::set();
    store_big(&scene);
    // Each reply waits in the node until its reader is done with it.
    let growth_max = (3 * SLOW * BIG) as u64 / 1024;
    scene.bounded("readers of single bytes", growth_max, P99_MAX, || {
        let mut slow: Vec<Wire> = (0..SLOW).map(|_| scene.connect()).collect();
        for wire in &mut slow {
            wire.send(&request(&[b"GET", b"big"])).expect("the node reads");
        }
        for _ in 0..2_000 {
            for wire in &mut slow {
                wire.read_byte().expect("there is more");
            }
        }
        for wire in &mut slow {
            assert_eq!(wire.reply().expect("the rest"), Value::Bulk(vec![b'x'; BIG]));
        }
    });
}

#[test]
fn a_client_that_never_reads_is_made_to_wait() {
    let scene = Scene::set();
    store_big(&scene);
    let asked = 8_000;
    scene.bounded("one that never reads", NEVER_READ_KIB, P99_MAX, || {
        let mut wire = scene.connect();
        // 32 GB of replies, if the node made them all.
        let _ = wire.send(&request(&[b"GET", b"big"]).repeat(asked));
        // Meanwhile all others go on.
        let mut other = scene.connect();
        for _ in 0..200 {
            let reply = other.ask(&[b"STRLEN", b"big"]).expect("the node answers");
            assert_eq!(reply, Value::Integer(BIG as i64));
        }
        // What it gets when it reads after all is whole.
        for _ in 0..8 {
            match wire.reply() {
                Ok(reply) => assert_eq!(reply, Value::Bulk(vec![b'x'; BIG])),
                Err(_) => break,
            }
        }
    });
}

#[test]
fn a_reply_without_measure_is_refused() {
    let scene = Scene::set();
    store_big(&scene);
    let mut many: Vec<&[u8]> = vec![b"big"; 10_000];
    many.insert(0, b"MGET");
    let growth_max = 400 << 10;
    scene.bounded("MGET of 40 GB", growth_max, P99_MAX, || {
        let reply = scene.connect().ask(&many).expect("the node answers");
        let error = reply.as_error().expect("an error");
        assert!(error.starts_with("ERR the reply would be longer than 64 MiB"), "{error}");
    });
}

/// What replies may cost that nobody reads, KiB.
const NEVER_READ_KIB: u64 = 400 << 10;
