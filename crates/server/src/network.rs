//! All sockets of a lane: accepting, dialling, reading, writing and closing without waiting.
//!
//! Readiness is edge-triggered: what a socket was ready for is remembered here until the system
//! says "not now". Invariants: a connection is in `numbers` exactly while the node knows it; one
//! that may be read from and is not blocked is in one of the two `ready` lists; one with unsent
//! bytes is in `dirty` or waits for its socket to become writable.

mod inputs;
mod outputs;

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_node::{ConnId, Event, Face};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::connection::{Connection, Kind, Phase};

/// The one buffer that all sockets are read into, bytes.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// A client with more unsent than this is not read from, bytes.
const CLIENT_UNSENT_PAUSE_BYTES: usize = 1 << 20;
/// Events taken from the system at once.
const EVENTS: usize = 1_024;
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

#[cfg(test)]
mod tests;
