//! A run as a text: a seed, its family, and what is different from what they stand for. What a
//! failure shrinks to is such a script, and so is what a trace begins with.
//!
//! | line | says |
//! |---|---|
//! | `seed N` | the seed, first |
//! | `family NAME` | the family of scenarios that the seed is taken of |
//! | `layout NODES SHARDS REPLICAS` | another cluster |
//! | `driver inline`, `threaded` or `asynchronous` | another driver |
//! | `clients PLAIN CLUSTER` | other numbers of clients |
//! | `pipeline N` | another bound of requests sent at once |
//! | `until MICROS` | another end of the faults |
//! | `ending whole` or `ending quorum WORD` | another ending |
//! | `mutant NAME` | a known mistake |
//! | `plan` | the faults that follow are all there are |
//! | `fault MICROS NAME WORD` | one of them |
//! | `# …` | nothing |

use std::fmt;

use crate::config::{Config, Driver, Ending, Mutant};
use crate::fault::{Fault, Planned};
use crate::queue::Micros;
use crate::scenario::{APART, FAMILIES, family, local};

/// A run, and in what it differs from its seed's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its seed.
    pub seed: u64,
    /// Its family.
    pub family: String,
    /// Nodes, shards, and replicas of each.
    pub layout: Option<[usize; 3]>,
    /// How frames are written.
    pub driver: Option<Driver>,
    /// Clients of plain and of cluster ports.
    pub clients: Option<[usize; 2]>,
    /// The most requests sent at once.
    pub pipeline: Option<u64>,
    /// When everything is repaired.
    pub until: Option<Micros>,
    /// What comes before that.
    pub ending: Option<Ending>,
    /// A known mistake.
    pub mutant: Option<Mutant>,
    /// All faults.
    pub plan: Option<Vec<Planned>>,
}

impl Script {
    /// Nothing but a seed of a family. Panics if there is no such family.
    pub fn of(family: &str, seed: u64) -> Self {
        let known = FAMILIES.contains(&family) || APART.contains(&family);
        assert!(known, "there is no family {family}");
        Self {
            seed,
            family: family.to_string(),
            layout: None,
            driver: None,
            clients: None,
            pipeline: None,
            until: None,
            ending: None,
            mutant: None,
            plan: None,
        }
    }

    /// Reads a script. The error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script: Option<Self> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let read = Self::line(&mut script, line);
                read.ok_or_else(|| format!("line {} is not understood: {line}", number + 1))?;
            }
        }
        script.ok_or_else(|| "there is no seed".to_string())
    }

    fn line(script: &mut Option<Self>, line: &str) -> Option<()> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let Some(script) = script else {
            *script =
                (verb == "seed").then(|| rest.parse().ok().map(|seed| Self::of("swarm", seed)))?;
            return script.is_some().then_some(());
        };
        match (verb, words.as_slice()) {
            ("family", _) => {
                let known = FAMILIES.contains(&rest) || APART.contains(&rest);
                script.family = known.then(|| rest.to_string())?;
            }
            ("layout", _) => script.layout = Some(numbers(&words)?),
            ("driver", [name]) => {
                let named = |driver: &Driver| driver.name() == *name;
                script.driver = Some(Driver::ALL.into_iter().find(named)?);
            }
            ("clients", _) => script.clients = Some(numbers(&words)?),
            ("pipeline", [number]) => script.pipeline = Some(number.parse().ok()?),
            ("until", [micros]) => script.until = Some(micros.parse().ok()?),
            ("ending", ["whole"]) => script.ending = Some(Ending::Whole),
            ("ending", ["quorum", word]) => {
                script.ending = Some(Ending::Quorum(word.parse().ok()?));
            }
            ("mutant", [name]) => {
                let named = |mutant: &Mutant| format!("{mutant:?}") == *name;
                script.mutant = Some(Mutant::ALL.into_iter().find(named)?);
            }
            ("plan", []) => script.plan = Some(Vec::new()),
            ("fault", [at, name, word]) => {
                let planned = Planned {
                    at: at.parse().ok()?,
                    fault: Fault::named(name)?,
                    word: word.parse().ok()?,
                };
                script.plan.as_mut()?.push(planned);
            }
            _ => return None,
        }
        Some(())
    }

    /// What it stands for.
    pub fn config(&self) -> Config {
        let mut config = family(&self.family, self.seed);
        if let Some([nodes, shards, replicas]) = self.layout {
            config.layout = local(nodes, shards, replicas);
        }
        if let Some([plain, cluster]) = self.clients {
            config.workload.plain_clients = plain;
            config.workload.cluster_clients = cluster;
        }
        config.driver = self.driver.unwrap_or(config.driver);
        config.workload.pipeline_max = self.pipeline.unwrap_or(config.workload.pipeline_max);
        config.faults_until = self.until.unwrap_or(config.faults_until);
        config.ending = self.ending.unwrap_or(config.ending);
        config.mutant = self.mutant.or(config.mutant);
        if let Some(plan) = &self.plan {
            config.plan.clone_from(plan);
        }
        config
    }

    /// All of it spelled out, so that nothing depends any more on how families draw.
    pub fn explicit(mut self) -> Self {
        let config = self.config();
        let Config { workload, driver, faults_until, ending, plan, .. } = config;
        self.driver = Some(driver);
        self.clients = Some([workload.plain_clients, workload.cluster_clients]);
        self.pipeline = Some(workload.pipeline_max);
        self.until = Some(faults_until);
        self.ending = Some(ending);
        self.plan = Some(plan);
        self
    }
}

