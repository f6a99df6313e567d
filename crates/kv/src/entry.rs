//! The payload of a Raft entry: one turn's commands of a shard.
//!
//! An entry is a header and chunks. A chunk is what one origin sends in one turn, and it goes from
//! the origin's frame into the log byte for byte. All integers are little-endian.
//!
//! | bytes | field of an entry |
//! |---|---|
//! | 1 | format, 1 |
//! | 2 | version of the command table (P12) |
//! | 8 | stamp, Unix milliseconds (P9) |
//! | 8 + 8 | index and state hash of a checkpoint of the leader; index 0: none |
//! | 4 | number of chunks |
//! | per chunk: 4 + … | its length, the chunk |
//!
//! | bytes | field of a chunk |
//! |---|---|
//! | 4 + 8 + 8 + 2 | origin: node, incarnation, boot nonce, lane (P7) |
//! | 8 | epoch of the stream |
//! | 8 | acked: replies up to this position may be forgotten |
//! | 8 | floor: the origin's lowest unsettled position anywhere |
//! | 4 | number of unsettled positions; 2^32 − 1: no list, the epoch has begun before |
//! | 8 each | these positions, ascending |
//! | 4 | number of commands |
//! | per command: 8 + 2 + 4 + 1 | position, slot (0xFFFF: the whole shard), generation, joined |
//! | 4 + … | length of the arguments, the arguments ([`Args`]) |
//!
//! An entry without chunks is a *tick*: it only moves the clock.

use crate::args::{Args, Malformed, Reader, u32_at};

/// The slot of a command that concerns its whole shard.
pub const WHOLE_SHARD: u16 = 0xFFFF;

const FORMAT: u8 = 1;
const NO_LIST: u32 = u32::MAX;
const COUNT_AT: usize = 27;
/// Where a chunk has the number of its unsettled positions.
const UNSETTLED_AT: usize = 46;
/// Bytes of a command before its arguments.
const COMMAND_HEAD: usize = 19;

/// Who sends a stream of commands to a shard: one lane of one node, in one of its boots (P7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node's id.
    pub node: u32,
    /// The node's durable boot counter.
    pub incarnation: u64,
    /// Random per boot: tells two boots apart that wrongly have the same incarnation.
    pub nonce: u64,
    /// The lane of that node.
    pub lane: u16,
}

/// What a chunk says of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// Whose stream it is.
    pub origin: Origin,
    /// Rises with every new connection, leader or retry.
    pub epoch: u64,
    /// Replies up to this position have arrived and may be forgotten.
    pub acked: u64,
    /// The lowest position that the origin has not settled, over all shards.
    pub floor: u64,
    /// In the first chunk of an epoch: all positions not settled in this shard, ascending.
    pub unsettled: Option<Vec<u64>>,
}

/// One command of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkCommand<'a> {
    /// Its position in the numbering of its origin.
    pub seq: u64,
    /// The slot of its keys, or [`WHOLE_SHARD`].
    pub slot: u16,
    /// The slot's ownership generation as the origin knows it.
    pub generation: u32,
    /// Whether it must be in one entry with the command after it (P8).
    pub joined: bool,
    /// Name and arguments.
    pub args: Args<'a>,
}

/// Builds a chunk.
#[derive(Clone, Debug)]
pub struct ChunkWriter {
    bytes: Vec<u8>,
    count_at: usize,
    count: u32,
    last: Option<(u64, bool)>,
}

impl ChunkWriter {
    /// A chunk without commands. Panics if the unsettled positions don't ascend.
    pub fn begin(head: &ChunkHead) -> Self {
        let mut bytes = Vec::with_capacity(256);
        put_origin(&mut bytes, &head.origin);
        for field in [head.epoch, head.acked, head.floor] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        if let Some(unsettled) = &head.unsettled {
            assert!(unsettled.is_sorted_by(|a, b| a < b), "unsettled positions ascend");
            bytes.extend_from_slice(&length(unsettled.len()).to_le_bytes());
            for seq in unsettled {
                bytes.extend_from_slice(&seq.to_le_bytes());
            }
        } else {
            bytes.extend_from_slice(&NO_LIST.to_le_bytes());
        }
        let count_at = bytes.len();
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        Self { bytes, count_at, count: 0, last: None }
    }

