//! A client without any comfort: the bytes of requests out, one reply at a time in.

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::TcpStream;

use flotilla_resp::{Value, encode_command, parse_value};

use super::PATIENCE;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// A connection of which each byte is the test's own.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Where in `unread` the first reply not given out begins.
    start: usize,
}

impl Wire {
    /// Connects to a port of this host.
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new(), start: 0 })
    }

    /// Sends bytes, all of them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for the next reply. The end of the connection is an error.
    pub(crate) fn reply(&mut self) -> Result<Value> {
        loop {
            let parsed = parse_value(&self.unread[self.start..]);
            if let Some((value, consumed)) = parsed.expect("a node replies in RESP") {
                self.start += consumed;
                return Ok(value);
            }
            self.unread.drain(..self.start);
            self.start = 0;
            self.read_more()?;
        }
    }

    /// Sends one command and waits for its reply.
    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> Result<Value> {
        self.send(&request(words))?;
        self.reply()
    }

    /// Waits for one byte, and takes no more from the system.
    pub(crate) fn read_byte(&mut self) -> Result<()> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        self.unread.push(byte[0]);
        Ok(())
    }

    /// Waits for the end of the connection, whatever comes before it.
    pub(crate) fn ended(mut self) -> Result<()> {
        let mut bytes = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Ok(()),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    fn read_more(&mut self) -> Result<()> {
        let end = self.unread.len();
        self.unread.resize(end + READ_BYTES, 0);
        let read = self.stream.read(&mut self.unread[end..]);
        self.unread.truncate(end + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The bytes of one command.
pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(words, &mut bytes);
    bytes
}
