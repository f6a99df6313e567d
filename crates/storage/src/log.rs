//! The log of a lane: one frame per turn, and the bookkeeping of what is durable and live.

mod append;
mod damage;
mod scrub;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flotilla_raft::{Entry, Index, SnapshotMeta, Write};
use flotilla_shard::ShardId;

use crate::buffer::AlignedBuffer;
use crate::carry::Carry;
use crate::chore::Chore;
use crate::live::{Live, Place, ShardLog};
use crate::load::{CarryLoad, CarryPiece};
use crate::scan::segment_id;
use crate::segment::Segments;
use crate::shelf::Shelf;
use crate::snapshot::{SnapshotFile, SnapshotWriter, StoredSnapshot};
use append::Turn;
pub use damage::Damage;
use scrub::Scrubber;

/// The default size of a segment in bytes.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// How a log uses its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment in bytes, rounded up to blocks. One that would be too small for its
    /// first frame is made larger.
    pub segment_bytes: u64,
    /// How many blank segments are kept ready.
    pub spare_segments: usize,
    /// With more segments than this, what keeps the oldest alive is carried, unless more than
    /// half of all bytes are live.
    pub max_segments: usize,
    /// About how many bytes of carried entries go into one frame.
    pub carry_frame_bytes: usize,
    /// About how many bytes of entries are read at a time for carrying.
    pub carry_load_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            spare_segments: 2,
            max_segments: 8,
            carry_frame_bytes: 1 << 20,
            carry_load_bytes: 4 << 20,
        }
    }
}

/// One write to make durable: a frame, perhaps with the head of a segment before it.
#[derive(Clone, Debug)]
pub struct FrameWrite {
    /// To be reported to [`Log::written`] once it is durable.
    pub sequence: u64,
    /// Name of the file.
    pub file: Arc<str>,
    /// Where in it; a multiple of [`crate::BLOCK`].
    pub offset: u64,
    /// What; its length and its place in memory are multiples of [`crate::BLOCK`].
    pub data: AlignedBuffer,
    /// The file does not exist yet: [`crate::Disk::create`] it with this size first.
    pub create: Option<u64>,
}

/// What is written and not yet durable.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    sequence: u64,
    attests: u64,
    written: bool,
}

/// How far segments are not needed any more: known, said on disk, and attested.
#[derive(Clone, Debug, Default)]
struct Floors {
    /// True once the frame of that sequence is durable.
    candidates: VecDeque<(u64, u64)>,
    /// True now; every frame says it.
    proven: u64,
    /// Said by the frame of that sequence.
    said: VecDeque<(u64, u64)>,
    /// Said by a frame that is attested: what lies below may be used again.
    attested: u64,
}

/// Numbers that look random; the sequence of them is a function of the seed [Steele et al., 2014].
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// The next number, never 0.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

/// The log that all shards of one lane share.
#[derive(Clone, Debug)]
pub struct Log {
    options: Options,
    random: SplitMix,
    shards: BTreeMap<ShardId, ShardLog>,
    node_state: Option<Vec<u8>>,
    /// A newer one may have been lost.
    incomplete: bool,
    live: Live,
    segments: Segments,
    shelf: Shelf,
    carry: Carry,
    leaving: Vec<ShardId>,
    renewed: Vec<ShardId>,
    /// What was found damaged and not told yet.
    damage: Vec<Damage>,
    /// Frames and snapshots that are known to be damaged: they are told once.
    bad_frames: BTreeSet<Place>,
    bad_snapshots: BTreeSet<String>,
    scrubber: Scrubber,
    /// The next frame begins a segment, whose checkpoint restates everything.
    wants_segment: bool,
    /// The last sequence given out.
    sequence: u64,
    /// The last frame of the log; differs from `sequence` only after recovery.
    last_kept: u64,
    /// The last frame has nothing in it and attests all before it.
    last_is_empty: bool,
    durable_through: u64,
    attested_through: u64,
    in_flight: VecDeque<InFlight>,
    floors: Floors,
    /// The table of the last frame; `None` if nobody knows it.
    previous_table: Option<Vec<u8>>,
    spare_table: Vec<u8>,
    spare_buffer: AlignedBuffer,
}

/// What recovery hands to a log.
pub(crate) struct Parts {
    pub(crate) random: SplitMix,
    pub(crate) shards: BTreeMap<ShardId, ShardLog>,
    pub(crate) node_state: Option<Vec<u8>>,
    pub(crate) incomplete: bool,
    pub(crate) live: Live,
    pub(crate) segments: Segments,
    pub(crate) shelf: Shelf,
    /// The sequence before the first new frame's.
    pub(crate) sequence: u64,
    /// The sequence of the last frame kept, all of which is durable.
    pub(crate) last_kept: u64,
    pub(crate) floor: u64,
    /// Frames that recovery found damaged.
    pub(crate) bad_frames: BTreeSet<Place>,
    pub(crate) previous_table: Option<Vec<u8>>,
}

