//! A closed loop: each connection sends its requests, waits for all replies, and sends again.
//!
//! All connections are on the caller's thread, which sleeps while no reply comes. A latency is the
//! time from the moment before the requests are written to the moment after the reply is read; so
//! with a pipeline the later replies of a batch have waited for the earlier ones, as they do for a
//! client that pipelines.
//!
//! A closed loop hides waiting: while a server stalls, nothing more is asked of it. The longest
//! latencies are therefore those of few requests.
//!
//! # Invariants
//!
//! - `unanswered` counts the requests whose bytes were handed to the socket or wait in `unsent`.
//! - A socket is read until a read comes back short, which leaves nothing to be read: events are
//!   told once, when something arrives [epoll(7)].

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::histogram::Histogram;
use super::replies::{NoReply, Replies, Reply};
use super::requests::Requests;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Servers that say nothing at all for so long are given up. A shard without a majority answers
/// with an error before.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Sockets handled between two looks at the clock.
const EVENTS: usize = 1_024;
/// Files this process has open beside its connections, at most.
const OTHER_FILES: u64 = 64;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After at least so many replies.
    Replies(u64),
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Replies that are no errors.
    pub(crate) answered: u64,
    /// Those of them that said that there is no value.
    pub(crate) nulls: u64,
    /// Replies that are errors.
    pub(crate) errors: u64,
    /// Connections that broke.
    pub(crate) broken: u64,
    /// What the first error or broken connection was.
    pub(crate) first_trouble: Option<String>,
    /// Of requests sent after the start.
    pub(crate) latencies: Histogram,
    /// From start to end.
    pub(crate) elapsed: Duration,
}

impl Tally {
    fn replies(&self) -> u64 {
        self.answered + self.errors
    }
}

/// Connections under load.
#[derive(Debug)]
pub(crate) struct Generator {
    poll: Poll,
    events: Events,
    /// `None` where a connection broke.
    connections: Vec<Option<Connection>>,
    pipeline: usize,
    input: Vec<u8>,
    interrupted: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    server: SocketAddr,
    replies: Replies,
    unsent: Vec<u8>,
    unanswered: usize,
    sent_at: Instant,
}

impl Generator {
    /// Connects, each connection to the next server in turn. The flag ends every run.
    pub(crate) fn connect(
        servers: &[SocketAddr],
        connections: usize,
        pipeline: usize,
        interrupted: &Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        raise_file_limit(connections);
        let poll = Poll::new()?;
        let servers = servers.iter().cycle().take(connections);
        let connections = servers
            .enumerate()
            .map(|(at, &server)| Connection::open(server, at, &poll).map(Some))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            connections,
            pipeline,
            input: vec![0; READ_BYTES],
            interrupted: Arc::clone(interrupted),
        })
    }

    /// Keeps all connections busy. At the end requests are still unanswered: the next run takes
    /// their replies, or [`Self::finish`] does.
    ///
    /// Fails if no connection is left, if the servers fall silent, or on a signal.
    pub(crate) fn run(&mut self, requests: &mut Requests, until: Until) -> anyhow::Result<Tally> {
        let start = Instant::now();
        let mut tally = Tally::default();
        for slot in &mut self.connections {
            attend(slot, &mut tally, |connection, _| match connection.unanswered {
                0 => connection.send(requests, self.pipeline),
                _ => Ok(()),
            });
        }
        loop {
            let rest = match until {
                Until::Elapsed(whole) => whole.saturating_sub(start.elapsed()),
                Until::Replies(count) if tally.replies() >= count => Duration::ZERO,
                Until::Replies(_) => SILENCE_MAX,
            };
            if rest.is_zero() {
                tally.elapsed = start.elapsed();
                return Ok(tally);
            }
            self.turn(rest, start, &mut tally, Some(&mut *requests))?;
        }
    }

    /// Waits for the replies that are due, and ends all connections.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let mut tally = Tally::default();
        while self.connections.iter().flatten().any(|connection| connection.unanswered > 0) {
            self.turn(SILENCE_MAX, Instant::now(), &mut tally, None)?;
        }
        Ok(())
    }

    /// Waits until something arrives, takes it, and answers it with new requests if there are any.
    fn turn(
        &mut self,
        wait: Duration,
        start: Instant,
        tally: &mut Tally,
        mut requests: Option<&mut Requests>,
    ) -> anyhow::Result<()> {
        if self.connections.iter().all(Option::is_none) {
            let trouble = tally.first_trouble.take().unwrap_or_default();
            bail!("all connections broke: {trouble}");
        }
        let polled = self.poll.poll(&mut self.events, Some(wait.min(SILENCE_MAX)));
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.context("can't wait for replies")?,
        }
        if self.events.is_empty() && wait >= SILENCE_MAX {
            bail!("no reply for {} seconds", SILENCE_MAX.as_secs());
        }
        for event in &self.events {
            attend(&mut self.connections[event.token().0], tally, |connection, tally| {
                if event.is_writable() {
                    connection.flush()?;
                }
                connection.receive(
                    &mut self.input,
                    start,
                    tally,
                    |connection| match &mut requests {
                        Some(requests) => connection.send(requests, self.pipeline),
                        None => Ok(()),
                    },
                )
            });
        }
        Ok(())
    }
}

/// Does something with a connection; what fails breaks it.
fn attend(
    slot: &mut Option<Connection>,
    tally: &mut Tally,
    act: impl FnOnce(&mut Connection, &mut Tally) -> io::Result<()>,
) {
    let Some(connection) = slot else { return };
    if let Err(error) = act(connection, tally) {
        let trouble = format!("the connection to {} broke: {error}", connection.server);
        tally.first_trouble.get_or_insert(trouble);
        tally.broken += 1;
        *slot = None;
    }
}

