//! Strangers on the port of the other nodes: noise, halves, and lengths that are only declared.

use std::time::{Duration, Instant};

use crc_fast::{CrcAlgorithm, Digest};
use flotilla_resp::Value;
use flotilla_sim::Random;

use super::scene::Scene;
use crate::support::{PATIENCE, Wire};

/// What a node says first on a link.
const PREFACE: &[u8] = b"\xF1flotlnk";
/// The version of the link's format.
const FORMAT: u16 = 3;
/// The longest body of a frame, bytes.
const MAX_BODY: usize = 256 << 10;
/// What another client may wait meanwhile.
const P99_MAX: Duration = Duration::from_millis(250);
/// Links at once.
const LINKS: usize = 300;

/// The first frame of a connection as nodes send them; `declared` is the length it names.
fn frame(kind: u8, flags: u8, declared: usize, body: &[u8]) -> Vec<u8> {
    numbered(0, kind, flags, declared, body)
}

/// The same as a later frame of a connection.
fn numbered(number: u32, kind: u8, flags: u8, declared: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x7A, 0xF1, kind, flags];
    bytes.extend_from_slice(&(declared as u32).to_le_bytes());
    bytes.extend_from_slice(&1_700_000_000_000_u64.to_le_bytes());
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes);
    let head = digest.finalize() as u32 ^ number;
    digest.update(body);
    bytes.extend_from_slice(&head.to_le_bytes());
    bytes.extend_from_slice(&(digest.finalize() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The hello of a node of another cluster.
fn stranger_hello(number: u32) -> Vec<u8> {
    let mut body = FORMAT.to_le_bytes().to_vec();
    body.push(0);
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&1_u32.to_le_bytes());
    body.extend_from_slice(&2_u32.to_le_bytes());
    body.extend_from_slice(&[9; 16]);
    body.extend_from_slice(&1_u64.to_le_bytes());
    body.extend_from_slice(&1_u64.to_le_bytes());
    // Lane, ports, no cluster, disk 0, nothing known.
    body.extend_from_slice(&[0; 6 + 1 + 8 + 1]);
    numbered(number, 1, 0, body.len(), &body)
}

fn link(scene: &Scene, bytes: &[u8]) -> Wire {
    let mut wire = scene.connect();
    // The node may close it before everything is sent.
    let _ = wire.send(PREFACE).and_then(|()| wire.send(bytes));
    wire
}

/// Checks that the node still answers clients, and all nodes each other.
fn goes_on(scene: &Scene) {
    let mut wire = scene.connect();
    assert_eq!(wire.ask(&[b"INCR", b"goes-on"]).map(|_| ()).ok(), Some(()));
    assert_eq!(wire.ask(&[b"PING"]).expect("a reply"), Value::Simple("PONG".to_owned()));
}

#[test]
fn noise_in_place_of_frames_ends_a_link() {
    let scene = Scene::set();
    let mut random = Random::new(11);
    let mut noise =
        |length: usize| -> Vec<u8> { (0..length).map(|_| random.word() as u8).collect() };
    scene.bounded("noise on links", 32 << 10, P99_MAX, || {
        for length in [24, 25, 100, 4_096, 100_000] {
            for _ in 0..20 {
                link(&scene, &noise(length)).ended().expect("noise is no frame");
            }
        }
        let wrong = [
            ("a length above the limit", frame(1, 0, MAX_BODY + 1, &[])),
            ("the longest length", frame(1, 0, u32::MAX as usize, &[])),
            ("unknown flags", frame(1, 0x82, 0, &[])),
            ("a kind that is none", frame(99, 0, 0, &[])),
            ("no hello first", frame(4, 0, 0, &[])),
            ("an empty hello", frame(1, 0, 0, &[])),
            ("a hello of noise", frame(1, 0, 98, &noise(98))),
            ("a wrong checksum", [&frame(1, 0, 4, &[])[..], b"body"].concat()),
            ("two hellos", [stranger_hello(0), stranger_hello(1)].concat()),
            ("a frame twice", [stranger_hello(0), stranger_hello(0)].concat()),
        ];
        for (name, bytes) in wrong {
            let outcome = link(&scene, &bytes).ended();
            outcome.unwrap_or_else(|error| panic!("{name}: the link stays open: {error}"));
        }
        // Nothing of a client begins like the preface, and half of it is no link yet.
        let mut wire = scene.connect();
        wire.send(b"\xF1fl\r\n*x\r\n").expect("the node reads");
        wire.ended().expect("it is a client that makes no sense");
        goes_on(&scene);
    });
}

#[test]
fn halves_of_frames_cost_what_was_sent_of_them() {
    let scene = Scene::set();
    let halves: [(&str, Vec<u8>); 4] = [
        ("half a preface", Vec::new()),
        ("half a header", frame(1, 0, 0, &[])[..11].to_vec()),
        ("a whole frame declared", frame(1, 0, MAX_BODY, &[])),
        ("a frame that goes on", frame(1, 1, MAX_BODY, b"some of it")),
    ];
    for (name, half) in halves {
        let held = scene.bounded(name, LINKS as u64 * 8, P99_MAX, || {
            let held: Vec<Wire> = (0..LINKS)
                .map(|_| {
                    if half.is_empty() {
                        let mut wire = scene.connect();
                        wire.send(&PREFACE[..5]).expect("the node reads");
                        return wire;
                    }
                    link(&scene, &half)
                })
                .collect();
            goes_on(&scene);
            held
        });
        drop(held);
    }
}

#[test]
fn a_stranger_is_not_listened_to_at_length() {
    let scene = Scene::set();
    // A packet may have 128 MiB, and each of its frames is right: but a stranger has no business
    // with packets.
    let full = vec![0; MAX_BODY];
    scene.bounded("long packets of strangers", 64 << 10, P99_MAX, || {
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut wire = link(&scene, &stranger_hello(0));
            // What comes after the cut is read for a moment, and thrown away.
            let until = Instant::now() + PATIENCE;
            let mut pieces = (1..).map(|number| numbered(number, 4, 1, MAX_BODY, &full));
            while pieces.next().is_some_and(|piece| wire.send(&piece).is_ok()) {
                assert!(Instant::now() < until, "a stranger's packet is cut off");
            }
            held.push(wire);
        }
        goes_on(&scene);
    });
}
