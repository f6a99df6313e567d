//! Where threads of a node meet, in many thousands of orders: the lane with its workers, with those
//! who ask it for something, with the watchdog. Shuttle runs the product's code on one thread and
//! decides at every step who goes on; a lane that sleeps while something is to be done is a
//! deadlock, which it reports with the order that led there. `cargo xtask threads` runs this.
//!
//! What Shuttle does not do is reorder memory. Nothing here depends on that: everything but a few
//! counters and flags, of which any value is a true one, goes through channels and mutexes.
//!
//! | the product, broken by hand | what is said then |
//! |---|---|
//! | a lane is woken before the message is in its channel | a deadlock, in two scenes |
//! | a lane is woken before the stop is written down | a deadlock |
//! | the watchdog does not keep the turns that it saw | it never finds a lane stuck |

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_storage::{Log, Options};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::mpsc::channel;
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, Runner, thread};

use crate::disk::FileDisk;
use crate::frames::Frames;
use crate::probe::WriteMode;
use crate::tests::batch;
use crate::watch::{STUCK_LOOKS, Watchdog, Watched};
use crate::worker::{Wake, Worker, to_lane};

/// All orders are tried up to so many, in turn; then so many drawn in each of two ways.
const ORDERS: usize = 4_000;
/// So many where each one writes files.
const ORDERS_OF_FILES: usize = 150;
/// The log keeps more on the stack than Shuttle gives.
const STACK_BYTES: usize = 1 << 20;
/// Changes of place that the second way of drawing looks for.
const DEPTH: usize = 3;

fn run(scheduler: impl Scheduler + 'static, scene: fn()) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scene);
}

/// Plays a scene in many orders.
fn in_many_orders(scene: fn()) {
    run(DfsScheduler::new(Some(ORDERS), false), scene);
    in_drawn_orders(ORDERS, scene);
}

fn in_drawn_orders(orders: usize, scene: fn()) {
    run(RandomScheduler::new_from_seed(7, orders), scene);
    run(PctScheduler::new_from_seed(7, DEPTH, orders), scene);
}

/// What wakes a lane of these scenes, which sleeps on it as a real one does on its sockets: a wake
/// counts for the present sleep or the next one, and several before that are one.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    fn sleep(&self) {
        let mut rung = self.rung.lock().expect("nobody panics with it");
        while !std::mem::take(&mut *rung) {
            rung = self.ringing.wait(rung).expect("nobody panics with it");
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().expect("nobody panics with it") = true;
        self.ringing.notify_one();
    }
}

/// Rings when it is dropped.
struct RingsAtItsEnd(Arc<Bell>);

impl Drop for RingsAtItsEnd {
    fn drop(&mut self) {
        self.0.wake();
    }
}

#[test]
fn a_lane_sees_every_answer_in_order() {
    in_many_orders(|| {
        let bell = Arc::new(Bell::default());
        let halves = |job: u64| (job % 2 == 0).then_some(job / 2);
        let worker = Worker::start("worker", bell.clone(), halves).expect("a thread");
        for job in 0..5 {
            worker.give(job).expect("it runs");
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            bell.sleep();
            while let Some(answer) = worker.take().expect("it runs") {
                seen.push(answer);
            }
        }
        assert_eq!(seen, [0, 1, 2]);
    });
}

#[test]
fn a_worker_ends_with_its_lane() {
    in_many_orders(|| {
        let (bell, ended) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let rings = RingsAtItsEnd(Arc::clone(&ended));
        let same = move |job: u64| {
            let _alive = &rings;
            Some(job)
        };
        let worker = Worker::start("worker", bell.clone(), same).expect("a thread");
        worker.give(1).expect("it runs");
        worker.give(2).expect("it runs");
        assert_eq!(worker.wait().expect("it runs"), 1);
        drop(worker);
        ended.sleep();
    });
}

#[test]
fn a_lane_hears_all_who_share_its_bell() {
    in_many_orders(|| {
        let bell = Arc::new(Bell::default());
        let (sender, messages) = to_lane(bell.clone());
        let worker = Worker::start("worker", bell.clone(), Some).expect("a thread");
        worker.give(9).expect("it runs");
        for name in [0, 10] {
            let sender = sender.clone();
            thread::spawn(move || (1..=2).for_each(|n| sender.send(name + n).expect("heard")));
        }
        let (mut heard, mut answered) = (Vec::new(), None);
        while heard.len() < 4 || answered.is_none() {
            bell.sleep();
            heard.extend(messages.try_iter());
            answered = answered.or(worker.take().expect("it runs"));
        }
        let of = |low| heard.iter().copied().filter(move |n| (low..low + 3).contains(n));
        assert!(of(1).eq([1, 2]) && of(11).eq([11, 12]), "each in its order: {heard:?}");
        assert_eq!(answered, Some(9));
    });
}

