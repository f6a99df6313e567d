//! Scripts of runs that once failed, or show something that must stay: each goes well, and those
//! that bring in a mistake fail for the reason that their first line names.

use std::fs;
use std::path::Path;

use flotilla_sim::{Script, run};

#[test]
fn every_script_comes_to_what_its_head_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for entry in fs::read_dir(&directory).expect("the scripts are there") {
        let path = entry.expect("a directory can be read").path();
        let text = fs::read_to_string(&path).expect("a script is a text");
        let name = path.display();
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let fails = text.lines().find_map(|line| line.strip_prefix("# fails: "));
        match (run(script.seed, script.config(), None), fails) {
            (Ok(_), None) => {}
            (Ok(_), Some(words)) => panic!("{name} goes well, but is to fail with '{words}'"),
            (Err(failure), Some(words)) if failure.reason.contains(words) => {}
            (Err(failure), _) => panic!("{name}: {failure}"),
        }
        count += 1;
    }
    assert!(count > 0, "there is no script in {}", directory.display());
}
