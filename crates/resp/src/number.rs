//! Numbers and lines, as they stand in headers.

use alloc::vec::Vec;

/// The longest a header's number may be with its `\r\n`: `-9223372036854775808\r\n`.
const LONGEST: usize = 22;

/// What a look at a header's number found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The number, and the position behind its `\r\n`.
    Number(i64, usize),
    /// More bytes are needed.
    Incomplete,
    /// No number in the one form that is allowed: no `+`, no leading zero, `\r\n` behind it.
    Malformed,
}

/// Reads the number that begins at `start` and ends with `\r\n`.
#[inline]
pub(crate) fn header(buffer: &[u8], start: usize) -> Header {
    let mut position = start;
    let mut value: i64 = 0;
    while let Some(&byte) = buffer.get(position) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || position - start >= 18 {
            return slow_header(buffer, start, position, value);
        }
        value = value * 10 + i64::from(digit);
        position += 1;
    }
    Header::Incomplete
}

/// Goes on where [`header`] met something else than one of up to 18 digits.
#[inline]
fn slow_header(buffer: &[u8], start: usize, position: usize, value: i64) -> Header {
    let plain = position > start && (buffer[start] != b'0' || position == start + 1);
    match buffer[position..] {
        [b'\r', b'\n', ..] if plain => Header::Number(value, position + 2),
        [b'\r'] if plain => Header::Incomplete,
        _ => rare_header(buffer, start),
    }
}

/// Negative numbers, very long ones, and none.
#[cold]
fn rare_header(buffer: &[u8], start: usize) -> Header {
    let rest = &buffer[start..];
    let Some(end) = rest.iter().take(LONGEST - 1).position(|&byte| byte == b'\r') else {
        let digits = rest.strip_prefix(b"-").unwrap_or(rest);
        let hopeful = rest.len() < LONGEST - 1 && digits.iter().all(u8::is_ascii_digit);
        return if hopeful { Header::Incomplete } else { Header::Malformed };
    };
    match (parse_i64(&rest[..end]), rest.get(end + 1)) {
        (Some(_), None) => Header::Incomplete,
        (Some(number), Some(b'\n')) => Header::Number(number, start + end + 2),
        (None, _) | (Some(_), Some(_)) => Header::Malformed,
    }
}

/// The number that `digits` is in its canonical form.
pub(crate) fn parse_i64(digits: &[u8]) -> Option<i64> {
    let text = core::str::from_utf8(digits).ok()?;
    let canonical = matches!(digits, [b'0'] | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..]);
    text.parse().ok().filter(|_| canonical)
}

/// Appends `number` in decimal digits.
pub(crate) fn append_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    append_u64(out, number.unsigned_abs());
}

/// Appends `number` in decimal digits.
#[inline]
pub(crate) fn append_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The line that begins at `start`, without its `\r\n`, and the position behind it.
pub(crate) fn line(buffer: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let rest = &buffer[start..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&rest[..end], start + end + 2))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn every_number_is_read_and_written_in_its_one_form() {
        for number in [0, 1, 9, 10, -1, 123_456_789_012_345_678, i64::MAX, i64::MIN, -10] {
            let mut text = Vec::new();
            append_i64(&mut text, number);
            assert_eq!(text, number.to_string().as_bytes());
            text.extend_from_slice(b"\r\n");
            assert_eq!(header(&text, 0), Header::Number(number, text.len()));
            for end in 0..text.len() {
                assert_eq!(header(&text[..end], 0), Header::Incomplete, "{number} cut at {end}");
            }
        }
        assert_eq!(header(b"xx17\r\nrest", 2), Header::Number(17, 6));
    }

    #[test]
    fn other_forms_are_refused() {
        let wrong: [&[u8]; 12] = [
            b"\r\n",
            b"+1\r\n",
            b"01\r\n",
            b"00\r\n",
            b"-0\r\n",
            b"-\r\n",
            b"1 \r\n",
            b"1\n",
            b"1\rx",
            b"9223372036854775808\r\n",
            b"11111111111111111111111111111",
            b"x",
        ];
        for text in wrong {
            assert_eq!(header(text, 0), Header::Malformed, "{}", text.escape_ascii());
        }
    }
}
