//! What is going to happen, ordered by time, and among equals by the order of scheduling.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Virtual time since the beginning of the run, microseconds.
pub type Micros = u64;

/// A queue of things to come.
///
/// The heap moves small handles only; what they stand for lies still in a slab.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Scheduled>,
    slab: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheduled {
    at: Micros,
    sequence: u64,
    place: u32,
}

impl<T> Queue<T> {
    /// Nothing to come.
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slab: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    /// Lets something happen at a time.
    pub(crate) fn push(&mut self, at: Micros, what: T) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            u32::try_from(self.slab.len() - 1).expect("fewer things to come than 2^32")
        });
        self.slab[place as usize] = Some(what);
        self.heap.push(Scheduled { at, sequence: self.sequence, place });
    }

    /// The next thing and its time, if it is not after `until`.
    pub(crate) fn pop_until(&mut self, until: Micros) -> Option<(Micros, T)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        let Scheduled { at, place, .. } = self.heap.pop()?;
        self.free.push(place);
        let what = self.slab[place as usize].take().expect("what is scheduled is in the slab");
        Some((at, what))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its greatest first.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_keep_their_order_and_the_future_waits() {
        let mut queue = Queue::new();
        for (at, what) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(at, what);
        }
        let mut order = String::new();
        while let Some((_, what)) = queue.pop_until(4) {
            order.push(what);
        }
        assert_eq!(order, "ab");
        while let Some((_, what)) = queue.pop_until(9) {
            order.push(what);
        }
        assert_eq!(order, "abcd");
    }
}
