//! The digest of a run, and its story for those who ask.

use std::fmt;

/// Receives the lines of a story as they happen.
pub type Listener = Box<dyn FnMut(&str) + Send>;

/// Everything that happened, as a number; equal for equal runs.
#[derive(Default)]
pub(crate) struct Trace {
    digest: u64,
    listener: Option<Listener>,
}

impl Trace {
    /// Tells the story to `listener` too.
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self { digest: 0, listener }
    }

    /// Something happened.
    pub(crate) fn mix(&mut self, word: u64) {
        self.digest = mixed(self.digest ^ word);
    }

    /// Bytes were seen.
    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(digest_of(bytes));
    }

    /// A line of the story; `line` is only asked for if somebody listens.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(listener) = &mut self.listener {
            listener(&line());
        }
    }

    /// Whether somebody listens.
    pub(crate) fn is_told(&self) -> bool {
        self.listener.is_some()
    }

    /// The digest of everything so far.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.digest)
    }
}

/// A word that stands for some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> u64 {
    let mut digest = bytes.len() as u64;
    for piece in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        digest = mixed(digest ^ u64::from_le_bytes(word));
    }
    digest
}

/// Spreads every bit of a word over all of it [Steele et al., 2014].
pub(crate) fn mixed(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
