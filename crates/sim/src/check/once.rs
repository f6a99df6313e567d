//! Whether every write took effect exactly once, seen from the last state of a key (P7).
//!
//! Linearizability says it too, but not as plainly: here a counter is off by so many, a token is
//! there twice.

use crate::history::{Call, KeyState, Operation, Outcome, number_of};

/// Checks a counter or a list of tokens by its last state; a key that was also written otherwise
/// has nothing to be checked. The error says what is wrong.
pub fn check(operations: &[Operation], last: &KeyState) -> Result<(), String> {
    let writes: Vec<&Operation> = operations.iter().filter(|o| !o.call.is_read()).collect();
    if writes.iter().all(|write| write.call == Call::Incr) {
        return check_counter(&writes, number_of(last));
    }
    let tokens: Option<Vec<(&[u8], &Outcome)>> = writes
        .iter()
        .map(|write| match &write.call {
            Call::Append(token) => Some((token.as_slice(), &write.outcome)),
            _ => None,
        })
        .collect();
    match tokens {
        Some(tokens) => check_tokens(&tokens, last.as_deref().unwrap_or_default()),
        None => Ok(()),
    }
}

fn check_counter(writes: &[&Operation], last: i64) -> Result<(), String> {
    let count = |wanted: fn(&Outcome) -> bool| {
        writes.iter().filter(|write| wanted(&write.outcome)).count() as i64
    };
    let acknowledged = count(|outcome| matches!(outcome, Outcome::Known(_)));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    if (acknowledged..=acknowledged + unknown).contains(&last) {
        return Ok(());
    }
    Err(format!(
        "the counter stands at {last}, but {acknowledged} INCRs were acknowledged and the outcome \
         of {unknown} is unknown"
    ))
}

fn check_tokens(tokens: &[(&[u8], &Outcome)], last: &[u8]) -> Result<(), String> {
    let mut found: Vec<&[u8]> = last.split_inclusive(|&byte| byte == b';').collect();
    found.sort_unstable();
    for (token, outcome) in tokens {
        let from = found.partition_point(|other| other < token);
        let times = found[from..].iter().take_while(|other| *other == token).count();
        let right = match outcome {
            Outcome::Known(_) => times == 1,
            Outcome::Unknown => times <= 1,
            Outcome::Refused => times == 0,
        };
        if !right {
            let token = token.escape_ascii();
            return Err(format!("the token {token} is there {times} times, it was {outcome:?}"));
        }
    }
    let known = found.iter().all(|piece| tokens.iter().any(|(token, _)| token == piece));
    if known { Ok(()) } else { Err("there is a token that nobody appended".to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Answer;

    fn operations(call: fn(usize) -> Call, outcomes: &[Outcome]) -> Vec<Operation> {
        let operation = |(at, outcome): (usize, &Outcome)| Operation {
            call: call(at),
            invoked: 0,
            returned: 1,
            outcome: outcome.clone(),
            connection: 0,
        };
        outcomes.iter().enumerate().map(operation).collect()
    }

    const ACKNOWLEDGED: Outcome = Outcome::Known(Answer::Done);

    #[test]
    fn a_counter_lies_between_what_is_known_and_what_may_be() {
        let outcomes = [ACKNOWLEDGED, Outcome::Unknown, ACKNOWLEDGED, Outcome::Refused];
        let operations = operations(|_| Call::Incr, &outcomes);
        let right = |number: &str| check(&operations, &Some(number.as_bytes().to_vec())).is_ok();
        assert_eq!(["1", "2", "3", "4"].map(right), [false, true, true, false]);
    }

    #[test]
    fn a_token_is_there_once() {
        let outcomes = [ACKNOWLEDGED, Outcome::Unknown, Outcome::Refused];
        let call = |at| Call::Append(format!("t{at};").into_bytes());
        let operations = operations(call, &outcomes);
        let right = |value: &[u8]| check(&operations, &Some(value.to_vec())).is_ok();
        assert!(right(b"t0;"));
        assert!(right(b"t1;t0;"));
        for wrong in [&b""[..], b"t1;", b"t0;t0;", b"t0;t1;t1;", b"t0;t2;", b"t0;x;"] {
            assert!(!right(wrong), "{}", wrong.escape_ascii());
        }
    }
}
