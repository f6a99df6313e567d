//! What every system has to do, and how it is seen that it was done.

/// Replicas of a group, numbered from 1.
pub(crate) const REPLICAS: usize = 3;
/// Bytes of every payload.
pub(crate) const PAYLOAD_BYTES: usize = 64;

/// So many batches, of so many payloads each.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) batches: u64,
    pub(crate) batch_size: u64,
    pub(crate) calls: Calls,
}

/// How a batch is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// In one call, where there is such a call.
    One,
    /// In a call for each payload.
    Each,
}

impl Work {
    /// The payloads altogether.
    pub(crate) fn commits(self) -> u64 {
        self.batches * self.batch_size
    }

    /// What a replica has applied when all is done.
    pub(crate) fn applied(self) -> Applied {
        let mut applied = Applied::default();
        for number in 0..self.commits() {
            applied.apply(&payload(number));
        }
        applied
    }
}

/// Three replicas of one system.
pub(crate) trait Group {
    /// A group with a leader, which has committed the first entry of its term.
    fn elected() -> Self;

    /// Does the work: each batch is applied by every replica before the next is proposed.
    fn run(&mut self, work: Work);

    /// Panics unless the leader has acknowledged every payload once it was committed, and every
    /// replica has applied all of them, in order, and has all of them in its log.
    fn check(self, work: Work);
}

/// The payload of this number; all differ.
pub(crate) fn payload(number: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (word, place) in words.iter_mut().zip(1..) {
        *word = (number + 1).wrapping_mul(2 * place + 1).to_le_bytes();
    }
    bytes
}

/// A state machine that reads each payload, and tells two orders of them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) count: u64,
    digest: u64,
}

impl Applied {
    /// Applies the payload of one entry.
    pub(crate) fn apply(&mut self, payload: &[u8]) {
        assert_eq!(payload.len(), PAYLOAD_BYTES, "a payload is applied as it was proposed");
        self.count += 1;
        let (words, _) = payload.as_chunks::<8>();
        for word in words {
            self.digest = self.digest.rotate_left(5) ^ u64::from_le_bytes(*word);
        }
        self.digest = self.digest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
