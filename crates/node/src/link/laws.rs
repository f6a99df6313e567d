//! What must hold of any bytes that a link receives, for the tests and for the fuzz targets.

use std::sync::Arc;

use flotilla_kv::args::Args;
use flotilla_kv::entry::Chunk;

use super::{
    Admitted, Asking, Claims, FrameNumber, FrameReader, FrameWriter, Hello, LinkError, MAX_BODY,
    Packet, PacketKind, RaftEncoder, Replies, ReplyEncoder, Request, RequestEncoder, Requests,
    Snapshot, SnapshotReply, begin_raft, decode_raft,
};
use crate::founding::FoundingMessage;

/// Frames made of one input, at most: each may be long.
const FRAMES_MAX: usize = 6;
/// Pieces that one input is cut into, at most.
const PIECES_MAX: usize = 2_048;

/// The packets and the error that come of bytes which arrive in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> (Vec<Packet>, Option<LinkError>) {
    read_on(FrameReader::default(), bytes, piece)
}

fn read_on(
    mut reader: FrameReader,
    bytes: &[u8],
    piece: usize,
) -> (Vec<Packet>, Option<LinkError>) {
    let mut packets = Vec::new();
    for piece in bytes.chunks(piece) {
        reader.feed(piece);
        loop {
            match reader.next_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// Reads bytes at once and in pieces, of which there are at most [`PIECES_MAX`].
fn is_read_alike(bytes: &[u8], piece: usize) -> (Vec<Packet>, Option<LinkError>) {
    let piece = piece.max(bytes.len().div_ceil(PIECES_MAX));
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, piece), "pieces of {piece} bytes give something else");
    whole
}

/// The numbers that an input is made of; zeros after its end.
struct Numbers<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// Whether a long length may come: one is enough, and takes its time.
    long: bool,
}

impl<'a> Numbers<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter(), long: true }
    }

    fn next(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    /// A length: mostly short, now and then about as long as a frame's body can be.
    fn length(&mut self) -> usize {
        let (kind, number) = (self.next(), usize::from(self.next()));
        if kind < 254 || !std::mem::take(&mut self.long) {
            return number;
        }
        let frames = usize::from(kind - 253);
        MAX_BODY * frames - 8 + number % 16
    }

    fn is_over(&self) -> bool {
        self.bytes.as_slice().is_empty()
    }
}

/// Packets are the same however their bytes are cut, of noise, of frames with the right checksum
/// and anything else wrong, and of what this code writes, which is read back as it was, up to the
/// first frame that is not in its turn.
pub(crate) fn frames(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else { return };
    let piece = usize::from(first) + 1;
    is_read_alike(bytes, piece);
    forged(bytes, piece);
    written(bytes, piece);
    out_of_turn(bytes, piece);
}

fn forged(bytes: &[u8], piece: usize) {
    let mut numbers = Numbers::of(bytes);
    let mut stream = Vec::new();
    for number in 0..FRAMES_MAX as u32 {
        if numbers.is_over() {
            break;
        }
        let (kind, flags, fill) = (numbers.next() % 10, numbers.next(), numbers.next());
        let number = if flags < 250 { number } else { number ^ u32::from(fill) };
        let body = vec![fill; numbers.length().min(MAX_BODY)];
        stream.extend(forged_frame(number, kind, flags % 3, &body));
    }
    let (packets, error) = is_read_alike(&stream, piece);
    let received: usize = packets.iter().map(|packet| packet.body.len()).sum();
    assert!(received <= stream.len(), "packets are made of what was received");
    assert!(packets.len() <= FRAMES_MAX, "no packet without a frame: {error:?}");
}

/// The frame of this number with the right checksums and whatever else.
pub(crate) fn forged_frame(number: u32, kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut number = FrameNumber(number);
    let mut writer = FrameWriter::new(&mut number);
    writer.packet(PacketKind::Raft, body, 1);
    let mut bytes = writer.take();
    (bytes[2], bytes[3]) = (kind, flags);
    seal_forged(number.0.wrapping_sub(1), &mut bytes);
    bytes
}

/// Makes the checksums of the frame of this number right, whatever its header says.
pub(crate) fn seal_forged(number: u32, bytes: &mut [u8]) {
    let crc = |bytes: &[u8]| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    let head = crc(&bytes[..16]) ^ number;
    let whole = crc(&[&bytes[..16], &bytes[24..]].concat());
    bytes[16..20].copy_from_slice(&head.to_le_bytes());
    bytes[20..24].copy_from_slice(&whole.to_le_bytes());
}

/// How many kinds of packets there are.
const KINDS: u8 = 10;

