//! The consistent-hash ring over the slots.
//!
//! A member has `16 × weight` tokens; a token is a place on the circle of slots, drawn from the
//! digest of the member's name. A slot goes to the first token at or after it. So adding a member
//! takes slots only for the newcomer, and removing one gives away only its own.
//!
//! The order in which members were added does not matter, and tokens are the same on every node and
//! in every version. Source: [Karger et al., STOC 1997], with virtual nodes as in [Dynamo §4.2].

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{SLOTS, Slot, slot_of};

/// Tokens on the ring per unit of weight.
pub const TOKENS_PER_WEIGHT: u32 = 16;

/// The largest weight of a member.
pub const MAX_WEIGHT: u32 = 1024;

/// Names on a circle of slots.
///
/// ```
/// use flotilla_shard::Ring;
///
/// let mut ring = Ring::new();
/// ring.add_node("a", 1).expect("a new name");
/// ring.add_node("b", 2).expect("a new name");
/// let owner = ring.node_for_key(b"cart:7").expect("the ring has members").to_owned();
/// ring.remove_node(&owner);
/// assert_ne!(ring.node_for_key(b"cart:7"), Some(owner.as_str()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    weights: BTreeMap<String, u32>,
    /// In the order of slots; where several have the same slot, the first has it.
    tokens: Vec<Token>,
}

/// A member's claim to the slots up to this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    slot: Slot,
    /// Decides between tokens in one slot, without favour for any name.
    lot: u64,
    name: String,
}

impl Ring {
    /// A ring without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the member `name` with `16 × weight` tokens.
    pub fn add_node(&mut self, name: &str, weight: u32) -> Result<(), RingError> {
        if weight == 0 || weight > MAX_WEIGHT {
            return Err(RingError::Weight { weight });
        }
        if self.weights.contains_key(name) {
            return Err(RingError::Known { name: name.to_owned() });
        }
        self.weights.insert(name.to_owned(), weight);
        self.tokens.extend((0..weight * TOKENS_PER_WEIGHT).map(|number| token(name, number)));
        self.tokens.sort_unstable();
        Ok(())
    }

    /// Removes the member `name`; false if there was none.
    pub fn remove_node(&mut self, name: &str) -> bool {
        self.tokens.retain(|token| token.name != name);
        self.weights.remove(name).is_some()
    }

    /// The member that `key` belongs to; `None` on an empty ring.
    pub fn node_for_key(&self, key: &[u8]) -> Option<&str> {
        self.node_for_slot(slot_of(key))
    }

    /// The member that `slot` belongs to; `None` on an empty ring.
    pub fn node_for_slot(&self, slot: Slot) -> Option<&str> {
        let next = self.tokens.partition_point(|token| token.slot < slot);
        let token = self.tokens.get(next).or_else(|| self.tokens.first())?;
        Some(&token.name)
    }

    /// The members' names and weights, in the order of names.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.weights.iter().map(|(name, &weight)| (name.as_str(), weight))
    }
}

/// Why a member can't be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The name is taken.
    #[error("{name} is on the ring already")]
    Known {
        /// The name.
        name: String,
    },
    /// The weight is 0 or above [`MAX_WEIGHT`].
    #[error("weight {weight} is not between 1 and {MAX_WEIGHT}")]
    Weight {
        /// The weight.
        weight: u32,
    },
}

/// Token `number` of `name`: its place and its lot are cut from one digest.
fn token(name: &str, number: u32) -> Token {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update([0])
        .chain_update(number.to_le_bytes())
        .finalize()
        .into();
    let slot = u16::from_le_bytes([digest[0], digest[1]]) % SLOTS;
    let lot = u64::from_le_bytes(digest[2..10].try_into().expect("eight bytes"));
    Token { slot: Slot(slot), lot, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(names: &[&str]) -> Ring {
        let mut ring = Ring::new();
        for name in names {
            ring.add_node(name, 1).expect("a new name");
        }
        ring
    }

    fn owners(ring: &Ring) -> Vec<&str> {
        Slot::all().map(|slot| ring.node_for_slot(slot).expect("members")).collect()
    }

    #[test]
    fn an_empty_ring_has_nobody() {
        assert_eq!(Ring::new().node_for_key(b"key"), None);
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        assert_eq!(ring(&["a", "b", "c"]), ring(&["c", "a", "b"]));
    }

    #[test]
    fn a_newcomer_takes_only_for_itself_and_leaves_everything_as_it_was() {
        let mut changing = ring(&["a", "b", "c"]);
        let before = changing.clone();
        changing.add_node("d", 2).expect("a new name");
        for (old, new) in owners(&before).into_iter().zip(owners(&changing)) {
            assert!(old == new || new == "d");
        }
        assert!(changing.remove_node("d"));
        assert!(!changing.remove_node("d"));
        assert_eq!(changing, before);
    }

    #[test]
    fn tokens_are_the_same_in_every_version() {
        let mut ring = ring(&["1", "2", "ant", "bee"]);
        ring.add_node("cat", 3).expect("a new name");
        let keys = ["", "foo", "bar", "cart:7", "{user1000}.following", "123456789"];
        let owners = keys.map(|key| ring.node_for_key(key.as_bytes()).expect("members"));
        assert_eq!(owners, ["cat", "ant", "cat", "bee", "cat", "ant"]);
        let first = [("1", 0), ("2", 0), ("cat", 47)].map(|(name, number)| {
            let token = token(name, number);
            (token.slot.0, token.lot)
        });
        // Computed apart from this code, with Python's hashlib.
        let expected = [
            (6559, 12_472_240_352_116_574_136),
            (13700, 9_326_326_895_221_407_565),
            (10360, 10_106_084_498_140_291_151),
        ];
        assert_eq!(first, expected);
    }

    #[test]
    fn refusals_say_why() {
        let mut ring = ring(&["a"]);
        let text = |result: Result<(), RingError>| result.expect_err("refused").to_string();
        assert_eq!(text(ring.add_node("a", 1)), "a is on the ring already");
        assert_eq!(text(ring.add_node("b", 0)), "weight 0 is not between 1 and 1024");
    }
}
