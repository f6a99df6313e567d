//! The files in `mutants/`: known bugs, each as the smallest change that brings it back, or with
//! the reason why it can't come back. `mutants/README.md` has the format.

use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::str::Lines;

use anyhow::{Context as _, bail};

use crate::joined::{Edit, functions, place};

/// One entry of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A bug that can be put back.
    Mutant(Mutant),
    /// A bug that is not put back.
    Excluded {
        /// Its name.
        id: String,
        /// What is wrong with it.
        is: String,
        /// Why it is not put back.
        because: String,
    },
}

/// A bug that can be put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Its name.
    pub(super) id: String,
    /// What is wrong with it.
    pub(super) is: String,
    /// What it is expected to break.
    pub(super) breaks: String,
    /// A family of scenarios that reaches it.
    pub(super) family: Option<String>,
    /// What is to be replaced by what.
    pub(super) edits: Vec<Replacement>,
}

/// A text and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    file: String,
    anchor: String,
    text: String,
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Mutant(Mutant { id, .. }) | Self::Excluded { id, .. } => id,
        }
    }

    /// What can be put back.
    pub(super) fn mutant(&self) -> Option<&Mutant> {
        match self {
            Self::Mutant(mutant) => Some(mutant),
            Self::Excluded { .. } => None,
        }
    }
}

/// All entries of the files in `folder`, by file name and then as they stand there.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let shown = folder.display();
    let files = fs::read_dir(folder).with_context(|| format!("can't read {shown}"))?;
    let mut files: Vec<_> =
        files.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        let parsed = parse(&fs::read_to_string(&file)?);
        entries.extend(parsed.with_context(|| format!("{}", file.display()))?);
    }
    Ok(entries)
}

/// The entries of one file; what stands before the first one is for readers.
fn parse(text: &str) -> anyhow::Result<Vec<Entry>> {
    let mut lines = text.lines().peekable();
    while within(&mut lines).is_some() {}
    let mut entries = Vec::new();
    while let Some(line) = lines.next() {
        let entry = match line.split_once(' ') {
            Some(("mutant", id)) => mutant(id, &mut lines).map(Entry::Mutant),
            Some(("excluded", id)) => excluded(id, &mut lines),
            _ => bail!("an entry has a name: '{line}'"),
        };
        entries.push(entry.with_context(|| line.to_owned())?);
    }
    Ok(entries)
}

fn mutant(id: &str, lines: &mut Peekable<Lines<'_>>) -> anyhow::Result<Mutant> {
    let mut mutant = Mutant { id: id.to_owned(), ..Mutant::default() };
    while let Some(line) = within(lines) {
        if line.is_empty() {
            continue;
        }
        if let Some(file) = line.strip_prefix("edit ") {
            let edit = replacement(file, lines).with_context(|| line.to_owned())?;
            mutant.edits.push(edit);
            continue;
        }
        let (key, value) = field(line, lines)?;
        match key {
            "is" => mutant.is = value,
            "breaks" => mutant.breaks = value,
            "family" => mutant.family = Some(value),
            _ => bail!("'{key}' is none of is, breaks, family, edit"),
        }
    }
    if mutant.is.is_empty() || mutant.breaks.is_empty() || mutant.edits.is_empty() {
        bail!("a mutant needs 'is', 'breaks' and an edit");
    }
    Ok(mutant)
}

fn excluded(id: &str, lines: &mut Peekable<Lines<'_>>) -> anyhow::Result<Entry> {
    let (mut is, mut because) = (String::new(), String::new());
    while let Some(line) = within(lines) {
        if line.is_empty() {
            continue;
        }
        match field(line, lines)? {
            ("is", value) => is = value,
            ("because", value) => because = value,
            (key, _) => bail!("'{key}' is none of is, because"),
        }
    }
    if is.is_empty() || because.is_empty() {
        bail!("what is excluded needs 'is' and 'because'");
    }
    Ok(Entry::Excluded { id: id.to_owned(), is, because })
}

/// The next line, unless it begins the next entry.
fn within<'a>(lines: &mut Peekable<Lines<'a>>) -> Option<&'a str> {
    let ends = ["mutant ", "excluded "];
    lines.next_if(|line| !ends.iter().any(|end| line.starts_with(end)))
}

/// `key: value`, which goes on in lines that are indented.
fn field<'a>(line: &'a str, lines: &mut Peekable<Lines<'_>>) -> anyhow::Result<(&'a str, String)> {
    let (key, value) = line.split_once(": ").with_context(|| format!("not understood: {line}"))?;
    let mut value = value.trim().to_owned();
    while let Some(more) = lines.next_if(|line| line.starts_with(' ') && !line.trim().is_empty()) {
        value.push(' ');
        value.push_str(more.trim());
    }
    Ok((key, value))
}

/// What stands between the three marks of an edit.
fn replacement(file: &str, lines: &mut Peekable<Lines<'_>>) -> anyhow::Result<Replacement> {
    if lines.next() != Some("<<<") {
        bail!("an edit goes on with <<<");
    }
    let mut until = |mark: &str| {
        let mut text = Vec::new();
        loop {
            match lines.next() {
                None => bail!("an edit that does not end with {mark}"),
                Some(line) if line == mark => return Ok(text.join("\n")),
                Some(line) => text.push(line),
            }
        }
    };
    let (anchor, text) = (until("===")?, until(">>>")?);
    if anchor.trim().is_empty() || anchor == text {
        bail!("an edit replaces something by something else");
    }
    Ok(Replacement { file: file.to_owned(), anchor, text })
}

