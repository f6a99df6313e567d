//! Commands over several slots or shards: the replies of their parts, until all are there.

use flotilla_kv::command::{Combine, PartReply};

/// One command whose parts are being answered.
#[derive(Debug)]
pub(crate) struct Gather {
    /// The place in its client's row of replies.
    pub(crate) place: u64,
    combine: Combine,
    parts: Vec<Part>,
    missing: usize,
}

#[derive(Debug)]
struct Part {
    reply: Option<Vec<u8>>,
    positions: Vec<u32>,
}

impl Gather {
    /// A command whose parts hold the keys at `positions` of the whole (empty where the order of
    /// keys does not matter).
    pub(crate) fn new(place: u64, combine: Combine, positions: Vec<Vec<u32>>) -> Self {
        let missing = positions.len();
        let part = |positions| Part { reply: None, positions };
        Self { place, combine, parts: positions.into_iter().map(part).collect(), missing }
    }

    /// The reply of one part; true when it was the last one missing.
    pub(crate) fn answer(&mut self, part: usize, reply: &[u8]) -> bool {
        let part = &mut self.parts[part];
        if part.reply.is_none() {
            part.reply = Some(reply.to_vec());
            self.missing -= 1;
        }
        self.missing == 0
    }

    /// Appends the reply of the whole. An error of any part is the reply; an unknown outcome goes
    /// before other errors, since it is the one that the client can't retry.
    pub(crate) fn combined(&self, out: &mut Vec<u8>) {
        let replies = || self.parts.iter().filter_map(|part| part.reply.as_deref());
        if let Some(uncertain) = replies().find(|reply| reply.starts_with(b"-UNCERTAIN")) {
            out.extend_from_slice(uncertain);
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