    /// Adds a command. Panics if its position is not above that of the command before, or if the
    /// slot is none.
    pub fn push(&mut self, seq: u64, slot: u16, generation: u32, joined: bool, args: Args<'_>) {
        assert!(self.last.is_none_or(|(last, _)| last < seq), "positions ascend in a chunk");
        assert!(is_slot(slot), "a command names a slot or the whole shard");
        self.bytes.extend_from_slice(&seq.to_le_bytes());
        self.bytes.extend_from_slice(&slot.to_le_bytes());
        self.bytes.extend_from_slice(&generation.to_le_bytes());
        self.bytes.push(u8::from(joined));
        self.bytes.extend_from_slice(&length(args.bytes().len()).to_le_bytes());
        self.bytes.extend_from_slice(args.bytes());
        self.last = Some((seq, joined));
        self.count += 1;
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Commands so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The chunk. Panics if its last command is joined with one that is not there.
    pub fn finish(mut self) -> Vec<u8> {
        assert!(!self.ends_joined(), "the last command is joined with none");
        self.bytes[self.count_at..self.count_at + 4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }

    fn ends_joined(&self) -> bool {
        self.last.is_some_and(|(_, joined)| joined)
    }
}

/// A validated chunk, as a view of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
    /// Where the commands begin.
    commands_at: usize,
    count: u32,
}

impl<'a> Chunk<'a> {
    /// Checks that `bytes` is exactly one chunk: fields, arguments, ascending positions, slots.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        read_head(&mut reader)?;
        let count = reader.u32("number of commands")?;
        let commands_at = bytes.len() - reader.left();
        let mut last: Option<ChunkCommand<'_>> = None;
        for _ in 0..count {
            let command = read_command(&mut reader)?;
            Args::parse(command.args.bytes())?;
            if last.is_some_and(|last| last.seq >= command.seq) {
                return Err(Malformed::new("chunk: positions don't ascend"));
            }
            last = Some(command);
        }
        if last.is_some_and(|last| last.joined) {
            return Err(Malformed::new("chunk: the last command is joined with none"));
        }
        reader.end("chunk: bytes after the last command")?;
        Ok(Self { bytes, commands_at, count })
    }

    /// A chunk that was checked before.
    fn validated(bytes: &'a [u8]) -> Self {
        let unsettled = u32_at(bytes, UNSETTLED_AT);
        let listed = if unsettled == NO_LIST { 0 } else { unsettled as usize };
        let count_at = UNSETTLED_AT + 4 + 8 * listed;
        Self { bytes, commands_at: count_at + 4, count: u32_at(bytes, count_at) }
    }

    /// What it says of its stream.
    pub fn head(&self) -> ChunkHead {
        read_head(&mut Reader::new(self.bytes)).expect("a chunk is validated when parsed")
    }

    /// Its commands, in order.
    pub fn commands(&self) -> impl Iterator<Item = ChunkCommand<'a>> + use<'a> {
        let mut reader = Reader::new(&self.bytes[self.commands_at..]);
        (0..self.count)
            .map(move |_| read_command(&mut reader).expect("a chunk is validated when parsed"))
    }

    /// Number of commands.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Its encoding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Builds the payload of an entry.
#[derive(Clone, Debug)]
pub struct EntryWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl EntryWriter {
    /// An entry without chunks, stamped in Unix milliseconds. `check` is index and state hash of
    /// the leader's latest checkpoint.
    pub fn new(version: u16, stamp_ms: u64, check: Option<(u64, u64)>) -> Self {
        let (check_index, check_hash) = check.unwrap_or((0, 0));
        let mut bytes = Vec::with_capacity(256);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&version.to_le_bytes());
        for field in [stamp_ms, check_index, check_hash] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        Self { bytes, count: 0 }
    }

