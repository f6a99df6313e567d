//! What a node says on standard error: one line per event, `time level words key=value`.

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use flotilla_node::Notice;

use crate::clock::wall_ms;

/// The same "waiting for" is not repeated earlier than this.
const WAITING_REPEAT: Duration = Duration::from_secs(2);

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// In the ordinary course of things.
    Info,
    /// Somebody should look at it.
    Warning,
    /// The node, or one of its shards, stops.
    Error,
}

/// Prints one line. A console that is gone is no reason to fail.
pub(crate) fn say(level: Level, text: impl fmt::Display) {
    let level = match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let line = format!("{} {level} {text}\n", Timestamp(wall_ms()));
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Prints a node's notices, the repeated ones seldom.
#[derive(Debug, Default)]
pub(crate) struct Console {
    waiting: Option<(Vec<String>, Instant)>,
}

impl Console {
    /// Prints one notice.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::WaitingFor { addresses } => self.waiting_for(addresses),
            Notice::Founded { cluster } => {
                say(Level::Info, format_args!("founded cluster={cluster}"));
            }
            Notice::Leading { shard, term, leads: true } => {
                say(Level::Info, format_args!("leads shard={shard} term={term}"));
            }
            Notice::Leading { shard, term, leads: false } => {
                say(Level::Info, format_args!("leads no longer shard={shard} term={term}"));
            }
            Notice::Loading { percent } => {
                say(Level::Info, format_args!("loading percent={percent}"));
            }
            Notice::Warning(text) | Notice::Restart(text) => say(Level::Warning, text),
            Notice::Halted { shard, index, reason } => say(
                Level::Error,
                format_args!(
                    "halted shard={shard} index={index}: {reason}; the shard's other replicas go on"
                ),
            ),
            Notice::Fatal(text) => say(Level::Error, text),
            Notice::Link { node, up: true } => {
                say(Level::Info, format_args!("link up node={node}"));
            }
            Notice::Link { node, up: false } => {
                say(Level::Info, format_args!("link down node={node}"));
            }
        }
    }

    fn waiting_for(&mut self, addresses: &[String]) {
        let now = Instant::now();
        if let Some((_, said)) = self.waiting.as_ref()
            && now.duration_since(*said) < WAITING_REPEAT
        {
            return;
        }
        self.waiting = Some((addresses.to_vec(), now));
        say(Level::Info, format_args!("waiting for {}", addresses.join(", ")));
    }
}

/// Milliseconds since 1970, shown as in RFC 3339.
struct Timestamp(u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let millis = self.0 % 1000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The Gregorian date of a day counted from 1970-01-01: years are counted from March, so that the
/// leap day is a year's last, in eras of 400 years, which all have 146,097 days.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_the_calendar() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(951_782_399_999).to_string(), "2000-02-28T23:59:59.999Z");
        assert_eq!(Timestamp(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp(1_735_689_599_001).to_string(), "2024-12-31T23:59:59.001Z");
        assert_eq!(Timestamp(4_107_542_400_000).to_string(), "2100-03-01T00:00:00.000Z");
    }
}