#[test]
fn a_stop_is_heard_by_a_lane_that_sleeps() {
    in_many_orders(|| {
        let (bell, watched) = (Arc::new(Bell::default()), Arc::new(Watched::default()));
        let (waker, asked) = (bell.clone(), Arc::clone(&watched));
        thread::spawn(move || asked.stop(&*waker));
        while !watched.is_stopping() {
            bell.sleep();
        }
    });
}

#[test]
fn a_lane_that_turns_is_alive_and_one_that_does_not_is_stuck() {
    in_many_orders(|| {
        let watched = Arc::new(Watched::default());
        let mut watchdog = Watchdog::new(Arc::clone(&watched));
        let (lane, (turned, turns)) = (Arc::clone(&watched), channel());
        thread::spawn(move || {
            for _ in 0..2 {
                lane.count_turn();
                turned.send(()).expect("it is heard");
            }
        });
        // Whatever else happens: with a turn since the look before, nobody is stuck.
        for _ in 1..STUCK_LOOKS {
            assert!(!watchdog.finds_it_stuck());
        }
        let alive = Arc::clone(&watched);
        let probe = thread::spawn(move || alive.is_alive());
        assert!(probe.join().expect("it looks"), "looks are too few by one");
        turns.iter().for_each(drop);
        watched.count_turn();
        assert!(!watchdog.finds_it_stuck());
        let stuck = (0..=STUCK_LOOKS).find(|_| watchdog.finds_it_stuck());
        assert_eq!(stuck, Some(STUCK_LOOKS), "the lane has turned for the last time");
        assert!(!watched.is_alive());
    });
}

/// A directory for one order, gone with it.
fn with_directory(scene: impl FnOnce(&Path)) {
    // In memory where there is such a place: nobody cuts the power of a scene.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(place).expect("a directory for the test");
    scene(directory.path());
}

/// Writes five frames, all of them asked for at once; `sync_micros` decides who writes the first.
fn frames_come_in_order(sync_micros: u64) {
    with_directory(|path| {
        let mut disk = FileDisk::new(path, WriteMode::WriteThenSync);
        let options = Options { segment_bytes: 64 << 10, ..Options::default() };
        let (log, _) = Log::recover(&mut disk, options, 7).expect("a blank directory is fine");
        let bell = Arc::new(Bell::default());
        let mut frames = Frames::new(log, disk, sync_micros, bell.clone()).expect("a thread");
        let mut written = Vec::new();
        for sequence in 1..=5 {
            frames.append(&batch(sequence)).expect("there is room");
            // The lane looks now and then while the writer is at it.
            frames.collect().expect("there is room");
            written.extend(std::iter::from_fn(|| frames.next_written()));
        }
        while written.len() < 5 {
            bell.sleep();
            frames.collect().expect("there is room");
            written.extend(std::iter::from_fn(|| frames.next_written()));
        }
        assert_eq!(written, [1, 2, 3, 4, 5]);
        frames.finish().expect("there is room");
    });
}

#[test]
fn frames_of_the_writer_thread_come_in_order() {
    in_drawn_orders(ORDERS_OF_FILES, || frames_come_in_order(1_000));
}

/// After the first frame the disk counts as quick, so that the lane would rather write itself: it
/// must not while the writer has one.
#[test]
fn frames_of_the_lane_wait_for_those_of_the_writer() {
    in_drawn_orders(ORDERS_OF_FILES, || frames_come_in_order(155));
}

/// The scenes can fail: a wake that comes before what it is about is found to be lost.
#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_that_comes_too_early_is_noticed() {
    in_many_orders(|| {
        let (bell, said) = (Arc::new(Bell::default()), Arc::new(AtomicU64::new(0)));
        let (waker, speaks) = (Arc::clone(&bell), Arc::clone(&said));
        thread::spawn(move || {
            waker.wake();
            thread::yield_now();
            speaks.store(1, Ordering::SeqCst);
        });
        while said.load(Ordering::SeqCst) == 0 {
            bell.sleep();
        }
    });
}
