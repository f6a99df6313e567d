//! A connection that sends many requests at once, and goes to another node if its own is gone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flotilla_resp::{Value, encode_command, parse_value};

use crate::client::connect;

/// How long a node may take to answer, which includes how long it holds a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long nothing may succeed before the attempt is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The time between two attempts.
const ATTEMPT_EVERY: Duration = Duration::from_millis(100);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Errors after which the same request may succeed later. What is sent here may be sent twice.
const RETRIED: [&str; 4] = ["CLUSTERDOWN", "UNCERTAIN", "TRYAGAIN", "LOADING"];

/// A connection to some node of a cluster.
#[derive(Debug)]
pub(crate) struct Pipe {
    addresses: Vec<String>,
    /// Which of them is next.
    next: usize,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Where in `unread` the next reply begins.
    start: usize,
}

/// Requests that are sent together, each of as many commands as the batch says.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    commands: usize,
}

impl Requests {
    /// Adds a command.
    pub(crate) fn push(&mut self, words: &[&[u8]]) {
        encode_command(words, &mut self.bytes);
        self.commands += 1;
    }
}

impl Pipe {
    /// Not connected yet; the first address is tried first.
    pub(crate) fn new(addresses: Vec<String>, first: usize) -> Self {
        Self { addresses, next: first, open: None }
    }

    /// Sends one command until it is answered by what is no passing trouble.
    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> anyhow::Result<Value> {
        let mut answer = None;
        self.settle(1, &mut |_, requests| requests.push(words), &mut |_, replies| {
            answer = replies.first().cloned();
            Ok(())
        })?;
        answer.context("a reply for each command")
    }

    /// Sends `count` requests, built by `build`, until each has replies without passing trouble in
    /// them, and gives these to `take`. All are in flight at once; those with trouble are sent
    /// again.
    pub(crate) fn settle(
        &mut self,
        count: usize,
        build: &mut dyn FnMut(usize, &mut Requests),
        take: &mut dyn FnMut(usize, &[Value]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut open: Vec<usize> = (0..count).collect();
        let mut until = Instant::now() + PATIENCE;
        while !open.is_empty() {
            let before = open.len();
            let Some(trouble) = self.attempt(&mut open, build, take)? else { continue };
            if open.len() < before {
                until = Instant::now() + PATIENCE;
            } else if Instant::now() >= until {
                bail!("nothing has succeeded for {} seconds: {trouble}", PATIENCE.as_secs());
            }
            std::thread::sleep(ATTEMPT_EVERY);
        }
        Ok(())
    }

    /// Sends the open requests once, and takes those out that have their replies. Gives the trouble
    /// there was, if any; an error is final.
    fn attempt(
        &mut self,
        open: &mut Vec<usize>,
        build: &mut dyn FnMut(usize, &mut Requests),
        take: &mut dyn FnMut(usize, &[Value]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<String>> {
        let mut requests = Requests::default();
        let ends: Vec<usize> = open
            .iter()
            .map(|&request| {
                build(request, &mut requests);
                requests.commands
            })
            .collect();
        let connection = match self.send(&requests.bytes) {
            Ok(connection) => connection,
            Err(error) => return Ok(Some(self.lost(&error))),
        };
        let (mut left, mut trouble, mut begin) = (Vec::new(), None, 0);
        for (place, &request) in open.iter().enumerate() {
            let mut replies = Vec::with_capacity(ends[place] - begin);
            while replies.len() < ends[place] - begin {
                match connection.reply() {
                    Ok(reply) => replies.push(reply),
                    Err(error) => {
                        left.extend_from_slice(&open[place..]);
                        *open = left;
                        return Ok(Some(self.lost(&error)));
                    }
                }
            }
            begin = ends[place];
            if let Some(text) = replies.iter().find_map(passing) {
                trouble = Some(text.to_owned());
                left.push(request);
            } else {
                take(request, &replies)?;
            }
        }
        *open = left;
        Ok(trouble)
    }

    fn send(&mut self, bytes: &[u8]) -> anyhow::Result<&mut Open> {
        if self.open.is_none() {
            let address = &self.addresses[self.next % self.addresses.len()];
            let stream = connect(address, ANSWER_TIMEOUT)?;
            self.open = Some(Open { stream, unread: Vec::new(), start: 0 });
        }
        let open = self.open.as_mut().expect("it was opened just now");
        open.stream.write_all(bytes)?;
        Ok(open)
    }

    /// The connection is of no use any more: the next attempt goes to the next node.
    fn lost(&mut self, error: &anyhow::Error) -> String {
        let address = self.addresses[self.next % self.addresses.len()].clone();
        self.open = None;
        self.next += 1;
        format!("{address}: {error:#}")
    }
}

/// The text of an error after which the same request may succeed.
fn passing(reply: &Value) -> Option<&str> {
    let text = reply.as_error()?;
    let code = text.split(' ').next().unwrap_or_default();
    RETRIED.contains(&code).then_some(text)
}

impl Open {
    fn reply(&mut self) -> anyhow::Result<Value> {
        loop {
            if let Some((value, length)) = parse_value(&self.unread[self.start..])
                .map_err(|error| anyhow::anyhow!("no reply of the Redis protocol: {error}"))?
            {
                self.start += length;
                return Ok(value);
            }
            self.unread.drain(..self.start);
            self.start = 0;
            let end = self.unread.len();
            self.unread.resize(end + READ_BYTES, 0);
            let read = self.stream.read(&mut self.unread[end..]);
            self.unread.truncate(end + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => bail!("the node closed the connection"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("no answer"),
            }
        }
    }
}
