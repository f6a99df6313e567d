//! Snapshots: compaction of the own log, and what replaces a log that lags too far [Raft §7].
//!
//! Invariants: a snapshot never moves the commit index down; an older one never replaces a newer
//! one; a log that contains a snapshot's entry is kept; a received snapshot is acknowledged only
//! after the write that names it is durable.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::config::Config;
use crate::configuration::ConfigurationHistory;
use crate::progress::Flow;
use crate::raft::Raft;
use crate::role::Role;
use crate::sending::trailing_floor;
use crate::{Effect, Index, ReplicaId, SnapshotMeta, Term};

impl Raft {
    /// The host has made a durable snapshot of its own.
    pub(crate) fn on_compact(&mut self, meta: SnapshotMeta) {
        // It was begun before a leader's snapshot came, or is told twice.
        if meta.index <= self.log.snapshot().index {
            return;
        }
        assert!(meta.index <= self.emitted_index, "a snapshot is of applied entries");
        self.configurations.compact(meta.index);
        self.log.compact(meta);
        let snapshot = self.log.snapshot().index;
        let Config { election_timeout, max_trailing_bytes, .. } = self.config;
        let floor = match &self.role {
            Role::Leader(leader) => trailing_floor(leader, snapshot, self.now, election_timeout),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => snapshot,
        };
        self.log.release(floor, max_trailing_bytes);
    }

    /// A leader's snapshot is durable here [Raft Figure 13].
    pub(crate) fn on_snapshot_received(
        &mut self,
        from: ReplicaId,
        term: Term,
        meta: SnapshotMeta,
        effects: &mut Vec<Effect>,
    ) {
        let readable = meta.configuration.is_well_formed();
        if readable {
            self.repair_by_snapshot(&meta, effects);
        }
        let nonsense = meta.term > term || !readable;
        if term < self.hard_state.term || from == self.config.id || nonsense {
            return;
        }
        if term > self.hard_state.term {
            self.enter_term(term, effects);
        }
        // It may have travelled for long, so it does not reset the timer.
        self.follow(from, effects);
        let (index, known) = (meta.index, self.log.term_at(meta.index));
        if index > self.commit_index {
            if known == Some(meta.term) {
                self.commit_to(index, effects);
            } else {
                self.restore(meta, effects);
            }
        }
        self.promise(from);
        if let Role::Follower(follower) = &mut self.role {
            follower.agreed = follower.agreed.max(index);
            follower.ack_owed = true;
        }
        if self.log.durable_index() >= index {
            self.send_owed_ack(effects);
        }
    }

    fn restore(&mut self, meta: SnapshotMeta, effects: &mut Vec<Effect>) {
        let index = meta.index;
        // What was committed here is part of the snapshot; of the rest, nothing is known to be.
        self.log.restore(meta.clone(), self.commit_index);
        self.configurations = ConfigurationHistory::new(index, meta.configuration.clone());
        self.commit_index = index;
        self.emitted_index = index;
        self.applied_index = index;
        self.applied_at = self.now;
        effects.push(Effect::Restore(Box::new(meta)));
    }

    /// The host has delivered a snapshot, or given up.
    pub(crate) fn on_snapshot_sent(
        &mut self,
        to: ReplicaId,
        delivered: Option<Index>,
        effects: &mut Vec<Effect>,
    ) {
        self.on_repair_sent(to);
        let retry = self.now + self.config.heartbeat_interval;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress_mut(to) else { return };
        let Flow::Snapshot { retry_at, .. } = &mut progress.flow else { return };
        match delivered {
            Some(index) => progress.probe_from(index.min(self.log.last_index()).next()),
            None => *retry_at = retry,
        }
        self.send_appends(to, effects);
    }
}
