//! Which connections have something to do, and whose turn it is.
//!
//! They are told in any order and several times, and get one turn each per pass, in the order of
//! their numbers: what is decided must not depend on who was told first. Nothing is allocated once
//! a pass has been as long.

use crate::io::ConnId;

/// Connections that wait for a turn. One that was closed meanwhile may still get it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// For the next pass, as they came.
    waiting: Vec<ConnId>,
    /// What is left of this pass, the last one first.
    pass: Vec<ConnId>,
}

impl Turns {
    /// A connection wants a turn.
    pub(crate) fn insert(&mut self, conn: ConnId) {
        if self.waiting.last() != Some(&conn) {
            self.waiting.push(conn);
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.pass.is_empty()
    }

    /// The next one. A pass begins with `first`, or who comes after it, and goes round.
    pub(crate) fn next(&mut self, first: ConnId) -> Option<ConnId> {
        if self.pass.is_empty() {
            std::mem::swap(&mut self.pass, &mut self.waiting);
            self.pass.sort_unstable();
            self.pass.dedup();
            let at = self.pass.partition_point(|conn| *conn < first);
            self.pass.rotate_left(at);
            self.pass.reverse();
        }
        self.pass.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_goes_round_once_from_the_first_one_on() {
        let mut turns = Turns::default();
        for conn in [5, 2, 2, 9, 5, 7] {
            turns.insert(ConnId(conn));
        }
        let mut order = Vec::new();
        while let Some(conn) = turns.next(ConnId(6)) {
            if order.is_empty() {
                turns.insert(ConnId(2));
            }
            order.push(conn.0);
        }
        assert_eq!(order, [7, 9, 2, 5, 2], "who comes meanwhile is in the next pass");
        assert!(turns.is_empty());
    }
}
