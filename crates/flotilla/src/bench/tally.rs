//! What came back from servers under load.

use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::requests::Kind;

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Operations that are done, without an error.
    pub(crate) answered: u64,
    /// Reads that found no value.
    pub(crate) nulls: u64,
    /// Operations that ended with an error.
    pub(crate) errors: u64,
    /// Operations without a reply: their connection broke, or the run ended without them.
    pub(crate) unanswered: u64,
    /// Connections that broke.
    pub(crate) broken: u64,
    /// What the first error or broken connection was.
    pub(crate) first_trouble: Option<String>,
    /// From start to end.
    pub(crate) elapsed: Duration,
    /// The longest time in which nothing was done.
    pub(crate) longest_gap: Duration,
    /// From the moment an operation was due until it was done, by kind, of operations that were due
    /// after the start.
    latencies: [Histogram; Kind::ALL.len()],
    /// From the moment the first request was sent; `None` where that is when it was due.
    pub(crate) service: Option<Histogram>,
    start: Instant,
    last_answer: Instant,
}

impl Tally {
    /// Nothing yet. In an open loop operations can be sent later than they are due.
    pub(crate) fn new(start: Instant, is_open: bool) -> Self {
        Self {
            answered: 0,
            nulls: 0,
            errors: 0,
            unanswered: 0,
            broken: 0,
            first_trouble: None,
            elapsed: Duration::ZERO,
            longest_gap: Duration::ZERO,
            latencies: Default::default(),
            service: is_open.then(Histogram::default),
            start,
            last_answer: start,
        }
    }

    /// When it began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Operations that ended, one way or the other.
    pub(crate) fn ended(&self) -> u64 {
        self.answered + self.errors
    }

    /// Counts an operation that is done.
    pub(crate) fn count_answer(&mut self, kind: Kind, due: Instant, sent: Instant, now: Instant) {
        self.answered += 1;
        self.longest_gap = self.longest_gap.max(now.saturating_duration_since(self.last_answer));
        self.last_answer = now;
        // What was due before the start has waited for whoever kept the start waiting.
        if due >= self.start {
            self.latencies[kind as usize].record(now.saturating_duration_since(due), 1);
            if let Some(service) = &mut self.service {
                service.record(now.saturating_duration_since(sent), 1);
            }
        }
    }

    /// Counts an operation that the run ends without. It has waited until now at least, which
    /// belongs to the latencies: a server that stalls must not look better for it.
    pub(crate) fn count_unanswered(&mut self, kind: Kind, due: Instant, now: Instant) {
        self.unanswered += 1;
        if due >= self.start {
            self.latencies[kind as usize].record(now.saturating_duration_since(due), 1);
        }
    }

    /// Remembers the first thing that went wrong.
    pub(crate) fn tell_trouble(&mut self, trouble: impl FnOnce() -> String) {
        self.first_trouble.get_or_insert_with(trouble);
    }

    /// Ends it.
    pub(crate) fn finish(&mut self) {
        let now = Instant::now();
        self.elapsed = now.saturating_duration_since(self.start);
        self.longest_gap = self.longest_gap.max(now.saturating_duration_since(self.last_answer));
    }

    /// The latencies of one kind of operation.
    pub(crate) fn latencies_of(&self, kind: Kind) -> &Histogram {
        &self.latencies[kind as usize]
    }

    /// The latencies of all operations.
    pub(crate) fn latencies(&self) -> Histogram {
        let mut all = Histogram::default();
        for one in &self.latencies {
            all.add(one);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_answered_has_waited() {
        let start = Instant::now();
        let mut tally = Tally::new(start, true);
        let at = |millis| start + Duration::from_millis(millis);
        tally.count_answer(Kind::Read, at(1), at(3), at(4));
        tally.count_unanswered(Kind::Write, at(2), at(102));
        assert_eq!((tally.answered, tally.unanswered, tally.ended()), (1, 1, 1));
        let all = tally.latencies();
        assert_eq!((all.count(), all.max()), (2, Duration::from_millis(100)));
        let service = tally.service.expect("the loop is open");
        assert_eq!((service.count(), service.max()), (1, Duration::from_millis(1)));
        assert_eq!(tally.longest_gap, Duration::from_millis(4));
    }

    #[test]
    fn what_was_due_before_the_start_has_no_latency() {
        let due = Instant::now();
        let mut tally = Tally::new(due + Duration::from_millis(1), false);
        tally.count_answer(Kind::Read, due, due, due + Duration::from_millis(2));
        assert_eq!((tally.answered, tally.latencies().count()), (1, 0));
    }
}
