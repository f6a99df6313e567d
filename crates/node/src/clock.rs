//! The clock of a shard: the median of its voters' wall clocks (P9).
//!
//! Every frame between nodes carries its sender's wall clock. What is kept is the difference to
//! the own monotonic clock when the frame arrived, so the estimate advances between frames. With
//! fewer clocks known than a quorum there is no median: one wrong clock could decide alone.

use std::collections::BTreeMap;

use flotilla_shard::NodeId;
use smallvec::SmallVec;

use crate::io::Now;

/// The wall clocks of other nodes, as far as they were heard.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Wall clock less own monotonic clock, milliseconds.
    offsets_ms: BTreeMap<NodeId, i64>,
}

impl Clock {
    /// `node` said that its wall clock was `wall_ms`.
    pub(crate) fn heard(&mut self, node: NodeId, wall_ms: u64, now: Now) {
        self.offsets_ms.insert(node, (wall_ms as i64).wrapping_sub(monotonic_ms(now)));
    }

    /// The median of the voters' wall clocks, milliseconds since 1970; of an even number the lower
    /// middle one. `None` while fewer than a quorum are known.
    pub(crate) fn median_ms(
        &self,
        voters: impl Iterator<Item = NodeId>,
        me: NodeId,
        now: Now,
    ) -> Option<u64> {
        let mut count = 0;
        let mut known = SmallVec::<[i64; 8]>::new();
        for node in voters {
            count += 1;
            if node == me {
                known.push(now.wall_ms as i64);
            } else if let Some(offset) = self.offsets_ms.get(&node) {
                known.push(offset.wrapping_add(monotonic_ms(now)));
            }
        }
        if known.len() < count / 2 + 1 {
            return None;
        }
        known.sort_unstable();
        Some(known[(known.len() - 1) / 2].max(0) as u64)
    }
}

fn monotonic_ms(now: Now) -> i64 {
    (now.time.0 / 1_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_raft::Time;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn at(ms: u64, wall_ms: u64) -> Now {
        Now { time: Time(ms * 1_000), wall_ms }
    }

    #[test]
    fn a_minority_of_clocks_decides_nothing() {
        let clock = Clock::default();
        assert_eq!(clock.median_ms(NODES.into_iter(), NodeId(1), at(0, 500)), None);
        assert_eq!(clock.median_ms(NODES.into_iter().take(1), NodeId(1), at(0, 500)), Some(500));
    }

    #[test]
    fn one_wrong_clock_does_not_move_the_median_and_it_advances() {
        let mut clock = Clock::default();
        clock.heard(NodeId(2), 1_000, at(0, 1_001));
        clock.heard(NodeId(3), 999_999, at(0, 1_001));
        assert_eq!(clock.median_ms(NODES.into_iter(), NodeId(1), at(0, 1_001)), Some(1_001));
        assert_eq!(clock.median_ms(NODES.into_iter(), NodeId(1), at(50, 1_051)), Some(1_051));
    }
}
