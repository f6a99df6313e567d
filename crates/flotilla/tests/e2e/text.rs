//! Real text through the whole: each line stored through one node, read back through the others.
//!
//! The text is the file that `FLOTILLA_WORDS` names; without it Debian's list of words, if this
//! machine has it; and without that the sources of the crates that `Cargo.lock` names, which a
//! machine that has built this test has.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use redis::Connection;

use crate::support::{Up, client, status, wait_for};

const LINES: usize = 100_000;
/// With fewer lines chance alone is uneven.
const LINES_MIN: usize = 10_000;
const PIPELINE: usize = 1_000;
const UNEVENNESS_MAX: f64 = 1.05;

#[test]
fn a_hundred_thousand_lines_through_one_node_are_there_through_every_other() {
    let (source, lines) = text();
    assert!(lines.len() >= LINES_MIN, "{source} has only {} lines of use", lines.len());
    let up = Up::start(3);
    store(&mut client(up.port(1)), &lines);
    for node in 2..=3 {
        read_back(&mut client(up.port(node)), &lines);
    }

    let counts = wait_for("all replicas have applied everything", || {
        let counts = keys_per_shard(up.port(3))?;
        (counts.values().sum::<u64>() == lines.len() as u64).then_some(counts)
    });
    let mean = lines.len() as f64 / counts.len() as f64;
    let unevenness = *counts.values().max().expect("there are shards") as f64 / mean;
    // Not by a macro, whose output is shown only when the test fails.
    let _ = writeln!(
        std::io::stderr(),
        "{} lines of {source}; keys per shard {counts:?}; max/mean {unevenness:.4}",
        lines.len()
    );
    assert_eq!(counts.len(), 3);
    assert!(unevenness <= UNEVENNESS_MAX, "{counts:?}");
}

/// Each line is a key; its value is the number of the line.
fn store(connection: &mut Connection, lines: &[Vec<u8>]) {
    for (part, first) in lines.chunks(PIPELINE).zip((0..).step_by(PIPELINE)) {
        let mut pipeline = redis::pipe();
        for (line, number) in part.iter().zip(first..) {
            pipeline.set(line, number).ignore();
        }
        let () = pipeline.query(connection).expect("they are stored");
    }
}

fn read_back(connection: &mut Connection, lines: &[Vec<u8>]) {
    for (part, first) in lines.chunks(PIPELINE).zip((0..).step_by(PIPELINE)) {
        let mut pipeline = redis::pipe();
        for line in part {
            pipeline.get(line);
        }
        let numbers: Vec<usize> = pipeline.query(connection).expect("they are there");
        assert!(numbers.iter().copied().eq(first..first + part.len()), "from line {first} on");
    }
}

/// The keys in each data shard, as the node at a port has applied them.
fn keys_per_shard(port: u16) -> Option<BTreeMap<u32, u64>> {
    let data = status(port)?.replicas.into_iter().filter(|replica| replica.shard != 0);
    Some(data.map(|replica| (replica.shard, replica.keys)).collect())
}

/// Where the text is from, and its distinct lines, as many as are wanted.
fn text() -> (String, Vec<Vec<u8>>) {
    let words = Path::new("/usr/share/dict/words");
    let (source, files) = if let Some(path) = std::env::var_os("FLOTILLA_WORDS") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "FLOTILLA_WORDS names {}, which is no file", path.display());
        (path.display().to_string(), vec![path])
    } else if words.is_file() {
        (words.display().to_string(), vec![words.to_owned()])
    } else {
        ("the sources of the crates in Cargo.lock".to_owned(), locked_sources())
    };
    let mut seen = HashSet::new();
    let mut lines = Vec::new();
    for file in files {
        for line in fs::read(file).expect("it can be read").split(|&byte| byte == b'\n') {
            let line = line.trim_ascii();
            // What has a brace may have a tag, by which alone it would be placed.
            let of_use = !line.is_empty() && line.len() <= 1_000 && !line.contains(&b'{');
            if of_use && lines.len() < LINES && seen.insert(line.to_vec()) {
                lines.push(line.to_vec());
            }
        }
        if lines.len() == LINES {
            break;
        }
    }
    (source, lines)
}

/// The Rust files of all crates in `Cargo.lock` that cargo has unpacked, in order.
fn locked_sources() -> Vec<PathBuf> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = fs::read_to_string(lock).expect("the workspace has it");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registries = home.map(|home| in_order(&home.join("registry/src"))).unwrap_or_default();
    let mut found = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_matches([' ', '=', '"'])).unwrap_or_default()
        };
        let folder = format!("{}-{}", field("name"), field("version"));
        for registry in &registries {
            rust_files(&registry.join(&folder), &mut found);
        }
    }
    found
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for path in in_order(directory) {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What is in a directory, by name; nothing if there is no such directory.
fn in_order(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
