//! From the files of a lane to its state: which segments count, where they end, what they say.
//!
//! 1. Read the headers of all segment files.
//! 2. From the newest segment on, follow `previous` down to the floor. A segment whose checkpoint
//!    is not whole was begun and not finished. The first frame, in the order of sequences, that
//!    is not whole ends the log, if no frame anywhere says that it was durable; else it is damage.
//! 3. Replay what is left, oldest first. Each segment counts up to the sequence at which the next
//!    one continues: what lies above it was cut by an earlier recovery and is void.
//! 4. Check that each shard's snapshot is there. Remove unfinished and unnamed snapshot files.
//! 5. Open a fresh segment, with sequences 2^20 above all ever seen, whose checkpoint restates
//!    everything and names the last frame kept. Nothing is ever written behind a tail.
//!
//! Every segment is synced before it is read: what recovery relies on can't be lost afterwards.
//!
//! Invariant: whatever was reported durable comes back, or an error does. The one exception is
//! decay of the very last frames that no later frame attests, which looks like a torn write; the
//! driver's seal keeps that window at 2 ms.
//!
//! Sources: [Protocol-Aware Recovery, FAST'18] for telling a crash from damage.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::Recovered;
use flotilla_shard::ShardId;

use crate::chain::{Link, Search, Survey};
use crate::disk::Disk;
use crate::error::RecoverError;
use crate::frame::read_frame;
use crate::live::{Live, Place};
use crate::log::{Log, Options, Parts, SplitMix};
use crate::replay::Replay;
use crate::scan::Found;
use crate::segment::{FreeFile, Segment, Segments};
use crate::shelf::Shelf;
use crate::snapshot::{SnapshotFile, SnapshotReader};

/// How far sequences jump at a recovery: more than any number of frames in flight at a crash.
const SEQUENCE_JUMP: u64 = 1 << 20;

/// What was found on the disk of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLane {
    /// The last durable state of the node itself.
    pub node_state: Option<Vec<u8>>,
    /// Each shard's part. A snapshot of index 0 has no configuration: the shard never had one.
    pub shards: BTreeMap<ShardId, Recovered>,
    /// The snapshot file that each shard's log begins at.
    pub snapshots: BTreeMap<ShardId, SnapshotFile>,
    /// There was no log here: nothing was ever made durable.
    pub fresh: bool,
    /// How it went.
    pub report: RecoveryReport,
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
        let survey = Survey::take(disk)?;
        let mut search = Search::new(&survey);
        let chain = search.find_chain(disk)?;
        search.check_claims(&chain)?;
        if let (true, Some(snapshot)) = (chain.is_empty(), survey.snapshots.first()) {
            return Err(RecoverError::MissingLog { snapshot: snapshot.clone() });
        }
        let replay = replay(disk, &survey, &chain)?;
        let mut report = RecoveryReport {
            segments: chain.len(),
            frames: replay.frames,
            last_sequence: chain.last().map_or(0, |link| link.last_kept),
            cut: search.cut.take(),
            removed: Vec::new(),
        };
        let snapshots = check_snapshots(disk, &replay)?;
        report.removed = remove_unneeded(disk, &survey, &snapshots)?;
        let (log, shards, node_state) =
            open_log(disk, options, seed, &search, &chain, replay, &snapshots)?;
        let fresh = chain.is_empty();
        Ok((log, RecoveredLane { node_state, shards, snapshots, fresh, report }))
    }
}

fn replay(disk: &mut dyn Disk, survey: &Survey, chain: &[Link]) -> Result<Replay, RecoverError> {
    let mut replay = Replay::default();
    let mut at = (String::new(), 0);
    for link in chain {
        let found = &survey.found[link.position];
        let bytes = disk.read(&found.file, 0, found.size as usize)?;
        for &(offset, sequence) in &link.scan.frames {
            if sequence > link.last_kept {
                break;
            }
            at = (found.file.to_string(), offset);
            let place = Place { segment: found.header.number, offset };
            let outcome = match read_frame(&bytes[offset as usize..], offset, found.identity()) {
                Ok(frame) => replay.frame(&frame, place),
                Err(flaw) => Err(format!("it read well before, and now: {}", flaw.describe())),
            };
            outcome.map_err(|detail| inconsistent(&at, detail))?;
        }
    }
    replay.check_whole().map_err(|detail| inconsistent(&at, detail))?;
    Ok(replay)
}

fn inconsistent(at: &(String, u64), detail: String) -> RecoverError {
    RecoverError::Inconsistent { file: at.0.clone(), offset: at.1, detail }
}

