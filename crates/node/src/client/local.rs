//! The commands that a node answers by itself, without any shard.
//!
//! Which these are says the command table; here each finds its answer. Replies are made in RESP3
//! and written for the connection's protocol like all others. Sources: the Redis 7 manual and the
//! replies of Redis 7 itself.

use flotilla_kv::command::{self, Spec};
use flotilla_resp::encode;

use super::{Client, Session, View, cluster, config, connection, info};

/// What a command of the node changes of its connection, besides having a reply.
#[derive(Debug, Default)]
pub struct Change {
    /// What the client has said about itself from now on.
    pub(super) session: Option<Session>,
    /// Whether the connection closes after the reply.
    pub(super) closes: bool,
}

impl From<Option<Session>> for Change {
    fn from(session: Option<Session>) -> Self {
        Self { session, closes: false }
    }
}

/// Answers the command that [`Client::next`] just gave, one whose reach is the node: appends
/// exactly one reply in RESP3 to `out`. Nothing has changed until both are given to
/// [`Client::conclude`], so the view may hold all clients, this one too.
pub fn answer(client: &Client, spec: &'static Spec, view: &dyn View, out: &mut Vec<u8>) -> Change {
    match spec.name {
        "ping" => connection::ping(client, out),
        "echo" => encode::bulk(out, client.args().get(1).unwrap_or_default()),
        "asking" => ok(out),
        "readonly" => return Some(connection::set_read_only(client, true, out)).into(),
        "readwrite" => return Some(connection::set_read_only(client, false, out)).into(),
        "select" => connection::select(client, out),
        "hello" => return connection::hello(client, out).into(),
        "reset" => return Some(connection::reset(client, out)).into(),
        "quit" => {
            ok(out);
            return Change { closes: true, session: None };
        }
        "time" => time(view, out),
        "info" => info::reply(client, view, out),
        "flotilla|status" => status_json(view, out),
        name => match name.split_once('|') {
            Some((container, "help")) => help(container, out),
            Some(("client", verb)) => {
                return connection::client_command(client, verb, view, out).into();
            }
            Some(("config", "get")) => config::get(client, view, out),
            Some(("cluster", verb)) => cluster::reply(client, verb, view, out),
            _ if name.starts_with("command") => command::command_reply(client.args(), out),
            _ => unreachable!("a test asks every command of the node: {name} has an answer"),
        },
    }
    Change::default()
}

fn help(container: &str, out: &mut Vec<u8>) {
    let container = command::find(container.as_bytes());
    command::help_reply(container.expect("a subcommand has its container in the table"), out);
}

/// `+OK`.
pub(super) fn ok(out: &mut Vec<u8>) {
    encode::simple(out, b"OK");
}

/// The error that Redis gives for an option it does not know.
pub(super) fn syntax_error(out: &mut Vec<u8>) {
    encode::error(out, b"ERR syntax error");
}

/// A decimal integer as Redis reads it: no plus sign, no leading zero, nothing around it.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        b"0" => text == digits,
        [first, ..] => matches!(first, b'1'..=b'9'),
        [] => false,
    };
    if canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// What a client wrote, fit to be repeated in an error.
pub(super) fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(['\r', '\n'], " ")
}

/// Text as RESP3's verbatim string, RESP2's bulk string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    encode::verbatim(out, b"txt", text.as_bytes());
}

fn time(view: &dyn View, out: &mut Vec<u8>) {
    let wall_ms = view.now().wall_ms;
    encode::array_header(out, 2);
    encode::bulk(out, (wall_ms / 1_000).to_string());
    encode::bulk(out, (wall_ms % 1_000 * 1_000).to_string());
}

fn status_json(view: &dyn View, out: &mut Vec<u8>) {
    let json = serde_json::to_vec(&view.status()).expect("a status is numbers, text and lists");
    encode::bulk(out, &json);
}