    /// Adds a chunk that was validated or built here.
    pub fn push_chunk(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(&length(chunk.len()).to_le_bytes());
        self.bytes.extend_from_slice(chunk);
        self.count += 1;
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no chunk yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The payload.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[COUNT_AT..COUNT_AT + 4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// A validated entry, as a view of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct EntryView<'a> {
    /// Version of the command table that its leader used.
    pub version: u16,
    /// When it was proposed, in Unix milliseconds by the shard's clock.
    pub stamp_ms: u64,
    /// Index and state hash of a checkpoint of its leader.
    pub check: Option<(u64, u64)>,
    chunks: &'a [u8],
    count: u32,
}

impl<'a> EntryView<'a> {
    /// Checks that `bytes` is exactly one entry, with all its chunks.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8("format of an entry")? != FORMAT {
            return Err(Malformed::new("format of an entry"));
        }
        let version = reader.u16("version of the command table")?;
        let stamp_ms = reader.u64("stamp")?;
        let check = (reader.u64("checkpoint index")?, reader.u64("checkpoint hash")?);
        let count = reader.u32("number of chunks")?;
        let chunks = &bytes[bytes.len() - reader.left()..];
        for _ in 0..count {
            Chunk::parse(read_chunk(&mut reader)?)?;
        }
        reader.end("entry: bytes after the last chunk")?;
        let check = Some(check).filter(|&(index, _)| index != 0);
        Ok(Self { version, stamp_ms, check, chunks, count })
    }

    /// Its chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'a>> + use<'a> {
        let mut reader = Reader::new(self.chunks);
        (0..self.count).map(move |_| {
            Chunk::validated(read_chunk(&mut reader).expect("an entry is validated when parsed"))
        })
    }

    /// Number of chunks; 0 for a tick.
    pub fn count(&self) -> usize {
        self.count as usize
    }
}

/// Writes an origin as in a chunk.
pub(crate) fn put_origin(bytes: &mut Vec<u8>, origin: &Origin) {
    bytes.extend_from_slice(&origin.node.to_le_bytes());
    bytes.extend_from_slice(&origin.incarnation.to_le_bytes());
    bytes.extend_from_slice(&origin.nonce.to_le_bytes());
    bytes.extend_from_slice(&origin.lane.to_le_bytes());
}

fn read_head(reader: &mut Reader<'_>) -> Result<ChunkHead, Malformed> {
    let origin = Origin {
        node: reader.u32("node of an origin")?,
        incarnation: reader.u64("incarnation")?,
        nonce: reader.u64("boot nonce")?,
        lane: reader.u16("lane of an origin")?,
    };
    let (epoch, acked) = (reader.u64("epoch of a stream")?, reader.u64("acked position")?);
    let floor = reader.u64("floor")?;
    let unsettled = match reader.u32("number of unsettled positions")? {
        NO_LIST => None,
        count => Some(read_unsettled(reader, count)?),
    };
    Ok(ChunkHead { origin, epoch, acked, floor, unsettled })
}

fn read_unsettled(reader: &mut Reader<'_>, count: u32) -> Result<Vec<u64>, Malformed> {
    let mut unsettled = Vec::new();
    for _ in 0..count {
        let seq = reader.u64("unsettled position")?;
        if unsettled.last().is_some_and(|&last| last >= seq) {
            return Err(Malformed::new("chunk: unsettled positions don't ascend"));
        }
        unsettled.push(seq);
    }
    Ok(unsettled)
}

/// A command whose arguments are still to be checked, if the chunk was not.
fn read_command<'a>(reader: &mut Reader<'a>) -> Result<ChunkCommand<'a>, Malformed> {
    let head = reader.array::<COMMAND_HEAD>("head of a command")?;
    let mut fields = Reader::new(&head);
    let seq = fields.u64("position of a command")?;
    let slot = fields.u16("slot of a command")?;
    if !is_slot(slot) {
        return Err(Malformed::new("slot of a command"));
    }
    let generation = fields.u32("generation of a slot")?;
    let joined = match fields.u8("joined")? {
        0 => false,
        1 => true,
        _ => return Err(Malformed::new("joined")),
    };
    let len = fields.u32("length of the arguments")?;
    let args = Args::unchecked(reader.take(len as usize, "arguments")?);
    Ok(ChunkCommand { seq, slot, generation, joined, args })
}

