//! Bytes on their way: dialling, sending in pieces, arriving.

use flotilla_node::{ConnId, Face};

use super::{CLUSTER_PORT, Dial, Happening, PLAIN_PORT, World, address, node_party};
use crate::fault::Fault;
use crate::machine::Incoming;
use crate::network::{Party, Piece, Spoil};
use crate::queue::Micros;

/// A dial that nobody answers is repeated after this time.
const REDIAL: Micros = 1_000_000;
/// And given up after so many attempts.
const DIALS_MAX: u32 = 3;
/// A lost packet is sent again after this time, then twice as long, and so on.
const RETRANSMITTED_AFTER: Micros = 200_000;

impl World {
    /// A node sends bytes; on a link something may become of them.
    pub(crate) fn send_of_node(&mut self, id: u64, side: usize, mut bytes: Vec<u8>) {
        let held = self.network.take_held(id, side, || flotilla_node::describe_link(&bytes));
        match self.network.spoil(id, side, || flotilla_node::describe_link(&bytes)) {
            Some(Spoil::Flip) if !bytes.is_empty() => {
                self.counters.fired(Fault::WireFlip);
                let at = self.random.position(bytes.len());
                bytes[at] ^= 1 << self.random.below(8);
            }
            Some(Spoil::Twice) => {
                self.counters.fired(Fault::Duplicate);
                self.send(id, side, bytes.clone());
            }
            Some(spoil @ (Spoil::Overtaken | Spoil::RequestsOvertaken))
                if held.is_none() && !self.network.holds(id, side) =>
            {
                self.counters.fired(Fault::Overtake);
                let for_requests = spoil == Spoil::RequestsOvertaken;
                return self.network.hold(id, side, bytes, for_requests);
            }
            Some(Spoil::Lost) => {
                self.counters.fired(Fault::Vanish);
                bytes.clear();
            }
            _ => {}
        }
        for bytes in [Some(bytes), held].into_iter().flatten().filter(|bytes| !bytes.is_empty()) {
            self.send(id, side, bytes);
        }
    }

    /// Sends bytes from one side, in one piece or several.
    pub(crate) fn send(&mut self, id: u64, side: usize, mut bytes: Vec<u8>) {
        let shred = self.config.shred_percent;
        if bytes.len() > 1 && self.random.chance(shred) {
            self.counters.shreds += 1;
            loop {
                let at = self.random.between(1, bytes.len() as u64 - 1) as usize;
                let rest = bytes.split_off(at);
                self.send_piece(id, side, Piece::Bytes(bytes));
                bytes = rest;
                if bytes.len() < 2 || self.random.chance(50) {
                    break;
                }
            }
        }
        self.send_piece(id, side, Piece::Bytes(bytes));
    }

    pub(crate) fn send_piece(&mut self, id: u64, side: usize, piece: Piece) {
        let (slowness, loss) = self.network.quality(id, side);
        let usual = self.config.latency * slowness;
        let mut delay = self.delay(usual);
        self.counters.late_pieces += u64::from(delay > 10 * usual);
        let mut timeout = RETRANSMITTED_AFTER;
        while loss > 0 && timeout < 8 * RETRANSMITTED_AFTER && self.random.chance(loss) {
            self.counters.fired(Fault::PacketLoss);
            delay += timeout;
            timeout *= 2;
        }
        if let Some(due) = self.network.send(id, side, piece, self.now + delay) {
            self.queue.push(due, Happening::Arrive { id, side });
        }
    }

    /// The other side will learn that this side is gone, whether it has left or not.
    pub(crate) fn disown(&mut self, id: u64, side: usize) {
        let due = self.now + self.delay(self.config.latency);
        if let Some(due) = self.network.disown(id, side, due) {
            self.queue.push(due, Happening::Arrive { id, side });
        }
    }

    /// Hands over what has arrived from that side.
    pub(crate) fn arrive(&mut self, id: u64, side: usize) {
        let parties = self.network.connection(id).map(|connection| connection.parties);
        let from = parties.map(|parties| parties[side]);
        while let Some((party, piece)) = self.network.arrived(id, side, self.now) {
            let Some(party) = party else {
                if let Some(parties) = parties.filter(|_| matches!(piece, Piece::Bytes(_))) {
                    self.answer_for_nobody(id, side, parties[1 - side]);
                }
                continue;
            };
            if let (Some(from), Piece::Bytes(bytes)) = (from, &piece) {
                self.tell_message(from, party, bytes);
            }
            match (party, piece) {
                (Party::Node { at, boot, conn }, Piece::Bytes(bytes)) => {
                    if let Some(connection) = self.network.connection_mut(id) {
                        connection.unanswered = true;
                    }
                    self.tell_node(at, boot, Incoming::Received { conn, bytes });
                }
                (Party::Node { at, boot, conn }, Piece::Half) => {
                    self.hear_half(id, side, (at, boot, conn));
                }
                (Party::Node { at, boot, conn }, Piece::End) => {
                    if let Some(process) = self.machines[at].process_of(boot)
                        && process.connections.remove(&conn).is_some()
                    {
                        self.tell(|| format!("node {} loses {conn:?}", at + 1));
                        self.tell_node(at, boot, Incoming::Closed { conn });
                    }
                }
                (Party::Client { at }, Piece::Bytes(bytes)) => self.client_reads(at, id, &bytes),
                (Party::Client { .. }, Piece::Half) => {}
                (Party::Client { at }, Piece::End) => self.client_loses(at, id),
            }
        }
    }

