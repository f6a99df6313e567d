//! All sockets of a lane: accepting, dialling, reading, writing and closing without waiting.
//!
//! Readiness is edge-triggered: what a socket was ready for is remembered here until the system
//! says "not now". Invariants: a connection is in `numbers` exactly while the node knows it; one
//! that may be read from and is not blocked is in one of the two `ready` lists; one with unsent
//! bytes is in `dirty` or waits for its socket to become writable.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_node::{ConnId, Event, Face};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::connection::{
    Connection, FLUSH_TIMEOUT, HALF_CLOSED_QUIET, HALF_CLOSED_TIMEOUT, Kind, Phase,
};
use crate::console::{Level, say};

/// The one buffer that all sockets are read into, bytes.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// At most so much is read from one connection a turn, bytes.
const READ_PER_TURN_BYTES: usize = 256 << 10;
/// A client with more unsent than this is not read from, bytes.
const CLIENT_UNSENT_PAUSE_BYTES: usize = 1 << 20;
/// A client with more unsent than this is closed, bytes.
const CLIENT_UNSENT_CLOSE_BYTES: usize = 256 << 20;
/// Links between nodes have no limit, but an operator hears of one with more than this, bytes.
const PEER_UNSENT_WARNING_BYTES: usize = 256 << 20;
/// Events taken from the system at once.
const EVENTS: usize = 1_024;
/// After the system refused to accept (out of descriptors), the next attempt comes so much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What a client beyond the limit is told.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
/// Links between nodes begin with this byte, which no command can begin with.
const PEER_PREFACE_START: u8 = 0xF1;

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;
const FIRST_CONNECTION: usize = 16;

/// All sockets of a lane.
#[derive(Debug)]
pub(crate) struct Network {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    listeners: Vec<Listener>,
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    numbers: HashMap<ConnId, usize>,
    ready_peers: Vec<usize>,
    ready_clients: Vec<usize>,
    dirty: Vec<usize>,
    /// Places with a deadline; some may have lost it.
    timed: Vec<usize>,
    /// What happened while outputs were carried out.
    news: VecDeque<Event<'static>>,
    buffer: Box<[u8]>,
    accepted: u64,
    accepted_open: usize,
    accepted_max: usize,
    /// Another thread has something for the lane.
    woken: bool,
    /// Clients are not read from any more.
    stopping: bool,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    face: Face,
    ready: bool,
    retry_at: Option<Instant>,
}

