//! The commands about the connection itself: `PING`, `HELLO`, `SELECT`, `RESET`, `CLIENT …`.

use std::fmt::Write;

use flotilla_resp::encode;

use super::local::{integer, ok, one_line, syntax_error, text};
use super::{Client, Protocol, Session, View};
use crate::{Face, Now};

/// The version of Redis whose replies these are.
pub(super) const REDIS_VERSION: &str = "7.4.0";

const NO_AUTHENTICATION: &[u8] = b"ERR AUTH <password> called without any password configured for \
    the default user. Are you sure your configuration is correct?";
const BAD_NAME: &[u8] = b"ERR Client names cannot contain spaces, newlines or special characters.";

/// `PING [message]`.
pub(super) fn ping(client: &Client, out: &mut Vec<u8>) {
    match client.args().get(1) {
        Some(message) => encode::bulk(out, message),
        None => encode::simple(out, b"PONG"),
    }
}

/// `READONLY` and `READWRITE`: remembered for `CLIENT LIST`, and without any effect on reads.
pub(super) fn set_read_only(client: &Client, read_only: bool, out: &mut Vec<u8>) -> Session {
    ok(out);
    Session { read_only, ..client.session.clone() }
}

/// `SELECT index`: there is one database.
pub(super) fn select(client: &Client, out: &mut Vec<u8>) {
    match (client.args().get(1).and_then(integer), client.face()) {
        (None, _) => encode::error(out, b"ERR value is not an integer or out of range"),
        (Some(0), _) => ok(out),
        (_, Face::Cluster) => encode::error(out, b"ERR SELECT is not allowed in cluster mode"),
        (_, Face::Plain) => encode::error(out, b"ERR DB index is out of range"),
    }
}

