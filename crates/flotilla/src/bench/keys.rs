//! Which keys are asked for: all alike, or a few far more often than the others.
//!
//! The skewed choice is that of YCSB's core workloads, its *scrambled zipfian*: ranks are drawn
//! with a zipfian distribution of exponent 0.99 over ten thousand million items [Gray et al. 1994],
//! and a hash spreads them over the keys, so that the popular ones don't lie side by side
//! [Cooper et al. 2010]. The first rank gets 3.8 % of all requests, however many keys there are.

use clap::ValueEnum;

use super::random::Random;

/// The exponent of YCSB.
const THETA: f64 = 0.99;
/// Over how many items YCSB draws, whatever the number of keys is.
const ITEMS: f64 = 1e10;
/// The sum of `1 / rank^THETA` over so many items, as YCSB writes it.
const ZETA: f64 = 26.469_028_201_783_02;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// Every key alike
    Uniform,
    /// Some keys far more often than others: the scrambled zipfian of YCSB, exponent 0.99
    Zipfian,
}

impl Distribution {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipfian => "zipfian",
        }
    }
}

/// Draws keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    count: u64,
    zipfian: Option<Zipfian>,
}

impl Keys {
    /// Keys from 0 up to, not including, `count`, which is not 0.
    pub(crate) fn new(count: u64, distribution: Distribution) -> Self {
        let zipfian = (distribution == Distribution::Zipfian).then(Zipfian::new);
        Self { count, zipfian }
    }

    /// The next key.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        match &self.zipfian {
            None => random.below(self.count),
            Some(zipfian) => scrambled(zipfian.rank(random.unit())) % self.count,
        }
    }
}

/// The constants of Gray's method.
#[derive(Clone, Debug)]
struct Zipfian {
    /// Below this part of the sum lies the second rank.
    second: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    fn new() -> Self {
        let second = 1.0 + 0.5_f64.powf(THETA);
        let eta = (1.0 - (2.0 / ITEMS).powf(1.0 - THETA)) / (1.0 - second / ZETA);
        Self { second, alpha: 1.0 / (1.0 - THETA), eta }
    }

    /// The rank, from 0, at this place of the distribution, from 0 to 1.
    fn rank(&self, place: f64) -> u64 {
        let part = place * ZETA;
        if part < 1.0 {
            0
        } else if part < self.second {
            1
        } else {
            (ITEMS * (self.eta * place - self.eta + 1.0).powf(self.alpha)) as u64
        }
    }
}

/// FNV-1a over the eight bytes of a number, without the sign that YCSB's Java gives it.
fn scrambled(rank: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in rank.to_le_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash.cast_signed().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: u64, distribution: Distribution, draws: u32) -> Vec<f64> {
        let (keys, mut random) = (Keys::new(count, distribution), Random::new(3));
        let mut seen = vec![0_u32; count as usize];
        for _ in 0..draws {
            seen[keys.draw(&mut random) as usize] += 1;
        }
        let mut shares: Vec<f64> = seen.iter().map(|&n| f64::from(n) / f64::from(draws)).collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        shares
    }

    #[test]
    fn uniform_keys_come_alike_often() {
        let shares = shares(10, Distribution::Uniform, 100_000);
        assert!(shares.iter().all(|share| (0.095..0.105).contains(share)), "{shares:?}");
    }

    #[test]
    fn zipfian_keys_follow_their_law() {
        let shares = shares(1_000_000, Distribution::Zipfian, 400_000);
        // 1 / ZETA, and the same by 2^0.99 and by 10^0.99.
        for (rank, expected) in [(1, 0.037_78), (2, 0.019_02), (10, 0.003_87)] {
            let share = shares[rank - 1];
            assert!((share / expected - 1.0).abs() < 0.12, "rank {rank}: {share}");
        }
        let hundred: f64 = shares[..100].iter().sum();
        assert!((0.17..0.23).contains(&hundred), "{hundred}");
    }

    #[test]
    fn ranks_have_no_holes_and_no_end_beyond_the_items() {
        let zipfian = Zipfian::new();
        assert_eq!([0.0, 0.037, 0.038, 0.056].map(|place| zipfian.rank(place)), [0, 0, 1, 1]);
        assert!((2..5).contains(&zipfian.rank(0.0569)));
        assert!(zipfian.rank(1.0 - f64::EPSILON) <= ITEMS as u64);
    }

    #[test]
    fn the_hash_is_that_of_ycsb() {
        // Of Java's `Utils.fnvhash64`: the offset basis eight times multiplied, for rank 0.
        let zero = (0..8)
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, _| hash.wrapping_mul(0x0000_0100_0000_01b3));
        assert_eq!(scrambled(0), zero.cast_signed().unsigned_abs());
        assert_ne!(scrambled(1), scrambled(2));
    }
}
