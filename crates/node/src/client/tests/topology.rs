//! The shapes of `CLUSTER …`, which every cluster client parses.

use flotilla_resp::{Value, parse_value};

use super::*;

fn value(face: Face, protocol: i64, world: &World, request: &str) -> Value {
    let reply = ask(&mut speaking(face, protocol), world, request);
    let parsed = parse_value(reply.as_bytes()).expect("RESP").expect("a whole reply");
    assert_eq!(parsed.1, reply.len());
    parsed.0
}

fn text(request: &str, world: &World) -> String {
    match value(Face::Cluster, 2, world, request) {
        Value::Bulk(text) => String::from_utf8(text).expect("text"),
        other => panic!("{request}: {other:?}"),
    }
}

/// One member of `CLUSTER SLOTS` in RESP2.
fn member(ip: &str, port: u16, id: u32) -> String {
    let name = id.to_string().repeat(40);
    format!("*4\r\n${}\r\n{ip}\r\n:{port}\r\n$40\r\n{name}\r\n*0\r\n", ip.len())
}

#[test]
fn slots_names_cluster_ports_leaders_first_and_no_leader_as_replica() {
    let (world, mut client) = (world(), speaking(Face::Plain, 2));
    let [one, two, three, four] = [(9001, 1), (9002, 2), (9003, 3), (8004, 4)]
        .map(|(port, id)| member(&format!("10.0.0.{id}"), port, id));
    let expected = format!(
        "*4\r\n*4\r\n:0\r\n:5460\r\n{one}{three}*5\r\n:5461\r\n:10922\r\n{two}{three}{four}\
         *5\r\n:10923\r\n:16382\r\n{one}{three}{four}*5\r\n:16383\r\n:16383\r\n{one}{three}{four}"
    );
    assert_eq!(ask(&mut client, &world, "CLUSTER SLOTS"), expected);
    let mut resp3 = speaking(Face::Cluster, 3);
    let expected = expected.replace("*0\r\n", "%0\r\n");
    assert_eq!(ask(&mut resp3, &world, "CLUSTER SLOTS"), expected);
}

#[test]
fn slots_are_complete_without_a_leader() {
    let mut world = world();
    for shard in &mut world.status.shards {
        shard.leader = None;
    }
    let Value::Array(ranges) = value(Face::Cluster, 2, &world, "CLUSTER SLOTS") else {
        panic!("an array")
    };
    let mut next = 0;
    let mut masters = Vec::new();
    for range in &ranges {
        let Value::Array(fields) = range else { panic!("{range:?}") };
        let [Value::Integer(first), Value::Integer(last), Value::Array(master), ..] = &fields[..]
        else {
            panic!("{range:?}")
        };
        assert_eq!(*first, next);
        next = last + 1;
        masters.push(master[1].clone());
    }
    assert_eq!(next, 16384);
    let ports = [9001, 9002, 9003, 9003].map(Value::Integer);
    assert_eq!(masters, ports, "the first voters");
    assert!(text("CLUSTER INFO", &world).starts_with("cluster_state:fail\r\n"));
}

#[test]
fn before_the_founding_there_are_no_slots() {
    let mut world = world();
    world.status = Status { me: 1, ..Status::default() };
    assert_eq!(value(Face::Cluster, 2, &world, "CLUSTER SLOTS"), Value::Array(Vec::new()));
    assert_eq!(text("CLUSTER NODES", &world), "");
    assert!(text("CLUSTER INFO", &world).starts_with("cluster_state:fail\r\n"));
    assert_eq!(text("CLUSTER MYSHARDID", &world), "0".repeat(40));
}

#[test]
fn a_node_that_listens_on_all_addresses_is_where_the_client_found_it() {
    let mut world = world();
    world.status.nodes[0].ip = "0.0.0.0".to_owned();
    world.status.nodes[1].ip = "[::1]".to_owned();
    let nodes = text("CLUSTER NODES", &world);
    assert!(nodes.contains(" 10.0.0.1:9001@7001 "), "{nodes}");
    assert!(nodes.contains(" ::1:9002@7002 "), "{nodes}");
}

