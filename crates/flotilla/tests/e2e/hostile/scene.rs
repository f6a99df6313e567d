//! Where a hostile test takes place: a node that is watched, and a client beside it whose waits
//! are measured.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use flotilla_resp::Value;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Nodes, Wire, wait_for};

/// One at a time: each of these tests wants the machine's attention.
static STAGE: Mutex<()> = Mutex::new(());

/// The client beside does at least so much before it says how it went.
const EXCHANGES_MIN: usize = 200;

/// What a node's process holds in memory, KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Now.
    pub(super) resident: u64,
    /// At most since the start, or since [`Scene::forget_peak`].
    pub(super) peak: u64,
}

/// Three nodes, of which one is treated badly.
pub(super) struct Scene {
    nodes: Nodes,
    victim: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    /// The victim is a leader: it has the most to lose.
    pub(super) fn set() -> Self {
        let alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
        raise_descriptors();
        let nodes = Nodes::start(3);
        let victim = nodes.leader(1);
        let scene = Self { nodes, victim, _alone: alone };
        // What a node needs anyway, it has from now on.
        let mut wire = scene.connect();
        for number in 0..100 {
            let key = format!("warm:{number}");
            ok(wire.ask(&[b"SET", key.as_bytes(), b"up"]).expect("the node answers"));
        }
        scene.forget_peak();
        scene
    }

    /// The victim's plain port.
    pub(super) fn port(&self) -> u16 {
        self.nodes.port(self.victim)
    }

    /// A connection to the victim.
    pub(super) fn connect(&self) -> Wire {
        Wire::connect(self.port()).expect("the victim accepts")
    }

    /// What the victim has printed.
    pub(super) fn printed(&mut self) -> String {
        self.nodes.process(self.victim).printed()
    }

    /// How many clients the victim has, the one that asks included.
    pub(super) fn clients(&self) -> usize {
        let reply = self.connect().ask(&[b"INFO", b"clients"]).expect("the node answers");
        let text = String::from_utf8_lossy(reply.as_bytes().expect("a text")).into_owned();
        let count = text.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        count.and_then(|count| count.trim().parse().ok()).expect("it says how many")
    }

    /// How many descriptors the victim has open, one for each connection and a few more.
    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).expect("the victim lives").count()
    }

    /// The victim's memory.
    pub(super) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(self.proc("status")).expect("the victim lives");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        let field = |name| kib(name).expect("this kernel says how much memory a process has");
        Memory { resident: field("VmRSS:"), peak: field("VmHWM:") }
    }

    /// From now on the peak is that of what comes.
    pub(super) fn forget_peak(&self) {
        std::fs::write(self.proc("clear_refs"), "5").expect("the victim is ours");
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.nodes.process_id(self.victim))
    }

    /// Runs `act` while another client works on the victim. Checks that its 99th percentile and
    /// the growth of the victim's memory keep within the bounds; prints both.
    pub(super) fn bounded<T>(
        &self,
        name: &str,
        growth_max_kib: u64,
        p99_max: Duration,
        act: impl FnOnce() -> T,
    ) -> T {
        let before = self.memory();
        self.forget_peak();
        let beside = Beside::start(self.port());
        let result = act();
        let waits = beside.stop();
        let after = self.memory();
        let growth = after.peak.saturating_sub(before.resident);
        let p99 = waits[waits.len() * 99 / 100];
        eprintln!(
            "{name}: memory grew by {growth} KiB at most (from {} KiB, then {} KiB); another \
             client's {} requests: p50 {:?}, p99 {p99:?}, max {:?}",
            before.resident,
            after.resident,
            waits.len(),
            waits[waits.len() / 2],
            waits[waits.len() - 1],
        );
        assert!(growth <= growth_max_kib, "{name}: memory grew by {growth} KiB");
        assert!(p99 <= p99_max, "{name}: another client's p99 was {p99:?}");
        result
    }
}

/// A client that works beside, one request after the other.
struct Beside {
    stop: Arc<AtomicBool>,
    waits: JoinHandle<Vec<Duration>>,
}

impl Beside {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let waits = spawn(move || {
            let mut wire = Wire::connect(port).expect("the victim accepts");
            let mut waits = Vec::new();
            while !stopped.load(Ordering::Relaxed) || waits.len() < EXCHANGES_MIN {
                let value = waits.len().to_string();
                let words: [&[u8]; 3] = [b"SET", b"beside", value.as_bytes()];
                waits.push(timed(|| ok(wire.ask(&words).expect("the node answers"))));
                let read = |reply| assert_eq!(reply, Value::Bulk(value.clone().into_bytes()));
                waits.push(timed(|| {
                    read(wire.ask(&[b"GET", b"beside"]).expect("the node answers"));
                }));
            }
            waits.sort_unstable();
            waits
        });
        Self { stop, waits }
    }

    /// Its waits, the shortest first.
    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.waits.join().expect("a client beside sees no error")
    }
}

fn timed(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

/// The reply of a write.
#[track_caller]
pub(super) fn ok(reply: Value) {
    assert_eq!(reply, Value::Simple("OK".to_owned()));
}

/// Waits for the end of a connection; what came before it must be errors.
#[track_caller]
pub(super) fn ends_with_errors(mut wire: Wire) -> Vec<String> {
    let mut errors = Vec::new();
    loop {
        match wire.reply() {
            Ok(reply) => {
                let error = reply.as_error().unwrap_or_else(|| panic!("{reply:?} is no error"));
                errors.push(error.to_owned());
            }
            Err(error) => {
                let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!late, "the connection ends");
                return errors;
            }
        }
    }
}

/// Many connections need many descriptors, on this side too. Gives how many there can be.
pub(super) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a soft limit may be raised to the hard one");
    limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Waits until the victim has printed something.
pub(super) fn wait_until_printed(scene: &mut Scene, words: &str) {
    wait_for(words, || scene.printed().contains(words).then_some(()));
}
