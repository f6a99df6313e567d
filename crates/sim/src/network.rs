//! Connections as streams of bytes: never reordered within one direction, delayed, cut and broken
//! in every way TCP allows.
//!
//! Invariants: what one side sends arrives in order and at most once; after the end of a direction
//! nothing arrives; bytes that a partition holds arrive when it is over, if the connection lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flotilla_node::ConnId;

use crate::queue::Micros;

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// A process.
    Node {
        /// The machine's position.
        at: usize,
        /// Which of its processes.
        boot: u64,
        /// Its name for the connection.
        conn: ConnId,
    },
    /// A client.
    Client {
        /// Its position.
        at: usize,
    },
}

impl Party {
    /// The machine, if it is a node.
    pub(crate) fn machine(self) -> Option<usize> {
        match self {
            Self::Node { at, .. } => Some(at),
            Self::Client { .. } => None,
        }
    }
}

/// What travels.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing follows, but the sender may still listen.
    Half,
    /// Nothing follows, and nobody listens.
    End,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// What is under way, with the moment it arrives.
    pieces: VecDeque<(Micros, Piece)>,
    /// The receiver does not read.
    paused: bool,
    /// The receiver does not know of the connection before this.
    opens: Micros,
    /// Nothing arrives before this.
    earliest: Micros,
    /// How often something was sent.
    sends: u64,
    /// What is to be overtaken by what is sent next.
    held: Option<Held>,
}

/// Bytes that are held back.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// Whether only clients' requests overtake them.
    for_requests: bool,
}

/// What becomes of the next thing that one machine sends another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// One of its bits is flipped.
    Flip,
    /// It arrives twice.
    Twice,
    /// What is sent next overtakes it.
    Overtaken,
    /// The same, if clients' requests are in it, by the next that has some too; others pass.
    RequestsOvertaken,
    /// It is lost, if it is about a snapshot; until then others pass.
    Lost,
}

/// So a message with clients' requests is named.
const REQUESTS: &str = "Requests(";

/// The first messages of a connection open it; they are not repeated, nor overtaken.
const OPENING: u64 = 4;

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Who dialled, and who was dialled.
    pub(crate) parties: [Party; 2],
    /// Whether each side still has it.
    pub(crate) open: [bool; 2],
    /// Whether the side that was dialled has got something since it sent last.
    pub(crate) unanswered: bool,
    /// Whether that side knows that the other does not read.
    pub(crate) congested: bool,
    /// From the side of that number to the other.
    ways: [Way; 2],
}

/// All connections, and what stands between the machines.
#[derive(Debug, Default)]
pub(crate) struct Network {
    connections: BTreeMap<u64, Connection>,
    last: u64,
    /// From whom to whom no byte passes.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// From whom to whom nothing passes for a while, without a partition.
    pub(crate) clogged: BTreeSet<(usize, usize)>,
    /// By how much messages are slower.
    pub(crate) slow: BTreeMap<(usize, usize), u64>,
    /// Out of 100 messages so many are lost and sent again.
    pub(crate) lossy: BTreeMap<(usize, usize), u64>,
    /// What becomes of the next message.
    pub(crate) spoils: BTreeMap<(usize, usize), Spoil>,
}

impl Network {
    /// A connection begins; nothing arrives at the dialling side before `earliest`.
    pub(crate) fn connect(&mut self, from: Party, to: Party, earliest: Micros) -> u64 {
        self.last += 1;
        let ways = [Way::default(), Way { opens: earliest, earliest, ..Way::default() }];
        let (open, unanswered, congested) = ([true; 2], false, false);
        let connection = Connection { parties: [from, to], open, unanswered, congested, ways };
        self.connections.insert(self.last, connection);
        self.last
    }

    /// A connection, while any side has it.
    pub(crate) fn connection(&self, id: u64) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// A connection, while any side has it.
    pub(crate) fn connection_mut(&mut self, id: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Bytes that a side has sent and the other does not read.
    pub(crate) fn unread(&self, id: u64, side: usize) -> usize {
        let Some(connection) = self.connections.get(&id) else { return 0 };
        let way = &connection.ways[side];
        let length = |(_, piece): &(Micros, Piece)| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Half | Piece::End => 0,
        };
        if way.paused { way.pieces.iter().map(length).sum() } else { 0 }
    }

