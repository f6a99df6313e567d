//! Connections as events: who is there, hello, packets, and the end.

use flotilla_raft::{Body, Input, Time};
use flotilla_shard::{NodeId, ShardId};

use crate::client::{Client, Connected};
use crate::conns::{Caller, Conn, Link, Newcomer, OpenByShard};
use crate::founding::{FoundingMessage, Output as FoundingOutput, Standing};
use crate::io::{ConnId, Face, Notice, Now, Output};
use crate::link::{
    Admitted, Asking, Claims, FORMAT, FrameNumber, FrameReader, FrameWriter, Hello, LinkError,
    PREFACE, Packet, PacketKind, Purpose, Sniff, decode_raft, sniff,
};
use crate::node::Node;
use crate::peers::{DIAL_MICROS_MAX, Peer, SILENT_MICROS};

/// Bytes that a link may send before its hello is there.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// Bytes that a packet may have before the link is known to be one of the cluster's: room for a
/// founding record, of which others are to hear.
const STRANGER_BYTES_MAX: usize = 1 << 20;

impl Node {
    pub(crate) fn on_accepted(
        &mut self,
        conn: ConnId,
        face: Face,
        remote: String,
        local: String,
        now: Now,
    ) {
        let connected = Connected { id: conn.0, face, remote, local };
        let accepted = match face {
            Face::Plain => Conn::Unknown(Box::new(Newcomer { connected, buffer: Vec::new() })),
            Face::Cluster => self.client(connected, now),
        };
        self.conns.insert(conn, accepted);
    }

    fn client(&self, connected: Connected, now: Now) -> Conn {
        Conn::Client(Box::new(Caller {
            client: Client::new(connected, &self.options, now),
            parked: None,
            open: OpenByShard::default(),
            stalled: false,
            paused: false,
            ended: false,
            congested: false,
        }))
    }

    pub(crate) fn on_received(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        match self.conns.any_mut(conn) {
            Some(Conn::Client(caller)) => {
                caller.client.feed(bytes, now);
                self.ready.insert(conn);
            }
            Some(Conn::Link(link)) => {
                link.unproven += if link.hello.is_none() { bytes.len() } else { 0 };
                if link.unproven > HELLO_BYTES_MAX {
                    self.drop_link(conn, "it sends much and says no hello", now);
                    return;
                }
                link.reader.feed(bytes);
                self.read_packets(conn, now);
                if self.is_long_stranger(conn) {
                    self.drop_link(conn, "it sends much and is no node of this cluster", now);
                }
            }
            Some(Conn::Unknown(newcomer)) => {
                newcomer.buffer.extend_from_slice(bytes);
                match sniff(&newcomer.buffer) {
                    Sniff::NeedMore => {}
                    Sniff::Client => self.become_client(conn, now),
                    Sniff::Link => self.become_link(conn, now),
                }
            }
            None => {}
        }
    }

    /// Whether a link has sent much of a packet that nobody here will read.
    fn is_long_stranger(&self, conn: ConnId) -> bool {
        self.conns.link(conn).is_some_and(|link| {
            link.reader.unfinished() > STRANGER_BYTES_MAX
                && (link.stranger
                    || !link.hello.as_ref().is_some_and(|hello| self.founding.admits(hello)))
        })
    }

    fn become_client(&mut self, conn: ConnId, now: Now) {
        let Some(Conn::Unknown(newcomer)) = self.conns.remove(conn) else { return };
        let Newcomer { connected, buffer } = *newcomer;
        let client = self.client(connected, now);
        self.conns.insert(conn, client);
        self.on_received(conn, &buffer, now);
    }

    fn become_link(&mut self, conn: ConnId, now: Now) {
        let Some(Conn::Unknown(newcomer)) = self.conns.remove(conn) else { return };
        if !self.booted {
            // Nothing is sent before this boot's incarnation is durable: the peer dials again.
            self.outputs.push(Output::Close { conn });
            return;
        }
        let link = Link {
            reader: FrameReader::default(),
            next_frame: FrameNumber::default(),
            node: None,
            purpose: Purpose::Turns,
            hello: None,
            stranger: false,
            unproven: 0,
            dialed: false,
        };
        self.conns.insert(conn, Conn::Link(Box::new(link)));
        self.on_received(conn, &newcomer.buffer[PREFACE.len()..], now);
    }

    /// Dials `node`; the answer is [`crate::Event::Dialed`].
    pub(crate) fn dial(&mut self, node: NodeId, purpose: Purpose) -> Option<ConnId> {
        let address = self.peers.map.get(&node)?.address.clone();
        let conn = ConnId(self.next_dial);
        self.next_dial += 1;
        let link = Link {
            reader: FrameReader::default(),
            next_frame: FrameNumber::default(),
            node: Some(node),
            purpose,
            hello: None,
            stranger: false,
            unproven: 0,
            dialed: true,
        };
        self.conns.insert(conn, Conn::Link(Box::new(link)));
        self.outputs.push(Output::Dial { conn, address });
        Some(conn)
    }

