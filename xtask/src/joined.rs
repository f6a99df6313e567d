//! Many changes of the tree in one build: every function with changes gets an arm for each, and a
//! process takes those whose number is in its environment.

mod functions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{cargo, root, shown};
pub(crate) use functions::{Function, functions};

/// The variable in a process's environment that says which change is on: one more than its number.
pub(crate) const VARIABLE: &str = "MUTANT";

/// What every crate with changes gets at its end. The name is longer than a crate would choose.
const SWITCH: &str = r#"
extern crate std;
/// Which change is on; one more than its number, 0 for none.
pub mod mutant_switch {
    static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    /// Which change is on.
    #[inline]
    pub fn on() -> usize {
        *ON.get_or_init(|| {
            std::env::var("MUTANT").ok().and_then(|on| on.parse().ok()).unwrap_or(0)
        })
    }
}
"#;

/// One piece of a change: text that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The change's number; it may have several edits, in one function or many.
    pub(crate) id: usize,
    /// The file, from the root.
    pub(crate) file: String,
    /// What is replaced, bytes.
    pub(crate) span: Range<usize>,
    /// By what.
    pub(crate) replacement: String,
}

/// Every file with its functions that have changes.
pub(crate) struct Joined {
    files: Vec<File>,
    left_out: BTreeMap<usize, String>,
}

struct File {
    name: String,
    source: String,
    functions: Vec<Choice>,
}

/// A function's body and what it may be instead.
struct Choice {
    body: Range<usize>,
    arms: Vec<(usize, String)>,
}

impl Joined {
    /// Reads the sources at `root` and places the edits.
    pub(crate) fn new(root: &Path, edits: &[Edit]) -> anyhow::Result<Self> {
        let mut by_file: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
        for edit in edits {
            by_file.entry(&edit.file).or_default().push(edit);
        }
        let (mut files, mut left_out) = (Vec::new(), BTreeMap::new());
        for (name, edits) in by_file {
            let path = root.join(name);
            let source = fs::read_to_string(&path).with_context(|| format!("can't read {name}"))?;
            let all = functions(&source);
            let mut by_function: BTreeMap<usize, BTreeMap<usize, Vec<&Edit>>> = BTreeMap::new();
            for edit in edits {
                match place(&source, &all, edit.span.clone()) {
                    Ok(at) => {
                        let of_function = by_function.entry(at).or_default();
                        of_function.entry(edit.id).or_default().push(edit);
                    }
                    Err(why) => {
                        left_out.insert(edit.id, format!("{name}: {why}"));
                    }
                }
            }
            let choice = |(at, arms): (usize, BTreeMap<usize, Vec<&Edit>>)| {
                let body = all[at].body.clone();
                let arm = |(id, edits)| (id, replaced(&source, body.clone(), edits));
                Choice { arms: arms.into_iter().map(arm).collect(), body }
            };
            let functions = by_function.into_iter().map(choice).collect();
            files.push(File { name: name.to_owned(), source, functions });
        }
        // A change with an edit that has no place is none at all.
        for choice in files.iter_mut().flat_map(|file: &mut File| &mut file.functions) {
            choice.arms.retain(|(id, _)| !left_out.contains_key(id));
        }
        Ok(Self { files, left_out })
    }

    /// The numbers of the changes that are joined.
    pub(crate) fn ids(&self) -> BTreeSet<usize> {
        let functions = self.files.iter().flat_map(|file| &file.functions);
        functions.flat_map(|function| function.arms.iter().map(|(id, _)| *id)).collect()
    }

    /// Changes of functions that can't have arms, and why not.
    pub(crate) fn left_out(&self) -> &BTreeMap<usize, String> {
        &self.left_out
    }

