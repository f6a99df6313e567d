//! `COMMAND` and the `HELP` of every container, answered from the table.
//!
//! Replies are RESP3, with the maps and sets that Redis 7 gives; a RESP2 client gets them flat.

use super::{Rejected, Spec, all, find, resolve};
use crate::args::{Args, ArgsBuf};
use crate::execute::glob_matches;
use flotilla_resp::encode;

/// Appends the reply of `COMMAND` or one of its subcommands; a request that is neither gets the
/// error that [`resolve`] has for it.
pub fn command_reply(args: Args<'_>, out: &mut Vec<u8>) {
    let spec = match resolve(args) {
        Ok(spec) => spec,
        Err(rejected) => return rejected.write_to(out),
    };
    match spec.name {
        "command" => every_info(out),
        "command|count" => encode::integer(out, all().count() as i64),
        "command|docs" => docs(args, out),
        "command|getkeys" => get_keys(args, out),
        "command|help" => help_reply(find(b"command").expect("it was just found"), out),
        "command|info" if args.len() == 2 => every_info(out),
        "command|info" => {
            encode::array_header(out, args.len() - 2);
            for name in args.iter().skip(2) {
                match by_full_name(name) {
                    Some(spec) => info(spec, out),
                    None => encode::null(out),
                }
            }
        }
        "command|list" => list(args, out),
        _ => Rejected::UnknownCommand(args).write_to(out),
    }
}

/// Appends the reply of a container's `HELP`: its subcommands with their arguments, each followed
/// by what it does.
pub fn help_reply(container: &Spec, out: &mut Vec<u8>) {
    let name = container.name.to_ascii_uppercase();
    encode::array_header(out, 1 + 2 * container.subcommands.len());
    let title = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    encode::simple(out, title);
    for sub in container.subcommands {
        let usage = format!("{} {}", sub.verb().to_ascii_uppercase(), sub.syntax);
        encode::simple(out, usage.trim_end());
        encode::simple(out, format!("    {}", sub.summary));
    }
}

/// The entry of `get` or of `client|id`.
fn by_full_name(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|byte| *byte == b'|') {
        None => find(name),
        Some(bar) => find(&name[..bar])?.subcommand(&name[bar + 1..]),
    }
}

fn every_info(out: &mut Vec<u8>) {
    encode::array_header(out, all().count());
    for spec in all() {
        info(spec, out);
    }
}

/// The ten fields of a command in Redis 7.
fn info(spec: &Spec, out: &mut Vec<u8>) {
    encode::array_header(out, 10);
    encode::bulk(out, spec.name);
    encode::integer(out, i64::from(spec.arity));
    set_of_words(spec.flags, out);
    encode::integer(out, i64::from(spec.first_key));
    encode::integer(out, i64::from(spec.last_key));
    encode::integer(out, i64::from(spec.key_step));
    set_of_words(spec.acl_categories, out);
    encode::set_header(out, spec.tips.len());
    for tip in spec.tips {
        encode::bulk(out, tip);
    }
    key_specifications(spec, out);
    if spec.subcommands.is_empty() {
        // Redis gives a set where there are none and an array where there are some.
        return encode::set_header(out, 0);
    }
    encode::array_header(out, spec.subcommands.len());
    for sub in spec.subcommands {
        info(sub, out);
    }
}

fn set_of_words(words: &[&str], out: &mut Vec<u8>) {
    encode::set_header(out, words.len());
    for word in words {
        encode::simple(out, word);
    }
}

/// All keys of a command are a range from a fixed argument on, so that one specification says it.
fn key_specifications(spec: &Spec, out: &mut Vec<u8>) {
    if !spec.has_keys() {
        return encode::set_header(out, 0);
    }
    encode::set_header(out, 1);
    encode::map_header(out, 3);
    encode::bulk(out, "flags");
    set_of_words(spec.key_flags, out);
    key_search("begin_search", "index", &[("index", spec.first_key)], out);
    // The last key counts from the first one here, unless it counts from the end.
    let last = if spec.last_key < 0 { spec.last_key } else { spec.last_key - spec.first_key };
    let range = [("lastkey", last), ("keystep", spec.key_step), ("limit", 0)];
    key_search("find_keys", "range", &range, out);
}

