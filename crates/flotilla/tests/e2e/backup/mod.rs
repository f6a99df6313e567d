//! Backups of clusters that serve, and new clusters made of them.

mod book;
mod load;

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use self::book::{Book, now_ms};
use self::load::Load;
use crate::support::{Nodes, Process, client, flotilla, wait_for};

/// Other clients' waits may grow by this factor while a backup is taken, or to [`WAIT_ANYWAY`]:
/// several processes of a test share few cores with whatever else runs.
const WAIT_FACTOR: u32 = 10;
/// A wait that is never too long, as elections would not be.
const WAIT_ANYWAY: Duration = Duration::from_millis(250);

#[test]
fn a_backup_under_load_is_restored_into_clusters_of_other_shapes() {
    let source = Nodes::start_sharing(3, 3);
    let mut book = Book::new(3_000);
    book.write(&mut client(source.port(1)));
    let load = Load::start(&[source.port(1), source.port(2), source.port(3)]);
    let before = Instant::now();
    wait_for("some writes", || load.rounds().iter().all(|round| *round > 20).then_some(()));

    let directory = temporary();
    let to = directory.path().join("backup");
    let acknowledged = load.rounds();
    let begin = Instant::now();
    let output = succeeded(backup(source.port(2), &to, &[]));
    let end = Instant::now();
    assert!(output.contains(" keys, "), "{output}");
    let during: Vec<_> = load.rounds().iter().zip(&acknowledged).map(|(b, a)| b - a).collect();
    assert!(during.iter().all(|rounds| *rounds > 0), "they went on writing: {during:?}");
    let times = load.stop();
    check_waits(&times, before, begin, end);
    let manifest = manifest(&to);
    check_manifest(&manifest, &book);
    drop(source);
    succeeded(verify(&to));

    wait_for("some keys expire", || book.only_lasting_are_left().then_some(()));
    let lasting = book.len() + load::key_count();
    let expired = manifest_keys(&manifest) - lasting;
    let shapes: [fn() -> Nodes; 3] =
        [|| Nodes::start(1), || Nodes::start_sharing(3, 5), || Nodes::start_sharing(5, 3)];
    let mut seen = None;
    for shape in shapes {
        let target = shape();
        let output = succeeded(restore(target.port(1), &to, &[]));
        let expected =
            format!("{lasting} keys, each read back and compared; {expired} have expired");
        assert!(output.contains(&expected), "{output}");
        let last = target.running().len();
        let mut connection = client(target.port(last));
        book.compare(&mut connection);
        let found = load::check(&mut connection, &acknowledged);
        assert_eq!(*seen.get_or_insert(found.clone()), found, "each cluster gets the same");
        assert_eq!(key_count(target.port(1)), lasting);
    }
}

