//! What `flotilla bench` says of a cluster and of a server that keeps nothing.

use serde_json::Value;

use crate::support::{Nodes, Up, flotilla};

/// Runs `bench` with few keys, quickly; gives its JSON.
fn bench(args: &[&str]) -> Value {
    let mut command = flotilla();
    command.args(["bench", "--json", "--keys", "500", "--warmup", "0.1"]).args(args);
    let output = command.output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn bench_measures_a_cluster_and_finds_its_processes() {
    let up = Up::start(3);
    let at: Vec<_> = (1..=3).map(|node| format!("127.0.0.1:{}", up.port(node))).collect();
    let report = bench(&["--at", &at.join(","), "--connections", "6", "--seconds", "0.5"]);
    let rows = report["results"].as_array().expect("a list");
    let workloads: Vec<_> = rows.iter().map(|row| &row["workload"]).collect();
    assert_eq!(workloads, ["set", "get"]);
    for row in rows {
        assert!(row["system"].as_str().is_some_and(|name| name.starts_with("flotilla ")), "{row}");
        assert_eq!(row["targets"].as_array().map(Vec::len), Some(3));
        for none in ["errors", "nulls", "broken_connections"] {
            assert_eq!(row[none], 0, "{row}");
        }
        let operations = number(&row["operations"]);
        let throughput = operations / number(&row["seconds"]);
        assert!(operations > 0.0);
        assert!((throughput / number(&row["operations_per_second"]) - 1.0).abs() < 1e-6);
        let latency = &row["latency_micros"];
        let ascending: Vec<_> = ["p50", "p99", "p999", "max"].map(|of| number(&latency[of])).into();
        assert!(ascending[0] > 0.0 && ascending.is_sorted(), "{latency}");
        let cpu = &row["cpu_micros_per_operation"];
        for of in ["servers", "generator", "machine_without_generator"] {
            assert!(number(&cpu[of]) > 0.0, "{cpu}");
        }
    }
    // Tests may run in memory, and do run in debug builds: then the report says so.
    let has_caveats = report["caveats"].as_array().is_some_and(|caveats| !caveats.is_empty());
    assert_eq!(report["quotable"], !has_caveats);
}

#[test]
fn bench_pipelines_a_share_of_reads_for_a_number_of_requests() {
    let nodes = Nodes::start(1);
    let at = format!("127.0.0.1:{}", nodes.port(1));
    let args = ["--pipeline", "8", "--connections", "2", "--read-share", "0.9"];
    let report = bench(&[&["--at", &at, "--requests", "2000"], &args[..]].concat());
    let row = &report["results"][0];
    assert_eq!((&row["workload"], number(&row["read_share"])), (&"mixed".into(), 0.9));
    assert!((2_000.0..2_016.0).contains(&number(&row["operations"])), "{row}");
    assert_eq!(row["errors"], 0, "{row}");
}

#[test]
#[ignore = "needs redis-server"]
fn bench_compares_with_a_redis_that_syncs_every_write() {
    let nodes = Nodes::start(1);
    let at = format!("127.0.0.1:{}", nodes.port(1));
    let directory = tempfile::tempdir().expect("a directory for the test");
    let place = directory.path().to_str().expect("its name is text");
    let args = ["--at", &at, "--vs-redis", "--redis-data", place, "--seconds", "0.2"];
    let report = bench(&[&args, &["--rounds", "2"][..]].concat());
    let rows = report["results"].as_array().expect("a list");
    let systems: Vec<_> = rows.iter().map(|row| row["system"].as_str().expect("text")).collect();
    assert_eq!(systems.len(), 4);
    assert!(systems[0].starts_with("flotilla ") && systems[1].starts_with("redis "), "{systems:?}");
    assert!(number(&rows[0]["ratio_to_redis"]) > 0.0 && rows[1]["ratio_to_redis"].is_null());
    assert_eq!(rows[1]["rounds"].as_array().map(Vec::len), Some(2));
    assert!(number(&rows[1]["cpu_micros_per_operation"]["servers"]) > 0.0);
    let left = std::fs::read_dir(directory.path()).expect("it is there").count();
    assert_eq!(left, 0, "the server's directory is removed");
}

#[test]
fn bench_says_where_nobody_answers() {
    let output = flotilla().args(["bench", "--at", "127.0.0.1:1"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("no node answers at 127.0.0.1:1"), "{errors}");
}
