//! The front end of one client: bytes in, commands out; replies in, bytes out.
//!
//! A [`Client`] is one connection of either [`Face`]. The node feeds it what arrived and asks for
//! the next command; what a connection can answer alone it has answered by then (protocol errors,
//! unknown commands, wrong arity, limits), and [`answer_local`] has the answer of every command
//! whose [`Reach`](flotilla_kv::command::Reach) is the node, for [`Client::conclude`]. All others
//! are deferred: the node reserves the reply's place in the order, and fills it when the shards
//! have answered.
//!
//! ```
//! use flotilla_node::client::{Client, Connected, Next};
//! use flotilla_node::{Face, Now, Options};
//! use flotilla_raft::Time;
//!
//! let now = Now { time: Time(0), wall_ms: 0 };
//! let addresses = ("10.0.0.9:40000".to_owned(), "10.0.0.1:7001".to_owned());
//! let connected = Connected { id: 1, face: Face::Plain, remote: addresses.0, local: addresses.1 };
//! let options = Options::default();
//! let mut client = Client::new(connected, &options, now);
//!
//! client.feed(b"GET cart:7\r\nNOSUCH\r\n", now);
//! let Next::Command(spec) = client.next(&options) else { panic!("a whole request has arrived") };
//! assert_eq!(spec.name, "get");
//! let place = client.defer();
//! assert!(matches!(client.next(&options), Next::Idle));
//!
//! client.fill(place, b"_\r\n");
//! let mut out = Vec::new();
//! assert!(!client.take_output(&mut out));
//! assert!(out.starts_with(b"$-1\r\n-ERR unknown command 'NOSUCH'"));
//! ```
//!
//! # Invariants
//! - Replies leave in the order of their requests, each in the protocol that was in force when its
//!   request was decoded (`HELLO` in mid-pipeline changes only what follows, and its own reply).
//! - A connection is closed by its front end only after every earlier reply has left, so a client
//!   is never left to guess about a write by `QUIT` or by a protocol error.
//! - Buffers grow with bytes received, never with lengths declared (P15).

mod cluster;
mod config;
mod connection;
mod info;
mod local;
mod replies;
#[cfg(test)]
mod tests;
mod view;

use flotilla_kv::command::{Spec, resolve};
use flotilla_kv::{Args, ArgsBuf};
use flotilla_raft::Time;
use flotilla_resp::{Limits, RequestDecoder, encode};

use crate::{Face, Now, Options};

pub use local::{Change, answer as answer_local};
pub use view::View;

use replies::Replies;

/// Bytes of replies that may be outstanding before a client's further requests wait.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// Bytes that the replies of a client's open commands are expected to add up to, at most: its
/// further requests wait. What others ask of the same shard comes after them, and what a client
/// that does not read has asked for fills memory.
const EXPECTED_BYTES_MAX: usize = 1 << 20;

/// What is expected of a reply before there was any, bytes.
const EXPECTED_AT_FIRST_BYTES: usize = 64 << 10;

/// What is expected of a reply at least, bytes: a place in the row of replies is not free either.
const EXPECTED_MIN_BYTES: usize = 64;

/// Arguments of one request.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// Bytes of a request typed as one line.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// A buffer that grew beyond this many bytes for one big request is given back after it.
const IDLE_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Which version of the Redis protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Version 2, with which every connection begins.
    #[default]
    Resp2,
    /// Version 3, after `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// Its number, 2 or 3.
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// What is known of a connection when it is accepted.
#[derive(Clone, Debug)]
pub struct Connected {
    /// What `CLIENT ID` says; unique on this node in this boot.
    pub id: u64,
    /// By which port it came.
    pub face: Face,
    /// Where from, `ip:port`.
    pub remote: String,
    /// The address that was dialled, `ip:port`.
    pub local: String,
}

/// What a client wants next.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// Nothing: no whole request has arrived.
    Idle,
    /// This, with [`Client::args`]. The node gives it exactly one reply or place before it asks for
    /// the next.
    Command(&'static Spec),
    /// Nothing for now: too many replies are outstanding ([`Options::max_client_pipeline`],
    /// [`REPLY_BYTES_MAX`]), or they are expected to be long. There may be more after the next
    /// [`Client::take_output`].
    Full,
    /// Nothing any more: the connection closes once its replies have left.
    Closing,
}

