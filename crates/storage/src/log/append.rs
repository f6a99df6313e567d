//! Encoding a turn into a frame, and beginning a segment when the present one is full.
//!
//! A new segment's head, its checkpoint and the frame that did not fit are one write.

use std::sync::Arc;

use flotilla_raft::{Entry, SnapshotMeta, Write};
use flotilla_shard::ShardId;

use super::{FrameWrite, InFlight, Log};
use crate::buffer::AlignedBuffer;
use crate::format::{
    FLAG_CHECKPOINT, FLAG_NODE, FrameHeader, SEGMENT_HEAD, SegmentHeader, whole_blocks,
};
use crate::frame::{FrameEncoder, Measure, ShardCheckpoint};
use crate::live::Place;
use crate::segment::Segment;
use crate::shelf::Shelf;
use crate::snapshot::SnapshotFile;

/// What one frame is made of.
#[derive(Default)]
pub(super) struct Turn<'a> {
    pub(super) node_state: Option<&'a [u8]>,
    pub(super) writes: &'a [(ShardId, Write)],
    pub(super) carried: Vec<(ShardId, Vec<Entry>)>,
    pub(super) leaving: Vec<ShardId>,
}

impl Turn<'_> {
    fn measure(&self, shelf: &Shelf) -> Measure {
        let mut measure = Measure::default();
        if let Some(state) = self.node_state {
            measure.node(state);
        }
        for (_, entries) in &self.carried {
            measure.head();
            measure.entries(entries);
        }
        for (shard, write) in self.writes {
            measure.head();
            if let Some(meta) = &write.snapshot {
                measure.reset(durable_file(shelf, *shard, meta));
            }
            measure.entries(&write.entries);
        }
        for _ in &self.leaving {
            measure.removed();
        }
        measure
    }
}

fn durable_file<'a>(shelf: &'a Shelf, shard: ShardId, meta: &SnapshotMeta) -> &'a SnapshotFile {
    let file = shelf.find(shard, meta).expect("a snapshot is durable before a log begins at it");
    assert_eq!(&file.meta, meta, "a snapshot's file says the same as its write");
    file
}

impl Log {
    pub(super) fn write_frame(&mut self, turn: &Turn<'_>) -> FrameWrite {
        let measure = turn.measure(&self.shelf);
        let mut out = self.open_for(measure);
        self.sequence += 1;
        let offset = out.offset + out.data.len() as u64;
        let place = Place { segment: self.segments.active().number, offset };
        let previous = std::mem::take(&mut self.previous_table);
        let table = std::mem::take(&mut self.spare_table);
        let mut frame = FrameEncoder::begin(&mut out.data, measure, &previous, table);
        if let Some(state) = turn.node_state {
            frame.node(state);
            self.node_state = Some(state.to_vec());
        }
        for (shard, entries) in &turn.carried {
            self.carry_run(&mut frame, *shard, entries, place);
        }
        for (shard, write) in turn.writes {
            self.write_shard(&mut frame, *shard, write, place);
        }
        for &shard in &turn.leaving {
            frame.removed(shard);
            if let Some(mut log) = self.shards.remove(&shard) {
                log.clear(&mut self.live);
            }
            self.shelf.retire_all(shard, self.sequence);
        }
        let flags = if turn.node_state.is_some() { FLAG_NODE } else { 0 };
        self.previous_table = frame.finish(self.header(place, flags));
        self.spare_table = previous;
        self.last_is_empty = measure.body == 0 && measure.table == 0;
        self.account(&mut out);
        out
    }

    fn carry_run(
        &mut self,
        frame: &mut FrameEncoder<'_>,
        shard: ShardId,
        entries: &[Entry],
        place: Place,
    ) {
        let log = self.shards.get_mut(&shard).expect("only what is live is carried");
        let first = entries[0].index;
        let previous = log.term_at(first.previous()).expect("the log begins before its entries");
        frame.head(shard, FrameEncoder::items(entries), &log.hard_state);
        frame.carry(shard, previous, entries);
        log.relocate(first, place, &mut self.live);
    }

    fn write_shard(
        &mut self,
        frame: &mut FrameEncoder<'_>,
        shard: ShardId,
        write: &Write,
        place: Place,
    ) {
        let log = self.shards.entry(shard).or_default();
        log.promise(shard, write.hard_state);
        let items = usize::from(write.snapshot.is_some()) + FrameEncoder::items(&write.entries);
        frame.head(shard, items, &write.hard_state);
        if let Some(meta) = &write.snapshot {
            let file = durable_file(&self.shelf, shard, meta);
            let keeps_later = log.reset(shard, file, &mut self.live);
            frame.reset(shard, keeps_later, file);
            self.shelf.retire_below(shard, meta.index, self.sequence);
        }
        if !write.entries.is_empty() {
            let previous = log.replace(shard, &write.entries, place, &mut self.live);
            frame.entries(shard, previous, &write.entries);
        }
    }

