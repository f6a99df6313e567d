//! The replies of one connection, in the order of its requests.
//!
//! A reply leaves when all before it have. While nothing is waiting, replies go straight to the
//! bytes that may leave; behind a request that is still being worked on they are held, each as a
//! range of one buffer, so that no reply costs an allocation of its own.
//!
//! Invariants: a place is in the queue only if it, or one before it, waits, so the front place
//! always waits; places are numbered without gaps; each held range belongs to one place.

use std::collections::VecDeque;
use std::ops::Range;

use flotilla_resp::{downgrade, encode};

use super::Protocol;

/// Held bytes that no place needs any more are reclaimed beyond this many.
const SLACK_BYTES_MAX: usize = 64 << 10;

/// The queue of a connection's replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// What may leave, already in the protocol of its request.
    ready: Vec<u8>,
    /// Replies that stand behind a waiting place.
    held: Vec<u8>,
    /// Bytes of `held` that some place refers to.
    held_live: usize,
    places: VecDeque<Place>,
    /// The number of the front place.
    first: u64,
}

#[derive(Debug)]
enum Place {
    /// The reply will come; it is to be written in this protocol.
    Waiting(Protocol),
    /// The reply, as a range of the held bytes.
    Held(Range<usize>),
}

impl Replies {
    /// Appends the next reply, given in RESP3.
    pub(super) fn push(&mut self, protocol: Protocol, resp3: &[u8]) {
        if self.places.is_empty() {
            write_as(protocol, resp3, &mut self.ready);
        } else {
            let range = self.hold(protocol, resp3);
            self.places.push_back(Place::Held(range));
        }
    }

    /// Reserves the next place for a reply in `protocol`.
    pub(super) fn defer(&mut self, protocol: Protocol) -> u64 {
        self.places.push_back(Place::Waiting(protocol));
        self.first + self.places.len() as u64 - 1
    }

    /// Gives a reserved place its reply. A place that is unknown or has one already stays as it is.
    pub(super) fn fill(&mut self, place: u64, resp3: &[u8]) {
        let Some(index) = place.checked_sub(self.first) else { return };
        let Some(Place::Waiting(protocol)) = self.places.get(index as usize) else { return };
        let protocol = *protocol;
        if index > 0 {
            let range = self.hold(protocol, resp3);
            self.places[index as usize] = Place::Held(range);
            return;
        }
        write_as(protocol, resp3, &mut self.ready);
        self.leave_front();
        self.release();
    }

    /// Places that wait or stand behind one that waits.
    pub(super) fn pending(&self) -> usize {
        self.places.len()
    }

    /// Bytes of replies that have not been taken.
    pub(super) fn bytes(&self) -> usize {
        self.ready.len() + self.held_live
    }

    /// Moves everything that may leave to the end of `out`.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.ready);
        } else {
            out.append(&mut self.ready);
        }
    }

    /// Gives back the memory of what is empty.
    pub(super) fn rest(&mut self) {
        if self.pending() == 0 && self.bytes() == 0 {
            self.ready = Vec::new();
            self.held = Vec::new();
            self.places = VecDeque::new();
        }
    }

    fn hold(&mut self, protocol: Protocol, resp3: &[u8]) -> Range<usize> {
        let start = self.held.len();
        write_as(protocol, resp3, &mut self.held);
        let range = start..self.held.len();
        self.held_live += range.len();
        range
    }

    /// Drops the answered front place, and moves all that now have nothing to wait for.
    fn leave_front(&mut self) {
        self.places.pop_front();
        self.first += 1;
        while let Some(Place::Held(range)) = self.places.front() {
            self.ready.extend_from_slice(&self.held[range.clone()]);
            self.held_live -= range.len();
            self.places.pop_front();
            self.first += 1;
        }
    }

    /// Gives back held bytes that nobody needs, once they are more than those that are needed; so
    /// the copying is a constant factor, and the buffer stays bounded under an endless pipeline.
    fn release(&mut self) {
        if self.held_live == 0 {
            self.held.clear();
            self.held.shrink_to(SLACK_BYTES_MAX);
            return;
        }
        let dead = self.held.len() - self.held_live;
        if dead <= SLACK_BYTES_MAX.max(self.held_live) {
            return;
        }
        let mut kept = Vec::with_capacity(self.held_live);
        for place in &mut self.places {
            if let Place::Held(range) = place {
                let start = kept.len();
                kept.extend_from_slice(&self.held[range.clone()]);
                *range = start..kept.len();
            }
        }
        assert!(kept.len() == self.held_live, "each held byte belongs to exactly one place");
        self.held = kept;
    }
}

