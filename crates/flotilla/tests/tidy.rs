//! The habits of this tree that the compiler does not know, as plain tests.
//!
//! Each says in its failure what to do. They read sources only, so they are quick, and what they
//! forbid they forbid for a reason that stands beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of ours a crate may need at run time. Arrows point one way: what decides knows
/// nothing of what touches the world, and nothing knows the simulator.
const EDGES: [(&str, &[&str]); 12] = [
    ("flotilla-raft", &[]),
    ("flotilla-resp", &[]),
    ("flotilla-shard", &[]),
    ("flotilla-script", &[]),
    ("flotilla-kv", &["flotilla-resp", "flotilla-shard"]),
    ("flotilla-storage", &["flotilla-raft", "flotilla-shard"]),
    ("flotilla-node", &["flotilla-raft", "flotilla-kv", "flotilla-shard", "flotilla-resp"]),
    (
        "flotilla-sim",
        &[
            "flotilla-node",
            "flotilla-storage",
            "flotilla-kv",
            "flotilla-raft",
            "flotilla-resp",
            "flotilla-shard",
        ],
    ),
    (
        "flotilla-server",
        &[
            "flotilla-node",
            "flotilla-storage",
            "flotilla-kv",
            "flotilla-raft",
            "flotilla-resp",
            "flotilla-shard",
        ],
    ),
    (
        "flotilla",
        &[
            "flotilla-server",
            "flotilla-node",
            "flotilla-storage",
            "flotilla-kv",
            "flotilla-raft",
            "flotilla-resp",
            "flotilla-shard",
        ],
    ),
    ("flotilla-explore", &["flotilla-raft"]),
    ("xtask", &["flotilla-shard", "flotilla-sim"]),
];

/// Crates in which everything is a function of the inputs.
const PURE: [&str; 7] = ["raft", "resp", "shard", "kv", "storage", "node", "sim"];

/// What pure crates may take from others: data structures, hashes, checksums, codecs. None of
/// these does IO, reads a clock or draws randomness.
const PURE_DEPENDENCIES: [&str; 10] = [
    "crc-fast",
    "foldhash",
    "hashbrown",
    "lz4_flex",
    "rapidhash",
    "serde",
    "serde_json",
    "sha2",
    "smallvec",
    "thiserror",
];

/// Crates that another project can take without taking anything else.
const ALONE: [&str; 2] = ["flotilla-raft", "flotilla-resp"];

/// Files in which `unsafe` may stand, each block with its reason.
const UNSAFE: [&str; 0] = [];

/// A file that is longer holds more than one idea.
const LINES_MAX: usize = 900;
/// A line that is longer is not read to its end.
const COLUMNS_MAX: usize = 100;

/// The README's two commands, which somebody must have tried.
const COMMANDS: [&str; 2] = ["cargo run --release -- up", "cargo test --workspace"];

#[test]
fn crates_know_only_what_is_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut wrong = Vec::new();
    for package in packages() {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{}: a new crate; say in EDGES what it may know", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let ours = dependency.starts_with("flotilla") || dependency == "xtask";
            if ours && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{} must not know {dependency}", package.name));
            }
        }
    }
    none(&wrong);
}

#[test]
fn pure_crates_depend_on_little() {
    let mut wrong = Vec::new();
    for package in packages() {
        let pure = PURE.iter().any(|name| package.name == format!("flotilla-{name}"));
        for dependency in package.dependencies.iter().filter(|_| pure) {
            let alone = ALONE.contains(&package.name.as_str());
            let listed = PURE_DEPENDENCIES.contains(&dependency.as_str());
            if alone || !(listed || dependency.starts_with("flotilla-")) {
                wrong.push(format!("{} must not depend on {dependency}", package.name));
            }
        }
    }
    none(&wrong);
}