fn numbers<const COUNT: usize>(words: &[&str]) -> Option<[usize; COUNT]> {
    let numbers: Option<Vec<usize>> = words.iter().map(|word| word.parse().ok()).collect();
    numbers?.try_into().ok()
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\nfamily {}", self.seed, self.family)?;
        if let Some([nodes, shards, replicas]) = self.layout {
            writeln!(f, "layout {nodes} {shards} {replicas}")?;
        }
        if let Some(driver) = self.driver {
            writeln!(f, "driver {}", driver.name())?;
        }
        if let Some([plain, cluster]) = self.clients {
            writeln!(f, "clients {plain} {cluster}")?;
        }
        if let Some(pipeline) = self.pipeline {
            writeln!(f, "pipeline {pipeline}")?;
        }
        if let Some(until) = self.until {
            writeln!(f, "until {until}")?;
        }
        match self.ending {
            Some(Ending::Whole) => writeln!(f, "ending whole")?,
            Some(Ending::Quorum(word)) => writeln!(f, "ending quorum {word}")?,
            None => {}
        }
        if let Some(mutant) = self.mutant {
            writeln!(f, "mutant {mutant:?}")?;
        }
        if let Some(plan) = &self.plan {
            writeln!(f, "plan")?;
            for Planned { at, fault, word } in plan {
                writeln!(f, "fault {at} {fault} {word}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_is_written() {
        for seed in 0..60 {
            let mut script = Script::of(FAMILIES[seed as usize % FAMILIES.len()], seed);
            assert_eq!(Script::parse(&script.to_string()), Ok(script.clone()));
            script = script.explicit();
            script.layout = Some([3, 1, 3]);
            script.mutant = Some(Mutant::LosesWrites);
            assert_eq!(Script::parse(&script.to_string()), Ok(script));
        }
    }

    #[test]
    fn what_is_spelled_out_is_the_same_run() {
        let script = Script::of("swarm", 77);
        let (plain, explicit) = (script.config(), script.explicit().config());
        assert_eq!(format!("{plain:?}"), format!("{explicit:?}"));
    }

    #[test]
    fn nonsense_is_named_by_its_line() {
        for wrong in ["", "family swarm", "seed x", "seed 1\nlayout 3", "seed 1\nfault 1 Crash 2"] {
            assert!(Script::parse(wrong).is_err(), "{wrong:?}");
        }
        let error =
            Script::parse("seed 1\n# fine\nplan\nfault 1 Flood 2").expect_err("no such fault");
        assert!(error.contains("line 4"), "{error}");
    }
}
