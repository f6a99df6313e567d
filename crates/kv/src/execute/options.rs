//! The words after a command's arguments, those of SET and GETEX as a whole, and how an expiry
//! becomes absolute.

use super::failure::Failure;
use super::number::integer;
use crate::args::ArgsIter;

/// How an expiry is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `EX`: seconds from now.
    Seconds,
    /// `PX`: milliseconds from now.
    Milliseconds,
    /// `EXAT`: Unix time in seconds.
    SecondsAt,
    /// `PXAT`: Unix time in milliseconds.
    MillisecondsAt,
}

impl Unit {
    /// Whether the number is milliseconds already.
    pub(super) fn is_milliseconds(self) -> bool {
        matches!(self, Self::Milliseconds | Self::MillisecondsAt)
    }

    /// Whether the number counts from now.
    pub(super) fn is_relative(self) -> bool {
        matches!(self, Self::Seconds | Self::Milliseconds)
    }
}

/// Under which condition SET sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition {
    /// Always.
    #[default]
    None,
    /// `NX`: the key does not exist.
    Absent,
    /// `XX`: the key exists.
    Present,
}

/// What is to become of the key's expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expiry<'a> {
    /// Nothing was said.
    #[default]
    Unsaid,
    /// `KEEPTTL`: it stays.
    Keep,
    /// `PERSIST`: it goes.
    Persist,
    /// A new one, not yet read as a number.
    New(Unit, &'a [u8]),
}

/// A word that may be one of ours, in lower case and without allocating.
pub(super) struct Keyword {
    bytes: [u8; Self::BYTES_MAX],
    length: usize,
}

impl Keyword {
    /// The longest word that any command knows has seven bytes; what is longer is none of them.
    const BYTES_MAX: usize = 8;

    /// The word, or the empty one in place of one that is too long.
    pub(super) fn of(word: &[u8]) -> Self {
        let word = if word.len() <= Self::BYTES_MAX { word } else { &[] };
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..word.len()].copy_from_slice(word);
        bytes.make_ascii_lowercase();
        Self { bytes, length: word.len() }
    }

    /// Its bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The options of a SET or GETEX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options<'a> {
    pub(super) condition: Condition,
    /// `GET`: the reply is the string the key had.
    pub(super) get: bool,
    pub(super) expiry: Expiry<'a>,
}

/// Which command the options belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// `SET`: everything but PERSIST.
    Set,
    /// `GETEX`: only what is about the expiry, without KEEPTTL.
    Getex,
}

impl<'a> Options<'a> {
    /// Reads all the words that are left. As in Redis, a word may be repeated but not contradicted.
    pub(super) fn parse(mut words: ArgsIter<'a>, of: Of) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let fits = match Keyword::of(word).as_slice() {
                b"nx" => of == Of::Set && options.demand(Condition::Absent),
                b"xx" => of == Of::Set && options.demand(Condition::Present),
                b"get" => {
                    options.get = true;
                    of == Of::Set
                }
                b"keepttl" => of == Of::Set && options.expire(Expiry::Keep),
                b"persist" => of == Of::Getex && options.expire(Expiry::Persist),
                b"ex" => options.expire_at(Unit::Seconds, words.next()),
                b"px" => options.expire_at(Unit::Milliseconds, words.next()),
                b"exat" => options.expire_at(Unit::SecondsAt, words.next()),
                b"pxat" => options.expire_at(Unit::MillisecondsAt, words.next()),
                _ => false,
            };
            if !fits {
                return Err(Failure::Syntax);
            }
        }
        Ok(options)
    }

    /// Adds a condition; whether it goes with what was said before.
    fn demand(&mut self, condition: Condition) -> bool {
        let fits = self.condition == Condition::None || self.condition == condition;
        self.condition = condition;
        fits
    }

    /// Adds a word about the expiry; whether it goes with what was said before.
    fn expire(&mut self, expiry: Expiry<'a>) -> bool {
        let fits = self.expiry == Expiry::Unsaid || self.expiry == expiry;
        self.expiry = expiry;
        fits
    }

    /// Adds a new expiry; the last of several in the same unit counts.
    fn expire_at(&mut self, unit: Unit, number: Option<&'a [u8]>) -> bool {
        let Some(number) = number else { return false };
        let fits = match self.expiry {
            Expiry::Unsaid => true,
            Expiry::New(before, _) => before == unit,
            Expiry::Keep | Expiry::Persist => false,
        };
        self.expiry = Expiry::New(unit, number);
        fits
    }
}

/// The Unix time in milliseconds that a new expiry means, which must lie after 1970 and, if it is
/// relative, after now. `name` is the command's, for the error.
pub(super) fn expires_at_ms(
    unit: Unit,
    number: &[u8],
    now_ms: u64,
    name: &'static str,
) -> Result<u64, Failure> {
    let number = integer(number)?;
    if number <= 0 {
        return Err(Failure::InvalidExpire(name));
    }
    absolute_ms(unit, number, now_ms)
        .and_then(|at_ms| u64::try_from(at_ms).ok())
        .ok_or(Failure::InvalidExpire(name))
}

/// The Unix time in milliseconds, before 1970 if need be; `None` outside of 64 bits.
pub(super) fn absolute_ms(unit: Unit, number: i64, now_ms: u64) -> Option<i64> {
    let ms = if unit.is_milliseconds() { number } else { number.checked_mul(1000)? };
    if unit.is_relative() { ms.checked_add(i64::try_from(now_ms).ok()?) } else { Some(ms) }
}
