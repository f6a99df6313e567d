//! Order per connection: the commands of one connection take effect in the order sent, per shard,
//! through forwarding and retries (P8).
//!
//! Linearizability says it too; here it is seen without any search: tokens that one connection has
//! appended to a key stand in its last value in the order in which they were sent, and the lengths
//! that it was told grow.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, KeyState, Operation, Outcome};

/// Checks one key by its last state. Gives how many pairs of writes were compared.
pub fn check(operations: &[Operation], last: &KeyState) -> Result<u64, String> {
    let value = last.as_deref().unwrap_or_default();
    let mut compared = 0;
    let mut latest: BTreeMap<u64, (usize, i64)> = BTreeMap::new();
    for operation in operations {
        let (Call::Append(token), Outcome::Known(Answer::Number(length))) =
            (&operation.call, &operation.outcome)
        else {
            continue;
        };
        let Some(place) = find(value, token) else { continue };
        if let Some((before, shorter)) = latest.insert(operation.connection, (place, *length)) {
            compared += 1;
            if place < before || *length <= shorter {
                return Err(format!(
                    "one connection appended {} after what stands behind it",
                    token.escape_ascii()
                ));
            }
        }
    }
    Ok(compared)
}

fn find(value: &[u8], token: &[u8]) -> Option<usize> {
    let mut at = 0;
    for piece in value.split_inclusive(|&byte| byte == b';') {
        if piece == token {
            return Some(at);
        }
        at += piece.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_connection_appends_stays_in_order() {
        let append = |number: i64, connection, length| Operation {
            call: Call::Append(format!("t{number};").into_bytes()),
            invoked: number as u64,
            returned: number as u64 + 9,
            outcome: Outcome::Known(Answer::Number(length)),
            connection,
        };
        let last = Some(b"t2;t1;t3;".to_vec());
        let apart = [append(1, 1, 6), append(2, 2, 3), append(3, 1, 9)];
        assert_eq!(check(&apart, &last), Ok(1));
        let together = [append(1, 1, 6), append(2, 1, 3), append(3, 1, 9)];
        assert!(check(&together, &last).is_err());
    }
}
