//! Which arguments of a request are its keys.

use super::Spec;
use crate::args::Args;
use flotilla_shard::{Slot, slot_of};
use thiserror::Error;

/// Why the keys of a request can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeysError {
    /// The command takes no keys at all.
    #[error("ERR The command has no key arguments")]
    NoKeys,
    /// The number of arguments is one the command does not allow.
    #[error("ERR Invalid number of arguments specified for command")]
    WrongArity,
    /// Keys in several slots, of a command that is not cut by slot.
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
}

impl Spec {
    /// The keys of a request of this command with their argument numbers, in the order they stand.
    ///
    /// Fails where the request has no key: the caller either knows by [`Spec::has_keys`] that the
    /// command takes some, or wants the error.
    pub fn keys<'a>(
        &self,
        args: Args<'a>,
    ) -> Result<impl Iterator<Item = (usize, &'a [u8])> + use<'a>, KeysError> {
        let last = self.last_key_of(args.len())?;
        let every = args.iter().enumerate().take(last + 1);
        Ok(every.skip(self.first_key as usize).step_by(self.key_step as usize))
    }

    /// The slot that all keys of a request share, or `None` if they lie in several: then the
    /// request has to be [`super::split`].
    pub fn one_slot(&self, args: Args<'_>) -> Result<Option<Slot>, KeysError> {
        let has_one = self.has_keys() && self.first_key == self.last_key;
        if has_one && self.arity_allows(args.len()) {
            return Ok(args.get(self.first_key as usize).map(slot_of));
        }
        let mut slots = self.keys(args)?.map(|(_, key)| slot_of(key));
        let first = slots.next().ok_or(KeysError::NoKeys)?;
        Ok(slots.all(|slot| slot == first).then_some(first))
    }

    /// The argument number of the last key in a request of `argc` arguments.
    pub(super) fn last_key_of(&self, argc: usize) -> Result<usize, KeysError> {
        if !self.has_keys() {
            return Err(KeysError::NoKeys);
        }
        if !self.arity_allows(argc) {
            return Err(KeysError::WrongArity);
        }
        let from_end = self.last_key.unsigned_abs() as usize;
        Ok(if self.last_key < 0 { argc - from_end } else { from_end })
    }
}
