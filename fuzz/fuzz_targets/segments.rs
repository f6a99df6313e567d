//! The log: frames whose checksums are right and whose content is anything.
#![no_main]

#[path = "../../crates/storage/tests/laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = laws::segments(bytes);
});
