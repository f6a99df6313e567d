//! `cargo xtask replay TRACE`: a run of the simulator, line by line or as a drawing.
#![expect(clippy::print_stdout, reason = "a person steps through a trace")]

use std::fs;
use std::io::{BufRead as _, Write as _, stdin, stdout};

use anyhow::{Context as _, bail};
use flotilla_sim::Replay;

/// What to do with which trace.
#[derive(Debug, PartialEq)]
struct Options {
    trace: String,
    html: Option<String>,
    from: f64,
    until: f64,
    all: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options =
            Self { trace: String::new(), html: None, from: 0.0, until: f64::MAX, all: false };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--html" => options.html = Some(value()?.to_owned()),
                "--from" => options.from = value()?.parse().context("--from takes seconds")?,
                "--until" => options.until = value()?.parse().context("--until takes seconds")?,
                "--all" => options.all = true,
                _ if options.trace.is_empty() && !word.starts_with('-') => {
                    word.clone_into(&mut options.trace);
                }
                _ => bail!("'{word}' is not understood: try `cargo xtask help`"),
            }
        }
        if options.trace.is_empty() {
            bail!("which trace? `cargo xtask sim-one SEED` writes one");
        }
        Ok(options)
    }
}

/// Steps through a trace as lines from the input say, or draws it.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    let text = fs::read_to_string(&options.trace)
        .with_context(|| format!("can't read {}", options.trace))?;
    let mut replay = Replay::parse(&text).map_err(anyhow::Error::msg)?;
    if let Some(page) = &options.html {
        fs::write(page, replay.chart(options.from, options.until, options.all))
            .with_context(|| format!("can't write {page}"))?;
        println!("{page}");
        return Ok(());
    }
    println!("{}", replay.command("h").unwrap_or_default());
    if options.from > 0.0 {
        println!("{}", replay.command(&format!("t {}", options.from)).unwrap_or_default());
    }
    loop {
        print!("> ");
        stdout().flush()?;
        let mut line = String::new();
        if stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        match replay.command(&line) {
            Some(answer) => println!("{answer}"),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_arguments() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words)
        };
        let options = parse("t.trace --html p.html --from 2 --until 3.5").expect("well formed");
        assert_eq!((options.from, options.until, options.all), (2.0, 3.5, false));
        assert_eq!(options.html.as_deref(), Some("p.html"));
        for wrong in ["", "--html x", "a b", "a --from x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
