//! Bytes on their way: dialling, sending in pieces, arriving.

use flotilla_node::{ConnId, Face};

use super::{CLUSTER_PORT, Dial, Happening, PLAIN_PORT, World, address, node_party};
use crate::machine::Incoming;
use crate::network::{Party, Piece};
use crate::queue::Micros;

/// A dial that nobody answers is repeated after this time.
const REDIAL: Micros = 1_000_000;
/// And given up after so many attempts.
const DIALS_MAX: u32 = 3;

impl World {
    /// Sends bytes from one side, in one piece or several.
    pub(crate) fn send(&mut self, id: u64, side: usize, mut bytes: Vec<u8>) {
        while bytes.len() > 1 && self.random.chance(15) {
            let at = self.random.between(1, bytes.len() as u64 - 1) as usize;
            let rest = bytes.split_off(at);
            self.send_piece(id, side, Piece::Bytes(bytes));
            bytes = rest;
        }
        self.send_piece(id, side, Piece::Bytes(bytes));
    }

    pub(crate) fn send_piece(&mut self, id: u64, side: usize, piece: Piece) {
        let usual = self.config.latency * self.network.slowness(id, side);
        let due = self.now + self.delay(usual);
        if let Some(due) = self.network.send(id, side, piece, due) {
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
        while let Some((party, piece)) = self.network.arrived(id, side, self.now) {
            match (party, piece) {
                (Party::Node { at, boot, conn }, Piece::Bytes(bytes)) => {
                    self.tell_node(at, boot, Incoming::Received { conn, bytes });
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
                (Party::Client { at }, Piece::End) => self.client_loses(at, id),
            }
        }
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
