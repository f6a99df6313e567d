//! A clock that wakes a poll on time: waiting with a timeout is exact to a millisecond only, which
//! is longer than a request takes.
//!
//! Source: timerfd_create(2).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer that goes off once each time it is set.
#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: OwnedFd,
}

impl Timer {
    /// A timer that is not set; going off, it is an event with this token.
    pub(crate) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let mut source = SourceFd(&descriptor.as_raw_fd());
        poll.registry().register(&mut source, token, Interest::READABLE)?;
        Ok(Self { descriptor })
    }

    /// Goes off after this time, which is not zero, and at no other moment it was set for.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        assert!(!after.is_zero(), "zero would switch the timer off");
        let value =
            Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() };
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: once, it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_goes_off_each_time_it_is_set() {
        let mut poll = Poll::new().expect("a poll");
        let mut events = mio::Events::with_capacity(4);
        let timer = Timer::new(&poll, Token(7)).expect("a timer");
        for _ in 0..3 {
            let start = Instant::now();
            timer.set(Duration::from_micros(300)).expect("it can be set");
            poll.poll(&mut events, Some(Duration::from_secs(20))).expect("it polls");
            assert!(events.iter().any(|event| event.token() == Token(7)));
            assert!(start.elapsed() >= Duration::from_micros(300));
        }
    }
}
