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
//! Sources: [PAR FAST'18 §3.3] for telling a crash from damage.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_raft::Recovered;
use flotilla_shard::ShardId;

use crate::disk::Disk;
use crate::error::{DamagedFrame, RecoverError};
use crate::frame::{ItemKind, read_frame, read_table};
use crate::live::{Live, Place};
use crate::log::{Log, Options, Parts, SplitMix};
use crate::replay::Replay;
use crate::scan::{Claim, Found, Head, Scan, read_claim, read_head, scan};
use crate::segment::{FreeFile, Segment, Segments, file_number};
use crate::shelf::Shelf;
use crate::snapshot::{FINAL_SUFFIX, SnapshotFile, SnapshotReader, TEMPORARY_SUFFIX};

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

/// The files of a lane.
struct Survey {
    /// Segments with a readable header, newest first.
    found: Vec<Found>,
    /// Segment files without: name, size, whether blank, and what their frames say.
    others: Vec<(String, u64, Option<Claim>)>,
    snapshots: Vec<String>,
    temporary: Vec<String>,
    last_file: u64,
}

impl Survey {
    fn take(disk: &mut dyn Disk) -> Result<Self, RecoverError> {
        let mut names = disk.list()?;
        names.sort();
        let mut survey = Self {
            found: Vec::new(),
            others: Vec::new(),
            snapshots: Vec::new(),
            temporary: Vec::new(),
            last_file: 0,
        };
        for name in names {
            if name.ends_with(TEMPORARY_SUFFIX) {
                survey.temporary.push(name);
            } else if name.ends_with(FINAL_SUFFIX) {
                survey.snapshots.push(name);
            } else if let Some(number) = file_number(&name) {
                survey.last_file = survey.last_file.max(number);
                survey.segment(disk, name)?;
            }
        }
        survey.found.sort_by_key(|found| std::cmp::Reverse(found.header.number));
        let twice = survey.found.windows(2).find(|w| w[0].header.number == w[1].header.number);
        if let Some([one, other]) = twice {
            let detail = format!("{} has the same segment number", other.file);
            let file = one.file.to_string();
            return Err(RecoverError::Inconsistent { file, offset: 0, detail });
        }
        Ok(survey)
    }

    fn segment(&mut self, disk: &mut dyn Disk, name: String) -> Result<(), RecoverError> {
        disk.sync(&name)?;
        let size = disk.size(&name)?;
        match read_head(disk, &name, size)? {
            Head::Segment(header) => self.found.push(Found { file: name.into(), size, header }),
            Head::Version(found) => return Err(RecoverError::Version { file: name, found }),
            Head::Blank | Head::Unreadable => {
                let claim = read_claim(disk, &name, size)?;
                self.others.push((name, size, claim));
            }
        }
        Ok(())
    }
}

/// A segment that counts, up to a sequence.
struct Link {
    /// Which of the survey's segments.
    position: usize,
    scan: Scan,
    last_kept: u64,
}

/// The search for the chain, and what was learned on the way.
struct Search<'a> {
    survey: &'a Survey,
    /// Every frame up to here was durable, some frame says.
    attested: u64,
    floor: u64,
    highest_sequence: u64,
    highest_number: u64,
    cut: Option<Cut>,
}

impl<'a> Search<'a> {
    fn new(survey: &'a Survey) -> Self {
        let claims = || survey.others.iter().filter_map(|(_, _, claim)| claim.as_ref());
        let sequences = claims().map(|claim| claim.last_sequence);
        let begun = survey.found.iter().map(|found| found.header.first_sequence);
        let numbers = survey.found.iter().map(|found| found.header.number);
        Self {
            survey,
            attested: 0,
            floor: 0,
            highest_sequence: sequences.chain(begun).max().unwrap_or(0),
            highest_number: numbers.chain(claims().map(|c| c.segment)).max().unwrap_or(0),
            cut: None,
        }
    }

    /// The segments that count, oldest first; none if nothing was ever made durable.
    fn find_chain(&mut self, disk: &mut dyn Disk) -> Result<Vec<Link>, RecoverError> {
        let mut head = 0;
        while head < self.survey.found.len() {
            match self.follow(disk, head)? {
                Ok(mut chain) => {
                    chain.reverse();
                    return Ok(chain);
                }
                Err(next) => head = next,
            }
        }
        Ok(Vec::new())
    }

