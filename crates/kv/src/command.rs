//! The command table: one entry defines a command for everybody who needs to know it.
//!
//! Routing (which arguments are keys, how parts over several slots combine), execution (which
//! function applies it), `COMMAND` and its subcommands, and `docs/COMPAT.md` are all read from the
//! same [`Spec`]. A command that has no entry does not exist.
//!
//! The order of a command's life: [`resolve`] names it or rejects it, [`Spec::keys`] gives its
//! keys, [`split`] cuts it by slot when it has several, [`crate::execute`] runs each part, and
//! [`Combine::replies`] puts the replies together.
//!
//! ```
//! use flotilla_kv::command::{self, Combine, Reach};
//! use flotilla_kv::{ArgsBuf, Slot};
//!
//! let request = ArgsBuf::from_slices(&[b"DEL", b"foo", b"bar", b"{foo}x"]);
//! let spec = command::resolve(request.as_args()).expect("a known command, and enough arguments");
//! assert_eq!((spec.reach, spec.combine), (Reach::Write, Some(Combine::Sum)));
//! assert_eq!(spec.one_slot(request.as_args()), Ok(None));
//!
//! let parts = command::split(spec, request.as_args()).expect("the command has keys");
//! assert_eq!(parts[0].slot, Slot(5061));
//! assert_eq!(parts[1].args, ArgsBuf::from_slices(&[b"DEL", b"foo", b"{foo}x"]));
//! ```
//!
//! Invariants, each with a test: names are unique and lower case; a keyed command is a read or a
//! write and has its function; a command of the node has none; flags agree with the reach.

mod combine;
mod compat;
mod describe;
mod keys;
mod resolve;
mod split;
mod table;

pub use combine::{Combine, PartReply};
pub use compat::compat_markdown;
pub use describe::{command_reply, help_reply};
pub use keys::KeysError;
pub use resolve::{Rejected, resolve};
pub use split::{Part, split};

use crate::execute::{ReadFn, WriteFn};

/// The version of the table's behaviour, named by every entry so that mixed binaries can't diverge
/// (P12). It rises when a replayed command would give another reply or another state.
pub const TABLE_VERSION: u16 = 1;

/// What the system knows about one command or subcommand.
#[derive(Debug)]
pub struct Spec {
    /// Lower case; a subcommand's is `container|name`, as Redis writes it.
    pub name: &'static str,
    /// Number of arguments with the name; `-n` means at least `n`.
    pub arity: i32,
    /// Redis's flags, such as `write`, `denyoom` and `fast`.
    pub flags: &'static [&'static str],
    /// Argument number of the first key, 0 if the command has no key.
    pub first_key: i32,
    /// Argument number of the last key; negative counts from the end (-1 is the last argument).
    pub last_key: i32,
    /// Distance from one key to the next.
    pub key_step: i32,
    /// What is done with the keys, in the words of Redis's key specifications.
    pub key_flags: &'static [&'static str],
    /// Redis's access control categories.
    pub acl_categories: &'static [&'static str],
    /// Hints for cluster clients, such as `request_policy:multi_shard`.
    pub tips: &'static [&'static str],
    /// Who answers the command.
    pub reach: Reach,
    /// How the replies of the parts become one; a command with several keys and none of these
    /// needs all its keys in one slot.
    pub combine: Option<Combine>,
    /// One sentence on what it does.
    pub summary: &'static str,
    /// The arguments, in the notation of the Redis manual.
    pub syntax: &'static str,
    /// The Redis version that brought it; empty for our own commands.
    pub since: &'static str,
    /// Redis's group: `string`, `generic`, `connection`, `server`, `cluster`.
    pub group: &'static str,
    /// The cost of one call.
    pub complexity: &'static str,
    /// What differs from Redis 7; empty when nothing does.
    pub difference: &'static str,
    /// The entries of a container command such as `CLIENT`.
    pub subcommands: &'static [Spec],
    /// The function that executes it on a replica.
    pub(crate) run: Run,
}

/// Who answers a command, and over how many shards it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The node by itself, without a shard's log or read index.
    Node,
    /// A read of keys.
    Read,
    /// A write of keys.
    Write,
    /// A read of every shard as a whole.
    EveryShardRead(Combine),
    /// A write of every shard as a whole.
    EveryShardWrite(Combine),
    /// A read of the one shard that owns the cursor's slot.
    Scan,
}

/// The function of a command, if a replica executes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// The node answers.
    Node,
    /// Executed at a read index, changes nothing.
    Read(ReadFn),
    /// Executed from the log.
    Write(WriteFn),
}

impl Spec {
    /// Whether it goes through the log.
    pub fn is_write(&self) -> bool {
        matches!(self.reach, Reach::Write | Reach::EveryShardWrite(_))
    }

    /// Whether the node answers it without any shard.
    pub fn is_of_node(&self) -> bool {
        self.reach == Reach::Node
    }

    /// Whether some of its arguments are keys.
    pub fn has_keys(&self) -> bool {
        self.first_key > 0
    }

    /// Whether Redis's flag of this name is set, e.g. `denyoom`.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The part of the name after the container's: `id` of `client|id`.
    pub fn verb(&self) -> &'static str {
        self.name.rsplit_once('|').map_or(self.name, |(_, verb)| verb)
    }

    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, verb: &[u8]) -> Option<&'static Spec> {
        let found = self.subcommands.iter();
        found.into_iter().find(|sub| sub.verb().as_bytes().eq_ignore_ascii_case(verb))
    }

    /// Whether `argc` arguments (with the name) are a number that the arity allows.
    pub(crate) fn arity_allows(&self, argc: usize) -> bool {
        let needed = self.arity.unsigned_abs() as usize;
        if self.arity >= 0 { argc == needed } else { argc >= needed }
    }

    /// Checks the number of arguments (with the name), and that keys and values come in whole
    /// groups.
    pub fn check_arity(&'static self, argc: usize) -> Result<(), Rejected<'static>> {
        let groups_whole = !self.has_keys()
            || self.last_key >= 0
            || argc
                .saturating_sub(self.first_key as usize)
                .is_multiple_of(self.key_step.unsigned_abs() as usize);
        if self.arity_allows(argc) && groups_whole {
            Ok(())
        } else {
            Err(Rejected::WrongArity(self))
        }
    }
}

/// The entry of a command by its name in any case, without allocating.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    table::find(name)
}

/// Every command in the table's order, containers without their subcommands.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    table::GROUPS.iter().flat_map(|group| group.iter())
}
