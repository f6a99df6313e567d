//! One connection: its socket, what it is in the course of, and what has not left yet.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use flotilla_node::ConnId;
use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use crate::outbox::Outbox;

/// A node's host that acknowledges nothing for so long is taken to be gone.
const PEER_SILENCE: Duration = Duration::from_secs(3);
/// How long a dial may take.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the last bytes of a closed connection may take to leave.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side of a closed connection may take to say goodbye. Without that wait,
/// bytes of its own that nobody read would make the system throw away the last ones of ours.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client that sends no more, but may still listen, is given its replies.
pub(crate) const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(6);
/// How long after its last reply such a client is closed.
pub(crate) const HALF_CLOSED_QUIET: Duration = Duration::from_millis(200);

/// What a connection is in the course of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Being connected; the node waits for the outcome.
    Dialing,
    /// In use.
    Open,
    /// The other side sends no more, but may wait for replies.
    HalfClosed,
    /// The node is done with it; the last bytes leave.
    Flushing,
    /// Everything has left; the other side is to close.
    Goodbye,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody knows before the first bytes.
    Unknown,
    /// A client.
    Client,
    /// A node.
    Peer,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its number.
    pub(crate) id: ConnId,
    /// Its socket.
    pub(crate) socket: TcpStream,
    /// Who is at the other end.
    pub(crate) kind: Kind,
    /// What it is in the course of.
    pub(crate) phase: Phase,
    /// What has not left.
    pub(crate) outbox: Outbox,
    /// The socket may have bytes, or its end, to read.
    pub(crate) readable: bool,
    /// The other side has shut down its sending half: a short read does not mean that nothing is
    /// left, since no further event would tell of the end.
    pub(crate) read_closed: bool,
    /// It stands in one of the lists of connections to read from.
    pub(crate) queued: bool,
    /// It stands in the list of connections to write to.
    pub(crate) dirty: bool,
    /// The node was told that replies pile up here.
    pub(crate) congested: bool,
    /// The node asked not to read from it.
    pub(crate) paused: bool,
    /// Bytes came after the last ones that were sent.
    pub(crate) unanswered: bool,
    /// When the phase ends by itself.
    pub(crate) deadline: Option<Instant>,
}

impl Connection {
    /// A connection that was accepted.
    pub(crate) fn accepted(id: ConnId, socket: TcpStream) -> Self {
        Self::new(id, socket, Kind::Unknown, Phase::Open)
    }

    /// A connection to a node that is being made.
    pub(crate) fn dialing(id: ConnId, socket: TcpStream) -> Self {
        let mut connection = Self::new(id, socket, Kind::Peer, Phase::Dialing);
        connection.deadline = Some(Instant::now() + DIAL_TIMEOUT);
        connection
    }

    fn new(id: ConnId, socket: TcpStream, kind: Kind, phase: Phase) -> Self {
        Self {
            id,
            socket,
            kind,
            phase,
            outbox: Outbox::default(),
            readable: false,
            read_closed: false,
            queued: false,
            dirty: false,
            congested: false,
            paused: false,
            unanswered: false,
            deadline: None,
        }
    }

    /// Has the kernel end a connection to a node whose host is gone: what was sent and not
    /// acknowledged, and probes of an idle connection, count as lost after [`PEER_SILENCE`].
    pub(crate) fn watch_peer(&self) {
        let socket = SockRef::from(&self.socket);
        let probes = TcpKeepalive::new().with_time(PEER_SILENCE).with_interval(PEER_SILENCE);
        // Where the kernel can't, the node's own deadlines still end the link.
        let _ = socket.set_tcp_keepalive(&probes);
        let _ = socket.set_tcp_user_timeout(Some(PEER_SILENCE));
    }

    /// Whether the dial has an outcome: `None` while it has not.
    pub(crate) fn dial_outcome(&self) -> Option<bool> {
        if !matches!(self.socket.take_error(), Ok(None)) {
            return Some(false);
        }
        match (self.socket.peer_addr(), self.socket.local_addr()) {
            // A dial to a port of this host that nobody listens on can meet itself.
            (Ok(peer), Ok(local)) => Some(peer != local),
            (Err(error), _) if error.kind() == io::ErrorKind::NotConnected => None,
            _ => Some(false),
        }
    }

    /// Says that nothing more will be sent, and gives the other side a moment to close.
    pub(crate) fn say_goodbye(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        self.phase = Phase::Goodbye;
        self.deadline = Some(Instant::now() + GOODBYE_TIMEOUT);
    }
}
