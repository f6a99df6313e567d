//! The names of shards, nodes, disks and clusters.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A shard: one Raft group and the slots it owns. Shard 0 is [`META`]; data shards count from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ShardId(pub u32);

/// The shard whose state is the map. It owns no slot.
pub const META: ShardId = ShardId(0);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node, by its position in the layout, counted from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The node at `position` of a list, counted from 0. Panics above 4 billion nodes.
    pub fn at(position: usize) -> Self {
        Self(u32::try_from(position + 1).expect("there are fewer than 4 billion nodes"))
    }

    /// The position in a list, counted from 0; `None` for node 0, which does not exist.
    pub fn position(self) -> Option<usize> {
        self.0.checked_sub(1).map(|position| position as usize)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The random number a node logs at its first boot. Who loses the log loses the id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub [u8; 16]);

impl StorageId {
    /// The node's name in `CLUSTER NODES`: 40 hex digits, a digest of the id, the same for ever.
    pub fn node_name(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut name = hex(&digest);
        name.truncate(40);
        name
    }
}

/// The name of a cluster: the digest of its founding record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// The text is not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 hex digits")]
pub struct IdError;

macro_rules! in_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self).ok_or(IdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

in_hex!(StorageId);
in_hex!(ClusterId);

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(HEX_DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let value =
        |digit: u8| HEX_DIGITS.iter().position(|&known| known == digit.to_ascii_lowercase());
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_and_read_in_hex() {
        let id = StorageId(*b"\x00\x01\x7f\x80\xff0123456789a");
        assert_eq!(id.to_string(), "00017f80ff3031323334353637383961");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "0", "zz017f80ff3031323334353637383961", "é0017f80ff30313233343536373839"]
        {
            assert_eq!(wrong.parse::<ClusterId>(), Err(IdError), "{wrong}");
        }
    }

    #[test]
    fn a_node_name_is_40_hex_digits_and_never_changes() {
        let name = StorageId([7; 16]).node_name();
        assert_eq!(name.len(), 40);
        assert_eq!(name, "d761d406af2a4a5a15f67c924378ed88d1f85c13");
    }
}
