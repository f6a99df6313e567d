//! `cargo xtask chaos`: the chaos test for longer than in CI.

use std::num::NonZeroU64;

use anyhow::{Context as _, bail};

use crate::{cargo, shown};

/// How long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    minutes: NonZeroU64,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let minutes = match words[..] {
            [] => NonZeroU64::MIN,
            ["--minutes", minutes] => minutes.parse().context("--minutes is a number above 0")?,
            _ => bail!("'{}' is not understood: try `cargo xtask help`", words.join(" ")),
        };
        Ok(Self { minutes })
    }
}

/// Runs the test, a round a minute.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut test = cargo("test --package flotilla --test e2e chaos:: -- --nocapture");
    let seconds = options.minutes.get().saturating_mul(60);
    test.env("FLOTILLA_CHAOS_SECONDS", seconds.to_string());
    let name = shown(&test);
    if !test.status().with_context(|| format!("can't run {name}"))?.success() {
        bail!("{name} has failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> anyhow::Result<Options> {
        Options::parse(&crate::arguments_of(words))
    }

    #[test]
    fn minutes_are_a_number_above_zero() {
        assert_eq!(parsed(&[]).expect("a minute").minutes.get(), 1);
        assert_eq!(parsed(&["--minutes", "30"]).expect("half an hour").minutes.get(), 30);
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["--hours", "1"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
