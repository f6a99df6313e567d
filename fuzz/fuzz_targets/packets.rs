//! Links between nodes: what is in packets.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flotilla_node::laws::packets(bytes));
