//! A process of the binary under test. Its output goes to a file, which is shown if the test
//! fails.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

/// The binary under test.
pub(crate) fn flotilla() -> Command {
    Command::new(env!("CARGO_BIN_EXE_flotilla"))
}

/// The binary under test, in a process that can't have more than so many descriptors.
pub(crate) fn flotilla_limited(descriptors: u64) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_flotilla")]);
    command
}

/// Runs a verb of the binary that must succeed; gives what it prints.
pub(crate) fn output_of(args: &[&str]) -> String {
    let output = flotilla().args(args).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// A running process; killed (as by kill -9) when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a file in the test's directory");
        let errors = output.try_clone().expect("a handle can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("it has an id");
        kill_process(pid, Signal::INT).expect("it is ours");
        self.wait()
    }

    /// Ends it as by kill -9.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the process ends", || self.child.try_wait().expect("it is ours"))
    }

    /// What it has printed.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The processes it has started.
    pub(crate) fn children(&self) -> Vec<u32> {
        let id = self.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.expect("this kernel lists children");
        children.split_whitespace().map(|child| child.parse().expect("an id")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = format!("--- {}\n{}", self.log.display(), self.printed());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), log.as_bytes());
        }
    }
}

/// Whether a process runs. One that has ended and whose end nobody has taken note of does not.
pub(crate) fn is_running(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().and_then(|fields| fields.chars().next());
        state.is_some_and(|state| state != 'Z')
    })
}
