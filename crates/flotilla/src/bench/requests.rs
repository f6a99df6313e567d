//! Requests, encoded once: only a key's digits differ from one to the next.

use flotilla_resp::encode_command;

/// Digits of a key's number.
const DIGITS: usize = 12;
/// More keys than this have no number of their own.
pub(crate) const KEYS_MAX: u64 = 10_u64.pow(DIGITS as u32);
/// What keys begin with; with its number a key has 16 bytes.
const PREFIX: &[u8] = b"key:";

/// An endless or finite row of requests.
#[derive(Debug)]
pub(crate) struct Requests {
    set: Template,
    get: Template,
    keys: u64,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// SETs, each key once, in order, from this one on.
    Once(u64),
    /// Any key at any time, a GET if a draw is below the limit.
    Random { state: u64, read_limit: u64 },
}

impl Requests {
    /// Sets every key once.
    pub(crate) fn fill(keys: u64, value_bytes: usize) -> Self {
        Self::new(keys, value_bytes, Order::Once(0))
    }

    /// Never ends: keys drawn evenly, and GETs in a share of all requests from 0 to 1.
    pub(crate) fn random(keys: u64, value_bytes: usize, read_share: f64, seed: u64) -> Self {
        let read_limit = (read_share * DRAWS as f64) as u64;
        Self::new(keys, value_bytes, Order::Random { state: seed, read_limit })
    }

    fn new(keys: u64, value_bytes: usize, order: Order) -> Self {
        assert!((1..=KEYS_MAX).contains(&keys), "keys are numbered with {DIGITS} digits");
        let key = [PREFIX, &[b'0'; DIGITS]].concat();
        let value: Vec<u8> = (b'a'..=b'z').cycle().take(value_bytes).collect();
        let set = Template::new(&[b"SET", &key, &value]);
        Self { set, get: Template::new(&[b"GET", &key]), keys, order }
    }

    /// Appends the next request; `false` if there is none.
    pub(crate) fn append_next(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.order {
            Order::Once(next) if *next == self.keys => return false,
            Order::Once(next) => {
                self.set.append(*next, out);
                *next += 1;
            }
            Order::Random { state, read_limit } => {
                let is_read = draw(state) & (DRAWS - 1) < *read_limit;
                // The high half of a product is an even draw below the other factor.
                let key = ((u128::from(draw(state)) * u128::from(self.keys)) >> u64::BITS) as u64;
                let template = if is_read { &self.get } else { &self.set };
                template.append(key, out);
            }
        }
        true
    }
}

/// How many different draws decide whether a request is a read.
const DRAWS: u64 = 1 << 32;

/// SplitMix64: evenly distributed, and quick [Steele, Lea and Flood 2014].
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A request and where its key's digits are.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    digits: usize,
}

impl Template {
    fn new(command: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        encode_command(command, &mut bytes);
        let prefix = bytes.windows(PREFIX.len()).position(|window| window == PREFIX);
        let digits = prefix.expect("the key comes before the value") + PREFIX.len();
        Self { bytes, digits }
    }

    fn append(&self, mut key: u64, out: &mut Vec<u8>) {
        let start = out.len() + self.digits;
        out.extend_from_slice(&self.bytes);
        for digit in out[start..start + DIGITS].iter_mut().rev() {
            *digit = b'0' + (key % 10) as u8;
            key /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_resp::{Value, parse_value};

    fn texts(requests: &mut Requests, count: usize) -> Vec<Vec<String>> {
        let mut bytes = Vec::new();
        let appended = (0..count).take_while(|_| requests.append_next(&mut bytes)).count();
        let mut rest = &bytes[..];
        let mut commands = Vec::new();
        for _ in 0..appended {
            let (value, taken) = parse_value(rest).expect("RESP").expect("whole");
            let Value::Array(words) = value else { panic!("a command is an array") };
            let word = |value: &Value| {
                String::from_utf8_lossy(value.as_bytes().expect("a bulk")).into_owned()
            };
            commands.push(words.iter().map(word).collect());
            rest = &rest[taken..];
        }
        assert!(rest.is_empty());
        commands
    }

    #[test]
    fn filling_sets_every_key_once() {
        let commands = texts(&mut Requests::fill(11, 28), 100);
        assert_eq!(commands.len(), 11);
        assert_eq!(commands[0], ["SET", "key:000000000000", "abcdefghijklmnopqrstuvwxyzab"]);
        assert_eq!(commands[10][1], "key:000000000010");
        assert_eq!(texts(&mut Requests::fill(1, 0), 9), [["SET", "key:000000000000", ""]]);
    }

    #[test]
    fn shares_and_keys_are_as_asked() {
        for share in [0.0, 0.25, 1.0] {
            let commands = texts(&mut Requests::random(10, 1, share, 7), 10_000);
            let reads = commands.iter().filter(|command| command[0] == "GET").count();
            assert!((reads as f64 - share * 10_000.0).abs() < 200.0, "{share}: {reads}");
            for key in 0..10 {
                let name = format!("key:{key:012}");
                let hits = commands.iter().filter(|command| command[1] == name).count();
                assert!((800..1_200).contains(&hits), "{name}: {hits}");
            }
        }
    }
}
