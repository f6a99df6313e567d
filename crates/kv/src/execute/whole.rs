//! The shard as a whole: counting, listing and removing everything.

use super::failure::Failure;
use super::generic::STRING;
use super::number::integer;
use super::options::Keyword;
use super::{Reading, Writing, glob_matches};
use flotilla_resp::encode;

/// The keys that a page of SCAN looks at if nothing else is said; the tables bound what is said.
const SCAN_COUNT_DEFAULT: usize = 10;

/// `DBSIZE`
pub(crate) fn dbsize(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    encode::integer(out, call.keyspace.len() as i64);
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`, and `FLUSHDB`
pub(crate) fn flush(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let known =
        |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    if call.args.len() > 2 || !call.args.iter().skip(1).all(known) {
        return Err(Failure::Syntax);
    }
    call.keyspace.clear_all();
    encode::simple(out, "OK");
    Ok(())
}

/// `KEYS pattern`
pub(crate) fn keys(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let pattern = call.arg(1);
    let mut listed = Listed::default();
    call.keyspace.keys(call.scope.now_ms, &mut |key| {
        if glob_matches(pattern, key) {
            listed.push(key);
        }
    });
    listed.write_to(out);
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(crate) fn scan(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let page = Page::parse(call)?;
    let mut listed = Listed::default();
    let owned = |slot| call.scope.owned.contains(slot);
    let next = call.keyspace.scan(page.cursor, page.count, call.scope.now_ms, owned, &mut |key| {
        if page.strings && page.pattern.is_none_or(|pattern| glob_matches(pattern, key)) {
            listed.push(key);
        }
    });
    encode::array_header(out, 2);
    encode::bulk(out, next.to_string());
    listed.write_to(out);
    Ok(())
}

/// What a page of SCAN is asked for.
struct Page<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    count: usize,
    /// Whether strings are of the kind that is asked for.
    strings: bool,
}

impl<'a> Page<'a> {
    fn parse(call: &Reading<'a>) -> Result<Self, Failure> {
        let cursor = cursor(call.arg(1)).ok_or(Failure::InvalidCursor)?;
        let mut page = Self { cursor, pattern: None, count: SCAN_COUNT_DEFAULT, strings: true };
        let mut words = call.args.iter().skip(2);
        while let Some(word) = words.next() {
            let value = words.next().ok_or(Failure::Syntax)?;
            match Keyword::of(word).as_slice() {
                b"match" => page.pattern = Some(value),
                b"count" => {
                    let count = integer(value)?;
                    if count < 1 {
                        return Err(Failure::Syntax);
                    }
                    page.count = count as usize;
                }
                b"type" => page.strings = value.eq_ignore_ascii_case(STRING),
                _ => return Err(Failure::Syntax),
            }
        }
        Ok(page)
    }
}

/// The number a client sends back as it got it.
fn cursor(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Keys gathered before their number is known.
#[derive(Default)]
struct Listed {
    count: usize,
    encoded: Vec<u8>,
}

impl Listed {
    fn push(&mut self, key: &[u8]) {
        encode::bulk(&mut self.encoded, key);
        self.count += 1;
    }

    fn write_to(self, out: &mut Vec<u8>) {
        encode::array_header(out, self.count);
        out.extend_from_slice(&self.encoded);
    }
}
