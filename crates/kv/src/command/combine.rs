//! Putting the replies of a command's parts together.
//!
//! Replies are RESP3 as [`crate::execute`] writes them. An error in any part is the reply of the
//! whole: the first in the order of the parts, so that two runs with the same replies agree.

use flotilla_resp::encode;

/// How the replies of the parts of a command become one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Integers, added up: `DEL`, `EXISTS`, `DBSIZE`.
    Sum,
    /// `OK` from every part: `MSET`, `FLUSHALL`.
    AllOk,
    /// Arrays in the order of each part's keys, woven into the order of the whole: `MGET`.
    Interleave,
    /// Arrays, one after the other: `KEYS`.
    Concat,
}

/// What one part answered.
#[derive(Clone, Copy, Debug)]
pub struct PartReply<'a> {
    /// Its reply in RESP3.
    pub reply: &'a [u8],
    /// [`super::Part::positions`] of the part; only [`Combine::Interleave`] looks at it.
    pub positions: &'a [u32],
}

impl Combine {
    /// Appends the reply of the whole command.
    ///
    /// A part whose reply has not the form that the command gives is answered by an error: it came
    /// from another node, perhaps of another version.
    pub fn replies(self, parts: &[PartReply<'_>], out: &mut Vec<u8>) {
        if let Some(error) = parts.iter().find(|part| part.reply.starts_with(b"-")) {
            out.extend_from_slice(error.reply);
            return;
        }
        let start = out.len();
        let combined = match self {
            Self::Sum => sum(parts, out),
            Self::AllOk => all_ok(parts, out),
            Self::Interleave => interleave(parts, out),
            Self::Concat => concat(parts, out),
        };
        if combined.is_none() {
            out.truncate(start);
            encode::error(out, "ERR a shard gave a reply of an unexpected form");
        }
    }
}

fn sum(parts: &[PartReply<'_>], out: &mut Vec<u8>) -> Option<()> {
    let mut total = 0_i64;
    for part in parts {
        let (number, rest) = headed_number(part.reply, b':')?;
        total = total.checked_add(number).filter(|_| rest.is_empty())?;
    }
    encode::integer(out, total);
    Some(())
}

fn all_ok(parts: &[PartReply<'_>], out: &mut Vec<u8>) -> Option<()> {
    if parts.iter().any(|part| part.reply != b"+OK\r\n") {
        return None;
    }
    encode::simple(out, "OK");
    Some(())
}

fn concat(parts: &[PartReply<'_>], out: &mut Vec<u8>) -> Option<()> {
    let mut total = 0_usize;
    let mut bodies = Vec::with_capacity(parts.len());
    for part in parts {
        let (count, body) = headed_number(part.reply, b'*')?;
        total = total.checked_add(usize::try_from(count).ok()?)?;
        bodies.push(body);
    }
    encode::array_header(out, total);
    for body in bodies {
        out.extend_from_slice(body);
    }
    Some(())
}

fn interleave(parts: &[PartReply<'_>], out: &mut Vec<u8>) -> Option<()> {
    let total = parts.iter().map(|part| part.positions.len()).sum();
    let mut elements: Vec<&[u8]> = vec![&[]; total];
    for part in parts {
        let (count, mut rest) = headed_number(part.reply, b'*')?;
        if usize::try_from(count).ok()? != part.positions.len() {
            return None;
        }
        for position in part.positions {
            let (element, after) = string_or_null(rest)?;
            *elements.get_mut(*position as usize)? = element;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    encode::array_header(out, total);
    for element in elements {
        out.extend_from_slice(element);
    }
    Some(())
}

/// A line of a type byte and a number, and what follows it.
fn headed_number(reply: &[u8], kind: u8) -> Option<(i64, &[u8])> {
    let line_bytes = reply.iter().position(|&byte| byte == b'\r')?;
    let (line, rest) = reply.split_at(line_bytes);
    let rest = rest.strip_prefix(b"\r\n")?;
    let number = crate::execute::parse_i64(line.strip_prefix(&[kind])?)?;
    Some((number, rest))
}

/// The first element of a sequence of bulk strings and nulls, and what follows it.
fn string_or_null(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"_\r\n") {
        return Some((&bytes[..3], rest));
    }
    let (length, body) = headed_number(bytes, b'$')?;
    let header_bytes = bytes.len() - body.len();
    let element_bytes = usize::try_from(length).ok()?.checked_add(header_bytes + 2)?;
    bytes.split_at_checked(element_bytes)
}