impl Log {
    /// A log that goes on behind what was recovered; [`Log::open_segment`] must come next.
    pub(crate) fn from_parts(options: Options, parts: Parts) -> Self {
        Self {
            options,
            random: parts.random,
            shards: parts.shards,
            node_state: parts.node_state,
            incomplete: parts.incomplete,
            live: parts.live,
            segments: parts.segments,
            shelf: parts.shelf,
            carry: Carry::default(),
            leaving: Vec::new(),
            renewed: Vec::new(),
            damage: Vec::new(),
            bad_frames: parts.bad_frames,
            bad_snapshots: BTreeSet::new(),
            scrubber: Scrubber::default(),
            wants_segment: false,
            sequence: parts.sequence,
            last_kept: parts.last_kept,
            last_is_empty: true,
            durable_through: parts.last_kept,
            attested_through: parts.last_kept,
            in_flight: VecDeque::new(),
            floors: Floors { proven: parts.floor, ..Floors::default() },
            previous_table: parts.previous_table,
            spare_table: Vec::new(),
            spare_buffer: AlignedBuffer::default(),
        }
    }

    /// Encodes one turn as one frame: the node's own state if it changed, and the shards' writes
    /// in order. Panics if a write does not fit its shard's log (a gap, an unknown snapshot, a
    /// term or vote that goes back), or if the shard is lost.
    pub fn append(&mut self, node_state: Option<&[u8]>, writes: &[(ShardId, Write)]) -> FrameWrite {
        let mut carried = self.carry.take(self.options.carry_frame_bytes, &self.shards);
        let leaving = std::mem::take(&mut self.leaving);
        // A shard that leaves takes with it what was to stand in a frame again.
        carried.retain(|(shard, _)| !leaving.contains(shard));
        let renewed = std::mem::take(&mut self.renewed);
        self.write_frame(&Turn { node_state, leaving, renewed, carried, writes })
    }

    /// Forgets a shard with the next frame, before that frame's writes.
    pub fn remove_shard(&mut self, shard: ShardId) {
        self.leaving.push(shard);
    }

    /// What is left of a lost shard (P4) is from the next frame on the log of a new replica, which
    /// promised nothing; that frame may hold its first writes. Panics then if it is not lost.
    pub fn renew_shard(&mut self, shard: ShardId) {
        self.renewed.push(shard);
    }

    /// With the next frame, before its writes, nothing is known of the shards `removed` any more,
    /// and what is left of those `renewed` is another's: see [`Log::remove_shard`] and
    /// [`Log::renew_shard`].
    pub fn begin_anew(&mut self, removed: &[ShardId], renewed: &[ShardId]) {
        self.leaving.extend(removed);
        self.renewed.extend(renewed);
    }

    /// Payloads that were damaged have been found elsewhere: they are written with the next frame.
    /// Entries that the log does not have, or has whole, are left out.
    pub fn repair(&mut self, shard: ShardId, entries: Vec<Entry>) {
        self.carry.repaired(shard, entries);
    }

    /// Whether something waits for a frame that no turn asks for: [`Log::append`] without writes
    /// makes one.
    pub fn needs_frame(&self) -> bool {
        !self.carry.is_empty() || !self.leaving.is_empty() || !self.renewed.is_empty()
    }

    /// What was found damaged while running, each once. The node tells the core of the entries
    /// ([`flotilla_raft::Input::Damaged`]), and writes a new snapshot in place of one.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// How many entries of a shard lack their payload.
    pub fn holes(&self, shard: ShardId) -> usize {
        self.shards.get(&shard).map_or(0, ShardLog::hole_count)
    }

    /// The frame of that sequence is durable. Panics if it is not in flight.
    pub fn written(&mut self, sequence: u64) {
        let frame = self.in_flight.iter_mut().find(|frame| frame.sequence == sequence);
        frame.expect("a frame is reported durable once").written = true;
        while let Some(frame) = self.in_flight.pop_front_if(|frame| frame.written) {
            self.durable_through = frame.sequence;
            self.attested_through = frame.attests;
        }
        let (durable, attested) = (self.durable_through, self.attested_through);
        while let Some(due) = self.floors.candidates.pop_front_if(|floor| floor.0 <= durable) {
            self.floors.proven = due.1;
        }
        while let Some(due) = self.floors.said.pop_front_if(|floor| floor.0 <= attested) {
            self.floors.attested = due.1;
        }
        self.release_segments();
        let unneeded = self.shelf.removable(attested);
        self.segments.removals.extend(unneeded);
    }

