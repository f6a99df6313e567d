//! Disks: a log and a snapshot with any places overwritten.
#![no_main]

#[path = "../../crates/storage/tests/laws/mod.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = laws::images(bytes);
});
