//! A run's story as a file: a script, and after it everything that happened, a line each. What is
//! here reads it again: from line to line, to a moment, to a word, with the state of all replicas
//! at each place and the difference between two places.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::run::{Failure, Report, run};
use crate::script::Script;

/// The first line of a trace.
const HEAD: &str = "flotilla-sim trace 1";

/// Runs a script and gives its trace, whatever comes of it.
pub fn trace_of(script: &Script) -> (String, Result<Report, Failure>) {
    let lines = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let sink = std::sync::Arc::clone(&lines);
    let listener = Box::new(move |line: &str| {
        let mut sink = sink.lock().expect("nobody panics with the lines");
        sink.push_str(line);
        sink.push('\n');
    });
    let outcome = run(script.seed, script.config(), Some(listener));
    let mut text = format!("{HEAD}\n");
    for line in script.to_string().lines() {
        writeln!(text, "| {line}").expect("a string takes everything");
    }
    text.push_str(&lines.lock().expect("the run is over"));
    (text, outcome)
}

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Seconds and microseconds, as text.
    pub(crate) at: String,
    /// What happened.
    pub(crate) what: String,
}

/// A trace, and a place in it.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What was run.
    pub script: Script,
    pub(crate) lines: Vec<Told>,
    place: usize,
    shown: BTreeMap<String, String>,
}

/// What [`Replay::command`] understands.
const HELP: &str = "\
  n [COUNT]    the next lines
  t SECONDS    go to that moment
  b WORDS      go on to the next line with these words
  s            the state of every replica here
  d            what is different from the last time states were shown
  q            the end";

impl Replay {
    /// Reads a trace. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(format!("a trace begins with '{HEAD}'"));
        }
        let mut script = String::new();
        let mut told: Vec<Told> = Vec::new();
        for line in lines {
            match line.strip_prefix("| ") {
                Some(line) => {
                    script.push_str(line);
                    script.push('\n');
                }
                None => told.push(Told::of(line)),
            }
        }
        let script = Script::parse(&script)?;
        Ok(Self { script, lines: told, place: 0, shown: BTreeMap::new() })
    }

    /// Does what a line of a person says, and gives the answer; `None` at the end.
    pub fn command(&mut self, line: &str) -> Option<String> {
        let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        Some(match verb {
            "q" => return None,
            "" | "n" => self.next(rest.parse().unwrap_or(1)),
            "t" => match rest.parse::<f64>() {
                Ok(seconds) => self.go_to(seconds),
                Err(_) => "t takes seconds, for example t 3.25".to_string(),
            },
            "b" => self.break_at(rest),
            "s" => {
                self.shown = self.states();
                listed(&self.shown)
            }
            "d" => self.difference(),
            _ => HELP.to_string(),
        })
    }

    fn next(&mut self, count: usize) -> String {
        let end = (self.place + count).min(self.lines.len());
        let lines: Vec<String> = self.lines[self.place..end].iter().map(Told::line).collect();
        self.place = end;
        if lines.is_empty() { "the end".to_string() } else { lines.join("\n") }
    }

    fn go_to(&mut self, seconds: f64) -> String {
        let before = |told: &Told| told.at.parse::<f64>().is_ok_and(|at| at < seconds);
        self.place = self.lines.iter().position(|told| !before(told)).unwrap_or(self.lines.len());
        self.here()
    }

    fn break_at(&mut self, words: &str) -> String {
        let next = self.lines.iter().skip(self.place + 1).position(|t| t.what.contains(words));
        match next {
            Some(after) => {
                self.place += 1 + after;
                self.here()
            }
            None => format!("'{words}' does not come any more"),
        }
    }

    fn here(&self) -> String {
        self.lines.get(self.place).map_or_else(|| "the end".to_string(), Told::line)
    }

    /// Every replica, as it was told last before this place.
    fn states(&self) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for told in &self.lines[..self.place] {
            let mut words = told.what.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("state"), Some(node), Some(shard), Some(state)) => {
                    states.insert(format!("node {node} shard {shard}"), state.to_string());
                }
                (Some("node"), Some(node), Some("loses"), Some(what)) if what.contains("power") => {
                    let prefix = format!("node {node} ");
                    states.retain(|name, _| !name.starts_with(&prefix));
                }
                _ => {}
            }
        }
        states
    }

    fn difference(&mut self) -> String {
        let now = self.states();
        let mut lines = BTreeMap::new();
        for name in now.keys().chain(self.shown.keys()) {
            let (before, after) = (self.shown.get(name), now.get(name));
            if before != after {
                let text = |state: Option<&String>| state.map_or("off", |state| state).to_string();
                lines.insert(name.clone(), format!("{}  →  {}", text(before), text(after)));
            }
        }
        self.shown = now;
        listed(&lines)
    }
}

impl Told {
    fn of(line: &str) -> Self {
        let (at, what) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        Self { at: at.to_string(), what: what.to_string() }
    }

    fn line(&self) -> String {
        format!("{:>11} {}", self.at, self.what)
    }
}

fn listed(lines: &BTreeMap<String, String>) -> String {
    if lines.is_empty() {
        return "nothing".to_string();
    }
    let lines: Vec<String> = lines.iter().map(|(name, state)| format!("{name}: {state}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "flotilla-sim trace 1\n| seed 4\n| family speed\n\
        \x20 1.000100 node 1 is up for the 1. time\n\
        \x20 1.200000 state 1 0 follows term=1 last=0 commit=0 applied=0\n\
        \x20 1.300000 state 1 0 leads term=2 last=1 commit=0 applied=0\n\
        \x20 1.400000 node 1 loses its power, leading: true\n";

    #[test]
    fn one_steps_breaks_and_compares() {
        let mut replay = Replay::parse(TRACE).expect("it is a trace");
        assert_eq!(replay.script, Script::of("speed", 4));
        assert!(replay.command("n").expect("goes on").ends_with("node 1 is up for the 1. time"));
        assert_eq!(replay.command("s").as_deref(), Some("nothing"));
        assert!(replay.command("b leads").expect("goes on").contains("1.300000"));
        let state = replay.command("s").expect("goes on");
        assert_eq!(state, "node 1 shard 0: follows term=1 last=0 commit=0 applied=0");
        replay.command("n");
        let difference = replay.command("d").expect("goes on");
        assert!(difference.ends_with("→  leads term=2 last=1 commit=0 applied=0"), "{difference}");
        replay.command("n");
        assert!(replay.command("d").expect("goes on").ends_with("→  off"));
        assert!(replay.command("t 1.25").expect("goes on").contains("leads"));
        assert!(replay.command("what").expect("goes on").contains("COUNT"));
        assert_eq!(replay.command("q"), None);
        assert!(Replay::parse("something else").is_err());
    }

    #[test]
    fn a_trace_holds_its_script_and_ends_as_the_run_did() {
        let script = Script::of("founding", 3);
        let (text, outcome) = trace_of(&script);
        let report = outcome.expect("it goes well");
        let replay = Replay::parse(&text).expect("it is a trace");
        assert_eq!(replay.script, script);
        let boots = replay.lines.iter().filter(|told| told.what.contains("is up for the"));
        assert_eq!(boots.count() as u64, report.counters.boots);
    }
}
