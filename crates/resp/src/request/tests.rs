//! Tests of the decoder: known texts, limits, and every way to cut the bytes.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// What a connection got to see: its requests, and the error that ended it.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
}

/// A connection that reads the bytes up to each of `cuts`, and then all.
fn read(limits: Limits, bytes: &[u8], cuts: &[usize]) -> Seen {
    let mut decoder = RequestDecoder::new(limits);
    let mut seen = Seen::default();
    let mut dropped = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        loop {
            match decoder.decode(&bytes[dropped..end]) {
                Ok(Some(request)) => {
                    assert_eq!(request.len(), request.args().len());
                    seen.requests.push(request.args().map(<[u8]>::to_vec).collect());
                    dropped += request.consumed();
                }
                Ok(None) => break,
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
            }
        }
        // Every other connection drops early what need not be kept.
        if cuts.len() % 2 == 1 {
            dropped += decoder.take_skipped();
        }
    }
    seen
}

/// Small limits, so that small texts break them.
const SMALL: Limits =
    Limits { max_bulk: 8, max_request_bytes: 59, max_elements: 4, max_inline: 16 };

fn requests(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let seen = read(Limits::default(), bytes, &[]);
    assert_eq!(seen.error, None, "{}", bytes.escape_ascii());
    seen.requests
}

fn refusal(limits: Limits, bytes: &[u8]) -> String {
    let error = read(limits, bytes, &[]).error;
    error.map_or_else(String::new, |error| error.to_string())
}

#[test]
fn arrays_and_lines_mix() {
    let bytes = b"*2\r\n$3\r\nGET\r\n$0\r\n\r\nSET k \"a b\"\r\nPING\n*1\r\n$6\r\na\r\nb\0c\r\n";
    let expected: [&[&[u8]]; 4] =
        [&[b"GET", b""], &[b"SET", b"k", b"a b"], &[b"PING"], &[b"a\r\nb\0c"]];
    assert_eq!(requests(bytes), expected);
}

#[test]
fn empty_lines_and_empty_arrays_are_skipped() {
    let bytes = b"\r\n\n  \r\n*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n\r\n";
    assert_eq!(requests(bytes), [[b"PING"]]);
}

#[test]
fn skipped_bytes_can_be_dropped_at_once() {
    let mut decoder = RequestDecoder::new(Limits::default());
    assert!(decoder.decode(b"\r\n*0\r\n*1\r\n$4").expect("well formed").is_none());
    assert_eq!(decoder.take_skipped(), 6);
    assert_eq!(decoder.take_skipped(), 0);
    let request = decoder.decode(b"*1\r\n$4\r\nPING\r\n").expect("well formed").expect("whole");
    assert_eq!((request.arg(0), request.consumed()), (b"PING".as_slice(), 14));
    assert_eq!(decoder.take_skipped(), 0);
}

#[test]
fn errors_have_the_words_of_redis() {
    let long = vec![b'a'; 65537];
    let cases: [(&[u8], &str); 14] = [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\r\n", "expected '$', got '\\r'"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$16777217\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$1\r\nabc\r\n", "expected CRLF at the end of a bulk string"),
        (b"SET \"k\r\n", "unbalanced quotes in request"),
        (&long, "too big inline request"),
        (b"GET 'a'b\n", "unbalanced quotes in request"),
    ];
    for (bytes, words) in cases {
        let expected = ["Protocol error: ", words].concat();
        assert_eq!(refusal(Limits::default(), bytes), expected);
    }
}

#[test]
fn a_request_as_a_whole_is_limited_before_it_arrives() {
    let head = b"*4\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$8\r\n";
    let words = "Protocol error: the request exceeds the limit of 59 bytes";
    assert_eq!(refusal(SMALL, head), words);
    assert_eq!(refusal(Limits { max_request_bytes: 60, ..SMALL }, head), "");
}

#[test]
fn memory_does_not_outlive_a_large_request() {
    let mut decoder = RequestDecoder::new(Limits::default());
    assert_eq!(decoder.args.capacity(), 0);
    let mut large = b"*10000\r\n".to_vec();
    large.extend(b"$0\r\n\r\n".repeat(10_000));
    let request = decoder.decode(&large).expect("well formed").expect("whole");
    assert_eq!(request.len(), 10_000);
    assert!(decoder.decode(b"").expect("well formed").is_none());
    assert!(decoder.args.capacity() <= KEPT_ARGS);
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut decoder = RequestDecoder::new(Limits::default());
    assert!(decoder.decode(b"*1048576\r\n$16777216\r\n").expect("well formed").is_none());
    assert_eq!(decoder.args.capacity(), 0);
}

#[test]
fn cutting_anywhere_changes_nothing() {
    let texts: [&[u8]; 9] = [
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*1\r\n$4\r\nPING\r\n",
        b"\r\n*0\r\nGET k\r\n\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n",
        b"*-12\r\nset 'a b' \"\\x00\"\n",
        b"*1\r\n$1\r\nab\r\n",
        b"PING\r\n*5\r\n",
        b"*2\r\n$1\r\na\r\n+x\r\n",
        b"12345678901234567\r\n",
        b"1234567890123456\n*1\r\n$9\r\n",
        b"*4\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n",
    ];
    for bytes in texts {
        let whole = read(SMALL, bytes, &[]);
        for first in 0..=bytes.len() {
            assert_eq!(read(SMALL, bytes, &[first]), whole, "{} at {first}", bytes.escape_ascii());
            for second in first..=bytes.len() {
                assert_eq!(read(SMALL, bytes, &[first, second]), whole);
            }
        }
        let each: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(read(SMALL, bytes, &each), whole);
    }
}

#[test]
fn what_arrived_is_not_looked_at_again() {
    let mut bytes = b"*2\r\n$3\r\nGET\r\n$1000\r\n".to_vec();
    let mut decoder = RequestDecoder::new(Limits::default());
    assert!(decoder.decode(&bytes).expect("well formed").is_none());
    // Bytes already read may not be read again: spoiling them has no effect.
    let seen = bytes.len();
    bytes.extend(vec![b'v'; 1000]);
    bytes.extend_from_slice(b"\r\n");
    bytes[..5].fill(b'!');
    bytes[13..seen].fill(b'!');
    let request = decoder.decode(&bytes).expect("well formed").expect("whole");
    assert_eq!(request.arg(0), b"GET");
    assert_eq!(request.arg(1), vec![b'v'; 1000]);
}
