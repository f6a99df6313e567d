//! A client's front end in front of a made-up node.

mod conversation;
mod local;
mod topology;

use std::collections::BTreeMap;

use flotilla_kv::command::Reach;
use flotilla_raft::Time;
use flotilla_shard::Slot;

use super::{Client, Connected, Next, View, answer_local};
use crate::{Face, NodeStatus, Now, Options, ReplicaStatus, ShardStatus, Status};

/// A made-up node.
struct World {
    now: Now,
    options: Options,
    status: Status,
    others: Vec<Client>,
    keys: BTreeMap<u16, u64>,
}

impl View for World {
    fn now(&self) -> Now {
        self.now
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn status(&self) -> Status {
        self.status.clone()
    }

    fn each_client(&self, visit: &mut dyn FnMut(&Client)) {
        self.others.iter().for_each(visit);
    }

    fn keys_in_slot(&self, slot: Slot) -> Option<u64> {
        self.keys.get(&slot.0).copied()
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// Four nodes: 1 leads shards 1 and 3, 2 leads shard 2, 3 and 4 follow, 4 is out of reach.
fn world() -> World {
    let status = Status {
        cluster: "00112233445566778899aabbccddeeff".to_owned(),
        epoch: 7,
        me: 1,
        incarnation: 2,
        ready: true,
        uptime_ms: 90_000,
        clients: 3,
        commands: 12,
        nodes: (1..=4).map(node).collect(),
        shards: vec![
            shard(0, &[], [1, 2, 3], 2),
            shard(1, &[(0, 5460)], [1, 2, 3], 1),
            shard(2, &[(5461, 10922)], [2, 3, 4], 2),
            shard(3, &[(10923, 16382), (16383, 16383)], [3, 4, 1], 1),
        ],
        replicas: vec![
            replica(0, "follower", 3, 0),
            replica(1, "leader", 20, 5),
            replica(3, "leader", 30, 6),
        ],
        ..Status::default()
    };
    let now = Now { time: Time(65_000_000), wall_ms: 1_700_000_000_123 };
    let keys = BTreeMap::from([(9546, 2)]);
    World { now, options: Options::default(), status, others: Vec::new(), keys }
}

fn node(id: u32) -> NodeStatus {
    NodeStatus {
        id,
        name: id.to_string().repeat(40),
        ip: format!("10.0.0.{id}"),
        port: 7000 + id as u16,
        cluster_port: if id == 4 { 0 } else { 9000 + id as u16 },
        http_port: 0,
        linked: id != 4,
    }
}

fn shard(id: u32, ranges: &[(u16, u16)], voters: [u32; 3], leader: u32) -> ShardStatus {
    ShardStatus {
        id,
        ranges: ranges.to_vec(),
        voters: voters.to_vec(),
        learners: Vec::new(),
        leader: Some(leader),
        term: 4,
    }
}

fn replica(shard: u32, role: &str, applied: u64, keys: u64) -> ReplicaStatus {
    ReplicaStatus {
        shard,
        id: 7,
        damaged: 0,
        role: role.to_owned(),
        term: 4,
        commit: applied,
        applied,
        last: applied + 1,
        durable: applied,
        snapshot: 0,
        keys,
        bytes: 10 * keys,
        lag: if role == "leader" { vec![(2, 0), (3, 1)] } else { Vec::new() },
    }
}

/// A node with other limits.
fn world_with(options: Options) -> World {
    World { options, ..world() }
}

fn client(id: u64, face: Face) -> Client {
    client_of(&world(), id, face)
}

fn client_of(world: &World, id: u64, face: Face) -> Client {
    let remote = format!("10.9.9.9:{}", 40_000 + id);
    let connected = Connected { id, face, remote, local: "10.0.0.1:7001".to_owned() };
    Client::new(connected, &world.options, Now { time: Time(0), wall_ms: 0 })
}

/// Feeds and answers until nothing is left; what is not local gets a place, named by its command.
fn run(client: &mut Client, world: &World, input: &[u8]) -> Vec<(&'static str, u64)> {
    client.feed(input, world.now);
    let (mut deferred, mut reply) = (Vec::new(), Vec::new());
    while let Next::Command(spec) = client.next(&world.options) {
        if spec.reach == Reach::Node {
            reply.clear();
            let change = answer_local(client, spec, world, &mut reply);
            client.conclude(change, &reply);
        } else {
            deferred.push((spec.name, client.defer()));
        }
    }
    deferred
}

fn output(client: &mut Client) -> String {
    let mut out = Vec::new();
    client.take_output(&mut out);
    String::from_utf8(out).expect("the tests write text")
}

/// What a client says that sends this and waits for all replies; none may be of a shard.
fn ask(client: &mut Client, world: &World, request: &str) -> String {
    let deferred = run(client, world, format!("{request}\r\n").as_bytes());
    assert_eq!(deferred, [], "{request}");
    output(client)
}

/// A new connection of the face that speaks the protocol, greeting done.
fn speaking(face: Face, protocol: i64) -> Client {
    let mut client = client(5, face);
    ask(&mut client, &world(), &format!("HELLO {protocol}"));
    client
}
