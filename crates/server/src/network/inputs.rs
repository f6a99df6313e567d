//! What sockets have for the node: bytes, ends, new connections, outcomes of dials.

use std::io::{self, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flotilla_node::{ConnId, Event};
use mio::net::TcpStream;

use super::{Network, PEER_PREFACE_START, READ_BUFFER_BYTES};
use crate::connection::{Connection, HALF_CLOSED_TIMEOUT, Kind, Phase};
use crate::console::{Level, say};

/// At most so much is read from one connection a turn, bytes.
const READ_PER_TURN_BYTES: usize = 256 << 10;
/// After the system refused to accept (out of descriptors), the next attempt comes so much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What a client beyond the limit is told.
pub(super) const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

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
                            if connection.kind == Kind::Peer {
                                connection.watch_peer();
                            }
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
                self.news.push_back(Event::Ended { conn: connection.id });
                self.set_deadline(at, Instant::now() + HALF_CLOSED_TIMEOUT);
            }
            Phase::Flushing if !connection.outbox.is_empty() => {}
            _ => self.on_broken(at),
        }
    }

    /// The connection is gone; the node is told if it knows it.
    pub(super) fn on_broken(&mut self, at: usize) {
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

    pub(super) fn on_dial_progress(&mut self, at: usize) {
        let Some(connection) = self.places[at].as_mut() else { return };
        match connection.dial_outcome() {
            None => {}
            Some(false) => self.on_broken(at),
            Some(true) => {
                connection.phase = Phase::Open;
                connection.deadline = None;
                connection.readable = true;
                let _ = connection.socket.set_nodelay(true);
                connection.watch_peer();
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

/// Tells a node from a client by the first byte. A mistake costs no more than the wrong limits.
fn recognise(bytes: &[u8]) -> Kind {
    if bytes.first() == Some(&PEER_PREFACE_START) { Kind::Peer } else { Kind::Client }
}
