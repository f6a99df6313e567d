//! A client: one connection at a time, requests as bytes, replies as bytes.

use std::collections::{BTreeMap, VecDeque};

use flotilla_node::Face;

use crate::history::{KeyState, OperationId};
use crate::queue::Micros;
use crate::workload::Command;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) face: Face,
    /// The machine it dials.
    pub(crate) home: usize,
    pub(crate) link: Link,
    /// Numbers its dials, so that what is late is known to be.
    pub(crate) dials: u64,
    /// Bytes of replies that are not complete.
    pub(crate) unread: Vec<u8>,
    /// Whether it goes elsewhere once nothing is waited for: it was told `MOVED`.
    pub(crate) moves: bool,
    /// Whether it has said on its connection that it sends no more.
    pub(crate) half_closed: bool,
    /// Requests without a reply, oldest first.
    pub(crate) waiting: VecDeque<Pending>,
    /// What it is to ask; when that is done it makes up more if [`Client::improvises`].
    pub(crate) script: VecDeque<Ask>,
    pub(crate) improvises: bool,
    /// Whether any error is a failure of the run.
    pub(crate) strict: bool,
    /// What it read last of each key, for a mutant.
    pub(crate) seen: BTreeMap<String, KeyState>,
}

/// Where a client's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Nowhere.
    None,
    /// Asked for.
    Dialing,
    /// The network's name for it.
    Up(u64),
}

/// A command to send.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) command: Command,
    /// The operations it stands for, if it was sent before.
    pub(crate) again: Option<Vec<OperationId>>,
}

/// A request without a reply.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) command: Command,
    pub(crate) operations: Vec<OperationId>,
    pub(crate) sent: Micros,
}

impl Client {
    /// A client of one face of a machine.
    pub(crate) fn new(face: Face, home: usize) -> Self {
        Self {
            face,
            home,
            link: Link::None,
            dials: 0,
            unread: Vec::new(),
            moves: false,
            half_closed: false,
            waiting: VecDeque::new(),
            script: VecDeque::new(),
            improvises: true,
            strict: false,
            seen: BTreeMap::new(),
        }
    }

    /// Whether there is nothing that it waits for or is to ask.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.script.is_empty() && !self.improvises
    }
}
