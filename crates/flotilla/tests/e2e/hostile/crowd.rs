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
/// A crowd of those that have sent much, and what each has sent, bytes.
const BUSY: usize = 200;
const LARGE: usize = 200 << 10;
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
            eprintln!("{name}: {each} bytes for each of {count} connections");
        }
        (each <= BYTES_MAX).then_some(())
    });
}

/// Ten thousand connections that have each asked `first`, if anything, on a node that has seen no
/// crowd yet.
fn idle_crowd(name: &str, first: Option<&[u8]>) {
    let mut scene = Scene::set();
    wait_until_printed(&mut scene, "clients-max=");
    let room = raise_descriptors().saturating_sub(OWN_DESCRIPTORS);
    let count = room.min(CONNECTIONS);
    if count < CONNECTIONS {
        eprintln!("this system allows for {count} connections only, not {CONNECTIONS}");
    }
    ok(scene.connect().ask(&[b"SET", b"idle", b"value"]).expect("the node answers"));
    // Nobody else is at work meanwhile: what others write is kept in memory too.
    let before = scene.memory().resident;
    let held = crowd(&scene, count, |wire| {
        let Some(first) = first else { return };
        wire.send(first).expect("the node reads");
        assert_eq!(wire.reply().expect("a reply"), Value::Bulk(b"value".to_vec()));
    });
    wait_for("everybody is accepted", || (scene.descriptors() >= count).then_some(()));
    check_cost(&scene, name, before, count);
    scene.bounded(&format!("beside a crowd, {name}"), 16 << 10, P99_MAX, || {
        assert!(scene.descriptors() >= count, "nobody was turned away");
    });
    drop(held);
}

#[test]
fn ten_thousand_silent_connections_cost_two_kibibytes_each() {
    idle_crowd("silent", None);
}

#[test]
fn ten_thousand_connections_that_were_used_cost_two_kibibytes_each() {
    idle_crowd("used", Some(&request(&[b"GET", b"idle"])));
}

/// Clients that have each sent a large value and a long pipeline, and been answered.
fn busy_once(scene: &Scene, large: &[u8]) -> Vec<Wire> {
    crowd(scene, BUSY, |wire| {
        let reply = wire.ask(&[b"ECHO", large]).expect("a reply");
        assert_eq!(reply, Value::Bulk(large.to_vec()));
        let reads = request(&[b"GET", b"nothing"]).repeat(1_000);
        wire.send(&reads).expect("the node reads");
        for _ in 0..1_000 {
            assert_eq!(wire.reply().expect("a reply"), Value::Null);
        }
    })
}

/// Whoever has once sent and got much is idle like the others afterwards. The allocator may give to
/// the system what the node gives back, or keep it; either way a later crowd needs no more than was
/// ever needed, since it finds room where the first one was, which is still connected.
#[test]
fn who_was_busy_once_gives_back_what_that_took() {
    let scene = Scene::set();
    let large = vec![b'x'; LARGE];
    let first = scene
        .bounded("a crowd that has sent much", 256 << 10, P99_MAX, || busy_once(&scene, &large));
    let mut crowds = vec![first];
    let one_crowd = (BUSY * LARGE) as u64 / 1024;
    let mut most = scene.memory().resident;
    wait_for("a later crowd needs no more memory", || {
        crowds.push(busy_once(&scene, &large));
        let resident = scene.memory().resident;
        let growth = resident.saturating_sub(most);
        most = most.max(resident);
        eprintln!("crowd {} of {BUSY}: {growth} KiB more than ever, {resident}", crowds.len());
        (growth <= one_crowd / 10).then_some(())
    });
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
