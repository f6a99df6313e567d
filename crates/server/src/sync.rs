//! What threads of this crate share: the standard library's, except in `cargo xtask threads`, which
//! runs the same code on Shuttle's, whose threads change places wherever they may.

#[cfg(not(all(test, feature = "threads")))]
mod from {
    pub(crate) use std::sync::{Mutex, atomic, mpsc};
    pub(crate) use std::thread;
}

#[cfg(all(test, feature = "threads"))]
mod from {
    pub(crate) use shuttle::sync::{Mutex, atomic, mpsc};
    pub(crate) use shuttle::thread;
}

pub(crate) use from::{Mutex, atomic, mpsc, thread};
