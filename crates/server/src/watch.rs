//! What other threads see of a lane: whether it turns, what it says of itself, when it is to stop.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use flotilla_node::Status;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::ServerError;
use crate::console::{Level, say};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::thread;
use crate::worker::{Wake, spawn};

/// A lane that has not turned for so many looks, one a second, is stuck.
pub(crate) const STUCK_LOOKS: u64 = 30;
/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The size of a block that the allocator takes from the system by itself, bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that are freed one after the other: with each the allocator looks at a quarter of its
/// areas at most, and what came of the block before counts as one.
const BLOCKS: usize = 5;

/// Shared by the lane and the threads that watch it.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    turns: AtomicU64,
    idle_looks: AtomicU64,
    stopping: AtomicBool,
    /// How much of the log was read at the start, percent.
    recovered: AtomicU8,
    status: Mutex<Option<Status>>,
}

impl Watched {
    /// Counts a turn of the lane.
    pub(crate) fn count_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the lane has turned within the last 30 seconds.
    pub(crate) fn is_alive(&self) -> bool {
        self.idle_looks.load(Ordering::Relaxed) < STUCK_LOOKS
    }

    /// Asks the lane to stop, and wakes it to hear that.
    pub(crate) fn stop(&self, lane: &dyn Wake) {
        self.stopping.store(true, Ordering::Relaxed);
        lane.wake();
    }

    /// Whether the lane is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// How much of the log is read, percent.
    pub(crate) fn set_recovered(&self, percent: u8) {
        self.recovered.store(percent, Ordering::Relaxed);
    }

    /// How much of the log is read, percent.
    pub(crate) fn recovered(&self) -> u8 {
        self.recovered.load(Ordering::Relaxed)
    }

    /// Publishes what the node says of itself.
    pub(crate) fn publish(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// What the node said last of itself.
    pub(crate) fn status(&self) -> Option<Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends the process when the lane is stuck: better a node that is gone than one that holds its
/// connections and answers nobody. Looks are counted, not time, since a process that was stopped
/// and continued is not stuck. The same thread has freed memory returned to the system.
pub(crate) fn start_watchdog(watched: &Arc<Watched>) -> Result<(), ServerError> {
    let mut watchdog = Watchdog::new(Arc::clone(watched));
    let watch = move || {
        loop {
            thread::sleep(LOOK_EVERY);
            return_freed_memory();
            if watchdog.finds_it_stuck() {
                say(Level::Error, "the lane has been stuck for 30 seconds: the node ends");
                std::process::exit(1);
            }
        }
    };
    spawn("watchdog", watch)
}

/// Has the allocator return to the system what was freed a while ago. It looks for that when a
/// block of its own is freed; a node that drops the log behind a snapshot, half as much as its
/// data, and is idle from then on frees none, and would keep all of it.
fn return_freed_memory() {
    for _ in 0..BLOCKS {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
    }
}

/// Looks at a lane now and then.
#[derive(Debug)]
pub(crate) struct Watchdog {
    watched: Arc<Watched>,
    /// The lane's turns at the last look.
    seen: u64,
}

impl Watchdog {
    /// One that has not looked yet.
    pub(crate) fn new(watched: Arc<Watched>) -> Self {
        Self { watched, seen: 0 }
    }

    /// Looks. True if the lane has not turned for too many looks.
    pub(crate) fn finds_it_stuck(&mut self) -> bool {
        let turns = self.watched.turns.load(Ordering::Relaxed);
        let looks = self.watched.idle_looks.load(Ordering::Relaxed);
        let idle = if turns == self.seen { looks + 1 } else { 0 };
        self.watched.idle_looks.store(idle, Ordering::Relaxed);
        self.seen = turns;
        idle > STUCK_LOOKS
    }
}

/// Turns SIGINT and SIGTERM into a clean stop.
pub(crate) fn start_signals(
    watched: &Arc<Watched>,
    lane: Arc<dyn Wake>,
) -> Result<(), ServerError> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(ServerError::system("can't listen to signals"))?;
    let watched = Arc::clone(watched);
    spawn("signals", move || {
        for _ in signals.forever() {
            watched.stop(&*lane);
        }
    })
}