fn key_search(name: &str, kind: &str, fields: &[(&str, i32)], out: &mut Vec<u8>) {
    encode::bulk(out, name);
    encode::map_header(out, 2);
    encode::bulk(out, "type");
    encode::bulk(out, kind);
    encode::bulk(out, "spec");
    encode::map_header(out, fields.len());
    for (field, number) in fields {
        encode::bulk(out, field);
        encode::integer(out, i64::from(*number));
    }
}

fn docs(args: Args<'_>, out: &mut Vec<u8>) {
    let specs: Vec<&Spec> = if args.len() == 2 {
        all().collect()
    } else {
        args.iter().skip(2).filter_map(by_full_name).collect()
    };
    documented(&specs, out);
}

/// A map from the names to what is known in words.
fn documented(specs: &[&Spec], out: &mut Vec<u8>) {
    encode::map_header(out, specs.len());
    for spec in specs {
        encode::bulk(out, spec.name);
        let fields = [
            ("summary", spec.summary),
            ("since", spec.since),
            ("group", spec.group),
            ("complexity", spec.complexity),
        ];
        let known = fields.iter().filter(|(_, text)| !text.is_empty());
        let is_container = !spec.subcommands.is_empty();
        encode::map_header(out, known.clone().count() + usize::from(is_container));
        for (field, text) in known {
            encode::bulk(out, field);
            encode::bulk(out, text);
        }
        if is_container {
            encode::bulk(out, "subcommands");
            documented(&spec.subcommands.iter().collect::<Vec<_>>(), out);
        }
    }
}

fn get_keys(args: Args<'_>, out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = args.iter().skip(2).collect();
    let whole = ArgsBuf::from_slices(&words);
    let Some(spec) = find(words[0]) else {
        return encode::error(out, "ERR Invalid command specified");
    };
    match spec.keys(whole.as_args()) {
        Ok(keys) => {
            let keys: Vec<&[u8]> = keys.map(|(_, key)| key).collect();
            encode::array_header(out, keys.len());
            for key in &keys {
                encode::bulk(out, key);
            }
        }
        Err(error) => encode::error(out, error.to_string()),
    }
}

/// Without a filter the commands alone, with one the subcommands too, as in Redis.
fn list(args: Args<'_>, out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = args.iter().skip(2).collect();
    let names: Vec<&str> = match words.as_slice() {
        [] => all().map(|spec| spec.name).collect(),
        [by, kind, wanted] if by.eq_ignore_ascii_case(b"filterby") => {
            let Some(filter) = Filter::of(kind) else {
                return encode::error(out, "ERR syntax error");
            };
            let every = all().flat_map(|spec| core::iter::once(spec).chain(spec.subcommands));
            every.filter(|spec| filter.admits(spec, wanted)).map(|spec| spec.name).collect()
        }
        _ => return encode::error(out, "ERR syntax error"),
    };
    encode::array_header(out, names.len());
    for name in &names {
        encode::bulk(out, name);
    }
}

/// How `COMMAND LIST FILTERBY` chooses.
enum Filter {
    /// Commands of a module, of which there are none.
    Module,
    /// Commands of an access control category, named without its `@`.
    Category,
    /// Commands whose name matches.
    Pattern,
}

impl Filter {
    fn of(word: &[u8]) -> Option<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"module" => Some(Self::Module),
            b"aclcat" => Some(Self::Category),
            b"pattern" => Some(Self::Pattern),
            _ => None,
        }
    }

    fn admits(&self, spec: &Spec, wanted: &[u8]) -> bool {
        match self {
            Self::Module => false,
            Self::Category => spec.acl_categories.iter().any(|category| {
                category.trim_start_matches('@').as_bytes().eq_ignore_ascii_case(wanted)
            }),
            Self::Pattern => glob_matches(&wanted.to_ascii_lowercase(), spec.name.as_bytes()),
        }
    }
}
