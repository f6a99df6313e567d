//! `cargo xtask memory`: what a key takes of a node's memory, all included.
//!
//! One real node with three shards is filled with keys of 16 bytes and values of 32. Then keys are
//! set again until it has written its next snapshots and dropped the log before them, which counts
//! as rest; what it takes just before these, with the log that has gathered, is told as well.
//! Resident memory is what the kernel says, less what the process took before the first key. A
//! redis-server that keeps nothing on disk is filled in the same way, if it is installed.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::bounds::{Measure, number, settle};
use crate::snapshots::nodes::{Nodes, memory_of};
use crate::{cargo, shown};

/// The number of keys for which there is a bound.
const KEYS: u64 = 10_000_000;
/// Every shard is on the one node, as many as `flotilla up` has.
const SHARDS: [&[usize]; 3] = [&[1], &[1], &[1]];
/// Commands that are under way at once.
const BATCH: u64 = 1_000;
/// Keys that are set again between two looks whether a snapshot is written.
const STEP: u64 = 20_000;
/// Memory has settled when it has not changed by a hundredth for so long.
const SETTLED: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest time until memory has settled, or a server is there, or snapshots are written: ten
/// seconds on a quiet machine.
const PATIENCE: Duration = Duration::from_mins(15);
/// The answer to a SET.
const OK: &[u8] = b"+OK\r\n";

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    keys: u64,
    data: PathBuf,
    /// What is run instead of the binary that is built.
    program: Option<PathBuf>,
    write: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let data = PathBuf::from(".");
        let mut options = Self { keys: KEYS, data, program: None, write: false };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "--write" {
                options.write = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--keys" => options.keys = value.parse().context("--keys needs a number")?,
                "--data" => options.data = PathBuf::from(value),
                "--program" => options.program = Some(PathBuf::from(value)),
                _ => bail!("'{word}' is not understood: try `cargo xtask help`"),
            }
        }
        ensure!(options.keys >= BATCH, "of fewer than {BATCH} keys nothing can be told");
        ensure!(!options.write || options.keys == KEYS, "the bound is that of {KEYS} keys");
        Ok(options)
    }
}

/// Bytes of memory for each key.
struct Taken {
    /// As soon as all keys were there.
    filled: f64,
    /// The most until snapshots were due: the log that has gathered is in memory too.
    before: f64,
    /// After them.
    at_rest: f64,
}

/// Runs the verb: `[--keys N] [--data DIRECTORY] [--program FILE] [--write]`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => built()?,
    };
    let directory = options.data.join(format!("flotilla-memory-{}", std::process::id()));
    fs::create_dir_all(&directory)
        .with_context(|| format!("can't create {}", directory.display()))?;
    let taken = measure_node(&program, options.keys, &directory);
    fs::remove_dir_all(&directory)
        .with_context(|| format!("can't remove {}", directory.display()))?;
    let taken = taken?;
    let what = format!("bytes per key, {} keys of 16 bytes, values of 32", options.keys);
    println!("| {what} | filled | before snapshots | at rest |");
    println!("|---|--:|--:|--:|");
    let [filled, before, at_rest] = [taken.filled, taken.before, taken.at_rest].map(number);
    println!("| a node, all included | {filled} | {before} | {at_rest} |");
    match measure_redis(options.keys)? {
        Some(redis) => println!("| redis-server, memory only | {0} | {0} | {0} |", number(redis)),
        None => println!("\nredis-server is not installed (Debian's package redis-server)."),
    }
    println!();
    if options.keys != KEYS {
        return Ok(());
    }
    let value = taken.at_rest;
    settle(&[Measure { name: "memory/at-rest".to_owned(), value }], options.write)
}

/// The binary, built.
fn built() -> anyhow::Result<PathBuf> {
    let mut build = cargo("build --release --package flotilla");
    ensure!(build.status().context("can't run cargo")?.success(), "{} has failed", shown(&build));
    Ok(crate::snapshots::program())
}

fn measure_node(program: &Path, keys: u64, directory: &Path) -> anyhow::Result<Taken> {
    let nodes = Nodes::start(program, directory, &SHARDS)?;
    let address = &Nodes::addresses(&[1])[0];
    let memory = || Ok(nodes.look().nodes[&1].memory);
    let empty = settled(memory)?;
    let per_key = |bytes: u64| bytes.saturating_sub(empty) as f64 / keys as f64;
    eprintln!("setting {keys} keys");
    let mut client = Client::connect(address)?;
    client.set_all(0..keys)?;
    wait_for_snapshots(&nodes)?;
    let filled = settled(memory)?;
    eprintln!("setting keys again until snapshots are due");
    let mut next = 0;
    let mut before = filled;
    while !nodes.look().writes_any() {
        before = before.max(memory()?);
        client.set_all(next..(next + STEP).min(keys))?;
        next = if next + STEP < keys { next + STEP } else { 0 };
    }
    wait_for_snapshots(&nodes)?;
    let at_rest = settled(memory)?;
    Ok(Taken { filled: per_key(filled), before: per_key(before), at_rest: per_key(at_rest) })
}

