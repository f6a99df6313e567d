//! The log and a follower's progress against slow twins that can hardly be wrong.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::config::Random;
use crate::log::{Log, Position, entry_bytes};
use crate::progress::{Flow, Progress};
use crate::{Entry, EntryKind, HardState, Index, Payload, ReplicaId, SnapshotMeta, Term, Time};

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let payload = Payload::new(vec![index as u8; bytes]);
    Entry { index: Index(index), term: Term(term), kind: EntryKind::Normal, payload }
}

/// All entries ever appended and not truncated, by index; what may be known of them is above
/// `start`, what can be had above `base`.
struct LogTwin {
    entries: BTreeMap<u64, Entry>,
    snapshot: (u64, u64),
    base: u64,
}

impl LogTwin {
    fn last(&self) -> u64 {
        self.entries.keys().next_back().map_or(self.snapshot.0, |&last| last)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.0 {
            return Some(self.snapshot.1);
        }
        let known = index >= self.base.min(self.snapshot.0);
        self.entries.get(&index).filter(|_| known).map(|entry| entry.term.0)
    }

    fn last_at_most(&self, limit: u64, term: u64) -> Option<u64> {
        let fits = |index: &u64| self.term_at(*index).is_some_and(|known| known <= term);
        (0..=limit.min(self.last())).rev().find(fits)
    }

    /// Below the snapshot, what is above the floor stays, as far as it is within so many bytes.
    fn release(&mut self, floor: u64, bytes_max: u64) {
        let size = |index: u64| entry_bytes(self.entries[&index].payload.len());
        let bytes = |base: u64| (base + 1..=self.snapshot.0).map(size).sum::<u64>();
        let mut base = self.base;
        while base < self.snapshot.0 && (base < floor || bytes(base) > bytes_max) {
            base += 1;
        }
        self.base = base;
    }

    fn batch(&self, from: u64, bytes_max: u64) -> Vec<Entry> {
        let mut bytes = 0;
        let size = |entry: &Entry| entry_bytes(entry.payload.len());
        let fits = |entry: &&Entry| {
            bytes += size(entry);
            entry.index.0 == from || bytes <= bytes_max
        };
        self.entries.range(from..).map(|(_, entry)| entry).take_while(fits).cloned().collect()
    }

    fn compare(&self, log: &Log) {
        log.check();
        assert_eq!(log.last_index(), Index(self.last()));
        assert_eq!(log.base(), Index(self.base));
        for index in 0..self.last() + 2 {
            let known = log.term_at(Index(index)).map(|term| term.0);
            assert_eq!(known, self.term_at(index), "term at {index}");
            for term in 0..6 {
                let found = log.last_at_most(Index(index), Term(term)).map(|place| place.index.0);
                assert_eq!(found, self.last_at_most(index, term), "at {index}, term {term}");
            }
        }
        for from in self.base + 1..=self.last() {
            for bytes in [0, 70, 200] {
                assert_eq!(log.batch(Index(from), bytes), self.batch(from, bytes as u64));
            }
        }
    }
}

#[test]
fn a_log_is_what_was_appended_and_not_truncated() {
    for seed in 0..60 {
        let mut random = Random::new(seed, ReplicaId(1));
        let start = Position { index: Index(3), term: Term(1) };
        let mut log = Log::new(HardState::default(), start, Vec::new());
        let mut twin =
            LogTwin { entries: BTreeMap::from([(3, entry(3, 1, 0))]), snapshot: (3, 1), base: 3 };
        for _ in 0..60 {
            let (last, term) = (twin.last(), log.last_term().0);
            match random.below(8) {
                0..=3 => {
                    let (term, bytes) = (term + random.below(4) / 3, random.below(60) as usize);
                    log.append(entry(last + 1, term, bytes));
                    twin.entries.insert(last + 1, entry(last + 1, term, bytes));
                }
                4 if last > twin.base.max(twin.snapshot.0) => {
                    let from = twin.base.max(twin.snapshot.0);
                    let index = from + 1 + random.below(last - from);
                    log.truncate_from(Index(index));
                    twin.entries.retain(|&known, _| known < index);
                }
                5 if last > twin.snapshot.0 => {
                    let index = twin.snapshot.0 + 1 + random.below(last - twin.snapshot.0);
                    let term = twin.term_at(index).expect("it is in the log");
                    let meta = SnapshotMeta {
                        index: Index(index),
                        term: Term(term),
                        ..SnapshotMeta::default()
                    };
                    log.compact(meta);
                    twin.snapshot = (index, term);
                }
                6 => {
                    let (floor, bytes) = (random.below(last + 1), random.below(200));
                    log.release(Index(floor), bytes as usize);
                    twin.release(floor, bytes);
                }
                7 => {
                    let limit = twin.base.max(twin.snapshot.0);
                    let limit = limit + random.below(last - limit + 1);
                    log.evict(Index(limit), 0);
                    twin.base = twin.base.max(limit);
                }
                _ => {}
            }
            log.ask_write(HardState::default(), Time(0));
            twin.compare(&log);
        }
    }
}

/// What a leader may send and what it knows, from the history of all that was sent and answered.
#[test]
fn a_window_is_what_was_sent_and_not_answered() {
    for seed in 0..200 {
        let mut random = Random::new(seed, ReplicaId(2));
        let start = Position { index: Index(0), term: Term(0) };
        let mut log = Log::new(HardState::default(), start, Vec::new());
        for index in 1..=40 {
            log.append(entry(index, 1, 10));
        }
        let mut progress = Progress::new(ReplicaId(7), Index(1 + random.below(41)), Time(0));
        let mut in_flight: Vec<(u64, u64)> = Vec::new();
        let mut matched = 0;
        for _ in 0..80 {
            let replicating = matches!(progress.flow, Flow::Replicate { .. });
            match random.below(6) {
                0..=2 if progress.has_room(4, 200) && progress.next.0 <= 40 => {
                    let last = (progress.next.0 + random.below(3)).min(40);
                    let bytes = 42 * (last + 1 - progress.next.0);
                    progress.on_sent(Index(last), bytes);
                    if replicating {
                        in_flight.push((last, bytes));
                    }
                }
                3 => {
                    let answered = random.below(progress.next.0);
                    let news = progress.on_matched(Index(answered), Index(0));
                    assert_eq!(news, answered > matched);
                    matched = matched.max(answered);
                    in_flight.retain(|(last, _)| *last > answered);
                }
                4 => {
                    let prev = random.below(41);
                    let hint = Index(random.below(prev + 1));
                    progress.on_conflict(Index(prev), hint, Term(1), &log);
                }
                5 if random.below(3) == 0 => progress.on_link_restored(),
                _ => {}
            }
            if !matches!(progress.flow, Flow::Replicate { .. }) {
                in_flight.clear();
            }
            assert_eq!(progress.matched, Index(matched), "what was answered is never forgotten");
            assert!(progress.matched < progress.next && progress.next <= Index(41));
            if let Flow::Replicate { in_flight: known, bytes } = &progress.flow {
                let known: Vec<(u64, u64)> = known.iter().map(|(last, n)| (last.0, *n)).collect();
                assert_eq!(known, in_flight);
                assert_eq!(*bytes, in_flight.iter().map(|(_, bytes)| bytes).sum::<u64>());
                let sum = *bytes;
                let room = in_flight.is_empty() || (in_flight.len() < 4 && sum < 200);
                assert_eq!(progress.has_room(4, 200), room);
            }
        }
    }
}