    /// The files as they are with all changes but those in `without`, and the change of each line
    /// that belongs to one.
    fn texts(&self, without: &BTreeSet<usize>) -> anyhow::Result<(Texts, Lines)> {
        let (mut texts, mut lines) = (Texts::new(), Lines::new());
        for file in &self.files {
            let mut out = String::new();
            let mut copied = 0;
            for Choice { body, arms } in &file.functions {
                out.push_str(&file.source[copied..body.start]);
                out.push_str(" match crate::mutant_switch::on() {\n");
                for (id, arm) in arms.iter().filter(|(id, _)| !without.contains(id)) {
                    let first = out.lines().count() + 1;
                    writeln!(out, "{} => {{ {arm}\n}}", id + 1)?;
                    let last = out.lines().count();
                    lines.extend((first..=last).map(|line| ((file.name.clone(), line), *id)));
                }
                writeln!(out, "_ => {{ {}\n}}}}", &file.source[body.clone()])?;
                copied = body.end;
            }
            out.push_str(&file.source[copied..]);
            texts.insert(file.name.clone(), out.into_bytes());
        }
        Ok((texts, lines))
    }

    /// The root files of the crates that have changes.
    fn roots(&self) -> BTreeSet<String> {
        let of = |file: &File| {
            file.name.split_once("/src/").map(|(name, _)| format!("{name}/src/lib.rs"))
        };
        self.files.iter().filter_map(of).collect()
    }
}

/// Contents by name.
type Texts = BTreeMap<String, Vec<u8>>;
/// The change of each line, by file and number.
type Lines = BTreeMap<(String, usize), usize>;

/// In which of these functions a piece of text is; an error says why it can't have arms.
pub(crate) fn place(
    source: &str,
    functions: &[Function],
    span: Range<usize>,
) -> Result<usize, String> {
    let around =
        |function: &Function| function.body.start <= span.start && span.end <= function.body.end;
    let line = source[..span.start].lines().count();
    let at = functions.iter().position(around);
    let at = at.ok_or(format!("line {line} is not within the body of one function"))?;
    let head = &source[functions[at].head.clone()];
    for kind in ["const fn", "impl Iterator"] {
        if head.contains(kind) {
            return Err(format!("line {line} is in a function that can't have arms: {kind}"));
        }
    }
    Ok(at)
}

/// A body with some pieces replaced, which do not overlap.
fn replaced(source: &str, body: Range<usize>, mut edits: Vec<&Edit>) -> String {
    edits.sort_by_key(|edit| edit.span.start);
    let (mut out, mut copied) = (String::new(), body.start);
    for Edit { span, replacement, .. } in edits {
        out.push_str(&source[copied..span.start]);
        out.push_str(replacement);
        copied = span.end;
    }
    out.push_str(&source[copied..body.end]);
    out
}

/// A build with all changes that compile.
pub(crate) struct Build {
    /// What cargo said, a message each.
    pub(crate) messages: Vec<Value>,
    /// The changes that do not compile, with the compiler's words.
    pub(crate) unviable: BTreeMap<usize, String>,
}

/// Copies the tree to `folder`, with all changes, and builds it there by `words` of cargo. A change
/// that does not compile is found by where the compiler complains, and left out.
pub(crate) fn build(folder: &Path, joined: &Joined, words: &str) -> anyhow::Result<Build> {
    let clean = tracked()?;
    let mut unviable = BTreeMap::new();
    loop {
        let (texts, lines) = joined.texts(&unviable.keys().copied().collect())?;
        let mut all = clean.clone();
        all.extend(texts);
        for root in joined.roots() {
            let text = all.get_mut(&root).with_context(|| format!("there is no {root}"))?;
            text.extend_from_slice(SWITCH.as_bytes());
        }
        write(&folder.join("tree"), &all)?;
        let mut command = cargo(words);
        command.args(["--message-format", "json"]).current_dir(folder.join("tree"));
        command.env("CARGO_TARGET_DIR", folder.join("built")).env("RUSTFLAGS", "--cap-lints allow");
        // A fresh start of every test costs more than what line numbers in a failure are worth; and
        // a function with fifty arms is compiled for long enough.
        command.env("CARGO_PROFILE_DEV_DEBUG", "false");
        command
            .envs([("CARGO_PROFILE_RELEASE_DEBUG", "false"), ("CARGO_PROFILE_RELEASE_LTO", "off")]);
        let name = shown(&command);
        let output = command.stderr(Stdio::piped()).output();
        let output = output.with_context(|| format!("can't run {name}"))?;
        let parsed = output.stdout.split(|&byte| byte == b'\n');
        let messages: Vec<Value> =
            parsed.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        if output.status.success() {
            return Ok(Build { messages, unviable });
        }
        let before = unviable.len();
        let errors = errors(&messages);
        for (place, words) in &errors {
            if let Some(id) = lines.get(place) {
                unviable.entry(*id).or_insert_with(|| words.clone());
            }
        }
        if errors.is_empty() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        if unviable.len() == before {
            bail!("the joined tree does not compile, and no change is to blame: {errors:?}");
        }
        eprintln!("{} changes do not compile", unviable.len());
    }
}

