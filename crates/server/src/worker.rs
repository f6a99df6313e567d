//! How other threads reach the lane, which sleeps until a socket is ready: by a channel, and by
//! waking it.
//!
//! Invariants: what is sent is in the channel before the lane is woken, so that a lane which takes
//! all there is after each sleep misses nothing; a worker does its jobs in their order.

use std::fmt;
use std::sync::Arc;

use crate::config::ServerError;
use crate::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use crate::sync::thread;

/// Ends the present sleep of a lane, or if it does not sleep, its next one.
pub(crate) trait Wake: fmt::Debug + Send + Sync {
    /// Does that.
    fn wake(&self);
}

impl Wake for mio::Waker {
    fn wake(&self) {
        // Were it to fail, the lane would come by a second later.
        let _ = self.wake();
    }
}

/// Nobody is at the other end of a channel any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The end of a channel to the lane that others have.
#[derive(Debug)]
pub(crate) struct ToLane<M> {
    messages: Sender<M>,
    waker: Arc<dyn Wake>,
}

impl<M> Clone for ToLane<M> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), waker: Arc::clone(&self.waker) }
    }
}

/// A channel to the lane that `waker` wakes.
pub(crate) fn to_lane<M>(waker: Arc<dyn Wake>) -> (ToLane<M>, Receiver<M>) {
    let (messages, received) = channel();
    (ToLane { messages, waker }, received)
}

impl<M> ToLane<M> {
    /// Sends a message, and wakes the lane.
    pub(crate) fn send(&self, message: M) -> Result<(), Gone> {
        self.messages.send(message).map_err(|_| Gone)?;
        self.waker.wake();
        Ok(())
    }
}

/// A thread that does jobs for the lane, as the lane has it.
#[derive(Debug)]
pub(crate) struct Worker<J, A> {
    name: &'static str,
    jobs: Sender<J>,
    answers: Receiver<A>,
}

impl<J: Send + 'static, A: Send + 'static> Worker<J, A> {
    /// Starts the thread, which ends when this is dropped. What `work` makes of a job, if anything,
    /// is its answer.
    pub(crate) fn start(
        name: &'static str,
        waker: Arc<dyn Wake>,
        mut work: impl FnMut(J) -> Option<A> + Send + 'static,
    ) -> Result<Self, ServerError> {
        let (jobs, to_do) = channel();
        let (done, answers) = to_lane(waker);
        spawn(name, move || {
            for job in to_do {
                if let Some(answer) = work(job)
                    && done.send(answer).is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Self { name, jobs, answers })
    }

    /// Gives it a job.
    pub(crate) fn give(&self, job: J) -> Result<(), ServerError> {
        self.jobs.send(job).map_err(|_| self.gone())
    }

    /// The next answer, if there is one.
    pub(crate) fn take(&self) -> Result<Option<A>, ServerError> {
        match self.answers.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.gone()),
        }
    }

    /// Waits for the next answer.
    pub(crate) fn wait(&self) -> Result<A, ServerError> {
        self.answers.recv().map_err(|_| self.gone())
    }

    fn gone(&self) -> ServerError {
        let name = self.name;
        ServerError::Node(format!("the {name} has ended, which is a bug: see the lines above"))
    }
}

/// Starts a thread that nobody waits for.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(ServerError::system("can't start a thread"))
}
