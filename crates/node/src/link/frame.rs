//! Frames: packets cut into pieces of at most 256 KiB, each with checksums of its own.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..2 | magic | u16, 0xF17A |
//! | 2 | kind | u8, a [`PacketKind`]; the same in all frames of a packet |
//! | 3 | flags | u8, bit 0 = MORE: the packet goes on in the next frame, and this body is full |
//! | 4..8 | length | u32, of the body, at most [`MAX_BODY`] |
//! | 8..16 | wall_ms | u64, the sender's wall clock when it made the packet, for P9 |
//! | 16..20 | head | u32, CRC-32C of bytes 0..16, exclusive-or the frame's number |
//! | 20..24 | crc | u32, CRC-32C of bytes 0..16 and the body |
//! | 24.. | body | |
//!
//! The header has a checksum of its own, since its length is believed before the body is there: one
//! flipped bit of it would make the receiver wait for 256 KiB that nobody sends, and be deaf to all
//! that comes meanwhile.
//!
//! Each direction of a connection numbers its frames from 0, modulo 2³² ([`FrameNumber`]). A number
//! costs no byte: who receives knows which one is due, and what `head` says besides must be the
//! checksum. So a frame that is missing, comes again or changes places with another is noticed by
//! its first 24 bytes, as a wrong checksum is, and the connection is closed: that what is sent on
//! one connection arrives in its order (P8) rests on these numbers, not on TCP alone. Frame 0, the
//! hello's, looks as it did before frames had numbers, so that a program of another format is told
//! that it is one.
//!
//! A packet is at most [`MAX_PACKET`] long; the frames of one packet follow each other.

use std::collections::VecDeque;
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};

use super::{LinkError, Packet, PacketKind};

/// The longest body of a frame, bytes (P15).
pub(crate) const MAX_BODY: usize = 256 << 10;

/// The longest packet, bytes.
pub(crate) const MAX_PACKET: usize = 128 << 20;

const MAGIC: u16 = 0xF17A;
const HEADER: usize = 24;
const CHECKED: usize = 16;
const BODY_CHECKED: usize = 20;
const MORE: u8 = 1;

/// A damaged header seems to have a number too, most likely a wild one: only one that is at most so
/// far from what is due is reported as that of a frame out of its turn.
const NEAR: u32 = 1 << 16;

/// The number of a frame on its way of a connection, from 0, modulo 2³².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameNumber(pub(crate) u32);

impl FrameNumber {
    /// This number, of which the next one takes the place.
    fn take(&mut self) -> Self {
        let number = *self;
        self.0 = self.0.wrapping_add(1);
        number
    }

    fn is_near(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0);
        ahead.min(ahead.wrapping_neg()) <= NEAR
    }
}

/// Cuts packets into the next frames of a connection.
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    out: Vec<u8>,
    /// Of the frame that is written next.
    next: &'a mut FrameNumber,
}

impl<'a> FrameWriter<'a> {
    /// A writer of what a connection sends after all before it; `next` is that connection's, and
    /// goes on with each frame.
    pub(crate) fn new(next: &'a mut FrameNumber) -> Self {
        Self { out: Vec::new(), next }
    }

    /// The same, with room for a packet of so many bytes.
    pub(crate) fn with_room(next: &'a mut FrameNumber, bytes: usize) -> Self {
        let frames = bytes / MAX_BODY + 4;
        Self { out: Vec::with_capacity(bytes + frames * HEADER), next }
    }