impl Network {
    /// Sockets for at most `accepted_max` accepted connections.
    pub(crate) fn new(accepted_max: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            waker,
            listeners: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            numbers: HashMap::new(),
            ready_peers: Vec::new(),
            ready_clients: Vec::new(),
            dirty: Vec::new(),
            timed: Vec::new(),
            news: VecDeque::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            accepted: 0,
            accepted_open: 0,
            accepted_max,
            woken: false,
            stopping: false,
        })
    }

    /// Ends the wait of [`Network::poll`] from other threads.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Accepts connections on a port.
    pub(crate) fn listen(&mut self, socket: std::net::TcpListener, face: Face) -> io::Result<()> {
        let mut socket = TcpListener::from_std(socket);
        let token = Token(FIRST_LISTENER + self.listeners.len());
        assert!(token.0 < FIRST_CONNECTION, "a lane has few listeners");
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener { socket, face, ready: true, retry_at: None });
        Ok(())
    }

    /// Accepts no more, and reads no more from clients.
    pub(crate) fn stop_listening(&mut self) {
        self.listeners.clear();
        self.ready_clients.clear();
        self.stopping = true;
    }

    /// Whether a client has asked something and heard nothing since, or not all of it has left.
    pub(crate) fn owes_answers(&self) -> bool {
        self.places.iter().flatten().any(|connection| {
            connection.kind == Kind::Client
                && (connection.unanswered || !connection.outbox.is_empty())
        })
    }

    /// Looks which sockets are ready, and waits up to `timeout` until one is.
    pub(crate) fn poll(&mut self, timeout: Duration) -> io::Result<()> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKER => self.woken = true,
                Token(token) if token < FIRST_CONNECTION => {
                    if let Some(listener) = self.listeners.get_mut(token - FIRST_LISTENER) {
                        listener.ready = true;
                    }
                }
                Token(token) => self.on_ready(token - FIRST_CONNECTION, event),
            }
        }
        self.events = events;
        Ok(())
    }

    /// Whether there is something to do without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        self.woken
            || !self.ready_peers.is_empty()
            || !self.ready_clients.is_empty()
            || !self.news.is_empty()
            || self.listeners.iter().any(|listener| listener.ready)
    }

    /// Whether something of a node's is to be read.
    pub(crate) fn peers_ready(&self) -> bool {
        !self.ready_peers.is_empty()
    }

    /// When something is to be done even if no socket becomes ready.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let retries = self.listeners.iter().filter_map(|listener| listener.retry_at);
        let phases = self.timed.iter().filter_map(|&at| self.places[at].as_ref()?.deadline);
        retries.chain(phases).min()
    }

    fn on_ready(&mut self, at: usize, event: &mio::event::Event) {
        let Some(connection) = self.places.get_mut(at).and_then(Option::as_mut) else { return };
        if connection.phase == Phase::Dialing {
            return self.on_dial_progress(at);
        }
        connection.read_closed |= event.is_read_closed() || event.is_error();
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.readable = true;
        }
        if event.is_writable() && !connection.outbox.is_empty() && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(at);
        }
        let blocked = self.is_blocked(at);
        if blocked && (event.is_error() || event.is_write_closed()) {
            return self.on_broken(at);
        }
        self.queue(at);
    }

    /// Whether a connection is not to be read from for now.
    fn is_blocked(&self, at: usize) -> bool {
        self.places[at].as_ref().is_some_and(|connection| {
            let client = connection.kind != Kind::Peer;
            connection.paused
                || (client && self.stopping)
                || (client && connection.outbox.len() > CLIENT_UNSENT_PAUSE_BYTES)
                || connection.phase == Phase::HalfClosed
        })
    }

    /// Puts a connection into its list of those to read from, unless it is blocked.
    fn queue(&mut self, at: usize) {
        let blocked = self.is_blocked(at);
        let Some(connection) = self.places[at].as_mut() else { return };
        let client = connection.kind != Kind::Peer;
        if connection.readable && !connection.queued && !blocked {
            connection.queued = true;
            if client { &mut self.ready_clients } else { &mut self.ready_peers }.push(at);
        }
    }

    /// Frees a place; the socket closes. A place that is still in a list is skipped there.
    fn remove(&mut self, at: usize) {
        let Some(connection) = self.places[at].take() else { return };
        self.numbers.remove(&connection.id);
        if connection.id < ConnId::FIRST_DIALED {
            self.accepted_open -= 1;
        }
        self.timed.retain(|&timed| timed != at);
        if connection.queued {
            self.ready_peers.retain(|&ready| ready != at);
            self.ready_clients.retain(|&ready| ready != at);
        }
        if connection.dirty {
            self.dirty.retain(|&dirty| dirty != at);
        }
        self.free.push(at);
    }

    fn insert(&mut self, mut connection: Connection) -> io::Result<usize> {
        let at = self.free.last().copied().unwrap_or(self.places.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(FIRST_CONNECTION + at);
        self.poll.registry().register(&mut connection.socket, token, interest)?;
        if at == self.places.len() {
            self.places.push(None);
        } else {
            self.free.pop();
        }
        if connection.deadline.is_some() {
            self.timed.push(at);
        }
        self.numbers.insert(connection.id, at);
        self.places[at] = Some(connection);
        Ok(at)
    }

    fn set_deadline(&mut self, at: usize, deadline: Instant) {
        let Some(connection) = self.places[at].as_mut() else { return };
        if connection.deadline.replace(deadline).is_none() {
            self.timed.push(at);
        }
    }
}

/// Inputs: what sockets have for the node.
impl Network {
    /// Gives the node everything at hand: news, nodes' sockets first, then new connections, then
    /// clients' sockets.
    pub(crate) fn deliver(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        self.woken = false;
        self.fire_deadlines();
        self.deliver_news(sink);
        let ready = std::mem::take(&mut self.ready_peers);
        self.read_all(ready, sink);
        self.accept_all(sink);
        let ready = std::mem::take(&mut self.ready_clients);
        self.read_all(ready, sink);
        self.deliver_news(sink);
    }

