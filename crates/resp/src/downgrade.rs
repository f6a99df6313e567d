//! RESP3 replies for clients of RESP2.
//!
//! | RESP3 | RESP2 |
//! |---|---|
//! | null `_` | null bulk `$-1` |
//! | map `%n` | array `*2n`, keys and values in turn |
//! | set `~n`, push `>n` | array `*n` |
//! | boolean `#t`, `#f` | integer `:1`, `:0` |
//! | double `,…`, big number `(…` | bulk of its digits |
//! | verbatim `=…` | bulk without the format |
//! | bulk error `!…` | error `-…` |
//! | the rest | the same bytes |
//!
//! An aggregate is its header and then its elements, so every item is rewritten by itself, in one
//! pass without recursion.

use alloc::vec::Vec;

use crate::ProtocolError;
use crate::encode;
use crate::number::{Header, header, line};

/// Appends to `out` the whole RESP3 replies in `resp3`, as RESP2.
///
/// Fails, with `out` as it was, if the bytes are not a sequence of whole RESP3 items.
pub fn downgrade(resp3: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
    let before = out.len();
    let result = rewrite(resp3, out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn rewrite(resp3: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
    // What needs no change is copied in one piece, up to the next item that does.
    let mut copied = 0;
    let mut position = 0;
    while let Some(&kind) = resp3.get(position) {
        let next = match kind {
            b'+' | b'-' => text(resp3, position)?.1,
            b':' | b'*' => number(resp3, position)?.1,
            b'$' => bulk(resp3, position)?.1,
            _ => {
                out.extend_from_slice(&resp3[copied..position]);
                copied = changed(resp3, position, kind, out)?;
                copied
            }
        };
        position = next;
    }
    out.extend_from_slice(&resp3[copied..]);
    Ok(())
}

/// Appends the item at `position` in its other form, and gives the position behind it.
fn changed(
    resp3: &[u8],
    position: usize,
    kind: u8,
    out: &mut Vec<u8>,
) -> Result<usize, ProtocolError> {
    match kind {
        b'_' => {
            let (_, next) = text(resp3, position)?;
            out.extend_from_slice(b"$-1\r\n");
            Ok(next)
        }
        b'#' => {
            let (truth, next) = text(resp3, position)?;
            encode::integer(out, i64::from(truth == b"t"));
            Ok(next)
        }
        b',' | b'(' => {
            let (digits, next) = text(resp3, position)?;
            encode::bulk(out, digits);
            Ok(next)
        }
        b'%' | b'~' | b'>' => {
            let (elements, next) = number(resp3, position)?;
            let elements = usize::try_from(elements).map_err(|_| ProtocolError::InvalidReply)?;
            let factor = if kind == b'%' { 2 } else { 1 };
            encode::array_header(out, elements.saturating_mul(factor));
            Ok(next)
        }
        b'=' => {
            let (text, next) = bulk(resp3, position)?;
            encode::bulk(out, text.get(4..).ok_or(ProtocolError::InvalidReply)?);
            Ok(next)
        }
        b'!' => {
            let (text, next) = bulk(resp3, position)?;
            encode::error(out, text);
            Ok(next)
        }
        other => Err(ProtocolError::UnknownType(other)),
    }
}

/// What stands on the line of the item at `position`, and the position behind it.
fn text(resp3: &[u8], position: usize) -> Result<(&[u8], usize), ProtocolError> {
    line(resp3, position + 1).ok_or(ProtocolError::InvalidReply)
}

/// The number in the header at `position`, and the position behind it.
fn number(resp3: &[u8], position: usize) -> Result<(i64, usize), ProtocolError> {
    match header(resp3, position + 1) {
        Header::Number(number, next) => Ok((number, next)),
        Header::Incomplete | Header::Malformed => Err(ProtocolError::InvalidReply),
    }
}

/// The bytes of the item with a length at `position`, and the position behind it. A RESP2 null bulk
/// has none.
fn bulk(resp3: &[u8], position: usize) -> Result<(&[u8], usize), ProtocolError> {
    let (length, start) = number(resp3, position)?;
    if length == -1 {
        return Ok((&[], start));
    }
    let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
    let end = end.filter(|&end| resp3[start..].len() >= end - start + 2);
    match end {
        Some(end) if resp3[end..].starts_with(b"\r\n") => Ok((&resp3[start..end], end + 2)),
        _ => Err(ProtocolError::InvalidReply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resp3: &[u8], resp2: &[u8]) {
        let mut out = b"before".to_vec();
        downgrade(resp3, &mut out).expect("well formed");
        assert_eq!(&out[6..], resp2, "{}", out.escape_ascii());
    }

    #[test]
    fn what_both_have_is_copied() {
        for same in [b"".as_slice(), b"+OK\r\n", b"-ERR no\r\n", b":-7\r\n", b"$2\r\n_\n\r\n"] {
            check(same, same);
        }
        check(b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n");
        check(b"$-1\r\n*-1\r\n", b"$-1\r\n*-1\r\n");
    }

    #[test]
    fn what_only_resp3_has_is_rewritten_at_every_depth() {
        check(b"_\r\n", b"$-1\r\n");
        check(b"#t\r\n#f\r\n", b":1\r\n:0\r\n");
        check(b",1.5\r\n", b"$3\r\n1.5\r\n");
        check(b"=8\r\ntxt:abcd\r\n", b"$4\r\nabcd\r\n");
        check(b"!7\r\nERR a\r\n\r\n", b"-ERR a  \r\n");
        check(
            b"*3\r\n%1\r\n+k\r\n~2\r\n:1\r\n_\r\n>1\r\n$1\r\n%\r\n+end\r\n",
            b"*3\r\n*2\r\n+k\r\n*2\r\n:1\r\n$-1\r\n*1\r\n$1\r\n%\r\n+end\r\n",
        );
    }

    #[test]
    fn broken_bytes_leave_the_output_alone() {
        let broken: [&[u8]; 8] = [
            b"+OK",
            b"$3\r\nab\r\n",
            b"$3\r\nabcde",
            b"$9223372036854775807\r\nab\r\n",
            b"=2\r\nab\r\n",
            b"%-1\r\n",
            b"x",
            b"+OK\r\n$x\r\n",
        ];
        for bytes in broken {
            let mut out = b"before".to_vec();
            assert!(downgrade(bytes, &mut out).is_err(), "{}", bytes.escape_ascii());
            assert_eq!(out, b"before");
        }
    }
}
