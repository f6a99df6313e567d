//! How two systems compare: the median over pairs of runs, and how sure it is.
//!
//! The two runs of a pair follow each other, so what the machine gave them differs less than what
//! it gave one system at different times. The interval is that of a bootstrap: as many pairs are
//! drawn from those measured, with repetition, again and again, and 95 % of their medians lie
//! within it [Efron 1979].

use serde::Serialize;

use super::random::Random;
use super::row::Row;

/// How often pairs are drawn.
const RESAMPLES: usize = 4_000;
/// With fewer pairs even their least and greatest ratio hold the median with less than 95 %.
const PAIRS_MIN: usize = 6;
/// Left out of the interval at each end.
const TAIL: f64 = 0.025;

/// A ratio of one system to another.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    /// Of how many pairs.
    pub(crate) pairs: usize,
    /// Their median.
    pub(crate) median: f64,
    /// Within which it lies with 95 %; `None` if the pairs are too few to tell.
    pub(crate) interval: Option<[f64; 2]>,
}

impl Ratio {
    /// The ratios of two lists of which equal places are a pair; `None` if there is no pair with
    /// two numbers above zero.
    pub(crate) fn of_pairs(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let pairs = ours.iter().zip(theirs).filter(|&(&a, &b)| a > 0.0 && b > 0.0);
        let logs: Vec<f64> = pairs.map(|(ours, theirs)| (ours / theirs).ln()).collect();
        if logs.is_empty() {
            return None;
        }
        let interval = (logs.len() >= PAIRS_MIN).then(|| interval(&logs));
        Some(Self { pairs: logs.len(), median: median(logs).exp(), interval })
    }
}

/// The logarithms of ratios to the interval of their median.
fn interval(logs: &[f64]) -> [f64; 2] {
    // Always the same seed: whoever computes it again comes to the same.
    let mut random = Random::new(0);
    let mut drawn = || logs[random.below(logs.len() as u64) as usize];
    let mut medians: Vec<f64> =
        (0..RESAMPLES).map(|_| median((0..logs.len()).map(|_| drawn()).collect())).collect();
    medians.sort_by(f64::total_cmp);
    let cut = (TAIL * RESAMPLES as f64) as usize;
    [medians[cut], medians[RESAMPLES - 1 - cut]].map(f64::exp)
}

/// Of at least one number.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        f64::midpoint(numbers[middle - 1], numbers[middle])
    }
}

/// One system relative to another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratios {
    /// The other one.
    pub(crate) to: String,
    /// More is better; in an open loop it says nothing, both are asked for as much.
    pub(crate) operations_per_second: Option<Ratio>,
    /// Less is better, here and below.
    pub(crate) p50: Option<Ratio>,
    pub(crate) p99: Option<Ratio>,
    pub(crate) p999: Option<Ratio>,
    /// Of the servers' CPU time per operation.
    pub(crate) servers_cpu: Option<Ratio>,
}

impl Ratios {
    /// Of runs of which equal places are a pair.
    pub(crate) fn of_runs(ours: &[Row], theirs: &[Row]) -> Self {
        let ratio = |of: fn(&Row) -> Option<f64>| {
            let all = |rows: &[Row]| -> Vec<f64> {
                rows.iter().map(|row| of(row).unwrap_or_default()).collect()
            };
            Ratio::of_pairs(&all(ours), &all(theirs))
        };
        Self {
            to: theirs.first().map(|row| row.system.clone()).unwrap_or_default(),
            operations_per_second: ratio(|row| Some(row.operations_per_second)),
            p50: ratio(|row| Some(row.latency_micros.p50)),
            p99: ratio(|row| Some(row.latency_micros.p99)),
            p999: ratio(|row| Some(row.latency_micros.p999)),
            servers_cpu: ratio(|row| row.cpu_micros_per_operation.servers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let ratio = Ratio::of_pairs(&[2.0, 10.0, 3.0], &[1.0, 10.0, 2.0]).expect("three pairs");
        assert!((ratio.median - 1.5).abs() < 1e-9);
        assert_eq!((ratio.pairs, ratio.interval), (3, None));
        assert!(Ratio::of_pairs(&[], &[]).is_none());
        assert!(Ratio::of_pairs(&[1.0], &[0.0]).is_none());
    }

    #[test]
    fn the_interval_holds_the_median_and_grows_with_noise() {
        let pairs = |noise: f64| {
            let ours: Vec<f64> = (0..9).map(|at| 2.0 + noise * f64::from(at - 4)).collect();
            Ratio::of_pairs(&ours, &[1.0; 9]).expect("nine pairs")
        };
        let (calm, loud) = (pairs(0.01), pairs(0.1));
        for ratio in [calm, loud] {
            let [low, high] = ratio.interval.expect("there are enough");
            assert!(low < 2.0 && 2.0 < high, "{ratio:?}");
            assert!((ratio.median - 2.0).abs() < 1e-9);
        }
        let width = |ratio: Ratio| ratio.interval.map_or(0.0, |[low, high]| high - low);
        assert!(width(loud) > 5.0 * width(calm));
    }

    #[test]
    fn an_even_number_has_two_in_the_middle() {
        assert!((median(vec![4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-12);
    }
}
