//! Which segments there are: the chain that is the log, and files that wait to be used.
//!
//! Invariants: the chain's numbers and sequences rise; its last segment is the one written to;
//! a file is in the chain, free, being prepared or being removed, and in only one of these.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::format::{BLOCK, SEGMENT_HEAD, whole_blocks};
use crate::log::Options;

/// One segment of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<str>,
    pub(crate) nonce: u64,
    pub(crate) bytes: u64,
    pub(crate) first_sequence: u64,
    /// How much of it is written, in bytes.
    pub(crate) written: u64,
}

/// A file that can become a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FreeFile {
    pub(crate) name: Arc<str>,
    pub(crate) bytes: u64,
}

/// The segments and the files behind them.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    /// What all segments of this log name.
    pub(crate) log: u64,
    pub(crate) chain: VecDeque<Segment>,
    free: Vec<FreeFile>,
    preparing: BTreeSet<String>,
    /// The last file that was to be prepared could not be.
    pub(crate) prepare_failed: bool,
    /// Files to remove for which no chore was given out yet.
    pub(crate) removals: Vec<String>,
    last_file: u64,
    /// The number of the next segment.
    pub(crate) next_number: u64,
    standard_bytes: u64,
    spares: usize,
}

const PREFIX: &str = "segment-";
const SUFFIX: &str = ".log";

/// The number in a segment file's name, if it is one. It is not the segment's number.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:06}{SUFFIX}")
}

impl Segments {
    /// No segments yet. The numbers of the next file and of the next segment follow these.
    pub(crate) fn new(options: &Options, log: u64, last_file: u64, last_number: u64) -> Self {
        let least = SEGMENT_HEAD as usize + 2 * BLOCK;
        let standard_bytes = whole_blocks((options.segment_bytes as usize).max(least)) as u64;
        let next_number = last_number + 1;
        Self {
            log,
            chain: VecDeque::new(),
            free: Vec::new(),
            preparing: BTreeSet::new(),
            prepare_failed: false,
            removals: Vec::new(),
            last_file,
            next_number,
            standard_bytes,
            spares: options.spare_segments,
        }
    }

    /// The segment that is written to.
    pub(crate) fn active(&self) -> &Segment {
        self.chain.back().expect("recovery opens a segment")
    }

    /// The segment that is written to.
    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.chain.back_mut().expect("recovery opens a segment")
    }

    /// A file of at least `needed` bytes, and whether it must be created first.
    pub(crate) fn take_file(&mut self, needed: u64) -> (FreeFile, bool) {
        if let Some(at) = self.free.iter().position(|file| file.bytes >= needed) {
            return (self.free.swap_remove(at), false);
        }
        let bytes = self.standard_bytes.max(needed);
        (FreeFile { name: self.new_name().into(), bytes }, true)
    }

    /// Takes a file nothing needs any more: kept for reuse, or queued for removal.
    pub(crate) fn release(&mut self, file: FreeFile) {
        if file.bytes == self.standard_bytes && self.free.len() <= self.spares {
            self.free.push(file);
        } else {
            self.removals.push(file.name.to_string());
        }
    }

    /// Drops the segments below `floor` from the chain.
    pub(crate) fn release_below(&mut self, floor: u64) {
        while self.chain.len() > 1 && self.chain[0].number < floor {
            let segment = self.chain.pop_front().expect("it has more than one");
            self.release(FreeFile { name: segment.file, bytes: segment.bytes });
        }
    }

    /// The name and size of a file to prepare, if too few wait, or to see whether there is room
    /// again.
    pub(crate) fn next_to_prepare(&mut self) -> Option<(String, u64)> {
        let tries = self.lacks_room() && self.preparing.is_empty();
        if self.free.len() + self.preparing.len() >= self.spares && !tries {
            return None;
        }
        let name = self.new_name();
        self.preparing.insert(name.clone());
        Some((name, self.standard_bytes))
    }

    /// A file was prepared, or (`there` is false) could not be.
    pub(crate) fn prepared(&mut self, name: &str, bytes: u64, there: bool) {
        let expected = self.preparing.remove(name);
        assert!(expected, "{name} was asked for");
        self.prepare_failed = !there;
        if there {
            self.free.push(FreeFile { name: name.into(), bytes });
        }
    }

    /// Bytes of all files: the chain's, free ones, and those to be removed not counted.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let chain: u64 = self.chain.iter().map(|segment| segment.bytes).sum();
        chain + self.free.iter().map(|file| file.bytes).sum::<u64>()
    }

    /// Whether no file can be prepared, and the last one that is ready must not be begun: the next
    /// recovery opens a segment too.
    pub(crate) fn lacks_room(&self) -> bool {
        self.prepare_failed && self.free.len() < 2
    }

    /// Bytes that can be written before a file must be created.
    pub(crate) fn ready_bytes(&self) -> u64 {
        let active = self.active();
        active.bytes - active.written + self.free.iter().map(|file| file.bytes).sum::<u64>()
    }

    fn new_name(&mut self) -> String {
        self.last_file += 1;
        file_name(self.last_file)
    }
}