    /// Bytes have come for a side that has left: its machine says so, if it is on.
    fn answer_for_nobody(&mut self, id: u64, side: usize, gone: Party) {
        let on = gone.machine().is_none_or(|at| self.machines[at].process.is_some());
        if on && self.network.is_unaware(id, side) {
            self.disown(id, 1 - side);
        }
    }

    /// A line of the story for each message: who to whom, and what it says.
    fn tell_message(&mut self, from: Party, to: Party, bytes: &[u8]) {
        self.tell(|| {
            let name = |party: Party| match party {
                Party::Node { at, .. } => format!("node-{}", at + 1),
                Party::Client { at } => format!("client-{at}"),
            };
            let link = from.machine().is_some() && to.machine().is_some();
            let what = if link {
                flotilla_node::describe_link(bytes)
            } else {
                bytes.escape_ascii().to_string().chars().take(60).collect()
            };
            format!("message {} {} {what}", name(from), name(to))
        });
    }

    /// Looks again at everything under way: something that held it is over.
    pub(crate) fn release(&mut self) {
        for (id, side, due) in self.network.waiting() {
            let delay = self.delay(self.config.latency);
            self.queue.push(due.max(self.now + delay), Happening::Arrive { id, side });
        }
    }

    pub(crate) fn dial_of_node(&mut self, at: usize, boot: u64, conn: ConnId, to: &str) {
        let target = self.machine_at(to);
        let Some(process) = self.machines[at].process_of(boot) else { return };
        process.dialing.insert(conn);
        let party = node_party(at, boot, conn);
        match target {
            Some((to, face)) => self.dial(party, 0, to, face),
            None => self.fail(format!("node {} dials {to}, where nobody is", at + 1)),
        }
    }

    pub(crate) fn dial(&mut self, party: Party, dials: u64, to: usize, face: Face) {
        let delay = self.delay(self.config.latency);
        let dial = Dial { party, dials, to, face, attempts: 1 };
        self.after(delay, Happening::Dialed { dial });
    }

    /// A dial reaches its destination, or nothing.
    pub(crate) fn dialed(&mut self, dial: Dial) {
        let Dial { party, dials, to, face, attempts } = dial;
        let lost = match party {
            Party::Node { at, .. } => self.network.is_cut(at, to) || self.network.is_cut(to, at),
            Party::Client { .. } => false,
        };
        self.counters.dials_lost += u64::from(lost);
        if lost && attempts < DIALS_MAX {
            let dial = Dial { attempts: attempts + 1, ..dial };
            self.after(REDIAL, Happening::Dialed { dial });
            return;
        }
        let delay = self.delay(self.config.latency);
        if let Party::Node { at, conn, .. } = party {
            let up = self.machines[to].process.is_some();
            self.tell(|| {
                format!("node {} dials node {} by {conn:?}: lost {lost}, up {up}", at + 1, to + 1)
            });
        }
        let boot = self.machines[to].boots;
        let Some(process) = self.machines[to].process.as_mut().filter(|_| !lost) else {
            self.counters.dials_refused += u64::from(!lost);
            self.after(delay, Happening::Connected { party, dials, id: None });
            return;
        };
        process.last_accepted += 1;
        let conn = ConnId(process.last_accepted);
        let id = self.network.connect(party, node_party(to, boot, conn), self.now + delay + 1);
        process.connections.insert(conn, (id, 1));
        let remote = match party {
            Party::Node { at, .. } => format!("10.0.0.{}:{}", at + 1, 40_000 + id % 20_000),
            Party::Client { at } => format!("10.1.0.{}:{}", at + 1, 40_000 + id % 20_000),
        };
        let local = match face {
            Face::Plain => address(to),
            Face::Cluster => {
                address(to).replace(&format!(":{PLAIN_PORT}"), &format!(":{CLUSTER_PORT}"))
            }
        };
        self.tell_node(to, boot, Incoming::Accepted { conn, face, remote, local });
        self.after(delay, Happening::Connected { party, dials, id: Some(id) });
    }

    /// The answer to a dial is back.
    pub(crate) fn connected(&mut self, party: Party, dials: u64, id: Option<u64>) {
        match party {
            Party::Client { at } => self.client_connected(at, dials, id),
            Party::Node { at, boot, conn } => {
                let mut process = self.machines[at].process_of(boot);
                let wanted = process.as_mut().is_some_and(|one| one.dialing.remove(&conn));
                let Some(process) = process.filter(|_| wanted) else {
                    // Whoever dialled is gone, or does not want it any more.
                    if let Some(id) = id {
                        self.send_piece(id, 0, Piece::End);
                        self.network.leave(id, 0);
                    }
                    return;
                };
                if let Some(id) = id {
                    process.connections.insert(conn, (id, 0));
                }
                let connected = id.is_some();
                self.tell_node(at, boot, Incoming::Dialed { conn, connected });
            }
        }
    }
}
