//! A plain connection to a node: one command, one reply.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use flotilla_resp::{Value, encode_command, parse_value};

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection to a node.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects to `ip:port`; connecting and each reply may take `timeout`.
    pub(crate) fn connect(address: &str, timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self { stream: connect(address, timeout)?, unread: Vec::new() })
    }

    /// Sends a command and waits for its reply. After an error the connection is of no use.
    pub(crate) fn command(&mut self, args: &[&[u8]]) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        encode_command(args, &mut bytes);
        self.stream.write_all(&bytes).context("the connection broke")?;
        loop {
            match self.reply()? {
                Value::Push(_) => {}
                reply => return Ok(reply),
            }
        }
    }

    /// Gives the password, without which some servers take no command.
    pub(crate) fn authenticate(&mut self, password: &str) -> anyhow::Result<()> {
        match self.command(&[b"AUTH", password.as_bytes()])? {
            Value::Error(text) => bail!("the password is not accepted: {text}"),
            _ => Ok(()),
        }
    }

    /// The connection itself, on which nothing is open.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn reply(&mut self) -> anyhow::Result<Value> {
        loop {
            let parsed = parse_value(&self.unread)
                .map_err(|error| anyhow!("the reply is not of the Redis protocol: {error}"))?;
            if let Some((value, consumed)) = parsed {
                self.unread.drain(..consumed);
                return Ok(value);
            }
            let start = self.unread.len();
            self.unread.resize(start + READ_BYTES, 0);
            let read = self.stream.read(&mut self.unread[start..]);
            self.unread.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => bail!("the node closed the connection"),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    bail!("the node has not replied in time; whether the command was done is open")
                }
                Err(error) => return Err(error).context("the connection broke"),
            }
        }
    }
}

/// Connects to `ip:port`; connecting, each read and each write may take `timeout`.
pub(crate) fn connect(address: &str, timeout: Duration) -> anyhow::Result<TcpStream> {
    let mut addresses = address
        .to_socket_addrs()
        .with_context(|| format!("'{address}' is no address: give ip:port"))?;
    let first = addresses.next().ok_or_else(|| anyhow!("'{address}' stands for no address"))?;
    let stream = TcpStream::connect_timeout(&first, timeout).with_context(|| {
        format!("no node answers at {address}; is it started, and is --at right?")
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}