    /// The names of all connections that `wanted` chooses.
    pub(crate) fn select(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<u64> {
        self.connections.iter().filter(|(_, one)| wanted(one)).map(|(&id, _)| id).collect()
    }

    /// The links of a machine, and its side of each.
    pub(crate) fn ways_from(&self, at: usize) -> Vec<(u64, usize)> {
        let mut ways = Vec::new();
        for (&id, connection) in &self.connections {
            let machines = connection.parties.map(Party::machine);
            let link = machines.iter().all(Option::is_some);
            if let Some(side) = machines.iter().position(|one| *one == Some(at)).filter(|_| link) {
                ways.push((id, side));
            }
        }
        ways
    }

    /// Whether no byte passes from one machine to another.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// From which machine to which this way of a connection leads, if it is a link.
    pub(crate) fn machines(&self, id: u64, side: usize) -> Option<(usize, usize)> {
        let connection = self.connections.get(&id)?;
        let [from, to] = [connection.parties[side], connection.parties[1 - side]];
        from.machine().zip(to.machine())
    }

    /// How much slower this way is than usual, and how many messages out of 100 it loses.
    pub(crate) fn quality(&self, id: u64, side: usize) -> (u64, u64) {
        if self.slow.is_empty() && self.lossy.is_empty() {
            return (1, 0);
        }
        let Some(pair) = self.machines(id, side) else { return (1, 0) };
        let slow = self.slow.get(&pair).copied().unwrap_or(1);
        (slow, self.lossy.get(&pair).copied().unwrap_or(0))
    }

    /// A node sends something on a link: what becomes of it, if anything. `packets` names what is
    /// in it.
    pub(crate) fn spoil(
        &mut self,
        id: u64,
        side: usize,
        packets: impl FnOnce() -> String,
    ) -> Option<Spoil> {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ways[side].sends += 1;
        }
        if self.spoils.is_empty() {
            return None;
        }
        let pair = self.machines(id, side)?;
        let spoil = *self.spoils.get(&pair)?;
        let opening = self.connections[&id].ways[side].sends <= OPENING;
        let fits = match spoil {
            Spoil::Flip => true,
            Spoil::Twice | Spoil::Overtaken => !opening,
            Spoil::RequestsOvertaken => !opening && packets().contains(REQUESTS),
            Spoil::Lost => packets().contains("Snapshot"),
        };
        if fits { self.spoils.remove(&pair) } else { None }
    }