    /// Whether an empty frame should attest the last one: all is durable, and the last frame is
    /// not an empty one that was begun when all was. The driver asks after 2 ms without work, and
    /// at a clean stop.
    pub fn needs_seal(&self) -> bool {
        !self.last_is_empty && self.in_flight.is_empty()
    }

    /// The empty frame that attests the last one, if it is needed.
    pub fn seal(&mut self) -> Option<FrameWrite> {
        self.needs_seal().then(|| self.write_frame(&Turn::default()))
    }

    /// Gives the memory of a frame back for the next one.
    pub fn reuse(&mut self, data: AlignedBuffer) {
        self.spare_buffer = data;
    }

    /// What a helper thread should do now. Each chore is given out once.
    pub fn housekeeping(&mut self) -> Vec<Chore> {
        let mut chores = Vec::new();
        while let Some((name, bytes)) = self.segments.next_to_prepare() {
            chores.push(Chore::Prepare { name, bytes });
        }
        let removals = std::mem::take(&mut self.segments.removals);
        chores.extend(removals.into_iter().map(|name| Chore::Remove { name }));
        chores.extend(self.load_to_carry().map(Chore::Load));
        chores
    }

    /// A chore was run.
    pub fn chore_done(&mut self, chore: &Chore) {
        match chore {
            Chore::Prepare { name, bytes } => self.segments.prepared(name, *bytes, true),
            Chore::Remove { .. } => {}
            Chore::Load(load) => {
                self.carry.loaded(load);
                for bad in &load.damaged {
                    self.puncture(load.id.number, &load.file, bad);
                }
                self.release_segments();
            }
            Chore::Scrub(scrub) => self.scrubbed(scrub),
        }
    }

    /// A chore could not be done, and will be reported as failed later: what follows from that is
    /// known at once.
    pub fn chore_fails(&mut self, chore: &Chore) {
        if matches!(chore, Chore::Prepare { .. }) {
            self.segments.prepare_failed = true;
        }
    }

    /// A chore could not be done: it will be given out again. Panics for a chore that only reads,
    /// which never fails.
    pub fn chore_failed(&mut self, chore: &Chore) {
        match chore {
            Chore::Prepare { name, bytes } => self.segments.prepared(name, *bytes, false),
            Chore::Remove { name } => self.segments.removals.push(name.clone()),
            Chore::Load(_) | Chore::Scrub(_) => panic!("what can't be read is damage, no failure"),
        }
    }

    /// Begins a snapshot file of a shard. The second value is the name to write it under until
    /// it is complete and synced.
    pub fn snapshot_writer(
        &mut self,
        shard: ShardId,
        meta: SnapshotMeta,
    ) -> (SnapshotWriter, String) {
        SnapshotWriter::new(shard, meta, self.random.next())
    }

    /// The newest snapshot of a shard, if it is the one at index `since` and can be read, for
    /// [`SnapshotWriter::build_on`]. It stays until the snapshot that is built on it is durable,
    /// since no log begins at a newer one before.
    pub fn snapshot_to_build_on(&self, shard: ShardId, since: Index) -> Option<&StoredSnapshot> {
        self.shelf.newest(shard).filter(|former| {
            former.file.meta.index == since && !self.bad_snapshots.contains(&former.file.name)
        })
    }

    /// A snapshot file is complete, and durable under its final name. Only now may a write that
    /// begins the shard's log at it be appended. An older one than the log begins at is dropped.
    pub fn snapshot_durable(&mut self, new: StoredSnapshot) {
        let shard = new.file.shard;
        let begins_at = self.shards.get(&shard).map_or(Index(0), |log| log.snapshot.index);
        let dropped = self.shelf.register(new, begins_at);
        self.segments.removals.extend(dropped);
    }

    /// A durable snapshot will not be used after all.
    pub fn discard_snapshot(&mut self, shard: ShardId, index: Index) {
        let begins_at = self.shards.get(&shard).map_or(Index(0), |log| log.snapshot.index);
        self.shelf.discard(shard, index, begins_at);
    }

    /// A snapshot could not be read: nothing is built on it any more.
    pub fn snapshot_unreadable(&mut self, name: &str) {
        self.bad_snapshots.insert(name.to_string());
    }

    /// Keeps a snapshot file from being removed until [`Log::release_snapshot`], as often as held.
    pub fn hold_snapshot(&mut self, name: &str) {
        self.shelf.hold(name);
    }

    /// Ends one [`Log::hold_snapshot`].
    pub fn release_snapshot(&mut self, name: &str) {
        self.shelf.release(name);
        let unneeded = self.shelf.removable(self.attested_through);
        self.segments.removals.extend(unneeded);
    }

    /// The newest durable snapshot of a shard.
    pub fn snapshot_file(&self, shard: ShardId) -> Option<&SnapshotFile> {
        self.shelf.newest(shard).map(|stored| &stored.file)
    }

