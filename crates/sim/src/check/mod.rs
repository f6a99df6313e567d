//! The checkers: each looks from outside at what a run did, and says in words what is wrong.

pub mod linearizability;
pub mod once;
pub(crate) mod safety;