    /// Holds something back until the next is sent, or the next that has requests in it.
    pub(crate) fn hold(&mut self, id: u64, side: usize, bytes: Vec<u8>, for_requests: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ways[side].held = Some(Held { bytes, for_requests });
        }
    }

    /// Whether something is held back.
    pub(crate) fn holds(&self, id: u64, side: usize) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.ways[side].held.is_some())
    }

    /// What was held back, if it is overtaken by what is sent now; `packets` names what is in that.
    pub(crate) fn take_held(
        &mut self,
        id: u64,
        side: usize,
        packets: impl FnOnce() -> String,
    ) -> Option<Vec<u8>> {
        let held = &mut self.connections.get_mut(&id)?.ways[side].held;
        let held = held.take_if(|held| !held.for_requests || packets().contains(REQUESTS))?;
        Some(held.bytes)
    }

    /// Sends from a side. Gives the moment it arrives; nothing is sent on what is closed.
    pub(crate) fn send(
        &mut self,
        id: u64,
        side: usize,
        piece: Piece,
        at: Micros,
    ) -> Option<Micros> {
        let open = self.connections.get(&id).is_some_and(|connection| connection.open[side]);
        if open { self.push(id, side, piece, at) } else { None }
    }

    /// The other side learns that a side which is gone is gone.
    pub(crate) fn disown(&mut self, id: u64, side: usize, at: Micros) -> Option<Micros> {
        self.push(id, side, Piece::End, at)
    }

    fn push(&mut self, id: u64, side: usize, piece: Piece, at: Micros) -> Option<Micros> {
        let way = &mut self.connections.get_mut(&id)?.ways[side];
        let due = at.max(way.earliest);
        way.earliest = due;
        way.pieces.push_back((due, piece));
        Some(due)
    }

    /// A side has no more to do with the connection.
    pub(crate) fn leave(&mut self, id: u64, side: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.open[side] = false;
            if connection.open == [false; 2] {
                self.connections.remove(&id);
            }
        }
    }

    /// Loses what is under way from a side, but for the first `keep` pieces.
    pub(crate) fn lose(&mut self, id: u64, side: usize, keep: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ways[side].pieces.truncate(keep);
        }
    }

    /// How many pieces are under way from a side.
    pub(crate) fn under_way(&self, id: u64, side: usize) -> usize {
        self.connections.get(&id).map_or(0, |connection| connection.ways[side].pieces.len())
    }

    /// The side reads no more, or again.
    pub(crate) fn pause(&mut self, id: u64, side: usize, paused: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ways[1 - side].paused = paused;
        }
    }

    /// The next piece that has arrived from that side, and for whom; nobody if the other side has
    /// left.
    pub(crate) fn arrived(
        &mut self,
        id: u64,
        side: usize,
        now: Micros,
    ) -> Option<(Option<Party>, Piece)> {
        let connection = self.connections.get_mut(&id)?;
        let [from, to] = [connection.parties[side], connection.parties[1 - side]];
        let cut = if self.cut.is_empty() && self.clogged.is_empty() {
            false
        } else {
            let pair = from.machine().zip(to.machine());
            pair.is_some_and(|pair| self.cut.contains(&pair) || self.clogged.contains(&pair))
        };
        let way = &mut connection.ways[side];
        if cut || way.paused {
            return None;
        }
        let (_, piece) = way.pieces.pop_front_if(|(due, _)| *due <= now)?;
        let there = connection.open[1 - side];
        if matches!(piece, Piece::End) {
            self.leave(id, 1 - side);
        }
        Some((there.then_some(to), piece))
    }

    /// Whether a side still has the connection and nothing under way will end it.
    pub(crate) fn is_unaware(&self, id: u64, side: usize) -> bool {
        self.connections.get(&id).is_some_and(|connection| {
            let mut pieces = connection.ways[1 - side].pieces.iter();
            connection.open[side] && !pieces.any(|(_, piece)| matches!(piece, Piece::End))
        })
    }

    /// Nothing is under way for longer than until `at`.
    pub(crate) fn hurry(&mut self, at: Micros) {
        for way in self.connections.values_mut().flat_map(|connection| &mut connection.ways) {
            let at = at.max(way.opens);
            way.earliest = way.earliest.min(at);
            for (due, _) in &mut way.pieces {
                *due = at.min(*due);
            }
        }
    }

    /// What waits to be overtaken and never was.
    pub(crate) fn take_all_held(&mut self) -> Vec<(u64, usize, Vec<u8>)> {
        let mut held = Vec::new();
        for (&id, connection) in &mut self.connections {
            for (side, way) in connection.ways.iter_mut().enumerate() {
                held.extend(way.held.take().map(|held| (id, side, held.bytes)));
            }
        }
        held
    }

    /// Every direction with something under way and the moment to look at it.
    pub(crate) fn waiting(&self) -> Vec<(u64, usize, Micros)> {
        let mut waiting = Vec::new();
        for (&id, connection) in &self.connections {
            for (side, way) in connection.ways.iter().enumerate() {
                waiting.extend(way.pieces.iter().map(|(due, _)| (id, side, *due)));
            }
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(at: usize) -> Party {
        Party::Node { at, boot: 1, conn: ConnId(1) }
    }

    fn text(network: &mut Network, id: u64, side: usize, now: Micros) -> String {
        let mut text = String::new();
        while let Some((to, piece)) = network.arrived(id, side, now) {
            match piece {
                _ if to.is_none() => text.push('!'),
                Piece::Bytes(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Piece::Half => text.push(','),
                Piece::End => text.push('.'),
            }
        }
        text
    }

    #[test]
    fn bytes_keep_their_order_and_wait_for_a_partition() {
        let mut network = Network::default();
        let id = network.connect(node(0), node(1), 0);
        let send = |network: &mut Network, what: &str, at| {
            network.send(id, 0, Piece::Bytes(what.into()), at)
        };
        assert_eq!(send(&mut network, "a", 10), Some(10));
        assert_eq!(send(&mut network, "b", 5), Some(10));
        assert_eq!(text(&mut network, id, 0, 9), "");
        network.cut.insert((0, 1));
        assert_eq!(text(&mut network, id, 0, 20), "");
        network.cut.clear();
        assert_eq!(text(&mut network, id, 0, 20), "ab");
    }

    #[test]
    fn after_an_end_nothing_comes() {
        let mut network = Network::default();
        let id = network.connect(node(0), node(1), 0);
        network.send(id, 0, Piece::Bytes(b"x".to_vec()), 1);
        network.send(id, 0, Piece::End, 2);
        network.leave(id, 0);
        assert_eq!(network.send(id, 0, Piece::End, 3), None);
        assert_eq!(text(&mut network, id, 0, 5), "x.");
        assert!(network.connection(id).is_none());
    }

    #[test]
    fn what_comes_for_a_side_that_has_left_is_for_nobody() {
        let mut network = Network::default();
        let id = network.connect(node(0), node(1), 0);
        network.leave(id, 1);
        network.send(id, 0, Piece::Bytes(b"x".to_vec()), 1);
        assert_eq!(text(&mut network, id, 0, 5), "!");
        assert!(network.is_unaware(id, 0));
        network.disown(id, 1, 6);
        assert!(!network.is_unaware(id, 0));
        assert_eq!(text(&mut network, id, 1, 6), ".");
    }
}