    fn header(&self, place: Place, flags: u32) -> FrameHeader {
        FrameHeader {
            nonce: self.segments.active().nonce,
            segment: place.segment,
            offset: place.offset,
            sequence: self.sequence,
            durable_through: self.durable_through,
            floor: self.floors.proven,
            body_length: 0,
            table_length: 0,
            previous_length: 0,
            tables_crc: 0,
            body_crc: 0,
            flags,
        }
    }

    /// Completes a write whose last frame has this log's sequence.
    fn account(&mut self, out: &mut FrameWrite) {
        out.sequence = self.sequence;
        self.last_kept = self.sequence;
        let end = out.offset + out.data.len() as u64;
        let active = self.segments.active_mut();
        assert!(end <= active.bytes, "a frame ends inside its segment");
        active.written = end;
        let attests = self.durable_through;
        self.in_flight.push_back(InFlight { sequence: self.sequence, attests, written: false });
        let newest = self.floors.candidates.back().map_or(self.floors.proven, |floor| floor.1);
        let floor = self.oldest_live();
        assert!(floor >= newest, "what is dead stays dead");
        if floor > newest {
            self.floors.candidates.push_back((self.sequence, floor));
        }
        let said = self.floors.said.back().map_or(0, |floor| floor.1);
        if self.floors.proven > said {
            self.floors.said.push_back((self.sequence, self.floors.proven));
        }
    }

    /// A write with room for a frame of that measure, perhaps begun with a new segment's head.
    fn open_for(&mut self, measure: Measure) -> FrameWrite {
        let length = measure.frame_length(self.previous_table.len());
        let active = self.segments.active();
        if active.written + length as u64 > active.bytes {
            return self.begin_segment(Some(measure));
        }
        let (file, offset) = (Arc::clone(&active.file), active.written);
        let mut data = std::mem::take(&mut self.spare_buffer);
        data.reset(length);
        FrameWrite { sequence: 0, file, offset, data, create: None }
    }

    /// A new segment with nothing but its checkpoint: what recovery writes.
    pub(crate) fn open_segment(&mut self) -> FrameWrite {
        let mut out = self.begin_segment(None);
        self.last_is_empty = true;
        self.account(&mut out);
        out
    }

    fn begin_segment(&mut self, then: Option<Measure>) -> FrameWrite {
        let shards: Vec<ShardCheckpoint> =
            self.shards.iter().map(|(&shard, log)| log.checkpoint(shard)).collect();
        let mut measure = Measure::default();
        measure.checkpoint(&shards);
        if let Some(state) = &self.node_state {
            measure.node(state);
        }
        let checkpoint = measure.frame_length(self.previous_table.len());
        let first = then.map_or(0, |then| then.frame_length(measure.table));
        let length = SEGMENT_HEAD as usize + checkpoint + first;
        let (file, create) = self.segments.take_file(length as u64);
        let mut data = std::mem::take(&mut self.spare_buffer);
        data.reset(length);
        self.chain_segment(file.name.clone(), file.bytes).encode(&mut data);
        self.encode_checkpoint(&mut data, measure, &shards);
        let create = create.then_some(file.bytes);
        FrameWrite { sequence: self.sequence, file: file.name, offset: 0, data, create }
    }

    /// Makes a file the newest segment.
    fn chain_segment(&mut self, file: Arc<str>, bytes: u64) -> SegmentHeader {
        assert_eq!(bytes as usize, whole_blocks(bytes as usize), "segments are whole blocks");
        let before = self.segments.chain.back();
        let number = self.segments.next_number;
        self.segments.next_number += 1;
        let header = SegmentHeader {
            nonce: self.random.next(),
            number,
            bytes,
            first_sequence: self.sequence + 1,
            previous: before.map_or(0, |segment| segment.number),
            previous_first: before.map_or(0, |segment| segment.first_sequence),
            continues: self.last_kept,
        };
        let SegmentHeader { nonce, first_sequence, .. } = header;
        let written = SEGMENT_HEAD;
        self.segments.chain.push_back(Segment {
            number,
            file,
            nonce,
            bytes,
            first_sequence,
            written,
        });
        header
    }

    fn encode_checkpoint(
        &mut self,
        data: &mut AlignedBuffer,
        measure: Measure,
        shards: &[ShardCheckpoint],
    ) {
        self.sequence += 1;
        let place = Place { segment: self.segments.active().number, offset: data.len() as u64 };
        let previous = std::mem::take(&mut self.previous_table);
        let table = std::mem::take(&mut self.spare_table);
        let mut frame = FrameEncoder::begin(data, measure, &previous, table);
        frame.checkpoint(shards);
        let mut flags = FLAG_CHECKPOINT;
        if let Some(state) = &self.node_state {
            frame.node(state);
            flags |= FLAG_NODE;
        }
        self.previous_table = frame.finish(self.header(place, flags));
        self.spare_table = previous;
    }
}
