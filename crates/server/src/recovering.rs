//! Saying how far the reading of the log is at a start, before there is a node that could.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_storage::{Disk, DiskError, ReadFilter};

use crate::console::{Level, say};
use crate::disk::FileDisk;
use crate::watch::Watched;

/// The end of the names of segments.
const SEGMENT_SUFFIX: &str = ".log";
/// How often the operator is told.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// A disk of which it is seen how much of the log is read. Recovery reads a segment twice: to find
/// the end of the log, and to replay it. What it need not read makes the last step a larger one.
#[derive(Debug)]
pub(crate) struct ObservedDisk<'a> {
    disk: &'a mut FileDisk,
    watched: Arc<Watched>,
    read: u64,
    /// What there is to read.
    total: u64,
    said: Instant,
}

impl<'a> ObservedDisk<'a> {
    /// Looks how much there is to read.
    pub(crate) fn new(disk: &'a mut FileDisk, watched: &Arc<Watched>) -> Result<Self, DiskError> {
        let mut total = 0;
        for name in disk.list()?.iter().filter(|name| name.ends_with(SEGMENT_SUFFIX)) {
            total += 2 * disk.size(name)?;
        }
        let (watched, said) = (Arc::clone(watched), Instant::now());
        Ok(Self { disk, watched, read: 0, total, said })
    }

    fn count(&mut self, bytes: usize) {
        self.read = (self.read + bytes as u64).min(self.total);
        let percent = (self.read * 100).checked_div(self.total).unwrap_or(100);
        let percent = u8::try_from(percent).expect("a part of a whole is at most 100 %");
        self.watched.set_recovered(percent);
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            say(Level::Info, format_args!("reading the log percent={percent}"));
        }
    }
}

impl ReadFilter for ObservedDisk<'_> {
    fn beneath(&mut self) -> &mut dyn Disk {
        self.disk
    }

    fn filtered_read(&mut self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let read = self.disk.read(name, offset, len);
        if name.ends_with(SEGMENT_SUFFIX) {
            self.count(len);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::WriteMode;

    #[test]
    fn what_is_read_of_segments_counts() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let mut disk = FileDisk::new(directory.path(), WriteMode::WriteThenSync);
        for (name, bytes) in [("segment-000001.log", 8_192), ("shard-1.snap", 4_096)] {
            disk.create(name, bytes).expect("there is room");
        }
        let watched = Arc::new(Watched::default());
        let mut observed = ObservedDisk::new(&mut disk, &watched).expect("readable");
        let mut read = |name, bytes| {
            observed.read(name, 0, bytes).expect("it is there");
            watched.recovered()
        };
        assert_eq!(read("shard-1.snap", 4_096), 0);
        assert_eq!(read("segment-000001.log", 4_096), 25);
        assert_eq!(read("segment-000001.log", 8_192), 75);
        assert_eq!(read("segment-000001.log", 8_192), 100, "never more than all");
    }
}
