//! A node on a small file system, which is filled and emptied again: writes are refused, reads are
//! served, and it all ends by itself.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_resp::Value;
use tempfile::TempDir;

use crate::support::{Nodes, Wire, wait_for};

/// Room for some segments of the tests.
const DISK_BYTES: u64 = 40 << 20;

/// A file system in a file; unmounted when the test ends, however it ends.
struct SmallDisk {
    at: PathBuf,
    _image: TempDir,
}

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        let image = tempfile::tempdir().expect("a directory for the test");
        let path = image.path().join("image");
        let run = |command: &mut Command| {
            let output = command.output().expect("the tool is there");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        File::create(&path).and_then(|file| file.set_len(DISK_BYTES)).expect("there is room");
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&path));
        std::fs::create_dir_all(&at).expect("there is room");
        run(Command::new("mount").args(["-o", "loop"]).arg(&path).arg(&at));
        Self { at, _image: image }
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let filler = File::create(self.filler()).expect("there is room for a name");
        let mut offset = 0;
        for bytes in [1 << 20, 4096] {
            let piece = vec![1; bytes];
            while filler.write_all_at(&piece, offset).is_ok() && filler.sync_all().is_ok() {
                offset += bytes as u64;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn ask(wire: &mut Wire, words: &[&str]) -> Value {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    wire.ask(&words).expect("the node lives")
}

fn info(wire: &mut Wire) -> String {
    let info = ask(wire, &["INFO", "persistence"]);
    String::from_utf8_lossy(info.as_bytes().expect("a text")).into_owned()
}

/// Counts until that is refused; gives what was acknowledged.
fn count_until_refused(wire: &mut Wire, filler: &str) -> i64 {
    let mut count = 0;
    loop {
        let set = ask(wire, &["SET", "large", filler]);
        let counted = ask(wire, &["INCR", "count"]);
        if let Value::Integer(now) = counted {
            count = now;
        }
        for error in [set.as_error(), counted.as_error()].into_iter().flatten() {
            assert!(error.starts_with("MISCONF "), "{error}");
        }
        if counted.as_error().is_some() {
            return count;
        }
        assert!(count < 5_000, "the disk must be full some time");
    }
}

fn restart(nodes: &mut Nodes, data: &Path) -> Wire {
    nodes.kill(1);
    assert!(data.is_dir());
    nodes.start_node(1);
    nodes.wait_until_ready();
    Wire::connect(nodes.port(1)).expect("it listens")
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let mut nodes = Nodes::blank(1);
    let disk = SmallDisk::mount(nodes.data(1));
    nodes.start_node(1);
    nodes.wait_until_ready();
    let mut wire = Wire::connect(nodes.port(1)).expect("it listens");
    assert_eq!(ask(&mut wire, &["SET", "kept", "value"]), Value::Simple("OK".into()));
    assert!(info(&mut wire).contains("disk_full:no"));

    // Two segments are made ready in advance, which are whole when the next is begun.
    let segments = || {
        let files = std::fs::read_dir(&disk.at).expect("it is mounted").flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("segment")).count()
    };
    wait_for("segments made ready", || (segments() >= 3).then_some(()));
    disk.fill();
    let large = "x".repeat(100_000);
    let count = count_until_refused(&mut wire, &large);
    assert!(count > 20, "what was ready is used first: {count}");
    assert!(info(&mut wire).contains("disk_full:yes"));
    assert!(info(&mut wire).contains("aof_last_write_status:err"));
    assert_eq!(ask(&mut wire, &["GET", "kept"]).as_bytes(), Some(&b"value"[..]));
    let counted = count.to_string();
    assert_eq!(ask(&mut wire, &["GET", "count"]).as_bytes(), Some(counted.as_bytes()));
    assert!(ask(&mut wire, &["SET", "kept", "other"]).as_error().is_some());

    // A process that ends now starts again with what the reserve has left.
    let mut wire = restart(&mut nodes, &disk.at);
    assert_eq!(ask(&mut wire, &["GET", "count"]).as_bytes(), Some(counted.as_bytes()));

    std::fs::remove_file(disk.filler()).expect("it is there");
    wait_for("writes are taken again", || {
        ask(&mut wire, &["SET", "kept", "other"]).as_error().is_none().then_some(())
    });
    assert_eq!(ask(&mut wire, &["INCR", "count"]), Value::Integer(count + 1));
    wait_for("it says so", || info(&mut wire).contains("disk_full:no").then_some(()));
    let mut wire = restart(&mut nodes, &disk.at);
    assert_eq!(ask(&mut wire, &["GET", "kept"]).as_bytes(), Some(&b"other"[..]));
    nodes.kill(1);
}
