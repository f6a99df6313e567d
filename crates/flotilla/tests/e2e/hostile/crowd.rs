//! Ten thousand connections that do nothing.

use std::time::Duration;

use flotilla_resp::Value;

use super::scene::{Scene, ends_with_errors, ok, raise_descriptors, wait_until_printed};
use crate::support::{Nodes, Wire, request, wait_for};

/// How many there are, if the system allows for so many.
const CONNECTIONS: usize = 10_000;
/// Descriptors that this process needs for itself.
const OWN_DESCRIPTORS: usize = 200;
/// What one of them may cost the node while it is idle, bytes.
const BYTES_MAX: u64 = 2 << 10;
/// What another client may wait meanwhile.
const P99_MAX: Duration = Duration::from_millis(250);

/// Connections that have done `first` and nothing since.
fn crowd(scene: &Scene, count: usize, first: impl Fn(&mut Wire)) -> Vec<Wire> {
    (0..count)
        .map(|_| {
            let mut wire = scene.connect();
            first(&mut wire);
            wire
        })
        .collect()
}

/// Checks what the node holds for each of an idle crowd, which it may take a moment to give back.
fn check_cost(scene: &Scene, name: &str, before: u64, count: usize) {
    let mut least = u64::MAX;
    wait_for(&format!("{name}: at most {BYTES_MAX} bytes each"), || {
        let grown = scene.memory().resident.saturating_sub(before) * 1024;
        let each = grown / count as u64;
        if each < least {
            least = each;
            println!("{name}: {each} bytes for each of {count} connections");
        }
        (each <= BYTES_MAX).then_some(())
    });
}

#[test]
fn ten_thousand_idle_connections_cost_two_kibibytes_each() {
    let mut scene = Scene::set();
    wait_until_printed(&mut scene, "clients-max=");
    let room = raise_descriptors().saturating_sub(OWN_DESCRIPTORS);
    let count = room.min(CONNECTIONS);
    if count < CONNECTIONS {
        println!("this system allows for {count} connections only, not {CONNECTIONS}");
    }
    let before = scene.memory().resident;
    let large = vec![b'x'; 200 << 10];
    let held = scene
        .bounded("a crowd that says nothing", 64 << 10, P99_MAX, || crowd(&scene, count, |_| {}));
    check_cost(&scene, "silent", before, count);
    drop(held);

    ok(scene.connect().ask(&[b"SET", b"idle", b"value"]).expect("the node answers"));
    let held = scene.bounded("a crowd that has asked something", 64 << 10, P99_MAX, || {
        crowd(&scene, count, |wire| {
            let reply = wire.ask(&[b"GET", b"idle"]).expect("a reply");
            assert_eq!(reply, Value::Bulk(b"value".to_vec()));
        })
    });
    check_cost(&scene, "used", before, count);
    drop(held);

    // Whoever has once sent and got much is idle like the others afterwards.
    let few = count.min(500);
    let held = scene.bounded("a crowd that has sent much", 512 << 10, P99_MAX, || {
        crowd(&scene, few, |wire| {
            let reply = wire.ask(&[b"ECHO", &large]).expect("a reply");
            assert_eq!(reply, Value::Bulk(large.clone()));
            let pings = request(&[b"PING"]).repeat(1_000);
            wire.send(&pings).expect("the node reads");
            for _ in 0..1_000 {
                assert_eq!(wire.reply().expect("a reply"), Value::Simple("PONG".to_owned()));
            }
        })
    });
    check_cost(&scene, "once busy", before, few);
    drop(held);
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut nodes = Nodes::blank(1);
    nodes.limit_descriptors(200);
    nodes.start_node(1);
    nodes.wait_until_ready();
    // What is left for clients, the node has said at its start.
    let printed = nodes.process(1).printed();
    let (_, digits) = printed.rsplit_once("clients-max=").expect("it says how many");
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    let most: usize = digits.parse().expect("a number");
    assert!((16..200).contains(&most), "{printed}");
    let pong = Value::Simple("PONG".to_owned());
    // Connections of the start may still be there for a moment.
    let mut held: Vec<Wire> = Vec::new();
    wait_for("as many clients as there is room for", || {
        let mut wire = Wire::connect(nodes.port(1)).expect("the system accepts");
        if wire.ask(&[b"PING"]).is_ok_and(|reply| reply == pong) {
            held.push(wire);
        }
        (held.len() == most).then_some(())
    });
    let errors = ends_with_errors(Wire::connect(nodes.port(1)).expect("the system accepts"));
    assert_eq!(errors, ["ERR max number of clients reached"]);
    // One leaves, another has its place.
    drop(held.pop());
    wait_for("the place is free again", || {
        let reply = Wire::connect(nodes.port(1)).ok()?.ask(&[b"PING"]).ok()?;
        (reply == pong).then_some(())
    });
}
