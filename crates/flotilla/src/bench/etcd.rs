//! Just enough gRPC over HTTP/2 to put an etcd under load: `Put` and linearizable `Range` of one
//! key, many at a time on a connection.
//!
//! Headers are sent without compression and replies' headers are not read at all: a reply with a
//! message is a success, one without is not [gRPC over HTTP2: a failed call has trailers only].
//!
//! | frame | sent | received |
//! |---|---|---|
//! | DATA, HEADERS | a request: both | a reply: its message, its end |
//! | SETTINGS | no push, windows as large as can be | the peer's window for new streams; acknowledged |
//! | WINDOW_UPDATE | before the peer runs out | more may be sent |
//! | PING | the answer | answered |
//! | RST_STREAM, GOAWAY | – | the request fails; the connection breaks |
//!
//! Sources: [RFC 9113], [RFC 7541 §6.2.2], `etcdserverpb/rpc.proto`.

use std::collections::{BTreeMap, VecDeque};

use super::commands::key;
use super::replies::{NoReply, Reply};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// The largest payload that every peer takes.
const FRAME_BYTES_MAX: usize = 16_384;
/// What may be sent before the peer has said more.
const WINDOW_BYTES: i64 = 65_535;
/// What the peer may send.
const OUR_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Bytes of a message that are kept: whether a `Range` found something stands in the first ones.
const HEAD_BYTES_MAX: usize = 96;
/// Before a message in the protocol's own terms: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Settings.
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW: u16 = 4;

/// One side of a connection to an etcd.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// The begin of a frame whose end has not come.
    unread: Vec<u8>,
    next_stream: u32,
    /// What may be sent on all streams together, and on a new one.
    window: i64,
    stream_window: i64,
    /// What the peer has sent since it was last told that it may send more.
    received: u32,
    /// Messages that are not sent to their end.
    unsent: VecDeque<Message>,
    open: BTreeMap<u32, Answer>,
}

/// A message to be sent.
#[derive(Debug)]
struct Message {
    stream: u32,
    window: i64,
    bytes: Vec<u8>,
    sent: usize,
}

/// What came of a reply.
#[derive(Debug)]
struct Answer {
    is_range: bool,
    /// The first bytes of its message.
    head: Vec<u8>,
}

impl Etcd {
    /// A new connection; what is to be sent first is appended.
    pub(crate) fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        let mut settings = Vec::new();
        for (setting, value) in [(ENABLE_PUSH, 0_u32), (INITIAL_WINDOW, OUR_WINDOW_BYTES)] {
            settings.extend_from_slice(&setting.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame(SETTINGS, 0, 0, &settings, out);
        let more = OUR_WINDOW_BYTES - WINDOW_BYTES as u32;
        frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes(), out);
        Self {
            unread: Vec::new(),
            next_stream: 1,
            window: WINDOW_BYTES,
            stream_window: WINDOW_BYTES,
            received: 0,
            unsent: VecDeque::new(),
            open: BTreeMap::new(),
        }
    }

    /// Asks for a key; gives the number of the request.
    pub(crate) fn get(&mut self, number: u64, out: &mut Vec<u8>) -> u32 {
        let mut message = Vec::new();
        field(1, &key(number), &mut message);
        self.call("/etcdserverpb.KV/Range", true, message, out)
    }

    /// Sets a key; gives the number of the request.
    pub(crate) fn set(&mut self, number: u64, value: &[u8], out: &mut Vec<u8>) -> u32 {
        let mut message = Vec::with_capacity(value.len() + 32);
        field(1, &key(number), &mut message);
        field(2, value, &mut message);
        self.call("/etcdserverpb.KV/Put", false, message, out)
    }

