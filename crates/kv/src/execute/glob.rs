//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a byte that stands for itself.
//!
//! Only the last `*` is ever tried again, so that the time is at most the product of the two
//! lengths, whatever the pattern; there is no recursion.

/// Whether the whole of `text` matches `pattern`, byte by byte and with regard to case.
///
/// ```
/// use flotilla_kv::execute::glob_matches;
///
/// assert!(glob_matches(b"user:*:[0-9]", b"user:ann:7"));
/// assert!(!glob_matches(b"user:?", b"user:"));
/// ```
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, read));
        } else if let Some(next) = element(pattern, at, text[read]) {
            at = next;
            read += 1;
        } else if let Some((after_star, taken)) = star {
            // The last star takes one byte more, and what follows it starts again.
            star = Some((after_star, taken + 1));
            at = after_star;
            read = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The place after the pattern's element at `at`, if that element matches the byte.
fn element(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        own => (own == byte).then_some(at + 1),
    }
}

/// The place after the class whose first byte is at `at`, if it has the byte. A class that is never
/// closed ends with the pattern.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut has = false;
    loop {
        match pattern[at.min(pattern.len())..] {
            [] => break,
            [b'\\', own, ..] => {
                has |= own == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                has |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [own, ..] => {
                has |= own == byte;
                at += 1;
            }
        }
    }
    (has != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let matching: [(&[u8], &[u8]); 19] = [
            (b"*", b""),
            (b"", b""),
            (b"**a**", b"a"),
            (b"a*c", b"abbc"),
            (b"a*b*c", b"aXbYbZc"),
            (b"a?c", b"abc"),
            (b"a[bc]d", b"acd"),
            (b"a[^bc]d", b"axd"),
            (b"a[c-a]d", b"abd"),
            (b"a[a-", b"a-"),
            (b"a[b", b"ab"),
            (b"[^]", b"x"),
            (b"[\\]]", b"]"),
            (b"\\*", b"*"),
            (b"\\", b"\\"),
            (b"a\\", b"a\\"),
            (b"*\\?", b"what?"),
            (b"h[\xf0-\xff]", b"h\xf7"),
            (b"{a}*", b"{a}b"),
        ];
        for (pattern, text) in matching {
            assert!(glob_matches(pattern, text), "{pattern:?} {text:?}");
        }
        let differing: [(&[u8], &[u8]); 10] = [
            (b"", b"a"),
            (b"a", b""),
            (b"a", b"A"),
            (b"?", b""),
            (b"a*c", b"abcd"),
            (b"[]", b"]"),
            (b"[abc]", b"d"),
            (b"[^a-c]", b"b"),
            (b"\\*", b"a"),
            (b"a[", b"a"),
        ];
        for (pattern, text) in differing {
            assert!(!glob_matches(pattern, text), "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = b"*a".repeat(500);
        let text = b"a".repeat(499);
        assert!(!glob_matches(&pattern, &text));
        assert!(glob_matches(&pattern, &b"a".repeat(5000)));
    }
}
