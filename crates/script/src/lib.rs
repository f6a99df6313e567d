//! The runner of golden scripts that the tests of all crates use
