//! What clients ask: commands over keys that live for a short while, so that every key's history
//! can be checked.

use flotilla_resp::{Value, encode_command};

use crate::check::atomicity;
use crate::config::Workload;
use crate::history::{Answer, Call};
use crate::random::Random;

/// A key is given up after so many operations.
const OPERATIONS_MAX: u64 = 130;
/// A key with a time to live is given up after so many, so that it expires unless it was written
/// again soon.
const MORTAL_OPERATIONS_MAX: u64 = 16;
/// A key is given up after so many operations without a known outcome.
const UNKNOWN_MAX: u64 = 8;
/// Nobody uses a key with so many operations without an answer.
const OPEN_MAX: u64 = 6;
/// Keys of a group: they share a slot and are written together.
const GROUP: usize = 3;

/// A command and what it does to each of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) words: Vec<Vec<u8>>,
    /// The keys in the order of the reply.
    pub(crate) parts: Vec<(String, Call)>,
    pub(crate) shape: Shape,
    /// What is to be expected later: a key with a time to live, milliseconds.
    pub(crate) lives_ms: Option<u64>,
}

/// What a reply looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `OK`
    Ok,
    /// `OK`, or null if nothing was done.
    OkOrNull,
    /// A value or null.
    Value,
    /// A number that is about the one key.
    Number,
    /// A number that is about several keys.
    Count,
    /// A value or null per key.
    Values,
    /// As many values as a group has keys, which must be the same.
    Group,
    /// How many keys of a group were there: all or none.
    GroupCount,
    /// What was asked, again.
    Echo,
}

impl Command {
    /// A command with one key.
    pub(crate) fn new(words: &[&[u8]], key: &str, call: Call, shape: Shape) -> Self {
        Self {
            words: words.iter().map(|word| word.to_vec()).collect(),
            parts: vec![(key.to_string(), call)],
            shape,
            lives_ms: None,
        }
    }

    /// `GET key`
    pub(crate) fn get(key: &str) -> Self {
        Self::new(&[b"GET", key.as_bytes()], key, Call::Get, Shape::Value)
    }

    /// `GET` of a key of the history, which may be a group.
    pub(crate) fn read(name: &str) -> Self {
        if name.starts_with('g') { Self::read_group(name) } else { Self::get(name) }
    }

    /// `MGET` of all keys of a group.
    fn read_group(name: &str) -> Self {
        let words = std::iter::once(b"MGET".to_vec()).chain(group_keys(name)).collect();
        Self::of_group(words, name, Call::Get, Shape::Group)
    }

    fn of_group(words: Vec<Vec<u8>>, name: &str, call: Call, shape: Shape) -> Self {
        Self { words, parts: vec![(name.to_string(), call)], shape, lives_ms: None }
    }

    /// `SET key value`
    pub(crate) fn set(key: &str, value: &[u8]) -> Self {
        let call = Call::Set(value.to_vec());
        Self::new(&[b"SET", key.as_bytes(), value], key, call, Shape::Ok)
    }

    /// `ECHO text`, about no key.
    pub(crate) fn echo(text: &[u8]) -> Self {
        let words = vec![b"ECHO".to_vec(), text.to_vec()];
        Self { words, parts: Vec::new(), shape: Shape::Echo, lives_ms: None }
    }

    /// Its bytes on the wire.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        encode_command(&words, out);
    }
}

/// The keys of a group.
fn group_keys(name: &str) -> impl Iterator<Item = Vec<u8>> {
    (0..GROUP).map(move |number| format!("{{{name}}}{number}").into_bytes())
}

