//! Commands over several keys of one slot: their parts travel in one entry and are atomic there
//! (P8), so that a read of all these keys sees all of such a write or nothing of it.
//!
//! The keys of a *group* share a tag and are only ever written together, with one value. Beyond
//! what is checked here, each group counts as one key for linearizability.

use crate::history::{Answer, KeyState};

/// What a read of a whole group saw, as the value of the group.
pub fn check(values: &[Answer]) -> Result<KeyState, String> {
    let mut states = values.iter().map(|value| match value {
        Answer::Value(state) => state.clone(),
        _ => None,
    });
    let first = states.next().flatten();
    match states.find(|other| *other != first) {
        None => Ok(first),
        Some(other) => {
            let text = |state: &KeyState| match state {
                None => "nothing".to_string(),
                Some(value) => value.escape_ascii().to_string(),
            };
            let (first, other) = (text(&first), text(&other));
            Err(format!("one read saw {first} and {other} of keys that are written together"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_write_is_noticed() {
        let value = |text: &str| Answer::Value(Some(text.into()));
        assert_eq!(check(&[value("a"), value("a")]), Ok(Some(b"a".to_vec())));
        assert_eq!(check(&[Answer::Value(None), Answer::Value(None)]), Ok(None));
        assert!(check(&[value("a"), value("b")]).is_err());
        assert!(check(&[value("a"), Answer::Value(None)]).is_err());
    }
}