/// `RESET`: as if newly connected, but for the library's name.
pub(super) fn reset(client: &Client, out: &mut Vec<u8>) -> Session {
    encode::simple(out, b"RESET");
    Session {
        library_name: client.session.library_name.clone(),
        library_version: client.session.library_version.clone(),
        ..Session::default()
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`: all of it or, after an error, nothing.
pub(super) fn hello(client: &Client, out: &mut Vec<u8>) -> Option<Session> {
    match hello_options(client) {
        Ok(session) => {
            hello_map(client, session.protocol, out);
            Some(session)
        }
        Err(error) => {
            encode::error(out, &error);
            None
        }
    }
}

fn hello_options(client: &Client) -> Result<Session, Vec<u8>> {
    let mut session = client.session.clone();
    let mut args = client.args().iter().skip(1);
    session.protocol = match args.next().map(integer) {
        None => session.protocol,
        Some(Some(2)) => Protocol::Resp2,
        Some(Some(3)) => Protocol::Resp3,
        Some(Some(_)) => return Err(b"NOPROTO unsupported protocol version".to_vec()),
        Some(None) => {
            return Err(b"ERR Protocol version is not an integer or out of range".to_vec());
        }
    };
    while let Some(option) = args.next() {
        if option.eq_ignore_ascii_case(b"auth") && args.len() >= 2 {
            return Err(NO_AUTHENTICATION.to_vec());
        } else if option.eq_ignore_ascii_case(b"setname") && args.len() >= 1 {
            let value = args.next().expect("its length was just checked");
            if !is_printable(value) {
                return Err(BAD_NAME.to_vec());
            }
            session.name = value.to_vec();
        } else {
            let option = one_line(option);
            return Err(format!("ERR Syntax error in HELLO option '{option}'").into_bytes());
        }
    }
    Ok(session)
}

fn hello_map(client: &Client, protocol: Protocol, out: &mut Vec<u8>) {
    encode::map_header(out, 7);
    let mode = if client.face() == Face::Cluster { "cluster" } else { "standalone" };
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        encode::bulk(out, name);
        encode::bulk(out, value);
    }
    encode::bulk(out, b"proto");
    encode::integer(out, protocol.number());
    encode::bulk(out, b"id");
    encode::integer(out, client.id() as i64);
    for (name, value) in [("mode", mode), ("role", "master")] {
        encode::bulk(out, name);
        encode::bulk(out, value);
    }
    encode::bulk(out, b"modules");
    encode::array_header(out, 0);
}

/// `CLIENT` and its subcommands, but `HELP`.
pub(super) fn client_command(
    client: &Client,
    verb: &str,
    view: &dyn View,
    out: &mut Vec<u8>,
) -> Option<Session> {
    match verb {
        "id" => encode::integer(out, client.id() as i64),
        "info" => text(out, &(line(client, view.now()) + "\n")),
        "list" => list(client, view, out),
        "getname" if client.session.name.is_empty() => encode::null(out),
        "getname" => encode::bulk(out, &client.session.name),
        "setname" => return set_name(client, out),
        "setinfo" => return set_info(client, out),
        "no-evict" => {
            let no_evict = switch(client, out)?;
            return Some(Session { no_evict, ..client.session.clone() });
        }
        "no-touch" => {
            let no_touch = switch(client, out)?;
            return Some(Session { no_touch, ..client.session.clone() });
        }
        _ => unreachable!("a test asks every subcommand of CLIENT: {verb} has an answer"),
    }
    None
}

/// Reads `ON` or `OFF` and answers; `None` after an error.
fn switch(client: &Client, out: &mut Vec<u8>) -> Option<bool> {
    let value = client.args().get(2).unwrap_or_default();
    let on = value.eq_ignore_ascii_case(b"on");
    if on || value.eq_ignore_ascii_case(b"off") {
        ok(out);
        return Some(on);
    }
    syntax_error(out);
    None
}

fn set_name(client: &Client, out: &mut Vec<u8>) -> Option<Session> {
    let name = client.args().get(2).unwrap_or_default().to_vec();
    if !is_printable(&name) {
        encode::error(out, BAD_NAME);
        return None;
    }
    ok(out);
    Some(Session { name, ..client.session.clone() })
}

/// `CLIENT SETINFO LIB-NAME name | LIB-VER version`.
fn set_info(client: &Client, out: &mut Vec<u8>) -> Option<Session> {
    let mut session = client.session.clone();
    let option = client.args().get(2).unwrap_or_default().to_ascii_lowercase();
    let value = client.args().get(3).unwrap_or_default();
    let field = match option.as_slice() {
        b"lib-name" => &mut session.library_name,
        b"lib-ver" => &mut session.library_version,
        _ => {
            let option = client.args().get(2).unwrap_or_default();
            encode::error(out, format!("ERR Unrecognized option '{}'", one_line(option)));
            return None;
        }
    };
    if !is_printable(value) {
        let option = one_line(&option);
        let error = format!("ERR {option} cannot contain spaces, newlines or special characters.");
        encode::error(out, error);
        return None;
    }
    *field = value.to_vec();
    ok(out);
    Some(session)
}

/// `CLIENT LIST [TYPE type | ID id [id …]]`: one line per client, by id.
fn list(client: &Client, view: &dyn View, out: &mut Vec<u8>) {
    let mut lines = Vec::new();
    match selection(client) {
        Err(error) => return encode::error(out, error),
        Ok(selection) => {
            let now = view.now();
            let mut visit = |other: &Client| {
                if selection.includes(other.id()) {
                    lines.push((other.id(), line(other, now)));
                }
            };
            visit(client);
            view.each_client(&mut |other| {
                if other.id() != client.id() {
                    visit(other);
                }
            });
        }
    }
    lines.sort_unstable();
    let mut all = String::new();
    for (_, line) in lines {
        all.push_str(&line);
        all.push('\n');
    }
    text(out, &all);
}

/// Which clients `CLIENT LIST` is asked for.
enum Selection {
    All,
    Nobody,
    Ids(Vec<i64>),
}

impl Selection {
    fn includes(&self, id: u64) -> bool {
        match self {
            Self::All => true,
            Self::Nobody => false,
            Self::Ids(ids) => ids.contains(&(id as i64)),
        }
    }
}

fn selection(client: &Client) -> Result<Selection, String> {
    let args: Vec<&[u8]> = client.args().iter().skip(2).collect();
    match args.as_slice() {
        [] => Ok(Selection::All),
        [option, kind] if option.eq_ignore_ascii_case(b"type") => {
            match kind.to_ascii_lowercase().as_slice() {
                b"normal" => Ok(Selection::All),
                b"master" | b"replica" | b"slave" | b"pubsub" => Ok(Selection::Nobody),
                _ => Err(format!("ERR Unknown client type '{}'", one_line(kind))),
            }
        }
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let ids: Option<Vec<i64>> = ids.iter().map(|id| integer(id)).collect();
            let ids = ids.filter(|ids| ids.iter().all(|id| *id > 0));
            ids.map(Selection::Ids).ok_or_else(|| "ERR Invalid client ID".to_owned())
        }
        _ => Err("ERR syntax error".to_owned()),
    }
}

/// A client's line, without its end, with those of Redis's fields that say something here.
fn line(client: &Client, now: Now) -> String {
    let session = &client.session;
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seconds = |micros: u64| micros / 1_000_000;
    let mut flags = String::new();
    for (flag, set) in [('r', session.read_only), ('e', session.no_evict), ('T', session.no_touch)]
    {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let mut line = String::new();
    write!(
        line,
        "id={} addr={} laddr={} name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 \
         multi=-1 watch=0 qbuf={} qbuf-free={} argv-mem={} obl={} oll={} omem={} events=r cmd={} \
         user=default redir=-1 resp={} lib-name={} lib-ver={}",
        client.id(),
        client.connected.remote,
        client.connected.local,
        shown(&session.name),
        seconds(now.time.since(client.since)),
        seconds(now.time.since(client.heard)),
        client.unread(),
        client.buffer.capacity() - client.buffer.len(),
        client.args().bytes().len(),
        client.reply_bytes(),
        client.pending(),
        client.reply_bytes(),
        client.last.map_or("NULL", |spec| spec.name),
        session.protocol.number(),
        shown(&session.library_name),
        shown(&session.library_version),
    )
    .expect("a String takes everything");
    line
}

/// Whether a name fits into the fields of `CLIENT LIST`: printable ASCII without spaces.
fn is_printable(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}
