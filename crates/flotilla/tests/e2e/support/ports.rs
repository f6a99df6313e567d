//! Ports that no other test takes, in this process or another.
//!
//! They lie below the range from which the system takes ports for outgoing connections: one of
//! those could otherwise sit on the port of a node that is about to be started again. So do the
//! cluster ports (1,000 above) and the HTTP ports (20,000 above).

use std::fs::File;
use std::net::TcpListener;

use rustix::fs::{FlockOperation, flock};

const FIRST: u16 = 10_000;
const RANGES: u16 = 50;
const PORTS_PER_RANGE: u16 = 20;

/// A row of ports, held by a lock on a file.
#[derive(Debug)]
pub(crate) struct PortRange {
    first: u16,
    _lock: File,
}

impl PortRange {
    /// At least `count` free ports.
    pub(crate) fn claim(count: usize) -> Self {
        assert!(count <= usize::from(PORTS_PER_RANGE), "no test has so many nodes");
        super::wait_for("free ports", || {
            // Where the search begins differs, so that tests rarely meet.
            let start = std::process::id() as u16 % RANGES;
            (0..RANGES).find_map(|step| Self::try_claim((start + step) % RANGES))
        })
    }

    fn try_claim(range: u16) -> Option<Self> {
        let directory = std::env::temp_dir().join("flotilla-test-ports");
        std::fs::create_dir_all(&directory).ok()?;
        let lock = File::create(directory.join(range.to_string())).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let first = FIRST + range * PORTS_PER_RANGE;
        let ports = first..first + PORTS_PER_RANGE;
        let distances = [0, 1_000, 20_000];
        let free = ports
            .flat_map(|port| distances.map(|distance| port + distance))
            .all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        free.then_some(Self { first, _lock: lock })
    }

    /// The first of the row.
    pub(crate) fn first(&self) -> u16 {
        self.first
    }
}
