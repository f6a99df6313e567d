//! What a server is spoken to in: the Redis protocol, in which replies come in the order of the
//! requests, or etcd's, in which they have numbers.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::Context as _;

use super::commands::Commands;
use super::etcd::Etcd;
use super::replies::{NoReply, Replies, Reply};

/// What addresses of an etcd begin with.
const ETCD_SCHEME: &str = "etcd://";

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Redis,
    Etcd,
}

/// One connection's side of a protocol.
#[derive(Debug)]
pub(crate) enum Wire {
    Redis(Replies),
    Etcd(Box<Etcd>),
}

impl Protocol {
    /// Splits an address of the command line.
    pub(crate) fn of_address(address: &str) -> (Self, &str) {
        match address.strip_prefix(ETCD_SCHEME) {
            Some(address) => (Self::Etcd, address),
            None => (Self::Redis, address),
        }
    }
}

/// The socket that an address stands for.
pub(crate) fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let (_, plain) = Protocol::of_address(address);
    let found = plain.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.with_context(|| format!("'{address}' is no address: give ip:port, or etcd://ip:port"))
}

impl Wire {
    /// A new connection; what is to be sent first is appended.
    pub(crate) fn new(protocol: Protocol, out: &mut Vec<u8>) -> Self {
        match protocol {
            Protocol::Redis => Self::Redis(Replies::default()),
            Protocol::Etcd => Self::Etcd(Box::new(Etcd::new(out))),
        }
    }

    /// Appends a GET; gives the number that its reply will have, if replies have numbers.
    pub(crate) fn get(&mut self, key: u64, commands: &Commands, out: &mut Vec<u8>) -> u32 {
        match self {
            Self::Redis(_) => {
                commands.get(key, out);
                0
            }
            Self::Etcd(etcd) => etcd.get(key, out),
        }
    }

    /// Appends a SET; gives what [`Self::get`] does.
    pub(crate) fn set(
        &mut self,
        key: u64,
        value_bytes: usize,
        commands: &Commands,
        out: &mut Vec<u8>,
    ) -> u32 {
        match self {
            Self::Redis(_) => {
                commands.set(key, value_bytes, out);
                0
            }
            Self::Etcd(etcd) => etcd.set(key, commands.value(value_bytes), out),
        }
    }

    /// Takes the next bytes and hands over each reply that ends in them, with the number of its
    /// request; none if it is that of the oldest. What the protocol wants is appended to `out`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut on_reply: impl FnMut(Option<u32>, Reply<'_>),
    ) -> Result<(), NoReply> {
        match self {
            Self::Redis(replies) => replies.feed(bytes, |reply| on_reply(None, reply)),
            Self::Etcd(etcd) => {
                etcd.feed(bytes, out, |number, reply| on_reply(Some(number), reply))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_protocol() {
        assert_eq!(Protocol::of_address("1.2.3.4:5"), (Protocol::Redis, "1.2.3.4:5"));
        assert_eq!(Protocol::of_address("etcd://1.2.3.4:5"), (Protocol::Etcd, "1.2.3.4:5"));
        let port = resolve("etcd://127.0.0.1:2379").expect("an address").port();
        assert_eq!(port, 2379);
        let error = resolve("nonsense").expect_err("it has no port").to_string();
        assert!(error.contains("'nonsense' is no address"), "{error}");
    }
}
