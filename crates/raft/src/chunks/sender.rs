//! The sender of a snapshot file: offers it, keeps a window of chunks under way, and goes on where
//! the receiver is.
//!
//! Invariants: a chunk is sent only with the CRC that it had when the file was made; what the
//! receiver has in its present session is not sent again; what it had in an earlier one is.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Range;

use super::{ChunkMessage, ChunkNumber, Crc, NAMED_ABOVE, Outline, Session};
use crate::{Index, Payload, Term, Time};

/// How fast a [`Sender`] is, and how patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderConfig {
    /// So many chunks may be read or under way at once: 1 to [`NAMED_ABOVE`].
    pub window: u32,
    /// What was not answered for so long is sent again, µs; not 0.
    pub retry: u64,
    /// A receiver that was silent for so long is given up, µs.
    pub patience: u64,
}

impl Default for SenderConfig {
    /// For chunks of some 256 KiB in one data centre.
    fn default() -> Self {
        Self { window: 16, retry: 500_000, patience: 10_000_000 }
    }
}

/// What a [`Sender`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderTask {
    /// Send this.
    Send(ChunkMessage),
    /// Read these bytes of the file, and give them to [`Sender::on_read`].
    Read {
        /// Which chunk they are.
        number: ChunkNumber,
        /// Where they are.
        range: Range<u64>,
    },
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it on its disk: tell the core that it is
    /// [`delivered`](crate::Input::SnapshotSent).
    Delivered(Index),
    /// The receiver does not take it now.
    Refused,
    /// The receiver was silent for too long.
    GaveUp,
    /// The file is not any more what it was: this chunk can't be read, or is another.
    Damaged(ChunkNumber),
}

/// A chunk that the receiver was not heard to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Reading,
    Sent(Time),
}

/// One snapshot on its way to one replica.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    term: Term,
    outline: Outline,
    /// What the receiver said last; `None` before it answered.
    session: Option<Session>,
    /// It has every chunk before this one.
    first_missing: u32,
    /// And these, all above `first_missing`.
    above: BTreeSet<u32>,
    in_flight: BTreeMap<u32, Flight>,
    offered_at: Option<Time>,
    heard_at: Time,
    outcome: Option<Outcome>,
}

impl Sender {
    /// Begins to send a file in the `term` of the core's wish. Panics if `config` makes no sense.
    pub fn new(config: SenderConfig, outline: Outline, term: Term, now: Time) -> Self {
        assert!((1..=NAMED_ABOVE).contains(&config.window), "a window is what an answer can name");
        assert!(config.retry > 0, "a retry takes time");
        Self {
            config,
            term,
            outline,
            session: None,
            first_missing: 0,
            above: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            offered_at: None,
            heard_at: now,
            outcome: None,
        }
    }

    /// The next thing to do, if there is one now.
    pub fn poll(&mut self, now: Time) -> Option<SenderTask> {
        if self.outcome.is_none() && now >= self.heard_at + self.config.patience {
            self.outcome = Some(Outcome::GaveUp);
        }
        if self.outcome.is_some() {
            return None;
        }
        if now >= self.offer_at() {
            self.offered_at = Some(now);
            let (term, manifest) = (self.term, self.outline.manifest().clone());
            return Some(SenderTask::Send(ChunkMessage::Offer { term, manifest }));
        }
        let number = self.next_chunk(now)?;
        self.in_flight.insert(number.0, Flight::Reading);
        Some(SenderTask::Read { number, range: self.outline.range(number) })
    }

    /// When to offer, perhaps again: the offer or its answer may be lost, or the receiver may have
    /// forgotten all.
    fn offer_at(&self) -> Time {
        let Some(offered_at) = self.offered_at else { return Time(0) };
        let quiet_since = match self.session {
            Some(_) => offered_at.max(self.heard_at),
            None => offered_at,
        };
        quiet_since + self.config.retry
    }

    /// The oldest chunk to send again, else the next within the window.
    fn next_chunk(&self, now: Time) -> Option<ChunkNumber> {
        self.session?;
        let late =
            |flight: &Flight| matches!(flight, Flight::Sent(at) if now >= *at + self.config.retry);
        if let Some((&number, _)) = self.in_flight.iter().find(|(_, flight)| late(flight)) {
            return Some(ChunkNumber(number));
        }
        if self.in_flight.len() >= self.config.window as usize {
            return None;
        }
        // Beyond that, an answer could not say that a chunk arrived.
        let end = self.first_missing.saturating_add(NAMED_ABOVE + 1);
        let end = end.min(self.outline.manifest().chunks());
        let open =
            |number: &u32| !self.above.contains(number) && !self.in_flight.contains_key(number);
        (self.first_missing..end).find(open).map(ChunkNumber)
    }