/// One client's connection.
#[derive(Debug)]
pub struct Client {
    connected: Connected,
    since: Time,
    heard: Time,
    session: Session,
    decoder: RequestDecoder,
    buffer: Vec<u8>,
    /// Where in the buffer the first request not yet decoded begins.
    start: usize,
    args: ArgsBuf,
    last: Option<&'static Spec>,
    replies: Replies,
    /// What a reply of the shards is expected to have, bytes: the most that one had, a quarter less
    /// for each reply since.
    expected_bytes: usize,
    /// Where a reply made here is written first; kept for its memory.
    scratch: Vec<u8>,
    closing: bool,
}

/// What a client has said about itself; `RESET` forgets all but the library.
#[derive(Clone, Debug, Default)]
struct Session {
    protocol: Protocol,
    name: Vec<u8>,
    library_name: Vec<u8>,
    library_version: Vec<u8>,
    no_evict: bool,
    no_touch: bool,
    read_only: bool,
}

impl Client {
    /// A connection that was just accepted.
    pub fn new(connected: Connected, options: &Options, now: Now) -> Self {
        let limits = Limits {
            max_bulk: options.max_request_bytes,
            max_request_bytes: options.max_request_bytes,
            max_elements: ARGUMENTS_MAX,
            max_inline: INLINE_BYTES_MAX,
        };
        Self {
            connected,
            since: now.time,
            heard: now.time,
            session: Session::default(),
            decoder: RequestDecoder::new(limits),
            buffer: Vec::new(),
            start: 0,
            args: ArgsBuf::new(),
            last: None,
            replies: Replies::default(),
            expected_bytes: EXPECTED_AT_FIRST_BYTES,
            scratch: Vec::new(),
            closing: false,
        }
    }

