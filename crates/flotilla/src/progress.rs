//! How far something long has come, on standard error: one line that changes on a terminal, a line
//! now and then in a file.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the line on a terminal changes.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);
/// How often a line is added to a file.
const FILE_EVERY: Duration = Duration::from_secs(5);

/// What is shown of how far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: Instant,
}

impl Progress {
    /// Nothing shown yet.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: Instant::now() }
    }

    /// Shows `line` if it is time for one.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        let every = if self.terminal { TERMINAL_EVERY } else { FILE_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = line();
        print(&if self.terminal { format!("\r\x1b[K{line}") } else { format!("{line}\n") });
    }

    /// Shows what is begun and may take long before there is more to show.
    pub(crate) fn begin(&mut self, line: &str) {
        if self.terminal {
            print(&format!("\r\x1b[K{line}"));
        }
    }

    /// Takes away what is shown of something that is over.
    pub(crate) fn clear(&mut self) {
        self.begin("");
    }

    /// Shows a line that stays.
    pub(crate) fn say(&mut self, line: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        print(&format!("{clear}{line}\n"));
    }
}

/// Whoever does not want to know is not told.
fn print(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// A number of bytes for people.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