/// Says how long writes took without and during the backup.
fn check_waits(times: &[(Instant, Duration)], before: Instant, begin: Instant, end: Instant) {
    let [without, during] =
        [(before, begin), (begin, end)].map(|span| load::percentile(times, span, 99));
    let line = format!("p99 of SET: {without:?} without a backup, {during:?} during one\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    assert!(during <= WAIT_ANYWAY.max(without * WAIT_FACTOR), "{line}");
}

fn check_manifest(manifest: &Value, book: &Book) {
    let shards = manifest["shards"].as_array().expect("a list");
    let numbers: Vec<_> = shards.iter().map(|shard| shard["shard"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    for shard in shards {
        assert!(shard["index"].as_u64() > Some(0), "{shard}");
        let clock = shard["clock_ms"].as_i64().expect("a number");
        assert!((book.written_ms()..=now_ms()).contains(&clock), "{shard}");
    }
    let keys = manifest_keys(manifest);
    let least = book.len() + load::key_count();
    assert!((least..=least + book.fleeting()).contains(&keys), "{keys}");
}

fn manifest_keys(manifest: &Value) -> usize {
    let shards = manifest["shards"].as_array().expect("a list");
    shards.iter().map(|shard| shard["keys"].as_u64().expect("a number") as usize).sum()
}

#[test]
fn a_damaged_backup_is_refused_with_the_name_of_the_file() {
    let source = Nodes::start(1);
    let mut book = Book::new(200);
    book.write(&mut client(source.port(1)));
    let directory = temporary();
    let to = directory.path().join("backup");
    succeeded(backup(source.port(1), &to, &[]));
    let file = to.join("shard-1.snap");
    let whole = std::fs::read(&file).expect("it is there");
    let target = Nodes::start(1);
    for at in (0..whole.len()).step_by(whole.len() / 12).chain([7, whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&file, &damaged).expect("room");
        let error = failed(verify(&to));
        assert!(error.contains("shard-1.snap"), "byte {at}: {error}");
    }
    let error = failed(restore(target.port(1), &to, &[]));
    assert!(error.contains("shard-1.snap"), "{error}");
    assert_eq!(key_count(target.port(1)), 0, "nothing of a damaged backup is restored");

    std::fs::write(&file, &whole[..whole.len() / 2]).expect("room");
    assert!(failed(verify(&to)).contains("shard-1.snap"));
    std::fs::remove_file(&file).expect("it is there");
    assert!(failed(verify(&to)).contains("shard-1.snap"));

    let other = directory.path().join("other");
    client(source.port(1)).send_packed_command(b"SET later 1\r\n").expect("the cluster serves");
    wait_for("one key more", || (key_count(source.port(1)) > book.len()).then_some(()));
    succeeded(backup(source.port(1), &other, &[]));
    std::fs::copy(other.join("shard-1.snap"), &file).expect("room");
    let error = failed(verify(&to));
    assert!(error.contains("shard-1.snap is whole, but is not the file"), "{error}");
    std::fs::write(&file, &whole).expect("room");
    succeeded(verify(&to));

    let file = to.join("manifest.json");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, text.replacen("\"keys\": 2", "\"keys\": 3", 1)).expect("room");
    let error = failed(verify(&to));
    assert!(error.contains("manifest.json is damaged"), "{error}");
}

#[test]
fn a_killed_backup_is_none_and_the_next_one_succeeds() {
    let source = Nodes::start(1);
    let mut book = Book::of_noise(48, 128 << 10);
    book.write(&mut client(source.port(1)));
    let directory = temporary();
    let (to, other) = (directory.path().join("backup"), directory.path().join("other"));
    let mut command = flotilla();
    command.args(["backup", "--mib-per-second", "1", "--at", &at(source.port(1)), "--to"]);
    command.arg(&to);
    let mut slow = Process::start(command, &directory.path().join("slow.log"));
    wait_for("a part of a copy", || {
        let length = std::fs::metadata(to.join("shard-1.snap.part")).ok()?.len();
        (length > 0).then_some(())
    });
    let error = failed(backup(source.port(1), &other, &[]));
    assert!(error.contains("another backup is taken from 127.0.0.1"), "{error}");
    let error = failed(backup(source.port(1), &to, &[]));
    assert!(error.contains("another process"), "{error}");
    slow.kill();

    assert!(!to.join("manifest.json").exists(), "a backup of half the data is none");
    assert!(failed(verify(&to)).contains("no whole backup"));
    assert!(failed(restore(source.port(1), &to, &[])).contains("no whole backup"));
    // The node notices only when it sends the next piece that nobody takes it any more.
    wait_for("a whole backup", || backup(source.port(1), &to, &[]).status.success().then_some(()));
    succeeded(verify(&to));
    let names: Vec<_> = std::fs::read_dir(&to).expect("it is there").collect();
    assert_eq!(names.len(), 2, "a file for the shard and the manifest: {names:?}");
    let error = failed(backup(source.port(1), &to, &[]));
    assert!(error.contains("holds a whole backup"), "{error}");
}

#[test]
fn a_copy_that_breaks_off_is_taken_from_another_replica() {
    let mut source = Nodes::start_sharing(3, 1);
    let mut book = Book::of_noise(24, 128 << 10);
    book.write(&mut client(source.port(1)));
    let leader = source.leader(1);
    let first = (1..=3).find(|node| *node != leader).expect("there are three");
    let directory = temporary();
    let to = directory.path().join("backup");
    let mut command = flotilla();
    command.args(["backup", "--mib-per-second", "1", "--at", &at(source.port(leader)), "--to"]);
    command.arg(&to);
    let mut slow = Process::start(command, &directory.path().join("slow.log"));
    wait_for("a part of a copy", || {
        let length = std::fs::metadata(to.join("shard-1.snap.part")).ok()?.len();
        (length > 0).then_some(())
    });
    source.kill(first);
    assert!(slow.wait().success(), "{}", slow.printed());
    let node = manifest(&to)["shards"][0]["node"].as_str().expect("text").to_owned();
    assert_ne!(node, at(source.port(first)));
    assert_eq!(manifest_keys(&manifest(&to)), book.len());
    succeeded(verify(&to));
}

#[test]
fn many_backups_leave_nothing_behind_on_the_node() {
    let source = Nodes::start(1);
    let mut connection = client(source.port(1));
    let directory = temporary();
    let mut indexes = Vec::new();
    for number in 0..6 {
        redis::cmd("SET").arg("number").arg(number).exec(&mut connection).expect("it serves");
        let to = directory.path().join(number.to_string());
        succeeded(backup(source.port(1), &to, &[]));
        indexes.push(manifest(&to)["shards"][0]["index"].as_u64());
    }
    assert!(indexes.is_sorted_by(|a, b| a < b), "each has the write before it: {indexes:?}");
    wait_for("old snapshots go", || {
        let files = std::fs::read_dir(source.data(1)).expect("it is there");
        let snapshots = files.filter_map(Result::ok).filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("shard-1-")
        });
        (snapshots.count() <= 2).then_some(())
    });
}