impl Shape {
    /// What a reply that is no error says about each key; the error says what is wrong with it.
    pub(crate) fn answers(self, reply: &Value, command: &Command) -> Result<Vec<Answer>, String> {
        let keys = command.parts.len();
        let value = |reply: &Value| match reply {
            Value::Null => Ok(Answer::Value(None)),
            Value::Bulk(bytes) => Ok(Answer::Value(Some(bytes.clone()))),
            other => Err(format!("{other:?} is no value")),
        };
        match (self, reply) {
            (Self::Ok, Value::Simple(text)) if text == "OK" => Ok(vec![Answer::Done; keys]),
            (Self::OkOrNull, Value::Simple(text)) if text == "OK" => Ok(vec![Answer::Number(1)]),
            (Self::OkOrNull, Value::Null) | (Self::GroupCount, Value::Integer(0)) => {
                Ok(vec![Answer::Number(0)])
            }
            (Self::Echo, Value::Bulk(bytes)) if *bytes == command.words[1] => Ok(Vec::new()),
            (Self::Value, reply) => Ok(vec![value(reply)?]),
            (Self::Number, Value::Integer(number)) => Ok(vec![Answer::Number(*number)]),
            (Self::Count, Value::Integer(_)) => Ok(vec![Answer::Done; keys]),
            (Self::Values, Value::Array(values)) if values.len() == keys => {
                values.iter().map(value).collect()
            }
            (Self::Group, Value::Array(values)) if values.len() == GROUP => {
                let values: Vec<Answer> = values.iter().map(value).collect::<Result<_, _>>()?;
                Ok(vec![Answer::Value(atomicity::check(&values)?)])
            }
            (Self::GroupCount, Value::Integer(count)) if *count == GROUP as i64 => {
                Ok(vec![Answer::Number(1)])
            }
            (shape, reply) => Err(format!("{reply:?} is not {shape:?}")),
        }
    }
}

/// The kinds of keys, which are used in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Register,
    Counter,
    Tokens,
    Expiring,
    Group,
}

#[derive(Debug)]
struct Key {
    name: String,
    operations: u64,
    unknown: u64,
    /// Sent, and not answered yet.
    open: u64,
}

/// Chooses what clients ask next.
#[derive(Debug)]
pub(crate) struct Commands {
    options: Workload,
    keys: [Vec<Key>; 5],
    last_key: u64,
    last_value: u64,
}

impl Commands {
    /// Commands as the options want them.
    pub(crate) fn new(options: Workload) -> Self {
        Self { options, keys: Default::default(), last_key: 0, last_value: 0 }
    }

    /// The outcome of an operation on this key will not be known.
    pub(crate) fn lost(&mut self, name: &str) {
        let keys = self.keys.iter_mut().flatten();
        if let Some(key) = keys.into_iter().find(|key| key.name == name) {
            key.unknown += 1;
        }
    }

    /// An operation on this key has an outcome, or never will.
    pub(crate) fn settled(&mut self, name: &str) {
        let keys = self.keys.iter_mut().flatten();
        if let Some(key) = keys.into_iter().find(|key| key.name == name) {
            key.open = key.open.saturating_sub(1);
        }
    }

    /// Writes a key that nobody writes again.
    pub(crate) fn ballast(number: u64, random: &mut Random) -> Command {
        let length = random.between(10, 200);
        let value: Vec<u8> = (0..length).map(|_| b'a' + (random.word() % 26) as u8).collect();
        Command::set(&format!("b{number}"), &value)
    }

    /// The next command.
    pub(crate) fn next(&mut self, random: &mut Random) -> Command {
        match random.below(100) {
            0..8 => self.over_several_keys(random),
            8..16 => self.group(random),
            number if number < 16 + self.options.expiring_percent => self.expiring(random),
            number if number < 48 => self.counter(random),
            number if number < 68 => self.tokens(random),
            _ => self.register(random),
        }
    }

    fn reads(&self, random: &mut Random) -> bool {
        random.chance(self.options.read_percent)
    }

    /// Keys that are only ever written and read together.
    fn group(&mut self, random: &mut Random) -> Command {
        let name = self.key(Kind::Group, random);
        if self.reads(random) {
            return Command::read_group(&name);
        }
        if random.chance(20) {
            let words = std::iter::once(b"DEL".to_vec()).chain(group_keys(&name)).collect();
            return Command::of_group(words, &name, Call::Del, Shape::GroupCount);
        }
        let value = self.value(random);
        let mut words = vec![b"MSET".to_vec()];
        words.extend(group_keys(&name).flat_map(|key| [key, value.clone()]));
        Command::of_group(words, &name, Call::Set(value), Shape::Ok)
    }

    fn counter(&mut self, random: &mut Random) -> Command {
        let key = self.key(Kind::Counter, random);
        if self.reads(random) {
            return Command::get(&key);
        }
        Command::new(&[b"INCR", key.as_bytes()], &key, Call::Incr, Shape::Number)
    }

