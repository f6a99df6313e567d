//! The two clocks of a machine: a monotonic one that drifts, and a wall clock that is wrong and
//! jumps.

use flotilla_node::Now;
use flotilla_raft::Time;

use crate::queue::Micros;

/// What a right wall clock shows at virtual time 0, milliseconds since 1970.
const EPOCH_MS: u64 = 1_767_225_600_000;
const MILLION: i128 = 1_000_000;

/// The clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Parts per million by which the monotonic clock is too fast.
    drift_ppm: i64,
    /// By how much the wall clock is ahead, milliseconds.
    wall_offset_ms: i64,
    /// By how much it has ever been ahead: what others heard of it then, they may still go by.
    most_ahead_ms: i64,
    /// When the wall clock stopped, if it stands still.
    pub(crate) frozen_at: Option<Micros>,
}

impl Clocks {
    /// Clocks with these errors.
    pub(crate) fn new(drift_ppm: i64, wall_offset_ms: i64) -> Self {
        Self { drift_ppm, wall_offset_ms, most_ahead_ms: wall_offset_ms, frozen_at: None }
    }

    /// The wall clock is set: it is ahead by so much from now on.
    pub(crate) fn set_wall(&mut self, ahead_ms: i64) {
        self.wall_offset_ms = ahead_ms;
        self.most_ahead_ms = self.most_ahead_ms.max(ahead_ms);
    }

    /// What the machine reads at a moment.
    pub(crate) fn read(&self, at: Micros) -> Now {
        let shown = self.frozen_at.map_or(at, |frozen| frozen.min(at));
        let wall_ms = i128::from(EPOCH_MS + shown / 1_000) + i128::from(self.wall_offset_ms);
        Now { time: Time(self.local(at)), wall_ms: wall_ms as u64 }
    }

    /// What this wall clock can show at a moment, as others reckon it from what they ever heard of
    /// it, milliseconds: they go on from there by clocks that are too fast by `drift_ppm` at most.
    pub(crate) fn furthest_ms(&self, at: Micros, drift_ppm: u64) -> u64 {
        let ahead = (EPOCH_MS + at / 1_000).saturating_add_signed(self.most_ahead_ms);
        let drifted = u128::from(at) * u128::from(drift_ppm) / MILLION as u128 / 1_000;
        // Each of two readings of a clock leaves out a part of a millisecond.
        ahead + drifted as u64 + 2
    }

    /// The first moment at which the monotonic clock shows `time` or more.
    pub(crate) fn moment(&self, time: Time) -> Micros {
        let rate = MILLION + i128::from(self.drift_ppm);
        let mut at = (i128::from(time.0) * MILLION / rate) as Micros;
        while self.local(at) < time.0 {
            at += 1;
        }
        at
    }

    fn local(&self, at: Micros) -> u64 {
        (i128::from(at) * (MILLION + i128::from(self.drift_ppm)) / MILLION) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_its_moment_and_not_before() {
        for drift in [-300, -1, 0, 1, 299] {
            let clocks = Clocks::new(drift, -5);
            for time in [1_000_000, 1_234_567, 99_999_999] {
                let at = clocks.moment(Time(time));
                assert!(clocks.read(at).time >= Time(time));
                assert!(clocks.read(at - 2).time < Time(time));
            }
        }
    }

    #[test]
    fn what_a_clock_has_shown_counts_for_ever() {
        let mut clocks = Clocks::new(0, -5);
        let shown = clocks.read(1_000_000).wall_ms;
        assert_eq!(clocks.furthest_ms(1_000_000, 0), shown + 2);
        clocks.set_wall(70);
        clocks.set_wall(0);
        assert_eq!(clocks.furthest_ms(1_000_000, 200_000), shown + 2 + 75 + 200);
    }
}
