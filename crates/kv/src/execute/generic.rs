//! Keys of any kind: whether they are there, and removing them.

use super::failure::Failure;
use super::{Reading, Writing};
use flotilla_resp::encode;

/// `EXISTS key [key ...]`, and `TOUCH`, which counts the same.
pub(crate) fn exists(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let count = call.args.iter().skip(1).filter(|key| call.entry(key).is_some()).count();
    encode::integer(out, count as i64);
    Ok(())
}

/// `DEL key [key ...]`, and `UNLINK`, which does the same.
pub(crate) fn del(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let count = call.args.iter().skip(1).filter(|key| call.remove(key)).count();
    encode::integer(out, count as i64);
    Ok(())
}

/// `TYPE key`
pub(crate) fn kind(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let kind = if call.entry(call.arg(1)).is_some() { STRING } else { b"none" };
    encode::simple(out, kind);
    Ok(())
}

/// The name of the kind of value that strings are.
pub(super) const STRING: &[u8] = b"string";
