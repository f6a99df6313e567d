//! RESP2 and RESP3, the protocol of Redis clients: requests in, replies out.
//!
//! - [`RequestDecoder`] reads requests from a growing buffer without copying them.
//! - [`encode`] appends replies, always in RESP3; [`downgrade`] turns finished replies into RESP2
//!   for the clients that did not ask for RESP3.
//! - [`parse_value`] and [`encode_command`] are the other side, for clients and tests.
//!
//! The crate does no IO and needs only `alloc`. Bytes from outside never panic, memory grows with
//! the bytes received and never with a length that was only declared, and no input makes it look at
//! the same bytes again and again.
//!
//! Left out: attributes and streamed types on the side that encodes, since no reply has them.
//!
//! ```
//! use flotilla_resp::{Limits, RequestDecoder, encode};
//!
//! let mut decoder = RequestDecoder::new(Limits::default());
//! let buffer = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n";
//! let request = decoder.decode(buffer).expect("well formed").expect("complete");
//! assert_eq!(request.args().collect::<Vec<_>>(), [b"GET".as_slice(), b"k"]);
//! let rest = &buffer[request.consumed()..];
//! let request = decoder.decode(rest).expect("well formed").expect("complete");
//! assert_eq!(request.arg(0), b"PING");
//!
//! let mut out = Vec::new();
//! encode::simple(&mut out, "PONG");
//! assert_eq!(out, b"+PONG\r\n");
//! ```

#![no_std]

extern crate alloc;

pub mod encode;

mod downgrade;
mod error;
mod inline;
mod number;
mod request;
mod value;

pub use downgrade::downgrade;
pub use error::ProtocolError;
pub use request::{Limits, Request, RequestDecoder};
pub use value::{MAX_DEPTH, Value, encode_command, parse_value};
