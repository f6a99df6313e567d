//! Load on many connections from one thread, which sleeps while nothing is to be sent or read.
//!
//! In a **closed loop** each connection sends its requests, waits for all replies, and sends again.
//! A latency is the time from the moment before the requests are written to the moment after the
//! reply is read; so with a pipeline the later replies of a batch have waited for the earlier ones,
//! as they do for a client that pipelines. A closed loop hides waiting: while a server stalls,
//! nothing more is asked of it. The longest latencies are therefore those of few requests.
//!
//! In an **open loop** requests are due at moments that don't depend on the server. One that is due
//! goes to the next connection that may have another one open, or waits until there is one; its
//! latency counts from when it was due, so whatever a stall delays is counted ("coordinated
//! omission" is the name of the mistake not to do so [Tene 2015]).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::{Events, Poll, Token};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::arrivals::Arrivals;
use super::commands::Commands;
use super::connection::Connection;
use super::requests::Requests;
use super::tally::Tally;
use super::timer::Timer;
use super::wire::Protocol;

/// Servers that say nothing at all for so long are given up. A shard without a majority answers
/// with an error before.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// After the last request of an open loop was due, replies are waited for so long.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// In an open loop, whether to give up is asked at least so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A request that is due so soon is waited for without sleeping: to sleep takes longer.
const SOON: Duration = Duration::from_micros(20);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Sockets handled between two looks at the clock.
const EVENTS: usize = 1_024;
/// Files this process has open beside its connections, at most.
const OTHER_FILES: u64 = 64;
/// The token of the timer: no connection has so high a number.
const TIMER: Token = Token(usize::MAX - 1);

/// When a closed loop stops.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After at least so many operations have ended.
    Ended(u64),
}

/// Where and how the load is put.
#[derive(Clone, Debug)]
pub(crate) struct Load<'a> {
    /// Connections go to one after the other, and again to the first.
    pub(crate) servers: &'a [SocketAddr],
    pub(crate) connections: usize,
    /// How many requests may be open on a connection.
    pub(crate) pipeline: usize,
    /// Of the largest value.
    pub(crate) value_bytes_max: usize,
    pub(crate) protocol: Protocol,
    /// What servers want to hear first.
    pub(crate) password: Option<&'a str>,
    /// Ends every run.
    pub(crate) interrupted: &'a Arc<AtomicBool>,
}

/// Connections under load.
#[derive(Debug)]
pub(crate) struct Generator {
    poll: Poll,
    events: Events,
    timer: Timer,
    /// `None` where a connection broke.
    connections: Vec<Option<Connection>>,
    /// Connections that something came from in the last turn.
    heard: Vec<usize>,
    pipeline: usize,
    commands: Commands,
    input: Vec<u8>,
    interrupted: Arc<AtomicBool>,
}

/// Is told, often, what has come back so far.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&Tally);

impl Generator {
    /// Connects.
    pub(crate) fn connect(load: &Load<'_>) -> anyhow::Result<Self> {
        raise_file_limit(load.connections);
        let poll = Poll::new()?;
        let timer = Timer::new(&poll, TIMER)?;
        let servers = load.servers.iter().cycle().take(load.connections);
        let connections = servers
            .enumerate()
            .map(|(at, &server)| {
                Connection::open(server, (load.protocol, load.password), at, &poll).map(Some)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            timer,
            connections,
            heard: Vec::new(),
            pipeline: load.pipeline,
            commands: Commands::new(load.value_bytes_max),
            input: vec![0; READ_BYTES],
            interrupted: Arc::clone(load.interrupted),
        })
    }

    /// Keeps all connections busy. At the end requests are still unanswered: the next run takes
    /// their replies, or [`Self::finish`] does.
    ///
    /// Fails if no connection is left, if the servers fall silent, or on a signal.
    pub(crate) fn run_closed(
        &mut self,
        requests: &mut Requests,
        until: Until,
        watch: Watch<'_>,
    ) -> anyhow::Result<Tally> {
        let start = Instant::now();
        let mut tally = Tally::new(start, false);
        for slot in &mut self.connections {
            attend(slot, &mut tally, |connection, _| {
                connection.refill(requests, &self.commands, self.pipeline)
            });
        }
        loop {
            let rest = match until {
                Until::Elapsed(whole) => whole.saturating_sub(start.elapsed()),
                Until::Ended(count) if tally.ended() >= count => Duration::ZERO,
                Until::Ended(_) => SILENCE_MAX,
            };
            if rest.is_zero() {
                tally.finish();
                return Ok(tally);
            }
            let is_silent = !self.turn(rest.min(SILENCE_MAX), &mut tally, Some(&mut *requests))?;
            if is_silent && rest >= SILENCE_MAX {
                bail!("no reply for {} seconds", SILENCE_MAX.as_secs());
            }
            watch(&tally);
        }
    }