/// File and line of everything that the compiler complains of, with its words.
fn errors(messages: &[Value]) -> Vec<((String, usize), String)> {
    let mut errors = Vec::new();
    for message in messages.iter().filter(|message| message["message"]["level"] == "error") {
        let words = message["message"]["message"].as_str().unwrap_or_default();
        for span in message["message"]["spans"].as_array().into_iter().flatten() {
            let file = span["file_name"].as_str().unwrap_or_default().to_owned();
            let line = span["line_start"].as_u64().unwrap_or_default();
            errors.push(((file, line as usize), words.to_owned()));
        }
    }
    errors
}

/// The files of the work tree that git has or would take.
fn tracked() -> anyhow::Result<Texts> {
    let words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(words).current_dir(root()).output()?;
    let mut texts = Texts::new();
    for name in listed.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name)?;
        if let Ok(content) = fs::read(root().join(name)) {
            texts.insert(name.to_owned(), content);
        }
    }
    Ok(texts)
}

/// Makes `tree` hold these files and no others. What is as it should be is not touched, so that it
/// is not built again.
fn write(tree: &Path, files: &Texts) -> anyhow::Result<()> {
    fs::create_dir_all(tree)?;
    for path in files_below(tree)? {
        let name = path.strip_prefix(tree)?.to_string_lossy().into_owned();
        if !files.contains_key(&name) {
            fs::remove_file(&path)?;
        }
    }
    for (name, content) in files {
        let path = tree.join(name);
        if fs::read(&path).ok().as_ref() != Some(content) {
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            fs::write(&path, content)?;
        }
    }
    Ok(())
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn f(a: u8) -> u8 { a + 1 + 2 }\nconst fn g() -> u8 { 5 }\n";

    fn edit(id: usize, old: &str, new: &str) -> Edit {
        let at = SOURCE.find(old).expect("the text is there");
        let (file, span) = ("src/lib.rs".to_owned(), at..at + old.len());
        Edit { id, file, span, replacement: new.to_owned() }
    }

    #[test]
    fn each_change_has_an_arm_of_its_own_with_all_its_edits() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        fs::create_dir(folder.path().join("src")).expect("it is empty");
        fs::write(folder.path().join("src/lib.rs"), SOURCE).expect("there is room for a file");
        let edits = [edit(4, "1", "7"), edit(4, "2", "8"), edit(6, "a + ", ""), edit(9, "5", "6")];
        let joined = Joined::new(folder.path(), &edits).expect("the file can be read");
        assert_eq!(joined.ids(), BTreeSet::from([4, 6]));
        assert!(joined.left_out()[&9].contains("const fn"), "{:?}", joined.left_out());
        let (texts, lines) = joined.texts(&BTreeSet::new()).expect("a text takes everything");
        let text = String::from_utf8(texts["src/lib.rs"].clone()).expect("it was text");
        let expected = "fn f(a: u8) -> u8 { match crate::mutant_switch::on() {\n\
                        5 => {  a + 7 + 8 \n}\n7 => {  1 + 2 \n}\n_ => {  a + 1 + 2 \n}}\n}\n\
                        const fn g() -> u8 { 5 }\n";
        assert_eq!(text, expected);
        assert_eq!(lines[&("src/lib.rs".to_owned(), 2)], 4);
        assert_eq!(lines[&("src/lib.rs".to_owned(), 5)], 6);
        let (texts, _) = joined.texts(&BTreeSet::from([4])).expect("a text takes everything");
        assert!(!String::from_utf8_lossy(&texts["src/lib.rs"]).contains("5 =>"));
    }
}
