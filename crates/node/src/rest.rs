//! What is done about clients that do not keep up, and those that do nothing (P15).

use crate::io::{ConnId, Now, Output};
use crate::node::Node;

/// A client that has been silent for so long needs no buffers, microseconds.
const IDLE_MICROS: u64 = 1_000_000;
/// Connections are looked at no more often than this, microseconds.
const LOOK_EVERY_MICROS: u64 = 50_000;
/// Connections looked at at once.
const LOOKED_AT: usize = 256;

impl Node {
    /// A client sends no more: what it began and did not finish is forgotten, what it asked is
    /// answered.
    pub(crate) fn on_ended(&mut self, conn: ConnId) {
        if let Some(caller) = self.conns.client_mut(conn) {
            caller.ended = true;
            self.ready.insert(conn);
        } else if self.conns.remove(conn).is_some() {
            self.outputs.push(Output::Close { conn });
        }
    }

    /// Replies pile up at the driver, or do no longer.
    pub(crate) fn on_congested(&mut self, conn: ConnId, congested: bool) {
        let Some(caller) = self.conns.client_mut(conn) else { return };
        caller.congested = congested;
        if !congested {
            self.ready.insert(conn);
        }
    }

    /// Takes back what idle clients hold for the sake of speed, a few connections at a time: who
    /// has once sent and got much would hold it for as long as it stays connected.
    pub(crate) fn rest_idle_clients(&mut self, now: Now) {
        if now.time.since(self.rested_at) < LOOK_EVERY_MICROS {
            return;
        }
        self.rested_at = now.time;
        let reached = self.conns.earlier_clients(self.rested, LOOKED_AT, |caller| {
            if now.time.since(caller.client.heard()) >= IDLE_MICROS {
                caller.rest();
            }
        });
        self.rested = reached.unwrap_or(ConnId(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::alone::{CLIENT, Host};
    use crate::io::Event;

    #[test]
    fn half_a_request_goes_with_its_client_at_once() {
        let mut host = Host::start(None, BTreeMap::new());
        host.tell(Event::Received { conn: CLIENT, bytes: b"*2\r\n$3\r\nGET\r\n$3\r\nke" });
        host.tell(Event::Ended { conn: CLIENT });
        assert_eq!(host.closed, [CLIENT]);
    }
}
