//! The sockets of a lane against plain clients on this host.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener as Listening, TcpStream as Client};

use super::inputs::TOO_MANY_CLIENTS;
use super::*;
use crate::connection::HALF_CLOSED_TIMEOUT;

/// What the node was told, with the bytes of each connection joined.
#[derive(Debug, Default)]
struct Heard {
    accepted: Vec<ConnId>,
    received: HashMap<ConnId, Vec<u8>>,
    closed: Vec<ConnId>,
    ended: Vec<ConnId>,
    congested: Vec<bool>,
    dialed: Vec<(ConnId, bool)>,
}

impl Heard {
    fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { conn, .. } => self.accepted.push(conn),
            Event::Received { conn, bytes } => {
                self.received.entry(conn).or_default().extend_from_slice(bytes);
            }
            Event::Closed { conn } => self.closed.push(conn),
            Event::Ended { conn } => self.ended.push(conn),
            Event::Congested { conn: FIRST, congested } => self.congested.push(congested),
            Event::Dialed { conn, connected } => self.dialed.push((conn, connected)),
            other => panic!("sockets don't tell {other:?}"),
        }
    }

    fn bytes(&self, conn: ConnId) -> usize {
        self.received.get(&conn).map_or(0, Vec::len)
    }
}

/// A network with one port, and what its node has heard.
struct World {
    network: Network,
    heard: Heard,
    port: u16,
}

impl World {
    fn new(accepted_max: usize) -> Self {
        let mut network = Network::new(accepted_max).expect("sockets can be watched");
        let listener =
            crate::listen(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).expect("some port is free");
        let port = listener.local_addr().expect("it is bound").port();
        network.listen(listener, Face::Plain).expect("it can be watched");
        Self { network, heard: Heard::default(), port }
    }

    fn client(&self) -> Client {
        Client::connect(("127.0.0.1", self.port)).expect("the network listens")
    }

    fn turn(&mut self) {
        self.network.poll(Duration::from_millis(5)).expect("sockets can be watched");
        let heard = &mut self.heard;
        self.network.deliver(&mut |event| heard.hear(event));
        self.network.flush();
    }

    /// Turns until `done`; panics if that takes too long.
    fn until(&mut self, mut done: impl FnMut(&Heard) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done(&self.heard) {
            assert!(Instant::now() < end, "in vain: {:?}", self.heard.closed);
            self.turn();
        }
    }

    /// Turns until nothing has happened for a while.
    fn rest(&mut self) {
        (0..20).for_each(|_| self.turn());
    }
}

const FIRST: ConnId = ConnId(1);

#[test]
fn what_is_queued_leaves_before_a_close_whatever_the_client_sends() {
    let mut world = World::new(10);
    let mut client = world.client();
    client.write_all(b"PING").expect("it is open");
    world.until(|heard| heard.bytes(FIRST) == 4);
    let reply = vec![b'r'; 8 << 20];
    world.network.send(FIRST, reply.clone());
    world.network.close(FIRST);
    client.write_all(&[b'x'; 10_000]).expect("it is open");
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).map(|_| got)
    });
    while !reading.is_finished() {
        world.turn();
    }
    let got = reading.join().expect("it only reads").expect("no reset");
    assert_eq!(got.len(), reply.len());
    assert_eq!(world.heard.bytes(FIRST), 4, "nothing is read after the close");
    assert!(world.heard.closed.is_empty(), "the node is not told of what it did");
}

#[test]
fn a_paused_connection_is_read_when_it_goes_on() {
    let mut world = World::new(10);
    let mut client = world.client();
    world.until(|heard| heard.accepted == [FIRST]);
    world.network.set_paused(FIRST, true);
    client.write_all(b"later").expect("it is open");
    world.rest();
    assert_eq!(world.heard.bytes(FIRST), 0);
    world.network.set_paused(FIRST, false);
    world.until(|heard| heard.bytes(FIRST) == 5);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut world = World::new(10);
    let mut client = world.client();
    world.until(|heard| heard.accepted == [FIRST]);
    let sent = 64 << 20;
    world.network.send(FIRST, vec![0; sent]);
    world.turn();
    client.write_all(b"more").expect("it is open");
    world.rest();
    assert_eq!(world.heard.bytes(FIRST), 0, "it has too much unread");
    assert_eq!(world.heard.congested, [true]);
    let mut reader = client.try_clone().expect("a handle can be cloned");
    let reading = std::thread::spawn(move || {
        let mut got = vec![0; sent];
        reader.read_exact(&mut got)
    });
    world.until(|heard| heard.bytes(FIRST) == 4);
    while !reading.is_finished() {
        world.turn();
    }
    reading.join().expect("it only reads").expect("everything arrives");
    assert_eq!(world.heard.congested, [true, false]);
}

#[test]
fn the_end_of_a_client_is_told_at_once_unless_it_may_listen() {
    let mut world = World::new(10);
    drop(world.client());
    world.until(|heard| heard.closed == [FIRST]);

    let mut client = world.client();
    client.write_all(b"GET").expect("it is open");
    client.shutdown(Shutdown::Write).expect("it is open");
    let second = ConnId(2);
    world.until(|heard| heard.bytes(second) == 3);
    world.rest();
    assert_eq!((&world.heard.closed[..], &world.heard.ended[..]), (&[FIRST][..], &[second][..]));
    world.network.send(second, b"reply".to_vec());
    world.until(|heard| heard.closed == [FIRST, second]);
    let mut got = String::new();
    client.read_to_string(&mut got).expect("no reset");
    assert_eq!(got, "reply");

    let mut peer = world.client();
    peer.write_all(&[PEER_PREFACE_START]).expect("it is open");
    peer.shutdown(Shutdown::Write).expect("it is open");
    let third = ConnId(3);
    let asked = Instant::now();
    world.until(|heard| heard.closed.contains(&third));
    assert!(asked.elapsed() < HALF_CLOSED_TIMEOUT, "a node's end is a hint for elections");
}

#[test]
fn dials_succeed_or_fail_and_carry_bytes() {
    let mut world = World::new(10);
    let there = Listening::bind("127.0.0.1:0").expect("some port is free");
    let address = there.local_addr().expect("it is bound").to_string();
    let nowhere = {
        let gone = Listening::bind("127.0.0.1:0").expect("some port is free");
        gone.local_addr().expect("it is bound").to_string()
    };
    let dial = |number| ConnId(ConnId::FIRST_DIALED.0 + number);
    world.network.dial(dial(0), &address);
    world.network.dial(dial(1), &nowhere);
    world.network.dial(dial(2), "nonsense");
    world.until(|heard| heard.dialed.len() == 3);
    world.heard.dialed.sort_unstable();
    assert_eq!(world.heard.dialed, [(dial(0), true), (dial(1), false), (dial(2), false)]);
    let (mut peer, _) = there.accept().expect("it was dialled");
    peer.write_all(b"hello").expect("it is open");
    world.until(|heard| heard.bytes(dial(0)) == 5);
    drop(peer);
    world.until(|heard| heard.closed == [dial(0)]);
}

#[test]
fn a_client_beyond_the_limit_is_told_why() {
    let mut world = World::new(1);
    let _first = world.client();
    world.until(|heard| heard.accepted == [FIRST]);
    let mut second = world.client();
    world.rest();
    let mut got = String::new();
    second.read_to_string(&mut got).expect("it is told and closed");
    assert_eq!(got.as_bytes(), TOO_MANY_CLIENTS);
    assert_eq!(world.heard.accepted, [FIRST]);
}