    /// Takes bytes that arrived. After a protocol error or `QUIT` they are dropped.
    pub fn feed(&mut self, bytes: &[u8], now: Now) {
        self.heard = now.time;
        if self.closing {
            return;
        }
        if self.start > 0 && self.start >= self.buffer.len() - self.start {
            // At most as many bytes move as were decoded since the last time.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next command. Requests that are answered without the node are answered on the way.
    pub fn next(&mut self, options: &Options) -> Next {
        loop {
            if self.closing {
                return Next::Closing;
            }
            if self.is_full(options) {
                return Next::Full;
            }
            match self.decode() {
                Ok(true) => {
                    if let Some(spec) = self.admit(options) {
                        self.last = Some(spec);
                        return Next::Command(spec);
                    }
                }
                Ok(false) => return Next::Idle,
                Err(error) => {
                    self.reply_error(&format!("ERR {error}"));
                    self.close();
                }
            }
        }
    }

    /// Gives the command its reply, in RESP3.
    pub fn reply(&mut self, resp3: &[u8]) {
        self.replies.push(self.session.protocol, resp3);
    }

    /// Gives a command of the node its answer: what it changes of the connection, then the reply.
    pub fn conclude(&mut self, change: Change, resp3: &[u8]) {
        if let Some(session) = change.session {
            self.session = session;
        }
        self.reply(resp3);
        if change.closes {
            self.close();
        }
    }

    /// Gives the command an error as its reply; the text begins with the code, such as `ERR`.
    pub fn reply_error(&mut self, text: &str) {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        encode::error(&mut out, text);
        self.replies.push(self.session.protocol, &out);
        self.scratch = out;
    }

    /// Reserves the place of the command's reply, to be given to [`Client::fill`].
    pub fn defer(&mut self) -> u64 {
        self.replies.defer(self.session.protocol)
    }

    /// Gives a deferred command its reply, in RESP3. Does nothing if the place is unknown or has
    /// its reply.
    pub fn fill(&mut self, place: u64, resp3: &[u8]) {
        let forgotten = self.expected_bytes - self.expected_bytes / 4;
        self.expected_bytes = resp3.len().max(forgotten).max(EXPECTED_MIN_BYTES);
        self.replies.fill(place, resp3);
    }

    /// Moves the bytes that may leave to the end of `out`, and says whether the connection is to be
    /// closed after them.
    pub fn take_output(&mut self, out: &mut Vec<u8>) -> bool {
        self.replies.take(out);
        self.closing && self.replies.pending() == 0
    }

    /// The arguments of the command that [`Client::next`] gave, its name first.
    pub fn args(&self) -> Args<'_> {
        self.args.as_args()
    }

    /// Bytes that arrived and are not decoded yet.
    pub fn unread(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Replies that are waited for, or stand behind one that is.
    pub fn pending(&self) -> usize {
        self.replies.pending()
    }

    /// Bytes of replies that have not been taken.
    pub fn reply_bytes(&self) -> usize {
        self.replies.bytes()
    }

    /// What `CLIENT ID` says.
    pub fn id(&self) -> u64 {
        self.connected.id
    }

    /// By which port it came.
    pub fn face(&self) -> Face {
        self.connected.face
    }

    /// The protocol in force for what is decoded next.
    pub fn protocol(&self) -> Protocol {
        self.session.protocol
    }

    /// What `CLIENT SETNAME` said, empty if nothing.
    pub fn name(&self) -> &[u8] {
        &self.session.name
    }

    /// Whether the connection closes once its replies have left.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Gives back the memory of buffers that are empty; nothing while something is under way.
    pub fn rest(&mut self) {
        if self.unread() > 0 || self.replies.pending() > 0 || self.replies.bytes() > 0 {
            return;
        }
        self.start = 0;
        self.buffer = Vec::new();
        self.args = ArgsBuf::new();
        self.scratch = Vec::new();
        self.decoder.rest();
        self.replies.rest();
    }

    /// When bytes came from it last.
    pub fn heard(&self) -> Time {
        self.heard
    }

    fn is_full(&self, options: &Options) -> bool {
        let pending = self.replies.pending();
        pending >= options.max_client_pipeline
            || self.replies.bytes() >= REPLY_BYTES_MAX
            || (pending > 0 && pending * self.expected_bytes >= EXPECTED_BYTES_MAX)
    }

    /// Decodes one request into `args`; whether there was a whole one.
    fn decode(&mut self) -> Result<bool, flotilla_resp::ProtocolError> {
        if self.args.as_args().bytes().len() > IDLE_BUFFER_BYTES_MAX {
            self.args = ArgsBuf::new();
        }
        let request = self.decoder.decode(&self.buffer[self.start..])?;
        let is_whole = request.is_some();
        self.start += match request {
            Some(request) => {
                self.args.clear();
                request.args().for_each(|arg| self.args.push(arg));
                request.consumed()
            }
            None => self.decoder.take_skipped(),
        };
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_BUFFER_BYTES_MAX);
        }
        Ok(is_whole)
    }

    /// The command of the request just decoded, or its refusal as a reply.
    fn admit(&mut self, options: &Options) -> Option<&'static Spec> {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let args = self.args.as_args();
        let mut spec = None;
        if is_http(args) {
            // A browser was lured into sending requests to this port: what follows in its body must
            // not be taken for commands.
            self.close();
        } else if let Some(bytes) = args.iter().map(<[u8]>::len).max()
            && bytes > options.max_value_bytes
        {
            let text = format!(
                "ERR string exceeds maximum allowed size (proto-max-bulk-len): {bytes} of {} bytes",
                options.max_value_bytes
            );
            encode::error(&mut out, text);
        } else {
            match resolve(args) {
                Ok(found) => spec = Some(found),
                Err(rejected) => rejected.write_to(&mut out),
            }
        }
        if !out.is_empty() {
            self.replies.push(self.session.protocol, &out);
        }
        self.scratch = out;
        spec
    }

    /// Decodes no more, and closes once the replies have left.
    fn close(&mut self) {
        self.closing = true;
        self.start = 0;
        self.buffer = Vec::new();
    }
}

/// Whether these are the words of an HTTP request or header (`POST`, `Host:`), which no Redis
/// client sends.
fn is_http(args: Args<'_>) -> bool {
    let name = args.get(0).unwrap_or_default();
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}