impl Mutant {
    /// Where its edits are, as change number `number` of the tree at `root`. An error if an anchor
    /// is not there exactly once, or not within one function that can have arms.
    pub(super) fn edits(&self, root: &Path, number: usize) -> anyhow::Result<Vec<Edit>> {
        let mut edits: Vec<Edit> = Vec::new();
        for Replacement { file, anchor, text } in &self.edits {
            let at = || format!("{}: {file}", self.id);
            let source = fs::read_to_string(root.join(file)).with_context(at)?;
            let found: Vec<usize> = source.match_indices(anchor).map(|(at, _)| at).collect();
            let [first] = found[..] else {
                bail!("{}: not once but {} times there:\n{anchor}", at(), found.len());
            };
            let span = first..first + anchor.len();
            place(&source, &functions(&source), span.clone())
                .map_err(anyhow::Error::msg)
                .with_context(at)?;
            let overlaps = |edit: &Edit| {
                edit.file == *file && edit.span.start < span.end && span.start < edit.span.end
            };
            if edits.iter().any(overlaps) {
                bail!("{}: two edits of the same text:\n{anchor}", at());
            }
            edits.push(Edit { id: number, file: file.clone(), span, replacement: text.clone() });
        }
        Ok(edits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flotilla_sim::is_family;

    use super::*;
    use crate::root;

    const TEXT: &str = "Words about the file.\n\nmutant XX-1\nis: a thing\n  and more of it\n\
        breaks: ES LM\nfamily: votes\nedit a/b.rs\n<<<\n  one\n\n  two\n===\n>>>\nedit a/c.rs\n<<<\n\
        mutant\n===\n# x\n>>>\n\nexcluded XX-2\nis: another\nbecause: it can't be\n";

    #[test]
    fn reads_entries() {
        let edit = |file: &str, anchor: &str, text: &str| {
            let [file, anchor, text] = [file, anchor, text].map(str::to_owned);
            Replacement { file, anchor, text }
        };
        let entries = parse(TEXT).expect("it is well formed");
        let first = Mutant {
            id: "XX-1".to_owned(),
            is: "a thing and more of it".to_owned(),
            breaks: "ES LM".to_owned(),
            family: Some("votes".to_owned()),
            edits: vec![edit("a/b.rs", "  one\n\n  two", ""), edit("a/c.rs", "mutant", "# x")],
        };
        let [id, is, because] = ["XX-2", "another", "it can't be"].map(str::to_owned);
        assert_eq!(entries, [Entry::Mutant(first), Entry::Excluded { id, is, because }]);
    }

    #[test]
    fn refuses_what_is_not_an_entry() {
        for wrong in [
            "mutant A\nsomething\n",
            "mutant A\nis: b\nbreaks: c\n",
            "mutant A\nis: b\nbreaks: c\nedit f\n<<<\na\n===\n",
            "mutant A\nis: b\nbreaks: c\nedit f\n<<<\na\n===\na\n>>>\n",
            "excluded A\nis: b\n",
            "excluded A\nis: b\nbecause: c\nbreaks: d\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// The mutants of this tree: what they replace is there.
    #[test]
    fn every_anchor_is_there_once() {
        let entries = read(&root().join("mutants")).expect("they are well formed");
        let mut ids = BTreeSet::new();
        let mut wrong = Vec::new();
        for entry in &entries {
            if !ids.insert(entry.id()) {
                wrong.push(format!("{} is there twice", entry.id()));
            }
            let Entry::Mutant(mutant) = entry else { continue };
            if let Err(error) = mutant.edits(root(), 0) {
                wrong.push(format!("{error:#}"));
            }
            if let Some(family) = &mutant.family
                && !is_family(family)
            {
                wrong.push(format!("{}: there is no family {family}", mutant.id));
            }
        }
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }

    /// The list of known bugs by kind, and how many there are of each.
    const KINDS: [(&str, usize); 12] = [
        ("EL", 15),
        ("TR", 2),
        ("RE", 15),
        ("CO", 8),
        ("ME", 14),
        ("SN", 11),
        ("RD", 4),
        ("LE", 6),
        ("PE", 9),
        ("CS", 5),
        ("MG", 5),
        ("NW", 3),
    ];

    #[test]
    fn every_known_bug_and_every_rule_has_an_entry() {
        let entries = read(&root().join("mutants")).expect("they are well formed");
        let ids: BTreeSet<&str> = entries.iter().map(Entry::id).collect();
        let of_kind = |(kind, count): (&str, usize)| {
            (1..=count).map(|number| format!("{kind}-{number:02}")).collect::<Vec<_>>()
        };
        let mut wanted: Vec<String> = KINDS.into_iter().flat_map(of_kind).collect();
        assert_eq!(wanted.len(), 97);
        let built = |wanted: &&String| {
            let mut mutants = entries.iter().filter_map(Entry::mutant);
            mutants.any(|mutant| mutant.id == **wanted)
        };
        let known = wanted.iter().filter(built).count();
        assert!(known >= 85, "{known} known bugs can be put back, 85 are wanted");
        wanted.extend((1..=15).map(|number| format!("P{number}")));
        let lacking: Vec<&String> = wanted.iter().filter(|id| !ids.contains(id.as_str())).collect();
        assert!(lacking.is_empty(), "without an entry: {lacking:?}");
        let own = ids.iter().filter(|id| id.starts_with("OWN-")).count();
        assert!(own >= 25, "{own} of our own, 25 are wanted");
    }
}
