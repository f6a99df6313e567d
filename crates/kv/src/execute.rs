//! Executing commands on a replica's tables.
//!
//! [`write()`] runs what comes out of the log, [`read()`] what was admitted at a read index. Both
//! take the function from the command table and append one reply, as RESP3 bytes; whoever has a
//! RESP2 client downgrades it.
//!
//! Execution can't fail: an error is a reply, the same on every replica (P12). A function either
//! changes the tables or gives a `Failure`, never both. Time is the entry's stamp alone (P9):
//! relative expiries are computed from it, and what it has passed is absent.
//!
//! A value is a string today. The functions of strings look it up through `Reading::string` and
//! `Writing::string` only; a value of another kind is told there.

#![expect(
    clippy::unnecessary_wraps,
    reason = "the functions of the table share one type, whether or not they can fail"
)]

pub(crate) mod counter;
pub(crate) mod expiry;
pub(crate) mod generic;
pub(crate) mod range;
pub(crate) mod string;
pub(crate) mod whole;

mod failure;
mod glob;
mod number;
mod options;

pub use glob::glob_matches;
pub(crate) use number::parse_i64;

use crate::args::Args;
use crate::command::{Rejected, Run, Spec, find};
use crate::keyspace::{Found, Keyspace};
use crate::scope::Scope;
use failure::Failure;
use flotilla_shard::Slot;

/// The longest string that a command may build up in place, in bytes (P15).
///
/// What arrives whole in a request is checked where requests are read.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// The longest reply of a command that names several keys, bytes: it may name one key many times.
pub const MAX_REPLY_BYTES: usize = 64 << 20;

/// What is answered in place of a longer reply, in RESP.
pub const REPLY_TOO_LONG: &[u8] =
    b"-ERR the reply would be longer than 64 MiB: ask for fewer keys at once\r\n";

/// A function that answers without changing anything.
pub(crate) type ReadFn = fn(&Reading<'_>, &mut Vec<u8>) -> Result<(), Failure>;

/// A function that may change the tables.
pub(crate) type WriteFn = fn(&mut Writing<'_>, &mut Vec<u8>) -> Result<(), Failure>;

/// Executes a command from the log and appends its reply to `out`.
///
/// A read among them is executed too: what a command is does not depend on how it came.
pub fn write(keyspace: &mut Keyspace, scope: &Scope<'_>, args: Args<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let done = admit(scope, args).and_then(|spec| match spec.run {
        Run::Write(run) => run(&mut Writing { keyspace, scope, args, spec }, out),
        Run::Read(run) => run(&Reading { keyspace, scope, args }, out),
        Run::Node => Err(Failure::NotOfShards),
    });
    conclude(done, start, out);
}

/// Executes a read at its read index and appends its reply to `out`; a write is refused.
pub fn read(keyspace: &Keyspace, scope: &Scope<'_>, args: Args<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let done = admit(scope, args).and_then(|spec| match spec.run {
        Run::Read(run) => run(&Reading { keyspace, scope, args }, out),
        Run::Write(_) | Run::Node => Err(Failure::NotOfShards),
    });
    conclude(done, start, out);
}

/// Finds the command and checks what the node should have checked: an entry may come from a node
/// of another version, and a key in a wrong slot's table would be lost.
fn admit(scope: &Scope<'_>, args: Args<'_>) -> Result<&'static Spec, Failure> {
    let spec = args.get(0).and_then(find);
    let spec = spec.ok_or_else(|| Failure::Rejected(Rejected::UnknownCommand(args).text()))?;
    spec.check_arity(args.len()).map_err(|rejected| Failure::Rejected(rejected.text()))?;
    if !spec.has_keys() {
        return if scope.slot.is_none() { Ok(spec) } else { Err(Failure::CrossSlot) };
    }
    let slot = scope.slot.ok_or(Failure::CrossSlot)?;
    match spec.one_slot(args) {
        Ok(Some(of_keys)) if of_keys == slot => Ok(spec),
        _ => Err(Failure::CrossSlot),
    }
}

/// Replaces whatever a failed command wrote by its error.
fn conclude(done: Result<(), Failure>, start: usize, out: &mut Vec<u8>) {
    if let Err(failure) = done {
        out.truncate(start);
        failure.write_to(out);
    }
}

/// What a reading function works on.
pub(crate) struct Reading<'a> {
    keyspace: &'a Keyspace,
    scope: &'a Scope<'a>,
    args: Args<'a>,
}

impl<'a> Reading<'a> {
    /// The argument of this number, which the arity promises.
    fn arg(&self, index: usize) -> &'a [u8] {
        argument(self.args, index)
    }

    /// The key's value and expiry, if it is there and has not expired.
    fn entry(&self, key: &[u8]) -> Option<Found<'_>> {
        self.keyspace.get(keyed_slot(self.scope), key, self.scope.now_ms)
    }

    /// The same for a command of strings, for which another kind of value is an error.
    fn string(&self, key: &[u8]) -> Option<Found<'_>> {
        self.entry(key)
    }
}

/// What a writing function works on.
pub(crate) struct Writing<'a> {
    keyspace: &'a mut Keyspace,
    scope: &'a Scope<'a>,
    args: Args<'a>,
    spec: &'static Spec,
}

impl<'a> Writing<'a> {
    /// The argument of this number, which the arity promises.
    fn arg(&self, index: usize) -> &'a [u8] {
        argument(self.args, index)
    }

    /// The key's value and expiry, if it is there and has not expired.
    fn entry(&self, key: &[u8]) -> Option<Found<'_>> {
        self.keyspace.get(self.slot(), key, self.scope.now_ms)
    }

    /// The same for a command of strings, for which another kind of value is an error.
    fn string(&self, key: &[u8]) -> Option<Found<'_>> {
        self.entry(key)
    }

    /// Sets a string; one whose expiry has passed already is only removed.
    fn set(&mut self, key: &[u8], value: &[u8], expires_at_ms: Option<u64>) {
        if expires_at_ms.is_some_and(|at_ms| at_ms <= self.scope.now_ms) {
            self.remove(key);
        } else {
            self.keyspace.set(self.slot(), key, value, expires_at_ms);
        }
    }

    /// Removes a key; whether it was there.
    fn remove(&mut self, key: &[u8]) -> bool {
        self.keyspace.remove(self.slot(), key, self.scope.now_ms)
    }

    /// Sets or removes the expiry of a key; one that has passed removes the key.
    fn set_expiry(&mut self, key: &[u8], expires_at_ms: Option<u64>) {
        if expires_at_ms.is_some_and(|at_ms| at_ms <= self.scope.now_ms) {
            self.remove(key);
        } else {
            self.keyspace.set_expiry(self.slot(), key, expires_at_ms, self.scope.now_ms);
        }
    }

    fn slot(&self) -> Slot {
        keyed_slot(self.scope)
    }
}

fn argument(args: Args<'_>, index: usize) -> &[u8] {
    args.get(index).expect("the arity was checked before the function was called")
}

fn keyed_slot(scope: &Scope<'_>) -> Slot {
    scope.slot.expect("a command with keys was admitted with its slot")
}
