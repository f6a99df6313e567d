//! A model checker whose model is the shipped consensus core.
//!
//! [`explore`] takes three [`flotilla_raft::Raft`]s, with a host that does as little as the
//! contract allows, and tries everything that may happen next, in every order, up to the bounds of
//! a [`Scope`]: any armed deadline comes, a message arrives, twice, or is lost, a write is
//! reported, the power goes with any part of the unreported writes on disk, a snapshot is made, the
//! voters change. After each step the core checks all its invariants, and from outside it is
//! checked that
//!
//! - a term has one leader, and that one has everything that was committed before its term;
//! - logs that agree at a place agree below it;
//! - all replicas apply the same entries, and snapshots are of them;
//! - what is committed is on the disks of a quorum;
//! - no message promises what its sender's disk has not reported;
//! - a read sees all that was committed before it was asked for.
//!
//! Time has no length here: replicas have clocks that are not compared, and each goes on only as
//! far as its own next deadline. `docs/internals/explore.md` says what that leaves out.

mod cluster;
mod parcel;
mod replica;
mod scope;
mod search;
mod witness;

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::FixedState;

use parcel::Parcel;

pub use scope::{Begin, Budget, HostFault, Scope};
pub use search::{Explored, Violation, explore};

/// The same in every process, so that counts can be compared.
fn fingerprint() -> impl Hasher {
    FixedState::with_seed(0x0f10_7111_a5ea_u64).build_hasher()
}

fn word_of(value: &impl Hash) -> u64 {
    let mut hasher = fingerprint();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Words are hashes already.
#[derive(Clone, Default)]
struct SameWord;

impl BuildHasher for SameWord {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

/// Gives back what it was given.
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only words are hashed")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}
