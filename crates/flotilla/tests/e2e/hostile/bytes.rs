//! Bytes that are no requests, or halves of some.

use std::time::Duration;

use flotilla_resp::Value;

use super::scene::{Scene, ends_with_errors};
use crate::support::{Wire, request, wait_for};

/// What another client may wait while somebody sends nonsense.
const P99_MAX: Duration = Duration::from_millis(250);
/// Connections with half a request each.
const HALVES: usize = 500;

/// A line typed by hand may have 64 KiB.
static LONG_LINE: [u8; 65_538] = [b'a'; 65_538];

/// What is sent, and what the error must say.
const WRONG: [(&[u8], &str); 17] = [
    (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
    (b"*1\r\n:4\r\nPING\r\n", "expected '$', got ':'"),
    (b"*2\r\n$4\r\nECHO\r\nhello\r\n", "expected '$', got 'h'"),
    (b"*x\r\n", "invalid multibulk length"),
    (b"*1 \r\n", "invalid multibulk length"),
    (b"*1048577\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*99999999999999999999\r\n", "invalid multibulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$-9223372036854775808\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
    (b"*1\r\n$536870912\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$4\r\nPINGPING\r\n", "bulk"),
    (b"SET k \"unbalanced\r\n", "unbalanced quotes"),
    (b"*2\r\n$4\r\nECHO\r\n$67108860\r\n", "exceeds the limit of 67108864 bytes"),
    (&LONG_LINE, "too big inline request"),
];

#[test]
fn what_is_no_request_is_answered_by_an_error_and_the_end() {
    let scene = Scene::set();
    scene.bounded("malformed requests", 16 << 10, P99_MAX, || {
        for (bytes, words) in WRONG {
            for cut in [bytes.len(), bytes.len() / 2, 1] {
                let mut wire = scene.connect();
                // What was asked before is still answered.
                wire.send(&request(&[b"PING"])).expect("the node reads");
                assert_eq!(wire.reply().expect("a reply"), Value::Simple("PONG".to_owned()));
                wire.send(&bytes[..cut]).expect("the node reads");
                let _ = wire.send(&bytes[cut..]);
                let errors = ends_with_errors(wire);
                let sent = bytes[..bytes.len().min(40)].escape_ascii();
                assert_eq!(errors.len(), 1, "{sent}: {errors:?}");
                assert!(errors[0].contains(words), "{sent}: {errors:?}");
                assert!(errors[0].starts_with("ERR Protocol error"), "{sent}: {errors:?}");
            }
        }
    });
}

#[test]
fn lines_of_other_protocols_and_noise_do_no_harm() {
    let scene = Scene::set();
    scene.bounded("noise", 32 << 10, P99_MAX, || {
        let mut random = flotilla_sim::Random::new(3);
        for round in 0..200 {
            let mut wire = scene.connect();
            let length = random.between(1, 20_000);
            let noise: Vec<u8> = (0..length).map(|_| random.word() as u8).collect();
            // The node may be done with it before all is sent.
            let sent = wire.send(&noise);
            if sent.is_ok() && round % 2 == 0 {
                let _ = wire.send(b"\r\n*x\r\n");
                ends_with_errors(wire);
            }
        }
        for line in ["GET / HTTP/1.1", "POST / HTTP/1.1", "\u{16}\u{3}\u{1}\u{2}", "SSH-2.0-x"] {
            let mut wire = scene.connect();
            wire.send(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()).expect("the node reads");
            let _ = wire.send(b"*x\r\n");
            ends_with_errors(wire);
        }
    });
}

/// Sends the beginnings of requests on many connections, and holds them.
fn hold_halves(scene: &Scene, half: &[u8], count: usize) -> Vec<Wire> {
    let mut held: Vec<Wire> = (0..count).map(|_| scene.connect()).collect();
    for wire in &mut held {
        wire.send(half).expect("the node reads");
    }
    // The node has read them all once it answers a client that came later.
    for _ in 0..3 {
        let reply = scene.connect().ask(&[b"PING"]).expect("the node answers");
        assert_eq!(reply, Value::Simple("PONG".to_owned()));
    }
    held
}

#[test]
fn half_requests_cost_what_was_sent_of_them() {
    let scene = Scene::set();
    let halves: [(&str, &[u8]); 6] = [
        ("half a header", b"*"),
        ("half an array", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n"),
        ("half a value", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nabc"),
        ("64 MB declared", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67000000\r\nabc"),
        ("a million declared", b"*1000000\r\n$3\r\nDEL\r\n$1\r\nk\r\n"),
        ("half a line", b"SET k"),
    ];
    for (name, half) in halves {
        // 8 KiB each at most, whatever they declare.
        let held =
            scene.bounded(name, HALVES as u64 * 8, P99_MAX, || hold_halves(&scene, half, HALVES));
        drop(held);
    }
}

#[test]
fn a_long_value_that_is_never_finished_costs_its_length() {
    let scene = Scene::set();
    let mut half = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67000000\r\n".to_vec();
    half.resize(8 << 20, b'x');
    let held = 8;
    // A buffer that grows by doubling may be twice what is in it, and once more while it moves.
    let growth_max = held * 4 * (8 << 10);
    let held = scene
        .bounded("8 MiB of 64", growth_max, P99_MAX, || hold_halves(&scene, &half, held as usize));
    drop(held);
    // What they held is used again; the allocator need not give it back to the system at once.
    for _ in 0..4 {
        wait_for("the node has let go", || (scene.clients() <= 2).then_some(()));
        let held = scene
            .bounded("and once more", growth_max / 4, P99_MAX, || hold_halves(&scene, &half, 8));
        drop(held);
    }
}
