//! From arguments to the entry that counts, or the error text a client gets.
//!
//! The texts are Redis's, byte for byte, since client libraries and test suites compare them.

use super::{Spec, find};
use crate::args::Args;
use flotilla_resp::encode;

/// Bytes of a command's name, and of its arguments together, that an error repeats.
const ECHOED_BYTES_MAX: usize = 128;

/// Why a request names no command that can run.
#[derive(Clone, Copy, Debug)]
pub enum Rejected<'a> {
    /// No command has this name; the whole request, for the text.
    UnknownCommand(Args<'a>),
    /// The container has no subcommand of this name.
    UnknownSubcommand {
        /// The container, e.g. `CLIENT`.
        container: &'static Spec,
        /// The name as the client wrote it.
        verb: &'a [u8],
    },
    /// The command is known, the number of its arguments is wrong.
    WrongArity(&'static Spec),
}

/// The entry of a request, the subcommand's if it has one, with the number of arguments checked.
///
/// An empty request (no name at all) is an unknown command.
pub fn resolve(args: Args<'_>) -> Result<&'static Spec, Rejected<'_>> {
    let spec = args.get(0).and_then(find).ok_or(Rejected::UnknownCommand(args))?;
    let spec = match args.get(1) {
        Some(verb) if !spec.subcommands.is_empty() => {
            spec.subcommand(verb).ok_or(Rejected::UnknownSubcommand { container: spec, verb })?
        }
        _ => spec,
    };
    spec.check_arity(args.len())?;
    Ok(spec)
}

impl Rejected<'_> {
    /// The error text, code first; what it repeats may have any bytes in it.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Self::UnknownCommand(args) => unknown_command(*args, &mut text),
            Self::UnknownSubcommand { container, verb } => {
                text.extend_from_slice(b"ERR unknown subcommand '");
                text.extend_from_slice(clipped(verb, ECHOED_BYTES_MAX));
                text.extend_from_slice(b"'. Try ");
                text.extend_from_slice(container.name.to_ascii_uppercase().as_bytes());
                text.extend_from_slice(b" HELP.");
            }
            Self::WrongArity(spec) => {
                text.extend_from_slice(b"ERR wrong number of arguments for '");
                text.extend_from_slice(spec.name.as_bytes());
                text.extend_from_slice(b"' command");
            }
        }
        text
    }

    /// Appends the error as a reply.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        encode::error(out, self.text());
    }
}

/// Repeats the name and as many arguments as fit, so that a typing mistake is easy to see.
fn unknown_command(args: Args<'_>, text: &mut Vec<u8>) {
    text.extend_from_slice(b"ERR unknown command '");
    text.extend_from_slice(clipped(args.get(0).unwrap_or_default(), ECHOED_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.iter().skip(1) {
        let written = text.len() - start;
        if written >= ECHOED_BYTES_MAX {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(clipped(arg, ECHOED_BYTES_MAX - written));
        text.extend_from_slice(b"' ");
    }
}

fn clipped(bytes: &[u8], bytes_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(bytes_max)]
}
