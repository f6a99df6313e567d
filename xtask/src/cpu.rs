//! How much of their cores threads and processes have taken. Other programs don't count, as they do
//! in the time of day.

use rustix::time::{ClockId, clock_gettime};

/// What this thread has taken so far, microseconds.
pub(crate) fn of_thread() -> u64 {
    let taken = clock_gettime(ClockId::ThreadCPUTime);
    taken.tv_sec as u64 * 1_000_000 + taken.tv_nsec as u64 / 1_000
}

/// What a process has taken so far, microseconds; 0 if that can't be told. One that has ended can
/// be asked about until it is waited for.
pub(crate) fn of_process(process: u32) -> u64 {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may hold anything, come the state and, 11 and 12 further, the times.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() * 1_000_000 / TICKS_PER_SECOND
}
