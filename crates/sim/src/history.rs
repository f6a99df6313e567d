//! What the clients did and saw, and what one key is by the rules of Redis.

use std::collections::BTreeMap;

use crate::queue::Micros;

/// The value of a key; `None` if it does not exist.
pub type KeyState = Option<Vec<u8>>;

/// What is asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GET`
    Get,
    /// `SET key value`
    Set(Vec<u8>),
    /// `SET key value NX`
    SetIfAbsent(Vec<u8>),
    /// `GETSET key value`
    GetSet(Vec<u8>),
    /// `GETDEL key`
    GetDel,
    /// `DEL key`
    Del,
    /// `INCR key`
    Incr,
    /// `APPEND key token`
    Append(Vec<u8>),
    /// The key's time may be up, if it still has this value. Asked by nobody.
    Expire(Vec<u8>),
}

/// What the answer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It says nothing about this key.
    Done,
    /// The value.
    Value(KeyState),
    /// A number.
    Number(i64),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, and this was the answer.
    Known(Answer),
    /// It took effect once, or will, or never does.
    Unknown,
    /// It has no effect.
    Refused,
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What was asked.
    pub call: Call,
    /// When it was sent.
    pub invoked: Micros,
    /// When its answer was there; the end of time if there is none.
    pub returned: Micros,
    /// How it ended.
    pub outcome: Outcome,
    /// The connection it was sent on.
    pub connection: u64,
}

impl Call {
    /// The answer in a state, and the state after it.
    pub fn apply(&self, state: &KeyState) -> (KeyState, Answer) {
        match self {
            Self::Get => (state.clone(), Answer::Value(state.clone())),
            Self::Set(value) => (Some(value.clone()), Answer::Done),
            Self::SetIfAbsent(value) => match state {
                Some(_) => (state.clone(), Answer::Number(0)),
                None => (Some(value.clone()), Answer::Number(1)),
            },
            Self::GetSet(value) => (Some(value.clone()), Answer::Value(state.clone())),
            Self::GetDel => (None, Answer::Value(state.clone())),
            Self::Del => (None, Answer::Number(state.is_some().into())),
            Self::Incr => {
                let number = number_of(state) + 1;
                (Some(number.to_string().into_bytes()), Answer::Number(number))
            }
            Self::Append(token) => {
                let mut value = state.clone().unwrap_or_default();
                value.extend_from_slice(token);
                let length = value.len() as i64;
                (Some(value), Answer::Number(length))
            }
            Self::Expire(value) => {
                let next = state.clone().filter(|present| present != value);
                (next, Answer::Done)
            }
        }
    }

    /// Whether it never changes anything.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get)
    }
}

/// The number a counter stands at; what is no number counts as 0.
pub(crate) fn number_of(state: &KeyState) -> i64 {
    let digits = state.as_deref().and_then(|value| std::str::from_utf8(value).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The name of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId {
    key: usize,
    number: usize,
}

/// All operations of a run, by key.
#[derive(Clone, Debug, Default)]
pub struct History {
    keys: Vec<(String, Vec<Operation>)>,
    places: BTreeMap<String, usize>,
    /// Of values with a time to live, by value, which no two writes share: how long.
    lives: BTreeMap<Vec<u8>, Micros>,
}

impl History {
    /// An operation was sent; until more is known its outcome is unknown.
    pub fn invoke(&mut self, key: &str, call: Call, at: Micros, connection: u64) -> OperationId {
        let known = self.places.get(key).copied();
        let place = known.unwrap_or_else(|| {
            self.places.insert(key.to_string(), self.keys.len());
            self.keys.push((key.to_string(), Vec::new()));
            self.keys.len() - 1
        });
        let operations = &mut self.keys[place].1;
        operations.push(Operation {
            call,
            invoked: at,
            returned: Micros::MAX,
            outcome: Outcome::Unknown,
            connection,
        });
        OperationId { key: place, number: operations.len() - 1 }
    }

    /// That value lives for so long.
    pub(crate) fn mortal(&mut self, value: &[u8], lives: Micros) {
        self.lives.insert(value.to_vec(), lives);
    }

    /// How long a value lives, if not for ever.
    pub fn life_of(&self, value: &[u8]) -> Option<Micros> {
        self.lives.get(value).copied()
    }

    /// Its answer has come. An unknown outcome leaves the end open.
    pub fn settle(&mut self, id: OperationId, outcome: Outcome, at: Micros) {
        let operation = &mut self.keys[id.key].1[id.number];
        if outcome != Outcome::Unknown {
            operation.returned = at;
        }
        operation.outcome = outcome;
    }

    /// One operation.
    pub fn operation(&self, id: OperationId) -> &Operation {
        &self.keys[id.key].1[id.number]
    }

    /// The key it is about.
    pub(crate) fn key(&self, id: OperationId) -> &str {
        &self.keys[id.key].0
    }

    /// All operations on the same key.
    pub(crate) fn operations(&self, id: OperationId) -> &[Operation] {
        &self.keys[id.key].1
    }

    /// Every key with its operations, in the order they were sent.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[Operation])> {
        self.keys.iter().map(|(key, operations)| (key.as_str(), operations.as_slice()))
    }
}
