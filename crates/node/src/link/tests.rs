//! Every packet there and back; frames cut at every byte; bytes that are wrong.

mod strategies;

use std::sync::Arc;

use flotilla_raft::{Body, Entry, EntryKind, Index, Message, Payload, ReplicaId, Term};
use flotilla_shard::{NodeId, ShardId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::laws::{self, forged_frame, seal_forged};
use super::wire::put_number;
use super::*;

fn read_all(reader: &mut FrameReader) -> (Vec<Packet>, Option<LinkError>) {
    let mut packets = Vec::new();
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => return (packets, None),
            Err(error) => return (packets, Some(error)),
        }
    }
}

fn packet(kind: PacketKind, body: &[u8], wall_ms: u64) -> Packet {
    Packet { kind, wall_ms, body: Arc::new(body.to_vec()) }
}

fn three_packets() -> (Vec<u8>, Vec<Packet>) {
    let packets = vec![
        packet(PacketKind::Claims, b"", 7),
        packet(PacketKind::Requests, b"some requests", 8),
        packet(PacketKind::Raft, &[0xA5; 40], u64::MAX),
    ];
    let mut number = FrameNumber::default();
    let mut writer = FrameWriter::new(&mut number);
    for packet in &packets {
        writer.packet(packet.kind, &packet.body, packet.wall_ms);
    }
    (writer.take(), packets)
}

fn error_of(bytes: &[u8]) -> Option<LinkError> {
    let mut reader = FrameReader::default();
    reader.feed(bytes);
    read_all(&mut reader).1
}

#[test]
fn a_client_is_told_from_a_node_by_the_first_bytes() {
    for known in 0..PREFACE.len() {
        assert_eq!(sniff(&PREFACE[..known]), Sniff::NeedMore);
        let mut other = PREFACE;
        other[known] ^= 1;
        assert_eq!(sniff(&other[..=known]), Sniff::Client);
    }
    assert_eq!(sniff(&PREFACE), Sniff::Link);
    assert_eq!(sniff(b"\xF1flotlnk and more"), Sniff::Link);
    assert_eq!(sniff(b"*1\r\n$4\r\nPING\r\n"), Sniff::Client);
    assert_eq!(sniff(b"PING"), Sniff::Client);
}

