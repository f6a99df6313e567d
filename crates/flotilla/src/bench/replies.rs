//! Replies of the Redis protocol, counted without being kept.
//!
//! A reader in the full sense would copy each value, which costs a load generator more than the
//! rest of its work. Here a value's bytes are skipped, wherever they are cut into pieces; only what
//! a SET or a GET is answered with is understood.

use std::fmt;

/// A longer line is no reply of any server.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What a server sent, seen piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The begin of a line whose end has not come.
    line: Vec<u8>,
    /// Bytes still to come of a value, with the line end after it.
    body: usize,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// A value, a number or OK.
    Value,
    /// No value.
    Null,
    /// An error, with its text.
    Error(&'a [u8]),
}

/// Bytes that are no reply to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoReply;

impl fmt::Display for NoReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("it sent what is no reply to a request")
    }
}

/// What a line begins.
enum Head<'a> {
    Whole(Reply<'a>),
    Body(usize),
}

impl Replies {
    /// Takes the next bytes and hands over each reply that ends in them.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_reply: impl FnMut(Reply<'_>),
    ) -> Result<(), NoReply> {
        loop {
            if self.body > 0 {
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = &bytes[skipped..];
                if self.body > 0 {
                    return Ok(());
                }
                on_reply(Reply::Value);
            }
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                return self.keep(bytes);
            };
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            let kept = std::mem::take(&mut self.line);
            let joined;
            let line = if kept.is_empty() {
                line
            } else {
                joined = [&kept, line].concat();
                &joined
            };
            match head(line)? {
                Head::Whole(reply) => on_reply(reply),
                Head::Body(length) => self.body = length,
            }
        }
    }

    fn keep(&mut self, begin: &[u8]) -> Result<(), NoReply> {
        self.line.extend_from_slice(begin);
        if self.line.len() > LINE_BYTES_MAX { Err(NoReply) } else { Ok(()) }
    }
}

fn head(line: &[u8]) -> Result<Head<'_>, NoReply> {
    let (&kind, text) = line.strip_suffix(b"\r\n").and_then(<[u8]>::split_first).ok_or(NoReply)?;
    match kind {
        b'+' | b':' => Ok(Head::Whole(Reply::Value)),
        b'-' => Ok(Head::Whole(Reply::Error(text))),
        b'_' if text.is_empty() => Ok(Head::Whole(Reply::Null)),
        b'$' if text == b"-1" => Ok(Head::Whole(Reply::Null)),
        b'$' => length(text).map(|length| Head::Body(length + 2)).ok_or(NoReply),
        _ => Err(NoReply),
    }
}

fn length(digits: &[u8]) -> Option<usize> {
    // Ten digits are more than any value has.
    let plausible = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plausible
        .then(|| digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"+OK\r\n$5\r\na\r\nbc\r\n$-1\r\n:-12\r\n$0\r\n\r\n-ERR no such\r\n_\r\n";

    fn fed(pieces: &[&[u8]]) -> Result<Vec<String>, NoReply> {
        let mut replies = Replies::default();
        let mut seen = Vec::new();
        for piece in pieces {
            replies.feed(piece, |reply| {
                seen.push(match reply {
                    Reply::Value => "value".to_owned(),
                    Reply::Null => "null".to_owned(),
                    Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                });
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn replies_are_the_same_wherever_the_stream_is_cut() {
        let expected = ["value", "value", "null", "value", "value", "ERR no such", "null"];
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let pieces = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
                assert_eq!(fed(&pieces).expect("they are replies"), expected, "{first} {second}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\n",
            b"\r\n",
            b"$\r\n",
            b"$-2\r\n",
            b"$1x\r\n",
            b"$99999999999\r\n",
            b"*1\r\n",
            b"+OK\n",
            &b"+".repeat(LINE_BYTES_MAX + 1),
        ] {
            assert_eq!(fed(&[bytes]), Err(NoReply), "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }
}