    /// The durable snapshot of a shard at exactly this index, if its file is still there; also the
    /// one that its log begins at and that could not be read at the start.
    pub fn snapshot_at(&self, shard: ShardId, index: Index) -> Option<&SnapshotFile> {
        let begins_at = || self.shards.get(&shard)?.file.as_ref();
        let on_shelf = self.shelf.at(shard, index);
        on_shelf.or_else(|| begins_at().filter(|file| file.meta.index == index))
    }

    /// The last sequence given out.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Every frame up to this sequence is durable.
    pub fn durable_through(&self) -> u64 {
        self.durable_through
    }

    /// A durable frame says that every frame up to this sequence is durable.
    pub fn attested_through(&self) -> u64 {
        self.attested_through
    }

    /// Bytes of log that a recovery would have to read: from the oldest live segment on.
    pub fn live_bytes(&self) -> u64 {
        let floor = self.oldest_live();
        let live = self.segments.chain.iter().filter(|segment| segment.number >= floor);
        live.map(|segment| segment.written).sum()
    }

    /// Bytes that all segment files take on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.disk_bytes()
    }

    /// Bytes that can be written before another file must be created.
    pub fn ready_bytes(&self) -> u64 {
        self.segments.ready_bytes()
    }

    /// Whether clients' writes must be refused: a segment could not be prepared, and one is ready
    /// at most. That reserve is for what can't be refused, such as terms, votes, and the resets
    /// that make room, and for the segment that the next recovery opens. It ends by itself when a
    /// segment was prepared.
    pub fn lacks_room(&self) -> bool {
        self.segments.lacks_room()
    }

    /// Bytes of entries above the snapshots of their shards.
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.live.bytes()
    }

    /// Bytes of a shard's entries above its snapshot.
    pub fn shard_bytes_since_snapshot(&self, shard: ShardId) -> u64 {
        self.shards.get(&shard).map_or(0, ShardLog::bytes)
    }

    /// The shards that keep the oldest segment alive, if it is not the one written to: a snapshot
    /// of these frees it.
    pub fn oldest_live_shards(&self) -> Vec<ShardId> {
        let oldest = self.oldest_live();
        if oldest == self.segments.active().number {
            return Vec::new();
        }
        let holds = |log: &ShardLog| log.extents_in(oldest).next().is_some();
        self.shards.iter().filter(|(_, log)| holds(log)).map(|(&shard, _)| shard).collect()
    }

    /// Every hole is to be stated in a frame.
    pub(crate) fn state_all_holes(&mut self) {
        for (&shard, log) in &self.shards {
            if let Some((first, last)) = log.hole_range() {
                self.carry.state_holes(shard, first, last);
            }
        }
    }

    /// Frees the segments that nothing needs any more; one that is being read is needed.
    fn release_segments(&mut self) {
        let reading = [self.carry.loading, self.scrubber.reading].into_iter().flatten().min();
        let floor = self.floors.attested.min(reading.unwrap_or(u64::MAX));
        self.segments.release_below(floor);
        let oldest = Place { segment: self.segments.chain[0].number, offset: 0 };
        self.bad_frames = self.bad_frames.split_off(&oldest);
    }

    fn oldest_live(&self) -> u64 {
        let active = self.segments.active().number;
        self.live.oldest().unwrap_or(active)
    }

    /// What to read so that the oldest segment can be carried, if there are too many.
    fn load_to_carry(&mut self) -> Option<CarryLoad> {
        let chain = &self.segments.chain;
        let crowded = chain.len() > self.options.max_segments;
        let bytes: u64 = chain.iter().map(|segment| segment.bytes).sum();
        if !crowded || !self.carry.is_idle() || self.live.bytes() > bytes / 2 {
            return None;
        }
        let oldest = chain.iter().find(|segment| Some(segment.number) == self.live.oldest())?;
        let next = chain.iter().find(|segment| segment.number > oldest.number)?;
        if next.first_sequence > self.durable_through {
            return None;
        }
        let (mut wanted, mut holes) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for (&shard, log) in &self.shards {
            for extent in log.extents_in(oldest.number) {
                let (place, first, last) = (extent.place, extent.first, extent.last);
                if !extent.whole {
                    holes.push((shard, first, last));
                } else if bytes < self.options.carry_load_bytes {
                    wanted.push(CarryPiece { shard, place, first, last, entries: Vec::new() });
                    bytes += extent.bytes;
                }
            }
        }
        let id = segment_id(oldest.nonce, oldest.number, oldest.bytes);
        let file = oldest.file.to_string();
        for (shard, first, last) in holes {
            self.carry.state_holes(shard, first, last);
        }
        if wanted.is_empty() {
            return None;
        }
        self.carry.loading = Some(id.number);
        Some(CarryLoad { file, id, wanted, damaged: Vec::new() })
    }
}