    fn call(&mut self, path: &str, is_range: bool, message: Vec<u8>, out: &mut Vec<u8>) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        frame(HEADERS, END_HEADERS, stream, &headers(path), out);
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&message);
        self.open.insert(stream, Answer { is_range, head: Vec::new() });
        self.unsent.push_back(Message { stream, window: self.stream_window, bytes, sent: 0 });
        self.pump(out);
        stream
    }

    /// Sends as much of the messages as the peer takes.
    fn pump(&mut self, out: &mut Vec<u8>) {
        while let Some(message) = self.unsent.front_mut() {
            let rest = &message.bytes[message.sent..];
            let room = self.window.min(message.window).max(0) as usize;
            let length = rest.len().min(room).min(FRAME_BYTES_MAX);
            if length == 0 {
                return;
            }
            let is_end = length == rest.len();
            let flags = if is_end { END_STREAM } else { 0 };
            frame(DATA, flags, message.stream, &rest[..length], out);
            message.sent += length;
            message.window -= length as i64;
            self.window -= length as i64;
            if is_end {
                self.unsent.pop_front();
            }
        }
    }

    /// Takes the next bytes; hands over each reply that ends in them, with the number of its
    /// request. What the protocol wants to be sent is appended to `out`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut on_reply: impl FnMut(u32, Reply<'_>),
    ) -> Result<(), NoReply> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let mut rest = &unread[..];
        while let Some((head, after)) = rest.split_at_checked(FRAME_HEAD_BYTES) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(NoReply);
            }
            let Some((payload, next)) = after.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
            self.take_frame((head[3], head[4]), stream, payload, out, &mut on_reply)?;
            rest = next;
        }
        let kept = rest.len();
        unread.drain(..unread.len() - kept);
        self.unread = unread;
        Ok(())
    }

    fn take_frame(
        &mut self,
        (kind, flags): (u8, u8),
        stream: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
        on_reply: &mut impl FnMut(u32, Reply<'_>),
    ) -> Result<(), NoReply> {
        match kind {
            DATA => {
                self.count_received(payload.len() as u32, out);
                if let Some(answer) = self.open.get_mut(&stream) {
                    let room = HEAD_BYTES_MAX - answer.head.len();
                    answer.head.extend_from_slice(&payload[..payload.len().min(room)]);
                }
            }
            RST_STREAM => self.unsent.retain(|message| message.stream != stream),
            SETTINGS if flags & ACK == 0 => {
                self.take_settings(payload);
                frame(SETTINGS, ACK, 0, &[], out);
                self.pump(out);
            }
            WINDOW_UPDATE => {
                let more = payload.try_into().map(u32::from_be_bytes).map_err(|_| NoReply)?;
                self.widen(stream, i64::from(more & (u32::MAX >> 1)));
                self.pump(out);
            }
            PING if flags & ACK == 0 => frame(PING, ACK, 0, payload, out),
            GOAWAY => return Err(NoReply),
            _ => {}
        }
        let ends = (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0;
        if (ends || kind == RST_STREAM)
            && let Some(answer) = self.open.remove(&stream)
        {
            on_reply(stream, answer.reply());
        }
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW {
                let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                let change = i64::from(value) - self.stream_window;
                self.stream_window += change;
                // It holds for the streams that are open as well [RFC 9113 §6.9.2].
                for message in &mut self.unsent {
                    message.window += change;
                }
            }
        }
    }

    fn widen(&mut self, stream: u32, more: i64) {
        if stream == 0 {
            self.window += more;
        } else if let Some(message) = self.unsent.iter_mut().find(|one| one.stream == stream) {
            message.window += more;
        }
    }

    fn count_received(&mut self, bytes: u32, out: &mut Vec<u8>) {
        self.received += bytes;
        if self.received > OUR_WINDOW_BYTES / 2 {
            frame(WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes(), out);
            self.received = 0;
        }
    }
}

