//! A profile as callgrind writes it, without its compressions.
//!
//! ```text
//! fn=of whom the costs that follow are
//! 0 12                          its own, by line
//! cfn=whom it calls
//! calls=3 0
//! 0 400                         what these calls cost, all included
//! ```

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

/// What functions cost, in instructions.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// By themselves.
    own: BTreeMap<String, u64>,
    /// With all that they call.
    whole: BTreeMap<String, u64>,
}

impl Profile {
    /// Reads a profile.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut profile = Self::default();
        let (mut function, mut of_calls) = (String::new(), false);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                plain(name).clone_into(&mut function);
            } else if line.starts_with("calls=") {
                of_calls = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let cost = line.split_whitespace().nth(1).unwrap_or("0");
                let cost: u64 = cost.parse().with_context(|| format!("in '{line}'"))?;
                *profile.whole.entry(function.clone()).or_default() += cost;
                if !std::mem::take(&mut of_calls) {
                    *profile.own.entry(function.clone()).or_default() += cost;
                }
            }
        }
        ensure!(!profile.own.is_empty(), "the profile is empty");
        Ok(profile)
    }

    /// What the function whose name ends so costs, with all that it calls; 0 if there is none.
    pub(super) fn whole(&self, name: &str) -> u64 {
        let named = self.whole.iter().filter(|(function, _)| function.ends_with(name));
        named.map(|(_, cost)| cost).sum()
    }

    /// The functions that cost most by themselves, the first one first.
    pub(super) fn first(&self, count: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> =
            self.own.iter().map(|(name, cost)| (name.as_str(), *cost)).collect();
        all.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        all.truncate(count);
        all
    }
}

/// A name without the hash that the compiler adds.
fn plain(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if is_hash(hash) => path,
        _ => name,
    }
}

fn is_hash(word: &str) -> bool {
    word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version: 1\nevents: Ir\nsummary: 512\n\n\
        fl=a.rs\nfn=it::leader::h0123456789abcdef\n0 10\nfi=b.rs\n0 2\n\
        cfi=c.rs\ncfn=it::work\ncalls=3 0\n0 400\n0 0\n\n\
        fn=it::work\n0 300\ncfn=memcpy\ncalls=9 0\n0 200\n\nfn=memcpy\n0 200\n\ntotals: 512\n";

    #[test]
    fn what_is_called_counts_for_the_whole_and_not_for_itself() {
        let profile = Profile::parse(TEXT).expect("it is well formed");
        assert_eq!(profile.whole("::leader"), 412);
        assert_eq!(profile.whole("::work"), 500);
        assert_eq!(profile.whole("::follower"), 0);
        assert_eq!(profile.first(2), [("it::work", 300), ("memcpy", 200)]);
        assert_eq!(profile.own["it::leader"], 12);
    }

    #[test]
    fn a_profile_of_nothing_is_an_error() {
        Profile::parse("version: 1\nsummary: 0\n").expect_err("nothing was counted");
    }
}
