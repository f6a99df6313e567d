//! Every way to an end, and starting again.

use redis::Commands as _;

use crate::support::{Nodes, Up, client, flotilla, is_running, wait_for};

#[test]
fn ctrl_c_stops_up_and_its_nodes_and_the_data_is_there_again() {
    let mut up = Up::start(3);
    let () = client(up.port(1)).set("kept", "yes").expect("it is stored");
    let children = up.process.children();
    assert_eq!(children.len(), 3);
    assert!(up.process.interrupt().success());
    assert!(!children.into_iter().any(is_running), "up waits for its nodes");
    up.start_again();
    let kept: String = client(up.port(2)).get("kept").expect("it is there");
    assert_eq!(kept, "yes");

    let data = up.data();
    let data = data.to_str().expect("a plain path");
    let second = flotilla().args(["up", "--data", data]).output().expect("it starts");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("another `flotilla up`"), "{text}");
    let other = flotilla().args(["up", "--data", data, "--nodes", "5"]).output();
    let text = String::from_utf8_lossy(&other.expect("it starts").stderr).into_owned();
    assert!(text.contains("holds a cluster of other numbers: --nodes 3"), "{text}");
}

#[test]
fn up_killed_ends_its_nodes() {
    let mut up = Up::start(3);
    let children = up.process.children();
    assert_eq!(children.len(), 3);
    up.process.kill();
    wait_for("the nodes end", || (!children.iter().any(|&child| is_running(child))).then_some(()));
}

#[test]
fn up_goes_on_without_a_node_that_ends() {
    let up = Up::start(3);
    let () = client(up.port(1)).set("a", 1).expect("it is stored");
    let victim = up.process.children()[2];
    let pid = i32::try_from(victim).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("an id"), rustix::process::Signal::KILL)
        .expect("it is there");
    wait_for("up reports it", || {
        up.process.printed().contains("has ended by itself").then_some(())
    });
    let two: i64 = client(up.port(1)).incr("a", 1).expect("two of three are enough");
    assert_eq!(two, 2);
}

#[test]
fn a_data_directory_is_one_process_and_one_node() {
    let mut nodes = Nodes::start(1);
    let ports = crate::support::PortRange::claim(1);
    let other = ports.first();
    let start_other = |data: &std::path::Path| {
        let lists = format!("[['127.0.0.1:{other}']]");
        let mut command = flotilla();
        command.args(["run", "127.0.0.1", &other.to_string(), &lists]).arg("--data").arg(data);
        command
    };
    let output = start_other(&nodes.data(1)).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("is in use by another process"), "{text}");
    assert_eq!(output.status.code(), Some(1));

    assert!(nodes.process(1).interrupt().success());
    let data = nodes.data(1);
    let mut refused =
        crate::support::Process::start(start_other(&data), &data.join("../other.log"));
    assert_eq!(refused.wait().code(), Some(1), "another node's data: {}", refused.printed());
    assert!(refused.printed().contains("error: "), "{}", refused.printed());
}
