//! Replies: the parser of a client, and what turns RESP3 into RESP2.
#![no_main]

#[path = "../../crates/resp/tests/laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::values(bytes));
