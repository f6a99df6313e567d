//! The generator beside servers that answer as they are told.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::bench::histogram::Histogram;
use crate::bench::requests::Kind;
use crate::bench::sizes::Sizes;
use crate::bench::workload::{Mix, Workload};

fn connect(server: SocketAddr, connections: usize, pipeline: usize) -> Generator {
    let interrupted = Arc::new(AtomicBool::new(false));
    Generator::connect(&Load {
        servers: &[server],
        connections,
        pipeline,
        value_bytes_max: 100,
        protocol: Protocol::Redis,
        password: None,
        interrupted: &interrupted,
    })
    .expect("it listens")
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = listener.local_addr().expect("it is bound");
    (listener, server)
}

/// Serves one connection, a reply to each request, in replies cut into pieces. `before` is called
/// before each reply, with its number.
fn serve(
    listener: TcpListener,
    reply: &'static [u8],
    mut before: impl FnMut(u64) + Send + 'static,
) -> JoinHandle<u64> {
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        socket.set_nodelay(true).expect("it is open");
        let (mut unread, mut count) = (Vec::new(), 0);
        let mut input = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = socket.read(&mut input) {
            unread.extend_from_slice(&input[..read]);
            while let Ok(Some((_, taken))) = flotilla_resp::parse_value(&unread) {
                unread.drain(..taken);
                before(count);
                count += 1;
                for piece in reply.chunks(3) {
                    let _ = socket.write_all(piece);
                }
            }
        }
        count
    })
}

fn ignore(_: &Tally) {}

#[test]
fn every_reply_is_counted_once() {
    let (listener, server) = listen();
    let thread = serve(listener, b"+OK\r\n", |_| ());
    let mut generator = connect(server, 1, 16);
    let mut requests = Requests::fill(1_000, Sizes::of(100));
    let until = Until::Ended(320);
    let first = generator.run_closed(&mut requests, until, &mut ignore).expect("it replies");
    let until = Until::Ended(1_000 - first.answered);
    let second = generator.run_closed(&mut requests, until, &mut ignore).expect("it replies");
    assert_eq!(first.answered + second.answered, 1_000);
    assert_eq!((second.errors, second.nulls, second.unanswered), (0, 0, 0));
    let measured = first.latencies().count() + second.latencies().count();
    assert!((984..=1_000).contains(&measured), "{measured}");
    generator.finish().expect("nothing is open");
    assert_eq!(thread.join().expect("the server ends"), 1_000);
}

#[test]
fn errors_are_told_and_a_silent_server_does_not_hold_a_timed_run() {
    let (listener, server) = listen();
    let thread = serve(listener, b"-ERR no\r\n", |_| ());
    let mut generator = connect(server, 2, 1);
    let mut requests = Requests::random(10, Sizes::of(10), &Mix::of_share(0.0), 1);
    let until = Until::Elapsed(Duration::from_millis(50));
    let tally = generator.run_closed(&mut requests, until, &mut ignore);
    let tally = tally.expect("one connection replies");
    assert!(tally.errors > 0 && tally.answered == 0);
    let trouble = tally.first_trouble.expect("there was an error");
    assert!(trouble.ends_with("answered: ERR no"), "{trouble}");
    drop(generator);
    thread.join().expect("the server ends");
}

#[test]
fn a_server_that_leaves_is_told() {
    let (listener, server) = listen();
    let mut generator = connect(server, 1, 1);
    drop(listener);
    let mut requests = Requests::fill(1, Sizes::of(1));
    let outcome = generator.run_closed(&mut requests, Until::Ended(1), &mut ignore);
    let error = outcome.expect_err("nobody replies");
    assert!(error.to_string().contains("broke"), "{error}");
}

#[test]
fn a_modification_is_one_operation_of_two_requests() {
    let (listener, server) = listen();
    let thread = serve(listener, b"+OK\r\n", |_| ());
    let mut generator = connect(server, 1, 4);
    let mix = Mix { reads: 0.0, modifies: 1.0, ..Workload::YcsbF.mix() };
    let mut requests = Requests::random(10, Sizes::of(1), &mix, 1);
    let until = Until::Ended(100);
    let tally = generator.run_closed(&mut requests, until, &mut ignore).expect("it replies");
    assert_eq!((tally.answered, tally.latencies_of(Kind::Modify).count()), (100, 100));
    generator.finish().expect("the server replies");
    // The last batch was sent already when the run ended.
    let served = thread.join().expect("the server ends");
    assert_eq!(served % 8, 0, "both halves of four at a time: {served}");
    assert!((200..=208).contains(&served), "{served}");
}

#[test]
fn an_open_loop_asks_for_what_is_due_and_no_more() {
    let (listener, server) = listen();
    let thread = serve(listener, b"+OK\r\n", |_| ());
    let mut generator = connect(server, 1, 2);
    let mut requests = Requests::random(10, Sizes::of(1), &Mix::of_share(0.5), 1);
    let arrivals = Arrivals::counted(200, 2_000.0, 1);
    let tally = generator.run_open(&mut requests, arrivals, &mut ignore).expect("it replies");
    assert_eq!((tally.answered, tally.unanswered), (200, 0));
    assert_eq!(tally.latencies().count(), 200);
    assert_eq!(tally.service.as_ref().map(Histogram::count), Some(200));
    assert!(tally.elapsed >= Duration::from_millis(50), "{:?}", tally.elapsed);
    generator.finish().expect("nothing is open");
    assert_eq!(thread.join().expect("the server ends"), 200);
}

#[test]
fn an_open_loop_counts_what_a_stall_delays() {
    const STALL: Duration = Duration::from_millis(200);
    let (listener, server) = listen();
    let thread = serve(listener, b"+OK\r\n", |count| {
        if count == 50 {
            thread::sleep(STALL);
        }
    });
    let mut generator = connect(server, 1, 1);
    let mut requests = Requests::random(10, Sizes::of(1), &Mix::of_share(1.0), 1);
    let arrivals = Arrivals::within(Duration::from_millis(500), 1_000.0, 1);
    let tally = generator.run_open(&mut requests, arrivals, &mut ignore).expect("it replies");
    assert!(tally.longest_gap >= STALL);
    // One request met the stall; those that were due meanwhile have waited for its end.
    let latencies = tally.latencies();
    let half = latencies.count_above(STALL / 2);
    assert!(half > 50, "{half} of {} saw half of the stall", latencies.count());
    assert!(latencies.max() >= STALL);
    drop(generator);
    thread.join().expect("the server ends");
}

#[test]
fn an_open_loop_ends_without_a_server_that_can_not_keep_up() {
    let (listener, server) = listen();
    // It takes the first request only.
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        let mut input = [0; 1_024];
        while let Ok(1..) = socket.read(&mut input) {}
    });
    let mut generator = connect(server, 1, 1);
    let mut requests = Requests::random(10, Sizes::of(1), &Mix::of_share(1.0), 1);
    let arrivals = Arrivals::counted(100, 1_000.0, 1);
    let tally = generator.run_open(&mut requests, arrivals, &mut ignore).expect("it ends");
    assert_eq!((tally.answered, tally.unanswered), (0, 100));
    assert!(tally.latencies().quantile(0.0) >= DRAIN_MAX / 2);
    drop(generator);
    thread.join().expect("the server ends");
}
