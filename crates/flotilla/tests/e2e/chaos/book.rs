//! What the clients write to: keys that are given up after some operations, so that the history of
//! each is short enough to be searched for an order that explains it.

use flotilla_sim::{Call, Random};

/// Operations on a key before another takes its place; the checker takes 512.
const OPERATIONS_PER_KEY: u32 = 200;
/// Keys of each kind that are in use at once: enough for every shard, few enough to collide on.
const KEYS_IN_USE: usize = 4;

/// How a key is written.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// By values that are new each time.
    Register,
    /// By `INCR` only.
    Counter,
    /// By `APPEND` of tokens only.
    Tokens,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Register, Self::Counter, Self::Tokens];

    fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::Tokens => "tokens",
        }
    }

    /// Something to do with a key of this kind; `token` is new each time.
    fn call(self, random: &mut Random, token: Vec<u8>) -> Call {
        match (self, random.below(10)) {
            (_, 0..4) => Call::Get,
            (Self::Counter, _) => Call::Incr,
            (Self::Tokens, _) => Call::Append(token),
            (Self::Register, 4..7) => Call::Set(token),
            (Self::Register, 7) => Call::GetSet(token),
            (Self::Register, 8) => Call::SetIfAbsent(token),
            (Self::Register, _) => Call::Del,
        }
    }
}

/// The keys in use.
#[derive(Debug)]
pub(super) struct Book {
    round: u32,
    keys: Vec<Entry>,
    last: u32,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    number: u32,
    operations: u32,
}

impl Book {
    /// Keys that no other round has.
    pub(super) fn new(round: u32) -> Self {
        let mut book = Self { round, keys: Vec::new(), last: 0 };
        for kind in Kind::ALL {
            for _ in 0..KEYS_IN_USE {
                book.last += 1;
                book.keys.push(Entry { kind, number: book.last, operations: 0 });
            }
        }
        book
    }

    /// A key and what to do with it; `token` is new each time.
    pub(super) fn next(&mut self, random: &mut Random, token: Vec<u8>) -> (String, Call) {
        let place = random.position(self.keys.len());
        let entry = &mut self.keys[place];
        if entry.operations == OPERATIONS_PER_KEY {
            self.last += 1;
            *entry = Entry { kind: entry.kind, number: self.last, operations: 0 };
        }
        entry.operations += 1;
        let key = format!("{}:{}:{}", entry.kind.name(), self.round, entry.number);
        (key, entry.kind.call(random, token))
    }
}

/// The words of a call.
pub(super) fn words<'a>(key: &'a str, call: &'a Call) -> Vec<&'a [u8]> {
    let key = key.as_bytes();
    match call {
        Call::Get => vec![b"GET", key],
        Call::Set(value) => vec![b"SET", key, value],
        Call::SetIfAbsent(value) => vec![b"SET", key, value, b"NX"],
        Call::GetSet(value) => vec![b"GETSET", key, value],
        Call::GetDel => vec![b"GETDEL", key],
        Call::Del => vec![b"DEL", key],
        Call::Incr => vec![b"INCR", key],
        Call::Append(token) => vec![b"APPEND", key, token],
        Call::Expire(_) => unreachable!("nobody asks for it"),
    }
}