#[test]
fn the_bytes_of_a_frame_are_known() {
    let mut number = FrameNumber::default();
    let mut writer = FrameWriter::new(&mut number);
    writer.packet(PacketKind::Replies, b"abc", 0x0102);
    let bytes = writer.take();
    assert_eq!(writer.take(), b"");
    assert_eq!(bytes[..16], [0x7A, 0xF1, 6, 0, 3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    let crc =
        |checked: &[u8]| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, checked) as u32;
    assert_eq!(bytes[16..20], crc(&bytes[..16]).to_le_bytes(), "frame 0, of any format");
    assert_eq!(bytes[20..24], crc(&[&bytes[..16], b"abc"].concat()).to_le_bytes());
    assert_eq!(bytes[24..], *b"abc");
    let mut writer = FrameWriter::new(&mut number);
    writer.packet(PacketKind::Replies, b"abc", 0x0102);
    let next = writer.take();
    assert_eq!(next[16..20], (crc(&bytes[..16]) ^ 1).to_le_bytes());
    assert_eq!((&next[..16], &next[20..]), (&bytes[..16], &bytes[20..]));
}

#[test]
fn frames_split_at_every_byte() {
    let (bytes, packets) = three_packets();
    for cut in 0..=bytes.len() {
        let mut reader = FrameReader::default();
        reader.feed(&bytes[..cut]);
        let mut received = read_all(&mut reader).0;
        reader.feed(&bytes[cut..]);
        let (rest, error) = read_all(&mut reader);
        received.extend(rest);
        assert_eq!((received, error), (packets.clone(), None), "cut at {cut}");
    }
    let mut reader = FrameReader::default();
    for &byte in &bytes {
        reader.feed(&[byte]);
    }
    assert_eq!(read_all(&mut reader), (packets, None));
}

#[test]
fn a_flipped_bit_is_never_a_packet() {
    let (bytes, packets) = three_packets();
    for bit in 0..bytes.len() * 8 {
        let mut spoilt = bytes.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        let mut reader = FrameReader::default();
        reader.feed(&spoilt);
        let (received, _) = read_all(&mut reader);
        assert!(received.len() < packets.len(), "bit {bit}");
        assert_eq!(received, packets[..received.len()], "bit {bit}");
    }
}

/// A length that is believed wrongly would make a link deaf until as many bytes have come.
#[test]
fn a_flipped_bit_of_a_header_is_noticed_before_the_body_is_there() {
    let mut number = FrameNumber::default();
    let mut writer = FrameWriter::new(&mut number);
    writer.packet(PacketKind::Raft, b"a heartbeat", 7);
    let bytes = writer.take();
    for bit in 0..20 * 8 {
        let mut spoilt = bytes[..24].to_vec();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        let mut reader = FrameReader::default();
        reader.feed(&spoilt);
        assert!(reader.next_packet().is_err(), "bit {bit}");
    }
}

#[test]
fn long_packets_are_cut_and_joined() {
    let lengths = [MAX_BODY - 1, MAX_BODY, MAX_BODY + 1, 3 * MAX_BODY, 3 * MAX_BODY + 5];
    let mut number = FrameNumber::default();
    let mut writer = FrameWriter::new(&mut number);
    let body = |length: usize| (0..length).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    for length in lengths {
        writer.packet(PacketKind::Snapshot, &body(length), length as u64);
    }
    let bytes = writer.take();
    let frames = [1, 1, 2, 3, 4].iter().sum::<usize>();
    assert_eq!(bytes.len(), lengths.iter().sum::<usize>() + frames * 24);
    let mut reader = FrameReader::default();
    bytes.chunks(60_001).for_each(|piece| reader.feed(piece));
    let (received, error) = read_all(&mut reader);
    assert_eq!(error, None);
    let expected = lengths.map(|length| packet(PacketKind::Snapshot, &body(length), length as u64));
    assert!(received == expected, "the packets differ");
}

#[test]
fn an_encoder_may_write_straight_into_the_frame() {
    let mut number = FrameNumber::default();
    let mut writer = FrameWriter::new(&mut number);
    writer.packet(PacketKind::Hello, b"first", 1);
    writer.packet_with(PacketKind::Claims, 2, |out| out.extend(0..200));
    writer.packet_with(PacketKind::Raft, 3, |out| out.resize(out.len() + MAX_BODY + 9, 5));
    let mut reader = FrameReader::default();
    reader.feed(&writer.take());
    let (received, error) = read_all(&mut reader);
    assert_eq!(error, None);
    let expected = [
        packet(PacketKind::Hello, b"first", 1),
        packet(PacketKind::Claims, &(0..200).collect::<Vec<u8>>(), 2),
        packet(PacketKind::Raft, &vec![5; MAX_BODY + 9], 3),
    ];
    assert!(received == expected, "the packets differ");
}

#[test]
fn wrong_frames_are_named() {
    assert_eq!(error_of(&forged_frame(0, 4, 0, b"right")), None);
    assert_eq!(error_of(&forged_frame(0, 0, 0, b"")), Some(LinkError::Kind { kind: 0 }));
    assert_eq!(error_of(&forged_frame(0, 11, 0, b"")), Some(LinkError::Kind { kind: 11 }));
    assert_eq!(error_of(&forged_frame(0, 4, 2, b"")), Some(LinkError::Flags { flags: 2 }));
    assert_eq!(error_of(&forged_frame(0, 4, 1, b"not full")), Some(LinkError::Flags { flags: 1 }));
    assert_eq!(error_of(b"*1\r\n$4\r\nPING\r\nand so on and on"), Some(LinkError::Magic));

    let mut long = forged_frame(0, 4, 0, b"");
    long[4..8].copy_from_slice(&(MAX_BODY as u32 + 1).to_le_bytes());
    seal_forged(0, &mut long);
    let length = MAX_BODY as u32 + 1;
    assert_eq!(error_of(&long), Some(LinkError::FrameLength { length }));

    let mut changed = forged_frame(0, 4, 1, &vec![0; MAX_BODY]);
    changed.extend(forged_frame(1, 5, 0, b""));
    assert_eq!(error_of(&changed), Some(LinkError::Kind { kind: 5 }));
}

#[test]
fn a_frame_out_of_its_turn_is_named() {
    let read = |numbers: [u32; 3]| {
        let mut reader = FrameReader::default();
        for number in numbers {
            reader.feed(&forged_frame(number, 4, 0, b"a row"));
        }
        let (packets, error) = read_all(&mut reader);
        (packets.len(), error)
    };
    assert_eq!(read([0, 1, 2]), (3, None));
    assert_eq!(read([0, 2, 1]), (1, Some(LinkError::Turn { number: 2, due: 1 })));
    assert_eq!(read([0, 0, 1]), (1, Some(LinkError::Turn { number: 0, due: 1 })));
    assert_eq!(read([1, 2, 3]), (0, Some(LinkError::Turn { number: 1, due: 0 })));
    assert_eq!(read([0, 1, u32::MAX]), (2, Some(LinkError::Turn { number: u32::MAX, due: 2 })));
    assert_eq!(read([0, 1, 1 << 31]), (2, Some(LinkError::Checksum)), "most likely damage");
}

#[test]
fn numbers_of_frames_begin_again_after_the_last() {
    let (mut sent, mut reader) = (FrameNumber(u32::MAX), FrameReader::amid());
    for _ in 0..3 {
        let mut writer = FrameWriter::new(&mut sent);
        writer.packet(PacketKind::Raft, b"a row", 1);
        reader.feed(&writer.take());
    }
    assert_eq!(sent, FrameNumber(2));
    let (packets, error) = read_all(&mut reader);
    assert_eq!((packets.len(), error), (3, None));
}

#[test]
fn a_packet_ends_at_the_limit() {
    let frame = |number| forged_frame(number, 7, 1, &vec![0; MAX_BODY]);
    let mut reader = FrameReader::default();
    let frames = (MAX_PACKET / MAX_BODY) as u32;
    for number in 0..frames {
        reader.feed(&frame(number));
        assert_eq!(reader.next_packet(), Ok(None));
    }
    reader.feed(&frame(frames));
    assert_eq!(reader.next_packet(), Err(LinkError::PacketLength));
    assert_eq!(reader.next_packet(), Err(LinkError::PacketLength), "for ever");
}

#[test]
fn an_entry_is_a_view_into_the_packet() {
    let entry = Entry {
        index: Index(8),
        term: Term(2),
        kind: EntryKind::Normal,
        payload: Payload::new(b"payload".to_vec()),
    };
    let entries = vec![entry];
    let (prev_index, prev_term, commit) = (Index(7), Term(1), Index(6));
    let body = Body::AppendEntries { prev_index, prev_term, commit, round: 3, entries };
    let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(2), body };
    let mut body = Vec::new();
    begin_raft(&mut body, 7);
    RaftEncoder::new(&mut body).push(ShardId(1), &message);
    let body = Arc::new(body);
    let RaftPacket { durable_through, messages } = decode_raft(&body).expect("just encoded");
    assert_eq!(durable_through, 7);
    let Body::AppendEntries { entries, .. } = &messages[0].1.body else {
        panic!("an append was encoded")
    };
    assert!(body.as_ptr_range().contains(&entries[0].payload.bytes().as_ptr()));
    assert_eq!(Arc::strong_count(&body), 2);
    assert_eq!(messages, [(ShardId(1), message)]);
}

