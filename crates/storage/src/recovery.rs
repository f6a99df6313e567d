//! From the files of a lane to its state: which segments count, where they end, what they say.
//!
//! 1. Read the headers of all segment files.
//! 2. From the newest segment on, follow `previous` down to the floor. A segment whose checkpoint
//!    is not whole was begun and not finished. The first frame, in the order of sequences, that
//!    is not whole ends the log, if no frame anywhere says that it was durable; else it is damage.
//! 3. Replay what is left, oldest first; of a damaged frame its table, which the next frame
//!    repeats. Each segment counts up to the sequence at which the next one continues: what lies
//!    above it was cut by an earlier recovery and is void.
//! 4. Look for each shard's snapshot. Remove unfinished and unnamed snapshot files.
//! 5. Open a fresh segment, with sequences 2^20 above all ever seen, whose checkpoint restates
//!    everything and names the last frame kept. Nothing is ever written behind a tail. The frames
//!    behind the checkpoint state what the entries are whose payloads are lost.
//!
//! Every segment is synced before it is read: what recovery relies on can't be lost afterwards.
//!
//! A read that fails costs payloads at most: where it would cost more, recovery stops before it has
//! written anything, since the same place may be readable another time.
//!
//! Invariants: whatever was reported durable comes back, or is named as damaged or lost; no part
//! of a frame and nothing behind an unknown frame comes back, except what a later checkpoint
//! restates. What is lost stays lost, also for the next recovery, until the host has a new replica
//! begin there. The one exception is decay of the very last frames that no later frame attests,
//! which looks like a torn write; the driver's seal keeps that window at 2 ms.
//!
//! Sources: [Protocol-Aware Recovery, FAST'18] for telling a crash from damage.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::Recovered;
use flotilla_shard::ShardId;

use crate::attentive::Attentive;
use crate::chain::{Chain, Search, Survey};
use crate::disk::{Disk, DiskError};
use crate::error::{DamagedFrame, RecoverError};
use crate::frame::read_frame;
use crate::image::Image;
use crate::live::{Live, Place, ShardLog};
use crate::log::{Log, Options, Parts, SplitMix};
use crate::replay::{Frame, Replay};
use crate::scan::{Content, Found, Slot};
use crate::segment::{FreeFile, Segment, Segments};
use crate::shelf::Shelf;
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotReader, StoredSnapshot};
use crate::table::read_table;

/// How far sequences jump at a recovery: more than any number of frames in flight at a crash.
const SEQUENCE_JUMP: u64 = 1 << 20;

/// What was found on the disk of a lane.
///
/// A replica in [`RecoveredLane::shards`] has kept every promise: it may vote and acknowledge by
/// identity at once, whatever its [`Recovered::damaged`] names. One in [`RecoveredLane::lost`] may
/// have forgotten some and takes no part under its replica id (P4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLane {
    /// The last durable state of the node itself.
    pub node_state: Option<Vec<u8>>,
    /// Each shard's part. A snapshot of index 0 has no configuration: the shard never had one.
    pub shards: BTreeMap<ShardId, Recovered>,
    /// The shards whose replica here may have forgotten a promise, each with what is left: the
    /// beginning of the log of a new replica ([`Log::renew_shard`]).
    pub lost: BTreeMap<ShardId, Recovered>,
    /// Frames were lost and no checkpoint came after them: there may have been other shards, and a
    /// newer state of the node. It stays so until the node's state is written again.
    pub incomplete: bool,
    /// The snapshot file that each shard's log begins at, lost shards' too, as far as it is there
    /// and its frame can be read. Its chunks are checked when they are read.
    pub snapshots: BTreeMap<ShardId, SnapshotFile>,
    /// The same, with the lists of their chunks.
    stored: Vec<StoredSnapshot>,
    /// Snapshots that are missing or damaged. Such a replica knows what it promised and votes and
    /// acknowledges; it has no state to apply anything to until a newer snapshot is installed.
    pub lost_snapshots: BTreeMap<ShardId, SnapshotError>,
    /// There was no log here: nothing was ever made durable.
    pub fresh: bool,
    /// Every frame up to here was durable. Whoever was told of a later one before this start has
    /// met a newer image of this disk (P4); later sequences begin 2^20 above.
    pub durable_through: u64,
    /// How it went.
    pub report: RecoveryReport,
}

