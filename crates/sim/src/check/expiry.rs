//! Expiry agreement: a key expires by its shard's replicated clock alone (P9). Seen by clients:
//! its value is there before its time, and gone after it, as far as clocks may be wrong.
//!
//! That it is there *before* its time is part of the history's order: its expiry is an operation
//! that may happen once the shard's clock says so (`shard_clock.rs`). That all replicas agree is
//! part of the hash of their states. What is left is that it does not stay.

use crate::history::{Answer, Call, Operation, Outcome};
use crate::queue::Micros;

/// Checks one key: no read that was sent more than `slack` after a value's time was up may see it,
/// if that value was set for certain; `life_of` gives the time of a value that has one. Gives how
/// many values had a time.
pub fn check(
    operations: &[Operation],
    life_of: impl Fn(&[u8]) -> Option<Micros>,
    slack: Micros,
) -> Result<u64, String> {
    let mut judged = 0;
    for set in operations {
        let Call::Set(value) = &set.call else { continue };
        let Some(life) = life_of(value) else { continue };
        judged += 1;
        // Nobody knows when a write without an answer takes effect, and so from when it lives.
        if !matches!(set.outcome, Outcome::Known(_)) {
            continue;
        }
        let until = set.returned + life + slack;
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
        let read =
            |at| operation(Call::Get, at, Outcome::Known(Answer::Value(Some(value.clone()))));
        let life_of = |seen: &[u8]| (seen == b"v").then_some(100);
        assert_eq!(check(&[set.clone(), read(140)], life_of, 30), Ok(1));
        assert!(check(&[set.clone(), read(141)], life_of, 30).is_err());
        assert_eq!(check(&[set, read(999)], |_| None, 30), Ok(0));
    }
}
