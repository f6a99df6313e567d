//! Expiry agreement: a key expires by its shard's replicated clock alone (P9). Seen by clients:
//! its value is there before its time, and gone after it, as far as clocks may be wrong.
//!
//! That it is there *before* its time is part of the history's order: its expiry is an operation
//! that may happen from then on. That all replicas agree is part of the hash of their states. What
//! is left is that it does not stay.

use crate::history::{Answer, Call, Operation, Outcome};
use crate::queue::Micros;

/// Checks one key: no read that was sent more than `slack` after a value's time was up may see it,
/// if that value was set for certain. Gives how many values had a time.
pub fn check(operations: &[Operation], slack: Micros) -> Result<u64, String> {
    let mut judged = 0;
    for expiry in operations {
        let Call::Expire(value) = &expiry.call else { continue };
        judged += 1;
        // Nobody knows when a write without an answer takes effect, and so from when it lives.
        let set = operations.iter().find(|set| {
            matches!(&set.call, Call::Set(written) if written == value)
                && matches!(set.outcome, Outcome::Known(_))
        });
        let Some(set) = set else { continue };
        // The expiry was noted from the moment the write was sent.
        let until = expiry.invoked + (set.returned - set.invoked) + slack;
        let undead = operations.iter().find(|read| {
            let seen = match &read.outcome {
                Outcome::Known(Answer::Value(Some(seen))) => seen == value,
                _ => false,
            };
            seen && read.invoked > until
        });
        if let Some(read) = undead {
            return Err(format!(
                "{} was read {} ms after its time was up",
                value.escape_ascii(),
                (read.invoked - until + slack) / 1_000
            ));
        }
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_read_long_after_its_time() {
        let operation = |call, invoked, outcome| Operation {
            call,
            invoked,
            returned: invoked + 10,
            outcome,
            connection: 0,
        };
        let value = b"v".to_vec();
        let set = operation(Call::Set(value.clone()), 0, Outcome::Known(Answer::Done));
        let expiry = operation(Call::Expire(value.clone()), 100, Outcome::Unknown);
        let read =
            |at| operation(Call::Get, at, Outcome::Known(Answer::Value(Some(value.clone()))));
        assert_eq!(check(&[set.clone(), expiry.clone(), read(120)], 30), Ok(1));
        assert!(check(&[set, expiry, read(141)], 30).is_err());
    }
}
