//! Commands of the Redis protocol, encoded once: from one to the next only the digits of the key
//! and the length of the value change.

use std::io::Write as _;

use flotilla_resp::encode_command;

/// Digits of a key's number.
const DIGITS: usize = 12;
/// More keys than this have no number of their own.
pub(crate) const KEYS_MAX: u64 = 10_u64.pow(DIGITS as u32);
/// What keys begin with; with its number a key has 16 bytes.
const PREFIX: &[u8] = b"key:";
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = PREFIX.len() + DIGITS;

/// What is sent for GET and SET.
#[derive(Debug)]
pub(crate) struct Commands {
    get: Vec<u8>,
    /// Up to the value's length.
    set: Vec<u8>,
    /// As long as the largest.
    value: Vec<u8>,
}

impl Commands {
    /// For values of so many bytes at most.
    pub(crate) fn new(value_bytes_max: usize) -> Self {
        let key = key(0);
        let (mut get, mut set) = (Vec::new(), Vec::new());
        encode_command(&[b"GET", &key], &mut get);
        encode_command(&[b"SET", &key, b""], &mut set);
        set.truncate(set.len() - b"$0\r\n\r\n".len());
        let value = (b'a'..=b'z').cycle().take(value_bytes_max).collect();
        Self { get, set, value }
    }

    /// The first bytes of every value.
    pub(crate) fn value(&self, bytes: usize) -> &[u8] {
        &self.value[..bytes]
    }

    /// Appends a GET of this key.
    pub(crate) fn get(&self, key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get);
        number_last_key(key, out);
    }

    /// Appends a SET of this key to a value of so many bytes.
    pub(crate) fn set(&self, key: u64, value_bytes: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.set);
        number_last_key(key, out);
        write!(out, "${value_bytes}\r\n").expect("a vector takes everything");
        out.extend_from_slice(self.value(value_bytes));
        out.extend_from_slice(b"\r\n");
    }
}

/// The key of this number.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..PREFIX.len()].copy_from_slice(PREFIX);
    write_digits(number, &mut key[PREFIX.len()..]);
    key
}

/// Puts the number into the key that ends, with its line end, where the bytes do.
fn number_last_key(number: u64, out: &mut [u8]) {
    let end = out.len() - b"\r\n".len();
    write_digits(number, &mut out[end - DIGITS..end]);
}

fn write_digits(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_resp::{Value, parse_value};

    fn words(bytes: &[u8]) -> Vec<String> {
        let (value, taken) = parse_value(bytes).expect("RESP").expect("whole");
        assert_eq!(taken, bytes.len());
        let Value::Array(words) = value else { panic!("a command is an array") };
        let word =
            |value: &Value| String::from_utf8_lossy(value.as_bytes().expect("a bulk")).into_owned();
        words.iter().map(word).collect()
    }

    #[test]
    fn commands_are_those_of_the_protocol() {
        let commands = Commands::new(28);
        let mut out = Vec::new();
        commands.get(10, &mut out);
        assert_eq!(words(&out), ["GET", "key:000000000010"]);
        for (bytes, value) in [(28, "abcdefghijklmnopqrstuvwxyzab"), (0, ""), (10, "abcdefghij")] {
            out.clear();
            commands.set(KEYS_MAX - 1, bytes, &mut out);
            assert_eq!(words(&out), ["SET", "key:999999999999", value]);
        }
        assert_eq!(&key(7), b"key:000000000007");
    }
}
