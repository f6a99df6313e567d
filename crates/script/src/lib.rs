//! The runner of golden scripts that the tests of all crates use.
//!
//! A script is a text file of blocks, parted by empty lines. A block is lines of commands, a line
//! `----`, and the output expected of them:
//!
//! ```text
//! # What this shows, and where it is from.
//! campaign 1
//! deliver
//! ----
//! 1 leads term 1
//! ```
//!
//! A command is words parted by spaces: a name, then arguments. A word may stand in double quotes,
//! with the escapes `\n \r \t \" \\ \xNN`. Lines that begin with `#` are comments. The outputs of
//! a block's commands follow each other; a block without output shows `ok`, an empty line inside
//! an output `.`, and a command that fails `error: ` and why.
//!
//! With `UPDATE_SCRIPTS=1` in the environment the files are rewritten with the actual output.
//!
//! Scripts lie at `tests/scripts/<topic>/<case>`. In a crate's test:
//!
//! ```
//! # let directory = std::env::temp_dir().join("flotilla-script-doc");
//! # std::fs::create_dir_all(directory.join("sums")).expect("a temporary directory is writable");
//! # std::fs::write(directory.join("sums/small"), "add 1 2\n----\n3\n").expect("so is a file");
//! flotilla_script::run(&directory, || {
//!     let mut sum = 0;
//!     move |command| match command.name.as_str() {
//!         "add" => {
//!             for word in &command.arguments {
//!                 sum += word.parse::<i64>().map_err(|error| error.to_string())?;
//!             }
//!             Ok(sum.to_string())
//!         }
//!         other => Err(format!("no command {other}")),
//!     }
//! });
//! ```

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// One line of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The first word.
    pub name: String,
    /// The other words.
    pub arguments: Vec<String>,
    /// The line in the file, from 1.
    pub line: usize,
}

impl Command {
    /// Reads one line. The error says what is wrong with its quotes.
    pub fn parse(text: &str, line: usize) -> Result<Self, String> {
        let mut words = split_words(text)?.into_iter();
        let name = words.next().ok_or("an empty command")?;
        Ok(Self { name, arguments: words.collect(), line })
    }

    /// The argument at `position`, from 0. The error names the command.
    pub fn argument(&self, position: usize) -> Result<&str, String> {
        let word = self.arguments.get(position).map(String::as_str);
        word.ok_or_else(|| format!("{} needs argument {}", self.name, position + 1))
    }

    /// The argument at `position` as a number or whatever else can be parsed.
    pub fn parsed<T: std::str::FromStr>(&self, position: usize) -> Result<T, String> {
        let word = self.argument(position)?;
        word.parse().map_err(|_| format!("{}: {word} is not what is expected here", self.name))
    }

    /// The value of the argument `key=value`, if it was given.
    pub fn named(&self, key: &str) -> Option<&str> {
        self.arguments.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Runs every script below `directory`, each with a new runner from `start`.
///
/// Panics, after all have run, with the differences found; also if there is no script at all,
/// since a test that tests nothing is a mistake.
pub fn run<R>(directory: impl AsRef<Path>, mut start: impl FnMut() -> R)
where
    R: FnMut(&Command) -> Result<String, String>,
{
    let mut paths = Vec::new();
    find_scripts(directory.as_ref(), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "there is a script below {}", directory.as_ref().display());
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some_and(|value| value == "1");
    let mut differences = String::new();
    for path in paths {
        let script = fs::read_to_string(&path).expect("a script is readable text");
        let named = NameOnPanic(&path);
        let actual = run_text(&script, &mut start());
        drop(named);
        if actual == script {
            continue;
        }
        if update {
            fs::write(&path, actual).expect("a script is writable when it is to be updated");
        } else {
            let difference = first_difference(&script, &actual);
            let _ = write!(differences, "\n{}:{difference}", path.display());
        }
    }
    assert!(differences.is_empty(), "{differences}\nUPDATE_SCRIPTS=1 accepts what is new.");
}

/// Says which script it was, if a command panics.
struct NameOnPanic<'a>(&'a Path);

impl Drop for NameOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while running {}", self.0.display());
        }
    }
}

