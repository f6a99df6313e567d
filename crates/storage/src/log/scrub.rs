//! Which part of what is cold to look at next: each segment that is not written to any more, then
//! each shard's snapshot, then again from the start.

use flotilla_shard::ShardId;

use super::{Damage, Log};
use crate::chore::Chore;
use crate::format::SEGMENT_HEAD;
use crate::live::Place;
use crate::scan::segment_id;
use crate::scrub::{Scrub, Target};

/// How far the present round has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// At this offset of this segment, or of the next one that is there.
    Segments(Place),
    /// At this chunk of this shard's snapshot, or of the next shard that has one.
    Snapshots(ShardId, u32),
}

/// The scrubber's state.
#[derive(Clone, Debug)]
pub(super) struct Scrubber {
    round: Round,
    /// The segment that is being read.
    pub(super) reading: Option<u64>,
    /// Whether anything is being read.
    is_busy: bool,
    rounds: u64,
}

const START: Round = Round::Segments(Place { segment: 0, offset: 0 });

impl Default for Scrubber {
    fn default() -> Self {
        Self { round: START, reading: None, is_busy: false, rounds: 0 }
    }
}

impl Log {
    /// The next part to look at, about `bytes_max` bytes of it; `None` while one is being looked
    /// at, and once at the end of each round. The caller bounds the rate.
    pub fn scrub(&mut self, bytes_max: u64) -> Option<Chore> {
        if self.scrubber.is_busy {
            return None;
        }
        if let Round::Segments(at) = self.scrubber.round {
            if let Some(target) = self.next_segment(at) {
                return Some(self.begin_scrub(target, bytes_max));
            }
            self.scrubber.round = Round::Snapshots(ShardId(0), 0);
        }
        if let Round::Snapshots(shard, chunk) = self.scrubber.round
            && let Some(target) = self.next_snapshot(shard, chunk)
        {
            return Some(self.begin_scrub(target, bytes_max));
        }
        self.scrubber.round = START;
        self.scrubber.rounds += 1;
        None
    }

    /// How often everything was looked at since the start.
    pub fn scrub_rounds(&self) -> u64 {
        self.scrubber.rounds
    }

    fn begin_scrub(&mut self, target: Target, bytes_max: u64) -> Chore {
        match &target {
            Target::Segment { id, .. } => self.scrubber.reading = Some(id.number),
            Target::Snapshot { file, .. } => self.shelf.hold(&file.name),
        }
        self.scrubber.is_busy = true;
        Chore::Scrub(Scrub { target, bytes_max: bytes_max.max(1) })
    }

    fn next_segment(&self, at: Place) -> Option<Target> {
        let chain = &self.segments.chain;
        let cold = chain.iter().zip(chain.iter().skip(1)).find(|(segment, next)| {
            let done = segment.number < at.segment
                || (segment.number == at.segment && at.offset >= segment.written);
            !done && next.first_sequence <= self.durable_through
        });
        let (segment, _) = cold?;
        let next = if segment.number == at.segment { at.offset } else { SEGMENT_HEAD };
        Some(Target::Segment {
            file: segment.file.to_string(),
            id: segment_id(segment.nonce, segment.number, segment.bytes),
            next,
            end: segment.written,
            bad: Vec::new(),
        })
    }

    fn next_snapshot(&self, shard: ShardId, chunk: u32) -> Option<Target> {
        let mut files = self.shards.range(shard..).filter_map(|(&of, log)| {
            let file = self.shelf.find(of, &log.snapshot)?;
            Some((of, Box::new(file.clone())))
        });
        let (of, file) = files.next()?;
        let next = Some(if of == shard { chunk } else { 0 });
        Some(Target::Snapshot { file, next, error: None })
    }

    /// A part was looked at.
    pub(super) fn scrubbed(&mut self, scrub: &Scrub) {
        self.scrubber.is_busy = false;
        match &scrub.target {
            Target::Segment { file, id, next, bad, .. } => {
                self.scrubber.reading = None;
                self.scrubber.round = Round::Segments(Place { segment: id.number, offset: *next });
                for bad in bad {
                    self.puncture(id.number, file, bad);
                }
                self.release_segments();
            }
            Target::Snapshot { file, next, error } => {
                self.release_snapshot(&file.name);
                self.scrubber.round = match next {
                    Some(chunk) => Round::Snapshots(file.shard, *chunk),
                    None => Round::Snapshots(ShardId(file.shard.0.saturating_add(1)), 0),
                };
                let Some(error) = error.clone() else { return };
                if self.bad_snapshots.insert(file.name.clone()) {
                    self.damage.push(Damage::Snapshot { file: (**file).clone(), error });
                }
            }
        }
    }
}
