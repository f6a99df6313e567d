//! The two clocks of a lane: one that only goes forward, and the wall's.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use flotilla_node::Now;
use flotilla_raft::Time;

/// What the monotonic clock shows at the start of the process, so that no time is 0, microseconds.
const START_MICROS: u64 = 1_000_000;

/// Gives [`Now`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        Now { time: self.time(Instant::now()), wall_ms: wall_ms() }
    }

    /// The monotonic clock at `instant`, which is not before the start of the process.
    pub(crate) fn time(&self, instant: Instant) -> Time {
        let micros = instant.saturating_duration_since(self.start).as_micros();
        Time(START_MICROS + u64::try_from(micros).expect("no process runs 500,000 years"))
    }
}

/// Milliseconds since 1970; 0 if the wall clock is before that.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