    /// Gives the node what happened while its outputs were carried out; says whether any did.
    pub(crate) fn deliver_news(&mut self, sink: &mut impl FnMut(Event<'_>)) -> bool {
        let any = !self.news.is_empty();
        while let Some(event) = self.news.pop_front() {
            sink(event);
        }
        any
    }

    fn read_all(&mut self, ready: Vec<usize>, sink: &mut impl FnMut(Event<'_>)) {
        for at in ready {
            if let Some(connection) = self.places[at].as_mut()
                && connection.queued
            {
                connection.queued = false;
                self.read(at, sink);
                self.queue(at);
            }
        }
    }

    fn read(&mut self, at: usize, sink: &mut impl FnMut(Event<'_>)) {
        let mut left = READ_PER_TURN_BYTES;
        while left > 0 {
            let Some(connection) = self.places[at].as_mut() else { return };
            match connection.socket.read(&mut self.buffer) {
                Ok(0) => return self.on_end(at),
                Ok(count) => {
                    left = left.saturating_sub(count);
                    let bytes = &self.buffer[..count];
                    if connection.phase == Phase::Open {
                        if connection.kind == Kind::Unknown {
                            connection.kind = recognise(bytes);
                        }
                        connection.unanswered = true;
                        sink(Event::Received { conn: connection.id, bytes });
                    }
                    // A short read empties the socket, and what comes later is another event.
                    if count < READ_BUFFER_BYTES && !connection.read_closed {
                        connection.readable = false;
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.readable = false;
                    return;
                }
                Err(_) => return self.on_broken(at),
            }
        }
    }

    /// The other side sends no more. A node, or a client with nothing to wait for, is gone; a
    /// client that has just asked something may still listen (`printf … | nc -N`).
    fn on_end(&mut self, at: usize) {
        let Some(connection) = self.places[at].as_mut() else { return };
        connection.readable = false;
        match connection.phase {
            Phase::Open if connection.kind != Kind::Peer && connection.unanswered => {
                connection.phase = Phase::HalfClosed;
                self.set_deadline(at, Instant::now() + HALF_CLOSED_TIMEOUT);
            }
            Phase::Flushing if !connection.outbox.is_empty() => {}
            _ => self.on_broken(at),
        }
    }

    /// The connection is gone; the node is told if it knows it.
    fn on_broken(&mut self, at: usize) {
        let Some(connection) = self.places[at].as_ref() else { return };
        match connection.phase {
            Phase::Dialing => {
                self.news.push_back(Event::Dialed { conn: connection.id, connected: false });
            }
            Phase::Open | Phase::HalfClosed => {
                self.news.push_back(Event::Closed { conn: connection.id });
            }
            Phase::Flushing | Phase::Goodbye => {}
        }
        self.remove(at);
    }

    fn on_dial_progress(&mut self, at: usize) {
        let Some(connection) = self.places[at].as_mut() else { return };
        match connection.dial_outcome() {
            None => {}
            Some(false) => self.on_broken(at),
            Some(true) => {
                connection.phase = Phase::Open;
                connection.deadline = None;
                connection.readable = true;
                let _ = connection.socket.set_nodelay(true);
                self.news.push_back(Event::Dialed { conn: connection.id, connected: true });
                self.timed.retain(|&timed| timed != at);
                self.queue(at);
            }
        }
    }

    fn accept_all(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let now = Instant::now();
        for listener in 0..self.listeners.len() {
            let due = self.listeners[listener].retry_at.is_some_and(|retry_at| retry_at <= now);
            if due {
                self.listeners[listener].retry_at = None;
            }
            if due || std::mem::take(&mut self.listeners[listener].ready) {
                self.accept(listener, sink);
            }
        }
    }

    fn accept(&mut self, listener: usize, sink: &mut impl FnMut(Event<'_>)) {
        loop {
            match self.listeners[listener].socket.accept() {
                Ok((socket, remote)) => self.on_accepted(listener, socket, remote, sink),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    say(Level::Warning, format_args!("can't accept a connection: {error}"));
                    self.listeners[listener].retry_at = Some(Instant::now() + ACCEPT_RETRY);
                    return;
                }
            }
        }
    }

    fn on_accepted(
        &mut self,
        listener: usize,
        mut socket: TcpStream,
        remote: SocketAddr,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        if self.accepted_open >= self.accepted_max {
            let _ = io::Write::write(&mut socket, TOO_MANY_CLIENTS);
            return;
        }
        let Ok(local) = socket.local_addr() else { return };
        let _ = socket.set_nodelay(true);
        let conn = ConnId(self.accepted + 1);
        let Ok(at) = self.insert(Connection::accepted(conn, socket)) else { return };
        self.accepted += 1;
        self.accepted_open += 1;
        let face = self.listeners[listener].face;
        sink(Event::Accepted { conn, face, remote: remote.to_string(), local: local.to_string() });
        // The bytes are often there already, and the system reports them only at the next look.
        if let Some(connection) = self.places[at].as_mut() {
            connection.readable = true;
        }
        self.queue(at);
    }

    fn fire_deadlines(&mut self) {
        if self.timed.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = |at: &usize| {
            self.places[*at]
                .as_ref()
                .is_some_and(|connection| connection.deadline.is_some_and(|at| at <= now))
        };
        for at in self.timed.iter().copied().filter(due).collect::<Vec<_>>() {
            self.on_broken(at);
        }
    }
}

/// Outputs: what the node wants of the sockets.
impl Network {
    /// Queues bytes; they leave at the next [`Network::flush`].
    pub(crate) fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let Some(&at) = self.numbers.get(&conn) else { return };
        let Some(connection) = self.places[at].as_mut() else { return };
        let before = connection.outbox.len();
        connection.outbox.push(bytes);
        let limit = PEER_UNSENT_WARNING_BYTES;
        if connection.kind == Kind::Peer && before <= limit && connection.outbox.len() > limit {
            say(
                Level::Warning,
                format_args!("a node does not keep up: {limit} bytes wait to leave for it"),
            );
        }
        connection.unanswered = false;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(at);
        }
        if connection.phase == Phase::HalfClosed {
            self.set_deadline(at, Instant::now() + HALF_CLOSED_QUIET);
        }
    }

    /// Writes what was queued, as far as the sockets take it.
    pub(crate) fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for at in dirty {
            if let Some(connection) = self.places[at].as_mut()
                && connection.dirty
            {
                connection.dirty = false;
                self.write(at);
            }
        }
    }

    fn write(&mut self, at: usize) {
        let Some(connection) = self.places[at].as_mut() else { return };
        if connection.phase == Phase::Dialing {
            return;
        }
        let result = connection.outbox.write_to(&mut connection.socket);
        let unsent = connection.outbox.len();
        let client = connection.kind != Kind::Peer;
        if result.is_err() {
            self.on_broken(at);
        } else if client && unsent > CLIENT_UNSENT_CLOSE_BYTES {
            say(
                Level::Warning,
                format_args!(
                    "closing a client that does not read its replies: {unsent} bytes are unsent, \
                     the limit is {CLIENT_UNSENT_CLOSE_BYTES}"
                ),
            );
            self.on_broken(at);
        } else if unsent == 0 && connection.phase == Phase::Flushing {
            connection.say_goodbye();
        } else {
            self.queue(at);
        }
    }

    /// Closes a connection once everything queued has left; the node hears no more of it.
    pub(crate) fn close(&mut self, conn: ConnId) {
        let Some(at) = self.numbers.remove(&conn) else { return self.drop_news(conn) };
        let Some(connection) = self.places[at].as_mut() else { return };
        if matches!(connection.phase, Phase::Dialing | Phase::HalfClosed)
            && connection.outbox.is_empty()
        {
            return self.remove(at);
        }
        connection.phase = Phase::Flushing;
        connection.paused = false;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(at);
        }
        self.set_deadline(at, Instant::now() + FLUSH_TIMEOUT);
        self.queue(at);
    }