impl RecoveredLane {
    /// For a host that can't have anything repaired: what is damaged or lost, in words.
    pub fn check_whole(&self) -> Result<(), String> {
        let mut wrong: Vec<String> = self.report.damage.iter().map(ToString::to_string).collect();
        wrong.extend(self.lost.keys().map(|shard| format!("shard {} is lost", shard.0)));
        wrong.extend(self.lost_snapshots.iter().map(|(shard, error)| {
            format!("the snapshot of shard {} can't be used: {error}", shard.0)
        }));
        let damaged = self.shards.iter().filter(|(_, found)| !found.damaged.is_empty());
        wrong.extend(damaged.clone().map(|(shard, found)| {
            format!("shard {}: {} entries are damaged", shard.0, found.damaged.len())
        }));
        let harmless = self.lost.is_empty()
            && self.lost_snapshots.is_empty()
            && !self.incomplete
            && damaged.count() == 0;
        if harmless { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// How a recovery went, for the operator's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: usize,
    /// Frames replayed.
    pub frames: u64,
    /// The sequence of the last frame kept; 0 if there is none.
    pub last_sequence: u64,
    /// The unfinished end that was cut off.
    pub cut: Option<Cut>,
    /// Acknowledged frames that can't be read, oldest first, also those that cost nothing.
    pub damage: Vec<DamagedFrame>,
    /// Unfinished and unneeded snapshot files that were removed.
    pub removed: Vec<String>,
}

/// An unfinished, never acknowledged end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// The sequence of the first frame that is gone.
    pub sequence: u64,
    /// What is wrong there.
    pub reason: String,
}

impl Log {
    /// Reads the log of a lane, opens a fresh segment, and gives back what was there. `seed` must
    /// be random and secret: the nonces that tell this log's frames from anything else derive
    /// from it. After an error the node must not start.
    pub fn recover(
        disk: &mut dyn Disk,
        options: Options,
        seed: u64,
    ) -> Result<(Self, RecoveredLane), RecoverError> {
        let mut attentive = Attentive { disk, misread: None };
        let survey = Survey::take(&mut attentive)?;
        let mut search = Search::new(&survey);
        let (chain, replay, mut lane) = read(&mut attentive, &mut search)?;
        let lost = replay.shards.values().any(|log| log.lost);
        let gives_up = lost || lane.incomplete;
        if let Some(error) = attentive.misread.filter(|_| gives_up) {
            return Err(error.into());
        }
        lane.report.removed = remove_unneeded(disk, &survey, &replay)?;
        let mut log = build(options, seed, &search, &chain, replay, &mut lane);
        log.begin(disk)?;
        Ok((log, lane))
    }

