//! What the node wants of the sockets: bytes sent, connections closed, paused and dialled.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use flotilla_node::{ConnId, Event};
use mio::net::TcpStream;

use super::{CLIENT_UNSENT_PAUSE_BYTES, Network};
use crate::connection::{Connection, FLUSH_TIMEOUT, HALF_CLOSED_QUIET, Kind, Phase};
use crate::console::{Level, say};

/// A client with more unsent than this is closed, bytes.
const CLIENT_UNSENT_CLOSE_BYTES: usize = 256 << 20;
/// Links between nodes have no limit, but an operator hears of one with more than this, bytes.
const PEER_UNSENT_WARNING_BYTES: usize = 256 << 20;

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
            self.tell_congestion(at);
            self.queue(at);
        }
    }

    /// Tells the node when replies begin to pile up that a client does not read, and when that is
    /// over: what it makes meanwhile would be more to keep.
    fn tell_congestion(&mut self, at: usize) {
        let Some(connection) = self.places[at].as_mut() else { return };
        let known = matches!(connection.phase, Phase::Open | Phase::HalfClosed);
        let congested = connection.outbox.len() > CLIENT_UNSENT_PAUSE_BYTES;
        if known && connection.kind != Kind::Peer && congested != connection.congested {
            connection.congested = congested;
            self.news.push_back(Event::Congested { conn: connection.id, congested });
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
            Event::Closed { conn }
            | Event::Ended { conn }
            | Event::Dialed { conn, .. }
            | Event::Congested { conn, .. } => *conn != closed,
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
