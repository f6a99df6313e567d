//! The client's side: commands out, values in.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ProtocolError;
use crate::encode;
use crate::number::{Header, header, line, parse_i64};

/// How deeply aggregates may be nested in a value.
pub const MAX_DEPTH: usize = 64;

/// A reply, of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A short text, such as `OK`.
    Simple(String),
    /// An error: a code in capitals and a text.
    Error(String),
    /// An integer.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Nothing, in any of its forms.
    Null,
    /// Values in order.
    Array(Vec<Value>),
    /// Pairs of key and value in the order sent.
    Map(Vec<(Value, Value)>),
    /// Values without an order, in the order sent.
    Set(Vec<Value>),
    /// A message that answers no request.
    Push(Vec<Value>),
    /// True or false.
    Boolean(bool),
    /// A floating-point number.
    Double(f64),
    /// An integer of any size, in its digits.
    BigNumber(String),
    /// A text with its format.
    Verbatim {
        /// The format in three letters, such as `txt`.
        kind: [u8; 3],
        /// The text.
        text: Vec<u8>,
    },
}

impl Value {
    /// The bytes of a bulk, a simple or a verbatim string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Bulk(bytes) | Self::Verbatim { text: bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// The text of an error.
    pub fn as_error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }
}

/// Appends a command as an array of bulk strings.
pub fn encode_command(args: &[&[u8]], out: &mut Vec<u8>) {
    encode::array_header(out, args.len());
    for arg in args {
        encode::bulk(out, arg);
    }
}

