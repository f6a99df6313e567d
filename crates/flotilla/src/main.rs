//! Flotilla, the one binary.
fn main() {}
