//! Whether the operations on one key could have happened one after the other, each at some moment
//! between its request and its answer.
//!
//! The search goes through the operations in the order of requests, takes the next that may come
//! first, and goes back where none can; what was tried before (a set of operations and a state) is
//! not tried again. Operations of one connection keep their order (P8). An operation without a
//! known outcome may take effect at any moment after its request, or never.
//!
//! Four things keep it from going astray, and none of them gives up an order that could be right:
//!
//! - What fits and changes nothing is taken at once, and nothing else is tried in its place, if its
//!   answer says that it changed nothing: in any order that has it later it can as well come now.
//! - An operation with a known outcome is tried before those without: these explain what nothing
//!   else does.
//! - Of equal operations without an outcome the one that was asked first is taken: whatever order
//!   has another first, the two can change places.
//! - A key that is only appended to has at all times a beginning of the longest value that was
//!   read, or goes on from it.
//!
//! Sources: [Wing and Gong, 1993], [Lowe, 2017].

use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::history::{Answer, Call, KeyState, Operation, Outcome};
use crate::queue::Micros;
use crate::trace::digest_of;

/// The most operations on one key.
const OPERATIONS_MAX: usize = 512;
/// After so many steps the search gives up.
const STEPS_MAX: u64 = 4_000_000;

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none. How far the best order came, in words.
    Violation(String),
    /// The search was given up, which is no verdict.
    Unknown,
}

type Bits = [u64; OPERATIONS_MAX / 64];

/// Checks the operations on one key, which did not exist before the first.
pub fn check(operations: &[Operation]) -> Verdict {
    let operations: Vec<&Operation> =
        operations.iter().filter(|operation| counts(operation)).collect();
    if operations.len() > OPERATIONS_MAX {
        return Verdict::Unknown;
    }
    Search::new(&operations).run()
}

/// Whether an operation can matter: it may have had an effect, or somebody saw something.
fn counts(operation: &Operation) -> bool {
    match operation.outcome {
        Outcome::Known(_) => true,
        Outcome::Unknown => !operation.call.is_read(),
        Outcome::Refused => false,
    }
}

/// Whether `next` explains what `operation` was answered.
pub(crate) fn explains(operation: &Operation, answer: &Answer) -> bool {
    match &operation.outcome {
        Outcome::Known(seen) => *seen == Answer::Done || seen == answer,
        Outcome::Unknown => true,
        Outcome::Refused => false,
    }
}

/// For each operation the one before it on its connection whose outcome is known.
pub(crate) fn predecessors(operations: &[&Operation]) -> Vec<Option<usize>> {
    let mut latest: BTreeMap<u64, usize> = BTreeMap::new();
    let mut predecessors = Vec::with_capacity(operations.len());
    for (at, operation) in operations.iter().enumerate() {
        predecessors.push(latest.get(&operation.connection).copied());
        if matches!(operation.outcome, Outcome::Known(_)) {
            latest.insert(operation.connection, at);
        }
    }
    predecessors
}

/// Which operations are tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Reads that were answered.
    Reads,
    /// All else that was answered.
    Answered,
    /// What has no known outcome.
    Unanswered,
}

impl Pass {
    fn of(operation: &Operation) -> Self {
        match (&operation.outcome, operation.call.is_read()) {
            (Outcome::Known(_), true) => Self::Reads,
            (Outcome::Known(_), false) => Self::Answered,
            _ => Self::Unanswered,
        }
    }

    fn next(self) -> Option<Self> {
        match self {
            Self::Reads => Some(Self::Answered),
            Self::Answered => Some(Self::Unanswered),
            Self::Unanswered => None,
        }
    }
}

/// What an operation does where it is tried.
enum Next {
    /// Its answer is another one than it was.
    Wrong,
    /// It fits and changes nothing.
    Same,
    /// It fits, and this is the state after it.
    State(KeyState),
}

/// A place in the list of requests and answers that are still to be explained.
#[derive(Clone, Copy, Debug)]
struct Entry {
    operation: usize,
    is_call: bool,
    before: usize,
    after: usize,
}

/// The head of the list, before the first entry.
const HEAD: usize = 0;
/// No entry.
const END: usize = usize::MAX;

