//! The processes of a local cluster.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt as _;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::arguments::Sizes;
use crate::cluster_file::{CLUSTER_FILE, ClusterFile};

/// How long nodes may take to stop cleanly.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often processes are looked at while they stop.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The nodes of a local cluster. Dropped, they are killed.
#[derive(Debug)]
pub(crate) struct Children {
    running: Vec<(usize, Child)>,
}

impl Children {
    /// Starts all nodes. To be called on the main thread: nodes end when the thread that started
    /// them does.
    pub(crate) fn start(
        directory: &Path,
        file: &ClusterFile,
        sizes: Sizes,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("can't find this program")?;
        let mut children = Self { running: Vec::new() };
        for number in 1..=file.numbers.nodes {
            let mut command = Command::new(&program);
            command.arg("node-of-up");
            command.arg("--cluster").arg(directory.join(CLUSTER_FILE));
            command.args(["--node", &number.to_string()]);
            command.arg("--data").arg(directory.join(format!("node-{number}")));
            command.args(["--parent", &std::process::id().to_string()]);
            let Sizes { segment_bytes, snapshot_log_bytes } = sizes;
            for (name, bytes) in
                [("--segment-bytes", segment_bytes), ("--snapshot-log-bytes", snapshot_log_bytes)]
            {
                if let Some(bytes) = bytes {
                    command.args([name, &bytes.to_string()]);
                }
            }
            // A group of its own keeps Ctrl-C for this process, which then stops the nodes.
            command.process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child =
                command.spawn().with_context(|| format!("can't start node {number}"))?;
            if let Some(lines) = child.stderr.take() {
                prefix_lines(number, lines);
            }
            children.running.push((number, child));
        }
        Ok(children)
    }

    /// Nodes that have ended by themselves since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<(usize, ExitStatus)> {
        let mut ended = Vec::new();
        self.running.retain_mut(|(number, child)| match child.try_wait() {
            Ok(Some(status)) => {
                ended.push((*number, status));
                false
            }
            _ => true,
        });
        ended
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Asks all nodes to stop, and waits until they have; those that take too long are killed.
    pub(crate) fn stop(mut self) {
        for (_, child) in &self.running {
            let _ = i32::try_from(child.id())
                .ok()
                .and_then(Pid::from_raw)
                .map(|pid| kill_process(pid, Signal::TERM));
        }
        let until = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < until && !self.is_empty() {
            self.take_ended();
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Passes the lines of a node on, with its number in front.
fn prefix_lines(number: usize, lines: ChildStderr) {
    thread::spawn(move || {
        for line in BufReader::new(lines).split(b'\n').map_while(Result::ok) {
            let mut text = format!("node {number} | ").into_bytes();
            text.extend_from_slice(&line);
            text.push(b'\n');
            let _ = std::io::stderr().lock().write_all(&text);
        }
    });
}
