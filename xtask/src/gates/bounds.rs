//! What a SET cost when it was measured last, and what it is to cost: a text file with a line for
//! each measure, `name measured must aim`, and comments.
//!
//! A measure fails at 5 % more than the last one. At 5 % less somebody should write it down, or the
//! next loss would pass for nothing; who reads the run is told.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::root;

/// So much more is a failure, and so much less is to be written down, percent.
const TOLERANCE_PERCENT: f64 = 5.0;
/// Counts are printed with so many digits behind the point at most: less is no difference.
const RESOLUTION: f64 = 0.001;

/// The file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq)]
enum Line {
    /// A comment, or nothing.
    Other(String),
    Measure {
        name: String,
        measured: f64,
        must: String,
        aim: String,
    },
}

/// What was measured now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measure {
    pub(super) name: String,
    pub(super) value: f64,
}

impl Bounds {
    /// What the repository has.
    pub(super) fn read() -> anyhow::Result<Self> {
        let path = path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [name, measured, must, aim] if !name.starts_with('#') => {
                    let measured = measured.parse().with_context(|| format!("in '{line}'"))?;
                    let (must, aim) = (must.to_owned(), aim.to_owned());
                    Ok(Line::Measure { name: name.to_owned(), measured, must, aim })
                }
                [] => Ok(Line::Other(String::new())),
                [word, ..] if word.starts_with('#') => Ok(Line::Other(line.to_owned())),
                _ => bail!("no measure, and no comment: '{line}'"),
            }
        });
        Ok(Self { lines: lines.collect::<anyhow::Result<_>>()? })
    }

    /// Puts what was measured now in the place of what was measured last.
    pub(super) fn take(&mut self, measures: &[Measure]) -> anyhow::Result<()> {
        for now in measures {
            let last = self.lines.iter_mut().find_map(|line| match line {
                Line::Measure { name, measured, .. } if *name == now.name => Some(measured),
                _ => None,
            });
            *last.with_context(|| format!("no line for {}", now.name))? = now.value;
        }
        Ok(())
    }

    /// Writes the file.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let path = path();
        fs::write(&path, self.text()).with_context(|| format!("can't write {}", path.display()))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let written = match line {
                Line::Other(line) => writeln!(text, "{line}"),
                Line::Measure { name, measured, must, aim } => {
                    let measured = number(*measured);
                    writeln!(text, "{name:<36} {measured:>10} {must:>8} {aim:>8}")
                }
            };
            written.expect("a string takes everything");
        }
        text
    }

    /// What is to be said of the measures, a line each; an error if one is too much.
    pub(super) fn judge(&self, measures: &[Measure]) -> anyhow::Result<Vec<String>> {
        let (mut said, mut failed) = (Vec::new(), Vec::new());
        for now in measures {
            let (last, must, aim) = self.of(&now.name)?;
            let value = now.value;
            let (most, least) = (
                last * (1.0 + TOLERANCE_PERCENT / 100.0),
                last * (1.0 - TOLERANCE_PERCENT / 100.0),
            );
            let line = format!(
                "{}: {} now, {} when it was measured last (must {must}, aim {aim})",
                now.name,
                number(value),
                number(last)
            );
            if value > most + RESOLUTION {
                failed.push(format!("{line}: more than {TOLERANCE_PERCENT} % worse"));
            } else if value < least - RESOLUTION {
                said.push(format!("{line}: better; write it down with --write"));
            } else {
                said.push(line);
            }
        }
        if !failed.is_empty() {
            bail!("a SET costs too much:\n  {}", failed.join("\n  "));
        }
        Ok(said)
    }

    fn of(&self, wanted: &str) -> anyhow::Result<(f64, &str, &str)> {
        let found = self.lines.iter().find_map(|line| match line {
            Line::Measure { name, measured, must, aim } if name == wanted => {
                Some((*measured, must.as_str(), aim.as_str()))
            }
            _ => None,
        });
        found.with_context(|| format!("{} has no line for {wanted}", path().display()))
    }
}

/// Judges what was measured and prints what is to be said of it, or writes it down.
pub(super) fn settle(measures: &[Measure], write: bool) -> anyhow::Result<()> {
    let mut bounds = Bounds::read()?;
    if write {
        bounds.take(measures)?;
        bounds.write()?;
        println!("written to {}", path().display());
        return Ok(());
    }
    for line in bounds.judge(measures)? {
        println!("{line}");
    }
    Ok(())
}

/// A count as people read it: large ones without fractions.
pub(super) fn number(value: f64) -> String {
    if value >= 100.0 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn path() -> PathBuf {
    root().join("crates/node/benches/bounds.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# What it costs.\n\nsteps 1000 600 300\nturns 0 0 0\n";

    fn bounds() -> Bounds {
        Bounds::parse(TEXT).expect("it is well formed")
    }

    fn measured(name: &str, value: f64) -> [Measure; 1] {
        [Measure { name: name.to_owned(), value }]
    }

    #[test]
    fn five_percent_more_fails_and_five_less_is_to_be_written_down() {
        let judge = |value| bounds().judge(&measured("steps", value));
        for fine in [951.0, 1000.0, 1049.0] {
            let said = judge(fine).expect("it is near enough");
            assert!(!said[0].contains("--write"), "{said:?}");
        }
        assert!(judge(949.0).expect("it is better")[0].contains("--write"));
        let error = judge(1051.0).expect_err("it is worse").to_string();
        assert!(error.contains("1051 now, 1000 when") && error.contains("must 600"), "{error}");
    }

    #[test]
    fn of_nothing_nothing_more_is_allowed() {
        bounds().judge(&measured("turns", 0.0)).expect("as it was");
        bounds().judge(&measured("turns", 0.03)).expect_err("an allocation a turn of 32");
    }

    #[test]
    fn a_measure_without_a_line_is_an_error() {
        bounds().judge(&measured("other", 1.0)).expect_err("nobody said what it may be");
        bounds().take(&measured("other", 1.0)).expect_err("nor what it is to be");
    }

    #[test]
    fn what_is_written_is_read_again_with_its_comments() {
        let mut bounds = bounds();
        bounds.take(&measured("steps", 912.25)).expect("there is a line");
        let again = Bounds::parse(&bounds.text()).expect("it is well formed");
        assert_eq!(again.of("steps").expect("it is there"), (912.0, "600", "300"));
        assert!(bounds.text().starts_with("# What it costs.\n\nsteps"));
        Bounds::parse("steps many 1 2").expect_err("no number");
        Bounds::parse("steps 1").expect_err("no targets");
    }

    #[test]
    fn the_repositorys_own_is_well_formed() {
        let bounds = Bounds::read().expect("it is there and well formed");
        let words = bounds.text();
        assert_eq!(Bounds::parse(&words).expect("as it was").text(), words);
    }
}
