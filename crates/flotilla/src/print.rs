//! Showing replies: for people, as `redis-cli` does, or raw for programs.

use std::fmt::Write as _;

use flotilla_resp::Value;

/// A reply for people: strings in quotes, types named, aggregates numbered.
pub(crate) fn for_people(value: &Value) -> String {
    let mut out = String::new();
    shown(value, 0, &mut out);
    out
}

/// A reply for programs: strings as they are, the elements of aggregates one on a line.
pub(crate) fn raw(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    raw_into(value, &mut out);
    out
}

fn shown(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Simple(text) => out.push_str(text),
        Value::Error(text) => write_to(out, format_args!("(error) {text}")),
        Value::Integer(number) => write_to(out, format_args!("(integer) {number}")),
        Value::Bulk(bytes) => quoted(bytes, out),
        Value::Null => out.push_str("(nil)"),
        Value::Boolean(value) => write_to(out, format_args!("({value})")),
        Value::Double(number) => write_to(out, format_args!("(double) {number}")),
        Value::BigNumber(digits) => write_to(out, format_args!("(big number) {digits}")),
        Value::Verbatim { text, .. } => {
            out.push_str(String::from_utf8_lossy(text).trim_end_matches(['\r', '\n']));
        }
        Value::Array(items) | Value::Push(items) => {
            numbered(items, ')', "(empty array)", indent, out);
        }
        Value::Set(items) => numbered(items, '~', "(empty set)", indent, out),
        Value::Map(pairs) => map(pairs, indent, out),
    }
}

fn numbered(items: &[Value], mark: char, empty: &str, indent: usize, out: &mut String) {
    if items.is_empty() {
        out.push_str(empty);
    }
    let width = items.len().to_string().len();
    for (at, item) in items.iter().enumerate() {
        start_line(at, indent, out);
        write_to(out, format_args!("{:width$}{mark} ", at + 1));
        shown(item, indent + width + 2, out);
    }
}

fn map(pairs: &[(Value, Value)], indent: usize, out: &mut String) {
    if pairs.is_empty() {
        out.push_str("(empty map)");
    }
    let width = pairs.len().to_string().len();
    for (at, (key, value)) in pairs.iter().enumerate() {
        start_line(at, indent, out);
        write_to(out, format_args!("{:width$}# ", at + 1));
        shown(key, indent + width + 2, out);
        out.push_str(" => ");
        if matches!(value, Value::Array(_) | Value::Map(_) | Value::Set(_)) {
            write_to(out, format_args!("\n{:1$}", "", indent + width + 2));
        }
        shown(value, indent + width + 2, out);
    }
}

/// The first element stands behind the mark of what it is in.
fn start_line(at: usize, indent: usize, out: &mut String) {
    if at > 0 {
        write_to(out, format_args!("\n{:indent$}", ""));
    }
}

fn quoted(bytes: &[u8], out: &mut String) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write_to(out, format_args!("\\x{byte:02x}")),
        }
    }
    out.push('"');
}

fn write_to(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

fn raw_into(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bulk(bytes) | Value::Verbatim { text: bytes, .. } => out.extend_from_slice(bytes),
        Value::Null => {}
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Double(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Simple(text) | Value::Error(text) | Value::BigNumber(text) => {
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            raw_lines(items.iter(), out);
        }
        Value::Map(pairs) => raw_lines(pairs.iter().flat_map(|(key, value)| [key, value]), out),
    }
}

fn raw_lines<'a>(items: impl Iterator<Item = &'a Value>, out: &mut Vec<u8>) {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b'\n');
        }
        raw_into(item, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn scalars_are_named_and_strings_quoted() {
        assert_eq!(for_people(&Value::Integer(-3)), "(integer) -3");
        assert_eq!(for_people(&Value::Null), "(nil)");
        assert_eq!(for_people(&Value::Error("ERR no".into())), "(error) ERR no");
        assert_eq!(
            for_people(&Value::Bulk(b"a\"\\\r\n\x01\xff".to_vec())),
            r#""a\"\\\r\n\x01\xff""#
        );
    }

    #[test]
    fn aggregates_are_numbered_and_indented() {
        let inner = Value::Array(vec![bulk("b"), Value::Integer(1)]);
        let outer = Value::Array(vec![bulk("a"), inner, Value::Array(vec![])]);
        assert_eq!(
            for_people(&outer),
            "1) \"a\"\n2) 1) \"b\"\n   2) (integer) 1\n3) (empty array)"
        );
        let map = Value::Map(vec![
            (bulk("k"), Value::Integer(1)),
            (bulk("l"), Value::Array(vec![bulk("x"), bulk("y")])),
        ]);
        assert_eq!(
            for_people(&map),
            "1# \"k\" => (integer) 1\n2# \"l\" => \n   1) \"x\"\n   2) \"y\""
        );
    }

    #[test]
    fn raw_is_what_programs_want() {
        let value = Value::Array(vec![bulk("a\r\n"), Value::Integer(7), Value::Null]);
        assert_eq!(raw(&value), b"a\r\n\n7\n");
    }
}
