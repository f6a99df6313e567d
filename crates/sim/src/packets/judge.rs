//! What clients saw, held against the log of their shard (P7, P8).
//!
//! Every write has a value of its own, so the committed log tells when each took effect: at the
//! first place at which it was executed. From that follows what every key was after every entry,
//! and what each read can have been answered at. So no order is searched for. The checks are:
//!
//! - what was acknowledged was executed, and what was refused was not;
//! - nothing was executed twice: after every entry each key is what the executed writes make of it;
//! - what one command writes stands in one entry, all of it or nothing;
//! - every operation took effect after all that was answered before it was asked, and after what
//!   the same connection had asked before it. Unlike the histories of single keys this also shows
//!   two reads of different keys that changed places.
//!
//! Each operation is given the first moment that is possible, in the order in which they were
//! asked. If that fails, no other choice would do: a later moment only leaves less to the others.

use std::collections::{BTreeMap, BinaryHeap};

use flotilla_kv::{Answers, ArgsBuf, EntryView, Machine, Outcome as Applied};
use flotilla_resp::{Value, parse_value};
use flotilla_shard::{SLOTS, Slot, slot_of};

use crate::history::KeyState;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The value of each key.
    Read(Vec<String>),
    /// A value for each key; with one key perhaps for so many milliseconds.
    Write { parts: Vec<(String, Vec<u8>)>, lives_ms: Option<u64> },
    /// A token at the end of a key.
    Append { key: String, token: Vec<u8> },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The write was acknowledged.
    Done,
    /// What was read.
    Values(Vec<KeyState>),
    /// It was not executed.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) connection: usize,
    /// When it was asked; later ones were asked later.
    pub(super) asked: u64,
    /// When it was answered, if it was.
    pub(super) answered: Option<u64>,
    pub(super) call: Call,
    pub(super) ending: Ending,
}

/// A moment of the log: within an entry, or after all of it.
type Moment = (u64, u32);

/// After all commands of an entry.
const WHOLE: u32 = u32::MAX;

/// What a key is from a moment on.
#[derive(Clone, Debug)]
struct Version {
    from: Moment,
    value: KeyState,
    ends_ms: Option<u64>,
}

/// The keys, as the writes that were executed make them.
#[derive(Debug, Default)]
struct Keys(BTreeMap<String, Vec<Version>>);

impl Keys {
    fn versions(&mut self, key: &str) -> &mut Vec<Version> {
        let blank = || vec![Version { from: (0, 0), value: None, ends_ms: None }];
        self.0.entry(key.to_owned()).or_insert_with(blank)
    }

    fn last(&mut self, key: &str) -> &Version {
        self.versions(key).last().expect("a key has been nothing at least")
    }

    /// The clock stands at `clock_ms` from the entry on: gives the keys that are gone.
    fn expire(&mut self, index: u64, clock_ms: u64) -> Vec<String> {
        let mut gone = Vec::new();
        for (key, versions) in &mut self.0 {
            if versions.last().and_then(|last| last.ends_ms).is_some_and(|end| end <= clock_ms) {
                versions.push(Version { from: (index, 0), value: None, ends_ms: None });
                gone.push(key.clone());
            }
        }
        gone
    }

    fn write(&mut self, from: Moment, key: &str, value: Vec<u8>, ends_ms: Option<u64>) {
        self.versions(key).push(Version { from, value: Some(value), ends_ms });
    }

    /// The first moment from `bound` on, between entries, at which a key was this.
    fn first_seen(&mut self, key: &str, value: &KeyState, bound: Moment) -> Option<Moment> {
        let versions = self.versions(key);
        for (at, version) in versions.iter().enumerate() {
            let index = version.from.0.max(bound.0);
            let ends = versions.get(at + 1).is_some_and(|next| next.from.0 <= index);
            if version.value == *value && !ends {
                return Some((index, WHOLE));
            }
        }
        None
    }
}

/// The writes by their values, and where each part was executed.
struct Executed<'a> {
    operations: &'a [Operation],
    of_value: BTreeMap<&'a [u8], (usize, usize)>,
    at: Vec<Vec<Option<Moment>>>,
}