    /// Opens the fresh segment and states what was found damaged.
    fn begin(&mut self, disk: &mut dyn Disk) -> Result<(), RecoverError> {
        self.state_all_holes();
        let mut write = self.open_segment();
        loop {
            if let Some(bytes) = write.create {
                disk.create(&write.file, bytes)?;
            }
            disk.write(&write.file, write.offset, &write.data)?;
            disk.sync(&write.file)?;
            self.written(write.sequence);
            if !self.needs_frame() {
                return Ok(());
            }
            write = self.append(None, &[]);
        }
    }
}

/// What a recovery would find on a disk; nothing is changed, and nothing made sure of.
pub fn examine(disk: &mut dyn Disk) -> Result<RecoveredLane, RecoverError> {
    let survey = Survey::take(disk)?;
    let (_, replay, mut lane) = read(disk, &mut Search::new(&survey))?;
    hand_over(replay, &mut Live::default(), &mut lane);
    Ok(lane)
}

/// Steps 2 to 4, without the shards.
fn read(
    disk: &mut dyn Disk,
    search: &mut Search<'_>,
) -> Result<(Chain, Replay, RecoveredLane), RecoverError> {
    let mut chain = search.find_chain(disk)?;
    if chain.links.is_empty() {
        check_blank(search.survey, &chain)?;
    }
    let mut reading = Reading::default();
    reading.chain(disk, search.survey, &mut chain)?;
    let Reading { replay, damage } = reading;
    let mut lane = RecoveredLane {
        node_state: replay.node_state.clone(),
        fresh: chain.links.is_empty(),
        incomplete: replay.in_doubt || replay.incomplete,
        durable_through: chain.last_kept(),
        report: RecoveryReport {
            segments: chain.links.len(),
            frames: replay.frames,
            last_sequence: chain.last_kept(),
            cut: search.cut.take(),
            damage,
            removed: Vec::new(),
        },
        ..RecoveredLane::default()
    };
    find_snapshots(disk, &replay, &mut lane)?;
    Ok((chain, replay, lane))
}

/// Sorts the shards into those that kept every promise and those that are lost.
fn hand_over(
    replay: Replay,
    live: &mut Live,
    lane: &mut RecoveredLane,
) -> BTreeMap<ShardId, ShardLog> {
    let mut logs = BTreeMap::new();
    for (shard, replayed) in replay.shards {
        let (recovered, log) = replayed.finish(live);
        let known = if log.lost { &mut lane.lost } else { &mut lane.shards };
        known.insert(shard, recovered);
        logs.insert(shard, log);
    }
    logs
}

/// Without a segment that counts there must be no sign that there ever was one.
fn check_blank(survey: &Survey, chain: &Chain) -> Result<(), RecoverError> {
    if let Some(reason) = &chain.missing_after {
        return Err(RecoverError::Unreadable(reason.clone()));
    }
    match survey.snapshots.first() {
        Some(snapshot) => Err(RecoverError::MissingLog { snapshot: snapshot.clone() }),
        None => Ok(()),
    }
}

/// Reading the chain's frames, and what is found damaged.
#[derive(Default)]
struct Reading {
    replay: Replay,
    damage: Vec<DamagedFrame>,
}

impl Reading {
    fn chain(
        &mut self,
        disk: &mut dyn Disk,
        survey: &Survey,
        chain: &mut Chain,
    ) -> Result<(), RecoverError> {
        let mut at = (String::new(), 0);
        if let Some(reason) = &chain.missing_before {
            self.missing(survey, chain.links.first().map(|link| link.position), reason);
        }
        for link in &mut chain.links {
            let found = &survey.found[link.position];
            let image = match link.scan.image.take() {
                Some(image) => image,
                None => Image::read(disk, &found.file, 0, found.size as usize)?,
            };
            let last = link.scan.slots.last().map_or(0, |slot| slot.last);
            for slot in &link.scan.slots {
                at = (found.file.to_string(), slot.offset);
                if slot.content == Content::Whole && !image.is_whole() {
                    check_still_whole(&image.bytes, found, slot)?;
                }
                self.slot(&image.bytes, found, slot, last)
                    .map_err(|detail| inconsistent(&at, detail))?;
            }
        }
        if let Some(reason) = &chain.missing_after {
            self.missing(survey, chain.links.last().map(|link| link.position), reason);
        }
        self.replay.check().map_err(|detail| inconsistent(&at, detail))
    }

