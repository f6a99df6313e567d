//! Parts of strings, and strings that grow in place.

use super::failure::Failure;
use super::number::integer;
use super::{MAX_VALUE_BYTES, Reading, Writing};
use flotilla_resp::encode;

/// `STRLEN key`
pub(crate) fn strlen(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let bytes = call.string(call.arg(1)).map_or(0, |found| found.value.len());
    encode::integer(out, bytes as i64);
    Ok(())
}

/// `GETRANGE key start end`: both ends belong to the part, negative ones count from the end.
pub(crate) fn getrange(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (start, end) = (integer(call.arg(2))?, integer(call.arg(3))?);
    let found = call.string(call.arg(1));
    let value = found.as_ref().map_or(&[][..], |found| found.value);
    encode::bulk(out, part(value, start, end));
    Ok(())
}

fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    let length = value.len() as i64;
    let from_front = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    // Two ends beyond the front would both become the first byte.
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let (start, end) = (from_front(start).max(0), from_front(end).max(0).min(length - 1));
    if start > end { &[] } else { &value[start as usize..=end as usize] }
}

/// `APPEND key value`
pub(crate) fn append(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (key, tail) = (call.arg(1), call.arg(2));
    let before_bytes = call.string(key).map_or(0, |found| found.value.len());
    check_length(before_bytes, tail.len())?;
    let bytes = call.keyspace.append(call.slot(), key, tail, call.scope.now_ms);
    encode::integer(out, bytes as i64);
    Ok(())
}

/// `SETRANGE key offset value`: what lies between the end and the offset becomes zero bytes; an
/// empty value changes nothing and creates nothing.
pub(crate) fn setrange(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (key, patch) = (call.arg(1), call.arg(3));
    let offset = integer(call.arg(2))?;
    let offset = usize::try_from(offset).map_err(|_| Failure::OffsetOutOfRange)?;
    let found = call.string(key);
    let before = found.as_ref().map_or(&[][..], |found| found.value);
    if patch.is_empty() {
        encode::integer(out, before.len() as i64);
        return Ok(());
    }
    check_length(offset, patch.len())?;
    let mut value = before.to_vec();
    let expires_at_ms = found.and_then(|found| found.expires_at_ms);
    value.resize(before_or_patched(value.len(), offset, patch), 0);
    value[offset..offset + patch.len()].copy_from_slice(patch);
    call.set(key, &value, expires_at_ms);
    encode::integer(out, value.len() as i64);
    Ok(())
}

fn before_or_patched(before_bytes: usize, offset: usize, patch: &[u8]) -> usize {
    before_bytes.max(offset + patch.len())
}

/// Refuses a string of `before_bytes` followed by `more_bytes` that would be too long.
fn check_length(before_bytes: usize, more_bytes: usize) -> Result<(), Failure> {
    match before_bytes.checked_add(more_bytes) {
        Some(bytes) if bytes <= MAX_VALUE_BYTES => Ok(()),
        _ => Err(Failure::TooLong),
    }
}
