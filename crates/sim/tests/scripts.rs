//! Scripts of runs that once failed, or show something that must stay: each goes well, and those
//! that bring in a mistake fail for the reason that a line of their head names (`# fails: WORDS`).
//! With the code a run takes another course, and a script may come past what it was made for; so a
//! head may name what the run has to come to (`# sees: MARK…`).

use std::fs;
use std::path::Path;

use flotilla_sim::{Mark, Report, Script, run};

#[test]
fn every_script_comes_to_what_its_head_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for entry in fs::read_dir(&directory).expect("the scripts are there") {
        let path = entry.expect("a directory can be read").path();
        let text = fs::read_to_string(&path).expect("a script is a text");
        let name = path.display();
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let head = |what| text.lines().find_map(move |line| line.strip_prefix(what));
        let fails = head("# fails: ");
        match (run(script.seed, script.config(), None), fails) {
            (Ok(report), None) => sees(&report, head("# sees: ").unwrap_or_default())
                .unwrap_or_else(|what| panic!("{name}: {what}")),
            (Ok(_), Some(words)) => panic!("{name} goes well, but is to fail with '{words}'"),
            (Err(failure), Some(words)) if failure.reason.contains(words) => {}
            (Err(failure), _) => panic!("{name}: {failure}"),
        }
        count += 1;
    }
    assert!(count > 0, "there is no script in {}", directory.display());
}

/// Whether the run has come to all of these; the error says to what not.
fn sees(report: &Report, marks: &str) -> Result<(), String> {
    for name in marks.split_whitespace() {
        let mark = Mark::named(name).ok_or_else(|| format!("there is no mark {name}"))?;
        if report.counters.marks.count(mark) == 0 {
            return Err(format!("it does not come to {name} any more"));
        }
    }
    Ok(())
}
