//! What is going to happen, ordered by time, and among equals by the order of scheduling.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Virtual time since the beginning of the run, microseconds.
pub type Micros = u64;

/// A queue of things to come.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Scheduled<T>>,
    sequence: u64,
}

#[derive(Debug)]
struct Scheduled<T> {
    at: Micros,
    sequence: u64,
    what: T,
}

impl<T> Queue<T> {
    /// Nothing to come.
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }

    /// Lets something happen at a time.
    pub(crate) fn push(&mut self, at: Micros, what: T) {
        self.sequence += 1;
        self.heap.push(Scheduled { at, sequence: self.sequence, what });
    }

    /// The next thing and its time, if it is not after `until`.
    pub(crate) fn pop_until(&mut self, until: Micros) -> Option<(Micros, T)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|scheduled| (scheduled.at, scheduled.what))
    }
}

impl<T> Ord for Scheduled<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its greatest first.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Scheduled<T> {}

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
