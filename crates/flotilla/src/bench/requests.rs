//! What is asked for, one operation after the other.

use super::keys::{Distribution, Keys};
use super::random::Random;
use super::sizes::Sizes;
use super::workload::Mix;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GET
    Read,
    /// SET
    Write,
    /// GET, and when its reply is there SET of the same key: one operation, two requests
    Modify,
}

impl Kind {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Modify];

    /// As in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Modify => "read_modify_write",
        }
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// The key's number.
    pub(crate) key: u64,
    /// Of the value, if one is set.
    pub(crate) value_bytes: usize,
}

/// An endless or finite row of operations.
#[derive(Debug)]
pub(crate) struct Requests {
    random: Random,
    keys: Keys,
    sizes: Sizes,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// SETs, each key once, in order, from the first up to, not including, the second.
    Once(u64, u64),
    /// A read if a draw is below the first limit, else a modification below the second.
    Random { read_limit: u64, modify_limit: u64 },
}

/// How many different draws decide what an operation is.
const DRAWS: u64 = 1 << 32;

impl Requests {
    /// Sets every key once.
    pub(crate) fn fill(keys: u64, sizes: Sizes) -> Self {
        let order = Order::Once(0, keys);
        let keys = Keys::new(keys, Distribution::Uniform);
        Self { random: Random::new(0), keys, sizes, order }
    }

    /// Never ends.
    pub(crate) fn random(keys: u64, sizes: Sizes, mix: &Mix, seed: u64) -> Self {
        let limit = |share: f64| (share * DRAWS as f64) as u64;
        let read_limit = limit(mix.reads);
        let modify_limit = limit(mix.reads + mix.modifies);
        let order = Order::Random { read_limit, modify_limit };
        let keys = Keys::new(keys, mix.distribution);
        Self { random: Random::new(seed), keys, sizes, order }
    }
}

impl Iterator for Requests {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        let (kind, key) = match &mut self.order {
            Order::Once(next, end) if next == end => return None,
            Order::Once(next, _) => {
                *next += 1;
                (Kind::Write, *next - 1)
            }
            Order::Random { read_limit, modify_limit } => {
                let draw = self.random.draw() & (DRAWS - 1);
                let kind = if draw < *read_limit {
                    Kind::Read
                } else if draw < *modify_limit {
                    Kind::Modify
                } else {
                    Kind::Write
                };
                (kind, self.keys.draw(&mut self.random))
            }
        };
        let value_bytes = match kind {
            Kind::Read => 0,
            Kind::Write | Kind::Modify => self.sizes.draw(&mut self.random),
        };
        Some(Operation { kind, key, value_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workload::Workload;

    #[test]
    fn filling_sets_every_key_once() {
        let all: Vec<_> = Requests::fill(11, Sizes::of(28)).collect();
        assert_eq!(all.len(), 11);
        for (key, operation) in all.into_iter().enumerate() {
            let expected = Operation { kind: Kind::Write, key: key as u64, value_bytes: 28 };
            assert_eq!(operation, expected);
        }
    }

    #[test]
    fn shares_and_keys_are_as_asked() {
        for share in [0.0, 0.25, 1.0] {
            let mix = Mix::of_share(share);
            let all: Vec<_> = Requests::random(10, Sizes::of(1), &mix, 7).take(10_000).collect();
            let reads = all.iter().filter(|one| one.kind == Kind::Read).count();
            assert!((reads as f64 - share * 10_000.0).abs() < 200.0, "{share}: {reads}");
            for key in 0..10 {
                let hits = all.iter().filter(|one| one.key == key).count();
                assert!((800..1_200).contains(&hits), "{key}: {hits}");
            }
        }
        let mix = Workload::YcsbF.mix();
        let all = Requests::random(10, Sizes::of(1), &mix, 7).take(10_000);
        let modifies = all.filter(|one| one.kind == Kind::Modify).count();
        assert!((4_800..5_200).contains(&modifies), "{modifies}");
    }
}
