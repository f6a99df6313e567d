//! Set, get and delete: first on the tables alone, then as a replica does it, from an entry.
//!
//! `cargo run -p flotilla-kv --example table`

use std::io::Write;

use flotilla_kv::{
    Answers, ArgsBuf, ChunkHead, ChunkWriter, EntryWriter, Keyspace, Machine, Origin, Slot,
    TABLE_VERSION,
};
use flotilla_shard::{SLOTS, slot_of};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();

    let mut table = Keyspace::new(1);
    let slot = slot_of(b"cart:7");
    table.set(slot, b"cart:7", b"two apples", None);
    let found = table.get(slot, b"cart:7", 0).map(|found| found.value.to_vec());
    writeln!(out, "get: {:?}", found.as_deref().map(String::from_utf8_lossy))?;
    writeln!(out, "removed: {}", table.remove(slot, b"cart:7", 0))?;
    writeln!(out, "get: {:?}", table.get(slot, b"cart:7", 0))?;

    let mut machine = Machine::new(1, &[(Slot(0), Slot(SLOTS - 1))]);
    let origin = Origin { node: 1, incarnation: 1, nonce: 42, lane: 0 };
    let head = ChunkHead { origin, epoch: 1, acked: 0, floor: 0, unsettled: Some(Vec::new()) };
    let mut chunk = ChunkWriter::begin(&head);
    let commands: [&[&[u8]]; 3] =
        [&[b"SET", b"cart:7", b"two apples"], &[b"GETDEL", b"cart:7"], &[b"DEL", b"cart:7"]];
    for (seq, command) in (1..).zip(commands) {
        chunk.push(seq, slot.0, 0, false, ArgsBuf::from_slices(command).as_args());
    }
    let mut entry = EntryWriter::new(TABLE_VERSION, 1_700_000_000_000, None);
    entry.push_chunk(&chunk.finish());
    let mut answers = Answers::default();
    machine.apply(1, &entry.finish(), &mut answers).expect("no other replica to differ from");
    for answer in &answers {
        let reply = String::from_utf8_lossy(answers.reply(answer));
        writeln!(out, "{}: {reply:?}", answer.seq)?;
    }
    Ok(())
}
