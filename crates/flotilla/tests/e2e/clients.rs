//! Stock Redis clients, plain and for clusters.

use std::process::Command;

use redis::cluster::ClusterClient;
use redis::{AsyncCommands as _, Commands as _};

use crate::support::{Nodes, Up, client, url};

#[test]
fn redis_crate_sync() {
    let nodes = Nodes::start(3);
    let mut connection = client(nodes.port(2));
    let () = connection.set("a", "1").expect("it is stored");
    let two: i64 = connection.incr("a", 1).expect("it counts");
    assert_eq!(two, 2);
    let (first, second): (i64, String) = redis::pipe()
        .incr("a", 5)
        .get("a")
        .query(&mut connection)
        .expect("a pipeline is answered in order");
    assert_eq!((first, second.as_str()), (7, "7"));
    let none: Option<String> = connection.get("nothing").expect("nothing is no error");
    assert_eq!(none, None);
}

#[test]
fn redis_crate_async() {
    let nodes = Nodes::start(3);
    let client = redis::Client::open(url(nodes.port(3))).expect("the address is right");
    runtime().block_on(async {
        let mut connection =
            client.get_multiplexed_async_connection().await.expect("the node answers");
        let () = connection.set("b", 41).await.expect("it is stored");
        let count: i64 = connection.incr("b", 1).await.expect("it counts");
        assert_eq!(count, 42);
        let mut pipeline = redis::pipe();
        (0..100).for_each(|key| {
            pipeline.set(format!("p:{key}"), key).ignore();
        });
        let () = pipeline.query_async(&mut connection).await.expect("a long pipeline");
        let last: i64 = connection.get("p:99").await.expect("it is there");
        assert_eq!(last, 99);
    });
}

#[test]
fn redis_crate_cluster() {
    let up = Up::start(3);
    let seeds = vec![url(up.port(1) + 1_000)];
    let cluster = ClusterClient::new(seeds).expect("the address is right");
    let mut connection = cluster.get_connection().expect("the cluster is known");
    for key in 0..50 {
        let () = connection.set(format!("c:{key}"), key).expect("it is stored");
    }
    for key in 0..50 {
        let value: i64 = connection.incr(format!("c:{key}"), 1).expect("it counts");
        assert_eq!(value, key + 1);
    }
    // What only a plain port serves: all keys, whoever leads their shards.
    let keys: usize = redis::cmd("DBSIZE").query(&mut client(up.port(3))).expect("it counts");
    assert_eq!(keys, 50);

    runtime().block_on(async {
        let mut connection = cluster.get_async_connection().await.expect("the cluster is known");
        for key in 0..50 {
            let value: i64 = connection.get(format!("c:{key}")).await.expect("it is there");
            assert_eq!(value, key + 1);
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Plain and cluster clients of redis-py.
const REDIS_PY: &str = r#"
import sys, redis
from redis.cluster import RedisCluster
plain, cluster = int(sys.argv[1]), int(sys.argv[2])
for protocol in (2, 3):
    r = redis.Redis(port=plain, protocol=protocol)
    r.set("py", 1)
    assert r.incr("py") == 2 and r.get("py") == b"2"
    with r.pipeline(transaction=False) as p:
        p.set("x", 1); p.incr("x"); p.get("x")
        assert p.execute() == [True, 2, b"2"]
    rc = RedisCluster(host="127.0.0.1", port=cluster, protocol=protocol)
    for i in range(50):
        rc.set(f"rc:{i}", i)
    assert all(rc.incr(f"rc:{i}") == i + 1 for i in range(50))
    with rc.pipeline() as p:
        for i in range(50):
            p.get(f"rc:{i}")
        assert p.execute() == [str(i + 1).encode() for i in range(50)]
    everywhere = rc.dbsize(target_nodes=RedisCluster.PRIMARIES)
    assert everywhere == r.dbsize() == 52, (everywhere, r.dbsize())
"#;

#[test]
#[ignore = "needs redis-py"]
fn redis_py() {
    let up = Up::start(3);
    let output = Command::new("python3")
        .args(["-c", REDIS_PY, &up.port(1).to_string(), &(up.port(2) + 1_000).to_string()])
        .output()
        .expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