#[test]
fn an_index_does_not_overflow() {
    let mut body = Vec::new();
    for number in [0, 1, 1, 2, 3] {
        put_number(&mut body, number);
    }
    body.push(5);
    for number in [u64::MAX, 1, 1, 0, 1] {
        put_number(&mut body, number);
    }
    body.extend([1, 0, 0]);
    let wrong = Err(LinkError::Value { field: "previous index" });
    assert_eq!(decode_raft(&Arc::new(body)), wrong);
}

#[test]
fn another_format_is_told_as_such() {
    let mut body = Vec::new();
    body.extend_from_slice(&9_u16.to_le_bytes());
    assert_eq!(Hello::decode(&body), Err(LinkError::Format { found: 9 }));
    assert_eq!(Hello::decode(&[1]), Err(LinkError::Short { field: "format" }));
}

#[test]
fn claims_ascend() {
    let claims =
        Claims { generation: 1, leads: vec![(ShardId(2), Term(1)), (ShardId(2), Term(2))] };
    let mut body = Vec::new();
    claims.encode(&mut body);
    let wrong = Err(LinkError::Value { field: "order of claimed shards" });
    assert_eq!(Claims::decode(&body), wrong);
}

#[test]
#[should_panic(expected = "node 0 does not exist")]
fn a_refusal_never_names_node_0() {
    let (shard, reason, leader) = (ShardId(1), RefusalReason::Busy, Some(NodeId(0)));
    let refused = Reply::Refused { shard, epoch: 1, from_seq: 1, reason, leader, term: Term(1) };
    ReplyEncoder::new(&mut Vec::new()).push(refused);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_keep_the_laws(input in vec(any::<u8>(), 0..300)) {
        laws::frames(&input);
        laws::packets(&input);
    }

    #[test]
    fn hello_there_and_back(hello in strategies::hello()) {
        let mut body = Vec::new();
        hello.encode(&mut body);
        prop_assert_eq!(Hello::decode(&body), Ok(hello));
        body.push(0);
        prop_assert_eq!(Hello::decode(&body), Err(LinkError::Long));
    }

    #[test]
    fn claims_there_and_back(claims in strategies::claims()) {
        let mut body = Vec::new();
        claims.encode(&mut body);
        prop_assert_eq!(Claims::decode(&body), Ok(claims));
    }

    #[test]
    fn raft_there_and_back(
        messages in vec(strategies::message(), 0..6),
        durable_through in any::<u64>(),
    ) {
        let mut body = Vec::new();
        begin_raft(&mut body, durable_through);
        let mut encoder = RaftEncoder::new(&mut body);
        for (shard, message) in &messages {
            encoder.push(*shard, message);
        }
        prop_assert_eq!(decode_raft(&Arc::new(body)), Ok(RaftPacket { durable_through, messages }));
    }

    #[test]
    fn requests_there_and_back(requests in vec(strategies::request(), 0..6)) {
        let mut body = Vec::new();
        let mut encoder = RequestEncoder::new(&mut body);
        for &request in &requests {
            encoder.push(request);
        }
        prop_assert_eq!(Requests::new(&body).collect::<Result<Vec<_>, _>>(), Ok(requests));
    }

    #[test]
    fn replies_there_and_back(replies in vec(strategies::reply(), 0..6)) {
        let mut body = Vec::new();
        let mut encoder = ReplyEncoder::new(&mut body);
        for &reply in &replies {
            encoder.push(reply);
        }
        prop_assert_eq!(Replies::new(&body).collect::<Result<Vec<_>, _>>(), Ok(replies));
    }

    #[test]
    fn snapshots_there_and_back(
        snapshot in strategies::snapshot(),
        reply in strategies::snapshot_reply(),
    ) {
        let mut body = Vec::new();
        snapshot.encode(&mut body);
        prop_assert_eq!(Snapshot::decode(&body), Ok(snapshot));
        body.clear();
        reply.encode(&mut body);
        prop_assert_eq!(SnapshotReply::decode(&body), Ok(reply));
    }

    #[test]
    fn random_bytes_are_an_error_at_worst(bytes in vec(any::<u8>(), 0..200)) {
        read_everything(&bytes);
        let mut reader = FrameReader::default();
        reader.feed(&bytes);
        prop_assert!(read_all(&mut reader).0.is_empty());
    }

    #[test]
    fn spoilt_packets_are_an_error_at_worst(
        messages in vec(strategies::message(), 1..4),
        requests in vec(strategies::request(), 1..4),
        replies in vec(strategies::reply(), 1..4),
        snapshot in strategies::snapshot(),
        hello in strategies::hello(),
        places in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bodies = [const { Vec::new() }; 5];
        let [raft, asked, answered, snapshots, hellos] = &mut bodies;
        begin_raft(raft, 1);
        let mut encoder = RaftEncoder::new(raft);
        for (shard, message) in &messages {
            encoder.push(*shard, message);
        }
        let mut encoder = RequestEncoder::new(asked);
        for &request in &requests {
            encoder.push(request);
        }
        let mut encoder = ReplyEncoder::new(answered);
        for &reply in &replies {
            encoder.push(reply);
        }
        snapshot.encode(snapshots);
        hello.encode(hellos);
        for body in &mut bodies {
            for (place, byte) in &places {
                *place.get_mut(body) = *byte;
            }
            read_everything(body);
            body.truncate(cut.index(body.len()));
            read_everything(body);
        }
    }
}

/// Reads `body` as every kind of packet: it ends without a panic, and what is understood is written
/// in the same way.
fn read_everything(body: &[u8]) {
    for kind in 0..8 {
        laws::packets(&[&[kind], body].concat());
    }
}
