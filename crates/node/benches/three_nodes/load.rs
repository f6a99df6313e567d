//! What clients send: SETs of 64-byte values, in turns of 32.

use std::io::Write as _;

/// Commands of one turn, of all clients together.
const TURN: u64 = 32;
/// Keys that there are before anything is measured.
pub(crate) const KEYS: u64 = 10_000;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 64;

/// Which keys are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Any of those that are there, uniformly.
    Overwritten,
    /// One that is not there.
    New,
}

/// Where the clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placing {
    /// A connection for each command, all on the leader.
    Leader,
    /// The same, spread evenly over the three nodes.
    Spread,
    /// One connection on the leader, with all commands at once.
    Pipelined,
}

impl Placing {
    /// The one that a program is asked for in its first argument, `leader` if it is not.
    pub(crate) fn of_arguments() -> Self {
        match std::env::args().nth(1).as_deref() {
            None | Some("leader" | "--bench") => Self::Leader,
            Some("spread") => Self::Spread,
            Some("pipelined") => Self::Pipelined,
            Some(other) => panic!("leader, spread or pipelined, and not {other}"),
        }
    }

    /// How many connections there are.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Leader | Self::Spread => TURN as usize,
            Self::Pipelined => 1,
        }
    }

    /// The node that a client is connected to.
    pub(crate) fn node(self, client: usize, leader: usize) -> usize {
        match self {
            Self::Leader | Self::Pipelined => leader,
            Self::Spread => client % super::NODES,
        }
    }
}

/// A stream of commands.
pub(crate) struct Load {
    keys: Keys,
    /// So many keys are there.
    count: u64,
    /// Commands that one client sends in a turn.
    pipeline: u64,
    random: u64,
}

impl Load {
    /// A load over so many keys that are there.
    pub(crate) fn new(keys: Keys, count: u64, placing: Placing) -> Self {
        Self { keys, count, pipeline: TURN / placing.connections() as u64, random: 1 }
    }

    /// The next key; a new one is there from now on.
    pub(crate) fn next_key(&mut self) -> [u8; 16] {
        let number = match self.keys {
            Keys::Overwritten => self.word() % self.count,
            Keys::New => self.count,
        };
        self.count += u64::from(self.keys == Keys::New);
        let mut key = *b"key:000000000000";
        write!(&mut key[4..], "{number:012}").expect("it has twelve places");
        key
    }

    /// The next value.
    pub(crate) fn next_value(&mut self) -> [u8; VALUE_BYTES] {
        let mut value = [b'v'; VALUE_BYTES];
        value[..8].copy_from_slice(&self.word().to_le_bytes());
        value
    }

    /// Appends what one client sends in its turn; gives the number of commands.
    pub(crate) fn fill(&mut self, bytes: &mut Vec<u8>) -> u64 {
        for _ in 0..self.pipeline {
            bytes.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$16\r\n");
            bytes.extend_from_slice(&self.next_key());
            bytes.extend_from_slice(b"\r\n$64\r\n");
            bytes.extend_from_slice(&self.next_value());
            bytes.extend_from_slice(b"\r\n");
        }
        self.pipeline
    }

    /// A number that looks random [Steele et al., 2014].
    fn word(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
