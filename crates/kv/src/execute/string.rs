//! Setting and getting whole strings.

use super::failure::Failure;
use super::options::{Condition, Expiry, Of, Options, Unit, expires_at_ms};
use super::{MAX_REPLY_BYTES, Reading, Writing};
use crate::keyspace::Found;
use flotilla_resp::encode;

/// `GET key`
pub(crate) fn get(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    value_or_null(call.string(call.arg(1)), out);
    Ok(())
}

/// `MGET key [key ...]`
pub(crate) fn mget(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let start = out.len();
    encode::array_header(out, call.args.len() - 1);
    for key in call.args.iter().skip(1) {
        value_or_null(call.string(key), out);
        if out.len() - start > MAX_REPLY_BYTES {
            return Err(Failure::ReplyTooLong);
        }
    }
    Ok(())
}

/// `SET key value [NX | XX] [GET] [EX … | PX … | EXAT … | PXAT … | KEEPTTL]`
pub(crate) fn set(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (key, value) = (call.arg(1), call.arg(2));
    let mut words = call.args.iter();
    words.nth(2);
    let options = Options::parse(words, Of::Set)?;
    let given_ms = new_expiry(call, options.expiry)?;

    // A plain SET does not care what was there, and need not look.
    let plain = !options.get
        && matches!(options.condition, Condition::None)
        && !matches!(options.expiry, Expiry::Keep);
    let before = if plain { None } else { call.string(key) };
    let admitted = match options.condition {
        Condition::None => true,
        Condition::Absent => before.is_none(),
        Condition::Present => before.is_some(),
    };
    let kept_ms = match options.expiry {
        Expiry::Keep => before.as_ref().and_then(|found| found.expires_at_ms),
        _ => given_ms,
    };
    if options.get {
        value_or_null(before, out);
    } else if admitted {
        encode::simple(out, "OK");
    } else {
        encode::null(out);
    }
    if admitted {
        call.set(key, value, kept_ms);
    }
    Ok(())
}

/// `SETNX key value`
pub(crate) fn setnx(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (key, value) = (call.arg(1), call.arg(2));
    let absent = call.entry(key).is_none();
    if absent {
        call.set(key, value, None);
    }
    encode::integer(out, i64::from(absent));
    Ok(())
}

/// `SETEX key seconds value`
pub(crate) fn setex(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    set_with_expiry(call, Unit::Seconds, out)
}

/// `PSETEX key milliseconds value`
pub(crate) fn psetex(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    set_with_expiry(call, Unit::Milliseconds, out)
}

fn set_with_expiry(call: &mut Writing<'_>, unit: Unit, out: &mut Vec<u8>) -> Result<(), Failure> {
    let at_ms = new_expiry(call, Expiry::New(unit, call.arg(2)))?;
    call.set(call.arg(1), call.arg(3), at_ms);
    encode::simple(out, "OK");
    Ok(())
}

/// `GETSET key value`
pub(crate) fn getset(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    value_or_null(call.string(call.arg(1)), out);
    call.set(call.arg(1), call.arg(2), None);
    Ok(())
}

/// `GETDEL key`
pub(crate) fn getdel(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    value_or_null(call.string(call.arg(1)), out);
    call.remove(call.arg(1));
    Ok(())
}

/// `GETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST]`
///
/// As in Redis, an impossible expiry is an error only if there is a key it would have met.
pub(crate) fn getex(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let key = call.arg(1);
    let mut words = call.args.iter();
    words.nth(1);
    let options = Options::parse(words, Of::Getex)?;
    let before = call.string(key);
    if before.is_some() {
        let at_ms = new_expiry(call, options.expiry)?;
        value_or_null(before, out);
        if options.expiry != Expiry::Unsaid {
            call.set_expiry(key, at_ms);
        }
    } else {
        encode::null(out);
    }
    Ok(())
}

/// `MSET key value [key value ...]`
pub(crate) fn mset(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut words = call.args.iter();
    words.next();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        call.set(key, value, None);
    }
    encode::simple(out, "OK");
    Ok(())
}

/// The moment of a new expiry, if the options have one.
fn new_expiry(call: &Writing<'_>, expiry: Expiry<'_>) -> Result<Option<u64>, Failure> {
    let Expiry::New(unit, number) = expiry else { return Ok(None) };
    expires_at_ms(unit, number, call.scope.now_ms, call.spec.name).map(Some)
}

fn value_or_null(found: Option<Found<'_>>, out: &mut Vec<u8>) {
    match found {
        Some(found) => encode::bulk(out, found.value),
        None => encode::null(out),
    }
}
