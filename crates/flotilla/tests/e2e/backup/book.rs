//! What a test has put into a cluster, to be found in another.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::Connection;

/// Keys written or compared with one request.
const AT_ONCE: usize = 256;
/// Keys that do not last expire so long after they were written, milliseconds.
const FLEETING_MS: i64 = 8_000;
/// A value that takes many chunks of a snapshot.
const LARGE_BYTES: usize = 3 << 20;

/// Keys with their values and expiries (Unix milliseconds).
#[derive(Debug, Default)]
pub(crate) struct Book {
    lasting: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>,
    /// Keys that expire within seconds.
    fleeting: Vec<Vec<u8>>,
    /// When it was begun to be written.
    written_ms: i64,
    last_expiry_ms: i64,
}

impl Book {
    /// Keys of all kinds: with any byte in them, empty, large, expiring late or soon.
    pub(crate) fn new(count: u64) -> Self {
        let mut book = Self::default();
        for number in 0..count {
            let key = match number % 10 {
                0 => [&number.to_be_bytes()[..], b"\x00\xff\r\n"].concat(),
                1 => format!("{{tag{}}}:{number}", number % 7).into_bytes(),
                _ => format!("key:{number}").into_bytes(),
            };
            let length = if number == 3 { LARGE_BYTES } else { (number * 37 % 1_500) as usize };
            let expiry = (number % 5 == 0).then(|| now_ms() + 3_600_000 + number as i64);
            book.lasting.insert(key, (noise(number, length), expiry));
        }
        book.fleeting = (0..50).map(|number| format!("fleeting:{number}").into_bytes()).collect();
        book
    }

    /// Keys with values of one length that can't be compressed.
    pub(crate) fn of_noise(count: u64, bytes: usize) -> Self {
        let value = |number| (noise(number, bytes), None);
        let lasting = (0..count).map(|number| (number.to_string().into_bytes(), value(number)));
        Self { lasting: lasting.collect(), ..Self::default() }
    }

    /// Writes it all.
    pub(crate) fn write(&mut self, connection: &mut Connection) {
        self.written_ms = now_ms();
        let items: Vec<_> = self.lasting.iter().collect();
        for items in items.chunks(AT_ONCE) {
            let mut pipe = redis::pipe();
            for (key, (value, expiry)) in items {
                let set = pipe.cmd("SET").arg(key).arg(value);
                if let Some(at) = expiry {
                    set.arg("PXAT").arg(at);
                }
            }
            pipe.exec(connection).expect("the cluster serves");
        }
        self.last_expiry_ms = now_ms() + FLEETING_MS;
        for key in &self.fleeting {
            let set = redis::cmd("SET")
                .arg(key)
                .arg("gone")
                .arg("PXAT")
                .arg(self.last_expiry_ms)
                .exec(connection);
            set.expect("the cluster serves");
        }
    }

    /// When it was begun to be written, in milliseconds since 1970.
    pub(crate) fn written_ms(&self) -> i64 {
        self.written_ms
    }

    /// How many keys last.
    pub(crate) fn len(&self) -> usize {
        self.lasting.len()
    }

    /// How many keys do not.
    pub(crate) fn fleeting(&self) -> usize {
        self.fleeting.len()
    }

    /// Whether all that do not last have expired.
    pub(crate) fn only_lasting_are_left(&self) -> bool {
        now_ms() > self.last_expiry_ms
    }

    /// Compares each key, value and expiry.
    pub(crate) fn compare(&self, connection: &mut Connection) {
        let items: Vec<_> = self.lasting.iter().collect();
        for items in items.chunks(AT_ONCE) {
            let mut pipe = redis::pipe();
            for (key, _) in items {
                pipe.cmd("GET").arg(key).cmd("PEXPIRETIME").arg(key);
            }
            let found: Vec<redis::Value> = pipe.query(connection).expect("the cluster serves");
            for ((key, (value, expiry)), found) in items.iter().zip(found.chunks(2)) {
                let shown = key.escape_ascii();
                assert!(found[0] == redis::Value::BulkString(value.clone()), "value of {shown}");
                assert_eq!(found[1], redis::Value::Int(expiry.unwrap_or(-1)), "expiry of {shown}");
            }
        }
        for key in &self.fleeting {
            let there: bool =
                redis::cmd("EXISTS").arg(key).query(connection).expect("the cluster serves");
            assert!(!there, "{} has expired", key.escape_ascii());
        }
    }
}

/// The wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    since.as_millis().try_into().expect("it is not that late")
}

/// Bytes that can't be compressed: a generator of Marsaglia's, which needs a state that is not 0.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