/// Tells slot and first argument of the commands of an entry that was not checked, up to where it
/// makes no sense: for whoever only wants to know what will be looked at.
pub(crate) fn peek_keys<'a>(
    entry: &'a [u8],
    mut each: impl FnMut(u16, &'a [u8]),
) -> Result<(), Malformed> {
    let mut reader = Reader::new(entry);
    reader.take(COUNT_AT, "head of an entry")?;
    for _ in 0..reader.u32("number of chunks")? {
        let mut chunk = Reader::new(read_chunk(&mut reader)?);
        chunk.take(UNSETTLED_AT, "head of a chunk")?;
        match chunk.u32("number of unsettled positions")? {
            NO_LIST => {}
            count => drop(chunk.take(count as usize * 8, "unsettled positions")?),
        }
        for _ in 0..chunk.u32("number of commands")? {
            let command = read_command(&mut chunk)?;
            let mut args = Reader::new(command.args.bytes());
            if args.u32("argument count")? < 2 {
                continue;
            }
            let name = args.u32("argument length")?;
            args.take(name as usize, "argument")?;
            let key = args.u32("argument length")?;
            each(command.slot, args.take(key as usize, "argument")?);
        }
    }
    Ok(())
}

fn read_chunk<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = reader.u32("length of a chunk")?;
    reader.take(len as usize, "chunk")
}

fn is_slot(slot: u16) -> bool {
    slot < flotilla_shard::SLOTS || slot == WHOLE_SHARD
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("chunks and requests are limited far below 4 GiB (P15)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ArgsBuf;

    fn head(unsettled: Option<Vec<u64>>) -> ChunkHead {
        let origin = Origin { node: 2, incarnation: 3, nonce: 4, lane: 1 };
        ChunkHead { origin, epoch: 9, acked: 5, floor: 6, unsettled }
    }

    fn chunk() -> Vec<u8> {
        let mut writer = ChunkWriter::begin(&head(Some(vec![6, 8])));
        let args = ArgsBuf::from_slices(&[b"DEL", b"k"]);
        writer.push(8, 77, 1, true, args.as_args());
        writer.push(11, WHOLE_SHARD, 0, false, args.as_args());
        assert_eq!(writer.count(), 2);
        writer.finish()
    }

    fn entry() -> Vec<u8> {
        let mut writer = EntryWriter::new(1, 1_234, Some((1024, 42)));
        writer.push_chunk(&chunk());
        writer.push_chunk(&ChunkWriter::begin(&head(None)).finish());
        writer.finish()
    }

    #[test]
    fn what_was_built_is_parsed() {
        let bytes = entry();
        let view = EntryView::parse(&bytes).expect("built by EntryWriter");
        assert_eq!((view.version, view.stamp_ms, view.check), (1, 1_234, Some((1024, 42))));
        let chunks: Vec<Chunk<'_>> = view.chunks().collect();
        assert_eq!(chunks[0].bytes(), chunk());
        assert_eq!(chunks[0].head(), head(Some(vec![6, 8])));
        assert_eq!(chunks[1].head(), head(None));
        let commands: Vec<ChunkCommand<'_>> = chunks[0].commands().collect();
        assert_eq!((commands[0].seq, commands[0].slot, commands[0].generation), (8, 77, 1));
        assert!(commands[0].joined && !commands[1].joined);
        assert_eq!(commands[1].args.get(1), Some(&b"k"[..]));
        assert_eq!(chunks[1].count(), 0);
    }

    #[test]
    fn a_tick_has_no_chunk() {
        let bytes = EntryWriter::new(1, 50, None).finish();
        let view = EntryView::parse(&bytes).expect("built by EntryWriter");
        assert_eq!((view.count(), view.check, view.stamp_ms), (0, None, 50));
    }

    #[test]
    fn keys_are_told_without_a_check() {
        let mut keys = Vec::new();
        let bytes = entry();
        peek_keys(&bytes, |slot, key| keys.push((slot, key))).expect("built by EntryWriter");
        assert_eq!(keys, [(77, &b"k"[..]), (WHOLE_SHARD, b"k")]);
    }

    #[test]
    fn every_cut_is_refused_and_no_flip_panics() {
        let bytes = entry();
        for end in 0..bytes.len() {
            assert!(EntryView::parse(&bytes[..end]).is_err(), "cut at {end}");
            assert!(peek_keys(&bytes[..end], |_, _| ()).is_err(), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = peek_keys(&flipped, |_, _| ());
            if let Ok(view) = EntryView::parse(&flipped) {
                view.chunks().for_each(|chunk| {
                    chunk.head();
                    chunk.commands().for_each(|command| assert!(!command.args.is_empty()));
                });
            }
        }
    }
}