    /// Sends each operation when it is due, as far as connections may have another one open. Ends
    /// when all have ended, or some time after the last was due: what is still open then counts as
    /// unanswered.
    ///
    /// Fails if no connection is left, or on a signal.
    pub(crate) fn run_open(
        &mut self,
        requests: &mut Requests,
        mut arrivals: Arrivals,
        watch: Watch<'_>,
    ) -> anyhow::Result<Tally> {
        let start = Instant::now();
        let give_up = arrivals.duration() + DRAIN_MAX;
        let mut tally = Tally::new(start, true);
        let mut free = Free::all(&self.connections, self.pipeline);
        loop {
            self.send_due(requests, &mut arrivals, &mut free, &mut tally);
            let next = arrivals.due();
            let elapsed = start.elapsed();
            if elapsed > give_up || (next.is_none() && self.is_idle()) {
                break;
            }
            let wait = match next.filter(|_| !free.queue.is_empty()) {
                None => LOOK_EVERY,
                Some(due) => match due.saturating_sub(elapsed) {
                    rest if rest < SOON => Duration::ZERO,
                    rest => {
                        self.timer.set(rest)?;
                        LOOK_EVERY
                    }
                },
            };
            self.turn(wait, &mut tally, None)?;
            for &at in &self.heard {
                free.offer(at, self.connections[at].as_ref());
            }
            watch(&tally);
        }
        self.abandon(requests, &mut arrivals, &mut tally);
        tally.finish();
        Ok(tally)
    }

    /// Waits for the replies that are due, and ends all connections.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let mut tally = Tally::new(Instant::now(), false);
        while !self.is_idle() {
            if !self.turn(SILENCE_MAX, &mut tally, None)? {
                bail!("no reply for {} seconds", SILENCE_MAX.as_secs());
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.connections.iter().flatten().all(|connection| connection.pending().is_empty())
    }

    /// Sends what is due, as far as connections are free.
    fn send_due(
        &mut self,
        requests: &mut Requests,
        arrivals: &mut Arrivals,
        free: &mut Free,
        tally: &mut Tally,
    ) {
        let Self { connections, commands, heard, .. } = self;
        heard.clear();
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(tally.start());
        while let Some(due) = arrivals.due().filter(|due| *due <= elapsed) {
            let Some(at) = free.take() else { break };
            let Some(connection) = &mut connections[at] else { continue };
            let Some(operation) = requests.next() else { break };
            arrivals.advance();
            connection.ask(operation, commands, tally.start() + due, now);
            free.offer(at, Some(connection));
            heard.push(at);
        }
        for &at in heard.iter() {
            attend(&mut connections[at], tally, |connection, _| connection.flush());
        }
    }

    /// Counts what has not ended, and what was due but never sent.
    fn abandon(&self, requests: &mut Requests, arrivals: &mut Arrivals, tally: &mut Tally) {
        let now = Instant::now();
        for open in self.connections.iter().flatten().flat_map(Connection::pending) {
            tally.count_unanswered(open.kind, open.due, now);
        }
        while let Some((due, operation)) = arrivals.due().zip(requests.next()) {
            arrivals.advance();
            tally.count_unanswered(operation.kind, tally.start() + due, now);
        }
    }

    /// Waits until something arrives, takes it, and answers it with new requests if there are any;
    /// says whether there was anything.
    fn turn(
        &mut self,
        wait: Duration,
        tally: &mut Tally,
        mut requests: Option<&mut Requests>,
    ) -> anyhow::Result<bool> {
        if self.connections.iter().all(Option::is_none) {
            let trouble = tally.first_trouble.take().unwrap_or_default();
            bail!("all connections broke: {trouble}");
        }
        self.heard.clear();
        let polled = self.poll.poll(&mut self.events, Some(wait));
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            outcome => outcome.context("can't wait for replies")?,
        }
        let Self { connections, commands, input, heard, pipeline, .. } = self;
        for event in self.events.iter().filter(|event| event.token() != TIMER) {
            let at = event.token().0;
            attend(&mut connections[at], tally, |connection, tally| {
                if event.is_writable() {
                    connection.flush()?;
                }
                connection.receive(input, commands, tally)?;
                match &mut requests {
                    Some(requests) => connection.refill(requests, commands, *pipeline),
                    None => Ok(()),
                }
            });
            heard.push(at);
        }
        Ok(!self.events.is_empty())
    }
}

/// Connections that may have another request open, the one that has been so for longest first.
#[derive(Debug)]
struct Free {
    queue: VecDeque<usize>,
    is_queued: Vec<bool>,
    pipeline: usize,
}

impl Free {
    fn all(connections: &[Option<Connection>], pipeline: usize) -> Self {
        let is_queued = vec![false; connections.len()];
        let mut free = Self { queue: VecDeque::new(), is_queued, pipeline };
        for (at, connection) in connections.iter().enumerate() {
            free.offer(at, connection.as_ref());
        }
        free
    }

    /// Remembers this one if it may have another request open.
    fn offer(&mut self, at: usize, connection: Option<&Connection>) {
        let has_room = connection.is_some_and(|one| one.pending().len() < self.pipeline);
        if has_room && !self.is_queued[at] {
            self.is_queued[at] = true;
            self.queue.push_back(at);
        }
    }

    fn take(&mut self) -> Option<usize> {
        let at = self.queue.pop_front()?;
        self.is_queued[at] = false;
        Some(at)
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
        let server = connection.server();
        tally.tell_trouble(|| format!("the connection to {server} broke: {error}"));
        tally.broken += 1;
        tally.unanswered += connection.pending().len() as u64;
        *slot = None;
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
mod tests;