/// A reply that is no RESP3 came from another node, whose command may have been applied.
const MALFORMED_REPLY: &[u8] = b"UNCERTAIN the reply of the shard's leader was malformed";

fn write_as(protocol: Protocol, resp3: &[u8], out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp3 => out.extend_from_slice(resp3),
        Protocol::Resp2 => {
            if downgrade(resp3, out).is_err() {
                encode::error(out, MALFORMED_REPLY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(replies: &mut Replies) -> String {
        let mut out = Vec::new();
        replies.take(&mut out);
        String::from_utf8(out).expect("the tests write text")
    }

    #[test]
    fn ready_replies_leave_at_once() {
        let mut replies = Replies::default();
        replies.push(Protocol::Resp2, b"+A\r\n");
        replies.push(Protocol::Resp2, b"_\r\n");
        assert_eq!(replies.pending(), 0);
        assert_eq!(taken(&mut replies), "+A\r\n$-1\r\n");
    }

    #[test]
    fn a_waiting_place_holds_all_behind_it() {
        let mut replies = Replies::default();
        let first = replies.defer(Protocol::Resp2);
        replies.push(Protocol::Resp2, b"+B\r\n");
        let third = replies.defer(Protocol::Resp3);
        replies.push(Protocol::Resp3, b"_\r\n");
        assert_eq!((replies.pending(), taken(&mut replies).as_str()), (4, ""));
        replies.fill(third, b"_\r\n");
        assert_eq!((replies.pending(), taken(&mut replies).as_str()), (4, ""));
        replies.fill(first, b"_\r\n");
        assert_eq!(replies.pending(), 0);
        assert_eq!(taken(&mut replies), "$-1\r\n+B\r\n_\r\n_\r\n");
    }

    #[test]
    fn a_place_is_filled_once() {
        let mut replies = Replies::default();
        let first = replies.defer(Protocol::Resp2);
        let second = replies.defer(Protocol::Resp2);
        replies.fill(second, b"+2\r\n");
        replies.fill(second, b"+again\r\n");
        replies.fill(second + 1, b"+unknown\r\n");
        replies.fill(first, b"+1\r\n");
        replies.fill(first, b"+again\r\n");
        assert_eq!(taken(&mut replies), "+1\r\n+2\r\n");
        assert_eq!(replies.bytes(), 0);
    }

    /// The front moves on for ever while something always waits: the held buffer stays bounded.
    #[test]
    fn an_endless_pipeline_needs_bounded_memory() {
        let mut replies = Replies::default();
        let reply = [b"$1024\r\n".as_slice(), &[b'x'; 1024], b"\r\n"].concat();
        let mut waiting = VecDeque::from([replies.defer(Protocol::Resp3)]);
        let mut out = Vec::new();
        for _ in 0..5_000 {
            replies.push(Protocol::Resp3, &reply);
            waiting.push_back(replies.defer(Protocol::Resp3));
            let front = waiting.pop_front().expect("one was just pushed");
            replies.fill(front, &reply);
            out.clear();
            replies.take(&mut out);
            assert_eq!(out.len(), 2 * reply.len());
            assert!(replies.held.len() <= 2 * SLACK_BYTES_MAX + 2 * reply.len());
        }
    }

    /// Any order of filling gives the replies in the order of the requests.
    #[test]
    fn every_order_of_answers_gives_the_order_of_requests() {
        for seed in 0_u64..200 {
            let mut replies = Replies::default();
            let mut expected = String::new();
            let mut open = Vec::new();
            let mut got = String::new();
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            for number in 0..50 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let reply = format!("+{number}\r\n");
                expected.push_str(&reply);
                if state >> 63 == 0 {
                    replies.push(Protocol::Resp2, reply.as_bytes());
                } else {
                    open.push((replies.defer(Protocol::Resp2), reply));
                }
                if (state >> 40) % 4 == 0 && !open.is_empty() {
                    let (place, reply) = open.swap_remove((state >> 33) as usize % open.len());
                    replies.fill(place, reply.as_bytes());
                }
                got.push_str(&taken(&mut replies));
            }
            for (place, reply) in open.into_iter().rev() {
                replies.fill(place, reply.as_bytes());
            }
            got.push_str(&taken(&mut replies));
            assert_eq!(got, expected, "seed {seed}");
        }
    }
}
