//! Cutting a command over several slots into one command per slot (P8).

use super::{KeysError, Spec};
use crate::args::{Args, ArgsBuf};
use flotilla_shard::{Slot, slot_of};

/// The part of a command whose keys are all in one slot.
#[derive(Debug)]
pub struct Part {
    /// The slot of all its keys.
    pub slot: Slot,
    /// The same command with only this slot's keys and what belongs to them.
    pub args: ArgsBuf,
    /// For each of its keys, in its order, the position among the keys of the whole command,
    /// counted from 0.
    pub positions: Vec<u32>,
}

/// The parts of a command, by ascending slot.
///
/// Inside a part the keys keep their order, so that a key named twice ends as it would have in the
/// whole (`MSET k 1 k 2`). A command without [`Spec::combine`] is one part.
pub fn split(spec: &Spec, args: Args<'_>) -> Result<Vec<Part>, KeysError> {
    if spec.combine.is_none() {
        return Ok(vec![whole(spec, args)?]);
    }
    spec.last_key_of(args.len())?;
    let words: Vec<&[u8]> = args.iter().collect();
    let (head, keyed) = words.split_at(spec.first_key as usize);
    let mut groups: Vec<Group<'_>> = keyed
        .chunks(spec.key_step as usize)
        .enumerate()
        .map(|(at, words)| Group { slot: slot_of(words[0]), position: at as u32, words })
        .collect();
    groups.sort_unstable_by_key(|group| (group.slot, group.position));
    let of_one_slot = groups.chunk_by(|a, b| a.slot == b.slot);
    Ok(of_one_slot.map(|groups| part(head, groups)).collect())
}

/// The command as its only part, if its keys share a slot.
fn whole(spec: &Spec, args: Args<'_>) -> Result<Part, KeysError> {
    let slot = spec.one_slot(args)?.ok_or(KeysError::CrossSlot)?;
    let mut same = ArgsBuf::new();
    for word in args {
        same.push(word);
    }
    let keys = spec.keys(args)?.count() as u32;
    Ok(Part { slot, args: same, positions: (0..keys).collect() })
}

/// One key and the words that follow it up to the next key.
struct Group<'a> {
    slot: Slot,
    position: u32,
    words: &'a [&'a [u8]],
}

/// The command of one slot: the words before the first key, then the slot's groups.
fn part(head: &[&[u8]], groups: &[Group<'_>]) -> Part {
    let mut args = ArgsBuf::new();
    for word in head.iter().chain(groups.iter().flat_map(|group| group.words)) {
        args.push(word);
    }
    let positions = groups.iter().map(|group| group.position).collect();
    Part { slot: groups[0].slot, args, positions }
}
