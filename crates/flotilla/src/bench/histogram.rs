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

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The latency that a share of all requests, from 0 to 1, did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, requests) in self.counts.iter().enumerate() {
            seen += requests;
            if seen >= rank {
                return Duration::from_nanos(highest(bucket).min(self.max_nanos));
            }
        }
        self.max()
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
    fn a_reply_to_many_counts_as_many_and_none_is_zero() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        histogram.record(Duration::from_nanos(10), 99);
        histogram.record(Duration::from_millis(1), 1);
        assert_eq!(histogram.quantile(0.99), Duration::from_nanos(10));
        assert_eq!(histogram.quantile(0.991), Duration::from_millis(1));
    }
}