    fn slot(&mut self, bytes: &[u8], found: &Found, slot: &Slot, last: u64) -> Result<(), String> {
        let id = found.id();
        let place = Place { segment: id.number, offset: slot.offset };
        let is_checkpoint = slot.first == found.header.first_sequence;
        let mut frame =
            Frame { table: &[], body: None, is_checkpoint, entries_max: id.entries_max };
        match &slot.content {
            Content::Unknown => {
                self.note(found, slot, None);
                // A checkpoint only restates what the frames before it said, if it is one frame: it
                // is where there is a next one.
                let only_restates = is_checkpoint && slot.last == slot.first && slot.last < last;
                if only_restates && self.replay.is_complete() {
                    self.replay.table = None;
                } else {
                    self.replay.doubt();
                }
                Ok(())
            }
            Content::Table(table) => {
                self.note(found, slot, Some(table));
                frame.table = table;
                self.replay.frame(&frame, place)
            }
            Content::Whole => {
                let rest = &bytes[slot.offset as usize..];
                let read = read_frame(rest, slot.offset, id)
                    .map_err(|flaw| format!("it read well before, and now: {}", flaw.describe()))?;
                (frame.table, frame.body) = (read.table, Some(read.body));
                self.replay.frame(&frame, place)
            }
        }
    }

    fn note(&mut self, found: &Found, slot: &Slot, table: Option<&[u8]>) {
        let (shards, holds) = match table {
            None => (None, String::new()),
            Some(table) => {
                let (shards, holds) = describe_table(table, found.id().entries_max);
                (Some(shards), holds)
            }
        };
        let several = match slot.last - slot.first {
            0 => String::new(),
            more => format!(", as are {more} after it"),
        };
        self.damage.push(DamagedFrame {
            file: found.file.to_string(),
            offset: slot.offset,
            sequence: slot.first,
            shards,
            detail: format!("{}{several}{holds}", slot.reason),
        });
    }