impl Connection {
    fn open(server: SocketAddr, at: usize, poll: &Poll) -> anyhow::Result<Self> {
        let socket = std::net::TcpStream::connect_timeout(&server, CONNECT_TIMEOUT)
            .with_context(|| format!("connection {} to {server}", at + 1))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(at), interest)?;
        Ok(Self {
            socket,
            server,
            replies: Replies::default(),
            unsent: Vec::new(),
            unanswered: 0,
            sent_at: Instant::now(),
        })
    }

    /// Sends so many requests, or as many as there are.
    fn send(&mut self, requests: &mut Requests, count: usize) -> io::Result<()> {
        self.sent_at = Instant::now();
        while self.unanswered < count && requests.append_next(&mut self.unsent) {
            self.unanswered += 1;
        }
        self.flush()
    }

    /// Writes what the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) if written == self.unsent.len() => self.unsent.clear(),
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all there is, and lets `on_idle` send once nothing is unanswered.
    fn receive(
        &mut self,
        input: &mut [u8],
        start: Instant,
        tally: &mut Tally,
        mut on_idle: impl FnMut(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let read = match self.socket.read(input) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let was_busy = self.unanswered > 0;
            self.count(&input[..read], start, tally)?;
            if was_busy && self.unanswered == 0 {
                on_idle(self)?;
            }
            if read < input.len() {
                return Ok(());
            }
        }
    }

    fn count(&mut self, bytes: &[u8], start: Instant, tally: &mut Tally) -> io::Result<()> {
        let latency = self.sent_at.elapsed();
        let mut replies: usize = 0;
        let fed = self.replies.feed(bytes, |reply| {
            replies += 1;
            match reply {
                Reply::Value => tally.answered += 1,
                Reply::Null => {
                    tally.answered += 1;
                    tally.nulls += 1;
                }
                Reply::Error(text) => {
                    tally.errors += 1;
                    tally.first_trouble.get_or_insert_with(|| {
                        format!("{} answered: {}", self.server, String::from_utf8_lossy(text))
                    });
                }
            }
        });
        let unasked = self.unanswered < replies;
        if fed.is_err() || unasked {
            return Err(io::Error::new(ErrorKind::InvalidData, NoReply.to_string()));
        }
        self.unanswered -= replies;
        // What was sent before the start has waited for whoever kept the start waiting.
        if self.sent_at >= start && replies > 0 {
            tally.latencies.record(latency, replies as u64);
        }
        Ok(())
    }
}

/// Asks for as many open files as the connections need, as far as the system allows it; where it
/// does not, connecting fails and says so.
fn raise_file_limit(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHER_FILES;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn connect(server: SocketAddr, connections: usize, pipeline: usize) -> Generator {
        let interrupted = Arc::new(AtomicBool::new(false));
        Generator::connect(&[server], connections, pipeline, &interrupted).expect("it listens")
    }

    /// Serves one connection, a reply per line end of a request, in replies cut into pieces.
    fn serve(listener: &TcpListener, reply: &[u8]) {
        let (mut socket, _) = listener.accept().expect("a connection");
        socket.set_nodelay(true).expect("it is open");
        let mut lines = 0;
        let mut input = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = socket.read(&mut input) {
            lines += input[..read].split(|&byte| byte == b'\n').count() - 1;
            // A SET has seven lines.
            let replies = reply.repeat(lines / 7);
            lines %= 7;
            for piece in replies.chunks(5) {
                let _ = socket.write_all(piece);
            }
        }
    }

    #[test]
    fn every_reply_is_counted_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("it is bound");
        let thread = thread::spawn(move || serve(&listener, b"+OK\r\n"));
        let mut generator = connect(server, 1, 16);
        let mut requests = Requests::fill(1_000, 100);
        let first = generator.run(&mut requests, Until::Replies(320)).expect("it replies");
        let rest = 1_000 - first.answered;
        let second = generator.run(&mut requests, Until::Replies(rest)).expect("it replies");
        assert_eq!((second.answered, second.errors, second.nulls), (rest, 0, 0));
        assert!((984..=1_000).contains(&(first.latencies.count() + second.latencies.count())));
        generator.finish().expect("nothing is open");
        thread.join().expect("the server ends");
    }

    #[test]
    fn errors_are_told_and_a_silent_server_does_not_hold_a_timed_run() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("it is bound");
        let thread = thread::spawn(move || serve(&listener, b"-ERR no\r\n"));
        let mut generator = connect(server, 2, 1);
        let mut requests = Requests::random(10, 10, 0.0, 1);
        let until = Until::Elapsed(Duration::from_millis(50));
        let tally = generator.run(&mut requests, until).expect("one connection replies");
        assert!(tally.errors > 0 && tally.answered == 0);
        let trouble = tally.first_trouble.expect("there was an error");
        assert!(trouble.ends_with("answered: ERR no"), "{trouble}");
        drop(generator);
        thread.join().expect("the server ends");
    }

    #[test]
    fn a_server_that_leaves_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("it is bound");
        let mut generator = connect(server, 1, 1);
        drop(listener);
        let mut requests = Requests::fill(1, 1);
        let error = generator.run(&mut requests, Until::Replies(1)).expect_err("nobody replies");
        assert!(error.to_string().contains("broke"), "{error}");
    }
}