/// Waits until none has been written for a while: the shards' come one after the other.
fn wait_for_snapshots(nodes: &Nodes) -> anyhow::Result<()> {
    let (until, mut since) = (Instant::now() + PATIENCE, Instant::now());
    while since.elapsed() < SETTLED {
        ensure!(Instant::now() < until, "snapshots are written all the time");
        if nodes.look().writes_any() {
            since = Instant::now();
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Memory once it does not change any more.
fn settled(memory: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let until = Instant::now() + PATIENCE;
    let (mut seen, mut since) = (memory()?, Instant::now());
    while since.elapsed() < SETTLED {
        ensure!(Instant::now() < until, "memory does not settle in {PATIENCE:?}");
        thread::sleep(LOOK_EVERY);
        let now = memory()?;
        if now.abs_diff(seen) > seen / 100 {
            (seen, since) = (now, Instant::now());
        }
    }
    memory()
}

/// A redis-server. Dropped, it is ended.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a key takes of a redis-server; `None` if there is none to start.
fn measure_redis(keys: u64) -> anyhow::Result<Option<f64>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
    command.args(["--save", "", "--appendonly", "no"]);
    let redis = match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        started => Redis(started.context("can't run redis-server")?),
    };
    let address = format!("127.0.0.1:{port}");
    let until = Instant::now() + PATIENCE;
    let mut client = loop {
        match Client::connect(&address) {
            Ok(client) => break client,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    };
    let memory = || Ok(memory_of(redis.0.id()));
    let empty = settled(memory)?;
    eprintln!("setting {keys} keys of a redis-server");
    client.set_all(0..keys)?;
    let filled = settled(memory)?;
    Ok(Some(filled.saturating_sub(empty) as f64 / keys as f64))
}

/// A connection that sets keys.
struct Client(TcpStream);

impl Client {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sets these keys, a batch after the other.
    fn set_all(&mut self, keys: std::ops::Range<u64>) -> anyhow::Result<()> {
        let (mut bytes, mut answers) = (Vec::new(), Vec::new());
        for first in keys.clone().step_by(BATCH as usize) {
            let batch = first..(first + BATCH).min(keys.end);
            bytes.clear();
            for key in batch.clone() {
                let (ahead, between) = ("*3\r\n$3\r\nSET\r\n$16\r\n", "\r\n$32\r\n");
                write!(bytes, "{ahead}key:{key:012}{between}value:{key:026}\r\n")?;
            }
            self.0.write_all(&bytes)?;
            answers.resize((batch.end - batch.start) as usize * OK.len(), 0);
            self.0.read_exact(&mut answers)?;
            ensure!(answers.chunks(OK.len()).all(|answer| answer == OK), "a SET was refused");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> anyhow::Result<Options> {
        Options::parse(&crate::arguments_of(words))
    }

    #[test]
    fn the_bound_is_that_of_ten_million_keys() {
        assert_eq!(parsed(&[]).expect("defaults").keys, 10_000_000);
        assert_eq!(parsed(&["--keys", "5000"]).expect("a number").keys, 5_000);
        assert!(parsed(&["--write"]).expect("all of them").write);
        for wrong in [&["--keys"][..], &["--keys", "10"], &["--keys", "5000", "--write"], &["5"]] {
            parsed(wrong).expect_err("not understood");
        }
    }

    #[test]
    fn keys_have_sixteen_bytes_and_values_thirty_two() {
        let there = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = there.local_addr().expect("it is bound").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = there.accept().expect("somebody comes");
            let mut bytes = vec![0; 2 * 75];
            stream.read_exact(&mut bytes).expect("two commands");
            stream.write_all(&OK.repeat(2)).expect("it listens");
            String::from_utf8(bytes).expect("text")
        });
        let mut client = Client::connect(&address).expect("it is there");
        client.set_all(7..9).expect("both are set");
        let got = server.join().expect("it ends");
        let value = "value:00000000000000000000000007";
        let first = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000007\r\n$32\r\n{value}\r\n");
        assert!(got.starts_with(&first), "{got}");
    }
}
