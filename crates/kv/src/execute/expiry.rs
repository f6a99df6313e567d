//! When a key expires.

use super::failure::Failure;
use super::number::integer;
use super::options::{Keyword, Unit, absolute_ms};
use super::{Reading, Writing};
use flotilla_resp::encode;

/// The reply about the time of a key that does not exist.
const NO_KEY: i64 = -2;
/// The reply about the time of a key that never expires.
const NO_EXPIRY: i64 = -1;

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub(crate) fn expire(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    expire_by(call, Unit::Seconds, out)
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub(crate) fn pexpire(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    expire_by(call, Unit::Milliseconds, out)
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`
pub(crate) fn expireat(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    expire_by(call, Unit::SecondsAt, out)
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`
pub(crate) fn pexpireat(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    expire_by(call, Unit::MillisecondsAt, out)
}

/// Sets an expiry; one in the past deletes the key, and that too counts as done.
fn expire_by(call: &mut Writing<'_>, unit: Unit, out: &mut Vec<u8>) -> Result<(), Failure> {
    let conditions = Conditions::parse(call)?;
    let key = call.arg(1);
    let number = integer(call.arg(2))?;
    let at_ms = absolute_ms(unit, number, call.scope.now_ms)
        .ok_or(Failure::InvalidExpire(call.spec.name))?;
    let admitted =
        call.entry(key).is_some_and(|found| conditions.admit(found.expires_at_ms, at_ms));
    if admitted {
        // What lies before 1970 has passed as surely as its first moment.
        call.set_expiry(key, Some(u64::try_from(at_ms).unwrap_or(0)));
    }
    encode::integer(out, i64::from(admitted));
    Ok(())
}

/// When the new expiry is taken.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    /// `NX`: the key has none.
    none_before: bool,
    /// `XX`: the key has one.
    some_before: bool,
    /// `GT`: it is later than the present one; none is later than any.
    later: bool,
    /// `LT`: it is earlier than the present one.
    earlier: bool,
}

impl Conditions {
    fn parse(call: &Writing<'_>) -> Result<Self, Failure> {
        let mut conditions = Self::default();
        for word in call.args.iter().skip(3) {
            match Keyword::of(word).as_slice() {
                b"nx" => conditions.none_before = true,
                b"xx" => conditions.some_before = true,
                b"gt" => conditions.later = true,
                b"lt" => conditions.earlier = true,
                _ => return Err(Failure::UnsupportedOption(word.to_vec())),
            }
        }
        let others = conditions.some_before || conditions.later || conditions.earlier;
        if conditions.none_before && others {
            return Err(Failure::NxWithOthers);
        }
        if conditions.later && conditions.earlier {
            return Err(Failure::GtWithLt);
        }
        Ok(conditions)
    }

    fn admit(self, present_ms: Option<u64>, at_ms: i64) -> bool {
        // An expiry that was set came from a signed number, so that nothing is lost here.
        let present_ms = present_ms.map(|ms| ms as i64);
        (!self.none_before || present_ms.is_none())
            && (!self.some_before || present_ms.is_some())
            && (!self.later || present_ms.is_some_and(|present_ms| at_ms > present_ms))
            && (!self.earlier || present_ms.is_none_or(|present_ms| at_ms < present_ms))
    }
}

/// `PERSIST key`
pub(crate) fn persist(call: &mut Writing<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let key = call.arg(1);
    let had_expiry = call.entry(key).is_some_and(|found| found.expires_at_ms.is_some());
    if had_expiry {
        call.set_expiry(key, None);
    }
    encode::integer(out, i64::from(had_expiry));
    Ok(())
}

/// `TTL key`
pub(crate) fn ttl(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let clock_ms = call.scope.ttl_clock_ms;
    reply_time(call, |at_ms| rounded_seconds(at_ms.saturating_sub(clock_ms)), out);
    Ok(())
}

/// `PTTL key`
pub(crate) fn pttl(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let clock_ms = call.scope.ttl_clock_ms;
    reply_time(call, |at_ms| at_ms.saturating_sub(clock_ms), out);
    Ok(())
}

/// `EXPIRETIME key`
pub(crate) fn expiretime(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    reply_time(call, rounded_seconds, out);
    Ok(())
}

/// `PEXPIRETIME key`
pub(crate) fn pexpiretime(call: &Reading<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    reply_time(call, |at_ms| at_ms, out);
    Ok(())
}

fn reply_time(call: &Reading<'_>, shown: impl Fn(u64) -> u64, out: &mut Vec<u8>) {
    let reply = match call.entry(call.arg(1)).map(|found| found.expires_at_ms) {
        None => NO_KEY,
        Some(None) => NO_EXPIRY,
        Some(Some(at_ms)) => i64::try_from(shown(at_ms)).unwrap_or(i64::MAX),
    };
    encode::integer(out, reply);
}

/// Half a second and more counts as a whole one, as in Redis.
fn rounded_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}
