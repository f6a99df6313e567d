//! Encoding a turn into a frame, and beginning a segment when the present one is full.
//!
//! A new segment's head, its checkpoint and the frame that did not fit are one write.

use std::sync::Arc;

use flotilla_raft::{HardState, SnapshotMeta, Write};
use flotilla_shard::ShardId;

use super::{FrameWrite, InFlight, Log};
use crate::buffer::AlignedBuffer;
use crate::carry::Carried;
use crate::format::{
    ENTRY_HEAD, FLAG_CHECKPOINT, FLAG_PREVIOUS_UNKNOWN, FrameHeader, SEGMENT_HEAD, SegmentHeader,
    whole_blocks,
};
use crate::frame::FrameEncoder;
use crate::live::{Extent, Place};
use crate::segment::Segment;
use crate::shelf::Shelf;
use crate::snapshot::SnapshotFile;
use crate::table::{Measure, ShardCheckpoint};

/// What one frame is made of.
#[derive(Default)]
pub(super) struct Turn<'a> {
    pub(super) node_state: Option<&'a [u8]>,
    pub(super) leaving: Vec<ShardId>,
    pub(super) renewed: Vec<ShardId>,
    pub(super) carried: Vec<(ShardId, Carried)>,
    pub(super) writes: &'a [(ShardId, Write)],
}

impl Turn<'_> {
    fn measure(&self, shelf: &Shelf) -> Measure {
        let mut measure = Measure::default();
        if let Some(state) = self.node_state {
            measure.node(state);
        }
        for _ in &self.leaving {
            measure.state();
            measure.removed();
        }
        for _ in &self.renewed {
            measure.state();
            measure.renewed();
        }
        for (_, carried) in &self.carried {
            measure.state();
            match carried {
                Carried::Holes(identities) => measure.holes(identities),
                Carried::Entries(entries) => measure.carry(entries),
            }
        }
        for (shard, write) in self.writes {
            measure.state();
            if let Some(meta) = &write.snapshot {
                measure.reset(durable_file(shelf, *shard, meta));
            }
            if !write.entries.is_empty() {
                measure.entries(&write.entries);
            }
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
        let (previous, flags) = self.take_previous_table();
        let table = std::mem::take(&mut self.spare_table);
        let mut frame = FrameEncoder::begin(&mut out.data, measure, &previous, table);
        if let Some(state) = turn.node_state {
            frame.node(state);
            self.node_state = Some(state.to_vec());
            self.incomplete = false;
        }
        for &shard in &turn.leaving {
            frame.state(shard, &HardState::default());
            frame.removed();
            if let Some(mut log) = self.shards.remove(&shard) {
                log.clear(&mut self.live);
            }
            self.shelf.retire_all(shard, self.sequence);
        }
        for &shard in &turn.renewed {
            self.renew(&mut frame, shard);
        }
        for (shard, carried) in &turn.carried {
            self.carry_run(&mut frame, *shard, carried, place);
        }
        for (shard, write) in turn.writes {
            self.write_shard(&mut frame, *shard, write, place);
        }
        self.previous_table = Some(frame.finish(self.header(place, flags)));
        self.spare_table = previous;
        // One that was begun while others were under way attests none of those.
        let is_empty = measure.body == 0 && measure.table == 0;
        self.last_is_empty = is_empty && self.in_flight.is_empty();
        self.account(&mut out);
        out
    }

    /// What is left of a lost shard belongs to a new replica, which promised nothing.
    fn renew(&mut self, frame: &mut FrameEncoder<'_>, shard: ShardId) {
        let log = self.shards.get_mut(&shard).filter(|log| log.lost);
        let log = log.expect("only what is lost begins anew");
        log.lost = false;
        log.hard_state = HardState { term: log.last().1, voted_for: None };
        frame.state(shard, &log.hard_state);
        frame.renewed();
    }

    fn carry_run(
        &mut self,
        frame: &mut FrameEncoder<'_>,
        shard: ShardId,
        carried: &Carried,
        place: Place,
    ) {
        let log = self.shards.get_mut(&shard).expect("only what is live is carried");
        frame.state(shard, &log.hard_state);
        let (first, last, bytes, whole) = match carried {
            Carried::Holes(identities) => {
                frame.holes(identities);
                let (first, last) = (identities.first, identities.last());
                (first, last, ENTRY_HEAD as u64 * (last.0 + 1 - first.0), false)
            }
            Carried::Entries(entries) => {
                frame.carry(entries);
                let payloads: usize = entries.iter().map(|entry| entry.payload.len()).sum();
                let bytes = (ENTRY_HEAD * entries.len() + payloads) as u64;
                (entries[0].index, entries[entries.len() - 1].index, bytes, true)
            }
        };
        log.settle(Extent { first, last, place, bytes, whole }, &mut self.live);
    }

    fn write_shard(
        &mut self,
        frame: &mut FrameEncoder<'_>,
        shard: ShardId,
        write: &Write,
        place: Place,
    ) {
        let log = self.shards.entry(shard).or_default();
        assert!(!log.lost, "shard {}: a replica that forgot a promise makes no other", shard.0);
        log.promise(shard, write.hard_state);
        frame.state(shard, &write.hard_state);
        if let Some(meta) = &write.snapshot {
            let file = durable_file(&self.shelf, shard, meta);
            let keeps_later = log.reset(shard, file, &mut self.live);
            frame.reset(keeps_later, file);
            self.shelf.retire_below(shard, meta.index, self.sequence);
        }
        if !write.entries.is_empty() {
            let previous = log.replace(shard, &write.entries, place, &mut self.live);
            frame.entries(previous, &write.entries);
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
        let length = measure.frame_length(self.previous_length());
        let active = self.segments.active();
        let full = active.written + length as u64 > active.bytes;
        if full || std::mem::take(&mut self.wants_segment) {
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
        if let Some(state) = &self.node_state {
            measure.node(state);
        }
        if self.incomplete {
            measure.incomplete();
        }
        for said in &shards {
            measure.checkpoint(said);
        }
        let checkpoint = measure.frame_length(self.previous_length());
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
            log: self.segments.log,
            number,
            bytes,
            first_sequence: self.sequence + 1,
            previous: before.map_or(0, |segment| segment.number),
            previous_first: before.map_or(0, |segment| segment.first_sequence),
            previous_nonce: before.map_or(0, |segment| segment.nonce),
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
        let (previous, unknown) = self.take_previous_table();
        let table = std::mem::take(&mut self.spare_table);
        let mut frame = FrameEncoder::begin(data, measure, &previous, table);
        if let Some(state) = &self.node_state {
            frame.node(state);
        }
        if self.incomplete {
            frame.incomplete();
        }
        for said in shards {
            frame.checkpoint(said);
        }
        let header = self.header(place, FLAG_CHECKPOINT | unknown);
        self.previous_table = Some(frame.finish(header));
        self.spare_table = previous;
    }

    /// How long the table is that the next frame repeats.
    fn previous_length(&self) -> usize {
        self.previous_table.as_ref().map_or(0, Vec::len)
    }

    /// The table that the next frame repeats, and the flag if nobody knows it.
    fn take_previous_table(&mut self) -> (Vec<u8>, u32) {
        match self.previous_table.take() {
            Some(table) => (table, 0),
            None => (Vec::new(), FLAG_PREVIOUS_UNKNOWN),
        }
    }
}