#[test]
fn a_restore_is_refused_over_keys_and_repeated_after_an_interruption() {
    let source = Nodes::start(1);
    let mut book = Book::of_noise(300, 256 << 10);
    book.write(&mut client(source.port(1)));
    let directory = temporary();
    let to = directory.path().join("backup");
    succeeded(backup(source.port(1), &to, &[]));
    let id = manifest(&to)["id"].as_str().expect("text").to_owned();
    drop(source);

    let mut target = Nodes::start_sharing(3, 2);
    let port = target.port(1);
    let mut connection = client(port);
    redis::cmd("SET").arg("mine").arg("1").exec(&mut connection).expect("the cluster serves");
    let error = failed(restore(port, &to, &[]));
    assert!(error.contains("holds 1 keys"), "{error}");
    assert!(failed(restore(port, &to, &["--again"])).contains("holds 1 keys"));
    redis::cmd("DEL").arg("mine").exec(&mut connection).expect("the cluster serves");

    let mut command = flotilla();
    command.args(["restore", "--connections", "1", "--at", &at(port), "--from"]).arg(&to);
    let mut restoring = Process::start(command, &directory.path().join("restore.log"));
    wait_for("some keys", || (key_count(port) > 5).then_some(()));
    restoring.kill();
    assert!(key_count(port) < book.len(), "it was killed on the way");
    let mark = format!("flotilla.restore:{id}");
    let marked: bool =
        redis::cmd("EXISTS").arg(&mark).query(&mut connection).expect("the cluster serves");
    assert!(marked, "a cluster that is not whole can be told by its mark");
    let error = failed(restore(port, &to, &[]));
    assert!(error.contains("--again"), "{error}");
    let error = failed(backup(port, &directory.path().join("other"), &[]));
    assert!(error.contains(&mark), "{error}");

    let mut command = flotilla();
    command.args(["restore", "--again", "--at", &at(port), "--from"]).arg(&to);
    let mut restoring = Process::start(command, &directory.path().join("again.log"));
    wait_for("more keys", || (key_count(port) > book.len() / 2).then_some(()));
    let leaders = [target.leader(1), target.leader(2)];
    target.kill(leaders.into_iter().find(|node| *node != 1).unwrap_or(2));
    assert!(restoring.wait().success(), "{}", restoring.printed());
    book.compare(&mut client(port));
    assert_eq!(key_count(port), book.len(), "and no mark");
    let error = failed(restore(port, &to, &[]));
    assert!(error.contains("holds 300 keys"), "{error}");
}

fn backup(port: u16, to: &Path, more: &[&str]) -> Output {
    let mut command = flotilla();
    command.args(["backup", "--at", &at(port), "--to"]).arg(to).args(more);
    command.output().expect("it starts")
}

fn verify(directory: &Path) -> Output {
    flotilla().args(["backup", "--verify"]).arg(directory).output().expect("it starts")
}

fn restore(port: u16, from: &Path, more: &[&str]) -> Output {
    let mut command = flotilla();
    command.args(["restore", "--at", &at(port), "--from"]).arg(from).args(more);
    command.output().expect("it starts")
}

/// What a verb that must succeed has printed.
fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What a verb that must fail has said.
fn failed(output: Output) -> String {
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && error.contains("error: "), "{error}");
    error
}

fn manifest(directory: &Path) -> Value {
    let text = std::fs::read(directory.join("manifest.json")).expect("it is there");
    serde_json::from_slice(&text).expect("it is JSON")
}

fn key_count(port: u16) -> usize {
    redis::cmd("DBSIZE").query(&mut client(port)).expect("the cluster serves")
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a directory for the test")
}
