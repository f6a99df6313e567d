//! Clients that do not read, and those that send no more: what the server's driver makes of both.

use flotilla_node::ConnId;

use super::{Happening, World};
use crate::client::{Ask, Link};
use crate::machine::Incoming;
use crate::marks::Mark;
use crate::network::Piece;
use crate::random::Random;
use crate::workload::Command;

/// More than this that a client does not read is congestion, bytes. The server has another number;
/// here clients ask for less.
const CONGESTED_BYTES: usize = 32 << 10;
/// A client that does not read asks so many times for much at once.
const GULPS: u64 = 4;

/// A connection as a process knows it: machine, boot, name.
type Place = (usize, u64, ConnId);

impl World {
    /// A client asks for much and reads nothing for a while.
    pub(super) fn slow_reader(&mut self, random: &mut Random) -> bool {
        let able = |client: &crate::client::Client| {
            let free = client.improvises && !client.half_closed && client.waiting.is_empty();
            matches!(client.link, Link::Up(_)) && free
        };
        let able: Vec<usize> =
            (0..self.clients.len()).filter(|&at| able(&self.clients[at])).collect();
        if able.is_empty() {
            return false;
        }
        let at = *random.pick(&able);
        let Link::Up(id) = self.clients[at].link else { return false };
        self.network.pause(id, 0, true);
        let lasts = self.lasting_by(random);
        for gulp in 0..GULPS {
            self.after(1 + lasts * gulp / GULPS, Happening::Gulp { client: at, id });
        }
        self.after(lasts, Happening::ReadsAgain { id });
        true
    }

    /// A client that does not read asks for more.
    pub(crate) fn gulp(&mut self, at: usize, id: u64) {
        if self.clients[at].link != Link::Up(id) || self.clients[at].half_closed {
            return;
        }
        let mut bytes = Vec::new();
        for _ in 0..self.random.between(20, 40) {
            let length = self.random.between(1 << 10, 2 << 10) as usize;
            let letter = b'a' + self.random.below(26) as u8;
            let command = Command::echo(&vec![letter; length]);
            self.ask_one(at, Ask { command, again: None }, &mut bytes);
        }
        self.trace.mix_bytes(&bytes);
        self.send(id, 0, bytes);
    }

    /// A client reads on.
    pub(crate) fn reads_again(&mut self, id: u64) {
        self.network.pause(id, 0, false);
        self.arrive(id, 1);
        let Some(connection) = self.network.connection_mut(id) else { return };
        let told = std::mem::take(&mut connection.congested);
        if let (true, crate::network::Party::Node { at, boot, conn }) =
            (told, connection.parties[1])
        {
            self.tell_node(at, boot, Incoming::Congested { conn, congested: false });
        }
    }

    /// A process has sent something: it is told if nobody reads it.
    pub(super) fn tell_congestion(&mut self, id: u64, side: usize, (at, boot, conn): Place) {
        let unread = self.network.unread(id, side);
        let Some(connection) = self.network.connection_mut(id) else { return };
        connection.unanswered = false;
        if unread > CONGESTED_BYTES && !connection.congested {
            connection.congested = true;
            self.counters.marks.reach(Mark::Congested);
            self.tell_node(at, boot, Incoming::Congested { conn, congested: true });
        }
    }

    /// The other side sends no more. A client that has just asked something may still listen; any
    /// other is gone.
    pub(super) fn hear_half(&mut self, id: u64, side: usize, (at, boot, conn): Place) {
        let asked = self.network.connection(id).is_some_and(|connection| connection.unanswered);
        if asked {
            return self.tell_node(at, boot, Incoming::Ended { conn });
        }
        if let Some(process) = self.machines[at].process_of(boot)
            && process.connections.remove(&conn).is_some()
        {
            self.tell_node(at, boot, Incoming::Closed { conn });
            self.send_piece(id, 1 - side, Piece::End);
            self.network.leave(id, 1 - side);
        }
    }
}
