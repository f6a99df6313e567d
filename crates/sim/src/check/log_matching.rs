//! Log matching: if two logs contain an entry with the same index and term, then the logs are
//! identical in all entries up through the given index [Raft §5.3, Figure 3].
//!
//! Each entry's word covers everything before it, so that comparing one word per entry compares
//! whole logs. A log that begins at a snapshot takes the word of the entry that it ends with from
//! whoever had that.

use std::collections::BTreeMap;

use flotilla_shard::ShardId;

use super::shadow::{Shadow, ShadowWrite};

/// The words of all entries ever written, of all logs at once.
#[derive(Debug, Default)]
pub(crate) struct LogMatching {
    shards: BTreeMap<ShardId, Vec<Words>>,
}

/// At one index, the terms seen and the word of each.
type Words = Vec<(u64, u64)>;

impl LogMatching {
    /// Entries are given out to be written; `before` is the log that they come after. Gives how
    /// many of them were known from another log.
    pub(crate) fn on_write(&mut self, before: &Shadow, write: &ShadowWrite) -> Result<u64, String> {
        let Some(first) = write.first() else { return Ok(0) };
        let shard = write.shard;
        let words = self.shards.entry(shard).or_default();
        let base = match write.snapshot {
            Some((index, term)) if index + 1 == first => Some(term),
            _ => before.term_at(first - 1),
        };
        let Some(term) = base else {
            // It begins below a snapshot, which stands for what is before.
            return Ok(0);
        };
        let mut word = if first == 1 { Some(0) } else { at(words, first - 1, term) };
        let mut matched = 0;
        for (index, entry) in (first..).zip(&write.entries) {
            let Some(before) = word else { return Ok(matched) };
            let chain = entry.chain(before);
            word = Some(chain);
            let place = index as usize;
            if words.len() <= place {
                words.resize(place + 1, Words::new());
            }
            match words[place].iter().find(|(term, _)| *term == entry.term) {
                None => words[place].push((entry.term, chain)),
                Some((_, known)) if *known == chain => matched += 1,
                Some(_) => {
                    return Err(format!(
                        "shard {shard}: entry {index} of term {} stands in two logs that differ \
                         at or before it",
                        entry.term
                    ));
                }
            }
        }
        Ok(matched)
    }
}

fn at(words: &[Words], index: u64, term: u64) -> Option<u64> {
    let words = words.get(usize::try_from(index).ok()?)?;
    words.iter().find(|(known, _)| *known == term).map(|(_, word)| *word)
}
