//! Faults of a real disk: errors and kills that strace injects, and a file system that is full.
//!
//! The test runs itself under strace: the copy writes batches and notes each that it was told is
//! durable; what it noted must be there, whatever became of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use flotilla_storage::{Disk as _, Log, Options};
use mio::Poll;

use super::{SHARD, batch, recover, recover_with, wait_for, waker};
use crate::disk::FileDisk;
use crate::frames::Frames;
use crate::probe::{Probe, WriteMode};

/// Where the copy writes; it is the copy if this is set.
const DIRECTORY: &str = "FLOTILLA_TEST_INJECTED";
const BATCHES: u64 = 60;
/// One segment is filled and another begun, which is ready then: all later faults meet frames.
const SEGMENT_BYTES: u64 = 160 << 10;
/// The copy's exit code after an error of the disk.
const DISK_FAILED: i32 = 3;

/// The copy: writes batches until the disk fails, and ends then at once.
fn write_batches(directory: &Path) -> i32 {
    let mode = WriteMode::WriteThenSync;
    let (mut log, _) = recover_with(directory, mode, 7, SEGMENT_BYTES);
    let mut disk = FileDisk::new(directory, mode);
    // Some segments are ready: it is mostly frames that meet the fault.
    for mut chore in log.housekeeping() {
        chore.run(&mut disk).expect("there is room");
        log.chore_done(&chore);
    }
    let poll = Poll::new().expect("readiness is known here");
    let micros = if directory.join("by-thread").exists() { 1_000 } else { 0 };
    let mut frames = Frames::new(log, disk, micros, waker(&poll)).expect("a thread");
    for sequence in 1..=BATCHES {
        let mut outcome = frames.append(&batch(sequence));
        while outcome.is_ok() && frames.next_written().is_none() {
            outcome = frames.collect();
            std::thread::yield_now();
        }
        if outcome.is_err() {
            return DISK_FAILED;
        }
        // Noted by other system calls than those that meet faults.
        let noted = std::fs::write(directory.join("acknowledged"), sequence.to_string());
        noted.expect("there is room");
    }
    0
}

/// Runs the test `name` again under strace as the copy.
fn copy_under_strace(name: &str, directory: &Path, options: &[&str]) -> Option<i32> {
    let this = std::env::current_exe().expect("a test has a binary");
    let status = Command::new("strace")
        .args(["-f", "-qq"])
        .args(options)
        .arg(this)
        .args([name, "--exact", "--include-ignored", "--test-threads=1", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("strace is there").code()
}

/// Ends the process if it is a copy, when it has done what a copy does.
fn be_the_copy() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        std::process::exit(write_batches(Path::new(&directory)));
    }
}

/// One fault; gives back how many batches were acknowledged before it.
fn suffer(name: &str, by_thread: bool, call: &str, fault: &str) -> u64 {
    let directory = tempfile::tempdir().expect("a directory for the test");
    if by_thread {
        std::fs::write(directory.path().join("by-thread"), b"").expect("there is room");
    }
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let code = copy_under_strace(name, directory.path(), &options);
    let expected = (!fault.contains("KILL")).then_some(DISK_FAILED);
    assert_eq!(code, expected, "{call}:{fault}");
    let noted = std::fs::read_to_string(directory.path().join("acknowledged"));
    let acknowledged = noted.ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (_, lane) = recover(directory.path(), WriteMode::WriteThenSync, 8);
    lane.check_whole().expect("a crash damages nothing");
    let found = lane.shards.get(&SHARD).map_or(0, |found| found.entries.len() as u64);
    let possible = acknowledged..=acknowledged + 1;
    assert!(possible.contains(&found), "{call}:{fault}: {found} after {acknowledged}");
    acknowledged
}

#[test]
#[ignore = "needs strace"]
fn an_error_or_a_kill_at_a_write_or_sync_is_final_and_loses_nothing() {
    be_the_copy();
    let name = "tests::injected::an_error_or_a_kill_at_a_write_or_sync_is_final_and_loses_nothing";
    let mut acknowledged = 0;
    for by_thread in [false, true] {
        // Counted for each thread by itself: one of two makes half of the calls at least.
        for when in [12, 20, 29] {
            for fault in ["error=EIO", "error=ENOSPC", "signal=KILL"] {
                for call in ["fdatasync", "pwrite64"] {
                    let fault = format!("{fault}:when={when}");
                    acknowledged += suffer(name, by_thread, call, &fault);
                }
            }
        }
    }
    assert!(acknowledged > 300, "the faults come in the middle: {acknowledged}");
}

