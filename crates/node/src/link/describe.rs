//! A link's bytes in words, for the eyes of somebody who follows a run.

use flotilla_raft::{AppendOutcome, Body};

use super::{FrameReader, PREFACE, PacketKind, decode_raft};

/// What some bytes of a link say, in a few words. Bytes that begin or end within a packet, or make
/// no sense, are told as what they are: so many bytes.
pub fn describe_link(bytes: &[u8]) -> String {
    let (opens, frames) = match bytes.strip_prefix(&PREFACE) {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let mut reader = FrameReader::amid();
    reader.feed(frames);
    let mut words: Vec<String> = opens.then(|| "opens".to_string()).into_iter().collect();
    while let Ok(Some(packet)) = reader.next_packet() {
        match (packet.kind, decode_raft(&packet.body)) {
            (PacketKind::Raft, Ok(packet)) => {
                words.extend(packet.messages.iter().map(|(shard, message)| {
                    format!("s{shard}/t{}:{}", message.term, body(&message.body))
                }));
            }
            (kind, _) => words.push(format!("{kind:?}({})", packet.body.len())),
        }
    }
    if words.is_empty() { format!("{} bytes", bytes.len()) } else { words.join(" ") }
}

fn body(body: &Body) -> String {
    match body {
        Body::AppendEntries { prev_index, commit, entries, .. } if entries.is_empty() => {
            format!("Heartbeat(last={prev_index},commit={commit})")
        }
        Body::AppendEntries { prev_index, commit, entries, .. } => {
            let last = prev_index.0 + entries.len() as u64;
            format!("Append({}..={last},commit={commit})", prev_index.0 + 1)
        }
        Body::AppendReply { outcome, .. } => match outcome {
            AppendOutcome::Matched { index } => format!("Matched({index})"),
            AppendOutcome::Conflict { prev_index, .. } => format!("Conflict({prev_index})"),
        },
        Body::RequestPreVote { last_index, .. } => format!("AskPreVote(last={last_index})"),
        Body::PreVoteReply { granted } => format!("PreVote({granted})"),
        Body::RequestVote { last_index, .. } => format!("AskVote(last={last_index})"),
        Body::VoteReply { granted } => format!("Vote({granted})"),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '(', '{']).next().unwrap_or_default().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Claims, FrameNumber, FrameWriter};
    use super::*;

    #[test]
    fn packets_are_named_and_anything_else_is_counted() {
        let mut number = FrameNumber(7);
        let mut writer = FrameWriter::with_room(&mut number, 64);
        let mut body = Vec::new();
        Claims::default().encode(&mut body);
        writer.packet(PacketKind::Claims, &body, 5);
        let mut bytes = PREFACE.to_vec();
        bytes.extend(writer.take());
        assert_eq!(describe_link(&bytes), format!("opens Claims({})", body.len()));
        assert_eq!(describe_link(&bytes[10..]), format!("{} bytes", bytes.len() - 10));
        assert_eq!(describe_link(b""), "0 bytes");
    }
}
