//! Requests: arrays of bulk strings, and lines typed by hand.
//!
//! The decoder keeps how far it got, so a request that arrives in a thousand pieces is looked at
//! once. It copies nothing: arguments are ranges of the caller's buffer (a typed line alone is
//! unquoted into a buffer of the decoder's). Every limit is checked when a header arrives, before
//! the bytes it declares do, so the verdict does not depend on how the bytes were cut.
//!
//! Source: the RESP protocol specification of Redis; the texts of errors are those of Redis.

use alloc::vec::Vec;
use core::ops::Range;

use crate::ProtocolError;
use crate::inline;
use crate::number::{Header, header};

/// How large requests may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one argument.
    pub max_bulk: usize,
    /// Bytes of a whole array, headers included; above 1 GiB it counts as 1 GiB.
    pub max_request_bytes: usize,
    /// Arguments of a request.
    pub max_elements: usize,
    /// Bytes of a line typed by hand, without its end.
    pub max_inline: usize,
}

impl Default for Limits {
    /// Arguments of 16 MiB, requests of 64 MiB and 1,048,576 arguments, lines of 64 KiB.
    fn default() -> Self {
        Self {
            max_bulk: 16 << 20,
            max_request_bytes: 64 << 20,
            max_elements: 1 << 20,
            max_inline: 64 << 10,
        }
    }
}

/// The largest request whatever the limits say, so that positions fit in 32 bits.
const MAX_REQUEST_BYTES: usize = 1 << 30;

/// How much room for arguments is kept from one request to the next.
const KEPT_ARGS: usize = 64;

/// How many bytes for unquoted arguments are kept from one request to the next.
const KEPT_BYTES: usize = 1024;

/// Reads requests from the front of a growing buffer.
///
/// The contract: the buffer given to [`RequestDecoder::decode`] begins at the first byte that was
/// not consumed. After a request the caller drops [`Request::consumed`] bytes; after `None` it
/// calls again with the same bytes and more. After an error the connection can't be read on.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    state: State,
    /// Where the present request begins; before it are only empty lines and arrays.
    start: usize,
    /// Everything before this was looked at.
    position: usize,
    args: Vec<Range<u32>>,
    /// The unquoted arguments of a typed line.
    unquoted: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte of a request.
    Start,
    /// Before the header of an argument, `missing` of which are still to come.
    Header { missing: u32 },
    /// Before the bytes of an argument, whose header was read.
    Body { missing: u32, length: u32 },
    /// In a typed line.
    Line,
    /// A request was given out.
    Done,
}

/// What one look at the buffer gave.
enum Found {
    /// The request is complete.
    Request { typed: bool },
    /// More bytes are needed.
    Nothing,
}

impl RequestDecoder {
    /// A decoder at the start of a connection. It holds no memory until a request comes.
    pub fn new(limits: Limits) -> Self {
        let max_request_bytes = limits.max_request_bytes.min(MAX_REQUEST_BYTES);
        let max_inline = limits.max_inline.min(MAX_REQUEST_BYTES);
        Self {
            limits: Limits { max_request_bytes, max_inline, ..limits },
            state: State::Start,
            start: 0,
            position: 0,
            args: Vec::new(),
            unquoted: Vec::new(),
        }
    }

