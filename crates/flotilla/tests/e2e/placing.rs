//! `plan` and `where` against a running cluster and without one.

use flotilla_shard::slot_of;
use redis::Commands as _;
use serde_json::Value;

use crate::support::{Nodes, Up, client, flotilla, output_of, status, wait_for};

fn json_of(args: &[&str]) -> Value {
    serde_json::from_str(&output_of(args)).expect("JSON")
}

#[test]
fn plan_says_who_owns_what_and_what_a_change_would_move() {
    let up = Up::start(3);
    let at = format!("127.0.0.1:{}", up.port(2));
    let running = json_of(&["plan", "--at", &at, "--add", "1", "--json"]);
    let fresh = json_of(&["plan", "--shards", "3", "--add", "1", "--json"]);
    // A cluster is founded with the very map that is planned without one.
    let ranges = |answer: &Value| -> Vec<Value> {
        let shards = answer["now"]["shards"].as_array().expect("a list");
        shards.iter().map(|shard| shard["ranges"].clone()).collect()
    };
    assert_eq!(ranges(&running), ranges(&fresh));
    assert!(running["now"]["max_over_mean"].as_f64().expect("a number") <= 1.01);
    assert_eq!(running["now"]["shards"][0]["nodes"], serde_json::json!([1, 2, 3]));
    let change = &running["change"];
    assert_eq!(change["moves"], fresh["change"]["moves"]);
    assert_eq!((change["moved"].as_u64(), change["least"].as_u64()), (Some(4_096), Some(4_096)));
    assert_eq!(change["add"], serde_json::json!([4]));

    let text = output_of(&["plan", "--at", &at, "--remove", "2"]);
    assert!(text.contains("Without shard 2: 2 shards"), "{text}");
    assert!(text.contains("5462 slots would move, the least that is possible"), "{text}");
}

#[test]
fn where_says_the_slot_the_shard_and_the_nodes() {
    let up = Up::start(3);
    let at = format!("127.0.0.1:{}", up.port(3));
    let key = "{user:1}.cart";
    let () = client(up.port(1)).set(key, "apples").expect("it is stored");
    let places = json_of(&["where", key, "user:1", "foo", "--at", &at, "--json"]);
    assert_eq!(places[0]["slot"].as_u64(), Some(u64::from(slot_of(b"user:1").0)));
    assert_eq!(places[0]["shard"], places[1]["shard"]);
    assert_eq!(places[2]["slot"].as_u64(), Some(12_182));

    // The leader it names has the key, and says itself that it leads.
    let shard = places[0]["shard"].as_u64().expect("a number");
    let leader = places[0]["leader"]["node"].as_u64().expect("there is one") as usize;
    let port = up.port(leader);
    assert_eq!(places[0]["leader"]["address"], format!("127.0.0.1:{port}"));
    let said = status(port).expect("it answers");
    let replica = said.replicas.iter().find(|replica| u64::from(replica.shard) == shard);
    assert_eq!(replica.map(|replica| replica.role.as_str()), Some("leader"));
    let slot: u64 =
        redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut client(port)).expect("it answers");
    assert_eq!(places[0]["slot"].as_u64(), Some(slot));
    assert_eq!(places[0]["replicas"].as_array().map(Vec::len), Some(3));

    let text = output_of(&["where", "foo", "--at", &at]);
    assert!(text.contains("\"foo\"") && text.contains("12182"), "{text}");
}

#[test]
fn what_can_not_be_planned_is_an_error_that_says_why() {
    let mut nodes = Nodes::blank(2);
    nodes.start_node(1);
    let at = format!("127.0.0.1:{}", nodes.port(1));
    wait_for("the node answers", || status(nodes.port(1)));
    let cases: [(&[&str], &str); 5] = [
        (&["plan", "--at", &at], "is not founded yet"),
        (&["where", "a", "--at", &at], "is not founded yet"),
        (&["plan", "--shards", "3", "--remove", "4"], "there is no shard 4 to remove"),
        (&["plan", "--shards", "1", "--remove", "1"], "is the last one"),
        (&["plan", "--shards", "3", "--add", "1", "--remove", "1"], "cannot be used with"),
    ];
    for (args, expected) in cases {
        let output = flotilla().args(args).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{args:?}: {text}");
    }
}