    fn missing(&mut self, survey: &Survey, neighbour: Option<usize>, reason: &str) {
        let neighbour = neighbour.map(|position| &survey.found[position]);
        self.damage.push(DamagedFrame {
            file: neighbour.map_or_else(String::new, |found| found.file.to_string()),
            offset: 0,
            sequence: neighbour.map_or(0, |found| found.header.first_sequence),
            shards: None,
            detail: reason.to_string(),
        });
        self.replay.doubt();
    }
}

/// A medium on which something can be read at one moment and not at the next has to be left alone.
fn check_still_whole(bytes: &[u8], found: &Found, slot: &Slot) -> Result<(), RecoverError> {
    if read_frame(&bytes[slot.offset as usize..], slot.offset, found.id()).is_ok() {
        Ok(())
    } else {
        let (file, offset) = (&found.file, slot.offset);
        Err(DiskError::Failed(format!("{file}: offset {offset} could be read, and now it can't"))
            .into())
    }
}

fn inconsistent(at: &(String, u64), detail: String) -> RecoverError {
    RecoverError::Inconsistent { file: at.0.clone(), offset: at.1, detail }
}

/// The shards of a table, and in words what the frame holds of them.
fn describe_table(table: &[u8], entries_max: u64) -> (Vec<ShardId>, String) {
    let mut shards = BTreeSet::new();
    let mut words = String::new();
    for record in read_table(table, entries_max).unwrap_or_default() {
        let whose = match record.shard() {
            None => String::new(),
            Some(shard) => {
                shards.insert(shard);
                format!("shard {}: ", shard.0)
            }
        };
        if let Some(what) = record.describe() {
            words.extend(["; ", &whose, &what]);
        }
    }
    (shards.into_iter().collect(), words)
}

/// Looks for the snapshot that each log begins at.
fn find_snapshots(
    disk: &mut dyn Disk,
    replay: &Replay,
    lane: &mut RecoveredLane,
) -> Result<(), RecoverError> {
    for (&shard, log) in &replay.shards {
        let Some(file) = &log.file else { continue };
        match SnapshotReader::open_file(disk, file) {
            Ok(reader) => {
                lane.snapshots.insert(shard, file.clone());
                lane.stored.push(reader.stored().clone());
            }
            Err(SnapshotError::Version { name, found }) => {
                return Err(RecoverError::Version { file: name, found });
            }
            Err(error) => {
                lane.lost_snapshots.insert(shard, error);
            }
        }
    }
    Ok(())
}

/// Removes the snapshot files that no log begins at; one that is damaged stays until a newer one
/// has taken its place.
fn remove_unneeded(
    disk: &mut dyn Disk,
    survey: &Survey,
    replay: &Replay,
) -> Result<Vec<String>, RecoverError> {
    if replay.in_doubt {
        // A log that is not known may begin at one of them: whoever looks may need it.
        return Ok(Vec::new());
    }
    let files = replay.shards.values().filter_map(|log| log.file.as_ref());
    let needed: BTreeSet<String> = files.flat_map(SnapshotFile::names).collect();
    let unneeded = survey.snapshots.iter().filter(|name| !needed.contains(*name));
    let removed: Vec<_> = survey.temporary.iter().chain(unneeded).cloned().collect();
    for name in &removed {
        disk.remove(name)?;
    }
    disk.sync_directory()?;
    Ok(removed)
}

/// The log that goes on behind the chain.
fn build(
    options: Options,
    seed: u64,
    search: &Search<'_>,
    chain: &Chain,
    replay: Replay,
    lane: &mut RecoveredLane,
) -> Log {
    let survey = search.survey;
    let (mut live, table) = (Live::default(), replay.table.clone());
    let shards = hand_over(replay, &mut live, lane);
    let mut shelf = Shelf::default();
    lane.stored.drain(..).for_each(|stored| shelf.restore(stored));
    let blank = survey.found.is_empty() && search.highest_sequence == 0;
    let highest = search.highest_sequence.max(chain.last_kept());
    let sequence = if blank { 0 } else { highest + SEQUENCE_JUMP };
    // The seed alone may repeat (a replayed run); with the sequence no nonce comes twice.
    let mut random = SplitMix(seed);
    random.0 ^= SplitMix(sequence).next();
    let log = survey.found.first().map_or_else(|| random.next(), |found| found.header.log);
    let segments = chain_segments(survey, chain, &options, log, search.highest_number);
    let newest = segments.chain.back().map_or(0, |segment| segment.number);
    let parts = Parts {
        random,
        shards,
        node_state: lane.node_state.clone(),
        incomplete: lane.incomplete,
        floor: live.oldest().unwrap_or(newest),
        live,
        segments,
        shelf,
        sequence,
        last_kept: chain.last_kept(),
        bad_frames: bad_frames(survey, chain),
        previous_table: if lane.fresh { Some(Vec::new()) } else { table },
    };
    Log::from_parts(options, parts)
}

/// Where the frames are that are known to be damaged.
fn bad_frames(survey: &Survey, chain: &Chain) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for link in &chain.links {
        let segment = survey.found[link.position].header.number;
        let bad = link.scan.slots.iter().filter(|slot| slot.content != Content::Whole);
        places.extend(bad.map(|slot| Place { segment, offset: slot.offset }));
    }
    places
}

/// The chain as the log keeps it, and all other segment files as free ones.
fn chain_segments(
    survey: &Survey,
    chain: &Chain,
    options: &Options,
    log: u64,
    highest_number: u64,
) -> Segments {
    let mut segments = Segments::new(options, log, survey.last_file, highest_number);
    let mut used = BTreeSet::new();
    for link in &chain.links {
        let Found { file, header, .. } = &survey.found[link.position];
        used.insert(link.position);
        segments.chain.push_back(Segment {
            number: header.number,
            file: file.clone(),
            nonce: header.nonce,
            bytes: header.bytes,
            first_sequence: header.first_sequence,
            written: link.scan.end_offset,
        });
    }
    let dead = survey.found.iter().enumerate().filter(|(position, _)| !used.contains(position));
    let dead = dead.map(|(_, found)| (found.file.clone(), found.size));
    let others = survey.others.iter().map(|other| (other.file.as_str().into(), other.size));
    for (name, bytes) in others.chain(dead) {
        segments.release(FreeFile { name, bytes });
    }
    segments
}
