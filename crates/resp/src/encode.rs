//! Appends replies in RESP3.
//!
//! An aggregate is its header followed by its elements, each appended in turn; [`map_header`]
//! counts pairs. What a client of RESP2 gets is made of these bytes by
//! [`downgrade`](crate::downgrade).
//!
//! Source: the RESP3 specification of Redis.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::Value;
use crate::number::{append_i64, append_u64};

/// Appends `+text`. Line ends in the text become spaces, since they would end it.
pub fn simple(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'+', text.as_ref());
}

/// Appends `-text`; the text begins with a code in capitals, such as `ERR`. Line ends in it become
/// spaces.
pub fn error(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    line(out, b'-', text.as_ref());
}

/// Appends `:number`.
pub fn integer(out: &mut Vec<u8>, number: i64) {
    out.push(b':');
    append_i64(out, number);
    end(out);
}

/// Appends a bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    end(out);
}

/// Appends the null.
pub fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"_\r\n");
}

/// Appends true or false.
pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
}

/// Appends a double in the shortest digits that read back as the same number.
pub fn double(out: &mut Vec<u8>, value: f64) {
    out.push(b',');
    append_f64(out, value);
    end(out);
}

/// Appends a text with its format in three letters: `txt` or `mkd`.
pub fn verbatim(out: &mut Vec<u8>, kind: &[u8; 3], text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    header(out, b'=', text.len() + 4);
    out.extend_from_slice(kind);
    out.push(b':');
    out.extend_from_slice(text);
    end(out);
}

/// Begins an array of `elements`.
pub fn array_header(out: &mut Vec<u8>, elements: usize) {
    header(out, b'*', elements);
}

/// Begins a map of `pairs`: twice as many elements follow, keys and values in turn.
pub fn map_header(out: &mut Vec<u8>, pairs: usize) {
    header(out, b'%', pairs);
}

/// Begins a set of `elements`.
pub fn set_header(out: &mut Vec<u8>, elements: usize) {
    header(out, b'~', elements);
}

/// Begins a push, a message that answers no request, of `elements`.
pub fn push_header(out: &mut Vec<u8>, elements: usize) {
    header(out, b'>', elements);
}

/// Appends a whole value with everything in it.
pub fn value(out: &mut Vec<u8>, whole: &Value) {
    match whole {
        Value::Simple(text) => simple(out, text),
        Value::Error(text) => error(out, text),
        Value::Integer(number) => integer(out, *number),
        Value::Bulk(bytes) => bulk(out, bytes),
        Value::Null => null(out),
        Value::Boolean(truth) => boolean(out, *truth),
        Value::Double(number) => double(out, *number),
        Value::BigNumber(digits) => line(out, b'(', digits.as_bytes()),
        Value::Verbatim { kind, text } => verbatim(out, kind, text),
        Value::Array(elements) => values(out, b'*', elements),
        Value::Set(elements) => values(out, b'~', elements),
        Value::Push(elements) => values(out, b'>', elements),
        Value::Map(pairs) => {
            map_header(out, pairs.len());
            for (key, element) in pairs {
                value(out, key);
                value(out, element);
            }
        }
    }
}

fn values(out: &mut Vec<u8>, kind: u8, elements: &[Value]) {
    header(out, kind, elements.len());
    for element in elements {
        value(out, element);
    }
}

/// Appends `kind`, a length and the end of the line.
#[inline]
pub(crate) fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    append_u64(out, length as u64);
    end(out);
}

/// Appends `kind` and `text` on one line.
pub(crate) fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    if text.iter().any(|&byte| is_line_end(byte)) {
        out.extend(text.iter().map(|&byte| if is_line_end(byte) { b' ' } else { byte }));
    } else {
        out.extend_from_slice(text);
    }
    end(out);
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

#[inline]
fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn append_f64(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    let written = if value.is_nan() {
        out.extend_from_slice(b"nan");
        Ok(())
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
        Ok(())
    } else if size != 0.0 && !(1e-5..1e17).contains(&size) {
        write!(Appender(out), "{value:e}")
    } else {
        write!(Appender(out), "{value}")
    };
    written.expect("appending to a vector never fails");
}

/// Lets numbers be formatted at the end of a vector.
struct Appender<'a>(&'a mut Vec<u8>);

impl Write for Appender<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(append: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut out = Vec::new();
        append(&mut out);
        assert_eq!(out, expected, "{}", out.escape_ascii());
    }

    #[test]
    fn every_type_is_encoded_as_specified() {
        check(|out| simple(out, "OK"), b"+OK\r\n");
        check(|out| error(out, b"ERR two\r\nlines"), b"-ERR two  lines\r\n");
        check(|out| integer(out, -1000), b":-1000\r\n");
        check(|out| bulk(out, b"a\r\nb"), b"$4\r\na\r\nb\r\n");
        check(|out| bulk(out, ""), b"$0\r\n\r\n");
        check(null, b"_\r\n");
        check(|out| boolean(out, true), b"#t\r\n");
        check(|out| boolean(out, false), b"#f\r\n");
        check(|out| verbatim(out, b"txt", "Some string"), b"=15\r\ntxt:Some string\r\n");
        check(|out| array_header(out, 0), b"*0\r\n");
        check(|out| map_header(out, 12), b"%12\r\n");
        check(|out| set_header(out, 1), b"~1\r\n");
        check(|out| push_header(out, 3), b">3\r\n");
    }

    #[test]
    fn doubles_are_short_and_exact() {
        check(|out| double(out, 1.5), b",1.5\r\n");
        check(|out| double(out, 10.0), b",10\r\n");
        check(|out| double(out, 0.1 + 0.2), b",0.30000000000000004\r\n");
        check(|out| double(out, -0.0), b",-0\r\n");
        check(|out| double(out, 1e300), b",1e300\r\n");
        check(|out| double(out, 1e-7), b",1e-7\r\n");
        check(|out| double(out, f64::INFINITY), b",inf\r\n");
        check(|out| double(out, f64::NEG_INFINITY), b",-inf\r\n");
        check(|out| double(out, f64::NAN), b",nan\r\n");
    }
}