impl Answer {
    fn reply(&self) -> Reply<'static> {
        let Some(message) = self.head.get(PREFIX_BYTES..) else {
            return Reply::Error(b"a gRPC status other than OK");
        };
        // First stands the head of every reply, as field 1; a `Range` that found something goes on
        // with field 2.
        let after = match message {
            [0x0a, length, rest @ ..] if *length < 0x80 => rest.get(usize::from(*length)..),
            _ => None,
        };
        let has_value = after.is_some_and(|rest| rest.first() == Some(&0x12));
        if self.is_range && !has_value { Reply::Null } else { Reply::Value }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The headers of a call: two known by number, the others as text.
fn headers(path: &str) -> Vec<u8> {
    /// `:method: POST` and `:scheme: http` of the static table.
    const POST_HTTP: [u8; 2] = [0x83, 0x86];
    let mut out = POST_HTTP.to_vec();
    let mut literal = |name: &[u8], value: &str| {
        out.extend_from_slice(name);
        out.push(value.len() as u8);
        out.extend_from_slice(value.as_bytes());
    };
    // Names of the static table: `:path` is 4, `:authority` 1, `content-type` 31.
    literal(&[0x04], path);
    literal(&[0x01], "etcd");
    literal(&[0x0f, 31 - 15], "application/grpc");
    literal(b"\0\x02te", "trailers");
    out
}

/// Appends a field of bytes [protocol buffers, wire type 2].
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames in these bytes: kind, flags, stream, payload.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
            let (whole, rest) = bytes.split_at(FRAME_HEAD_BYTES + length);
            all.push((whole[3], whole[4], stream, whole[FRAME_HEAD_BYTES..].to_vec()));
            bytes = rest;
        }
        all
    }

    fn fed(etcd: &mut Etcd, bytes: &[u8], out: &mut Vec<u8>) -> Vec<(u32, String)> {
        let mut seen = Vec::new();
        etcd.feed(bytes, out, |stream, reply| seen.push((stream, format!("{reply:?}"))))
            .expect("it is HTTP/2");
        seen
    }

    #[test]
    fn a_put_is_headers_and_a_message() {
        let mut out = Vec::new();
        let mut etcd = Etcd::new(&mut out);
        assert!(out.starts_with(PREFACE));
        assert_eq!(frames(&out[PREFACE.len()..]).len(), 2);
        out.clear();
        assert_eq!((etcd.set(7, b"abc", &mut out), etcd.get(8, &mut out)), (1, 3));
        let sent = frames(&out);
        let head = |&(kind, flags, stream, _): &(u8, u8, u32, Vec<u8>)| (kind, flags, stream);
        let kinds: Vec<_> = sent.iter().map(head).collect();
        let expected =
            [(HEADERS, END_HEADERS, 1), (DATA, END_STREAM, 1), (HEADERS, 4, 3), (DATA, 1, 3)];
        assert_eq!(kinds, expected);
        assert_eq!(sent[1].3, b"\0\0\0\0\x17\x0a\x10key:000000000007\x12\x03abc");
        assert!(sent[0].3.windows(20).any(|part| part == b"/etcdserverpb.KV/Put"));
    }

    #[test]
    fn replies_are_told_wherever_the_stream_is_cut() {
        let mut stream = Vec::new();
        frame(SETTINGS, 0, 0, &[], &mut stream);
        frame(HEADERS, END_HEADERS, 5, b"ignored", &mut stream);
        frame(DATA, 0, 5, b"\0\0\0\0\x06\x0a\x02xx\x12\x00", &mut stream);
        frame(HEADERS, END_HEADERS | END_STREAM, 5, b"", &mut stream);
        frame(DATA, 0, 3, b"\0\0\0\0\x04\x0a\x02xx", &mut stream);
        frame(HEADERS, END_HEADERS | END_STREAM, 3, b"", &mut stream);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"", &mut stream);
        for cut in 0..=stream.len() {
            let mut out = Vec::new();
            let mut etcd = Etcd::new(&mut out);
            etcd.set(1, b"", &mut out);
            etcd.get(1, &mut out);
            etcd.get(1, &mut out);
            out.clear();
            let mut seen = fed(&mut etcd, &stream[..cut], &mut out);
            seen.extend(fed(&mut etcd, &stream[cut..], &mut out));
            let streams: Vec<_> = seen.iter().map(|(stream, _)| *stream).collect();
            assert_eq!(streams, [5, 3, 1], "{cut}");
            let replies: Vec<_> = seen.iter().map(|(_, reply)| &**reply).collect();
            assert_eq!(replies[..2], ["Value", "Null"]);
            assert!(replies[2].starts_with("Error"));
            assert_eq!(frames(&out), [(SETTINGS, ACK, 0, vec![])]);
        }
    }

    #[test]
    fn no_more_is_sent_than_the_peer_takes() {
        let mut out = Vec::new();
        let mut etcd = Etcd::new(&mut out);
        out.clear();
        etcd.set(1, &vec![b'x'; 100_000], &mut out);
        let sum = |out: &[u8]| -> usize {
            let all = frames(out);
            all.iter().filter(|(kind, ..)| *kind == DATA).map(|(.., bytes)| bytes.len()).sum()
        };
        assert_eq!(sum(&out), 65_535);
        assert!(frames(&out).iter().all(|(.., bytes)| bytes.len() <= FRAME_BYTES_MAX));
        let mut more = Vec::new();
        frame(WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes(), &mut more);
        fed(&mut etcd, &more, &mut out);
        assert_eq!(sum(&out), 65_535, "the stream's own window is used up");
        more.clear();
        frame(WINDOW_UPDATE, 0, 1, &1_000_000_u32.to_be_bytes(), &mut more);
        fed(&mut etcd, &more, &mut out);
        assert_eq!(sum(&out), PREFIX_BYTES + 18 + 4 + 100_000);
        assert_eq!(frames(&out).last().map(|last| last.1), Some(END_STREAM));
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let mut etcd = Etcd::new(&mut Vec::new());
        let mut goaway = Vec::new();
        frame(GOAWAY, 0, 0, &[0; 8], &mut goaway);
        for bytes in [&goaway[..], &[0xff; 9], b"HTTP/1.1 400 Bad Request"] {
            let mut out = Vec::new();
            let fed = Etcd::new(&mut out).feed(bytes, &mut out, |_, _| ());
            assert_eq!(fed, Err(NoReply), "{bytes:?}");
        }
        let mut ping = Vec::new();
        frame(PING, 0, 0, b"12345678", &mut ping);
        let mut out = Vec::new();
        assert!(fed(&mut etcd, &ping, &mut out).is_empty());
        assert_eq!(frames(&out), [(PING, ACK, 0, b"12345678".to_vec())]);
    }
}
