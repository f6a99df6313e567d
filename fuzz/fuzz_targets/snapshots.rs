//! Snapshot files, overwritten or made up.
#![no_main]

#[path = "../../crates/storage/tests/laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::snapshots(bytes));
