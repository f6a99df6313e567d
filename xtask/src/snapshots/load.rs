//! Clients that write, as simple as can be.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::VALUE_BYTES;
use super::nodes::{Moment, Nodes};

/// Commands that a client that fills has under way.
pub(crate) const PIPELINE: usize = 64;
/// Clients that fill, and clients that are measured.
const FILLERS: usize = 4;
const MEASURED: usize = 16;
/// An answer comes within.
const PATIENCE: Duration = Duration::from_secs(30);

/// A latency.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When the answer came.
    pub(crate) at: Instant,
    /// How long it took.
    pub(crate) micros: u64,
}

/// Keys to write.
pub(crate) struct Keys(Vec<u64>);

impl Keys {
    /// So many.
    pub(crate) fn all(count: u64) -> Self {
        Self::chosen(count, |_| true)
    }

    /// Those among so many that `choose` is true of.
    pub(crate) fn chosen(count: u64, choose: impl Fn(u64) -> bool) -> Self {
        Self((0..count).filter(|key| choose(*key)).collect())
    }

    /// No more than so many of them.
    pub(crate) fn some(&self, most: usize) -> Self {
        Self(self.0.iter().copied().take(most).collect())
    }

    /// Size of their values together, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.len() as u64 * VALUE_BYTES
    }
}

/// The name of a key.
pub(crate) fn name(key: u64) -> String {
    format!("key:{key:09}")
}

/// Bytes that don't compress: a function of the seed [Steele et al., 2014].
fn noise(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn value(seed: &mut u64) -> Vec<u8> {
    (0..VALUE_BYTES / 8).flat_map(|_| noise(seed).to_le_bytes()).collect()
}

/// A connection.
pub(crate) struct Client {
    out: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: &str) -> anyhow::Result<Self> {
        let out = TcpStream::connect(address).with_context(|| address.to_owned())?;
        out.set_nodelay(true)?;
        out.set_read_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(out.try_clone()?);
        Ok(Self { out, answers })
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        encode(&[b"SET", key, value], &mut bytes);
        self.out.write_all(&bytes)?;
        self.expect_ok()
    }

    /// Has keys set, and does not wait for the answers.
    pub(crate) fn send(&mut self, keys: &Keys) -> anyhow::Result<()> {
        let (mut bytes, mut seed) = (Vec::new(), 0);
        for &key in &keys.0 {
            encode(&[b"SET", name(key).as_bytes(), &value(&mut seed)], &mut bytes);
        }
        self.out.write_all(&bytes).context("a request")
    }

    /// The next answer says that a SET is done.
    fn expect_ok(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line == "+OK\r\n", "SET gives {line:?}");
        Ok(())
    }
}

fn encode(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes all keys so many times, over several connections.
pub(crate) fn fill(addresses: &[String], keys: &Keys, times: u64) -> anyhow::Result<()> {
    let part = keys.0.len().div_ceil(FILLERS).max(1);
    thread::scope(|scope| {
        let fillers: Vec<_> = keys
            .0
            .chunks(part)
            .zip(addresses.iter().cycle())
            .map(|(keys, address)| scope.spawn(move || fill_part(address, keys, times)))
            .collect();
        fillers.into_iter().try_for_each(|filler| filler.join().ok().context("it panicked")?)
    })
}

fn fill_part(address: &str, keys: &[u64], times: u64) -> anyhow::Result<()> {
    let mut client = Client::connect(address)?;
    let mut seed = keys.first().copied().unwrap_or(0);
    let mut bytes = Vec::new();
    for _ in 0..times {
        for keys in keys.chunks(PIPELINE) {
            bytes.clear();
            for &key in keys {
                encode(&[b"SET", name(key).as_bytes(), &value(&mut seed)], &mut bytes);
            }
            client.out.write_all(&bytes)?;
            for _ in keys {
                client.expect_ok()?;
            }
        }
    }
    Ok(())
}

/// Measures latencies of overwriting random keys until enough was seen, or for so long.
pub(crate) fn measure(
    nodes: &Nodes,
    keys: &Keys,
    at_most: Duration,
    is_enough: impl Fn(&[Moment]) -> bool,
) -> anyhow::Result<(Vec<Sample>, Vec<Moment>)> {
    let addresses = Nodes::addresses(&nodes.alive());
    let (over, until) = (AtomicBool::new(false), Instant::now() + at_most);
    thread::scope(|scope| {
        let over = &over;
        let clients: Vec<_> = (0..MEASURED)
            .zip(addresses.iter().cycle())
            .map(|(seed, address)| {
                scope.spawn(move || measure_one(address, keys, seed as u64, over))
            })
            .collect();
        let mut moments = Vec::new();
        while Instant::now() < until && !is_enough(&moments) {
            moments.push(nodes.look());
            thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        for client in clients {
            samples.extend(client.join().ok().context("it panicked")??);
        }
        Ok((samples, moments))
    })
}

fn measure_one(
    address: &str,
    keys: &Keys,
    mut seed: u64,
    over: &AtomicBool,
) -> anyhow::Result<Vec<Sample>> {
    let mut client = Client::connect(address)?;
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let key = keys.0[(noise(&mut seed) % keys.0.len() as u64) as usize];
        let value = value(&mut seed);
        let begun = Instant::now();
        client.set(name(key).as_bytes(), &value)?;
        let at = Instant::now();
        samples.push(Sample { at, micros: (at - begun).as_micros() as u64 });
    }
    Ok(samples)
}