impl<'a> Executed<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let (mut of_value, mut at) = (BTreeMap::new(), Vec::new());
        for (number, operation) in operations.iter().enumerate() {
            let values: Vec<&[u8]> = match &operation.call {
                Call::Read(_) => Vec::new(),
                Call::Write { parts, .. } => parts.iter().map(|(_, value)| &value[..]).collect(),
                Call::Append { token, .. } => vec![token.as_slice()],
            };
            at.push(vec![None; values.len()]);
            let places = values.into_iter().enumerate();
            of_value.extend(places.map(|(part, value)| (value, (number, part))));
        }
        Self { operations, of_value, at }
    }

    /// A command was executed, or answered from its record; gives the key that it has changed.
    fn on_command(
        &mut self,
        words: &[&[u8]],
        moment: Moment,
        clock_ms: u64,
        keys: &mut Keys,
    ) -> Vec<String> {
        let mut touched = Vec::new();
        for word in words {
            let Some(&(number, part)) = self.of_value.get(word) else { continue };
            let place = &mut self.at[number][part];
            if place.is_some() {
                continue;
            }
            *place = Some(moment);
            let key = match &self.operations[number].call {
                Call::Read(_) => continue,
                Call::Write { parts, lives_ms } => {
                    let (key, value) = &parts[part];
                    keys.write(moment, key, value.clone(), lives_ms.map(|lives| clock_ms + lives));
                    key
                }
                Call::Append { key, token } => {
                    let Version { value, ends_ms, .. } = keys.last(key).clone();
                    let value = [value.unwrap_or_default(), token.clone()].concat();
                    keys.write(moment, key, value, ends_ms);
                    key
                }
            };
            touched.push(key.clone());
        }
        touched
    }

    /// The moment of an operation that may have been executed, which must be the same entry for all
    /// of its parts.
    fn whole(&self, number: usize) -> Result<Option<(Moment, Moment)>, String> {
        let parts = &self.at[number];
        let known: Vec<Moment> = parts.iter().copied().flatten().collect();
        let (Some(first), Some(last)) = (known.iter().min(), known.iter().max()) else {
            return Ok(None);
        };
        if known.len() < parts.len() || first.0 != last.0 {
            let places: Vec<Option<u64>> = parts.iter().map(|one| one.map(|at| at.0)).collect();
            let call = &self.operations[number].call;
            return Err(format!("the parts of {call:?} stand in different entries: {places:?}"));
        }
        Ok(Some((*first, *last)))
    }
}

/// Checks the operations, in the order in which they were asked, against the committed entries from
/// index 1 on (nothing where the core has one of its own). Gives how many were given a moment.
pub(super) fn judge(operations: &[Operation], log: &[Vec<u8>]) -> Result<u64, String> {
    let mut executed = Executed::new(operations);
    let mut keys = replay(&mut executed, log)?;
    let (mut placed, mut answered) = (0, (0, 0));
    let mut of_connection: BTreeMap<usize, Moment> = BTreeMap::new();
    // By when they were answered, the earliest first.
    let mut open: BinaryHeap<(std::cmp::Reverse<u64>, Moment)> = BinaryHeap::new();
    for (number, operation) in operations.iter().enumerate() {
        while open.peek().is_some_and(|(at, _)| at.0 < operation.asked) {
            answered = open.pop().map_or(answered, |(_, moment)| answered.max(moment));
        }
        let before = of_connection.entry(operation.connection).or_default();
        let bound = answered.max(*before);
        let Some(moment) = place(operation, executed.whole(number)?, bound, &mut keys)? else {
            continue;
        };
        placed += 1;
        *before = moment;
        open.extend(operation.answered.map(|at| (std::cmp::Reverse(at), moment)));
    }
    Ok(placed)
}

/// The first moment that an operation can have taken effect, and everything after it has to come
/// after that; nothing if nobody was told that it did.
fn place(
    operation: &Operation,
    executed: Option<(Moment, Moment)>,
    bound: Moment,
    keys: &mut Keys,
) -> Result<Option<Moment>, String> {
    let Operation { call, ending, connection, .. } = operation;
    let late = |what: &str| {
        format!("connection {connection}: {call:?} {what} before what came before it, at {bound:?}")
    };
    if let Some((first, _)) = executed
        && first < bound
    {
        return Err(late(&format!("was executed at {first:?},")));
    }
    match (ending, call, executed) {
        (Ending::Refused, _, Some(at)) => {
            Err(format!("{call:?} was refused, and executed: {at:?}"))
        }
        (Ending::Done, _, None) => Err(format!("{call:?} was acknowledged and never executed")),
        (Ending::Done, _, Some((_, last))) => Ok(Some(last)),
        (Ending::Values(values), Call::Read(read), _) => {
            let mut moment = bound;
            for (key, value) in read.iter().zip(values) {
                let seen = keys.first_seen(key, value, bound);
                let text = || value.as_deref().map(|value| value.escape_ascii().to_string());
                let wrong = || late(&format!("read {:?} of {key},", text()));
                moment = moment.max(seen.ok_or_else(wrong)?);
            }
            Ok(Some(moment))
        }
        (Ending::Refused | Ending::Unknown | Ending::Values(_), ..) => Ok(None),
    }
}

