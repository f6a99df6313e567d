//! Strings that are integers.

use super::Writing;
use super::failure::Failure;
use super::number::{integer, parse_i64};
use flotilla_resp::encode;

/// `INCR key`
pub(crate) fn incr(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    add(call, 1, out)
}

/// `DECR key`
pub(crate) fn decr(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    add(call, -1, out)
}

/// `INCRBY key increment`
pub(crate) fn incrby(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let increment = integer(call.arg(2))?;
    add(call, increment, out)
}

/// `DECRBY key decrement`
pub(crate) fn decrby(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let decrement = integer(call.arg(2))?;
    let increment = decrement.checked_neg().ok_or(Failure::DecrementOverflow)?;
    add(call, increment, out)
}

/// Adds to the integer, which keeps its expiry.
fn add(call: &mut Writing<'_>, increment: i64, out: &mut Vec<u8>) -> Result<(), Failure> {
    let key = call.arg(1);
    let (number, expires_at_ms) = match call.string(key) {
        Some(found) => (parse_i64(found.value).ok_or(Failure::NotInteger)?, found.expires_at_ms),
        None => (0, None),
    };
    let number = number.checked_add(increment).ok_or(Failure::CounterOverflow)?;
    call.set(key, number.to_string().as_bytes(), expires_at_ms);
    encode::integer(out, number);
    Ok(())
}
