//! Clients that go on writing while a backup is taken, in a way that a torn copy would show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::Connection;

use crate::support::client;

/// Writers, each with keys of its own that are in one slot.
const WRITERS: usize = 3;
/// Keys of a writer.
const KEYS: usize = 8;

/// Writers that run.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<Writer>,
}

/// A writer sets all its keys to 1, one after the other, then all to 2, and so on. So at any moment
/// the keys have a number or, from some key on, the number before it.
#[derive(Debug)]
struct Writer {
    /// The round that was acknowledged as a whole last.
    acknowledged: Arc<AtomicU64>,
    /// Its end gives how long each write took, with the moment of its begin.
    thread: JoinHandle<Vec<(Instant, Duration)>>,
}

impl Load {
    /// Starts writers at these ports.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..WRITERS)
            .map(|writer| {
                let (port, stop) = (ports[writer % ports.len()], Arc::clone(&stop));
                let acknowledged = Arc::new(AtomicU64::new(0));
                let told = Arc::clone(&acknowledged);
                let thread = std::thread::spawn(move || write(writer, port, &stop, &told));
                Writer { acknowledged, thread }
            })
            .collect();
        Self { stop, writers }
    }

    /// The last round of each writer that was acknowledged as a whole.
    pub(crate) fn rounds(&self) -> Vec<u64> {
        let round = |writer: &Writer| writer.acknowledged.load(Ordering::SeqCst);
        self.writers.iter().map(round).collect()
    }

    /// Stops them; gives how long their writes took, with the moments of their begin.
    pub(crate) fn stop(self) -> Vec<(Instant, Duration)> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.writers.into_iter().map(|writer| writer.thread.join());
        ended.flat_map(|times| times.expect("every write was answered")).collect()
    }
}

fn write(
    writer: usize,
    port: u16,
    stop: &AtomicBool,
    told: &AtomicU64,
) -> Vec<(Instant, Duration)> {
    let mut connection = client(port);
    let mut times = Vec::new();
    for round in 1_u64.. {
        for place in 0..KEYS {
            if stop.load(Ordering::SeqCst) {
                return times;
            }
            let began = Instant::now();
            let set = redis::cmd("SET").arg(key(writer, place)).arg(round).exec(&mut connection);
            set.expect("the cluster serves");
            times.push((began, began.elapsed()));
        }
        told.store(round, Ordering::SeqCst);
    }
    times
}

/// How many keys all writers have.
pub(crate) fn key_count() -> usize {
    WRITERS * KEYS
}

/// Checks that a restored cluster has the writers' keys as they were at one moment, not before the
/// rounds that were acknowledged when the backup was begun. Gives what they are.
pub(crate) fn check(connection: &mut Connection, acknowledged: &[u64]) -> Vec<Vec<u64>> {
    let found = |writer: usize| -> Vec<u64> {
        let keys: Vec<String> = (0..KEYS).map(|place| key(writer, place)).collect();
        let found = redis::cmd("MGET").arg(keys).query(connection);
        let found: Vec<u64> = found.expect("the cluster serves");
        let one_moment = found.is_sorted_by(|a, b| a >= b) && found[0] - found[KEYS - 1] <= 1;
        assert!(one_moment, "writer {writer} never had {found:?}");
        assert!(found[KEYS - 1] >= acknowledged[writer], "{found:?}: {acknowledged:?}");
        found
    };
    (0..WRITERS).map(found).collect()
}

/// The time in which `percent` of the writes between two moments were answered.
pub(crate) fn percentile(
    times: &[(Instant, Duration)],
    (from, to): (Instant, Instant),
    percent: usize,
) -> Duration {
    let between = times.iter().filter(|(began, _)| (from..to).contains(began));
    let mut between: Vec<_> = between.map(|(_, took)| *took).collect();
    between.sort_unstable();
    assert!(between.len() >= 100, "{} writes are too few to say", between.len());
    between[(between.len() * percent).div_ceil(100) - 1]
}

fn key(writer: usize, place: usize) -> String {
    format!("{{writer{writer}}}:{place}")
}
