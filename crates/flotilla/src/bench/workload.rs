//! What is measured: which operations, in which shares, on which keys.

use clap::ValueEnum;

use super::keys::Distribution;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// SET only
    Set,
    /// GET only
    Get,
    /// Both
    Mixed,
    /// YCSB A: half GET, half SET, zipfian keys
    YcsbA,
    /// YCSB B: 95 % GET, 5 % SET, zipfian keys
    YcsbB,
    /// YCSB C: GET, zipfian keys
    YcsbC,
    /// YCSB F: half GET, half GET and then SET of the same key, zipfian keys
    YcsbF,
}

/// The shares of operations, and the keys they are for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    /// As in reports.
    pub(crate) name: &'static str,
    /// How many of all operations are a GET alone, from 0 to 1.
    pub(crate) reads: f64,
    /// How many read a key, wait for its value, and then set it. All others are a SET alone.
    pub(crate) modifies: f64,
    /// How keys are chosen.
    pub(crate) distribution: Distribution,
}

impl Workload {
    /// Its shares, and its keys if nothing else is asked for.
    pub(crate) fn mix(self) -> Mix {
        let (name, reads, modifies, distribution) = match self {
            Self::Set => ("set", 0.0, 0.0, Distribution::Uniform),
            Self::Get => ("get", 1.0, 0.0, Distribution::Uniform),
            Self::Mixed => ("mixed", 0.5, 0.0, Distribution::Uniform),
            Self::YcsbA => ("ycsb-a", 0.5, 0.0, Distribution::Zipfian),
            Self::YcsbB => ("ycsb-b", 0.95, 0.0, Distribution::Zipfian),
            Self::YcsbC => ("ycsb-c", 1.0, 0.0, Distribution::Zipfian),
            Self::YcsbF => ("ycsb-f", 0.5, 0.5, Distribution::Zipfian),
        };
        Mix { name, reads, modifies, distribution }
    }
}

impl Mix {
    /// Uniform keys and so many reads, from 0 to 1.
    pub(crate) fn of_share(reads: f64) -> Self {
        let workload = match reads {
            0.0 => Workload::Set,
            1.0 => Workload::Get,
            _ => Workload::Mixed,
        };
        Self { reads, ..workload.mix() }
    }

    /// For people.
    pub(crate) fn label(&self) -> String {
        match self.name {
            "mixed" => format!("{} % get", (self.reads * 100.0).round()),
            name => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_whole() {
        for workload in Workload::value_variants() {
            let mix = workload.mix();
            assert!(mix.reads + mix.modifies <= 1.0, "{mix:?}");
        }
    }

    #[test]
    fn a_share_of_reads_has_a_name() {
        let labels = [0.0, 0.9, 1.0].map(|share| Mix::of_share(share).label());
        assert_eq!(labels, ["set", "90 % get", "get"]);
    }
}
