//! What can be wrong with bytes from outside.

use core::fmt;

/// Bytes that are not RESP, or break a limit. The connection can't be read on.
///
/// Its text is what Redis answers, without the leading `ERR `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number of elements of a request is no number or above the limit.
    InvalidMultibulkLength,
    /// An element of a request is not a bulk string, but begins with this byte.
    ExpectedBulk(u8),
    /// The length of a bulk string is no number or above the limit.
    InvalidBulkLength,
    /// The bytes of a bulk string don't end where its length says.
    UnterminatedBulk,
    /// A line typed by hand is too long.
    TooBigInline,
    /// A line typed by hand has an open quote, or text right behind a closing one.
    UnbalancedQuotes,
    /// The request as a whole is larger than this many bytes.
    TooBigRequest {
        /// The limit in bytes.
        limit: usize,
    },
    /// A reply begins with a byte that stands for no type.
    UnknownType(u8),
    /// A reply's header, number or text is malformed.
    InvalidReply,
    /// A reply is nested too deeply.
    TooDeep,
}

impl core::error::Error for ProtocolError {}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match *self {
            Self::InvalidMultibulkLength => f.write_str("invalid multibulk length"),
            Self::ExpectedBulk(found) => {
                write!(f, "expected '$', got '{}'", found.escape_ascii())
            }
            Self::InvalidBulkLength => f.write_str("invalid bulk length"),
            Self::UnterminatedBulk => f.write_str("expected CRLF at the end of a bulk string"),
            Self::TooBigInline => f.write_str("too big inline request"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            Self::TooBigRequest { limit } => {
                write!(f, "the request exceeds the limit of {limit} bytes")
            }
            Self::UnknownType(found) => {
                write!(f, "'{}' begins no type of reply", found.escape_ascii())
            }
            Self::InvalidReply => f.write_str("malformed reply"),
            Self::TooDeep => f.write_str("the reply is nested too deeply"),
        }
    }
}