    /// Appends a packet. Panics if `body` is longer than [`MAX_PACKET`].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn packet(&mut self, kind: PacketKind, body: &[u8], wall_ms: u64) {
        self.packet_with(kind, wall_ms, |out| out.extend_from_slice(body));
    }

    /// Appends a packet whose body `encode` appends to the buffer it is given, which already holds
    /// other bytes. Panics if that is longer than [`MAX_PACKET`].
    pub(crate) fn packet_with(
        &mut self,
        kind: PacketKind,
        wall_ms: u64,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.out.len();
        self.out.resize(start + HEADER, 0);
        encode(&mut self.out);
        assert!(self.out.len() >= start + HEADER, "a packet's encoder only appends");
        let length = self.out.len() - start - HEADER;
        assert!(length <= MAX_PACKET, "a packet of {length} bytes is above the limit");
        let frames = length.div_ceil(MAX_BODY).max(1);
        self.spread(start, length, frames);
        for number in 0..frames {
            let more = number + 1 < frames;
            let body = if more { MAX_BODY } else { length - number * MAX_BODY };
            let frame = start + number * (HEADER + MAX_BODY);
            self.seal(frame, body, FrameHeader { kind: kind as u8, more, body, wall_ms });
        }
    }

    /// The bytes of all frames so far, and begins anew.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Makes room for the headers of a long packet's other frames, moving the last piece first.
    fn spread(&mut self, start: usize, length: usize, frames: usize) {
        self.out.resize(self.out.len() + (frames - 1) * HEADER, 0);
        for number in (1..frames).rev() {
            let from = number * MAX_BODY;
            let to = (from + MAX_BODY).min(length);
            let shift = start + HEADER;
            self.out.copy_within(shift + from..shift + to, shift + from + number * HEADER);
        }
    }

    fn seal(&mut self, frame: usize, body: usize, header: FrameHeader) {
        let FrameNumber(number) = self.next.take();
        let bytes = &mut self.out[frame..frame + HEADER + body];
        bytes[..CHECKED].copy_from_slice(&header.encode());
        let (head, crc) = checksums(&bytes[..CHECKED], &bytes[HEADER..]);
        bytes[CHECKED..BODY_CHECKED].copy_from_slice(&(head ^ number).to_le_bytes());
        bytes[BODY_CHECKED..HEADER].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Puts packets together again from bytes that arrive in pieces of any length.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// Of the frame that comes next.
    due: FrameNumber,
    /// Whether that is what the next frame says itself.
    amid: bool,
    header: [u8; HEADER],
    header_length: usize,
    /// The header of the frame whose body is being received.
    frame: Option<FrameHeader>,
    /// The packet so far.
    body: Vec<u8>,
    /// Where in `body` the frame being received begins.
    frame_start: usize,
    /// The kind of the packet that goes on with the next frame.
    goes_on: Option<u8>,
    packets: VecDeque<Packet>,
    failed: Option<LinkError>,
}

impl FrameReader {
    /// A reader that begins amid a connection: the first frame may have any number.
    pub(crate) fn amid() -> Self {
        Self { amid: true, ..Self::default() }
    }

