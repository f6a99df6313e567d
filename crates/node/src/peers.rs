//! The other nodes: one link each, what waits to leave on it, and when to dial again.
//!
//! Of two nodes the one with the lower number dials. All that a turn has for a peer leaves as one
//! row of packets: claims, Raft, replies, requests (P15), so that a heartbeat never waits behind
//! somebody's value.

use std::collections::BTreeMap;

use flotilla_kv::entry::Origin;
use flotilla_raft::Time;
use flotilla_shard::{Layout, NodeId};

use crate::io::ConnId;
use crate::link::{Claims, FrameNumber, FrameWriter, Hello, PacketKind, begin_raft};

/// The first pause before a peer is dialled again, microseconds; doubles up to the longest.
const REDIAL_MICROS: u64 = 20_000;
pub(crate) const REDIAL_MICROS_MAX: u64 = 300_000;
/// A link that has not said hello by then is given up, microseconds.
pub(crate) const DIAL_MICROS_MAX: u64 = 3_000_000;
/// A peer that owes answers and has said nothing for so long is taken to be out of reach.
pub(crate) const SILENT_MICROS: u64 = 1_000_000;
/// A row of a packet is closed at this size, bytes; the next item begins another.
const ROW_BYTES: usize = 4 << 20;

/// What a turn has for a peer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The body of a Raft packet.
    pub(crate) raft: Vec<u8>,
    /// The body of a Replies packet.
    pub(crate) replies: Vec<u8>,
    /// The body of a Requests packet.
    pub(crate) requests: Vec<u8>,
    /// Packets that are complete: founding, and rows that grew long.
    pub(crate) first: Vec<(PacketKind, Vec<u8>)>,
}

impl Outbox {
    /// How much waits, bytes.
    fn bytes(&self) -> usize {
        let Self { raft, replies, requests, first } = self;
        let long: usize = first.iter().map(|(_, body)| body.len()).sum();
        long + raft.len() + replies.len() + requests.len()
    }

    /// Whether answers to requests wait in rows that grew long, which go ahead of all others.
    fn has_long_answers(&self) -> bool {
        self.first.iter().any(|(kind, _)| *kind == PacketKind::Replies)
    }

    /// Closes rows that have grown long, so that no packet comes near the limit of the wire.
    pub(crate) fn close_long_rows(&mut self) {
        let rows = [
            (PacketKind::Raft, &mut self.raft),
            (PacketKind::Replies, &mut self.replies),
            (PacketKind::Requests, &mut self.requests),
        ];
        for (kind, body) in rows {
            if body.len() >= ROW_BYTES {
                self.first.push((kind, std::mem::take(body)));
            }
        }
    }
}

/// A node other than this one.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it listens, `ip:port`.
    pub(crate) address: String,
    /// The link, once both sides have said hello.
    pub(crate) link: Option<ConnId>,
    /// A link that this node dialled and that is not up yet.
    pub(crate) dialing: Option<ConnId>,
    /// When that attempt is given up.
    pub(crate) dial_until: Time,
    /// When the last packet came.
    pub(crate) heard_at: Time,
    /// When to dial next, if this node dials.
    pub(crate) redial_at: Time,
    /// Its last hello; kept when the link breaks, for its ports.
    pub(crate) hello: Option<Hello>,
    /// What waits to leave.
    pub(crate) outbox: Outbox,
    /// The generation of the claims it was sent last.
    pub(crate) claims_sent: u64,
    /// The generation of the latest claims that came on this link.
    pub(crate) claims_heard: u64,
    /// Up to which frame it was told on this link that the log here is durable.
    durable_told: u64,
    pause: u64,
}

