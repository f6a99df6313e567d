//! Whether servers sync what they acknowledge, as their system calls show.
//!
//! One connection sets a key again and again, each time after the reply to the time before: nothing
//! can be synced together. So a server that syncs before it acknowledges syncs at least once for
//! each reply; of three that acknowledge by majority, two do. A sync is a call of `fdatasync` or
//! `fsync`, or a write to a file that was opened with `O_DSYNC`; what goes through `io_uring` is
//! not seen, and fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::measure::{Run, load_one};
use super::peers::Peer;
use super::points::{Clients, Setup};
use crate::cluster::json_of;

/// Replies that are looked at.
const REPLIES: u32 = 100;
/// How long `strace` may take to follow all threads of a server.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The bit of `O_DSYNC` among a descriptor's flags.
const DSYNC: u32 = 0o10_000;

/// What was seen of one system.
#[derive(Debug)]
pub(super) struct Synced {
    /// As in tables.
    pub(super) system: String,
    pub(super) replies: u32,
    /// Of each of its servers, the most first.
    pub(super) syncs: Vec<u32>,
}

impl Synced {
    /// Of a majority of the servers each has synced each reply.
    fn check(&self) -> anyhow::Result<()> {
        let majority = self.syncs.len() / 2;
        let least = self.syncs.get(majority).copied().unwrap_or_default();
        ensure!(
            least >= self.replies,
            "{} does not sync before it acknowledges: {} replies, its servers synced {:?} times",
            self.system,
            self.replies,
            self.syncs
        );
        Ok(())
    }
}

/// Looks at all systems that are to be measured; fails if one does not sync.
pub(super) fn check(run: &mut Run<'_>) -> anyhow::Result<Vec<Synced>> {
    eprintln!("Does each server sync before it acknowledges?");
    let directory = run.next_directory()?;
    let setup = Setup { shards: 1, snapshots: false, follower_dead: false };
    let ours = run.start_ours(setup, &directory)?;
    let leader = ours.addresses(Clients::Leader)?;
    let mut all = vec![look_at("Flotilla, three nodes", &leader, &ours.pids(), &directory)?];
    drop(ours);
    for &kind in &run.options.peers {
        let peer = Peer::start(kind, &directory, false)?;
        all.push(look_at(kind.title(), &peer.addresses(), &peer.pids(), &directory)?);
    }
    for synced in &all {
        eprintln!("- {}: {} replies, syncs {:?}", synced.system, synced.replies, synced.syncs);
        synced.check()?;
    }
    fs::remove_dir_all(&directory).context("the servers' data")?;
    Ok(all)
}

fn look_at(
    system: &str,
    addresses: &str,
    pids: &[u32],
    directory: &Path,
) -> anyhow::Result<Synced> {
    let traces: Vec<Trace> =
        pids.iter().map(|&pid| Trace::attach(pid, directory)).collect::<anyhow::Result<_>>()?;
    let report = json_of(load_one(addresses, REPLIES)).context("flotilla bench")?;
    let replies = report["results"][0]["operations"].as_u64().unwrap_or_default();
    let syncs = traces.into_iter().map(Trace::syncs).collect::<anyhow::Result<Vec<_>>>()?;
    let mut synced = Synced { system: system.to_owned(), replies: replies as u32, syncs };
    ensure!(synced.replies >= REPLIES, "{system} has not answered: {}", report["caveats"]);
    synced.syncs.sort_unstable_by(|a, b| b.cmp(a));
    Ok(synced)
}

/// A server whose system calls are followed.
struct Trace {
    strace: Child,
    pid: u32,
    calls: std::path::PathBuf,
}

impl Trace {
    fn attach(pid: u32, directory: &Path) -> anyhow::Result<Self> {
        let calls = directory.join(format!("calls-{pid}"));
        let strace = Command::new("strace")
            .args([
                "-f",
                "-q",
                "-e",
                "trace=fsync,fdatasync,write,pwrite64,writev,pwritev,pwritev2",
            ])
            .args(["-e", "signal=none", "-s", "0", "-p", &pid.to_string(), "-o"])
            .arg(&calls)
            .stderr(Stdio::null())
            .spawn()
            .context("strace")?;
        let trace = Self { strace, pid, calls };
        let until = Instant::now() + ATTACH_TIMEOUT;
        while !is_traced(pid) {
            ensure!(Instant::now() < until, "strace does not follow process {pid}");
            thread::sleep(LOOK_EVERY);
        }
        Ok(trace)
    }

    /// Ends it, and counts.
    fn syncs(mut self) -> anyhow::Result<u32> {
        let durable = durable_files(self.pid)?;
        let strace = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw);
        kill_process(strace.context("a process id")?, Signal::INT).context("strace")?;
        self.strace.wait().context("strace")?;
        let calls = fs::read_to_string(&self.calls).context("what strace has seen")?;
        Ok(calls.lines().filter(|line| is_sync(line, &durable)).count() as u32)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Whether all threads of a process are followed.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0")
    })
}

/// The descriptors of a process on which a write returns when it lasts.
fn durable_files(pid: u32) -> anyhow::Result<BTreeSet<u32>> {
    let mut durable = BTreeSet::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("a server's files")?.flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        let number = file.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if flags.is_some_and(|flags| flags & DSYNC != 0) {
            durable.extend(number);
        }
    }
    Ok(durable)
}

/// `1234 fdatasync(7) = 0`, or `1234 pwrite64(9, ""..., 4096, 0) = 4096` where 9 is durable. A call
/// that was cut in two by another thread's counts where it begins.
fn is_sync(line: &str, durable: &BTreeSet<u32>) -> bool {
    let call = line.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start();
    let Some((name, arguments)) = call.split_once('(') else { return false };
    let digits = arguments.split(|letter: char| !letter.is_ascii_digit()).next();
    let file = digits.and_then(|digits| digits.parse().ok());
    let has_failed = line.contains(") = -1");
    let is_durable = matches!(name, "fsync" | "fdatasync")
        || (name.contains("write") && file.is_some_and(|file| durable.contains(&file)));
    is_durable && !has_failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_told_from_other_calls() {
        let durable = BTreeSet::from([9]);
        for (line, expected) in [
            ("1234 fdatasync(7) = 0", true),
            ("1234  fdatasync(7 <unfinished ...>", true),
            ("1234 <... fdatasync resumed>) = 0", false),
            ("1234 fdatasync(7) = -1 EIO (Input/output error)", false),
            ("1234 pwrite64(9, \"\"..., 4096, 8192) = 4096", true),
            ("1234 pwrite64(19, \"\"..., 4096, 8192) = 4096", false),
            ("1234 write(7, \"\"..., 12) = 12", false),
            ("1234 +++ exited with 0 +++", false),
        ] {
            assert_eq!(is_sync(line, &durable), expected, "{line}");
        }
    }

    #[test]
    fn a_majority_must_sync_each_reply() {
        let synced = |syncs: &[u32]| {
            let system = "a".to_owned();
            Synced { system, replies: 100, syncs: syncs.to_vec() }.check()
        };
        assert!(synced(&[100]).is_ok() && synced(&[120, 100, 0]).is_ok());
        assert!(synced(&[99]).is_err() && synced(&[120, 99, 3]).is_err() && synced(&[]).is_err());
    }
}
