//! When requests of an open loop are due: a Poisson process, as of many clients that know nothing
//! of each other and of how the server fares.

use std::str::FromStr;
use std::time::Duration;

use super::random::Random;

/// How many operations an open loop asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// A second.
    PerSecond(f64),
    /// Of what the system does in a closed loop of the same connections, from 0 to 1.
    OfPeak(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "give operations per second, above 0, or a share of the peak as in 50%".to_owned();
        let (number, is_share) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        // More than that no thread sends, and more than the peak is no peak.
        let most = if is_share { 100.0 } else { 1e8 };
        if !(0.01..=most).contains(&number) {
            return Err(wrong());
        }
        Ok(if is_share { Self::OfPeak(number / 100.0) } else { Self::PerSecond(number) })
    }
}

/// When the row of requests ends.
#[derive(Clone, Copy, Debug)]
enum End {
    After(Duration),
    Count(u64),
}

/// Moments at which requests are due, counted from the start of the run, in ascending order.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    random: Random,
    mean_nanos: f64,
    next_nanos: f64,
    end: End,
}

impl Arrivals {
    /// So many a second on average, for so long.
    pub(crate) fn within(time: Duration, rate: f64, seed: u64) -> Self {
        Self::new(rate, seed, End::After(time))
    }

    /// So many a second on average, and so many in all.
    pub(crate) fn counted(count: u64, rate: f64, seed: u64) -> Self {
        Self::new(rate, seed, End::Count(count))
    }

    fn new(rate: f64, seed: u64, end: End) -> Self {
        let mut arrivals =
            Self { random: Random::new(seed), mean_nanos: 1e9 / rate, next_nanos: 0.0, end };
        arrivals.next_nanos = arrivals.gap();
        arrivals
    }

    /// About how long it takes until the last one is due.
    pub(crate) fn duration(&self) -> Duration {
        match self.end {
            End::After(time) => time,
            End::Count(count) => Duration::from_nanos((self.mean_nanos * count as f64) as u64),
        }
    }

    /// When the next one is due; `None` if there is none.
    pub(crate) fn due(&self) -> Option<Duration> {
        let next = Duration::from_nanos(self.next_nanos as u64);
        match self.end {
            End::After(end) => (next < end).then_some(next),
            End::Count(left) => (left > 0).then_some(next),
        }
    }

    /// Takes it.
    pub(crate) fn advance(&mut self) {
        self.next_nanos += self.gap();
        if let End::Count(left) = &mut self.end {
            *left = left.saturating_sub(1);
        }
    }

    /// Nanoseconds from one to the next: exponentially distributed.
    fn gap(&mut self) -> f64 {
        -(1.0 - self.random.unit()).ln() * self.mean_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut arrivals: Arrivals) -> Vec<Duration> {
        let mut seen = Vec::new();
        while let Some(due) = arrivals.due() {
            seen.push(due);
            arrivals.advance();
        }
        seen
    }

    #[test]
    fn arrivals_are_those_of_a_poisson_process() {
        let seen = all(Arrivals::within(Duration::from_secs(20), 5_000.0, 1));
        assert!((98_000..102_000).contains(&seen.len()), "{}", seen.len());
        assert!(seen.is_sorted() && seen.last() < Some(&Duration::from_secs(20)));
        // The variance of the number in a slice of time is its mean.
        let mut slices = [0.0_f64; 2_000];
        for due in &seen {
            slices[(due.as_millis() / 10) as usize] += 1.0;
        }
        let mean = slices.iter().sum::<f64>() / 2_000.0;
        let variance = slices.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 2_000.0;
        assert!((mean - 50.0).abs() < 1.0, "{mean}");
        assert!((variance - 50.0).abs() < 6.0, "{variance}");
    }

    #[test]
    fn rates_are_numbers_or_shares() {
        let parse = |text: &str| text.parse::<Rate>();
        assert_eq!(parse("1e3"), Ok(Rate::PerSecond(1_000.0)));
        assert_eq!(parse("25%"), Ok(Rate::OfPeak(0.25)));
        for wrong in ["", "0", "-5", "101%", "%", "fast", "NaN", "inf"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn as_many_as_asked_for_come() {
        let arrivals = Arrivals::counted(100, 1_000.0, 1);
        assert_eq!(arrivals.duration(), Duration::from_millis(100));
        assert_eq!(all(arrivals).len(), 100);
    }
}
