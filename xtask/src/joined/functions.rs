//! Where the functions of a source file are, by its words and braces alone.

use std::ops::Range;

/// A function with a body; those within it belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// From the line of its `fn` up to its body.
    pub(crate) head: Range<usize>,
    /// What is between the braces of its body.
    pub(crate) body: Range<usize>,
}

/// All outermost functions of a file that has no mistakes, in order.
pub(crate) fn functions(source: &str) -> Vec<Function> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut at = 0;
    while at + 1 < tokens.len() {
        let is_function = tokens[at].is(source, "fn") && tokens[at + 1].is_word(source);
        at += 1;
        if !is_function {
            continue;
        }
        let begin = source[..tokens[at - 1].0.start].rfind('\n').map_or(0, |end| end + 1);
        let Some(open) = body_at(source, &tokens, at) else { continue };
        let close = close_of(source, &tokens, open);
        let body = tokens[open].0.end..tokens[close].0.start;
        found.push(Function { head: begin..tokens[open].0.start, body });
        at = close;
    }
    found
}

/// A word, or one byte of anything else that is neither space, comment nor literal.
struct Token(Range<usize>);

impl Token {
    fn is(&self, source: &str, text: &str) -> bool {
        &source[self.0.clone()] == text
    }

    fn is_word(&self, source: &str) -> bool {
        source[self.0.clone()].starts_with(is_word)
    }
}

/// The token that opens the body of the function whose name is at `at`; none if it has none.
fn body_at(source: &str, tokens: &[Token], at: usize) -> Option<usize> {
    let mut nested = 0_i32;
    for (number, token) in tokens.iter().enumerate().skip(at) {
        match &source[token.0.clone()] {
            "(" | "[" => nested += 1,
            ")" | "]" => nested -= 1,
            ";" if nested == 0 => return None,
            "{" if nested == 0 => return Some(number),
            _ => {}
        }
    }
    None
}

/// The token that closes what the one at `open` opens.
fn close_of(source: &str, tokens: &[Token], open: usize) -> usize {
    let mut nested = 0_i32;
    for (number, token) in tokens.iter().enumerate().skip(open) {
        match &source[token.0.clone()] {
            "{" => nested += 1,
            "}" => nested -= 1,
            _ => {}
        }
        if nested == 0 {
            return number;
        }
    }
    tokens.len() - 1
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if let Some(length) = comment(rest).or_else(|| literal(rest)) {
            length
        } else if is_word(first) {
            let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
            tokens.push(Token(at..at + length));
            length
        } else {
            tokens.push(Token(at..at + first.len_utf8()));
            first.len_utf8()
        };
        at += length;
    }
    tokens
}

/// How long the comment is that begins here.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut nested, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (nested, at) = (nested + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (nested, at) = (nested - 1, at + 2);
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if nested == 0 {
            break;
        }
    }
    Some(at)
}

/// How long the string or character is that begins here; a lifetime is none.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['"', '#', '\'']))
    });
    let prefix = prefix.unwrap_or_default();
    let quoted = &rest[prefix.len()..];
    let hashes = quoted.len() - quoted.trim_start_matches('#').len();
    if prefix.ends_with('r') && quoted[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let begin = hashes + 1;
        return Some(prefix.len() + begin + quoted[begin..].find(&end)? + end.len());
    }
    let quote = quoted.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    if quote == '\'' {
        let mut letters = quoted.chars().skip(1);
        let letter = letters.next()?;
        if letter != '\\' && letters.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (at, letter) in quoted.char_indices().skip(1) {
        if letter == quote && !escaped {
            return Some(prefix.len() + at + 1);
        }
        escaped = letter == '\\' && !escaped;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(source: &str) -> Vec<&str> {
        functions(source).into_iter().map(|function| &source[function.body]).collect()
    }

    #[test]
    fn a_body_is_found_behind_everything_that_looks_like_one() {
        let source = "/// Says {.\n#[doc = \"{\"]\nfn f(a: [u8; { 3 }]) -> u8 { a[0] }";
        assert_eq!(bodies(source), [" a[0] "]);
        assert_eq!(bodies("trait T { fn f(); fn g(a: fn(u8)) { a(1) } }"), [" a(1) "]);
    }

    #[test]
    fn braces_in_literals_and_comments_are_none() {
        let source = r##"fn f<'a>(b: &'a u8) { '{'; '\''; b'}'; "\"}"; r#"}"}"#; /* } /* } */ */ }
fn g() { // }
    fn h() { if true { 1 } else { 2 } }
}"##;
        assert_eq!(bodies(source).len(), 2);
        assert!(bodies(source)[0].ends_with("*/ "), "{:?}", bodies(source)[0]);
        assert!(bodies(source)[1].contains("else"));
    }

    #[test]
    fn a_head_begins_with_its_line() {
        let source = "mod a {\n    pub const fn f() -> u8 { 1 }\n}";
        let function = functions(source).remove(0);
        assert_eq!(&source[function.head], "    pub const fn f() -> u8 ");
    }
}