    /// Dials the peers whose turn it is: of two nodes the one with the lower number dials.
    pub(crate) fn dial_peers(&mut self, now: Now) {
        if !self.booted {
            return;
        }
        let attempts = self.peers.map.values().filter(|peer| peer.dial_until <= now.time);
        let late: Vec<ConnId> = attempts.filter_map(|peer| peer.dialing).collect();
        for conn in late {
            self.outputs.push(Output::Close { conn });
            self.on_closed(conn, now);
        }
        let due: Vec<NodeId> = self
            .peers
            .map
            .iter()
            .filter(|(node, peer)| {
                **node > self.me
                    && peer.link.is_none()
                    && peer.dialing.is_none()
                    && peer.redial_at <= now.time
            })
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            let dialing = self.dial(node, Purpose::Turns);
            if let Some(peer) = self.peers.map.get_mut(&node) {
                peer.dialing = dialing;
                peer.dial_until = now.time + DIAL_MICROS_MAX;
            }
        }
    }

    /// When the next peer is to be dialled.
    pub(crate) fn next_dial_at(&self) -> Time {
        if !self.booted {
            return Time::NEVER;
        }
        let waiting =
            self.peers.map.iter().filter(|(node, peer)| **node > self.me && peer.link.is_none());
        let due =
            |peer: &Peer| if peer.dialing.is_some() { peer.dial_until } else { peer.redial_at };
        waiting.map(|(_, peer)| due(peer)).min().unwrap_or(Time::NEVER)
    }

    pub(crate) fn on_dialed(&mut self, conn: ConnId, connected: bool, now: Now) {
        let Some(link) = self.conns.link_mut(conn) else { return };
        let (node, purpose) = (link.node, link.purpose);
        if !connected {
            self.on_closed(conn, now);
            return;
        }
        let Some(node) = node else { return };
        self.send_hello(conn, node, purpose, now);
    }

    /// Sends the first packet of this side; what tells a link from a client goes before it.
    fn send_hello(&mut self, conn: ConnId, to: NodeId, purpose: Purpose, now: Now) {
        let (disk, storage_id) = self.founding.own_disk();
        let hello = Hello {
            format: FORMAT,
            purpose,
            layout_digest: self.founding.layout_digest(),
            from: self.me,
            to,
            storage_id,
            incarnation: self.origin.incarnation,
            nonce: self.origin.nonce,
            lane: self.origin.lane,
            cluster: self.record.as_ref().map(flotilla_shard::FoundingRecord::cluster_id),
            cluster_port: self.ports.0,
            http_port: self.ports.1,
            disk,
            known: self.known_disk(to),
        };
        let Some(link) = self.conns.link_mut(conn) else { return };
        let mut bytes = if link.dialed { PREFACE.to_vec() } else { Vec::new() };
        let mut writer = FrameWriter::new(&mut link.next_frame);
        writer.packet_with(PacketKind::Hello, now.wall_ms, |out| hello.encode(out));
        bytes.extend(writer.take());
        self.outputs.push(Output::Send { conn, bytes });
    }

    /// Sends a packet on a link, if that is still there.
    pub(crate) fn send_packet(
        &mut self,
        conn: ConnId,
        kind: PacketKind,
        now: Now,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(link) = self.conns.link_mut(conn) else { return };
        let mut writer = FrameWriter::new(&mut link.next_frame);
        writer.packet_with(kind, now.wall_ms, encode);
        self.outputs.push(Output::Send { conn, bytes: writer.take() });
    }

    fn read_packets(&mut self, conn: ConnId, now: Now) {
        loop {
            let Some(link) = self.conns.link_mut(conn) else { return };
            let packet = match link.reader.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => {
                    self.drop_link(conn, &error.to_string(), now);
                    return;
                }
            };
            if let Err(reason) = self.on_packet(conn, &packet, now) {
                self.drop_link(conn, &reason, now);
                return;
            }
        }
    }

    /// A peer owes answers to a stream and says nothing at all: a new link is made rather than more
    /// and more sent on this one.
    pub(crate) fn on_silent_peer(&mut self, node: NodeId, now: Now) {
        let Some(peer) = self.peers.map.get(&node) else { return };
        if let Some(conn) = peer.link
            && now.time.since(peer.heard_at) >= SILENT_MICROS
        {
            self.drop_link(conn, "it has not answered for a second", now);
        }
    }

    /// Closes a link for a reason that the operator may want to know.
    fn drop_link(&mut self, conn: ConnId, reason: &str, now: Now) {
        if let Some(link) = self.conns.link_mut(conn) {
            let who =
                link.node.map_or("an unknown node".to_string(), |node| format!("node {node}"));
            self.notice(Notice::Warning(format!("a link with {who} is closed: {reason}")));
        }
        self.outputs.push(Output::Close { conn });
        self.on_closed(conn, now);
    }

    fn on_packet(&mut self, conn: ConnId, packet: &Packet, now: Now) -> Result<(), String> {
        let Some(link) = self.conns.link_mut(conn) else { return Ok(()) };
        if packet.kind == PacketKind::Hello {
            return self.on_hello(conn, packet, now);
        }
        let Some(hello) = &link.hello else {
            return Err("it did not begin with a hello".to_string());
        };
        let words = |error: LinkError| error.to_string();
        if packet.kind == PacketKind::Founding {
            let message = FoundingMessage::decode(&packet.body).map_err(words)?;
            let from = hello.from;
            self.founding.on_message(hello, message);
            if let Some(peer) = self.peers.map.get_mut(&from)
                && peer.link == Some(conn)
            {
                // What it could not take before it was founded is told again.
                peer.claims_sent = 0;
            }
            self.after_founding(now);
            return Ok(());
        }
        if link.stranger || !self.founding.admits(hello) {
            // It will be admitted once both ends know that they are founded; what it says until
            // then is repeated by whoever needs it.
            return Ok(());
        }
        let node = hello.from;
        self.clock.heard(node, packet.wall_ms, now);
        if let Some(peer) = self.peers.map.get_mut(&node) {
            peer.heard_at = now.time;
        }
        match packet.kind {
            PacketKind::Hello | PacketKind::Founding => Ok(()),
            PacketKind::Claims => {
                let claims = Claims::decode(&packet.body).map_err(words)?;
                self.on_claims(node, &claims);
                Ok(())
            }
            PacketKind::Raft => {
                let packet = decode_raft(&packet.body).map_err(words)?;
                self.founding.note_durable(node, packet.durable_through);
                for (shard, mut message) in packet.messages {
                    let known = self.replicas.get(&shard).and_then(|r| r.node_of(message.from));
                    if known == Some(node) {
                        if let Body::AppendEntries { entries, .. } = &mut message.body
                            && self.has_full_log(shard)
                        {
                            // What is left of it is a heartbeat: the leader will send them again.
                            entries.clear();
                        }
                        self.step(shard, Input::Message(message), now);
                    }
                }
                Ok(())
            }
            PacketKind::Asking => {
                let asking = Asking::decode(&packet.body).map_err(words)?;
                self.on_asking(conn, node, &asking, now);
                Ok(())
            }
            PacketKind::Admitted => {
                let admitted = Admitted::decode(&packet.body).map_err(words)?;
                self.on_admitted(admitted, now);
                Ok(())
            }
            PacketKind::Requests => self.on_requests(node, &packet.body).map_err(words),
            PacketKind::Replies => self.on_replies(&packet.body, now).map_err(words),
            PacketKind::Snapshot => self.on_snapshot(conn, node, &packet.body, now).map_err(words),
            PacketKind::SnapshotReply => {
                self.on_snapshot_reply(conn, &packet.body, now).map_err(words)
            }
        }
    }

    fn on_hello(&mut self, conn: ConnId, packet: &Packet, now: Now) -> Result<(), String> {
        let hello = Hello::decode(&packet.body).map_err(|error| error.to_string())?;
        let Some(link) = self.conns.link_mut(conn) else { return Ok(()) };
        if link.hello.is_some() {
            return Err("it said hello twice".to_string());
        }
        let standing = self.founding.on_hello(&hello)?;
        let stranger = standing == Standing::Stranger;
        link.stranger = stranger;
        link.purpose = hello.purpose;
        link.hello = Some(hello.clone());
        let answers = !link.dialed;
        if !stranger {
            link.node = Some(hello.from);
        }
        // What was seen of the other side before this link is said before this link counts.
        if answers {
            self.send_hello(conn, hello.from, hello.purpose, now);
        }
        self.hear_of_own_disk(&hello, now)?;
        if !stranger {
            self.founding.see_boot(&hello);
        }
        if let Some(message) = self.founding.message() {
            self.send_packet(conn, PacketKind::Founding, now, |out| message.encode(out));
        }
        match hello.purpose {
            _ if stranger => {}
            Purpose::Turns => self.link_up(conn, hello, now),
            Purpose::Snapshots => self.on_snapshot_link(conn, now),
        }
        self.after_founding(now);
        Ok(())
    }

    fn link_up(&mut self, conn: ConnId, hello: Hello, now: Now) {
        let node = hello.from;
        let Some(peer) = self.peers.map.get_mut(&node) else { return };
        if let Some(old) = peer.link.take() {
            self.outputs.push(Output::Close { conn: old });
            if let Some(Conn::Link(old)) = self.conns.remove(old)
                && let Some(hello) = &old.hello
            {
                self.founding.on_link_down(hello);
            }
            self.link_lost(node, now);
        }
        if let Some(peer) = self.peers.map.get_mut(&node) {
            peer.on_up(conn, hello);
        }
        self.notice(Notice::Link { node, up: true });
        let shards: Vec<ShardId> = self.replicas.keys().copied().collect();
        for shard in shards {
            self.tell_raft_of_peer(shard, node, true, now);
        }
        self.revive_if_sure(now);
    }

    /// What a broken link means to everything that used it.
    fn link_lost(&mut self, node: NodeId, now: Now) {
        self.notice(Notice::Link { node, up: false });
        for conn in self.conns.snapshot_links(node) {
            self.outputs.push(Output::Close { conn });
            self.on_closed(conn, now);
        }
        let shards: Vec<ShardId> = self.replicas.keys().copied().collect();
        for shard in shards {
            self.tell_raft_of_peer(shard, node, false, now);
        }
        for stream in self.streams.values_mut() {
            if stream.target().is_some_and(|(_, target)| target == node) {
                stream.set_target(None, now.time);
            }
        }
    }

    pub(crate) fn tell_raft_of_peer(&mut self, shard: ShardId, node: NodeId, up: bool, now: Now) {
        let Some(replica) = self.replicas.get(&shard) else { return };
        for replica in replica.on_node(node) {
            let input = if up { Input::PeerAlive(replica) } else { Input::PeerGone(replica) };
            self.step(shard, input, now);
        }
    }

    pub(crate) fn linked_nodes(&self) -> Vec<NodeId> {
        let linked = self.peers.map.iter().filter(|(_, peer)| peer.link.is_some());
        linked.map(|(node, _)| *node).collect()
    }

    pub(crate) fn on_closed(&mut self, conn: ConnId, now: Now) {
        match self.conns.remove(conn) {
            None | Some(Conn::Unknown(_)) => {}
            Some(Conn::Client(_)) => {
                self.held.remove(&conn);
            }
            Some(Conn::Link(link)) => {
                self.on_snapshot_link_lost(conn, now);
                if let Some(hello) = &link.hello {
                    self.founding.on_link_down(hello);
                }
                let Some(node) = link.node else { return };
                let Some(peer) = self.peers.map.get_mut(&node) else { return };
                if peer.link == Some(conn) {
                    peer.on_down(now.time);
                    self.link_lost(node, now);
                } else if peer.dialing == Some(conn) {
                    peer.on_down(now.time);
                }
            }
        }
    }

    /// A peer's list of what it leads, unless a later one was there before it.
    fn on_claims(&mut self, node: NodeId, claims: &Claims) {
        let Some(peer) = self.peers.map.get_mut(&node) else { return };
        if claims.generation >= peer.claims_heard {
            peer.claims_heard = claims.generation;
            self.leaders.on_claims(node, claims);
        }
    }

    /// Carries out what the founding wants done.
    pub(crate) fn after_founding(&mut self, now: Now) {
        loop {
            let outputs = self.founding.take_outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    FoundingOutput::Log(state) => self.log_state(&state),
                    FoundingOutput::Announce(message) => self.announce(&message),
                    FoundingOutput::Founded(record) => self.join(record, now),
                    FoundingOutput::Fatal(text) => self.notice(Notice::Fatal(text)),
                    FoundingOutput::Renewed(reason) => self.notice(Notice::Restart(reason)),
                    FoundingOutput::Warning(text) => self.notice(Notice::Warning(text)),
                }
            }
        }
    }

    fn announce(&mut self, message: &FoundingMessage) {
        for node in self.linked_nodes() {
            if let Some(outbox) = self.peers.outbox(node) {
                let mut body = Vec::new();
                message.encode(&mut body);
                outbox.first.push((PacketKind::Founding, body));
            }
        }
    }

    /// Sends every peer what the turn has for it.
    pub(crate) fn flush_peers(&mut self, now: Now) {
        let leads: Vec<_> = self
            .replicas
            .values()
            .filter_map(|replica| Some((replica.shard, replica.lead.as_ref()?.term)))
            .collect();
        if leads != self.claims.leads {
            self.claims = Claims { generation: self.claims.generation + 1, leads };
        }
        for peer in self.peers.map.values_mut() {
            let Some(conn) = peer.link.filter(|_| peer.has_news(&self.claims)) else { continue };
            let Some(link) = self.conns.link_mut(conn) else { continue };
            let next_frame = &mut link.next_frame;
            let bytes = peer.flush(next_frame, &self.claims, self.durable_through, now.wall_ms);
            self.outputs.push(Output::Send { conn, bytes });
        }
    }
}

#[cfg(test)]
mod tests;
