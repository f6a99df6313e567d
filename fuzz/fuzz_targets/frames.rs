//! Links between nodes: how frames make up packets.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flotilla_node::laws::frames(bytes));
