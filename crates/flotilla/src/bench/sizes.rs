//! How large values are: all alike, or any size between two.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::random::Random;

/// A larger value is none that Redis takes.
const BYTES_MAX: usize = 512 << 20;

/// Sizes of values, from one to the other; drawn evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    least: usize,
    most: usize,
}

impl Sizes {
    /// One size.
    #[cfg(test)]
    pub(crate) fn of(bytes: usize) -> Self {
        Self { least: bytes, most: bytes }
    }

    /// The largest.
    pub(crate) fn most(self) -> usize {
        self.most
    }

    /// The next value's size.
    pub(crate) fn draw(self, random: &mut Random) -> usize {
        match self.most - self.least {
            0 => self.least,
            span => self.least + random.below(span as u64 + 1) as usize,
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let bytes = text.parse().ok().filter(|&bytes| bytes <= BYTES_MAX);
            bytes.ok_or_else(|| format!("give a size up to {BYTES_MAX}, or two as 16..1024"))
        };
        let (least, most) = match text.split_once("..") {
            Some((least, most)) => (number(least)?, number(most)?),
            None => (number(text)?, number(text)?),
        };
        if least > most {
            return Err("the first of two sizes is the smaller one".to_owned());
        }
        Ok(Self { least, most })
    }
}

impl Serialize for Sizes {
    /// One size is a number, two are text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.least == self.most {
            serializer.serialize_u64(self.least as u64)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (least, most) if least == most => write!(formatter, "{least}"),
            (least, most) => write!(formatter, "{least}..{most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_or_between_two() {
        let mut random = Random::new(1);
        let sizes: Sizes = "3..5".parse().expect("two sizes");
        let drawn: Vec<_> = (0..100).map(|_| sizes.draw(&mut random)).collect();
        assert!((3..=5).all(|bytes| drawn.contains(&bytes)), "{drawn:?}");
        assert!(drawn.iter().all(|bytes| (3..=5).contains(bytes)), "{drawn:?}");
        assert_eq!("64".parse::<Sizes>().expect("a size").draw(&mut random), 64);
        assert_eq!([Sizes::of(7).to_string(), sizes.to_string()], ["7", "3..5"]);
        for wrong in ["", "x", "5..3", "1..", "-1", "536870913"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
