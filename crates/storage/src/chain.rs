//! Which segments are the log, and where it ends: step 2 of recovery.
//!
//! From the newest segment on `previous` is followed down to the floor. The log ends before the
//! first frame, in the order of sequences, that is not whole, unless some frame says that it was
//! durable.
//!
//! Invariant: a search never ends the log at or below a sequence that any readable frame attests.

use std::collections::BTreeSet;

use flotilla_shard::ShardId;

use crate::disk::Disk;
use crate::error::{DamagedFrame, RecoverError};
use crate::frame::{ItemKind, read_table};
use crate::recovery::Cut;
use crate::scan::{Claim, Found, Head, Scan, read_claim, read_head, scan};
use crate::segment::file_number;
use crate::snapshot::{FINAL_SUFFIX, TEMPORARY_SUFFIX};

/// The files of a lane.
pub(crate) struct Survey {
    /// Segments with a readable header, newest first.
    pub(crate) found: Vec<Found>,
    /// Segment files without: name, size, whether blank, and what their frames say.
    pub(crate) others: Vec<(String, u64, Option<Claim>)>,
    pub(crate) snapshots: Vec<String>,
    pub(crate) temporary: Vec<String>,
    pub(crate) last_file: u64,
}

impl Survey {
    pub(crate) fn take(disk: &mut dyn Disk) -> Result<Self, RecoverError> {
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
pub(crate) struct Link {
    /// Which of the survey's segments.
    pub(crate) position: usize,
    pub(crate) scan: Scan,
    pub(crate) last_kept: u64,
}

/// The search for the chain, and what was learned on the way.
pub(crate) struct Search<'a> {
    pub(crate) survey: &'a Survey,
    /// Every frame up to here was durable, some frame says.
    attested: u64,
    floor: u64,
    pub(crate) highest_sequence: u64,
    pub(crate) highest_number: u64,
    pub(crate) cut: Option<Cut>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(survey: &'a Survey) -> Self {
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
    pub(crate) fn find_chain(&mut self, disk: &mut dyn Disk) -> Result<Vec<Link>, RecoverError> {
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
    pub(crate) fn check_claims(&self, chain: &[Link]) -> Result<(), RecoverError> {
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