#[test]
#[ignore = "needs strace"]
fn a_batch_costs_one_sync() {
    be_the_copy();
    let name = "tests::injected::a_batch_costs_one_sync";
    for by_thread in [false, true] {
        let directory = tempfile::tempdir().expect("a directory for the test");
        if by_thread {
            std::fs::write(directory.path().join("by-thread"), b"").expect("there is room");
        }
        let log = directory.path().join("calls");
        let log = log.to_str().expect("a plain path");
        let options = ["-e", "trace=fdatasync", "-o", log];
        assert_eq!(copy_under_strace(name, directory.path(), &options), Some(0));
        let calls = std::fs::read_to_string(log).expect("strace wrote it");
        let syncs = calls.lines().filter(|line| line.contains("fdatasync(")).count();
        assert_eq!(syncs as u64, BATCHES, "of all that is synced only frames take fdatasync");
    }
}

/// Unmounts when the test ends, however it ends.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// A file system of 24 MiB in a file.
    fn new(image: &Path, at: &'a Path) -> Self {
        let run = |command: &mut Command| {
            let output = command.output().expect("the tool is there");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let file = std::fs::File::create(image).expect("there is room");
        file.set_len(24 << 20).expect("there is room");
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image));
        std::fs::create_dir(at).expect("there is room");
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn chores(log: &mut Log, disk: &mut FileDisk) {
    for mut chore in log.housekeeping() {
        match chore.run(disk) {
            Ok(()) => log.chore_done(&chore),
            Err(error) if error.is_no_room() => log.chore_failed(&chore),
            // As the server does: any other error of the disk is final.
            Err(_) => std::process::exit(DISK_FAILED),
        }
    }
}

/// Takes all the room there is.
fn fill(file: &Path) {
    let filler = std::fs::File::create(file).expect("there is room for a name");
    let mut offset = 0;
    while std::os::unix::fs::FileExt::write_at(&filler, &[1; 4096], offset).is_ok_and(|n| n > 0) {
        offset += 4096;
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn on_a_full_file_system_the_reserve_is_left_and_room_ends_the_shortage() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let at = directory.path().join("mounted");
    let _mounted = Mounted::new(&directory.path().join("image"), &at);
    let mode = Probe::look_at(&at).expect("it is writable").mode;
    let mut disk = FileDisk::new(&at, mode);
    let options = Options { segment_bytes: 1 << 20, max_segments: 1_000, ..Options::default() };
    let (mut log, _) = Log::recover(&mut disk, options.clone(), 7).expect("it is blank");
    chores(&mut log, &mut disk);
    fill(&at.join("filler"));
    let poll = Poll::new().expect("readiness is known here");
    let mut frames = Frames::new(log, disk.another(), 0, waker(&poll)).expect("a thread");
    let mut written = 0;
    let mut write = |frames: &mut Frames| {
        written += 1;
        assert!(written < 5_000, "what was ready must come to an end");
        frames.append(&batch(written)).expect("what is ready is enough");
        wait_for(|| {
            frames.collect().expect("what is ready is enough");
            frames.next_written()
        });
        written
    };
    while !frames.log().lacks_room() {
        write(&mut frames);
        chores(frames.log(), &mut disk);
    }
    assert!(frames.log().ready_bytes() > 500 << 10, "{}", frames.log().ready_bytes());
    // What can't be refused goes on in the reserve; when that is used up, a frame waits for room.
    let mut last = write(&mut frames);
    assert!(last > 100, "{last}");
    while frames.log().ready_bytes() > 8 << 10 {
        last = write(&mut frames);
    }
    while !frames.waits_for_file() {
        last += 1;
        frames.append(&batch(last)).expect("to wait is no error");
        wait_for(|| {
            frames.collect().expect("what was ready is enough");
            (frames.next_written().is_some() || frames.waits_for_file()).then_some(())
        });
    }
    let ask = |frames: &mut Frames, disk: &mut FileDisk| {
        let (name, bytes) = wait_for(|| frames.next_file(Instant::now()));
        let is_there = disk.create(&name, bytes).is_ok();
        frames.on_file(is_there).expect("to wait is no error");
        is_there
    };
    assert!(!ask(&mut frames, &mut disk));
    assert!(frames.lacks_room() && frames.seal_due().is_none());
    std::fs::remove_file(at.join("filler")).expect("it is there");
    assert!(ask(&mut frames, &mut disk));
    let written = wait_for(|| {
        frames.collect().expect("there is room");
        frames.next_written()
    });
    assert_eq!(written, last);
    chores(frames.log(), &mut disk);
    assert!(!frames.lacks_room());
    frames.finish().expect("there is room");
    let (_, lane) = Log::recover(&mut disk, options, 8).expect("all is whole");
    assert_eq!(lane.shards[&SHARD].entries.len() as u64, last);
}
