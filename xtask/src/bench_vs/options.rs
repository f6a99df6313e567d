//! What is compared, and how long.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::peers::Kind;
use super::points::Group;

/// How to measure.
#[derive(Debug, PartialEq)]
pub(super) struct Options {
    /// What to measure, in this order.
    pub(super) groups: Vec<Group>,
    /// Whom to measure beside.
    pub(super) peers: Vec<Kind>,
    /// One run.
    pub(super) seconds: f64,
    /// Runs of each system.
    pub(super) rounds: u32,
    /// To see that everything works: short, few points of each group, no look at the noise.
    pub(super) quick: bool,
    /// Below it everything is stored.
    pub(super) data: PathBuf,
    /// Where the page and the drawing go, if not into the target's directory.
    pub(super) out: Option<PathBuf>,
    /// A binary of Flotilla, instead of building one.
    pub(super) program: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after the verb.
    pub(super) fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut options = Self {
            groups: Group::ALL.to_vec(),
            peers: Kind::ALL.to_vec(),
            seconds: if quick { 1.0 } else { 5.0 },
            rounds: if quick { 2 } else { 7 },
            quick,
            data: PathBuf::from("."),
            out: None,
            program: None,
        };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--quick");
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "--rows" => options.groups = list(value()?, Group::of_name)?,
                "--peers" => options.peers = list(value()?, Kind::of_name)?,
                "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--data" => options.data = PathBuf::from(value()?),
                "--out" => options.out = Some(PathBuf::from(value()?)),
                "--program" => options.program = Some(PathBuf::from(value()?)),
                _ => bail!(
                    "'{name}' is no option of bench-vs: it takes raft, or --rows, --peers, \
                     --seconds, --rounds, --quick, --data, --out, --program"
                ),
            }
        }
        ensure!(options.seconds > 0.0 && options.rounds > 0, "nothing would be measured");
        Ok(options)
    }
}

fn list<T>(text: &str, of_name: fn(&str) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    text.split(',').map(of_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_defaults() {
        let options = parse("").expect("nothing is right");
        assert_eq!((options.rounds, options.quick), (7, false));
        assert_eq!(options.groups, Group::ALL);
        let options = parse("--rows open,ycsb --quick --peers redis").expect("they are right");
        assert_eq!(options.groups, [Group::Open, Group::Ycsb]);
        assert_eq!((options.peers, options.rounds), (vec![Kind::Redis], 2));
        assert_eq!(parse("--quick --rounds 3").expect("they are right").rounds, 3);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            ("--rows fast", "fast"),
            ("--peers mongo", "mongo"),
            ("--rounds", "--rounds needs a value"),
            ("--rounds 0", "nothing would be measured"),
            ("--speed 3", "--speed"),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(part), "{error}");
        }
    }
}
