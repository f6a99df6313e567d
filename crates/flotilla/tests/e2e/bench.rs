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
    assert_eq!(report["settings"]["loop"], "closed");
    for row in rows {
        assert!(row["system"].as_str().is_some_and(|name| name.starts_with("flotilla ")), "{row}");
        assert_eq!(row["targets"].as_array().map(Vec::len), Some(3));
        for none in ["errors", "nulls", "unanswered", "broken_connections"] {
            assert_eq!(row[none], 0, "{row}");
        }
        let operations = number(&row["operations"]);
        let throughput = operations / number(&row["seconds"]);
        assert!(operations > 0.0);
        assert!((throughput / number(&row["operations_per_second"]) - 1.0).abs() < 1e-6);
        let latency = &row["latency_micros"];
        let ascending: Vec<_> =
            ["p50", "p90", "p99", "p999", "p9999", "max"].map(|of| number(&latency[of])).into();
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
fn bench_keeps_to_a_rate_and_counts_from_when_a_request_was_due() {
    let up = Up::start(3);
    let at = format!("127.0.0.1:{}", up.port(1));
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let (csv, svg, hgrm) = (path("runs.csv"), path("latency.svg"), path("hgrm"));
    let load = ["--rate", "400", "--seconds", "1", "--connections", "8", "--rounds", "2"];
    let work = ["--workload", "ycsb-a,ycsb-f", "--value-bytes", "16..128", "--at", &at];
    let files = ["--csv", &csv, "--svg", &svg, "--hgrm", &hgrm];
    let report = bench(&[&load[..], &work, &files].concat());
    assert_eq!(report["settings"]["loop"], "open");
    let rows = report["results"].as_array().expect("a list");
    let workloads: Vec<_> = rows.iter().map(|row| &row["workload"]).collect();
    assert_eq!(workloads, ["ycsb-a", "ycsb-f"]);
    for row in rows {
        assert_eq!((&row["distribution"], &row["errors"]), (&"zipfian".into(), &0.into()), "{row}");
        assert_eq!(row["offered_per_second"], 400.0);
        // As many as are due at random moments of one second, whether or not the machine is busy.
        let asked_for = number(&row["operations"]) + number(&row["unanswered"]);
        assert!((300.0..500.0).contains(&asked_for), "{row}");
        let (whole, service) = (&row["latency_micros"], &row["service_micros"]);
        assert!(number(&whole["max"]) >= number(&service["p50"]), "{row}");
        assert!(number(&row["latency_micros_of"]["read"]["p50"]) > 0.0, "{row}");
    }
    let lines = std::fs::read_to_string(csv).expect("it is written");
    assert_eq!(lines.lines().count(), 1 + 2 * 2, "{lines}");
    let drawing = std::fs::read_to_string(svg).expect("it is written");
    assert!(drawing.starts_with("<svg ") && drawing.contains("ycsb-f"), "{drawing}");
    let names = std::fs::read_dir(hgrm).expect("it is written");
    assert_eq!(names.count(), 2);
}

#[test]
fn bench_compares_two_clusters_turn_by_turn() {
    let (ours, theirs) = (Nodes::start(1), Nodes::start(1));
    let at = [&ours, &theirs].map(|nodes| format!("127.0.0.1:{}", nodes.port(1)));
    let load = ["--connections", "2", "--workload", "get", "--seconds", "0.2", "--gate"];
    let place = tempfile::tempdir().expect("a directory for the test");
    let place = place.path().to_str().expect("its name is text");
    let more = ["--at", &at[0], "--vs", &at[1], "--rounds", "6", "--redis-data", place];
    let report = bench(&[&load[..], &more].concat());
    let rows = report["results"].as_array().expect("a list");
    assert_eq!(rows.len(), 2);
    let names = [0, 1].map(|row| rows[row]["system"].as_str().expect("text"));
    assert!(names[0].ends_with(&at[0]) && names[1].ends_with(&at[1]), "{names:?}");
    let ratios = &rows[0]["ratios"];
    assert_eq!(ratios["to"], names[1]);
    let ratio = &ratios["operations_per_second"];
    assert_eq!(ratio["pairs"], 6);
    let ends: Vec<_> = (0..2).map(|end| number(&ratio["interval"][end])).collect();
    assert!(ends[0] <= number(&ratio["median"]) && number(&ratio["median"]) <= ends[1], "{ratio}");
    assert!(rows[1]["ratios"].is_null() && rows[0]["ratio_to_redis"].is_null());
}

#[test]
fn bench_says_what_it_does_not_understand() {
    for (args, part) in [
        (&["--rate", "0"][..], "operations per second, above 0"),
        (&["--value-bytes", "64..16"], "the first of two sizes is the smaller one"),
        (&["--vs", "127.0.0.1:1", "--vs-redis"], "cannot be used with"),
        (&["--workload", "ycsb-e"], "possible values"),
    ] {
        let output = flotilla().arg("bench").args(args).output().expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(part), "{args:?}: {errors}");
    }
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
