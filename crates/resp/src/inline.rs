//! Requests typed by hand, one on a line, with Redis's rules of quoting.
//!
//! Arguments are separated by white space. Within `"…"` the escapes `\n \r \t \b \a \xHH` and `\`
//! before any other byte count; within `'…'` only `\'`. Behind a closing quote stands white space
//! or the end.

use alloc::vec::Vec;
use core::ops::Range;

use crate::ProtocolError;

/// Splits `line` into arguments: their bytes go to `bytes`, their places there to `args`.
pub(crate) fn split(
    line: &[u8],
    bytes: &mut Vec<u8>,
    args: &mut Vec<Range<u32>>,
) -> Result<(), ProtocolError> {
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let start = bytes.len() as u32;
        rest = argument(rest, bytes)?;
        args.push(start..bytes.len() as u32);
        rest = skip_space(rest);
    }
    Ok(())
}

/// Appends the argument that `rest` begins with, and gives what follows it.
fn argument<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match *rest {
            [] => return Ok(rest),
            [byte, ..] if is_space(byte) => return Ok(rest),
            [b'"', ref tail @ ..] => return after_quote(double_quoted(tail, bytes)?),
            [b'\'', ref tail @ ..] => return after_quote(single_quoted(tail, bytes)?),
            [byte, ref tail @ ..] => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
}

fn after_quote(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest {
        [byte, ..] if !is_space(*byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match *rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', ref tail @ ..] => return Ok(tail),
            [b'\\', b'x', high, low, ref tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(high) << 4 | hex_digit(low), tail)
            }
            [b'\\', escaped, ref tail @ ..] => (unescaped(escaped), tail),
            [byte, ref tail @ ..] => (byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match *rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', ref tail @ ..] => return Ok(tail),
            [b'\\', b'\'', ref tail @ ..] => (b'\'', tail),
            [byte, ref tail @ ..] => (byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_space(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

/// C's `isspace`: what Rust calls ASCII white space, and the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn args(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        split(line, &mut bytes, &mut places)?;
        Ok(places
            .iter()
            .map(|place| bytes[place.start as usize..place.end as usize].to_vec())
            .collect())
    }

    #[test]
    fn quoting_is_that_of_redis() {
        let cases: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[]),
            (b" \t\x0b ", &[]),
            (b"\x0bSET  k   v ", &[b"SET", b"k", b"v"]),
            (br#"SET k "hello world""#, &[b"SET", b"k", b"hello world"]),
            (br#""\x41\n\r\t\b\a\"\\\q\xZZ""#, &[b"A\n\r\t\x08\x07\"\\qxZZ"]),
            (br"'it\'s \n'", &[br"it's \n"]),
            (br#""" ''"#, &[b"", b""]),
            (br#"pre"fix" 1"#, &[b"prefix", b"1"]),
            (b"\xff\x00", &[b"\xff\x00"]),
        ];
        for (line, expected) in cases {
            assert_eq!(args(line).expect("balanced"), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quotes_must_balance_and_end_the_argument() {
        let lines: [&[u8]; 5] = [b"\"", b"'", br#"SET "k"#, br#""a"b"#, br#""a\""#];
        for line in lines {
            assert_eq!(args(line), Err(ProtocolError::UnbalancedQuotes), "{}", line.escape_ascii());
        }
        assert_eq!(args(b"a b"), Ok(vec![b"a".to_vec(), b"b".to_vec()]));
    }
}