struct Search<'a> {
    operations: &'a [&'a Operation],
    predecessors: Vec<Option<usize>>,
    passes: Vec<Pass>,
    /// The longest value that was read, of a key that is only appended to.
    whole: Option<&'a [u8]>,
    entries: Vec<Entry>,
    /// The entries of each operation's request and answer.
    places: Vec<(usize, Option<usize>)>,
    open: usize,
    state: KeyState,
    /// A word for the state.
    word: u64,
    taken: Bits,
    expiries: Bits,
    /// Only asked whether it has something: the order of a hash table shows nowhere.
    tried: HashSet<(Bits, u64), FixedState>,
    /// What was taken, each with the state before it if that was another.
    path: Vec<(usize, Option<(KeyState, u64)>)>,
    longest: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [&'a Operation]) -> Self {
        let mut events = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            events.push((operation.invoked, false, at));
            if matches!(operation.outcome, Outcome::Known(_)) {
                events.push((operation.returned, true, at));
            }
        }
        // At one moment requests come before answers: then neither is known to be first.
        events.sort_unstable();
        let mut entries = vec![Entry { operation: END, is_call: false, before: END, after: END }];
        let mut places = vec![(END, None); operations.len()];
        for (_, is_answer, operation) in events {
            let place = entries.len();
            entries[place - 1].after = place;
            let before = place - 1;
            entries.push(Entry { operation, is_call: !is_answer, before, after: END });
            if is_answer {
                places[operation].1 = Some(place);
            } else {
                places[operation].0 = place;
            }
        }
        let mut expiries = [0; OPERATIONS_MAX / 64];
        for (at, operation) in operations.iter().enumerate() {
            if matches!(operation.call, Call::Expire(_)) {
                expiries[at / 64] |= 1 << (at % 64);
            }
        }
        let open = operations.iter().filter(|o| matches!(o.outcome, Outcome::Known(_))).count();
        Self {
            operations,
            predecessors: predecessors(operations),
            passes: operations.iter().map(|operation| Pass::of(operation)).collect(),
            whole: whole_value(operations),
            entries,
            places,
            open,
            state: None,
            word: 0,
            taken: [0; OPERATIONS_MAX / 64],
            expiries,
            tried: HashSet::with_capacity_and_hasher(operations.len(), FixedState::default()),
            path: Vec::new(),
            longest: Vec::new(),
        }
    }

    fn run(mut self) -> Verdict {
        let mut pass = Pass::Reads;
        let mut at = self.entries[HEAD].after;
        for _ in 0..STEPS_MAX {
            if self.open == 0 {
                return Verdict::Linearizable;
            }
            let next = self.entries.get(at).copied().filter(|entry| entry.is_call);
            if let Some(entry) = next {
                if self.passes[entry.operation] == pass && self.take(entry.operation) {
                    (pass, at) = (Pass::Reads, self.entries[HEAD].after);
                } else {
                    at = entry.after;
                }
            } else if let Some(later) = pass.next() {
                (pass, at) = (later, self.entries[HEAD].after);
            } else if let Some(operation) = self.go_back() {
                // Everything that could come first was tried in vain.
                (pass, at) = (self.passes[operation], self.entries[self.places[operation].0].after);
            } else {
                return Verdict::Violation(self.explanation());
            }
        }
        Verdict::Unknown
    }

    /// Undoes the last step that has an alternative, and all after it. None has what changed
    /// nothing and was answered so; but what said nothing may have changed something at a later
    /// place. Gives that step's operation.
    fn go_back(&mut self) -> Option<usize> {
        if self.path.len() > self.longest.len() {
            self.longest = self.path.iter().map(|(operation, _)| *operation).collect();
        }
        while let Some((operation, before)) = self.path.pop() {
            self.put_back(operation);
            let silent = self.operations[operation].outcome == Outcome::Known(Answer::Done);
            let changed = before.is_some();
            if let Some((state, word)) = before {
                (self.state, self.word) = (state, word);
            }
            if changed || silent {
                return Some(operation);
            }
        }
        None
    }

    /// Lets an operation be the next; false if it can't be, or was tried.
    fn take(&mut self, at: usize) -> bool {
        if self.predecessors[at].is_some_and(|before| !self.is_taken(before)) {
            return false;
        }
        let operation = self.operations[at];
        let known = matches!(operation.outcome, Outcome::Known(_));
        let next = match self.state_after(operation) {
            Next::Wrong => return false,
            Next::Same => None,
            Next::State(state) => Some(state),
        };
        if !known && (next.is_none() || self.has_twin_before(at)) {
            return false;
        }
        let word = next.as_ref().map_or(self.word, word_of);
        let mut taken = self.taken;
        taken[at / 64] |= 1 << (at % 64);
        // A value is written once, so whether its expiry may come shows in the state: what was
        // tried is the same with and without the expiries of the past.
        let mut tried = taken;
        for (bits, expiries) in tried.iter_mut().zip(self.expiries) {
            *bits &= !expiries;
        }
        if !self.tried.insert((tried, word)) {
            return false;
        }
        self.taken = taken;
        let before = next.map(|next| (std::mem::replace(&mut self.state, next), self.word));
        self.word = word;
        self.path.push((at, before));
        self.open -= usize::from(known);
        self.unlink(self.places[at].0);
        if let Some(answer) = self.places[at].1 {
            self.unlink(answer);
        }
        true
    }

    /// What an operation would do now. States are copied for those that change something only,
    /// since copies would be most of the search's time.
    fn state_after(&self, operation: &Operation) -> Next {
        if let (Call::Get, Outcome::Known(Answer::Value(seen))) =
            (&operation.call, &operation.outcome)
        {
            return if *seen == self.state { Next::Same } else { Next::Wrong };
        }
        if let Call::Append(token) = &operation.call {
            let length = self.state.as_ref().map_or(0, Vec::len);
            let answer = Answer::Number((length + token.len()) as i64);
            if !explains(operation, &answer) || !self.leads_on(length, token) {
                return Next::Wrong;
            }
        }
        let (next, answer) = operation.call.apply(&self.state);
        match explains(operation, &answer) {
            false => Next::Wrong,
            true if next == self.state => Next::Same,
            true => Next::State(next),
        }
    }

    /// Whether a token at that place of the value agrees with the longest value that was read.
    fn leads_on(&self, length: usize, token: &[u8]) -> bool {
        let rest = self.whole.and_then(|whole| whole.get(length..)).unwrap_or_default();
        let both = rest.len().min(token.len());
        rest[..both] == token[..both]
    }

    /// Whether an equal operation without an outcome was asked before, and could be taken instead.
    fn has_twin_before(&self, at: usize) -> bool {
        let mut place = self.entries[HEAD].after;
        while place != self.places[at].0 {
            let Entry { operation, after, .. } = self.entries[place];
            let twin = self.passes[operation] == Pass::Unanswered
                && self.operations[operation].call == self.operations[at].call
                && self.predecessors[operation].is_none_or(|before| self.is_taken(before));
            if twin {
                return true;
            }
            place = after;
        }
        false
    }

    fn put_back(&mut self, at: usize) {
        self.taken[at / 64] &= !(1 << (at % 64));
        if let Some(answer) = self.places[at].1 {
            self.link(answer);
            self.open += 1;
        }
        self.link(self.places[at].0);
    }

    fn is_taken(&self, at: usize) -> bool {
        self.taken[at / 64] & 1 << (at % 64) != 0
    }

    fn unlink(&mut self, place: usize) {
        let Entry { before, after, .. } = self.entries[place];
        self.entries[before].after = after;
        if after != END {
            self.entries[after].before = before;
        }
    }

    fn link(&mut self, place: usize) {
        let Entry { before, after, .. } = self.entries[place];
        self.entries[before].after = place;
        if after != END {
            self.entries[after].before = place;
        }
    }

    /// The last steps of the longest order found, and what could not follow.
    fn explanation(&self) -> String {
        let taken: BTreeSet<usize> = self.longest.iter().copied().collect();
        let mut lines = vec![format!("{} operations in order, then none fits:", taken.len())];
        for &at in self.longest.iter().rev().take(8).rev() {
            lines.push(format!("  ok   {}", described(self.operations[at])));
        }
        let left = (0..self.operations.len()).filter(|at| !taken.contains(at));
        for at in left.take(12) {
            lines.push(format!("  left {}", described(self.operations[at])));
        }
        lines.join("\n")
    }
}