/// Runs one script and returns it with the actual output in place of the expected one.
pub fn run_text(
    script: &str,
    runner: &mut impl FnMut(&Command) -> Result<String, String>,
) -> String {
    let mut result = String::new();
    let mut output = String::new();
    let mut has_commands = false;
    let mut in_output = false;
    for (number, line) in script.lines().enumerate() {
        if in_output {
            in_output = !line.is_empty();
            if in_output {
                continue;
            }
        } else if line == "----" {
            finish_block(&mut result, &mut output);
            has_commands = false;
            in_output = true;
            continue;
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            has_commands = true;
            match Command::parse(line, number + 1).and_then(|command| runner(&command)) {
                Ok(text) => push_lines(&mut output, &text),
                Err(error) => push_lines(&mut output, &format!("error: {error}")),
            }
        }
        result.push_str(line);
        result.push('\n');
    }
    if has_commands {
        finish_block(&mut result, &mut output);
    }
    result
}

fn finish_block(result: &mut String, output: &mut String) {
    result.push_str("----\n");
    result.push_str(if output.is_empty() { "ok\n" } else { output });
    output.clear();
}

fn push_lines(output: &mut String, text: &str) {
    for line in text.lines().map(str::trim_end) {
        output.push_str(if line.is_empty() { "." } else { line });
        output.push('\n');
    }
}

fn find_scripts(directory: &Path, paths: &mut Vec<PathBuf>) {
    let listed = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{} can be listed: {error}", directory.display()));
    for entry in listed {
        let path = entry.expect("a directory's entries can be read").path();
        if path.is_dir() {
            find_scripts(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// The first line that differs, with a little of what is before and after it.
fn first_difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) =
        (expected.lines().collect(), actual.lines().collect());
    let same = expected.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let mut text = format!("{}\n", same + 1);
    for line in &expected[same.saturating_sub(3)..same] {
        let _ = writeln!(text, "   {line}");
    }
    for (sign, lines) in [('-', &expected), ('+', &actual)] {
        for line in lines.iter().skip(same).take(8) {
            let _ = writeln!(text, " {sign} {line}");
        }
    }
    text
}

fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(&letter) = letters.peek() {
        if letter.is_whitespace() {
            letters.next();
            continue;
        }
        let mut word = String::new();
        while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
            if letter == '"' {
                read_quoted(&mut letters, &mut word)?;
            } else {
                word.push(letter);
            }
        }
        words.push(word);
    }
    Ok(words)
}

fn read_quoted(letters: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    loop {
        let letter = letters.next().ok_or("a quote is not closed")?;
        let escaped = match letter {
            '"' => return Ok(()),
            '\\' => letters.next().ok_or("a quote is not closed")?,
            other => {
                word.push(other);
                continue;
            }
        };
        word.push(match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'x' => {
                let digits: String = letters.take(2).collect();
                let code = u8::from_str_radix(&digits, 16);
                char::from(code.map_err(|_| format!("\\x{digits} is no byte"))?)
            }
            other => other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(command: &Command) -> Result<String, String> {
        match command.name.as_str() {
            "echo" => Ok(command.arguments.join("\n")),
            other => Err(format!("no command {other}")),
        }
    }

    #[test]
    fn replaces_the_output_of_each_block() {
        let script = "# About\necho a b\nwhat\n----\nold\n\necho \"c\\n\\nd\"\n----\n\necho\n";
        let expected = "# About\necho a b\nwhat\n----\na\nb\nerror: no command what\n\n\
                        echo \"c\\n\\nd\"\n----\nc\n.\nd\n\necho\n----\nok\n";
        assert_eq!(run_text(script, &mut echo), expected);
        assert_eq!(run_text(expected, &mut echo), expected);
    }

    #[test]
    fn reads_words_quotes_and_names() {
        let command = Command::parse(r#"set "a b" x="1\x20\"2" 7"#, 3).expect("it is well formed");
        assert_eq!(command.arguments, ["a b", "x=1 \"2", "7"]);
        assert_eq!(command.named("x"), Some("1 \"2"));
        assert_eq!(command.parsed::<u8>(2), Ok(7));
        assert!(command.argument(3).is_err());
        assert!(Command::parse("a \"b", 1).is_err());
    }

    #[test]
    fn shows_the_first_line_that_differs() {
        let difference = first_difference("a\nb\nc\n", "a\nx\nc\n");
        assert!(difference.starts_with("2\n   a\n - b\n"));
    }
}