fn check_snapshots(
    disk: &mut dyn Disk,
    replay: &Replay,
) -> Result<BTreeMap<ShardId, SnapshotFile>, RecoverError> {
    let mut snapshots = BTreeMap::new();
    for (&shard, log) in &replay.shards {
        let Some(file) = &log.file else { continue };
        let opened = SnapshotReader::open(disk, &file.name);
        let (_, reader) = opened.map_err(|error| RecoverError::Snapshot { shard, error })?;
        if reader.file() != *file {
            let error = reader.is_not(file);
            return Err(RecoverError::Snapshot { shard, error });
        }
        snapshots.insert(shard, file.clone());
    }
    Ok(snapshots)
}

fn remove_unneeded(
    disk: &mut dyn Disk,
    survey: &Survey,
    snapshots: &BTreeMap<ShardId, SnapshotFile>,
) -> Result<Vec<String>, RecoverError> {
    let needed: BTreeSet<&str> = snapshots.values().map(|file| &file.name[..]).collect();
    let unneeded = survey.snapshots.iter().filter(|name| !needed.contains(&name[..]));
    let removed: Vec<_> = survey.temporary.iter().chain(unneeded).cloned().collect();
    for name in &removed {
        disk.remove(name)?;
    }
    disk.sync_directory()?;
    Ok(removed)
}

type Opened = (Log, BTreeMap<ShardId, Recovered>, Option<Vec<u8>>);

fn open_log(
    disk: &mut dyn Disk,
    options: Options,
    seed: u64,
    search: &Search<'_>,
    chain: &[Link],
    replay: Replay,
    snapshots: &BTreeMap<ShardId, SnapshotFile>,
) -> Result<Opened, RecoverError> {
    let survey = search.survey;
    let segments = chain_segments(survey, chain, &options, search.highest_number);
    let (mut live, mut shards, mut logs) = (Live::default(), BTreeMap::new(), BTreeMap::new());
    for (shard, replayed) in replay.shards {
        let (recovered, log) = replayed.finish(&mut live);
        shards.insert(shard, recovered);
        logs.insert(shard, log);
    }
    let mut shelf = Shelf::default();
    snapshots.values().cloned().for_each(|file| shelf.restore(file));
    let blank = survey.found.is_empty() && search.highest_sequence == 0;
    let sequence = if blank { 0 } else { search.highest_sequence + SEQUENCE_JUMP };
    let newest = segments.chain.back().map_or(0, |segment| segment.number);
    // The seed alone may repeat (a replayed run); with the sequence no nonce comes twice.
    let mut random = SplitMix(seed);
    random.0 ^= SplitMix(sequence).next();
    let parts = Parts {
        random,
        shards: logs,
        node_state: replay.node_state.clone(),
        floor: live.oldest().unwrap_or(newest),
        live,
        segments,
        shelf,
        sequence,
        last_kept: chain.last().map_or(0, |link| link.last_kept),
        previous_table: replay.table,
    };
    let mut log = Log::from_parts(options, parts);
    let first = log.open_segment();
    if let Some(bytes) = first.create {
        disk.create(&first.file, bytes)?;
    }
    disk.write(&first.file, first.offset, &first.data)?;
    disk.sync(&first.file)?;
    log.written(first.sequence);
    Ok((log, shards, replay.node_state))
}

/// The chain as the log keeps it, and all other segment files as free ones.
fn chain_segments(
    survey: &Survey,
    chain: &[Link],
    options: &Options,
    highest_number: u64,
) -> Segments {
    let mut segments = Segments::new(options, survey.last_file, highest_number);
    let mut used = BTreeSet::new();
    for link in chain {
        let Found { file, header, .. } = &survey.found[link.position];
        used.insert(link.position);
        let kept = link.scan.frames.iter().find(|frame| frame.1 > link.last_kept);
        segments.chain.push_back(Segment {
            number: header.number,
            file: file.clone(),
            nonce: header.nonce,
            bytes: header.bytes,
            first_sequence: header.first_sequence,
            written: kept.map_or(link.scan.stop.offset, |frame| frame.0),
        });
    }
    let dead = survey.found.iter().enumerate().filter(|(position, _)| !used.contains(position));
    let dead = dead.map(|(_, found)| (found.file.clone(), found.size));
    let others = survey.others.iter().map(|(name, size, _)| (name.as_str().into(), *size));
    for (name, bytes) in others.chain(dead) {
        segments.release(FreeFile { name, bytes });
    }
    segments
}
