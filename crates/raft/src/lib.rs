//! Raft consensus for one group, as a pure state machine.
#![no_std]

extern crate alloc;

mod types;

pub use types::*;