    /// Takes the next bytes received. After an error they are ignored.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_none() {
            let taken = match self.step(bytes) {
                Ok(taken) => taken,
                Err(error) => {
                    self.failed = Some(error);
                    self.body = Vec::new();
                    return;
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// Bytes of the packet being received.
    pub(crate) fn unfinished(&self) -> usize {
        self.body.len()
    }

    /// The next whole packet, if there is one. The error comes after all packets before it, and
    /// then for ever.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, LinkError> {
        match (self.packets.pop_front(), self.failed) {
            (Some(packet), _) => Ok(Some(packet)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Takes some of `bytes`, which is not empty: how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        let taken;
        if let Some(frame) = self.frame {
            let missing = frame.body - (self.body.len() - self.frame_start);
            taken = missing.min(bytes.len());
            self.body.extend_from_slice(&bytes[..taken]);
        } else {
            taken = (HEADER - self.header_length).min(bytes.len());
            let end = self.header_length + taken;
            self.header[self.header_length..end].copy_from_slice(&bytes[..taken]);
            self.header_length = end;
            if end == HEADER {
                self.begin_frame()?;
            }
        }
        match self.frame {
            Some(frame) if self.body.len() - self.frame_start == frame.body => {
                self.end_frame(frame)?;
            }
            _ => {}
        }
        Ok(taken)
    }

    fn begin_frame(&mut self) -> Result<(), LinkError> {
        self.check_header()?;
        let frame = FrameHeader::decode(&self.header)?;
        if self.goes_on.is_some_and(|kind| kind != frame.kind) {
            return Err(LinkError::Kind { kind: frame.kind });
        }
        if self.body.len() + frame.body > MAX_PACKET {
            return Err(LinkError::PacketLength);
        }
        self.frame = Some(frame);
        self.frame_start = self.body.len();
        Ok(())
    }

    /// Looks at what is not to be believed before: whether this is the header of the frame that is
    /// due, as it was sent.
    fn check_header(&mut self) -> Result<(), LinkError> {
        if self.header[..2] != MAGIC.to_le_bytes() {
            return Err(LinkError::Magic);
        }
        let mut head = [0; 4];
        head.copy_from_slice(&self.header[CHECKED..BODY_CHECKED]);
        let (checksum, _) = checksums(&self.header[..CHECKED], &[]);
        let number = FrameNumber(u32::from_le_bytes(head) ^ checksum);
        if std::mem::take(&mut self.amid) {
            self.due = number;
        }
        let due = self.due.take();
        if number == due {
            return Ok(());
        }
        let turn = LinkError::Turn { number: number.0, due: due.0 };
        Err(if number.is_near(due) { turn } else { LinkError::Checksum })
    }

    fn end_frame(&mut self, frame: FrameHeader) -> Result<(), LinkError> {
        let (_, crc) = checksums(&self.header[..CHECKED], &self.body[self.frame_start..]);
        if crc.to_le_bytes() != self.header[BODY_CHECKED..] {
            return Err(LinkError::Checksum);
        }
        let kind = PacketKind::from_byte(frame.kind).ok_or(LinkError::Kind { kind: frame.kind })?;
        self.frame = None;
        self.header_length = 0;
        self.goes_on = frame.more.then_some(frame.kind);
        if !frame.more {
            let mut body = std::mem::take(&mut self.body);
            // A log entry may keep the body in memory for long.
            if body.capacity() - body.len() > body.len() / 4 {
                body.shrink_to_fit();
            }
            self.packets.push_back(Packet { kind, wall_ms: frame.wall_ms, body: Arc::new(body) });
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct FrameHeader {
    kind: u8,
    more: bool,
    body: usize,
    wall_ms: u64,
}

impl FrameHeader {
    fn encode(self) -> [u8; CHECKED] {
        let mut bytes = [0; CHECKED];
        bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2] = self.kind;
        bytes[3] = if self.more { MORE } else { 0 };
        bytes[4..8].copy_from_slice(&(self.body as u32).to_le_bytes());
        bytes[8..].copy_from_slice(&self.wall_ms.to_le_bytes());
        bytes
    }

    /// Reads the fields of a header whose checksum is right.
    fn decode(bytes: &[u8; HEADER]) -> Result<Self, LinkError> {
        let flags = bytes[3];
        let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if length as usize > MAX_BODY {
            return Err(LinkError::FrameLength { length });
        }
        let more = flags == MORE;
        if flags & !MORE != 0 || (more && length as usize != MAX_BODY) {
            return Err(LinkError::Flags { flags });
        }
        let mut wall = [0; 8];
        wall.copy_from_slice(&bytes[8..CHECKED]);
        let wall_ms = u64::from_le_bytes(wall);
        Ok(Self { kind: bytes[2], more, body: length as usize, wall_ms })
    }
}

/// The checksum of the header's fields, and that of them and the body.
fn checksums(fields: &[u8], body: &[u8]) -> (u32, u32) {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(fields);
    let head = digest.finalize() as u32;
    digest.update(body);
    (head, digest.finalize() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_reserves_nothing() {
        let mut number = FrameNumber::default();
        let mut writer = FrameWriter::new(&mut number);
        writer.packet(PacketKind::Snapshot, &vec![0; MAX_BODY], 1);
        let mut reader = FrameReader::default();
        reader.feed(&writer.take()[..=HEADER]);
        assert!(reader.frame.is_some_and(|frame| frame.body == MAX_BODY));
        assert!(reader.body.capacity() < 100);
    }
}
