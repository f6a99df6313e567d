//! The log and the state machine of an `openraft` replica, in memory.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::{
    EmptyNode, Entry, EntryPayload, LogId, OptionalSend, RaftLogReader, RaftSnapshotBuilder,
    Snapshot, SnapshotMeta, StorageError, StoredMembership, Vote,
};
use tokio::sync::Notify;

use super::Types;
use crate::work::{Applied, REPLICAS};

type Result<T> = std::result::Result<T, StorageError<u64>>;

/// The log of one replica, from index 0 on. Its clones share it.
#[derive(Clone, Default)]
pub(super) struct Log {
    entries: Rc<RefCell<Vec<Entry<Types>>>>,
    vote: Rc<Cell<Option<Vote<u64>>>>,
}

impl Log {
    /// What would be applied by somebody who read the whole log.
    pub(super) fn payloads(&self) -> Applied {
        let mut kept = Applied::default();
        for (entry, index) in self.entries.borrow().iter().zip(0..) {
            assert_eq!(entry.log_id.index, index, "a log has no gaps");
            if let EntryPayload::Normal(payload) = &entry.payload {
                kept.apply(payload);
            }
        }
        kept
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>> {
        let entries = self.entries.borrow();
        let first = match range.start_bound() {
            Bound::Included(&first) => first as usize,
            Bound::Excluded(&before) => before as usize + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last as usize + 1,
            Bound::Excluded(&end) => end as usize,
            Bound::Unbounded => entries.len(),
        };
        let end = end.min(entries.len());
        Ok(entries[first.min(end)..end].to_vec())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>> {
        let last_log_id = self.entries.borrow().last().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<()> {
        self.vote.set(Some(*vote));
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>> {
        Ok(self.vote.get())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.entries.borrow_mut().extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<()> {
        self.entries.borrow_mut().truncate(log_id.index as usize);
        Ok(())
    }

    async fn purge(&mut self, _log_id: LogId<u64>) -> Result<()> {
        unreachable!("there are no snapshots")
    }
}

/// Watches what the replicas of a group apply.
#[derive(Default)]
pub(super) struct Watch {
    applied: RefCell<Vec<Applied>>,
    /// What is waited for.
    target: Cell<u64>,
    reached: Notify,
}

impl Watch {
    /// What a replica, counted from 0, has applied.
    pub(super) fn applied(&self, replica: usize) -> Applied {
        self.applied.borrow()[replica]
    }

    /// Waits until every replica has applied so many payloads.
    pub(super) async fn all_have_applied(&self, count: u64) {
        self.target.set(count);
        while !self.is_reached() {
            self.reached.notified().await;
        }
    }

    fn is_reached(&self) -> bool {
        let applied = self.applied.borrow();
        applied.len() == REPLICAS && applied.iter().all(|one| one.count >= self.target.get())
    }
}

/// The state machine of one replica.
pub(super) struct StateMachine {
    watch: Rc<Watch>,
    replica: usize,
    last_applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
}

impl StateMachine {
    /// The state machine of the next replica of a group.
    pub(super) fn new(watch: &Rc<Watch>) -> Self {
        let mut applied = watch.applied.borrow_mut();
        applied.push(Applied::default());
        let (replica, watch) = (applied.len() - 1, Rc::clone(watch));
        Self { watch, replica, last_applied: None, membership: StoredMembership::default() }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        {
            let applied = &mut self.watch.applied.borrow_mut()[self.replica];
            for entry in entries {
                self.last_applied = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Normal(payload) => applied.apply(&payload),
                    EntryPayload::Membership(membership) => {
                        self.membership = StoredMembership::new(self.last_applied, membership);
                    }
                    EntryPayload::Blank => {}
                }
                answers.push(());
            }
        }
        if self.watch.is_reached() {
            self.watch.reached.notify_one();
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>> {
        unreachable!("there are no snapshots")
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, EmptyNode>,
        _snapshot: Box<Vec<u8>>,
    ) -> Result<()> {
        unreachable!("there are no snapshots")
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        Ok(None)
    }
}

/// Never asked for anything.
pub(super) struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>> {
        unreachable!("there are no snapshots")
    }
}