    /// The node closed what it was about to be told the end of.
    fn drop_news(&mut self, closed: ConnId) {
        self.news.retain(|event| match event {
            Event::Closed { conn } | Event::Dialed { conn, .. } => *conn != closed,
            _ => true,
        });
    }

    /// Queues an event that follows from an output.
    pub(crate) fn tell(&mut self, event: Event<'static>) {
        self.news.push_back(event);
    }

    /// Stops (or goes on) reading from a connection.
    pub(crate) fn set_paused(&mut self, conn: ConnId, paused: bool) {
        let Some(&at) = self.numbers.get(&conn) else { return };
        if let Some(connection) = self.places[at].as_mut() {
            connection.paused = paused;
        }
        self.queue(at);
    }

    /// Begins to connect; the outcome is news.
    pub(crate) fn dial(&mut self, conn: ConnId, address: &str) {
        let dialed = address
            .parse::<SocketAddr>()
            .map_err(io::Error::other)
            .and_then(TcpStream::connect)
            .and_then(|socket| self.insert(Connection::dialing(conn, socket)));
        if dialed.is_err() {
            self.news.push_back(Event::Dialed { conn, connected: false });
        }
    }
}

/// Tells a node from a client by the first byte. A mistake costs no more than the wrong limits.
fn recognise(bytes: &[u8]) -> Kind {
    if bytes.first() == Some(&PEER_PREFACE_START) { Kind::Peer } else { Kind::Client }
}

#[cfg(test)]
mod tests;
