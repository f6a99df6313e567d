//! One connection under load: requests out, replies in.
//!
//! # Invariants
//!
//! - `pending` holds an entry for each request whose bytes were handed to the socket or wait in
//!   `unsent`, in the order of the requests.
//! - A socket is read until a read comes back short, which leaves nothing to be read: events are
//!   told once, when something arrives [epoll(7)].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::commands::Commands;
use super::replies::{NoReply, Reply};
use super::requests::{Kind, Operation, Requests};
use super::tally::Tally;
use super::wire::{Protocol, Wire};
use crate::client::Client;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection and what is open on it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    server: SocketAddr,
    wire: Wire,
    unsent: Vec<u8>,
    pending: VecDeque<Pending>,
    /// Operations whose second request is to be sent; empty between two looks at the socket.
    half_done: Vec<Pending>,
}

/// An operation that is not done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) kind: Kind,
    /// When it should have been sent.
    pub(crate) due: Instant,
    sent: Instant,
    /// What its reply is known by, if not by its place.
    number: u32,
    /// The key, and the bytes of its value, that are to be set once the reply is there.
    then_set: Option<(u64, usize)>,
}

impl Connection {
    /// Connects; `at` is the token of its events.
    pub(crate) fn open(
        server: SocketAddr,
        (protocol, password): (Protocol, Option<&str>),
        at: usize,
        poll: &Poll,
    ) -> anyhow::Result<Self> {
        let password = password.filter(|_| protocol == Protocol::Redis);
        let socket = connect(server, password)
            .with_context(|| format!("connection {} to {server}", at + 1))?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(at), interest)?;
        let mut unsent = Vec::new();
        let wire = Wire::new(protocol, &mut unsent);
        Ok(Self { socket, server, wire, unsent, pending: VecDeque::new(), half_done: vec![] })
    }

    /// Where it leads.
    pub(crate) fn server(&self) -> SocketAddr {
        self.server
    }

    /// What is not done.
    pub(crate) fn pending(&self) -> &VecDeque<Pending> {
        &self.pending
    }

    /// Puts an operation's request behind what is to be sent.
    pub(crate) fn ask(
        &mut self,
        operation: Operation,
        commands: &Commands,
        due: Instant,
        sent: Instant,
    ) {
        let Operation { kind, key, value_bytes } = operation;
        let number = match kind {
            Kind::Read | Kind::Modify => self.wire.get(key, commands, &mut self.unsent),
            Kind::Write => self.wire.set(key, value_bytes, commands, &mut self.unsent),
        };
        let then_set = (kind == Kind::Modify).then_some((key, value_bytes));
        self.pending.push_back(Pending { kind, due, sent, number, then_set });
    }

    /// If nothing is open, sends so many requests, or as many as there are.
    pub(crate) fn refill(
        &mut self,
        requests: &mut Requests,
        commands: &Commands,
        count: usize,
    ) -> io::Result<()> {
        if self.pending.is_empty() {
            let now = Instant::now();
            for operation in requests.take(count) {
                self.ask(operation, commands, now, now);
            }
        }
        self.flush()
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
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

    /// Reads all there is, counts it, and sends the second requests of what is half done.
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        commands: &Commands,
        tally: &mut Tally,
    ) -> io::Result<()> {
        loop {
            let read = match self.socket.read(input) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.take(&input[..read], commands, tally)?;
            if read < input.len() {
                break;
            }
        }
        self.flush()
    }

    fn take(&mut self, bytes: &[u8], commands: &Commands, tally: &mut Tally) -> io::Result<()> {
        let Self { wire, pending, unsent, half_done, server, .. } = self;
        let now = Instant::now();
        let mut unasked = false;
        let fed = wire.feed(bytes, unsent, |number, reply| {
            let at = number.map_or(Some(0), |number| {
                pending.iter().position(|operation| operation.number == number)
            });
            let Some(operation) = at.and_then(|at| pending.remove(at)) else {
                unasked = true;
                return;
            };
            if let Reply::Error(text) = reply {
                tally.errors += 1;
                let text = String::from_utf8_lossy(text);
                return tally.tell_trouble(|| format!("{server} answered: {text}"));
            }
            tally.nulls += u64::from(reply == Reply::Null);
            if operation.then_set.is_some() {
                half_done.push(operation);
            } else {
                tally.count_answer(operation.kind, operation.due, operation.sent, now);
            }
        });
        if fed.is_err() || unasked {
            return Err(io::Error::new(ErrorKind::InvalidData, NoReply.to_string()));
        }
        for mut operation in half_done.drain(..) {
            if let Some((key, value_bytes)) = operation.then_set.take() {
                operation.number = wire.set(key, value_bytes, commands, unsent);
                pending.push_back(operation);
            }
        }
        Ok(())
    }
}

/// A connection on which commands are accepted.
fn connect(server: SocketAddr, password: Option<&str>) -> anyhow::Result<std::net::TcpStream> {
    let mut client = Client::connect(&server.to_string(), CONNECT_TIMEOUT)?;
    if let Some(password) = password {
        client.authenticate(password)?;
    }
    Ok(client.into_stream())
}
