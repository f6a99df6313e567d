//! What is refused before anything is started, and in which words.

use std::process::Output;

use crate::support::{PortRange, flotilla};

/// Runs the binary, which must end by itself with exit code 1, and gives its error text.
fn error_of(args: &[&str]) -> String {
    let Output { status, stderr, .. } = flotilla().args(args).output().expect("it starts");
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{args:?}: {text}");
    assert!(text.lines().any(|line| line.starts_with("error: ")), "{args:?}: {text}");
    text
}

/// `flotilla run` with a directory that must stay unborn.
fn error_of_run(args: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let data = directory.path().join("data");
    let data = data.to_str().expect("a plain path");
    let text = error_of(&[&["run"], args, &["--data", data]].concat());
    assert!(!std::path::Path::new(data).exists(), "a refused start leaves nothing behind");
    text
}

const ONE: &str = "[['127.0.0.1:5001', '127.0.0.1:5002']]";

#[test]
fn an_index_without_a_list_names_the_right_one() {
    let text = error_of_run(&["127.0.0.1", "5002", ONE, "1"]);
    assert!(text.contains("index 1: there is one list, 0; 127.0.0.1:5002 is in list 0"), "{text}");
}

#[test]
fn a_node_must_be_in_one_list() {
    let text = error_of_run(&["127.0.0.1", "5009", ONE]);
    assert!(text.contains("127.0.0.1:5009 is in none of the lists"), "{text}");
    let two = "[['127.0.0.1:5001'], [\"127.0.0.1:5001\"]]";
    let text = error_of_run(&["127.0.0.1", "5001", two]);
    assert!(text.contains("127.0.0.1:5001 is in list 0 and in list 1"), "{text}");
}

#[test]
fn malformed_lists_are_refused_with_the_place() {
    for (lists, part) in [
        ("[]", "empty"),
        ("[[]]", "empty"),
        ("[['127.0.0.1']]", "127.0.0.1"),
        ("[['127.0.0.1:5001'", "character"),
        ("[['localhost:5001']]", "localhost"),
        ("nonsense", "character 1"),
    ] {
        let text = error_of_run(&["127.0.0.1", "5001", lists]);
        assert!(text.contains(part), "{lists}: {text}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let ports = PortRange::claim(3);
    let port = ports.first();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it was free");
    let lists = format!("[['127.0.0.1:{port}']]");
    let text = error_of_run(&["127.0.0.1", &port.to_string(), &lists]);
    assert!(text.contains(&format!("port {port} on 127.0.0.1 is in use")), "{text}");
    let free = port + 1;
    let lists = format!("[['127.0.0.1:{free}']]");
    let text = error_of_run(&[
        "127.0.0.1",
        &free.to_string(),
        &lists,
        "--cluster-port",
        &port.to_string(),
    ]);
    assert!(text.contains(&format!("port {port} on 127.0.0.1 is in use")), "{text}");
}

#[test]
fn up_refuses_numbers_that_make_no_cluster() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let data = directory.path().join("data");
    let data = data.to_str().expect("a plain path");
    for (flags, part) in [
        (&["--nodes", "0"][..], "at least one node"),
        (&["--shards", "0"], "at least one shard"),
        (&["--nodes", "2", "--replicas", "3"], "3 replicas on 2 nodes"),
        (&["--port", "65535"], "65535"),
    ] {
        let text = error_of(&[&["up", "--data", data], flags].concat());
        assert!(text.contains(part), "{flags:?}: {text}");
        assert!(!std::path::Path::new(data).exists(), "a refused start leaves nothing behind");
    }
}

#[test]
fn up_names_a_port_in_use_and_creates_nothing() {
    let ports = PortRange::claim(3);
    let (first, last) = (ports.first(), ports.first() + 2);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", last)).expect("it was free");
    let directory = tempfile::tempdir().expect("a directory for the test");
    let data = directory.path().join("data");
    let text = error_of(&[
        "up",
        "--port",
        &first.to_string(),
        "--data",
        data.to_str().expect("a plain path"),
    ]);
    assert!(text.contains(&format!("port {last} on 127.0.0.1 is in use")), "{text}");
    assert!(!data.exists(), "a refused start leaves nothing behind");
}

#[test]
fn nobody_to_talk_to_is_said_plainly() {
    let ports = PortRange::claim(1);
    let at = format!("127.0.0.1:{}", ports.first());
    for verb in ["shell", "status"] {
        let text = error_of(
            &[&[verb, "--at", &at][..], if verb == "shell" { &["PING"] } else { &[] }].concat(),
        );
        assert!(text.contains(&format!("no node answers at {at}")), "{text}");
    }
}

#[test]
fn the_version_is_told() {
    let output = flotilla().arg("--version").output().expect("it starts");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("flotilla "));
}