/// Applies the log to a machine and to what the writes make of the keys, and compares the two.
fn replay(executed: &mut Executed<'_>, log: &[Vec<u8>]) -> Result<Keys, String> {
    let mut machine = Machine::new(0, &[(Slot(0), Slot(SLOTS - 1))]);
    let (mut keys, mut answers) = (Keys::default(), Answers::default());
    for (index, payload) in (1..).zip(log) {
        answers.clear();
        machine.apply(index, payload, &mut answers).map_err(|error| error.to_string())?;
        if payload.is_empty() {
            continue;
        }
        let view = EntryView::parse(payload).map_err(|error| error.to_string())?;
        let mut touched = keys.expire(index, view.stamp_ms);
        let commands = view.chunks().flat_map(|chunk| chunk.commands().collect::<Vec<_>>());
        for (nth, (command, answer)) in (1..).zip(commands.zip(&answers)) {
            if matches!(answer.outcome, Applied::Reply(_)) {
                let words: Vec<&[u8]> = command.args.iter().collect();
                let changed = executed.on_command(&words, (index, nth), view.stamp_ms, &mut keys);
                touched.extend(changed);
                // A record may answer it too: then the key must be what it was.
                touched.extend(words.get(1).map(|key| String::from_utf8_lossy(key).into_owned()));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for key in touched {
            let (is, should) = (value_in(&machine, &key), &keys.last(&key).value);
            if is != *should {
                let text = |value: &KeyState| {
                    value.as_deref().map(|value| value.escape_ascii().to_string())
                };
                let (is, should) = (text(&is), text(should));
                return Err(format!("after entry {index} {key} is {is:?} and not {should:?}"));
            }
        }
    }
    Ok(keys)
}

/// What a machine has under a key.
fn value_in(machine: &Machine, key: &str) -> KeyState {
    let args = ArgsBuf::from_slices(&[b"GET", key.as_bytes()]);
    let mut reply = Vec::new();
    machine.read(args.as_args(), slot_of(key.as_bytes()).0, 0, 0, &mut reply);
    match parse_value(&reply) {
        Ok(Some((Value::Bulk(value), _))) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use flotilla_kv::{ChunkHead, ChunkWriter, EntryWriter, Origin, TABLE_VERSION};

    use super::*;

    const ORIGIN: Origin = Origin { node: 1, incarnation: 1, nonce: 1, lane: 0 };

    /// An entry of one chunk with these commands, by number.
    fn entry(epoch: u64, stamp_ms: u64, commands: &[(u64, &[&str])]) -> Vec<u8> {
        let unsettled = Some(commands.iter().map(|(seq, _)| *seq).collect());
        let head = ChunkHead { origin: ORIGIN, epoch, acked: 0, floor: 0, unsettled };
        let mut chunk = ChunkWriter::begin(&head);
        for (seq, words) in commands {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            let args = ArgsBuf::from_slices(&words);
            chunk.push(*seq, slot_of(words[1]).0, 0, false, args.as_args());
        }
        let mut entry = EntryWriter::new(TABLE_VERSION, stamp_ms, None);
        entry.push_chunk(&chunk.finish());
        entry.finish()
    }

    fn set(key: &str, value: &str) -> Call {
        let parts = vec![(key.to_owned(), value.as_bytes().to_vec())];
        Call::Write { parts, lives_ms: None }
    }

    fn read(key: &str) -> Call {
        Call::Read(vec![key.to_owned()])
    }

    fn value(value: &str) -> Ending {
        Ending::Values(vec![Some(value.as_bytes().to_vec())])
    }

    /// An operation of a connection that was asked and answered then.
    fn operation(connection: usize, times: (u64, u64), call: Call, ending: Ending) -> Operation {
        Operation { connection, asked: times.0, answered: Some(times.1), call, ending }
    }

    fn two_writes() -> Vec<Vec<u8>> {
        vec![
            Vec::new(),
            entry(1, 10, &[(1, &["SET", "a", "v1"])]),
            entry(2, 11, &[(2, &["SET", "b", "v2"])]),
        ]
    }

    fn writers() -> [Operation; 2] {
        [
            operation(0, (1, 9), set("a", "v1"), Ending::Done),
            operation(0, (2, 9), set("b", "v2"), Ending::Done),
        ]
    }

    fn with(more: &[Operation]) -> Vec<Operation> {
        [&writers()[..], more].concat()
    }

    #[test]
    fn reads_of_two_keys_that_changed_places_are_noticed() {
        let none = Ending::Values(vec![None]);
        let seen =
            |first: Operation, second: Operation| judge(&with(&[first, second]), &two_writes());
        let (a, b) = (
            |ending| operation(1, (3, 8), read("a"), ending),
            |ending| operation(1, (4, 8), read("b"), ending),
        );
        assert_eq!(seen(a(none.clone()), b(value("v2"))), Ok(4));
        assert_eq!(seen(a(value("v1")), b(none.clone())), Ok(4));
        let of_b = operation(1, (3, 8), read("b"), value("v2"));
        let of_a = operation(1, (4, 8), read("a"), none.clone());
        assert!(seen(of_b, of_a).is_err(), "a was written before b");
        let late = operation(1, (10, 11), read("a"), none);
        assert!(judge(&with(&[late]), &two_writes()).is_err(), "it was written long ago");
    }

    #[test]
    fn a_write_before_what_its_connection_asked_earlier_is_noticed() {
        let log = vec![
            entry(1, 10, &[(2, &["SET", "b", "v2"])]),
            entry(2, 11, &[(1, &["SET", "a", "v1"])]),
        ];
        assert!(judge(&writers(), &two_writes()).is_ok());
        assert!(judge(&writers(), &log).is_err());
    }

    #[test]
    fn what_is_executed_twice_or_never_or_although_refused_is_noticed() {
        let append = |ending| {
            let call = Call::Append { key: "t".to_owned(), token: b"x;".to_vec() };
            [operation(0, (1, 2), call, ending)]
        };
        let command: &[&str] = &["APPEND", "t", "x;"];
        let once = vec![entry(1, 10, &[(1, command)])];
        // Under another number nothing tells that it is the same.
        let twice = vec![once[0].clone(), entry(2, 11, &[(2, command)])];
        assert_eq!(judge(&append(Ending::Done), &once), Ok(1));
        assert_eq!(judge(&append(Ending::Unknown), &once), Ok(0));
        assert!(judge(&append(Ending::Done), &twice).is_err());
        assert!(judge(&append(Ending::Done), &[]).is_err());
        assert!(judge(&append(Ending::Refused), &once).is_err());
        assert_eq!(judge(&append(Ending::Refused), &[]), Ok(0));
    }

    #[test]
    fn parts_in_two_entries_are_noticed() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
        let call = Call::Write { parts: vec![pair("a", "v1"), pair("b", "v2")], lives_ms: None };
        let written = [operation(0, (1, 2), call, Ending::Unknown)];
        let one = entry(1, 10, &[(1, &["MSET", "a", "v1"]), (2, &["MSET", "b", "v2"])]);
        assert_eq!(judge(&written, &[one]), Ok(0));
        assert!(judge(&written, &two_writes()).is_err());
    }

    #[test]
    fn a_value_is_gone_from_the_entry_on_that_has_its_time() {
        let log = vec![
            entry(1, 10, &[(1, &["SET", "a", "v1", "PX", "5"])]),
            entry(2, 15, &[(2, &["SET", "b", "v2"])]),
        ];
        let mortal =
            Call::Write { parts: vec![("a".to_owned(), b"v1".to_vec())], lives_ms: Some(5) };
        let seen = |ending| {
            let [_, other] = writers();
            let first = operation(0, (1, 9), mortal.clone(), Ending::Done);
            judge(&[first, other, operation(1, (10, 11), read("a"), ending)], &log)
        };
        assert_eq!(seen(Ending::Values(vec![None])), Ok(3));
        assert!(seen(value("v1")).is_err());
    }
}