    /// The chain from the segment at `head` down, newest first; or, if that one was begun but
    /// never durably, the position to go on at.
    fn follow(
        &mut self,
        disk: &mut dyn Disk,
        head: usize,
    ) -> Result<Result<Vec<Link>, usize>, RecoverError> {
        let survey = self.survey;
        let mut chain: Vec<Link> = Vec::new();
        let (mut position, mut last_kept) = (head, u64::MAX);
        loop {
            let found = &survey.found[position];
            let scan = self.scan(disk, found)?;
            if scan.stop.sequence <= last_kept {
                self.end_at(found, &scan, chain.last())?;
                if scan.frames.is_empty() {
                    return Ok(Err(position + 1));
                }
                // Whatever is newer follows a frame that never was: void.
                chain.clear();
                last_kept = scan.stop.sequence - 1;
            }
            chain.push(Link { position, scan, last_kept });
            let header = &found.header;
            if header.previous == 0 || header.previous < self.floor {
                self.check_floor(&chain)?;
                return Ok(Ok(chain));
            }
            last_kept = header.continues;
            match survey.found.iter().position(|other| other.header.number == header.previous) {
                Some(older) => position = older,
                None if self.attested < header.previous_first => return Ok(Err(position + 1)),
                None => return Err(self.missing(header.previous, &found.file)),
            }
        }
    }

    fn scan(&mut self, disk: &mut dyn Disk, found: &Found) -> Result<Scan, RecoverError> {
        if found.size < found.header.bytes {
            return Err(damaged(DamagedFrame {
                file: found.file.to_string(),
                offset: found.size,
                sequence: found.header.first_sequence,
                shards: Vec::new(),
                detail: format!("the file should have {} bytes", found.header.bytes),
            }));
        }
        let scan = scan(disk, found)?;
        self.attested = self.attested.max(scan.attests);
        self.floor = self.floor.max(scan.floor);
        self.highest_sequence = self.highest_sequence.max(scan.highest_sequence);
        Ok(scan)
    }

    /// The log ends where this segment's whole frames end, unless that is damage.
    fn end_at(
        &mut self,
        found: &Found,
        scan: &Scan,
        newer: Option<&Link>,
    ) -> Result<(), RecoverError> {
        let stop = &scan.stop;
        if self.attested >= stop.sequence {
            let continues = newer.map(|link| self.survey.found[link.position].header.continues);
            let repeated = newer.filter(|_| continues == Some(stop.sequence));
            let table = stop.table.as_deref().or(repeated.map(|link| &link.scan.repeated[..]));
            let (shards, holds) = describe_table(table);
            return Err(damaged(DamagedFrame {
                file: found.file.to_string(),
                offset: stop.offset,
                sequence: stop.sequence,
                shards,
                detail: format!("{}{holds}", stop.reason),
            }));
        }
        let is_cut = stop.is_torn || scan.later > 0 || newer.is_some() || scan.frames.is_empty();
        if is_cut {
            self.cut = Some(Cut {
                file: found.file.to_string(),
                offset: stop.offset,
                sequence: stop.sequence,
                reason: stop.reason.to_string(),
            });
        }
        Ok(())
    }

    fn check_floor(&self, newest_first: &[Link]) -> Result<(), RecoverError> {
        let head = &self.survey.found[newest_first[0].position];
        if head.header.number < self.floor {
            return Err(self.missing(self.floor, &head.file));
        }
        Ok(())
    }

    fn missing(&self, number: u64, needed_by: &str) -> RecoverError {
        let suspects: Vec<_> =
            self.survey.others.iter().map(|(name, _, _)| name.as_str()).collect();
        let suspects = match suspects.len() {
            0 => "no file is without one".to_string(),
            _ => format!("files without one: {}", suspects.join(", ")),
        };
        let needed_by = format!("{needed_by} continues it; {suspects}");
        RecoverError::MissingSegment { number, needed_by }
    }

    /// A file without a readable header is damage if its frames say that they were durable and
    /// newer than all that was found.
    fn check_claims(&self, chain: &[Link]) -> Result<(), RecoverError> {
        let head = chain.last().map_or(0, |link| self.survey.found[link.position].header.number);
        for (file, _, claim) in &self.survey.others {
            if let Some(claim) = claim.filter(|claim| claim.segment > head && claim.is_attested()) {
                return Err(damaged(DamagedFrame {
                    file: file.clone(),
                    offset: 0,
                    sequence: claim.first_sequence,
                    shards: Vec::new(),
                    detail: format!("segment {}: neither header can be read", claim.segment),
                }));
            }
        }
        Ok(())
    }
}

fn damaged(frame: DamagedFrame) -> RecoverError {
    RecoverError::Damaged(Box::new(frame))
}

/// The shards of a table, and in words what the frame holds of them.
fn describe_table(table: Option<&[u8]>) -> (Vec<ShardId>, String) {
    let mut shards = BTreeSet::new();
    let mut words = String::new();
    for entry in table.and_then(read_table).unwrap_or_default() {
        shards.insert(entry.shard);
        for item in entry.items {
            let what = match item.kind {
                ItemKind::Entries | ItemKind::MoreEntries | ItemKind::Carry => {
                    format!("entries {} to {} of term {}", item.first, item.last, item.term)
                }
                ItemKind::Reset => format!("the reset to snapshot {}", item.first),
                ItemKind::Removed => "its removal".to_string(),
                ItemKind::Checkpoint => "its checkpoint".to_string(),
            };
            words.extend(["; shard ", &entry.shard.to_string(), ": ", &what]);
        }
    }
    (shards.into_iter().collect(), words)
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