    /// The request at the front of `buffer`, or `None` while it is incomplete. Empty lines and
    /// empty arrays before it are skipped; [`Request::consumed`] counts them.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        buffer: &'a [u8],
    ) -> Result<Option<Request<'a>>, ProtocolError> {
        if self.state == State::Done {
            self.reset();
        }
        let Found::Request { typed } = self.advance(buffer)? else { return Ok(None) };
        self.state = State::Done;
        let bytes = if typed { &self.unquoted } else { buffer };
        Ok(Some(Request { bytes, args: &self.args, consumed: self.position }))
    }

    /// How many bytes at the front of the buffer were only empty lines and arrays: the caller drops
    /// them, and they count as dropped from now on. To be asked after `None`; 0 otherwise.
    pub fn take_skipped(&mut self) -> usize {
        if self.state == State::Done || !self.args.is_empty() {
            return 0;
        }
        self.position -= self.start;
        core::mem::take(&mut self.start)
    }

    /// Gives back all memory, if nothing is being read: to be called with nothing in the buffer.
    pub fn rest(&mut self) {
        if matches!(self.state, State::Start | State::Done) {
            self.reset();
            self.args = Vec::new();
            self.unquoted = Vec::new();
        }
    }

    fn reset(&mut self) {
        self.state = State::Start;
        self.start = 0;
        self.position = 0;
        self.args.clear();
        self.unquoted.clear();
        // One large request must not hold memory as long as its connection lives.
        if self.args.capacity() > KEPT_ARGS {
            self.args.shrink_to(KEPT_ARGS);
        }
        if self.unquoted.capacity() > KEPT_BYTES {
            self.unquoted.shrink_to(KEPT_BYTES);
        }
    }

    #[inline]
    fn advance(&mut self, buffer: &[u8]) -> Result<Found, ProtocolError> {
        loop {
            match self.state {
                State::Start => match buffer.get(self.start) {
                    None => return Ok(Found::Nothing),
                    Some(b'*') => {
                        if !self.array_header(buffer)? {
                            return Ok(Found::Nothing);
                        }
                    }
                    Some(_) => self.state = State::Line,
                },
                State::Line => match self.line(buffer)? {
                    None => return Ok(Found::Nothing),
                    Some(()) if self.args.is_empty() => self.skip()?,
                    Some(()) => return Ok(Found::Request { typed: true }),
                },
                State::Header { .. } | State::Body { .. } => return self.arguments(buffer),
                State::Done => unreachable!("a decoder that gave a request out was reset"),
            }
        }
    }

    /// Passes over what was read as if it had not been there.
    fn skip(&mut self) -> Result<(), ProtocolError> {
        self.state = State::Start;
        self.start = self.position;
        // Only a caller that never drops what was skipped gets there.
        let limit = MAX_REQUEST_BYTES;
        if self.start > limit { Err(ProtocolError::TooBigRequest { limit }) } else { Ok(()) }
    }

    /// Reads `*<elements>\r\n`; false while it is incomplete.
    #[inline]
    fn array_header(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let (elements, next) = match header(buffer, self.start + 1) {
            Header::Number(elements, next) => (elements, next),
            Header::Incomplete => return Ok(false),
            Header::Malformed => return Err(ProtocolError::InvalidMultibulkLength),
        };
        self.position = next;
        if elements <= 0 {
            self.skip()?;
            return Ok(true);
        }
        match u32::try_from(elements) {
            Ok(missing) if missing as usize <= self.limits.max_elements => {
                self.state = State::Header { missing };
                Ok(true)
            }
            _ => Err(ProtocolError::InvalidMultibulkLength),
        }
    }

    /// Reads arguments until the last one or the end of the buffer.
    #[inline]
    fn arguments(&mut self, buffer: &[u8]) -> Result<Found, ProtocolError> {
        loop {
            match self.state {
                State::Header { missing: 0 } => return Ok(Found::Request { typed: false }),
                State::Header { missing } => {
                    let Some(length) = self.bulk_header(buffer)? else { return Ok(Found::Nothing) };
                    self.state = State::Body { missing, length };
                }
                State::Body { missing, length } => {
                    let end = self.position + length as usize;
                    let Some(terminator) = buffer.get(end..end + 2) else {
                        return Ok(Found::Nothing);
                    };
                    if terminator != b"\r\n" {
                        return Err(ProtocolError::UnterminatedBulk);
                    }
                    self.args.push(self.position as u32..end as u32);
                    self.position = end + 2;
                    self.state = State::Header { missing: missing - 1 };
                }
                State::Start | State::Line | State::Done => {
                    unreachable!("arguments follow the header of an array")
                }
            }
        }
    }

    /// Reads `$<length>\r\n`; `None` while it is incomplete.
    #[inline]
    fn bulk_header(&mut self, buffer: &[u8]) -> Result<Option<u32>, ProtocolError> {
        match buffer.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
        }
        let (length, next) = match header(buffer, self.position + 1) {
            Header::Number(length, next) => (length, next),
            Header::Incomplete => return Ok(None),
            Header::Malformed => return Err(ProtocolError::InvalidBulkLength),
        };
        let length = match u32::try_from(length) {
            Ok(length) if length as usize <= self.limits.max_bulk => length,
            _ => return Err(ProtocolError::InvalidBulkLength),
        };
        self.check_size((next - self.start).saturating_add(length as usize + 2))?;
        self.position = next;
        Ok(Some(length))
    }

    /// Whether a request of `bytes` bytes is allowed.
    #[inline]
    fn check_size(&self, bytes: usize) -> Result<(), ProtocolError> {
        let limit = self.limits.max_request_bytes;
        if bytes > limit { Err(ProtocolError::TooBigRequest { limit }) } else { Ok(()) }
    }

    /// Reads a typed line and splits it; `None` while its end is missing.
    fn line(&mut self, buffer: &[u8]) -> Result<Option<()>, ProtocolError> {
        let seen = self.position;
        let newline = buffer[seen..].iter().position(|&byte| byte == b'\n');
        let end = newline.map_or(buffer.len(), |distance| seen + distance);
        if end - self.start > self.limits.max_inline {
            return Err(ProtocolError::TooBigInline);
        }
        if newline.is_none() {
            self.position = end;
            return Ok(None);
        }
        let line = &buffer[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(line, &mut self.unquoted, &mut self.args)?;
        self.position = end + 1;
        Ok(Some(()))
    }
}

/// A complete request: at least one argument, the first of which names the command.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    bytes: &'a [u8],
    args: &'a [Range<u32>],
    consumed: usize,
}

impl<'a> Request<'a> {
    /// How many bytes at the front of the buffer the request took.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// How many arguments there are, the command's name included: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a request is never empty")]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Argument `position`. Panics if there are not so many.
    #[inline]
    pub fn arg(&self, position: usize) -> &'a [u8] {
        slice(self.bytes, &self.args[position])
    }

    /// The arguments in order, the command's name first.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + use<'a> {
        let bytes = self.bytes;
        self.args.iter().map(move |range| slice(bytes, range))
    }
}

#[inline]
fn slice<'a>(bytes: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests;
