//! Commands over several slots or shards: the replies of their parts, until all are there.

use flotilla_kv::command::{Combine, PartReply};
use flotilla_kv::execute::{MAX_REPLY_BYTES, REPLY_TOO_LONG};

/// One command whose parts are being answered.
#[derive(Debug)]
pub(crate) struct Gather {
    /// The place in its client's row of replies.
    pub(crate) place: u64,
    /// Whether it changes anything.
    write: bool,
    combine: Combine,
    parts: Vec<Part>,
    missing: usize,
    /// Bytes of the replies so far.
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    reply: Option<Vec<u8>>,
    positions: Vec<u32>,
}

impl Gather {
    /// A command whose parts hold the keys at `positions` of the whole (empty where the order of
    /// keys does not matter).
    pub(crate) fn new(place: u64, write: bool, combine: Combine, positions: Vec<Vec<u32>>) -> Self {
        let missing = positions.len();
        let part = |positions| Part { reply: None, positions };
        let parts = positions.into_iter().map(part).collect();
        Self { place, write, combine, parts, missing, bytes: 0 }
    }

    /// The reply of one part; true when it was the last one missing.
    pub(crate) fn answer(&mut self, part: usize, reply: &[u8]) -> bool {
        if self.parts[part].reply.is_some() {
            return self.missing == 0;
        }
        self.missing -= 1;
        let was_long = self.is_too_long();
        self.bytes += reply.len();
        // What will not be sent is not kept.
        self.parts[part].reply = Some(if self.is_too_long() { Vec::new() } else { reply.to_vec() });
        if self.is_too_long() && !was_long {
            self.parts.iter_mut().filter_map(|part| part.reply.as_mut()).for_each(|reply| {
                *reply = Vec::new();
            });
        }
        self.missing == 0
    }

    /// Whether a read has found more than a reply may have. What writes answer is short.
    fn is_too_long(&self) -> bool {
        !self.write && self.bytes > MAX_REPLY_BYTES
    }

    /// Appends the reply of the whole. An error of any part is the reply; an unknown outcome goes
    /// before other errors, since it is the one that the client can't retry.
    pub(crate) fn combined(&self, out: &mut Vec<u8>) {
        if self.is_too_long() {
            out.extend_from_slice(REPLY_TOO_LONG);
            return;
        }
        let replies = || self.parts.iter().filter_map(|part| part.reply.as_deref());
        if let Some(uncertain) = replies().find(|reply| reply.starts_with(b"-UNCERTAIN")) {
            out.extend_from_slice(uncertain);
            return;
        }
        // An error that clients retry on would have the parts that were applied applied again.
        let not_applied = |reply: &[u8]| {
            [&b"-CLUSTERDOWN"[..], b"-LOADING", b"-MISCONF"]
                .iter()
                .any(|code| reply.starts_with(code))
        };
        if self.write && replies().any(not_applied) && !replies().all(not_applied) {
            out.extend_from_slice(TORN);
            return;
        }
        let parts: Vec<PartReply<'_>> = self
            .parts
            .iter()
            .filter_map(|part| {
                Some(PartReply { reply: part.reply.as_deref()?, positions: &part.positions })
            })
            .collect();
        self.combine.replies(&parts, out);
    }
}

/// The reply of a write over several shards of which only some have applied their part.
const TORN: &[u8] = b"-UNCERTAIN a part of the command was applied, another was not, as its \
    shard was out of reach\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(write: bool, replies: [&[u8]; 2]) -> Vec<u8> {
        let mut gather = Gather::new(1, write, Combine::Sum, vec![vec![0], vec![1]]);
        assert!(!gather.answer(0, replies[0]));
        assert!(gather.answer(1, replies[1]));
        let mut out = Vec::new();
        gather.combined(&mut out);
        out
    }

    #[test]
    fn a_write_that_half_the_shards_applied_is_not_retried() {
        let down: &[u8] = b"-CLUSTERDOWN shard 2\r\n";
        assert_eq!(combined(true, [b":1\r\n", b":2\r\n"]), b":3\r\n");
        assert_eq!(combined(true, [b":1\r\n", down]), TORN);
        assert_eq!(combined(true, [down, down]), down);
        let loading: &[u8] = b"-LOADING shard 1\r\n";
        assert_eq!(combined(true, [b":1\r\n", loading]), TORN);
        assert_eq!(combined(true, [loading, loading]), loading);
        assert_eq!(combined(false, [b":1\r\n", down]), down);
    }

    #[test]
    fn a_reply_that_gets_too_long_is_an_error_and_not_kept() {
        let mut gather = Gather::new(1, false, Combine::Concat, vec![vec![0], vec![1], vec![2]]);
        let half = vec![b'x'; MAX_REPLY_BYTES / 2 + 1];
        assert!(!gather.answer(0, &half));
        assert!(!gather.answer(2, &half));
        assert!(gather.answer(1, &half));
        assert!(gather.parts.iter().all(|part| part.reply.as_ref().is_some_and(Vec::is_empty)));
        let mut out = Vec::new();
        gather.combined(&mut out);
        assert_eq!(out, REPLY_TOO_LONG);
    }

    #[test]
    fn an_unknown_outcome_goes_before_other_errors() {
        let uncertain: &[u8] = b"-UNCERTAIN shard 1\r\n";
        assert_eq!(combined(true, [b"-ERR no\r\n", uncertain]), uncertain);
    }
}
