//! Any node serves any key, and says how the cluster is.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use redis::Commands as _;

use crate::support::{Nodes, Up, client, output_of, socket, status, wait_for};

#[test]
fn up_serves_set_and_get_on_any_node() {
    let up = Up::start(3);
    for key in 0..30 {
        let name = format!("key:{key}");
        let () = client(up.port(1 + key % 3)).set(&name, key).expect("it is stored");
        let got: usize = client(up.port(1 + (key + 1) % 3)).get(&name).expect("it is there");
        assert_eq!(got, key);
    }
    let printed = up.process.printed();
    for word in ["shell", "redis-cli", "nc -q 1", &format!("127.0.0.1:{}", up.port(3))] {
        assert!(printed.contains(word), "{word} is missing: {printed}");
    }
    let at = format!("127.0.0.1:{}", up.port(2));
    assert_eq!(output_of(&["shell", "--at", &at, "GET", "key:7"]), "7\n");
    assert_eq!(output_of(&["shell", "--at", &at, "INCRBY", "key:7", "-1"]), "6\n");
}

#[test]
fn run_five_nodes_static_list() {
    let nodes = Nodes::start(5);
    let () = client(nodes.port(1)).set("five", "nodes").expect("it is stored");
    for node in 1..=5 {
        let got: String = client(nodes.port(node)).get("five").expect("it is there");
        assert_eq!(got, "nodes");
    }
    let said = status(nodes.port(4)).expect("it answers");
    assert_eq!((said.me, said.nodes.len(), said.shards.len()), (4, 5, 2));
}

#[test]
fn one_node_alone_is_a_cluster() {
    let nodes = Nodes::start(1);
    let count: i64 = client(nodes.port(1)).incr("count", 1).expect("it counts");
    assert_eq!(count, 1);
}

#[test]
fn status_shows_nodes_and_leaders() {
    let up = Up::start(3);
    let at = format!("127.0.0.1:{}", up.port(1));
    let table = output_of(&["status", "--at", &at]);
    for node in 1..=3 {
        assert!(table.contains(&format!("127.0.0.1:{}", up.port(node))), "{table}");
    }
    assert!(table.contains("meta") && !table.contains("none"), "{table}");

    let json = output_of(&["status", "--at", &at, "--json"]);
    let view: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let shards = view["shards"].as_array().expect("a list");
    assert_eq!(shards.len(), 4);
    let slots: u64 = shards.iter().map(|shard| shard["slots"].as_u64().expect("a number")).sum();
    assert_eq!(slots, 16_384);
    for shard in shards {
        assert!(shard["leader"].is_u64(), "{shard}");
        assert_eq!(shard["replicas"].as_array().map(Vec::len), Some(3));
    }
    assert!(view["nodes"].as_array().expect("a list").iter().all(|node| node["up"] == true));
}

#[test]
fn the_http_port_says_alive_ready_and_what() {
    let nodes = Nodes::start(1);
    let port = status(nodes.port(1)).expect("it answers").nodes[0].http_port;
    assert_ne!(port, 0, "the port was free");
    assert!(http(port, "/healthz").starts_with("HTTP/1.1 200"));
    wait_for("readiness is published", || {
        http(port, "/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    let answer = http(port, "/status.json");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let said: flotilla_server::Status = serde_json::from_str(body).expect("a status");
    assert_eq!(said.me, 1);
}

#[test]
fn a_node_that_waits_is_alive_and_not_ready() {
    let mut nodes = Nodes::blank(2);
    nodes.start_node(1);
    let port = nodes.port(1) + 20_000;
    let answer = wait_for("the HTTP port", || {
        let _open = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let answer = http(port, "/readyz");
        (!answer.contains("starting")).then_some(answer)
    });
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(http(port, "/healthz").starts_with("HTTP/1.1 200"));
    let missing = format!("127.0.0.1:{}", nodes.port(2));
    wait_for("the console says for whom it waits", || {
        nodes.process(1).printed().contains(&format!("waiting for {missing}")).then_some(())
    });
    nodes.start_node(2);
    nodes.wait_until_ready();
}

fn http(port: u16, path: &str) -> String {
    let mut socket = socket(port);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("it takes requests");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_client_that_sends_no_more_gets_its_replies() {
    let nodes = Nodes::start(3);
    let mut socket = socket(nodes.port(2));
    socket.write_all(b"SET half closed\r\nGET half\r\n").expect("it takes commands");
    socket.shutdown(Shutdown::Write).expect("it is open");
    let mut replies = Vec::new();
    socket.read_to_end(&mut replies).expect("the node closes in the end");
    assert_eq!(String::from_utf8_lossy(&replies), "+OK\r\n$6\r\nclosed\r\n");
}

#[test]
fn a_protocol_error_is_told_before_the_end() {
    let nodes = Nodes::start(1);
    let mut socket = socket(nodes.port(1));
    // What follows the error is never read, and must not make the system drop the reply.
    let mut bytes = b"*1\r\n+PING\r\n".to_vec();
    bytes.resize(200_000, b'x');
    let _ = socket.write_all(&bytes);
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).expect("the node says why and closes");
    let reply = String::from_utf8_lossy(&reply);
    assert!(reply.starts_with("-ERR Protocol error: expected '$', got '+'"), "{reply}");
}

#[test]
fn a_client_that_does_not_read_hinders_nobody() {
    let nodes = Nodes::start(1);
    let value = "v".repeat(100_000);
    let () = client(nodes.port(1)).set("big", &value).expect("it is stored");
    let mut greedy = socket(nodes.port(1));
    greedy.set_nonblocking(true).expect("it is a socket");
    let request = b"GET big\r\n".repeat(1_000);
    // Far more than a client may leave unread: in the end the node stops taking its requests.
    let mut rounds = 0;
    while greedy.write(&request).is_ok() && rounds < 100 {
        rounds += 1;
    }
    let got: String = client(nodes.port(1)).get("big").expect("others are served");
    assert_eq!(got.len(), value.len());
}