#[test]
fn pure_crates_do_not_touch_the_world() {
    // Addresses of `std::net` may be parsed; sockets may not be opened.
    let world = [
        "Instant::",
        "SystemTime",
        "time::Instant",
        "std::thread",
        "std::fs",
        "env::var",
        "env::args",
        "std::process",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "ToSocketAddrs",
        "RandomState",
    ];
    let mut wrong = Vec::new();
    for name in PURE {
        for file in rust_files(&root().join("crates").join(name).join("src")) {
            for (number, line) in code_lines(&file) {
                for word in world.iter().filter(|word| line.contains(**word)) {
                    wrong.push(format!("{}: a pure crate, and {word}", at(&file, number)));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn core_crates_need_no_standard_library() {
    let mut wrong = Vec::new();
    for name in ["raft", "resp"] {
        let file = root().join("crates").join(name).join("src/lib.rs");
        if !text(&file).lines().any(|line| line == "#![no_std]") {
            wrong.push(format!("{}: it is to be no_std", shown(&file)));
        }
    }
    none(&wrong);
}

#[test]
fn unsafe_stands_where_it_is_expected() {
    let kinds = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"];
    let mut wrong = Vec::new();
    for file in all_rust_files().iter().filter(|file| !is_this(file)) {
        let allowed = UNSAFE.contains(&shown(file).as_str());
        for (number, line) in code_lines(file) {
            if !allowed && kinds.iter().any(|kind| line.contains(kind)) {
                wrong.push(format!("{}: unsafe, where none is expected", at(file, number)));
            }
        }
    }
    none(&wrong);
}

#[test]
fn files_and_lines_are_short() {
    let mut wrong = Vec::new();
    for file in all_rust_files() {
        let text = text(&file);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines, {LINES_MAX} at most", shown(&file)));
        }
        for (number, line) in numbered(&text) {
            let columns = line.chars().count();
            // A row of a table can't be broken.
            let row = ["//! |", "/// |"].iter().any(|start| line.trim_start().starts_with(start));
            if columns > COLUMNS_MAX && !row {
                let place = at(&file, number);
                wrong.push(format!("{place}: {columns} columns, {COLUMNS_MAX} at most"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"];
    let mut wrong = Vec::new();
    for file in all_rust_files().iter().filter(|file| !is_this(file)) {
        for (number, line) in numbered(&text(file)) {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                wrong.push(format!("{}: {mark}; finish it or file it", at(file, number)));
            }
        }
    }
    none(&wrong);
}

#[test]
fn a_test_that_is_not_run_says_why() {
    let mut wrong = Vec::new();
    for file in all_rust_files().iter().filter(|file| !is_this(file)) {
        for (number, line) in code_lines(file) {
            let ignored = line.trim_start().starts_with("#[ignore");
            if ignored && !line.contains("#[ignore = \"") {
                wrong.push(format!("{}: an ignored test without a reason", at(file, number)));
            }
        }
    }
    none(&wrong);
}

#[test]
fn every_crate_says_what_it_is() {
    let mut wrong = Vec::new();
    for package in packages() {
        let heads = ["src/lib.rs", "src/main.rs"].map(|name| package.directory.join(name));
        let Some(head) = heads.iter().find(|head| head.exists()) else {
            wrong.push(format!("{} has neither lib.rs nor main.rs", package.name));
            continue;
        };
        if !text(head).starts_with("//! ") {
            wrong.push(format!("{} does not begin with what the crate is", shown(head)));
        }
    }
    none(&wrong);
}

#[test]
fn the_readmes_commands_are_tried() {
    let readme = text(&root().join("README.md"));
    let tried = text(&root().join(".ci/run")) + &text(&root().join(".ci/up"));
    let mut wrong = Vec::new();
    for command in COMMANDS {
        if !readme.contains(command) {
            wrong.push(format!("README.md does not name '{command}'"));
        }
        if !tried.lines().any(|line| line.trim_start().starts_with(command)) {
            wrong.push(format!(".ci/run and .ci/up do not run '{command}'"));
        }
    }
    none(&wrong);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"), "md");
    let at_the_top = fs::read_dir(root()).expect("the root can be read");
    let at_the_top = at_the_top.map(|entry| entry.expect("the root can be read").path());
    documents.extend(at_the_top.filter(|path| is_kind(path, "md")));
    let mut wrong = Vec::new();
    for document in documents {
        let directory = document.parent().expect("a document lies in a directory");
        for (number, line) in numbered(&text(&document)) {
            for target in links(line) {
                let path = target.split('#').next().unwrap_or_default();
                if !path.is_empty() && !path.contains("://") && !directory.join(path).exists() {
                    wrong.push(format!("{}: {path} does not exist", at(&document, number)));
                }
            }
        }
    }
    none(&wrong);
}

/// What stands in the round brackets of a line's Markdown links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// A crate of the workspace and what it needs at run time.
struct Package {
    name: String,
    directory: PathBuf,
    dependencies: BTreeSet<String>,
}

/// All crates of the workspace, as cargo sees them. Which crates tests need is their own affair.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo, which has built this, can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let word = |value: &Value| value.as_str().expect("a string").to_owned();
    let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
    let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
    let manifest = PathBuf::from(word(&package["manifest_path"]));
    Package {
        name: word(&package["name"]),
        directory: manifest.parent().expect("a manifest lies in a directory").to_owned(),
        dependencies: normal.map(|dependency| word(&dependency["name"])).collect(),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut found = rust_files(&root().join("crates"));
    found.extend(rust_files(&root().join("xtask")));
    found.extend(rust_files(&root().join("bench-peers/src")));
    found
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    files(directory, "rs")
}

/// The files of a kind in a directory and below, in order.
fn files(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            found.extend(files(&path, kind));
        } else if is_kind(&path, kind) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_kind(path: &Path, kind: &str) -> bool {
    path.extension().is_some_and(|extension| extension == kind)
}

/// This file names what it forbids.
fn is_this(file: &Path) -> bool {
    file.ends_with("crates/flotilla/tests/tidy.rs")
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", shown(file)))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(place, line)| (place + 1, line))
}

/// The lines that are not comments, with their numbers.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = text(file);
    let code = numbered(&text).filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.map(|(number, line)| (number, line.to_owned())).collect()
}

fn at(file: &Path, number: usize) -> String {
    format!("{}:{number}", shown(file))
}

/// A path from the root on.
fn shown(file: &Path) -> String {
    let root = root();
    file.strip_prefix(&root).unwrap_or(file).display().to_string()
}

/// Fails with a line for everything that is wrong.
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
