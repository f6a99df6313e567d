//! No reply before a majority has it on disk, as the system calls show.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use redis::Commands as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Nodes, client, wait_for};

/// How many writes are followed.
const WRITES: usize = 40;

/// A system call of interest.
#[derive(Debug)]
struct Call {
    name: String,
    /// The first argument, with the path or the connection that the descriptor stands for.
    target: String,
    /// The whole line: contents are in it.
    line: String,
    /// When it began and ended, microseconds.
    began: u64,
    ended: u64,
}

/// Follows a node's system calls until stopped.
struct Trace {
    strace: Child,
    prefix: String,
}

impl Trace {
    fn attach(process: u32, directory: &Path) -> Self {
        let prefix = directory.join(format!("trace-{process}")).display().to_string();
        let strace = Command::new("strace")
            .args(["-ff", "-ttt", "-T", "-y", "-s", "20000", "-o", &prefix])
            .args(["-e", "trace=recvfrom,sendto,writev,pwrite64,fdatasync"])
            .args(["-p", &process.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is there");
        wait_for("strace follows every thread", || {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
            let traced = |task: std::fs::DirEntry| {
                std::fs::read_to_string(task.path().join("status"))
                    .is_ok_and(|status| !status.contains("TracerPid:\t0"))
            };
            tasks.flatten().all(traced).then_some(())
        });
        Self { strace, prefix }
    }

    /// Ends it and gives what was seen, in the order of the beginnings.
    fn stop(mut self) -> Vec<Call> {
        let pid = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw).expect("an id");
        kill_process(pid, Signal::INT).expect("it is ours");
        self.strace.wait().expect("it is ours");
        let path = Path::new(&self.prefix);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let files = std::fs::read_dir(path.parent().expect("it has one")).expect("readable");
        let mut calls: Vec<Call> = files
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().starts_with(name))
            .map(|file| std::fs::read_to_string(file.path()).expect("text"))
            .flat_map(|text| text.lines().filter_map(parse).collect::<Vec<_>>())
            .collect();
        calls.sort_by_key(|call| call.began);
        calls
    }
}

/// `1700000000.123456 pwrite64(9</path>, "…", 4096, 0) = 4096 <0.000031>`
fn parse(line: &str) -> Option<Call> {
    let (time, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.split_once('(')?;
    let target = arguments.split([',', ')']).next()?;
    let took = rest.rsplit_once('<')?.1.strip_suffix('>')?;
    let began = (time.parse::<f64>().ok()? * 1e6) as u64;
    let ended = began + (took.parse::<f64>().ok()? * 1e6) as u64;
    let failed = rest.contains(") = -1");
    (!failed).then(|| Call {
        name: name.to_owned(),
        target: target.to_owned(),
        line: line.to_owned(),
        began,
        ended,
    })
}

/// When the frame with `key` was durable, if it was.
fn durable(calls: &[Call], key: &str, direct: bool) -> Option<u64> {
    let write = calls.iter().find(|call| call.name == "pwrite64" && call.line.contains(key))?;
    if direct {
        return Some(write.ended);
    }
    let sync = calls.iter().find(|call| {
        call.name == "fdatasync" && call.target == write.target && call.began >= write.ended
    })?;
    Some(sync.ended)
}

#[test]
#[ignore = "needs strace"]
fn synced_on_a_majority_before_each_reply() {
    let mut nodes = Nodes::start(3);
    let direct = nodes.process(1).printed().contains("O_DIRECT|O_DSYNC");
    let leader = nodes.leader(1);
    for origin in [leader, leader % 3 + 1] {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let mut connection = client(nodes.port(origin));
        let traces: Vec<_> =
            (1..=3).map(|node| Trace::attach(nodes.process(node).id(), directory.path())).collect();
        let keys: Vec<_> =
            (0..WRITES).map(|write| format!("traced-{origin}-{write}-end")).collect();
        for key in &keys {
            let () = connection.set(key, "x").expect("it is stored");
        }
        let calls: Vec<_> = traces.into_iter().map(Trace::stop).collect();
        check(&calls, &keys, origin, direct);
    }
}

fn check(calls: &[Vec<Call>], keys: &[String], origin: usize, direct: bool) {
    let mut replies = BTreeSet::new();
    for key in keys {
        let asked = calls[origin - 1]
            .iter()
            .find(|call| call.name == "recvfrom" && call.line.contains(key))
            .expect("the request is in the trace");
        let replied = calls[origin - 1]
            .iter()
            .find(|call| {
                call.began >= asked.began
                    && call.target == asked.target
                    && call.line.contains("+OK\\r\\n")
            })
            .expect("the reply is in the trace");
        assert!(replies.insert(replied.began), "each request has a reply of its own");
        let synced = calls
            .iter()
            .filter_map(|calls| durable(calls, key, direct))
            .filter(|&durable| asked.began <= durable && durable <= replied.began)
            .count();
        assert!(synced >= 2, "{key}: durable on {synced} nodes before the reply");
    }
}
