//! A failure made smaller: fewer faults, a shorter time, fewer clients, a smaller cluster, as long
//! as it fails in the same way [Zeller and Hildebrandt, 2002].

use crate::config::Ending;
use crate::run::{Failure, run};
use crate::script::Script;

/// A run with this script fails like the original; or it does not, which is `None`.
fn fails_alike(script: &Script, kind: &str) -> Option<Failure> {
    let failure = run(script.seed, script.config(), None).err()?;
    (kind_of(&failure.reason) == kind).then_some(failure)
}

/// What kind of failure it is: the reason without what names one run's nodes, keys and numbers.
fn kind_of(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let letters = line.chars().filter(|letter| letter.is_alphabetic() || *letter == ' ');
    let words: String = letters.take(400).collect();
    // What precedes the first of these names the place.
    for mark in ["is not linearizable", "panic", "has no answer yet", "is not ready again"] {
        if words.contains(mark) {
            return mark.to_string();
        }
    }
    let words: Vec<&str> = words.split_whitespace().filter(|word| word.len() > 3).collect();
    words.into_iter().take(6).collect::<Vec<_>>().join(" ")
}

/// Makes a failing script smaller, in at most `runs` runs. Gives the smallest that fails alike and
/// how it fails; `None` if the script does not fail at all.
pub fn shrink(script: Script, runs: usize) -> Option<(Script, Failure)> {
    let mut best = script.explicit();
    let mut failure = run(best.seed, best.config(), None).err()?;
    let kind = kind_of(&failure.reason);
    let mut left = runs;
    let mut attempt = |candidate: Script, best: &mut Script, failure: &mut Failure| {
        if left == 0 || candidate == *best {
            return false;
        }
        left -= 1;
        let Some(found) = fails_alike(&candidate, &kind) else { return false };
        *best = candidate;
        *failure = found;
        true
    };
    loop {
        let before = best.clone();
        for candidate in simpler(&best) {
            attempt(candidate, &mut best, &mut failure);
        }
        let mut piece = best.plan.as_ref().map_or(0, Vec::len).div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < best.plan.as_ref().map_or(0, Vec::len) {
                let mut candidate = best.clone();
                if let Some(plan) = &mut candidate.plan {
                    plan.drain(at..(at + piece).min(plan.len()));
                }
                if !attempt(candidate, &mut best, &mut failure) {
                    at += piece;
                }
            }
            piece /= 2;
        }
        if best == before {
            return Some((best, failure));
        }
    }
}

/// What may be simpler about a script besides its faults.
fn simpler(script: &Script) -> Vec<Script> {
    let mut candidates = Vec::new();
    let mut with = |change: &dyn Fn(&mut Script)| {
        let mut candidate = script.clone();
        change(&mut candidate);
        candidates.push(candidate);
    };
    let config = script.config();
    let nodes = config.layout.nodes.len();
    with(&|script| script.ending = Some(Ending::Whole));
    for (smaller, shards) in [(1, 1), (3, 1), (5, 1), (nodes, 1)] {
        if smaller <= nodes {
            with(&|script| script.layout = Some([smaller, shards, smaller.min(3)]));
            with(&|script| script.layout = Some([smaller, shards, smaller]));
        }
    }
    let last = config.plan.last().map_or(0, |planned| planned.at);
    with(&|script| script.until = Some((last + 200_000).min(config.faults_until)));
    with(&|script| script.until = Some(config.faults_until / 2));
    with(&|script| script.until = Some(config.faults_until * 4 / 5));
    with(&|script| script.pipeline = Some(1));
    let [plain, cluster] = [config.workload.plain_clients, config.workload.cluster_clients];
    with(&|script| script.clients = Some([plain.max(1), 0]));
    with(&|script| script.clients = Some([1, cluster]));
    with(&|script| script.clients = Some([plain.div_ceil(2), cluster / 2]));
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mutant;

    #[test]
    fn a_failure_becomes_small_and_stays_a_failure() {
        let script =
            |seed| Script { mutant: Some(Mutant::LosesWrites), ..Script::of("partitions", seed) };
        let (small, failure) =
            (1..9).find_map(|seed| shrink(script(seed), 40)).expect("it is caught");
        let plan = small.plan.as_ref().expect("a shrunk script has its own plan");
        assert!(plan.is_empty(), "a client that lies needs no faults: {small}");
        assert!(failure.reason.contains("not linearizable"), "{failure}");
        let again = Script::parse(&small.to_string()).expect("what is written can be read");
        let again = run(again.seed, again.config(), None).expect_err("it fails again");
        assert_eq!(again, failure);
    }
}