/// The longest value that was read of a key that is only appended to.
fn whole_value<'a>(operations: &[&'a Operation]) -> Option<&'a [u8]> {
    let appended = |operation: &&Operation| matches!(operation.call, Call::Append(_) | Call::Get);
    if !operations.iter().all(appended) {
        return None;
    }
    let read = |operation: &&'a Operation| match &operation.outcome {
        Outcome::Known(Answer::Value(Some(value))) => Some(value.as_slice()),
        _ => None,
    };
    operations.iter().filter_map(read).max_by_key(|value| value.len())
}

/// A word for a state.
fn word_of(state: &KeyState) -> u64 {
    state.as_ref().map_or(0, |value| digest_of(value))
}

/// An operation in words.
pub fn described(operation: &Operation) -> String {
    let text = |bytes: &[u8]| {
        let text = bytes.escape_ascii().to_string();
        let from = text.len().saturating_sub(60);
        if from > 0 { format!("…{}", &text[from..]) } else { text }
    };
    let call = match &operation.call {
        Call::Set(value) => format!("SET {}", text(value)),
        Call::SetIfAbsent(value) => format!("SET {} NX", text(value)),
        Call::GetSet(value) => format!("GETSET {}", text(value)),
        Call::Append(token) => format!("APPEND {}", text(token)),
        Call::Expire(value) => format!("expiry of {}", text(value)),
        other => format!("{other:?}").to_uppercase(),
    };
    let outcome = match &operation.outcome {
        Outcome::Known(Answer::Value(Some(value))) => text(value),
        Outcome::Known(answer) => format!("{answer:?}"),
        other => format!("{other:?}"),
    };
    let returned = match operation.returned {
        Micros::MAX => "…".to_string(),
        at => at.to_string(),
    };
    format!(
        "{:>10}–{returned:<10} conn {:<4} {call} → {outcome}",
        operation.invoked, operation.connection
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Tries every order, without any cleverness.
    fn brute_force(operations: &[&Operation], taken: &mut Vec<usize>, state: &KeyState) -> bool {
        let known = |at: &usize| matches!(operations[*at].outcome, Outcome::Known(_));
        let all = 0..operations.len();
        if all.clone().filter(known).all(|at| taken.contains(&at)) {
            return true;
        }
        let before = predecessors(operations);
        for at in all.clone() {
            if taken.contains(&at) || before[at].is_some_and(|before| !taken.contains(&before)) {
                continue;
            }
            let first = all.clone().filter(known).all(|other| {
                taken.contains(&other) || operations[other].returned >= operations[at].invoked
            });
            let (next, answer) = operations[at].call.apply(state);
            if first && explains(operations[at], &answer) {
                taken.push(at);
                let found = brute_force(operations, taken, &next);
                taken.pop();
                if found {
                    return true;
                }
            }
        }
        false
    }

    fn random_call(random: &mut Random, family: u64, number: u64) -> Call {
        let value = format!("v{number};").into_bytes();
        match (family, random.below(5)) {
            (_, 0 | 1) => Call::Get,
            (0, _) => Call::Incr,
            (1, _) => Call::Append(value),
            (_, 2) => Call::Set(value),
            (_, 3) => match random.below(4) {
                0 => Call::SetIfAbsent(value),
                1 => Call::GetSet(value),
                2 => Call::GetDel,
                _ => Call::Del,
            },
            _ => Call::Expire(format!("v{};", random.below(number + 1)).into_bytes()),
        }
    }

    /// A history that really happened: each operation takes effect at one moment of its time.
    fn random_history(random: &mut Random, len: u64) -> Vec<Operation> {
        let family = random.below(3);
        let mut times: Vec<(u64, u64, u64)> = (0..len)
            .map(|_| {
                let invoked = random.below(40);
                let effect = invoked + random.below(12);
                (invoked, effect, effect + random.below(12))
            })
            .collect();
        times.sort_unstable();
        let mut operations: Vec<Operation> = times
            .iter()
            .enumerate()
            .map(|(at, (invoked, _, returned))| Operation {
                call: random_call(random, family, at as u64),
                invoked: *invoked,
                returned: *returned,
                outcome: Outcome::Unknown,
                connection: at as u64,
            })
            .collect();
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|&at| times[at].1);
        let mut state = None;
        for at in order {
            let operation = &mut operations[at];
            let lost = random.chance(20) || matches!(operation.call, Call::Expire(_));
            if lost && random.chance(50) {
                operation.returned = Micros::MAX;
                continue;
            }
            let (next, answer) = operation.call.apply(&state);
            state = next;
            // Of commands with several keys some answers say nothing about one.
            let silent = !operation.call.is_read() && random.chance(30);
            let answer = if silent { Answer::Done } else { answer };
            operation.outcome = if lost { Outcome::Unknown } else { Outcome::Known(answer) };
            if lost {
                operation.returned = Micros::MAX;
            }
        }
        operations
    }

    /// Changes one answer, one time or one outcome.
    fn corrupt(random: &mut Random, operations: &mut [Operation]) {
        let at = random.position(operations.len());
        let operation = &mut operations[at];
        match (&operation.outcome, random.below(3)) {
            (Outcome::Known(Answer::Value(_)), 0) => {
                let value = format!("v{};", random.below(6)).into_bytes();
                operation.outcome = Outcome::Known(Answer::Value(Some(value)));
            }
            (Outcome::Known(Answer::Value(_)), 1) => {
                operation.outcome = Outcome::Known(Answer::Value(None));
            }
            (Outcome::Known(Answer::Number(number)), 0 | 1) => {
                operation.outcome = Outcome::Known(Answer::Number(number + 1));
            }
            (Outcome::Known(_), _) => operation.returned = operation.invoked,
            _ => operation.connection = 0,
        }
    }

    #[test]
    fn the_search_agrees_with_trying_everything() {
        let mut random = Random::new(5);
        let mut violations = 0;
        for round in 0..3_000 {
            let len = random.between(1, 7);
            let mut operations = random_history(&mut random, len);
            if round % 3 == 0 {
                assert_eq!(check(&operations), Verdict::Linearizable, "{operations:#?}");
            }
            corrupt(&mut random, &mut operations);
            if random.chance(30) {
                for operation in &mut operations {
                    operation.connection = random.below(4);
                }
            }
            let counted: Vec<&Operation> = operations.iter().filter(|o| counts(o)).collect();
            let expected = brute_force(&counted, &mut Vec::new(), &None);
            let found = check(&operations) == Verdict::Linearizable;
            assert_eq!(found, expected, "round {round}: {operations:#?}");
            violations += u64::from(!expected);
        }
        assert!((300..2_700).contains(&violations), "{violations} of 3000 were violations");
    }

    fn known(call: Call, times: (u64, u64), answer: Answer) -> Operation {
        let (invoked, returned) = times;
        Operation { call, invoked, returned, outcome: Outcome::Known(answer), connection: invoked }
    }

    #[test]
    fn a_stale_read_is_found() {
        let set = known(Call::Set(b"new".to_vec()), (0, 10), Answer::Done);
        let read = |times| known(Call::Get, times, Answer::Value(None));
        assert_eq!(check(&[set.clone(), read((5, 20))]), Verdict::Linearizable);
        assert!(matches!(check(&[set, read((11, 20))]), Verdict::Violation(_)));
    }

    #[test]
    fn an_unknown_write_counts_once_or_never() {
        let incr = |number, times| known(Call::Incr, times, Answer::Number(number));
        let mut lost = known(Call::Incr, (0, Micros::MAX), Answer::Done);
        lost.outcome = Outcome::Unknown;
        let both = |number| check(&[lost.clone(), incr(number, (20, 30))]);
        assert_eq!(both(1), Verdict::Linearizable);
        assert_eq!(both(2), Verdict::Linearizable);
        assert!(matches!(both(3), Verdict::Violation(_)));
    }

    #[test]
    fn one_connection_keeps_its_order() {
        let mut append = known(Call::Append(b"a".to_vec()), (0, 10), Answer::Number(2));
        let mut second = known(Call::Append(b"b".to_vec()), (1, 11), Answer::Number(1));
        assert_eq!(check(&[append.clone(), second.clone()]), Verdict::Linearizable);
        append.connection = 9;
        second.connection = 9;
        assert!(matches!(check(&[append, second]), Verdict::Violation(_)));
    }
}
