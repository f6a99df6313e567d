//! Memory of commands that are over, for those to come: a client's command is kept until it has its
//! reply, in an allocation of its own.

use flotilla_kv::args::{Args, ArgsBuf};

/// So many are kept.
const KEPT_MAX: usize = 1_024;
/// None with more memory than this, bytes.
const KEPT_BYTES_MAX: usize = 1 << 10;

/// Commands that are over.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<ArgsBuf>);

impl Spare {
    /// A copy of a command.
    pub(crate) fn copy(&mut self, args: Args<'_>) -> ArgsBuf {
        let mut copy = self.0.pop().unwrap_or_default();
        copy.copy_from(args);
        copy
    }

    /// A command is over.
    pub(crate) fn give(&mut self, args: ArgsBuf) {
        if self.0.len() < KEPT_MAX && args.capacity() <= KEPT_BYTES_MAX {
            self.0.push(args);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_is_worth_it() {
        let mut spare = Spare::default();
        let large = vec![b'x'; 2 * KEPT_BYTES_MAX];
        spare.give(ArgsBuf::from_slices(&[b"SET", b"k", &large]));
        assert!(spare.0.is_empty());
        let small = ArgsBuf::from_slices(&[b"GET", b"k"]);
        (0..2 * KEPT_MAX).for_each(|_| spare.give(small.clone()));
        assert_eq!(spare.0.len(), KEPT_MAX);
        let other = ArgsBuf::from_slices(&[b"SET", b"key", b"value"]);
        assert_eq!(spare.copy(other.as_args()), other, "nothing of the former one is left");
        assert_eq!(spare.0.len(), KEPT_MAX - 1);
    }
}