    fn tokens(&mut self, random: &mut Random) -> Command {
        let key = self.key(Kind::Tokens, random);
        if self.reads(random) {
            return Command::get(&key);
        }
        self.last_value += 1;
        let token = format!("t{};", self.last_value).into_bytes();
        let words: [&[u8]; 3] = [b"APPEND", key.as_bytes(), &token];
        Command::new(&words, &key, Call::Append(token.clone()), Shape::Number)
    }

    fn register(&mut self, random: &mut Random) -> Command {
        let key = self.key(Kind::Register, random);
        if self.reads(random) {
            return Command::get(&key);
        }
        let name = key.as_bytes();
        let value = self.value(random);
        match random.below(12) {
            0..6 => Command::set(&key, &value),
            6 | 7 => {
                let words: [&[u8]; 4] = [b"SET", name, &value, b"NX"];
                Command::new(&words, &key, Call::SetIfAbsent(value.clone()), Shape::OkOrNull)
            }
            8 => {
                let words: [&[u8]; 3] = [b"GETSET", name, &value];
                Command::new(&words, &key, Call::GetSet(value.clone()), Shape::Value)
            }
            9 => Command::new(&[b"GETDEL", name], &key, Call::GetDel, Shape::Value),
            _ => Command::new(&[b"DEL", name], &key, Call::Del, Shape::Number),
        }
    }

    fn expiring(&mut self, random: &mut Random) -> Command {
        let key = self.key(Kind::Expiring, random);
        if random.chance(70) {
            return Command::get(&key);
        }
        let value = self.value(random);
        let lives_ms = random.between(50, self.options.lives_max_ms);
        let lives = lives_ms.to_string();
        let words: [&[u8]; 5] = [b"SET", key.as_bytes(), &value, b"PX", lives.as_bytes()];
        let command = Command::new(&words, &key, Call::Set(value.clone()), Shape::Ok);
        Command { lives_ms: Some(lives_ms), ..command }
    }

    fn over_several_keys(&mut self, random: &mut Random) -> Command {
        let count = random.between(2, 4);
        let mut names: Vec<String> = (0..count).map(|_| self.key(Kind::Register, random)).collect();
        names.sort_unstable();
        names.dedup();
        let verb = random.below(5);
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut parts = Vec::new();
        for name in names {
            words.push(name.clone().into_bytes());
            parts.push((
                name,
                match verb {
                    0 | 1 => {
                        let value = self.value(random);
                        words.push(value.clone());
                        Call::Set(value)
                    }
                    2 | 3 => Call::Get,
                    _ => Call::Del,
                },
            ));
        }
        let (verb, shape) = match verb {
            0 | 1 => ("MSET", Shape::Ok),
            2 | 3 => ("MGET", Shape::Values),
            _ => ("DEL", Shape::Count),
        };
        words.insert(0, verb.into());
        Command { words, parts, shape, lives_ms: None }
    }

    fn value(&mut self, random: &mut Random) -> Vec<u8> {
        self.last_value += 1;
        let mut value = format!("v{};", self.last_value).into_bytes();
        if self.options.filler > 0 && random.chance(40) {
            let filler = random.position(self.options.filler);
            // What looks random does not shrink in a snapshot.
            value.extend((0..filler).map(|_| b'a' + (random.word() % 26) as u8));
        }
        value
    }

    fn key(&mut self, kind: Kind, random: &mut Random) -> String {
        let most = if kind == Kind::Expiring { MORTAL_OPERATIONS_MAX } else { OPERATIONS_MAX };
        let keys = &mut self.keys[kind as usize];
        keys.retain(|key| key.operations < most && key.unknown < UNKNOWN_MAX);
        let usable = |key: &&mut Key| key.open < OPEN_MAX && key.open + key.unknown < UNKNOWN_MAX;
        while keys.iter_mut().filter(usable).count() < self.options.keys {
            self.last_key += 1;
            let name = format!("{}{}", ["r", "c", "t", "x", "g"][kind as usize], self.last_key);
            keys.push(Key { name, operations: 0, unknown: 0, open: 0 });
        }
        let at = random.position(self.options.keys);
        let key = keys.iter_mut().filter(usable).nth(at).expect("there are so many");
        key.operations += 1;
        key.open += 1;
        key.name.clone()
    }
}
