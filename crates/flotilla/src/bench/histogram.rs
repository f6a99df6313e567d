//! Latencies, counted in buckets that are narrow where the numbers are small.
//!
//! Between two powers of two lie 128 buckets, so what a quantile says is at most 0.8 % above what
//! was recorded, and never below it. The memory is the same whatever is recorded.

use std::time::Duration;

/// Buckets between two powers of two, as a power of two.
const PRECISION_BITS: u32 = 7;
const PER_POWER: u64 = 1 << PRECISION_BITS;
/// Enough for every `u64`.
const BUCKETS: usize = ((u64::BITS - PRECISION_BITS + 1) << PRECISION_BITS) as usize;

/// How often which latency was seen.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, max_nanos: 0 }
    }
}

impl Histogram {
    /// Counts a latency that so many requests had.
    pub(crate) fn record(&mut self, latency: Duration, requests: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += requests;
        self.count += requests;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Counts what another one has counted as well.
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// Every latency that was seen, in ascending order, with the number of requests that did not
    /// exceed it.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut seen = 0;
        let filled = self.counts.iter().enumerate().filter(|&(_, &requests)| requests > 0);
        filled.map(move |(bucket, requests)| {
            seen += requests;
            (Duration::from_nanos(highest(bucket).min(self.max_nanos)), seen)
        })
    }

    /// Of how many requests the latency is longer.
    #[cfg(test)]
    pub(crate) fn count_above(&self, latency: Duration) -> u64 {
        let within = self.steps().take_while(|&(step, _)| step <= latency).last();
        self.count - within.map_or(0, |(_, seen)| seen)
    }

    /// The average.
    pub(crate) fn mean(&self) -> Duration {
        let sum: f64 = (self.counts.iter().enumerate())
            .map(|(bucket, &requests)| highest(bucket).min(self.max_nanos) as f64 * requests as f64)
            .sum();
        Duration::from_nanos((sum / self.count.max(1) as f64) as u64)
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The latency that a share of all requests, from 0 to 1, did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        self.steps().find(|&(_, seen)| seen >= rank).map_or(self.max(), |(latency, _)| latency)
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < PER_POWER {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - PRECISION_BITS;
    // The highest bit says which power of two, the next ones which bucket above it.
    (u64::from(shift) * PER_POWER + (nanos >> shift)) as usize
}

/// The largest number of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / PER_POWER).saturating_sub(1);
    let above = bucket - shift * PER_POWER;
    (above << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_in_its_bucket_and_near_its_end() {
        let around = (0..64).flat_map(|power| {
            let number = 1_u64 << power;
            [number - 1, number, number + 1, number + number / 3, number + (number - 1)]
        });
        for number in around.chain([u64::MAX]) {
            let at = bucket(number);
            assert!(at < BUCKETS, "{number}");
            let end = highest(at);
            assert!(end >= number && end - number <= number / PER_POWER, "{number} {end}");
            assert!(at == 0 || highest(at - 1) < number, "{number}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros), 1);
        }
        for (share, micros) in
            [(0.0, 1), (0.5, 5_000), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)]
        {
            let exact = Duration::from_micros(micros);
            let said = histogram.quantile(share);
            assert!(said >= exact && said <= exact.mul_f64(1.008), "{share}: {said:?}");
        }
        assert_eq!((histogram.count(), histogram.max()), (10_000, Duration::from_millis(10)));
    }

    #[test]
    fn two_added_are_one() {
        let (mut even, mut odd, mut all) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for micros in 1..=1_000 {
            let latency = Duration::from_micros(micros * 7);
            if micros % 2 == 0 { &mut even } else { &mut odd }.record(latency, 1);
            all.record(latency, 1);
        }
        even.add(&odd);
        assert!(even.steps().eq(all.steps()));
        assert_eq!((even.count(), even.max()), (all.count(), all.max()));
        assert_eq!(even.steps().last(), Some((all.max(), 1_000)));
        let tenth = all.count_above(all.quantile(0.9));
        assert!((92..=100).contains(&tenth), "less than a bucket is missing: {tenth}");
        let mean = all.mean().as_secs_f64() / Duration::from_nanos(3_503_500).as_secs_f64();
        assert!((1.0..1.008).contains(&mean), "{mean}");
    }

    #[test]
    fn a_reply_to_many_counts_as_many_and_none_is_zero() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        histogram.record(Duration::from_nanos(10), 99);
        histogram.record(Duration::from_millis(1), 1);
        assert_eq!(histogram.quantile(0.99), Duration::from_nanos(10));
        assert_eq!(histogram.quantile(0.991), Duration::from_millis(1));
    }
}
