//! Whether something disturbs a measurement: what the machine gives just before and after it, and
//! what others took meanwhile.
//!
//! A probe does what the measured systems do, for a fifth of a second: it computes, it sends a byte
//! back and forth over loopback, it writes a page to the disk and waits until it lasts. What it
//! manages is compared with the median of all probes of the session.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::random::Random;
use super::ratio::median;
use super::row::{Row, STEAL_PERCENT_MAX};

/// How far a probe may be from the median of the session, in percent.
const OFF_PERCENT_MAX: f64 = 10.0;
/// How much of the machine others may take, in percent.
const FOREIGN_PERCENT_MAX: f64 = 2.0;
/// How long each part of a probe takes.
const SPIN: Duration = Duration::from_millis(50);
const PING: Duration = Duration::from_millis(50);
const WRITE: Duration = Duration::from_millis(100);
/// Bytes that are written at once.
const PAGE_BYTES: usize = 4 << 10;

/// What the machine gave at one moment: rounds of each kind per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Probe {
    spins: f64,
    pings: f64,
    writes: f64,
}

impl Probe {
    /// Looks now; takes a fifth of a second.
    pub(crate) fn take(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            spins: spins(),
            pings: pings().context("a connection to this process")?,
            writes: writes(directory)
                .with_context(|| format!("can't write in {}", directory.display()))?,
        })
    }

    fn parts(self) -> [(&'static str, f64); 3] {
        [("computing", self.spins), ("loopback", self.pings), ("the disk", self.writes)]
    }
}

/// The probes of a session.
#[derive(Debug)]
pub(crate) struct Gate {
    directory: PathBuf,
    probes: Vec<Probe>,
}

impl Gate {
    /// No probe yet; pages are written in this directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), probes: Vec::new() }
    }

    /// Takes a probe, and says what of it is off.
    pub(crate) fn probe(&mut self) -> anyhow::Result<Option<String>> {
        let probe = Probe::take(&self.directory)?;
        self.probes.push(probe);
        Ok(self.judge(probe))
    }

    fn judge(&self, probe: Probe) -> Option<String> {
        let all: Vec<_> = self.probes.iter().map(|probe| probe.parts()).collect();
        probe.parts().into_iter().enumerate().find_map(|(at, (what, rate))| {
            let usual = median(all.iter().map(|parts| parts[at].1).collect());
            let percent = 100.0 * (rate / usual - 1.0);
            (percent.abs() > OFF_PERCENT_MAX)
                .then(|| format!("a probe of {what} was {percent:+.0} % off the usual"))
        })
    }
}

/// What others did to a run.
pub(crate) fn disturbance(row: &Row) -> Option<String> {
    if row.steal_percent > STEAL_PERCENT_MAX {
        return Some(format!("the host gave {:.1} % of the time to others", row.steal_percent));
    }
    let foreign = row.foreign_percent.filter(|percent| *percent > FOREIGN_PERCENT_MAX)?;
    Some(format!("other processes took {foreign:.1} % of the time"))
}

/// Calls `act` for so long; gives how often it was done in a second.
fn rate(time: Duration, mut act: impl FnMut() -> std::io::Result<()>) -> std::io::Result<f64> {
    let start = Instant::now();
    let mut count = 0_u32;
    loop {
        act()?;
        count += 1;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(f64::from(count) / elapsed.as_secs_f64());
        }
    }
}

fn spins() -> f64 {
    const DRAWS: u32 = 10_000;
    let mut random = Random::new(0);
    let spin = || {
        std::hint::black_box((0..DRAWS).fold(0, |sum: u64, _| sum.wrapping_add(random.draw())));
        Ok(())
    };
    rate(SPIN, spin).expect("computing does not fail")
}

fn pings() -> std::io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let mut byte = [7];
    let pings = rate(PING, || {
        near.write_all(&byte)?;
        near.read_exact(&mut byte)
    });
    drop(near);
    let _ = echo.join();
    pings
}

fn writes(directory: &Path) -> std::io::Result<f64> {
    let file = tempfile::Builder::new().prefix("flotilla-bench-probe-").tempfile_in(directory)?;
    let durable = rustix::fs::OFlags::DSYNC.bits().cast_signed();
    let handle = OpenOptions::new().write(true).custom_flags(durable).open(file.path())?;
    let page = [0x5a; PAGE_BYTES];
    // The first write makes the file longer, which costs more than those after it.
    handle.write_all_at(&page, 0)?;
    rate(WRITE, || handle.write_all_at(&page, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row;

    #[test]
    fn a_probe_measures_everything_and_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let probe = Probe::take(directory.path()).expect("it can be taken");
        assert!(probe.parts().iter().all(|(_, rate)| *rate > 0.0), "{probe:?}");
        let left = std::fs::read_dir(directory.path()).expect("it is there").count();
        assert_eq!(left, 0);
        assert!(Probe::take(&directory.path().join("nowhere")).is_err());
    }

    #[test]
    fn what_is_off_the_median_is_told() {
        let usual = Probe { spins: 100.0, pings: 50.0, writes: 10.0 };
        let slow = Probe { writes: 8.0, ..usual };
        let fast = Probe { spins: 109.0, ..usual };
        let probes = vec![usual, slow, usual, fast, usual];
        let gate = Gate { directory: PathBuf::new(), probes };
        assert_eq!([usual, fast].map(|probe| gate.judge(probe)), [None, None]);
        let told = gate.judge(slow).expect("it is off");
        assert_eq!(told, "a probe of the disk was -20 % off the usual");
    }

    #[test]
    fn others_are_told() {
        let mut row = row::tests::row(1, 0);
        assert_eq!(disturbance(&row), None);
        row.foreign_percent = Some(7.0);
        let told = disturbance(&row).expect("it is too much");
        assert_eq!(told, "other processes took 7.0 % of the time");
    }
}