    /// What was read for [`SenderTask::Read`]; anything else than the chunk's bytes, for instance
    /// none, if it can't be read. Returns what to send.
    pub fn on_read(
        &mut self,
        number: ChunkNumber,
        bytes: Payload,
        now: Time,
    ) -> Option<ChunkMessage> {
        // It may be there already, by way of an earlier attempt.
        let flight =
            self.in_flight.get_mut(&number.0).filter(|known| **known == Flight::Reading)?;
        *flight = Flight::Sent(now);
        let crc = Crc::of(bytes.bytes());
        if self.outcome.is_none() && self.outline.crc(number) != Some(crc) {
            self.outcome = Some(Outcome::Damaged(number));
        }
        let name = self.outline.manifest().name();
        self.outcome.is_none().then_some(ChunkMessage::Chunk { name, number, crc, bytes })
    }

    /// An answer came.
    pub fn on_message(&mut self, message: &ChunkMessage, now: Time) {
        let own = self.outline.manifest().name();
        match message {
            ChunkMessage::Have { name, session, first_missing, above } if *name == own => {
                self.on_have(*session, *first_missing, *above, now);
            }
            ChunkMessage::Durable { name } if *name == own => {
                self.outcome.get_or_insert(Outcome::Delivered(own.index));
            }
            ChunkMessage::Refused { name } if *name == own => {
                self.outcome.get_or_insert(Outcome::Refused);
            }
            _ => {}
        }
    }

    fn on_have(&mut self, session: Session, first_missing: ChunkNumber, above: u64, now: Time) {
        let count = self.outline.manifest().chunks();
        if self.session.is_some_and(|known| session < known) || first_missing.0 > count {
            return;
        }
        self.heard_at = self.heard_at.max(now);
        if self.session != Some(session) {
            // What it had before is gone, and what is on its way may find nobody.
            self.session = Some(session);
            (self.first_missing, self.above) = (0, BTreeSet::new());
            self.in_flight.retain(|_, flight| *flight == Flight::Reading);
        }
        self.first_missing = self.first_missing.max(first_missing.0);
        let named = (0..NAMED_ABOVE).filter(|bit| above >> bit & 1 == 1);
        let named = named.filter_map(|bit| first_missing.0.checked_add(1 + bit));
        self.above.extend(named.filter(|number| *number < count));
        self.above = self.above.split_off(&self.first_missing);
        while self.above.remove(&self.first_missing) {
            self.first_missing += 1;
        }
        let (first_missing, above) = (self.first_missing, &self.above);
        self.in_flight.retain(|number, _| *number >= first_missing && !above.contains(number));
    }

    /// The link to the receiver is new: what was under way is lost, and it may know nothing.
    pub fn on_link_restored(&mut self) {
        self.offered_at = None;
        self.in_flight.retain(|_, flight| *flight == Flight::Reading);
    }

    /// When to call [`Sender::poll`] although nothing came.
    pub fn deadline(&self) -> Time {
        if self.outcome.is_some() {
            return Time::NEVER;
        }
        let sent = self.in_flight.values().filter_map(|flight| match flight {
            Flight::Sent(at) => Some(*at + self.config.retry),
            Flight::Reading => None,
        });
        let next = sent.min().unwrap_or(Time::NEVER).min(self.offer_at());
        next.min(self.heard_at + self.config.patience)
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The file.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// How many chunks are read or under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Panics unless the invariants of this module hold.
    pub fn check_invariants(&self) {
        let count = self.outline.manifest().chunks();
        assert!(self.in_flight.len() <= self.config.window as usize, "the window has a limit");
        assert!(self.first_missing <= count, "a file has so many chunks and no more");
        let above = self.above.iter().all(|n| *n > self.first_missing && *n < count);
        assert!(above, "what is named beyond the first missing chunk lies beyond it");
        let open = self.in_flight.keys();
        let mut missing = open.map(|n| *n >= self.first_missing && !self.above.contains(n));
        assert!(missing.all(|missing| missing), "what the receiver has is not under way");
    }
}
