//! The one source of chance of a run: xoshiro256** seeded by splitmix64 [Blackman and Vigna, 2018].

/// Numbers that look random; the sequence of them is a function of the seed.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut at = seed;
        let mut word = || {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = at;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        Self { state: [word(), word(), word(), word()] }
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        let state = &mut self.state;
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// Uniform in `0..bound`, near enough. Panics for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        self.word() % bound
    }

    /// Uniform in `low..=high`. Panics if that is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "the range is not empty");
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A position in something of that length. Panics if it is empty.
    pub fn position(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a usize")
    }

    /// One of `items`. Panics if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.position(items.len())]
    }

    /// A time that is mostly near `usual` and now and then many times as long: the tail of a real
    /// network or disk.
    pub fn heavy_tailed(&mut self, usual: u64) -> u64 {
        let usual = usual.max(1);
        let factor = match self.below(1_000) {
            0..900 => 1,
            900..980 => 4,
            980..998 => 20,
            _ => 60,
        };
        self.between(usual / 2, usual * 3 / 2) * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_a_function_of_the_seed() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            std::array::from_fn::<u64, 8, _>(|_| random.word())
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        for _ in 0..1_000 {
            seen[usize::try_from(random.between(3, 7) - 3).expect("small")] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }
}
