//! Why a command changes nothing, in Redis's words.

use flotilla_resp::encode;

/// An error reply of an executed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The text of a [`crate::command::Rejected`].
    Rejected(Vec<u8>),
    /// The command is not one that this way of execution takes.
    NotOfShards,
    /// The keys are not all in the slot the command was sent for.
    CrossSlot,
    /// The options make no sense.
    Syntax,
    /// A number is no signed 64-bit integer in its shortest form.
    NotInteger,
    /// A counter would leave the range of a signed 64-bit integer.
    CounterOverflow,
    /// The smallest integer has no negative.
    DecrementOverflow,
    /// An expiry is zero, negative where that is an error, or too far away; the command's name.
    InvalidExpire(&'static str),
    /// EXPIRE: the word is no condition.
    UnsupportedOption(Vec<u8>),
    /// EXPIRE: NX goes with no other condition.
    NxWithOthers,
    /// EXPIRE: GT and LT exclude each other.
    GtWithLt,
    /// SETRANGE: a negative offset.
    OffsetOutOfRange,
    /// The result would be longer than [`super::MAX_VALUE_BYTES`].
    TooLong,
    /// The reply would be longer than [`super::MAX_REPLY_BYTES`].
    ReplyTooLong,
    /// SCAN: the cursor is no number.
    InvalidCursor,
}

impl Failure {
    /// Appends the error reply.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let text: &[u8] = match self {
            Self::ReplyTooLong => return out.extend_from_slice(super::REPLY_TOO_LONG),
            Self::Rejected(text) => text,
            Self::NotOfShards => b"ERR the command can't be executed by a shard in this way",
            Self::CrossSlot => b"CROSSSLOT Keys in request don't hash to the same slot",
            Self::Syntax => b"ERR syntax error",
            Self::NotInteger => b"ERR value is not an integer or out of range",
            Self::CounterOverflow => b"ERR increment or decrement would overflow",
            Self::DecrementOverflow => b"ERR decrement would overflow",
            Self::InvalidExpire(name) => &invalid_expire(name),
            Self::UnsupportedOption(word) => &unsupported_option(word),
            Self::NxWithOthers => {
                b"ERR NX and XX, GT or LT options at the same time are not compatible"
            }
            Self::GtWithLt => b"ERR GT and LT options at the same time are not compatible",
            Self::OffsetOutOfRange => b"ERR offset is out of range",
            Self::TooLong => b"ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::InvalidCursor => b"ERR invalid cursor",
        };
        encode::error(out, text);
    }
}

fn invalid_expire(name: &str) -> Vec<u8> {
    format!("ERR invalid expire time in '{name}' command").into_bytes()
}

/// Repeats the start of the word.
fn unsupported_option(word: &[u8]) -> Vec<u8> {
    [b"ERR Unsupported option ", &word[..word.len().min(128)]].concat()
}
