//! Integers as Redis reads them: the shortest decimal form and nothing else.

use super::failure::Failure;

/// The signed 64-bit integer that `text` is the shortest decimal form of.
///
/// No sign but a leading `-`, no leading zero, no space, no `-0`: a counter's text and its number
/// are the same thing.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [] | [b'0', ..] => return None,
        _ => {}
    }
    digits.iter().try_fold(0_i64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        let tens = number.checked_mul(10)?;
        if negative {
            tens.checked_sub(i64::from(digit))
        } else {
            tens.checked_add(i64::from(digit))
        }
    })
}

/// The same as an argument, with the error a client gets.
pub(super) fn integer(text: &[u8]) -> Result<i64, Failure> {
    parse_i64(text).ok_or(Failure::NotInteger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_forms_are_read_and_others_are_not() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }
        let refused = ["", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1.0", "0x1", "1e3", "٣"];
        for text in refused {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_i64(b"9223372036854775808"), None);
        assert_eq!(parse_i64(b"-9223372036854775809"), None);
    }
}
