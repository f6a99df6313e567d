//! What the process asks of the system at its start: an end with its parent, descriptors, and pages
//! of memory that are quick to get.

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::disable_transparent_huge_pages;

use crate::config::ServerError;

/// Descriptors kept for the log, snapshots, links and the HTTP port.
const RESERVED_DESCRIPTORS: u64 = 128;
/// Accepted connections where the system sets no limit.
const MAX_CLIENTS: u64 = 1 << 20;

/// Ends this process (by SIGTERM, so cleanly) when `parent` ends. The parent may have ended
/// before the system was asked, so it is looked at afterwards.
pub(crate) fn end_with_parent(parent: u32) -> Result<(), ServerError> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| ServerError::system("can't watch the parent process")(error.into()))?;
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() == expected {
        Ok(())
    } else {
        Err(ServerError::Node("the process that started this node has ended".to_owned()))
    }
}

/// Asks for pages of the usual size. A huge one is cleared at its first touch, which holds up the
/// lane for milliseconds, and one byte that is in use keeps all of it.
pub(crate) fn take_small_pages() {
    // Systems without huge pages can't be asked, and need not be.
    let _ = disable_transparent_huge_pages(true);
}

/// Raises the limit of open files as far as allowed; says how many clients that is room for.
pub(crate) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let clients = allowed.unwrap_or(u64::MAX).saturating_sub(RESERVED_DESCRIPTORS);
    usize::try_from(clients.clamp(16, MAX_CLIENTS)).expect("a million fits")
}
