//! `flotilla shell`: one command, or a line editor.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use flotilla_resp::{Limits, RequestDecoder, Value};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::arguments::Shell;
use crate::client::Client;
use crate::print;

/// How long a reply may take: longer than a node holds a request through an election.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the verb. One command exits with 1 if its reply is an error.
pub(crate) fn run(shell: &Shell) -> anyhow::Result<ExitCode> {
    if shell.command.is_empty() {
        return type_commands(&shell.at);
    }
    let args: Vec<&[u8]> = shell.command.iter().map(|arg| arg.as_bytes()).collect();
    let reply = connect(&shell.at)?.command(&args)?;
    let mut out = std::io::stdout().lock();
    let text =
        if out.is_terminal() { print::for_people(&reply).into_bytes() } else { print::raw(&reply) };
    out.write_all(&text)?;
    out.write_all(b"\n")?;
    Ok(if matches!(reply, Value::Error(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Connects and asks for RESP3, whose replies say more about their types.
fn connect(address: &str) -> anyhow::Result<Client> {
    let mut client = Client::connect(address, REPLY_TIMEOUT)?;
    client.command(&[b"HELLO", b"3"])?;
    Ok(client)
}

fn type_commands(address: &str) -> anyhow::Result<ExitCode> {
    let mut client = Some(connect(address)?);
    let mut editor = DefaultEditor::new()?;
    let prompt = format!("{address}> ");
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        let args = match split(&line) {
            Ok(args) if args.is_empty() => continue,
            Ok(args) => args,
            Err(error) => {
                tell(&format!("(error) {error}"))?;
                continue;
            }
        };
        editor.add_history_entry(&line)?;
        let name = args[0].to_ascii_lowercase();
        if name == b"exit" || name == b"quit" {
            return Ok(ExitCode::SUCCESS);
        }
        match ask(&mut client, address, &args) {
            Ok(reply) => tell(&print::for_people(&reply))?,
            Err(error) => tell(&format!("(no reply) {error:#}"))?,
        }
    }
}

/// Sends a command; a connection that breaks is made anew for the next one. The command itself is
/// not sent twice, since it may have been done.
fn ask(client: &mut Option<Client>, address: &str, args: &[Vec<u8>]) -> anyhow::Result<Value> {
    let mut connected = match client.take() {
        Some(client) => client,
        None => connect(address)?,
    };
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let reply = connected.command(&args)?;
    *client = Some(connected);
    Ok(reply)
}

/// Splits a line into arguments with the quoting rules of inline commands.
fn split(line: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    // A blank in front keeps a line that begins with `*` from being taken for an array.
    let bytes = format!(" {}\n", line.trim());
    let mut decoder = RequestDecoder::new(Limits::default());
    let request = decoder.decode(bytes.as_bytes()).map_err(|error| anyhow!("{error}"))?;
    Ok(request.map(|request| request.args().map(<[u8]>::to_vec).collect()).unwrap_or_default())
}

fn tell(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_by_the_rules_of_inline_commands() {
        let args = split(r#" SET "a b" 'c\'d' \n *1 "#).expect("it is right");
        assert_eq!(args, [&b"SET"[..], b"a b", b"c'd", b"\\n", b"*1"]);
        assert_eq!(split("*2").expect("it is right"), [b"*2"]);
        assert!(split("  ").expect("it is right").is_empty());
        assert!(split("GET \"a").is_err());
    }
}