impl Peer {
    /// A peer that was not heard of yet.
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            link: None,
            dialing: None,
            dial_until: Time(0),
            heard_at: Time(0),
            redial_at: Time(0),
            hello: None,
            outbox: Outbox::default(),
            claims_sent: 0,
            claims_heard: 0,
            durable_told: 0,
            pause: REDIAL_MICROS,
        }
    }

    /// The link is up.
    pub(crate) fn on_up(&mut self, conn: ConnId, hello: Hello) {
        self.link = Some(conn);
        self.dialing = None;
        self.hello = Some(hello);
        self.claims_sent = 0;
        self.claims_heard = 0;
        self.durable_told = 0;
        self.pause = REDIAL_MICROS;
        self.outbox = Outbox::default();
    }

    /// The link, or the attempt, is gone.
    pub(crate) fn on_down(&mut self, now: Time) {
        self.link = None;
        self.dialing = None;
        self.outbox = Outbox::default();
        self.redial_at = now + self.pause;
        self.pause = (self.pause * 2).min(REDIAL_MICROS_MAX);
    }

    /// Who its requests come from.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let hello = self.hello.as_ref()?;
        Some(Origin {
            node: hello.from.0,
            incarnation: hello.incarnation,
            nonce: hello.nonce,
            lane: hello.lane,
        })
    }

    /// Whether anything waits to leave.
    pub(crate) fn has_news(&self, claims: &Claims) -> bool {
        self.outbox.bytes() > 0 || self.claims_sent != claims.generation
    }

    /// The bytes of everything that waits, in the order of the wire, from frame `next_frame` of the
    /// link on. `durable_through` goes before everything that may rest on it: what cores say, and
    /// answers to writes, since a leader's own disk counts for a commit.
    pub(crate) fn flush(
        &mut self,
        next_frame: &mut FrameNumber,
        claims: &Claims,
        durable_through: u64,
        wall_ms: u64,
    ) -> Vec<u8> {
        let mut writer = FrameWriter::with_room(next_frame, self.outbox.bytes());
        let (raft, replies) = (!self.outbox.raft.is_empty(), !self.outbox.replies.is_empty());
        let long = self.outbox.has_long_answers();
        if self.durable_told < durable_through && (long || (replies && !raft)) {
            writer.packet_with(PacketKind::Raft, wall_ms, |out| begin_raft(out, durable_through));
        }
        if long || replies || raft {
            self.durable_told = durable_through;
        }
        let put = |writer: &mut FrameWriter<'_>, kind, body: &[u8]| {
            writer.packet_with(kind, wall_ms, |out| {
                if kind == PacketKind::Raft {
                    begin_raft(out, durable_through);
                }
                out.extend_from_slice(body);
            });
        };
        for (kind, body) in self.outbox.first.drain(..) {
            put(&mut writer, kind, &body);
        }
        if self.claims_sent != claims.generation {
            self.claims_sent = claims.generation;
            writer.packet_with(PacketKind::Claims, wall_ms, |out| claims.encode(out));
        }
        let rows = [
            (PacketKind::Raft, &mut self.outbox.raft),
            (PacketKind::Replies, &mut self.outbox.replies),
            (PacketKind::Requests, &mut self.outbox.requests),
        ];
        for (kind, body) in rows {
            if !body.is_empty() {
                put(&mut writer, kind, body);
                body.clear();
            }
        }
        writer.take()
    }
}

/// All other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// By their numbers.
    pub(crate) map: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// All nodes of `layout` but `me`, none of them heard of yet.
    pub(crate) fn of(layout: &Layout, me: NodeId) -> Self {
        let others = layout.node_ids().filter(|node| *node != me);
        let peer = |node| (node, Peer::new(layout.address(node).unwrap_or_default().to_string()));
        Self { map: others.map(peer).collect() }
    }

    /// Whether `origin` is the present boot of a peer: to one that is over nothing is answered.
    pub(crate) fn is_present(&self, origin: Origin) -> bool {
        self.map.get(&NodeId(origin.node)).and_then(Peer::origin) == Some(origin)
    }

    /// The outbox of a peer whose link is up.
    pub(crate) fn outbox(&mut self, node: NodeId) -> Option<&mut Outbox> {
        let peer = self.map.get_mut(&node)?;
        peer.link.is_some().then_some(&mut peer.outbox)
    }

    /// Whether the link to a node is up.
    pub(crate) fn is_linked(&self, node: NodeId) -> bool {
        self.map.get(&node).is_some_and(|peer| peer.link.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{FrameReader, decode_raft};

    /// What of a row of packets is from cores: how far a log is durable.
    fn durable_in(bytes: &[u8], reader: &mut FrameReader) -> Vec<u64> {
        reader.feed(bytes);
        let mut told = Vec::new();
        while let Some(packet) = reader.next_packet().expect("the bytes are sound") {
            if packet.kind == PacketKind::Raft {
                let packet = decode_raft(&packet.body).expect("it is sound");
                told.push(packet.durable_through);
            }
        }
        told
    }

    #[test]
    fn an_answer_never_goes_ahead_of_the_frame_that_it_rests_on() {
        let mut peer = Peer::new(String::new());
        let (claims, mut reader) =
            (Claims { generation: 0, leads: Vec::new() }, FrameReader::default());
        let mut next_frame = FrameNumber::default();
        let mut flush = |peer: &mut Peer, durable| {
            let bytes = peer.flush(&mut next_frame, &claims, durable, 0);
            durable_in(&bytes, &mut reader)
        };
        peer.outbox.replies.push(0);
        assert_eq!(flush(&mut peer, 7), [7]);
        peer.outbox.replies.push(0);
        assert!(flush(&mut peer, 7).is_empty(), "it knows that");
        peer.outbox.requests.push(0);
        assert!(flush(&mut peer, 8).is_empty(), "nothing rests on it");
        peer.outbox.first.push((PacketKind::Replies, vec![0]));
        assert_eq!(flush(&mut peer, 8), [8]);
    }
}
