//! A `redis-server` of our own that syncs every write, to compare with on the same machine.
//!
//! It is one server: what it acknowledges is on one disk, where Flotilla's is on a majority of
//! them. Its settings are its defaults but for these:
//!
//! | setting | why |
//! |---|---|
//! | `appendonly yes`, `appendfsync always` | a write is on the disk before its reply, as with us |
//! | `save ""` | the log is enough; a snapshot in the middle would cost it |
//! | `auto-aof-rewrite-percentage 0` | so would a rewrite of the log |

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::system::System;

const PROGRAM: &str = "redis-server";
/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

/// A running server. Dropped, it is ended, and its directory removed.
#[derive(Debug)]
pub(crate) struct Yardstick {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Yardstick {
    /// Starts it on a free port, with its log in a new directory below `parent`.
    pub(crate) fn start(parent: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("flotilla-bench-redis-")
            .tempdir_in(parent)
            .with_context(|| format!("can't create a directory in {}", parent.display()))?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new(PROGRAM)
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .arg("--dir")
            .arg(directory.path())
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--save", "", "--auto-aof-rewrite-percentage", "0"])
            .args(["--daemonize", "no", "--logfile", "redis.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "--vs-redis needs {PROGRAM}, which is not installed: \
                 `apt-get install redis-server` on Debian and its kin"
            ),
            outcome => outcome.with_context(|| format!("can't start {PROGRAM}"))?,
        };
        let mut yardstick = Self { child, address, directory };
        yardstick.wait_until_ready()?;
        Ok(yardstick)
    }

    /// The server as a system to put under load.
    pub(crate) fn system(&self) -> anyhow::Result<System> {
        let mut system = System::look_at(&[self.address.to_string()], &[self.child.id()], None)?;
        let kind = rustix::fs::statfs(self.directory.path())?.f_type as u32;
        if matches!(kind, TMPFS | RAMFS) {
            let caveat = "redis-server's log is in memory: name another place with --redis-data";
            system.caveats.push(caveat.to_owned());
        }
        Ok(system)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{PROGRAM} has ended at once ({status}): {}", self.last_words());
            }
            if std::net::TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{PROGRAM} does not listen at {}: {}", self.address, self.last_words());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("redis.log"));
        log.ok().and_then(|log| log.lines().last().map(str::to_owned)).unwrap_or_default()
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