fn written(bytes: &[u8], piece: usize) {
    let mut numbers = Numbers::of(bytes);
    let mut number = FrameNumber::default();
    let mut writer = FrameWriter::new(&mut number);
    let mut expected = Vec::new();
    for _ in 0..FRAMES_MAX {
        if numbers.is_over() {
            break;
        }
        let kind = PacketKind::from_byte(numbers.next() % KINDS + 1).expect("there are ten kinds");
        let wall_ms = u64::from(numbers.next()) << 40;
        let fill = numbers.next();
        let body: Vec<u8> = (0..numbers.length()).map(|at| fill.wrapping_add(at as u8)).collect();
        writer.packet(kind, &body, wall_ms);
        expected.push(Packet { kind, wall_ms, body: Arc::new(body) });
    }
    let read = is_read_alike(&writer.take(), piece);
    assert_eq!(read, (expected, None), "what was written is read back");
}

/// One frame is lost, comes twice, or changes places with another.
fn out_of_turn(bytes: &[u8], piece: usize) {
    let mut numbers = Numbers::of(bytes);
    let (fault, place, other) = (numbers.next() % 3, numbers.next(), numbers.next());
    let mut number = FrameNumber(u32::MAX - 2);
    let mut frames: Vec<Vec<u8>> = (0..FRAMES_MAX)
        .map(|_| {
            let body = vec![numbers.next(); usize::from(numbers.next())];
            let mut writer = FrameWriter::new(&mut number);
            writer.packet(PacketKind::Requests, &body, 1);
            writer.take()
        })
        .collect();
    // Not the first: who reads learns from it where this row begins.
    let place = 1 + usize::from(place) % (FRAMES_MAX - 2);
    let other = place + 1 + usize::from(other) % (FRAMES_MAX - 1 - place);
    let wrong_at = match fault {
        0 => {
            frames.remove(place);
            place
        }
        1 => {
            frames.insert(other, frames[place].clone());
            other
        }
        _ => {
            frames.swap(place, other);
            place
        }
    };
    let row = frames.concat();
    let piece = piece.max(row.len().div_ceil(PIECES_MAX));
    for size in [row.len(), piece] {
        let (packets, error) = read_on(FrameReader::amid(), &row, size);
        assert_eq!(packets.len(), wrong_at, "what comes in its turn is taken, and no more");
        assert!(matches!(error, Some(LinkError::Turn { .. })), "{error:?}");
    }
}

/// A packet that is understood is written again with the same bytes: there is one way to say a
/// thing. The first byte is the kind of the packet, the others are its body.
pub(crate) fn packets(input: &[u8]) {
    let Some((&first, body)) = input.split_first() else { return };
    let mut again = Vec::new();
    let understood = match PacketKind::from_byte(first % KINDS + 1).expect("there are ten kinds") {
        PacketKind::Hello => Hello::decode(body).map(|hello| hello.encode(&mut again)),
        PacketKind::Founding => return founding(body),
        PacketKind::Claims => Claims::decode(body).map(|claims| claims.encode(&mut again)),
        PacketKind::Raft => decode_raft(&Arc::new(body.to_vec())).map(|packet| {
            begin_raft(&mut again, packet.durable_through);
            let mut encoder = RaftEncoder::new(&mut again);
            for (shard, message) in &packet.messages {
                encoder.push(*shard, message);
            }
        }),
        PacketKind::Requests => {
            let requests: Result<Vec<_>, _> = Requests::new(body).collect();
            requests.map(|requests| {
                let mut encoder = RequestEncoder::new(&mut again);
                for request in requests {
                    look_into(&request);
                    encoder.push(request);
                }
            })
        }
        PacketKind::Replies => {
            let replies: Result<Vec<_>, _> = Replies::new(body).collect();
            replies.map(|replies| {
                let mut encoder = ReplyEncoder::new(&mut again);
                for reply in replies {
                    encoder.push(reply);
                }
            })
        }
        PacketKind::Snapshot => Snapshot::decode(body).map(|chunk| chunk.encode(&mut again)),
        PacketKind::SnapshotReply => {
            SnapshotReply::decode(body).map(|reply| reply.encode(&mut again))
        }
        PacketKind::Asking => Asking::decode(body).map(|asking| asking.encode(&mut again)),
        PacketKind::Admitted => Admitted::decode(body).map(|admitted| admitted.encode(&mut again)),
    };
    if understood.is_ok() {
        assert_eq!(again, body, "what was understood is written in the same way");
    }
}

/// The founding's JSON can be written in many ways, but says one thing.
fn founding(body: &[u8]) {
    if let Ok(message) = FoundingMessage::decode(body) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(FoundingMessage::decode(&again), Ok(message), "it says the same again");
    }
}

/// What a leader looks at next in a forwarded request.
fn look_into(request: &Request<'_>) {
    match request {
        Request::Writes { chunk: bytes, .. } => {
            if let Ok(chunk) = Chunk::parse(bytes) {
                let words = chunk.commands().flat_map(|command| command.args.iter());
                assert!(words.map(<[u8]>::len).sum::<usize>() <= bytes.len());
            }
        }
        Request::Read { command, .. } => {
            if let Ok(args) = Args::parse(command) {
                assert!(args.iter().map(<[u8]>::len).sum::<usize>() <= command.len());
            }
        }
    }
}
