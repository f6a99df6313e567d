//! All changes in one tree: every function with changes gets an arm for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::Mutant;

/// Says which change a process runs with: the number in its environment.
const SWITCH: &str = r#"
extern crate std;
/// Which change is on; one more than its number, 0 for none.
pub mod mutant_switch {
    static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    /// Which change is on.
    pub fn on() -> usize {
        *ON.get_or_init(|| {
            std::env::var("MUTANT").ok().and_then(|on| on.parse().ok()).unwrap_or(0)
        })
    }
}
"#;

/// Every file with its functions that have changes.
pub(super) struct Joined {
    files: Vec<File>,
    left_out: Vec<String>,
}

struct File {
    name: String,
    source: String,
    functions: Vec<Function>,
}

/// A function's body, without its braces, and what it may be instead.
struct Function {
    start: usize,
    end: usize,
    arms: Vec<(usize, String)>,
}

impl Joined {
    /// Reads the sources at `root`; a change's number is its place in `mutants`.
    pub(super) fn new(root: &Path, mutants: &[Mutant]) -> anyhow::Result<Self> {
        let mut by_file: BTreeMap<&str, BTreeMap<(usize, usize), Vec<usize>>> = BTreeMap::new();
        for (id, mutant) in mutants.iter().enumerate() {
            let functions = by_file.entry(&mutant.file).or_default();
            functions.entry(mutant.function).or_default().push(id);
        }
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        for (name, by_function) in by_file {
            let source = fs::read_to_string(root.join(name))?;
            let mut functions = Vec::new();
            for ((start, end), ids) in by_function {
                let body = body_of(&source, start, end)
                    .with_context(|| format!("{name}: a function without a body at {start}"))?;
                let head = &source[start..body.0];
                if head.contains("const fn") || head.contains("impl Iterator") {
                    left_out.extend(ids.iter().map(|&id| mutants[id].name.clone()));
                    continue;
                }
                let arm = |id: usize| {
                    let Mutant { span, replacement, .. } = &mutants[id];
                    let (before, after) = (&source[body.0..span.0], &source[span.1..body.1]);
                    (id, format!("{before}{replacement}{after}"))
                };
                let arms = ids.into_iter().map(arm).collect();
                functions.push(Function { start: body.0, end: body.1, arms });
            }
            functions.sort_by_key(|function| function.start);
            files.push(File { name: name.to_owned(), source, functions });
        }
        Ok(Self { files, left_out })
    }

    /// The numbers of the changes that are joined.
    pub(super) fn ids(&self) -> impl Iterator<Item = usize> {
        let functions = self.files.iter().flat_map(|file| &file.functions);
        functions.flat_map(|function| function.arms.iter().map(|(id, _)| *id))
    }

    /// Changes of functions that can't have arms.
    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Writes the files to `tree` without the changes in `without`. Gives the change of each line
    /// that belongs to one.
    pub(super) fn write(
        &self,
        tree: &Path,
        without: &BTreeSet<usize>,
    ) -> anyhow::Result<BTreeMap<(String, usize), usize>> {
        let mut lines = BTreeMap::new();
        for file in &self.files {
            let mut out = String::new();
            let mut copied = 0;
            for function in &file.functions {
                out.push_str(&file.source[copied..function.start]);
                out.push_str(" match crate::mutant_switch::on() {\n");
                for (id, body) in function.arms.iter().filter(|(id, _)| !without.contains(id)) {
                    let first = out.lines().count() + 1;
                    writeln!(out, "{} => {{ {body}\n}}", id + 1)?;
                    let last = out.lines().count();
                    lines.extend((first..=last).map(|line| ((file.name.clone(), line), *id)));
                }
                writeln!(out, "_ => {{ {}\n}}}}", &file.source[function.start..function.end])?;
                copied = function.end;
            }
            out.push_str(&file.source[copied..]);
            if file.name.ends_with("src/lib.rs") {
                out.push_str(SWITCH);
            }
            write_if_new(&tree.join(&file.name), &out)?;
        }
        let lib = tree.join("crates/raft/src/lib.rs");
        let text = fs::read_to_string(&lib)?;
        if !text.contains("mod mutant_switch") {
            fs::write(&lib, text + SWITCH)?;
        }
        Ok(lines)
    }
}

fn write_if_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text)?;
    }
    Ok(())
}

/// What is between the braces of the body of the function that stands at `start..end`.
fn body_of(source: &str, start: usize, end: usize) -> Option<(usize, usize)> {
    let bytes = source.as_bytes();
    let mut at = start;
    let mut nested = 0_i32;
    while at < end {
        match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                at += source[at..].find('\n')?;
            }
            b'"' => at += 1 + source[at + 1..].find('"')?,
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b'{' if nested == 0 => return Some((at + 1, end - 1)),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_found_behind_everything_that_looks_like_one() {
        let source = "/// Says {.\n#[doc = \"{\"]\nfn f(a: [u8; { 3 }]) -> u8 { a[0] }";
        let (start, end) = body_of(source, 0, source.len()).expect("it has a body");
        assert_eq!(&source[start..end], " a[0] ");
        assert_eq!(body_of("fn f();", 0, 7), None);
    }
}
