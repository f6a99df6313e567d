//! Which segments are the log, and where it ends: step 2 of recovery.
//!
//! From the newest segment on `previous` is followed down to the floor. The log ends before the
//! first frame, in the order of sequences, that is not whole and that no frame says was durable.
//! What is not whole and was durable is damage: it stays in the chain as what is known of it.
//!
//! Invariant: a search never ends the log at or below a sequence that any readable frame attests.

use crate::disk::Disk;
use crate::error::RecoverError;
use crate::recovery::Cut;
use crate::scan::{Claim, Found, Head, Scan, read_claim, read_head, scan};
use crate::segment::file_number;
use crate::snapshot::{FINAL_SUFFIX, TEMPORARY_SUFFIX};

/// The files of a lane.
pub(crate) struct Survey {
    /// Segments with a readable header, newest first.
    pub(crate) found: Vec<Found>,
    /// Segment files without.
    pub(crate) others: Vec<Headless>,
    pub(crate) snapshots: Vec<String>,
    pub(crate) temporary: Vec<String>,
    pub(crate) last_file: u64,
}

/// A segment file without a readable header.
pub(crate) struct Headless {
    pub(crate) file: String,
    pub(crate) size: u64,
    /// What its frames say, if there are any.
    claim: Option<Claim>,
    /// All of it could be read.
    is_readable: bool,
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
        survey.check_one_log()?;
        Ok(survey)
    }

    fn segment(&mut self, disk: &mut dyn Disk, file: String) -> Result<(), RecoverError> {
        disk.sync(&file)?;
        let size = disk.size(&file)?;
        match read_head(disk, &file, size) {
            Head::Segment(header) => self.found.push(Found { file: file.into(), size, header }),
            Head::Version(found) => return Err(RecoverError::Version { file, found }),
            Head::Blank | Head::Unreadable => {
                let (claim, is_readable) = read_claim(disk, &file, size)?;
                self.others.push(Headless { file, size, claim, is_readable });
            }
        }
        Ok(())
    }

    /// Files that were put here from elsewhere are not read as if they belonged.
    fn check_one_log(&self) -> Result<(), RecoverError> {
        for pair in self.found.windows(2) {
            let detail = if pair[0].header.log != pair[1].header.log {
                format!("it is of another log than {}", pair[1].file)
            } else if pair[0].header.number == pair[1].header.number {
                format!("{} has the same segment number", pair[1].file)
            } else {
                continue;
            };
            let file = pair[0].file.to_string();
            return Err(RecoverError::Inconsistent { file, offset: 0, detail });
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

/// The segments that count, and what is missing at either end.
#[derive(Default)]
pub(crate) struct Chain {
    /// Oldest first.
    pub(crate) links: Vec<Link>,
    /// A segment before the first of them is missing.
    pub(crate) missing_before: Option<String>,
    /// A segment behind the last of them is missing.
    pub(crate) missing_after: Option<String>,
}

impl Chain {
    /// The last sequence that counts; 0 if there is none.
    pub(crate) fn last_kept(&self) -> u64 {
        self.links.last().map_or(0, |link| link.last_kept)
    }
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
    /// The bytes of the segments scanned so far.
    kept_bytes: u64,
}

/// The newest segments are kept in memory until they are replayed, so many bytes of them; of a
/// longer log the rest is read twice.
const KEPT_BYTES_MAX: u64 = 64 << 20;

impl<'a> Search<'a> {
    pub(crate) fn new(survey: &'a Survey) -> Self {
        let claims = || survey.others.iter().filter_map(|other| other.claim.as_ref());
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
            kept_bytes: 0,
        }
    }

    /// The segments that count; none if nothing was ever made durable.
    pub(crate) fn find_chain(&mut self, disk: &mut dyn Disk) -> Result<Chain, RecoverError> {
        let mut chain = Chain::default();
        let mut head = 0;
        while head < self.survey.found.len() {
            match self.follow(disk, head)? {
                Ok(found) => {
                    chain = found;
                    break;
                }
                Err(next) => head = next,
            }
        }
        chain.links.reverse();
        chain.missing_after = self.missing_after(&chain);
        Ok(chain)
    }

    /// The chain from the segment at `head` down, newest first; or, if that one was begun but
    /// never durably, the position to go on at.
    fn follow(
        &mut self,
        disk: &mut dyn Disk,
        head: usize,
    ) -> Result<Result<Chain, usize>, RecoverError> {
        let survey = self.survey;
        let mut chain = Chain::default();
        let (mut position, mut continues) = (head, u64::MAX);
        loop {
            let found = &survey.found[position];
            let mut scan = self.scan(disk, found)?;
            let last_kept = self.last_kept(found, &mut scan, continues, chain.links.is_empty());
            if last_kept < found.header.first_sequence {
                return Ok(Err(position + 1));
            }
            if last_kept < continues {
                // Whatever is newer follows a frame that never was: void.
                chain.links.clear();
            }
            let repeated = chain.links.last().and_then(|newer| newer.scan.repeated.as_deref());
            scan.end_at(last_kept, repeated);
            chain.links.push(Link { position, scan, last_kept });
            let header = &found.header;
            if header.previous == 0 || header.previous < self.floor {
                return Ok(Ok(chain));
            }
            continues = header.continues;
            let older = survey.found.iter().position(|other| {
                (other.header.number, other.header.first_sequence, other.header.nonce)
                    == (header.previous, header.previous_first, header.previous_nonce)
            });
            match older {
                Some(older) => position = older,
                None if self.attested < header.previous_first => return Ok(Err(position + 1)),
                None => {
                    chain.missing_before = Some(self.missing(header.previous, &found.file));
                    return Ok(Ok(chain));
                }
            }
        }
    }

    fn scan(&mut self, disk: &mut dyn Disk, found: &Found) -> Result<Scan, RecoverError> {
        let mut scan = scan(disk, found)?;
        self.kept_bytes += found.size;
        if self.kept_bytes > KEPT_BYTES_MAX {
            scan.image = None;
        }
        self.attested = self.attested.max(scan.attests);
        self.floor = self.floor.max(scan.floor);
        self.highest_sequence = self.highest_sequence.max(scan.highest_sequence);
        Ok(scan)
    }

    /// The last frame of a segment that counts, at most `continues`, from where on a newer segment
    /// goes on. Frames that are missing at the end although they were acknowledged are noted.
    fn last_kept(
        &mut self,
        found: &Found,
        scan: &mut Scan,
        continues: u64,
        is_newest: bool,
    ) -> u64 {
        let doubtful = scan.first_doubtful(self.attested);
        let (end, offset, reason) =
            doubtful.unwrap_or((scan.end_sequence, scan.end_offset, "the segment ends"));
        if end > continues {
            return continues;
        }
        let unsure = if scan.is_unsure_from(offset) { scan.end_sequence } else { 0 };
        let acknowledged = self.attested.max(unsure).min(continues);
        if acknowledged >= scan.end_sequence {
            scan.lacks_through(acknowledged);
        }
        if acknowledged >= end {
            return acknowledged;
        }
        if doubtful.is_some() || !is_newest || scan.slots.is_empty() {
            self.cut = Some(Cut {
                file: found.file.to_string(),
                offset,
                sequence: end,
                reason: reason.to_string(),
            });
        }
        end - 1
    }

    /// Says which segment must be there and is not.
    fn missing(&self, number: u64, needed_by: &str) -> String {
        let suspects: Vec<_> = self.survey.others.iter().map(|other| &other.file[..]).collect();
        let suspects = match suspects.len() {
            0 => "no file is without one".to_string(),
            _ => format!("files without one: {}", suspects.join(", ")),
        };
        format!(
            "segment {number} of the log is missing or has no readable header; {needed_by} names \
             it; {suspects}"
        )
    }

    /// Whether a segment newer than the chain was there. A file without a readable header was one
    /// if its frames say that they were durable; what can't be read may have said so.
    fn missing_after(&self, chain: &Chain) -> Option<String> {
        let head = chain.links.last().map(|link| &self.survey.found[link.position]);
        let number = head.map_or(0, |head| head.header.number);
        if let Some(head) = head.filter(|_| number < self.floor) {
            return Some(self.missing(self.floor, &head.file));
        }
        self.survey.others.iter().find_map(|other| {
            let Headless { file, claim, is_readable, .. } = other;
            match claim {
                Some(claim) if claim.segment > number && claim.is_attested() => {
                    Some(format!("{file} is segment {}: neither header can be read", claim.segment))
                }
                None if !is_readable => Some(format!("{file} can't be read")),
                _ => None,
            }
        })
    }
}
