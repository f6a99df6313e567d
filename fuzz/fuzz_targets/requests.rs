//! Requests of clients: the decoder of RESP and of typed lines.
#![no_main]

#[path = "../../crates/resp/tests/laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::requests(bytes));
