//! Getting the copy of a shard from a node's HTTP port.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

use crate::client::connect;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the node may take to make its snapshot.
const MAKING_TIMEOUT: Duration = Duration::from_mins(10);
/// How long the node may send nothing of a copy that it has begun to send.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// The header that says about how long a copy is at most, bytes.
const BYTES_AT_MOST: &str = "flotilla-bytes-at-most";
/// A longer head of an answer is none.
const HEAD_BYTES_MAX: u64 = 16 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The HTTP port of the node, `ip:port`.
    pub(crate) at: &'a str,
    /// The shard.
    pub(crate) shard: u32,
    /// The copy must have the entry at this index in it.
    pub(crate) from: u64,
    /// How fast the node is to send.
    pub(crate) bytes_per_second: u64,
}

/// Why a node has not given its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another backup is being taken from this node.
    Busy,
    /// The node has no copy now, or the connection broke: in words.
    Failed(String),
}

/// Asks for a copy and writes all that comes into the file: whether that is all of it, its own end
/// says. `on_bytes` is told how much has come of at most how much. A failure of this side's own
/// disk is the outer error.
pub(crate) fn fetch(
    wanted: Wanted<'_>,
    file: &mut File,
    on_bytes: &mut dyn FnMut(u64, u64),
) -> anyhow::Result<Result<(), Refused>> {
    let failed = |error: &anyhow::Error| Ok(Err(Refused::Failed(format!("{error:#}"))));
    let mut answer = match ask(wanted) {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    if answer.code != 200 {
        let mut text = String::new();
        let _ = answer.stream.take(HEAD_BYTES_MAX).read_to_string(&mut text);
        return Ok(Err(match answer.code {
            409 => Refused::Busy,
            code => Refused::Failed(format!("{} ({code})", text.trim())),
        }));
    }
    let mut piece = vec![0; READ_BYTES];
    let mut come = 0;
    loop {
        match answer.stream.read(&mut piece) {
            Ok(0) => return Ok(Ok(())),
            Ok(count) => {
                file.write_all(&piece[..count]).context("can't write the copy")?;
                come += count as u64;
                on_bytes(come, answer.bytes_at_most);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return failed(&anyhow::Error::new(error).context("it broke off")),
        }
    }
}

/// The head of an answer; its body comes next.
struct Answer {
    code: u16,
    bytes_at_most: u64,
    stream: BufReader<TcpStream>,
}

fn ask(wanted: Wanted<'_>) -> anyhow::Result<Answer> {
    let Wanted { at, shard, from, bytes_per_second } = wanted;
    let mut stream = connect(at, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(MAKING_TIMEOUT))?;
    let request = format!(
        "POST /backup/{shard}/{from}/{bytes_per_second} HTTP/1.0\r\nHost: {at}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut stream = BufReader::new(stream);
    let head = read_head(&mut stream)?;
    stream.get_ref().set_read_timeout(Some(SILENCE_TIMEOUT))?;
    let (code, bytes_at_most) = parse_head(&head).context("the answer is not of HTTP")?;
    Ok(Answer { code, bytes_at_most, stream })
}

fn read_head(stream: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut head = String::new();
    let mut limited = stream.take(HEAD_BYTES_MAX);
    while !head.ends_with("\r\n\r\n") {
        let read = limited.read_line(&mut head).context("the node has not answered")?;
        anyhow::ensure!(read > 0, "the node closed the connection");
    }
    Ok(head)
}

/// Status code, and how long the copy is at most, 0 if that is not said.
fn parse_head(head: &str) -> Option<(u16, u64)> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let code = words.next()?.starts_with("HTTP/1.").then(|| words.next())??.parse().ok()?;
    let bytes_at_most = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(BYTES_AT_MOST).then(|| value.trim().parse().ok())?
    });
    Some((code, bytes_at_most.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood_or_refused() {
        let head = "HTTP/1.0 200 OK\r\ncontent-type: x\r\nFlotilla-Bytes-At-Most: 77\r\n\r\n";
        assert_eq!(parse_head(head), Some((200, 77)));
        let busy = "HTTP/1.0 409 Conflict\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(parse_head(busy), Some((409, 0)));
        for other in ["", "\r\n", "+PONG\r\n", "HTTP/1.1\r\n", "HTTP/1.1 x OK\r\n\r\n"] {
            assert_eq!(parse_head(other), None, "{other:?}");
        }
    }
}