/// The value that `buffer` begins with and how many bytes it took; `None` while it is incomplete.
///
/// Attributes before a value are skipped. Fails on bytes that are not RESP and on values nested
/// more than [`MAX_DEPTH`] deep.
pub fn parse_value(buffer: &[u8]) -> Result<Option<(Value, usize)>, ProtocolError> {
    let mut parser = Parser { buffer, position: 0 };
    match parser.value(0) {
        Ok(value) => Ok(Some((value, parser.position))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

struct Parser<'a> {
    buffer: &'a [u8],
    position: usize,
}

/// Why there is no value.
enum Stop {
    Incomplete,
    Wrong(ProtocolError),
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Wrong(error)
    }
}

const INVALID: Stop = Stop::Wrong(ProtocolError::InvalidReply);

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep.into());
        }
        let &kind = self.buffer.get(self.position).ok_or(Stop::Incomplete)?;
        self.position += 1;
        match kind {
            b'+' => Ok(Value::Simple(text(self.line()?))),
            b'-' => Ok(Value::Error(text(self.line()?))),
            b':' => Ok(Value::Integer(self.integer()?)),
            b'(' => Ok(Value::BigNumber(text(self.line()?))),
            b',' => Ok(Value::Double(double(self.line()?).ok_or(INVALID)?)),
            b'$' => Ok(self.bytes()?.map_or(Value::Null, |bytes| Value::Bulk(bytes.to_vec()))),
            b'!' => Ok(self.bytes()?.map_or(Value::Null, |bytes| Value::Error(text(bytes)))),
            b'=' => self.verbatim(),
            b'_' => match self.line()? {
                b"" => Ok(Value::Null),
                _ => Err(INVALID),
            },
            b'#' => match self.line()? {
                b"t" => Ok(Value::Boolean(true)),
                b"f" => Ok(Value::Boolean(false)),
                _ => Err(INVALID),
            },
            b'*' => Ok(self.elements(depth)?.map_or(Value::Null, Value::Array)),
            b'~' => Ok(Value::Set(self.elements(depth)?.ok_or(INVALID)?)),
            b'>' => Ok(Value::Push(self.elements(depth)?.ok_or(INVALID)?)),
            b'%' => Ok(Value::Map(self.pairs(depth)?)),
            b'|' => {
                self.pairs(depth)?;
                self.value(depth + 1)
            }
            other => Err(ProtocolError::UnknownType(other).into()),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let (line, next) = line(self.buffer, self.position).ok_or(Stop::Incomplete)?;
        self.position = next;
        Ok(line)
    }

    fn integer(&mut self) -> Result<i64, Stop> {
        let line = self.line()?;
        // A plus sign is allowed here, unlike in lengths.
        let digits = match line {
            [b'+', digits @ ..] if digits.first().is_some_and(u8::is_ascii_digit) => digits,
            _ => line,
        };
        parse_i64(digits).ok_or(INVALID)
    }

    /// A length; `None` for the -1 of RESP2's nulls.
    fn length(&mut self) -> Result<Option<usize>, Stop> {
        match header(self.buffer, self.position) {
            Header::Number(-1, next) => {
                self.position = next;
                Ok(None)
            }
            Header::Number(length, next) => {
                self.position = next;
                usize::try_from(length).map(Some).map_err(|_| INVALID)
            }
            Header::Incomplete => Err(Stop::Incomplete),
            Header::Malformed => Err(INVALID),
        }
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let Some(length) = self.length()? else { return Ok(None) };
        let rest = &self.buffer[self.position..];
        let bytes = rest.get(..length).ok_or(Stop::Incomplete)?;
        match rest[length..] {
            [b'\r', b'\n', ..] => {
                self.position += length + 2;
                Ok(Some(bytes))
            }
            [] | [b'\r'] => Err(Stop::Incomplete),
            _ => Err(INVALID),
        }
    }

    fn verbatim(&mut self) -> Result<Value, Stop> {
        match self.bytes()?.ok_or(INVALID)? {
            [first, second, third, b':', text @ ..] => {
                Ok(Value::Verbatim { kind: [*first, *second, *third], text: text.to_vec() })
            }
            _ => Err(INVALID),
        }
    }

    fn elements(&mut self, depth: usize) -> Result<Option<Vec<Value>>, Stop> {
        let Some(length) = self.length()? else { return Ok(None) };
        let mut elements = Vec::new();
        for _ in 0..length {
            elements.push(self.value(depth + 1)?);
        }
        Ok(Some(elements))
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Value, Value)>, Stop> {
        let length = self.length()?.ok_or(INVALID)?;
        let mut pairs = Vec::new();
        for _ in 0..length {
            pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Ok(pairs)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn double(digits: &[u8]) -> Option<f64> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Value) {
        for end in 0..bytes.len() {
            assert_eq!(parse_value(&bytes[..end]), Ok(None), "cut at {end}");
        }
        let mut more = bytes.to_vec();
        more.extend_from_slice(b"+next\r\n");
        assert_eq!(parse_value(&more), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn every_type_of_both_versions_is_read() {
        check(b"+OK\r\n", Value::Simple("OK".into()));
        check(b"-ERR no\r\n", Value::Error("ERR no".into()));
        check(b"!6\r\nERR no\r\n", Value::Error("ERR no".into()));
        check(b":-12\r\n", Value::Integer(-12));
        check(b":+12\r\n", Value::Integer(12));
        check(b"$4\r\na\r\nb\r\n", Value::Bulk(b"a\r\nb".to_vec()));
        check(b"$-1\r\n", Value::Null);
        check(b"*-1\r\n", Value::Null);
        check(b"_\r\n", Value::Null);
        check(b"#t\r\n", Value::Boolean(true));
        check(b",-1.5e3\r\n", Value::Double(-1500.0));
        check(b",inf\r\n", Value::Double(f64::INFINITY));
        check(b"(123456789012345678901\r\n", Value::BigNumber("123456789012345678901".into()));
        check(b"=6\r\ntxt:ab\r\n", Value::Verbatim { kind: *b"txt", text: b"ab".to_vec() });
        let pair = vec![(Value::Simple("k".into()), Value::Set(vec![Value::Integer(1)]))];
        check(b"%1\r\n+k\r\n~1\r\n:1\r\n", Value::Map(pair));
        check(b"*2\r\n*0\r\n_\r\n", Value::Array(vec![Value::Array(vec![]), Value::Null]));
        check(b"|1\r\n+ttl\r\n:3\r\n>1\r\n+x\r\n", Value::Push(vec![Value::Simple("x".into())]));
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        let wrong: [&[u8]; 10] = [
            b"x\r\n",
            b":\r\n",
            b":1x\r\n",
            b"$-2\r\n",
            b"$2\r\nabcd",
            b"_x\r\n",
            b"#x\r\n",
            b",x\r\n",
            b"=3\r\ntxt\r\n",
            b"%-1\r\n",
        ];
        for bytes in wrong {
            assert!(parse_value(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn depth_is_limited_and_declared_lengths_cost_nothing() {
        assert_eq!(parse_value(&b"*1\r\n".repeat(100_000)), Err(ProtocolError::TooDeep));
        assert_eq!(parse_value(&b"|0\r\n".repeat(100_000)), Err(ProtocolError::TooDeep));
        assert_eq!(parse_value(b"*9223372036854775807\r\n"), Ok(None));
        assert_eq!(parse_value(b"$9223372036854775807\r\n"), Ok(None));
        let nested = [b"*1\r\n".repeat(MAX_DEPTH), b":1\r\n".to_vec()].concat();
        assert!(parse_value(&nested).is_ok_and(|found| found.is_some()));
    }

    #[test]
    fn a_command_is_an_array_of_bulks() {
        let mut out = Vec::new();
        encode_command(&[b"GET", b""], &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    }
}