#[test]
fn shards_in_both_protocols() {
    let world = world();
    let Value::Array(shards) = value(Face::Cluster, 2, &world, "CLUSTER SHARDS") else {
        panic!("an array")
    };
    assert_eq!(shards.len(), 3);
    let Value::Array(last) = &shards[2] else { panic!("{:?}", shards[2]) };
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    assert_eq!(last[0], bulk("slots"));
    let slots = [10923, 16382, 16383, 16383].map(Value::Integer).to_vec();
    assert_eq!(last[1], Value::Array(slots));
    assert_eq!(last[2], bulk("nodes"));
    let Value::Array(nodes) = &last[3] else { panic!("{:?}", last[3]) };
    assert_eq!(nodes.len(), 3);
    let master = [
        bulk("id"),
        bulk(&"1".repeat(40)),
        bulk("port"),
        Value::Integer(9001),
        bulk("ip"),
        bulk("10.0.0.1"),
        bulk("endpoint"),
        bulk("10.0.0.1"),
        bulk("role"),
        bulk("master"),
        bulk("replication-offset"),
        Value::Integer(30),
        bulk("health"),
        bulk("online"),
    ];
    assert_eq!(nodes[0], Value::Array(master.to_vec()));
    let Value::Array(replica) = &nodes[2] else { panic!("{:?}", nodes[2]) };
    assert_eq!((&replica[9], &replica[13]), (&bulk("replica"), &bulk("fail")));

    let Value::Array(shards) = value(Face::Cluster, 3, &world, "CLUSTER SHARDS") else {
        panic!("an array")
    };
    assert!(matches!(&shards[0], Value::Map(fields) if fields.len() == 2));
}

#[test]
fn nodes_are_a_line_each_with_all_slots_of_a_leader() {
    let world = world();
    let name = |id: u32| id.to_string().repeat(40);
    let expected = format!(
        "{} 10.0.0.1:9001@7001 myself,master - 0 0 7 connected 0-5460 10923-16382 16383\n\
         {} 10.0.0.2:9002@7002 master - 0 0 7 connected 5461-10922\n\
         {} 10.0.0.3:9003@7003 slave {} 0 0 7 connected\n\
         {} 10.0.0.4:8004@7004 slave,fail? {} 0 0 7 disconnected\n",
        name(1),
        name(2),
        name(3),
        name(1),
        name(4),
        name(2),
    );
    assert_eq!(text("CLUSTER NODES", &world), expected);
    let verbatim = ask(&mut speaking(Face::Cluster, 3), &world, "CLUSTER NODES");
    assert_eq!(verbatim, format!("={}\r\ntxt:{expected}\r\n", expected.len() + 4));
}

#[test]
fn replicas_are_lines_of_a_master() {
    let world = world();
    let request = format!("CLUSTER REPLICAS {}", "2".repeat(40));
    let line = format!(
        "{} 10.0.0.4:8004@7004 slave,fail? {} 0 0 7 disconnected",
        "4".repeat(40),
        "2".repeat(40)
    );
    let expected = Value::Array(vec![Value::Bulk(line.into_bytes())]);
    assert_eq!(value(Face::Cluster, 2, &world, &request), expected);
    let mut client = client(1, Face::Cluster);
    assert_eq!(ask(&mut client, &world, "CLUSTER REPLICAS x"), "-ERR Unknown node x\r\n");
    let request = format!("CLUSTER REPLICAS {}", "3".repeat(40));
    let error = "-ERR The specified node is not a master\r\n";
    assert_eq!(ask(&mut client, &world, &request), error);
}

#[test]
fn info_counts_slots() {
    let mut world = world();
    let expected = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
        cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:4\r\n\
        cluster_size:2\r\ncluster_current_epoch:7\r\ncluster_my_epoch:7\r\n\
        cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n";
    assert_eq!(text("CLUSTER INFO", &world), expected);
    world.status.shards[1].leader = None;
    let info = text("CLUSTER INFO", &world);
    assert!(info.contains("cluster_slots_ok:10923\r\n"), "{info}");
    assert!(info.contains("cluster_slots_fail:5461\r\n"), "{info}");
}

#[test]
fn names_slots_and_counts() {
    let (world, mut client) = (world(), client(1, Face::Cluster));
    let me = "1".repeat(40);
    let shard = "$40\r\n00112233445566778899aabbccddeeff00000001\r\n";
    for (request, reply) in [
        ("CLUSTER MYID", format!("$40\r\n{me}\r\n").as_str()),
        ("CLUSTER MYSHARDID", shard),
        ("CLUSTER KEYSLOT cart:7", ":9546\r\n"),
        ("CLUSTER KEYSLOT a{cart:7}b", ":9546\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 9546", ":2\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 1", ":0\r\n"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot\r\n"),
        ("CLUSTER COUNTKEYSINSLOT -1", "-ERR Invalid slot\r\n"),
        ("CLUSTER COUNTKEYSINSLOT x", "-ERR value is not an integer or out of range\r\n"),
    ] {
        assert_eq!(ask(&mut client, &world, request), reply, "{request}");
    }
}

#[test]
fn links_are_those_that_are_up() {
    let world = world();
    let Value::Array(links) = value(Face::Cluster, 2, &world, "CLUSTER LINKS") else {
        panic!("an array")
    };
    assert_eq!(links.len(), 2, "to nodes 2 and 3");
}
